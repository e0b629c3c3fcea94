"""The tools that come with Reprise, by group. A group is imported when one of its tools is called, its libraries then too."""

from __future__ import annotations

from functools import cache
from importlib import resources

import msgspec

from reprise.tools.later import Entry, LaterTool
from reprise.tools.tool import Tool

GROUPS = ("texts", "data", "files", "web", "mathematics", "times")
"""Modules here, each with ``TOOLS``."""


def create_builtin_tools_library() -> list[Tool]:
    """Return the tools that come with Reprise.

    Registering them imports nothing of theirs. Most need no library; what needs one says which extra has it.

    >>> from reprise.tools.registry import ToolRegistry
    >>> registry = ToolRegistry(create_builtin_tools_library())
    >>> [tool.name for tool in registry.search("how old is somebody", limit=1)]
    ['time_age']
    """
    return list(_tools())


@cache
def _tools() -> tuple[Tool, ...]:
    """Return the tools of the index, which ``scripts/tools_index.py`` writes from the groups."""
    index = resources.files(__name__).joinpath("index.json").read_bytes()
    return tuple(LaterTool(entry) for entry in msgspec.json.decode(index, type=list[Entry]))
