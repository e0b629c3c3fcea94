"""Names to tools, and calling them."""

from __future__ import annotations

import builtins
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from reprise.kernel.errors import ToolError, nearest
from reprise.kernel.ids import Ids
from reprise.kernel.surroundings import SURROUNDINGS
from reprise.runtime.agents import called_with
from reprise.runtime.step import Step
from reprise.tools.calling import Execute, Executor, ToolCalled, ToolResult
from reprise.tools.context import ToolContext
from reprise.tools.durable import ToolsOfPlans
from reprise.tools.finding import Index
from reprise.tools.policy import EVERYTHING, Approver, ToolPolicy
from reprise.tools.scope import FINDERS, MANY, ToolScope
from reprise.tools.tool import Tool

_LOG = logging.getLogger(__name__)

Observer = Callable[[ToolCalled], None]
ChangeHandler = Callable[[Tool | None, Tool | None], None]
"""Called with a tool as it was and as it is; None = there was none, or there is none any more."""


class ToolRegistry:
    """The tools that a process knows, by name; what is called here may do everything unless ``policy`` says otherwise.

    ``observers`` are told of each call (:class:`ToolCalled`).

    >>> import asyncio
    >>> from reprise.tools.tool import tool
    >>> registry = ToolRegistry()
    >>> @tool(effects="pure")
    ... def shout(text: str) -> str:
    ...     "Say it louder."
    ...     return text.upper()
    >>> registry.register_tool(shout)
    >>> asyncio.run(registry.execute_tool("shout", {"text": "hello"}))
    'HELLO'
    """

    def __init__(
        self,
        tools: Iterable[Tool] = (),
        *,
        policy: ToolPolicy = EVERYTHING,
        approver: Approver | None = None,
        observers: Iterable[Observer] = (),
    ) -> None:
        self._tools: dict[str, Tool] = {}
        self._executors: dict[str, tuple[Executor, Execute]] = {}
        """By the names of their tools: as they were given, and as they are called."""
        self._provided: list[object] = []
        self._index: Index | None = None
        self._handlers: list[ChangeHandler] = []
        surroundings = SURROUNDINGS.get()
        self._clock, self._randomness = surroundings.clock, surroundings.randomness
        self._ids = Ids(self._clock.now)
        self.observers = list(observers)
        self._own = ToolScope(self, policy, approver)
        for each in tools:
            self.register_tool(each)

    # ------------------------------------------------------------ what is known

    def register_tool(self, tool: Tool, executor: Executor | None = None, *, replace: bool = False) -> None:
        """Make a tool known; ``executor(arguments, context)`` stands in for its own function, if given.

        Raises ``ToolError`` with code ``conflict`` when another tool has that name, unless ``replace`` is True, or it is one
        of those that stand in for many (``find_tools``, ``call_tool``), and
        ``ConfigurationError`` for an executor that does not take these arguments.
        """
        called = executor and called_with(executor, 2, f"{tool.name}(arguments, context)")
        if tool.name in FINDERS:
            raise ToolError(
                "conflict", f"{tool.name!r} stands in for many tools.", hint="Give it another name."
            )
        known = self._tools.get(tool.name)
        given, _ = self._executors.get(tool.name, (None, None))
        if not replace and known is not None and (known, given) != (tool, executor):
            raise ToolError(
                "conflict",
                f"Another tool is called {tool.name!r}.",
                hint="Give one another name, or say replace=True.",
            )
        self._tools[tool.name] = tool
        self._executors.pop(tool.name, None)
        if executor is not None and called is not None:
            self._executors[tool.name] = (executor, called)
        if known is not tool:
            self._changed(known, tool)

    def unregister_tool(self, name: str) -> None:
        """Forget a tool. Raises ``ToolError`` with code ``not_found``."""
        known = self[name]
        del self._tools[known.name]
        self._executors.pop(name, None)
        self._changed(known, None)

    def on_change(self, handler: ChangeHandler) -> Callable[[], None]:
        """Call a function with each tool that is registered, replaced or forgotten from now on; return how to end that.

        ``handler(before, after)`` is called at once, in the thread that made the change, when it is made: so it should be
        quick. What it raises is logged.

        >>> registry, heard = ToolRegistry(), []
        >>> end = registry.on_change(lambda before, after: heard.append((before, after)))
        >>> shout = Tool(str.upper, name="shout", parameters={})
        >>> registry.register_tool(shout)
        >>> heard
        [(None, <tool shout, executes>)]
        >>> end()
        """
        # A function of its own for each time, so that the same handler may be given twice and ended once.
        entry: ChangeHandler = partial(handler)
        self._handlers.append(entry)

        def end() -> None:
            if entry in self._handlers:
                self._handlers.remove(entry)

        return end

    def _changed(self, before: Tool | None, after: Tool | None) -> None:
        self._index = None
        for handler in tuple(self._handlers):
            try:
                handler(before, after)
            except Exception:  # noqa: BLE001 - who only looks on must not stop it
                _LOG.exception("A handler of changes failed at %r", after or before)

    def provide(self, *services: object) -> None:
        """Give tools what they need beside arguments: adapters of services, roots of files, credentials.

        A tool asks for one by its class (:meth:`ToolContext.need`); the newest of a kind is taken.
        """
        self._provided += services

    def __getitem__(self, name: str) -> Tool:
        """Return a tool. Raises ``ToolError`` with code ``not_found``, naming the nearest."""
        found = self._tools.get(name)
        if found is None:
            near = nearest(name, self._tools)
            raise ToolError(
                "not_found", f"There is no tool {name!r}.", hint=f"Did you mean {near!r}?" if near else ""
            )
        return found

    def __contains__(self, name: object) -> bool:
        return name in self._tools

    def __iter__(self) -> Iterator[str]:
        return iter(self._tools)

    def __len__(self) -> int:
        return len(self._tools)

    @property
    def index(self) -> Index:
        """Words of all tools."""
        if self._index is None:
            self._index = Index(self._tools.values())
        return self._index

    # ------------------------------------------------------------ as its own caller

    def scope(
        self,
        caller: str = "",
        *,
        policy: ToolPolicy = EVERYTHING,
        approver: Approver | None = None,
    ) -> ToolScope:
        """Return this registry as somebody may use it, such as an agent. What the registry's own policy refuses stays refused."""
        return ToolScope(self, policy, approver, caller=caller, above=self._own)

    async def execute_tool(self, name: str, arguments: Mapping[str, Any] | None = None) -> Any:
        """Call a tool and return what it returns. Raises as :meth:`ToolScope.execute_tool`."""
        return await self._own.execute_tool(name, arguments)

    async def call_tool(self, name: str, arguments: Mapping[str, Any] | None = None) -> ToolResult:
        """Call a tool; return its value and what is known of the call. Raises as :meth:`ToolScope.execute_tool`."""
        return await self._own.call_tool(name, arguments)

    def list(self, *rules: str) -> builtins.list[Tool]:
        """Return the tools that any of the rules names (see :class:`ToolPolicy`), all without one, by name."""
        return self._own.list(*rules)

    def search(self, query: str, limit: int = 10) -> builtins.list[Tool]:
        """Return the tools whose name, tags and description fit a query best, the best first."""
        return self._own.search(query, limit)

    def describe(self, name: str) -> dict[str, Any]:
        """Return all that is known of a tool as JSON. Raises ``ToolError`` with code ``not_found``."""
        return self._own.describe(name)

    def as_tools(self, query: str = "", *, limit: int = MANY) -> builtins.list[dict[str, Any]]:
        """Return tools as models are given them; see :meth:`ToolScope.as_tools`."""
        return self._own.as_tools(query, limit=limit)

    def step(self, name: str, **options: Any) -> Step[..., Any]:
        """Return a tool as a step, for bodies of workflows; see :meth:`ToolScope.step`."""
        return self._own.step(name, **options)

    def as_agents(self) -> ToolsOfPlans:
        """Return the tools as whoever does the steps of plans: ``{"tool": "text_search", "parameters": {…}}``."""
        return ToolsOfPlans(self)

    # ------------------------------------------------------------ for scopes

    def executor_of(self, tool: Tool) -> Execute | None:
        """Return what stands in for a tool's function."""
        return self._executors.get(tool.name, (None, None))[1]

    def context(self, tool: Tool, caller: str) -> ToolContext:
        """Return what a tool has around it."""
        return ToolContext(tool.name, self._clock, self._randomness, caller=caller, provided=self._provided)

    def new_id(self) -> str:
        """Return the id of an event."""
        return self._ids.new()

    def now(self) -> int:
        """Return the time in microseconds."""
        return self._clock.now()

    def tell(self, event: ToolCalled) -> None:
        """Tell observers of a call; one that fails is logged, and the call goes on."""
        for observer in self.observers:
            try:
                observer(event)
            except Exception:  # noqa: BLE001 - who only looks on must not stop it
                _LOG.exception("An observer of tools failed at %s", event.tool)
