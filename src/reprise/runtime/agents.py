"""Names to agents: who can do a task."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

from reprise.kernel.errors import ConfigurationError, nearest
from reprise.runtime.extensions import Extensions

Agent = Callable[..., Any]
"""Called with (task, context) or (task); async or not."""


class AgentRegistry(Mapping[str, Agent]):
    """The agents that this process knows, by name; those of installed packages (entry points) are known too.

    >>> agents = AgentRegistry({"shouter": lambda task: task.upper()})
    >>> agents["shouter"]("hello")
    'HELLO'
    """

    def __init__(
        self, agents: Mapping[str, Agent] | None = None, tools: Mapping[str, Agent] | None = None
    ) -> None:
        self._agents: dict[str, Agent] = {}
        self._tools: Mapping[str, Agent] = tools if tools is not None else {}
        """Who is asked where no agent has the name."""
        self._installed = Extensions("agents")
        for name, agent in (agents or {}).items():
            self.register(name, agent)

    def register(self, name: str, agent: Agent) -> None:
        """Make an agent known; the same one twice is fine.

        Raises:
            ConfigurationError: it cannot be called, or another one has that name.
        """
        if not callable(agent):
            raise ConfigurationError(
                f"Agent {name!r} is {agent!r}.", hint="Give a function of (task, context)."
            )
        if self._agents.setdefault(name, agent) is not agent:
            raise ConfigurationError(
                f"Two agents are called {name!r}.", hint="Give one of them another name."
            )

    def __getitem__(self, name: str) -> Agent:
        found = self._agents.get(name)
        if found is not None:
            return found
        if name in self._tools:
            return self._tools[name]
        if name in self._installed:
            return self._agents.setdefault(name, self._installed[name])
        near = nearest(name, self)
        raise KeyError(f"no agent {name!r}; did you mean {near!r}?" if near else f"no agent {name!r}")

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys((*self._agents, *self._tools, *self._installed)))

    def __len__(self) -> int:
        return len({*self._agents, *self._tools, *self._installed})


def called_with(function: Callable[..., Any], most: int, what: str) -> Callable[..., Awaitable[Any]]:
    """Return an async function of ``most`` arguments that calls one of as many, or of one less: looked at once."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        count = most
    else:
        for count in (most, most - 1):
            try:
                signature.bind(*range(count))
                break
            except TypeError:
                continue
        else:
            raise ConfigurationError(
                f"{getattr(function, '__qualname__', function)} takes {signature}.",
                hint=f"Write it as {what}; the last argument may be left out.",
            )
    is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - an object with an async __call__
    )
    if is_async and count == most:
        return function

    async def call(*args: Any) -> Any:
        if is_async:
            return await function(*args[:count])
        given = await asyncio.to_thread(function, *args[:count])
        return await given if inspect.isawaitable(given) else given

    return call
