"""Tools in durable runs: a call is a step, recorded once, with what follows from the tool's effects."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from reprise.runtime.step import Step
from reprise.tools.tool import Tool

if TYPE_CHECKING:
    from reprise.tools.registry import ToolRegistry
    from reprise.tools.scope import ToolScope

_read = msgspec.json.Decoder().decode


def as_step(scope: ToolScope, tool: Tool, options: Mapping[str, Any]) -> Step[..., Any]:
    """Return a tool as a step: ``await fetch(url="…")`` in a body.

    A pure tool makes a pure step; one that is idempotent may be called again after a crash; of any other the intent is
    recorded before it is called, under the tool's name. Its own timeout holds, and what it returns comes as JSON.
    """

    async def call(**arguments: Any) -> Any:
        return _read((await scope.call_tool(tool.name, arguments)).data)

    follows: dict[str, Any] = {"name": tool.name, "timeout": None}
    if tool.effects == "pure":
        follows["pure"] = True
    elif tool.idempotent:
        follows["idempotent"] = True
    else:
        follows["effect"] = tool.name
    wanted: dict[str, Any] = follows | dict(options)
    return Step[..., Any](call, **wanted)


class ToolsOfPlans(Mapping[str, Callable[[Any, Any], Awaitable[Any]]]):
    """The tools of a registry as a plan's steps call them: ``{"tool": "text_search", "parameters": {…}}``."""

    def __init__(self, registry: ToolRegistry) -> None:
        self._registry = registry

    def __getitem__(self, name: str) -> Callable[[Any, Any], Awaitable[Any]]:
        """Return what does a step; raises ``KeyError`` for what is no tool."""
        if name not in self._registry:
            raise KeyError(name)

        async def call(parameters: Any, context: Any) -> Any:
            return _read((await self._registry.call_tool(name, parameters)).data)

        return call

    def __iter__(self) -> Iterator[str]:
        return iter(self._registry)

    def __len__(self) -> int:
        return len(self._registry)
