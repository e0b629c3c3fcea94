"""Write the index of the built-in tools from their groups, after one was added or changed. A test compares them."""

from importlib import import_module
from pathlib import Path

import msgspec

from reprise.tools.later import Entry, entry_of
from reprise.tools.library import GROUPS

INDEX = Path("src/reprise/tools/library/index.json")


def entries() -> list[Entry]:
    """Return what the groups say of their tools."""
    return [
        entry_of(tool) for group in GROUPS for tool in import_module(f"reprise.tools.library.{group}").TOOLS
    ]


if __name__ == "__main__":
    INDEX.write_bytes(msgspec.json.format(msgspec.json.encode(entries()), indent=1) + b"\n")
