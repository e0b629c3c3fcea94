"""Model Context Protocol: tools of other programs mounted here, and tools of here offered to other programs.

Needs the extra ``mcp``; importing this package without it raises ``MissingExtra``. The protocol itself (its messages, both
revisions, 2025-11-25 and 2026-07-28) is the official SDK's. Ours is what it leaves open: what of a server is believed, how
much it may send, when it is started again, who may call what, and runs as tasks.
"""

from reprise.tools.library.extras import library

library("mcp", "mcp")
