"""What a plugin is given to register its tools with, and what it may call of ours."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextvars import ContextVar
from copy import copy
from types import MappingProxyType, ModuleType
from typing import Any, NamedTuple

from reprise.kernel.errors import ConfigurationError, ToolError
from reprise.tools.calling import Executor
from reprise.tools.scope import FINDERS
from reprise.tools.tool import EFFECTS, Tool

Call = Callable[[str, Mapping[str, Any]], Awaitable[Any]]
"""Calls one of our tools by name."""
MANY = 500
"""Tools that a plugin may have."""
_REACH: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "pure": frozenset({"pure"}),
        "reads_files": frozenset({"pure", "reads_files"}),
        "writes_files": frozenset({"pure", "reads_files", "writes_files"}),
        "network": frozenset({"pure", "network"}),
        "executes": frozenset(EFFECTS),
    }
)
"""By the effects of a tool, those of the tools that it may call: who may call the one may not reach more by it."""
CALLING: ContextVar[Tool | None] = ContextVar("reprise_plugin_tool", default=None)
"""The tool of a plugin that is being called."""


class Offered(NamedTuple):
    """A tool of a plugin, and what stands in for its function, if anything does."""

    tool: Tool
    executor: Executor | None = None


class PluginRegistry:
    """What a plugin's ``register(registry)`` is given: its tools go in, ours can be called.

    Tools may have the effects that the plugin's manifest declares, and so may those that it calls.
    """

    def __init__(self, plugin: str, permissions: Collection[str], call: Call) -> None:
        self.plugin = plugin
        """Name of the plugin."""
        self._permissions = tuple(permissions)
        self._call = call
        self._offered: dict[str, Offered] = {}

    @property
    def permissions(self) -> tuple[str, ...]:
        """Effects that its tools may have."""
        return self._permissions

    @property
    def offered(self) -> list[Offered]:
        """What was registered."""
        return list(self._offered.values())

    def register_tool(self, tool: Tool, executor: Executor | None = None) -> None:
        """Offer a tool; ``executor(arguments, context)`` stands in for its function, if given.

        Raises ``ToolError``: ``permission_denied`` for effects that the manifest does not declare, ``conflict`` for a name that
        another tool of the plugin has.
        """
        given: object = tool
        if type(given) is not Tool:
            raise ConfigurationError(
                f"{self.plugin} registers {given!r}.", hint="Write @tool above a function."
            )
        tool = copy(tool)  # whoever has it cannot change what it says of itself afterwards
        check_effects(tool, self._permissions)
        if tool.name in FINDERS or tool.name in self._offered:
            raise ToolError(
                "conflict", f"Another tool is called {tool.name!r}.", hint="Give it another name."
            )
        if len(self._offered) >= MANY:
            raise ToolError("too_large", f"{self.plugin} has more than {MANY} tools.")
        tool.describe()  # one whose types cannot be read must fail here, not in every list of tools
        self._offered[tool.name] = Offered(tool, executor)

    async def execute_tool(self, name: str, arguments: Mapping[str, Any] | None = None) -> Any:
        """Call a tool of ours and return what it returns.

        Raises as :meth:`ToolScope.execute_tool`; ``permission_denied`` for effects that the manifest does not declare, or that
        are more than those of the tool by which it is called.
        """
        return await self._call(name, arguments or {})


def check_effects(tool: Tool, permissions: Collection[str]) -> None:
    """Raise ``ToolError`` where a tool has effects that were not declared."""
    if tool.effects != "pure" and tool.effects not in permissions:
        raise ToolError(
            "permission_denied",
            f"The tool {tool.name} has effects {tool.effects!r}; plugin.json declares {', '.join(permissions) or 'none'}.",
            hint=f'Write "{tool.effects}" into its permissions.',
        )


def check_reach(outer: Tool | None, inner: Tool) -> None:
    """Raise ``ToolError`` where a tool may not call another one, because its callers were told that it does less."""
    if outer is not None and inner.effects not in _REACH[outer.effects]:
        raise ToolError(
            "permission_denied",
            f"{outer.name} says that it is {outer.effects!r} and calls {inner.name}, which is {inner.effects!r}.",
            hint="Declare the effects of what it calls.",
        )


def collect(module: ModuleType, package: str, registry: PluginRegistry) -> None:
    """Let a module register its tools: by its ``register(registry)``, else those at its top level.

    Raises ``ConfigurationError`` where it offers nothing, and whatever ``register`` does.
    """
    register = getattr(module, "register", None)
    if callable(register):
        offer(register, registry)
    else:
        found = {id(value): value for value in vars(module).values() if isinstance(value, Tool)}
        for tool in found.values():
            if str(getattr(tool.function, "__module__", package)).startswith(package):
                registry.register_tool(tool)
    if not registry.offered:
        raise ConfigurationError(
            f"{registry.plugin} offers no tools.",
            hint="Write register(registry), or @tool above a function.",
        )


def offer(found: Any, registry: PluginRegistry) -> None:
    """Register what an entry point is: a tool, several, or a function that registers some."""
    if isinstance(found, Tool):
        registry.register_tool(found)
    elif isinstance(found, ModuleType):
        collect(found, found.__name__, registry)
    elif isinstance(found, list | tuple):
        for each in found:  # pyright: ignore[reportUnknownVariableType]
            registry.register_tool(each)  # pyright: ignore[reportUnknownArgumentType]
    elif callable(found):
        made = found(registry)
        if inspect.iscoroutine(made):
            made.close()
            raise ConfigurationError("register(registry) is async.", hint="Write it as a plain function.")
    else:
        raise ConfigurationError(
            f"{ascii(found)[:80]} is no tool.", hint="Give a tool, or register(registry)."
        )


def guarded(offered: Offered) -> Offered:
    """Return a tool as it is registered: what it calls of ours is known to be called by it."""
    tool = copy(offered.tool)
    if offered.executor is None:
        tool.function = _known(tool, tool.function)
        return Offered(tool)
    return Offered(tool, _known(tool, offered.executor))


def _known(tool: Tool, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def wait(*args: Any, **kwargs: Any) -> Any:
        token = CALLING.set(tool)
        try:
            return await function(*args, **kwargs)
        finally:
            CALLING.reset(token)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        token = CALLING.set(tool)
        try:
            return function(*args, **kwargs)
        finally:
            CALLING.reset(token)

    return wait if inspect.iscoroutinefunction(function) else call
