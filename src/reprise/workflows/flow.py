"""A workflow that a face made: one body for all of its kind, told what to do by its input and who does it by the flow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, cast

from reprise.kernel.codec import standard
from reprise.kernel.errors import BodyError, CodecError, NonDeterminismError
from reprise.kernel.settings import WorkflowSettings
from reprise.runtime.branch import RUN
from reprise.runtime.host import STEP
from reprise.runtime.registry import Registry
from reprise.runtime.workflow import Workflow
from reprise.workflows.performers import AgentExecutor, Performers
from reprise.workflows.steps import DEFAULTS

_PLAIN = frozenset({str, int, bool})
HELD = "reprise.held"
"""Key of what stands in a history in memory for a value that no codec knows."""


class Flow(Workflow[..., Any]):
    """A workflow whose steps are done by performers.

    ``function`` is the body, the same for all flows of a kind; ``definition`` what it was made of; ``functions`` are those
    of its definition that data cannot hold (conditions, transforms), by the place where they stand. ``in_memory``: values
    that the codec does not know are held by reference, because nobody else will ever read this history.
    """

    inputs: Mapping[str, Any] | None = None
    """JSON Schemas of what :meth:`called_with` takes, by name; None = what the parameters of the body are."""

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str,
        performers: Performers,
        definition: Any,
        functions: Mapping[str, Callable[..., Any]] | None = None,
        in_memory: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(function, name=name, **options)
        self.definition = definition
        self.performers = performers
        self.functions = dict(functions or {})
        self._held: list[Any] | None = [] if in_memory else None

    def does_as(self, other: Workflow[..., Any]) -> bool:
        """Return whether it does a run as another one would: by the same performers and functions."""
        return (
            isinstance(other, Flow)
            and super().does_as(other)
            and self.performers.same_as(other.performers)
            and self.functions == other.functions
        )

    def keep_in_memory(self) -> None:
        """Hold values that the codec does not know by reference from now on."""
        if self._held is None:
            self._held = []

    def called_with(self, parameters: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments of a child run of it that is given ``parameters``.

        Raises:
            UnknownOption, ConfigurationError: they do not fit.
        """
        return self.arguments.bind_mapping(parameters)

    def check(self, known: Registry) -> None:
        """Check that what its runs start by name is known.

        Raises:
            UnknownWorkflow: a child workflow is not; names the nearest.
        """

    @property
    def in_memory(self) -> bool:
        """Whether nobody else will ever read what its runs leave behind."""
        return self._held is not None

    def hold(self, value: Any, *where: str) -> Any:
        """Return what of a value enters the history.

        Raises:
            CodecError: no codec knows it and the run is durable; ``where`` (link, step …) names the place.
        """
        if value is None or value.__class__ in _PLAIN or (self._held is None and not where):
            return value
        try:
            standard.encode(value)
        except CodecError as error:
            if self._held is None:
                raise CodecError(
                    f"What {' '.join(where)} returned cannot be kept: {error}",
                    hint="Return what JSON has, or run it without a store: there any value will do.",
                ) from error
            self._held.append(value)
            return {HELD: len(self._held) - 1}
        return value

    def held(self, value: Any) -> Any:
        """Return the value that something of the history stands for."""
        if self._held is None or not isinstance(value, dict):
            return value
        number = cast("dict[str, Any]", value).get(HELD)
        return cast("Any", value) if number is None else self._held[number]


class Definition(Protocol):
    """What a face is to an app: something of which flows are made."""

    def flow(
        self,
        agent_executor: AgentExecutor | Mapping[str, Any] | None = None,
        agents: Mapping[str, Any] | None = None,
    ) -> Flow:
        """Return the flow whose steps are done by these.

        Raises:
            UnknownAgent: nobody is known for one of its steps.
        """
        ...


def defaults_here() -> WorkflowSettings:
    """Return what the run whose body calls this takes where its definition does not say otherwise."""
    run = RUN.get()
    return (run.started.defaults if run is not None else None) or DEFAULTS


def strand(what: str, hint: str) -> None:
    """Leave the run whose body calls this to workers that have what it was started with; its history stays as it is.

    Raises:
        NonDeterminismError: says what is missing here.
    """
    error = NonDeterminismError(what, hint=hint)
    if (run := RUN.get()) is not None:
        run.loop.poison = error
    raise error


def flow_here() -> Flow:
    """Return the flow of the body or of the step that calls this."""
    run = RUN.get()
    if run is None and (job := STEP.get()) is not None:
        run = job.execution
    flow = run.workflow if run is not None else None
    if not isinstance(flow, Flow):
        raise BodyError("This is done by the runs of a plan, a chain, a parallel executor or a saga only.")
    return flow
