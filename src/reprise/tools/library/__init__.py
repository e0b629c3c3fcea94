"""The tools that come with Reprise, by group. Their libraries are loaded by the tool that needs them, when it is called."""

from __future__ import annotations

from reprise.tools.library import data, files, mathematics, texts, times, web
from reprise.tools.tool import Tool


def create_builtin_tools_library() -> list[Tool]:
    """Return the tools that come with Reprise.

    Registering them loads no library. Most need none; what needs one says which extra has it.

    >>> from reprise.tools.registry import ToolRegistry
    >>> registry = ToolRegistry(create_builtin_tools_library())
    >>> [tool.name for tool in registry.search("how old is somebody", limit=1)]
    ['time_age']
    """
    return [
        *texts.TOOLS,
        *data.TOOLS,
        *files.TOOLS,
        *web.TOOLS,
        *mathematics.TOOLS,
        *times.TOOLS,
    ]
