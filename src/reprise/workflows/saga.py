"""Sagas: steps of services, each with what compensates it when a later one fails.

A saga is a run. Each step is a step of that run with ``undo=``: that it is about to happen and how it is compensated is
durable before its service is asked, so nothing that the runtime promises of undoing has to be done again here. From the
first irreversible step on there is no way back: what fails then is tried again, and waits for a person, until it is done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from functools import lru_cache
from itertools import takewhile
from typing import Any, Unpack, cast
from weakref import WeakKeyDictionary

from reprise.kernel.errors import ConfigurationError, nearest
from reprise.kernel.policy import Fault, Retry
from reprise.runtime.branch import RUN
from reprise.runtime.face import current_step
from reprise.runtime.host import STEP
from reprise.runtime.loop import RunLoop
from reprise.runtime.step import Step, step
from reprise.runtime.undo import Undo
from reprise.runtime.workflow import Workflow
from reprise.workflows.executing import ExecuteOptions, execute
from reprise.workflows.flow import Flow, defaults_here, flow_here
from reprise.workflows.performers import Performers
from reprise.workflows.saga_result import SagaResult, read_saga
from reprise.workflows.saga_steps import UNDO_ATTEMPTS, SagaPlan, SagaStep, read_plan
from reprise.workflows.services import Handler, MessageBus, answering, bus_of, check_reach
from reprise.workflows.steps import DEFAULTS

ONWARD_ATTEMPTS = 10
"""How often a step is tried from the pivot on before a person is asked."""


class SagaFlow(Flow):
    """A saga with the bus that reaches its services."""

    def __init__(self, plan: SagaPlan, bus: MessageBus) -> None:
        super().__init__(carry_out, name=plan.name, performers=Performers(), definition=plan)
        self.bus = bus
        self.courses: WeakKeyDictionary[RunLoop, _Course] = WeakKeyDictionary()
        """By the loop of the run, which its steps and compensations know, too."""
        self.undoes = {
            each.name: _step_of(each, (), DEFAULTS.retry_count) for each in plan.steps if each.compensation
        }

    def does_as(self, other: Workflow[..., Any]) -> bool:
        """Return whether it reaches the services by the same bus."""
        return isinstance(other, SagaFlow) and self.bus is other.bus


class Saga:
    """A saga whose services are known: what ``define_saga`` returns, and what ``app.register`` takes."""

    def __init__(self, plan: SagaPlan, bus: MessageBus) -> None:
        self.plan = plan
        self._bus = bus

    def flow(self, agent_executor: object = None, agents: object = None) -> SagaFlow:
        """Return the workflow whose runs are executions of this saga.

        Raises:
            ConfigurationError: an executor was given; services do the steps of a saga.
        """
        if agent_executor is not None:
            raise ConfigurationError(
                f"Saga {self.plan.name!r} was given an agent_executor.",
                hint="Its services do its steps: leave the executor out.",
            )
        return SagaFlow(self.plan, self._bus)


class SagaOrchestrator:
    """Defines sagas over services and executes them.

    >>> import asyncio
    >>> from reprise import SagaOrchestrator
    >>> accounts: list[str] = []
    >>> services = {
    ...     "accounts": {
    ...         "create": lambda payload: accounts.append(payload["input"]),
    ...         "delete": lambda payload: accounts.remove(payload["input"]),
    ...     },
    ...     "billing": {"charge": lambda payload: 1 / 0},
    ... }
    >>> async def main() -> tuple[str, str, list[str], list[str]]:
    ...     saga = SagaOrchestrator(services=services)
    ...     await saga.define_saga("onboarding", [
    ...         {"step": "create", "service": "accounts", "compensation": "delete"},
    ...         {"step": "charge", "service": "billing"},
    ...     ])
    ...     result = await saga.execute("onboarding", "ada")
    ...     return result.status, result.failed_step, result.compensated, accounts
    >>> asyncio.run(main())
    ('failed', 'charge', ['create'], [])

    Options:
        message_bus: reaches the services; see :class:`~reprise.workflows.services.MessageBus`.
        services: handlers in this process by the name of the service, instead of a bus.
    """

    def __init__(
        self, message_bus: MessageBus | None = None, *, services: Mapping[str, Handler] | None = None
    ) -> None:
        self._bus = bus_of(message_bus, services)
        self.sagas: dict[str, Saga] = {}
        """What was defined, by ``saga_id``."""

    async def define_saga(self, saga_id: str, steps: Sequence[SagaStep | Mapping[str, Any]]) -> Saga:
        """Define a saga, or another version of it, and return it; runs that exist keep the version they began with.

        A step is a :class:`SagaStep` or a mapping with ``step``, ``service``, and where needed ``compensation``,
        ``action``, ``timeout``, ``max_retries``, ``backoff``, ``irreversible`` (or ``pivot``).

        Raises:
            PlanInvalid: steps have faults, or services cannot be reached; names all of them.
        """
        plan = read_plan(saga_id, steps)
        wanted: dict[str, list[str]] = {}
        for each in plan.steps:
            actions = wanted.setdefault(each.service, [])
            actions += [action for action in (each.action, each.compensation) if action]
        await check_reach(self._bus, saga_id, wanted)
        self.sagas[saga_id] = saga = Saga(plan, self._bus)
        return saga

    async def execute(
        self,
        saga_id: str,
        input_data: Any = None,
        **options: Unpack[ExecuteOptions],
    ) -> SagaResult:
        """Execute a saga, compensations included, and return what came of it; a failed step is not raised.

        ``id`` is the run's: executing it again goes on with it, or returns what came of it. Options as of ``execute`` of
        the other faces.

        Raises:
            ConfigurationError: no such saga was defined here.
            CodecError: ``input_data`` cannot be written.
        """
        saga = self.sagas.get(saga_id)
        if saga is None:
            near = nearest(saga_id, self.sagas)
            raise ConfigurationError(
                f"No saga {saga_id!r} was defined here.",
                hint=f"Did you mean {near!r}?"
                if near
                else "Define it: await saga.define_saga(saga_id, steps).",
            )
        return await execute(
            saga,
            (saga.plan, input_data),
            read_saga,
            **options,
        )


# ---------------------------------------------------------------- what a run does


class _Course:
    """One run of a saga: what is to be done, with what, and what came of it so far.

    Steps and compensations are given the name of the step only, and find the rest here. So an intent does not hold all that
    the history has already; whoever takes the run over has it again when the body was replayed, which comes first.
    """

    def __init__(self, plan: SagaPlan, data: Any) -> None:
        self._plan = plan
        self._data = data
        self.steps = {each.name: each for each in plan.steps}
        self.results: dict[str, Any] = {}

    def payload(self, run: str, name: str) -> dict[str, Any]:
        """Return what a service is told about a step: also what came of those before it."""
        held = flow_here().held
        before = takewhile(lambda other: other != name, self.results)
        return {
            "saga_id": self._plan.name,
            "run_id": run,
            "step": name,
            "input": held(self._data),
            "results": {other: held(self.results[other]) for other in before},
        }


async def carry_out(saga: SagaPlan, data: Any) -> dict[str, Any]:
    """Be the body of all sagas: one step after the other; from the pivot on, whatever happens."""
    run = RUN.get()
    assert run is not None
    course = cast("SagaFlow", flow_here()).courses[run.loop] = _Course(saga, data)
    pivot = next((n for n, each in enumerate(saga.steps) if each.irreversible), len(saga.steps))
    again = defaults_here().retry_count
    for each in saga.steps[:pivot]:
        course.results[each.name] = await _step_of(each, (), again)(each.name)
    if pivot < len(saga.steps):
        await _uninterrupted(_go_on(saga, pivot, course.results, again))
    return course.results


async def _go_on(saga: SagaPlan, pivot: int, results: dict[str, Any], again: int) -> None:
    """Do the pivot and what follows. Only a pivot that was plainly refused fails the saga."""
    not_refused = (Fault.TRANSIENT, Fault.UNKNOWN)
    for each in saga.steps[pivot:]:
        attended = tuple(Fault) if saga.steps[pivot].name in results else not_refused
        results[each.name] = await _step_of(each, attended, again)(each.name)


async def _uninterrupted(going_on: Coroutine[Any, Any, None]) -> None:
    """Wait for the end of what must not be cancelled: half of it could be neither compensated nor left."""
    task = asyncio.create_task(going_on)
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            continue
    task.result()


@lru_cache(maxsize=1024)
def _step_of(each: SagaStep, attended: tuple[Fault, ...], again: int) -> Step[..., Any]:
    again = again if each.max_retries is None else each.max_retries
    retry = Retry(
        ONWARD_ATTEMPTS if attended else None,
        max_retries=None if attended else again,
        backoff=each.backoff,
    )
    undo = (
        compensate.options(
            name=each.compensation, retry=Retry(UNDO_ATTEMPTS, backoff=each.backoff), timeout=each.timeout
        )
        if each.compensation
        else None
    )
    made = act.options(
        name=each.name,
        key=each.name,
        effect=f"{each.service}.{each.action}",
        retry=retry,
        timeout=each.timeout,
        undo=undo,
    )
    made.attended = attended
    return made


def _here() -> tuple[MessageBus, _Course]:
    """Return how services are reached by the step or compensation that calls this, and the course of its run."""
    flow, job = cast("SagaFlow", flow_here()), STEP.get()
    assert job is not None
    return flow.bus, flow.courses[job.execution.loop]


@step
async def compensate(undo: Undo) -> None:
    """Ask the service of a step to compensate it, under a key of its own, however often it is asked."""
    bus, course = _here()
    (name,) = undo.args
    each = course.steps[name]
    payload = course.payload(undo.run, name) | {
        "happened": undo.happened,
        "result": flow_here().held(undo.value),
        "compensates": undo.key,
    }
    key = current_step().idempotency_key
    await bus.request(each.service, each.compensation, payload, each.timeout, key)


@step(undo=compensate)
async def act(name: str) -> Any:
    """Ask the service of a step to do it, under the step's own key."""
    bus, course = _here()
    this, each = current_step(), course.steps[name]
    with answering():
        payload, key = course.payload(this.run, name), this.idempotency_key
        answer = await bus.request(each.service, each.action, payload, each.timeout, key)
    return flow_here().hold(answer, "step", name)
