"""Tools that are known by what a list says of them, and whose modules are imported when somebody looks closer or calls them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import msgspec

from reprise.tools.tool import Effect, Tool


class Entry(msgspec.Struct, frozen=True):
    """What is known of a tool without importing it."""

    module: str
    name: str
    description: str
    effects: Effect
    idempotent: bool
    tags: tuple[str, ...]
    extra: str = ""


def entry_of(tool: Tool) -> Entry:
    """Return the entry of a tool that is an attribute of its module, by its own name."""
    return Entry(
        tool.function.__module__,
        tool.name,
        tool.description,
        tool.effects,
        tool.idempotent,
        tool.tags,
        tool.extra,
    )


class LaterTool(Tool):
    """The tool of an entry: whatever the entry does not say is asked of the module."""

    def __init__(self, entry: Entry) -> None:
        self.name, self.description, self.effects = entry.name, entry.description, entry.effects
        self.idempotent, self.tags, self.extra = entry.idempotent, entry.tags, entry.extra
        self._module = entry.module

    def __getattr__(self, attribute: str) -> Any:
        """Import the module; called for what is not known yet."""
        if attribute.startswith("__") and attribute != "__wrapped__":
            raise AttributeError(attribute)
        found: Tool = getattr(import_module(self._module), self.name)
        vars(self).update(vars(found))
        try:
            return vars(self)[attribute]
        except KeyError:
            raise AttributeError(f"{type(self).__name__!r} has no attribute {attribute!r}") from None
