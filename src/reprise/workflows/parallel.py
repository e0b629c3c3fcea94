"""Tasks side by side: several agents at once, and a rule that says what their answers make together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Unpack

import msgspec
from msgspec import UNSET, UnsetType

from reprise.kernel.claims import quorum
from reprise.kernel.errors import ConfigurationError, unknown_option
from reprise.kernel.policy import Duration
from reprise.kernel.priority import Priority
from reprise.workflows.calls import REFUSED, checked_retries, checked_timeout, kept
from reprise.workflows.executing import ExecuteOptions, execute
from reprise.workflows.flow import Flow
from reprise.workflows.parallel_body import AggregationStrategy, ParallelWork, Part, fan_out
from reprise.workflows.parallel_result import ParallelResult, read_parallel
from reprise.workflows.performers import AgentExecutor, Performers


@dataclass(frozen=True, kw_only=True)
class ParallelTask:
    """One of the tasks side by side."""

    agent_type: str
    task: Any = ""
    priority: Priority | str | int = Priority.NORMAL
    """Which of those that wait for their turn starts first."""
    timeout: Duration | UnsetType | None = UNSET
    """Seconds of one call, None = no limit; not given = as the settings say, else 300."""
    max_retries: int | None = None
    """How often a call that failed in a way that may pass is made again; None = as the settings say, else 3."""
    id: str = ""
    """Key in the history, by default the agent's name and the number of the task."""


