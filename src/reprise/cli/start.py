"""Where ``reprise`` begins: completion answers at once, without what commands need; all else is a command."""

from __future__ import annotations

import sys
from importlib import import_module

COMPLETE = "__complete"
"""First word by which a shell asks; what follows is its name and the line up to the cursor."""


def main() -> None:
    """Answer a shell, or run the command line."""
    if sys.argv[1:2] == [COMPLETE]:
        import_module("reprise.cli.completing").main(sys.argv[2:])
    else:
        import_module("reprise.cli.main").main()
