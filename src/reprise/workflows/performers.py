"""Who does what a plan names: the executor that was given, the app's agents, those of installed packages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, cast

from reprise.kernel.errors import ConfigurationError, UnknownAgent, nearest
from reprise.runtime.agents import AgentRegistry, called_with

AgentExecutor = Callable[..., Any]
"""Called with (agent_type, task, context) or (agent_type, task); async or not."""


class Performers:
    """Whoever does the steps of a plan.

    ``executor`` is asked for every name when it is a function, and first when it is a registry (a mapping of names to
    agents); then ``agents``, which knows installed packages, too.
    """

    def __init__(
        self,
        executor: AgentExecutor | Mapping[str, Any] | None = None,
        agents: Mapping[str, Any] | None = None,
    ) -> None:
        self._given = (executor, agents)
        self._all: Callable[[str, Any, Any], Awaitable[Any]] | None = None
        self._registries: list[Mapping[str, Any]] = []
        if isinstance(executor, Mapping):
            self._registries.append(cast("Mapping[str, Any]", executor))
        elif callable(executor):
            self._all = called_with(executor, 3, "agent_executor(agent_type, task, context)")
        elif executor is not None:
            raise ConfigurationError(
                f"agent_executor is {executor!r}.",
                hint="Give a function of (agent_type, task, context), or an AgentRegistry.",
            )
        self._registries.append(agents if agents is not None else AgentRegistry())
        self._known: dict[str, Callable[[Any, Any], Awaitable[Any]]] = {}

    def same_as(self, other: Performers) -> bool:
        """Return whether the same executor and agents were given to both."""
        return self._given == other._given

    def check(self, names: Iterable[str]) -> None:
        """Check that somebody is known for each name.

        Raises:
            UnknownAgent: nobody is; names the nearest.
        """
        if self._all is not None:
            return
        known = [name for registry in self._registries for name in registry]
        for name in names:
            if name not in known:
                near = nearest(name, known)
                raise UnknownAgent(
                    f"No agent {name!r} is known here.",
                    hint=f"Did you mean {near!r}?"
                    if near
                    else "Give execute() an agent_executor, or register the agent: app.agents.register(name, agent).",
                )

    async def perform(self, agent_type: str, task: Any, context: dict[str, Any]) -> Any:
        """Let whoever is known by that name do a task, and return what comes of it.

        Raises whatever the agent raises.
        """
        if self._all is not None:
            return await self._all(agent_type, task, context)
        agent = self._known.get(agent_type)
        if agent is None:
            self.check([agent_type])
            found = next(registry[agent_type] for registry in self._registries if agent_type in registry)
            agent = self._known[agent_type] = called_with(found, 2, f"agent {agent_type}(task, context)")
        return await agent(task, context)
