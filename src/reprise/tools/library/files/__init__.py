"""Tools for files, in the folders that are provided (:class:`~reprise.tools.guards.paths.FileRoots`), and nowhere else."""

from __future__ import annotations

from reprise.tools.library.files import archiving, changing, finding, reading
from reprise.tools.tool import Tool

TOOLS: list[Tool] = [*reading.TOOLS, *finding.TOOLS, *changing.TOOLS, *archiving.TOOLS]
