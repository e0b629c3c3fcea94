"""A registry as somebody may use it: an agent, a run, or whoever has the registry itself."""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any

from reprise.kernel.errors import ToolError
from reprise.runtime.step import Step
from reprise.tools import calling
from reprise.tools.calling import ToolCalled, ToolResult
from reprise.tools.context import ToolContext
from reprise.tools.durable import as_step
from reprise.tools.policy import Approver, Meter, ToolPolicy, ToolRequest, check_rule, matches
from reprise.tools.tool import Tool

if TYPE_CHECKING:
    from reprise.tools.registry import ChangeHandler, ToolRegistry

FINDERS = ("find_tools", "call_tool")
"""Names of the tools that stand in for many; no other tool may have them."""
MANY = 40
"""Tools that a model is given at most; of more it is given two tools, to find the others and to call them."""


class ToolScope:
    """A registry as somebody may use it. Made by :meth:`ToolRegistry.scope`.

    Rates and budgets of its policy count what is called through it.
    """

    def __init__(
        self,
        registry: ToolRegistry,
        policy: ToolPolicy,
        approver: Approver | None,
        *,
        caller: str = "",
        above: ToolScope | None = None,
    ) -> None:
        self._registry, self.policy, self._approver = registry, policy, approver
        self.caller = caller
        self._above = above
        self._meter = Meter(policy)

    # ------------------------------------------------------------ calling

    async def execute_tool(self, name: str, arguments: Mapping[str, Any] | None = None) -> Any:
        """Call a tool and return what it returns.

        Raises ``ToolError`` with code
            ``not_found``, ``invalid_input``, ``too_large``
                there is no such tool, or it does not take such arguments; nothing was called;
            ``permission_denied``, ``rate_limited``
                the policy does not let it happen; nothing was called;
            ``timeout``, ``unavailable``, ``conflict``, ``upstream``
                it could not do it.
        """
        return (await self.call_tool(name, arguments)).value

    async def call_tool(self, name: str, arguments: Mapping[str, Any] | None = None) -> ToolResult:
        """Call a tool; return its value, and how long it took, with which event and warnings.

        Raises as :meth:`execute_tool`.
        """
        registry = self._registry
        tool = self._finders[name] if name not in registry and name in self._finders else registry[name]
        context = registry.context(tool, self.caller)
        id, at, began = registry.new_id(), registry.now(), context.clock.monotonic()
        taken, code, data = 0, "", b""
        try:
            given, taken = calling.read(tool, arguments or {})
            if tool is not self._finders.get(name):
                await self._admit(tool, arguments or {}, context)
            value, data = await calling.execute(tool, registry.executor_of(tool), given, context)
        except ToolError as error:
            code = error.code
            raise
        except asyncio.CancelledError:
            code = "cancelled"
            raise
        finally:
            duration, warnings = context.clock.monotonic() - began, tuple(context.warnings)
            if registry.observers:
                registry.tell(
                    ToolCalled(
                        id,
                        tool.name,
                        self.caller,
                        context.run,
                        at,
                        duration,
                        code,
                        taken,
                        len(data),
                        warnings,
                    )
                )
        return ToolResult(value, tool.name, id, duration, warnings, data)

    async def _admit(self, tool: Tool, arguments: Mapping[str, Any], context: ToolContext) -> None:
        """Let a call pass by the policies. Raises ``ToolError``.

        Nobody is asked for a call that may not happen anyway, and what one policy refuses uses nothing of the other.
        """
        scopes = [self] if self._above is None else [self._above, self]
        for scope in scopes:
            if why := scope.policy.refusal(tool):
                who = scope.caller or "this registry"
                raise ToolError(
                    "permission_denied",
                    f"{who} may not call {tool.name}: {why}.",
                    hint="Allow it in the policy, or call what list() returns.",
                )
            if error := tool.refusal(scope.caller):
                raise error
        now = context.clock.monotonic()
        for scope in scopes:
            scope._meter.check(tool, now)
        asked = [await scope._approve(tool, arguments, context) for scope in scopes]
        if any(asked):  # which took its time
            now = context.clock.monotonic()
            for scope in scopes:
                scope._meter.check(tool, now)
        for scope in scopes:
            scope._meter.count(tool, now)

    async def _approve(self, tool: Tool, arguments: Mapping[str, Any], context: ToolContext) -> bool:
        """Return whether somebody had to be asked. Raises ``ToolError`` where the answer is no."""
        if not self.policy.approve or not self.policy.needs_approval(tool):
            return False
        approver = self._approver or (self._above and self._above._approver)
        if approver is None:
            raise ToolError(
                "permission_denied",
                f"A call of {tool.name} needs somebody's approval, and nobody was named who gives it.",
                hint="Give the registry or the scope an approver.",
            )
        if not await approver(ToolRequest(tool, arguments, context.caller, context.run)):
            raise ToolError("permission_denied", f"The call of {tool.name} was not approved.")
        return True

    def step(self, name: str, **options: Any) -> Step[..., Any]:
        """Return a tool as a step: ``fetch = scope.step("web_fetch")``, in a body ``await fetch(url="…")``.

        A pure tool makes a pure step; one that is idempotent may be called again after a crash; of any other the intent is
        recorded before it is called. ``options`` are those of ``@step`` and go before what follows from the tool. Raises
        ``ToolError`` with code ``not_found``.
        """
        return as_step(self, self._registry[name], options)

    # ------------------------------------------------------------ looking

    def allows(self, tool: Tool) -> bool:
        """Tell whether a tool may be called here at all."""
        if self.policy.refusal(tool) or tool.refusal(self.caller):
            return False
        return self._above is None or self._above.allows(tool)

    def on_change(self, handler: ChangeHandler) -> Callable[[], None]:
        """Call a function with each tool that may be called here when it changes; see :meth:`ToolRegistry.on_change`.

        What may not be called here is as if it were not there: nothing is heard of it.
        """

        def seen(tool: Tool | None) -> Tool | None:
            return tool if tool is not None and self.allows(tool) else None

        def changed(before: Tool | None, after: Tool | None) -> None:
            before, after = seen(before), seen(after)
            if before is not None or after is not None:
                handler(before, after)

        return self._registry.on_change(changed)

    def list(self, *rules: str) -> builtins.list[Tool]:
        """Return the tools that may be called, and that any of the rules names (see :class:`ToolPolicy`), by name.

        Raises ``ConfigurationError`` for what is no rule.
        """
        for rule in rules:
            check_rule(rule)
        tools = (self._registry[name] for name in sorted(self._registry))
        return [
            tool
            for tool in tools
            if self.allows(tool) and (not rules or any(matches(rule, tool) for rule in rules))
        ]

    def search(self, query: str, limit: int = 10) -> builtins.list[Tool]:
        """Return the tools that may be called and fit a query best, the best first."""
        found = self._registry.index.search(query, len(self._registry))
        return [tool for tool in found if self.allows(tool)][:limit]

    def describe(self, name: str) -> dict[str, Any]:
        """Return all that is known of a tool as JSON. Raises ``ToolError`` with code ``not_found``."""
        return self._registry[name].describe()

    def as_tools(self, query: str = "", *, limit: int = MANY) -> builtins.list[dict[str, Any]]:
        """Return tools as models are given them: name, description and parameters, a JSON schema.

        With a query those that fit it, without one all; where these are more than ``limit``, two tools stand in for
        them: ``find_tools`` and ``call_tool``, which can be called here by these names.
        """
        tools = self.search(query, limit) if query else self.list()
        if len(tools) > limit:
            tools = [*self._finders.values()]
        return [
            {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
            for tool in tools
        ]

    @cached_property
    def _finders(self) -> dict[str, Tool]:
        """Two tools that stand in for many."""
        return {
            "find_tools": Tool(self._find_tools, name="find_tools", effects="pure"),
            "call_tool": Tool(self._call_tool, name="call_tool", timeout=3600),
        }

    async def _find_tools(
        self,
        query: Annotated[str, "What is to be done, in a few words."],
        limit: Annotated[int, "Tools to return at most."] = 5,
    ) -> builtins.list[dict[str, Any]]:
        """Find tools by what they are for; returns their names, descriptions and parameters."""
        return self.as_tools(query, limit=min(max(limit, 1), MANY))

    async def _call_tool(
        self,
        name: Annotated[str, "Name of a tool that find_tools returned."],
        arguments: Annotated[dict[str, Any], "Its arguments, as its parameters say."],
    ) -> Any:
        """Call a tool by its name."""
        return await self.execute_tool(name, arguments)