class ParallelExecutor:
    """Tasks side by side, and a rule that says what their answers make together.

    >>> import asyncio
    >>> from reprise import AggregationStrategy, ParallelExecutor
    >>> ex = ParallelExecutor(max_concurrent=2, strategy=AggregationStrategy.MAJORITY)
    >>> for agent in ("ann", "bob", "cem"):
    ...     _ = ex.create_task(agent, "Tea or milk?")
    >>> result = asyncio.run(ex.execute(lambda agent_type, task: "milk" if agent_type == "bob" else "tea"))
    >>> result.value, result.status
    ('tea', 'completed')

    Options:
        max_concurrent: tasks at work at once; None = as the settings say, else 10.
        strategy: the rule; as soon as its outcome cannot change any more the other tasks are cancelled.
        threshold: of ``THRESHOLD``: how many must succeed, or, as a float up to 1, which share of them.
        key: of ``MAJORITY``: function of an answer; two answers are the same if these are equal.
        returns: type of what the agents return, where it is not plain JSON: a dataclass, a pydantic model …
        name: of the workflow; give each executor whose runs are durable one of its own.

    Raises:
        ConfigurationError: options that do not fit together.
    """

    def __init__(
        self,
        max_concurrent: int | None = None,
        strategy: AggregationStrategy | str = AggregationStrategy.ALL,
        threshold: float | None = None,
        *,
        key: Callable[[Any], Any] | None = None,
        returns: Any = None,
        name: str = "parallel",
    ) -> None:
        self.name = name
        self.max_concurrent = max_concurrent
        self.strategy = _strategy(strategy)
        self.threshold = threshold
        self._tasks: dict[str, ParallelTask] = {}
        self._parts: dict[str, Part] = {}
        functions = {"key": key, "returns": returns}
        self._functions: dict[str, Any] = {name: f for name, f in functions.items() if f is not None}
        if max_concurrent is not None and max_concurrent < 1:
            raise ConfigurationError(f"max_concurrent is {max_concurrent}.", hint="Give 1 or more.")
        if (threshold is not None) != (self.strategy is AggregationStrategy.THRESHOLD):
            raise ConfigurationError(
                f"The strategy is {self.strategy.value!r} and the threshold {threshold!r}.",
                hint="They go together: strategy=AggregationStrategy.THRESHOLD, threshold=…",
            )
        if threshold is not None:
            quorum(1, threshold)
        if key is not None and self.strategy is not AggregationStrategy.MAJORITY:
            raise ConfigurationError("key= is given and nothing is compared.", hint="It goes with MAJORITY.")

    @property
    def tasks(self) -> Mapping[str, ParallelTask]:
        """The tasks by their id."""
        return dict(self._tasks)

    def create_task(
        self,
        agent_type: str,
        task: Any = "",
        priority: Priority | str | int = Priority.NORMAL,
        *,
        timeout: Duration | UnsetType | None = UNSET,
        max_retries: int | None = None,
        id: str = "",
    ) -> str:
        """Add a task, and return its id; options as of :class:`ParallelTask`.

        Raises:
            ConfigurationError: an option is not possible, or the id is taken.
        """
        given = ParallelTask(
            agent_type=agent_type,
            task=task,
            priority=priority,
            timeout=timeout,
            max_retries=max_retries,
            id=id,
        )
        return self.add_task(given)

    def add_task(self, task: ParallelTask) -> str:
        """Add a task, and return its id.

        Raises:
            ConfigurationError: an option is not possible, or the id is taken.
        """
        id = task.id or f"{task.agent_type}-{len(self._tasks) + 1}"
        if id in self._tasks or id.endswith(REFUSED):
            raise ConfigurationError(
                f"The id {id!r} of a task is taken." if id in self._tasks else f"The id {id!r} means a note.",
                hint="Give the task another id=.",
            )
        self._parts[id] = _part(id, task)
        self._tasks[id] = task
        return id

    def flow(
        self,
        agent_executor: AgentExecutor | Mapping[str, Any] | None = None,
        agents: Mapping[str, Any] | None = None,
    ) -> Flow:
        """Return the workflow that the runs of this executor execute.

        Raises:
            UnknownAgent: nobody is known for one of its tasks.
        """
        performers = Performers(agent_executor, agents)
        performers.check({task.agent_type: None for task in self._tasks.values()})
        definition = tuple(self._parts.values()), self.strategy, self.threshold, self.max_concurrent
        return Flow(
            fan_out,
            name=self.name,
            performers=performers,
            definition=definition,
            functions=self._functions,
        )

    async def execute(
        self,
        agent_executor: AgentExecutor | Mapping[str, Any] | None = None,
        *,
        context: Mapping[str, Any] | None = None,
        **options: Unpack[ExecuteOptions],
    ) -> ParallelResult:
        """Run the tasks and return what came of them; one that fails is no error here.

        Without ``app``, ``store`` or an app that is open around it, the run lives in memory. One with an ``id`` that
        exists goes on, or gives what came of it. ``context`` is known to every agent. ``timeout`` (or ``deadline``)
        is that of the whole.

        Raises:
            UnknownAgent: nobody is known for one of its tasks; nothing was started.
            CodecError: a task cannot be kept and the run is durable.
            RunConflict: the id exists with other tasks.
        """
        return await execute(
            self,
            lambda flow: [self._work(flow, dict(context or {}))],
            read_parallel,
            agent_executor,
            **options,
        )

    def _work(self, flow: Flow, context: dict[str, Any]) -> ParallelWork:
        parts = self._parts.values()
        return ParallelWork(
            [
                msgspec.structs.replace(
                    part, task=kept(flow, part.task, f"Task {part.id!r} of {self.name!r}")
                )
                for part in parts
            ],
            self.strategy,
            self.threshold,
            self.max_concurrent,
            kept(flow, context, f"context of {self.name!r}"),
            sorted(self._functions),
        )


def _strategy(given: AggregationStrategy | str) -> AggregationStrategy:
    try:
        return AggregationStrategy(given.lower())
    except ValueError:
        raise unknown_option(
            given, [each.value for each in AggregationStrategy], "AggregationStrategy"
        ) from None


def _part(id: str, task: ParallelTask) -> Part:
    return Part(
        id,
        task.agent_type,
        task.task,
        Priority.parse(task.priority),
        checked_retries(task.max_retries),
        checked_timeout(task.timeout),
    )
