"""Services of sagas that nobody coordinates: what each does about the events of the others.

A service that takes part is a run of its own, ``<id>.<service>``: it gets
the events as signals, reacts to each in a step with ``undo=``, and says what came of it. It lives until the saga has ended or
failed; then it ends, or undoes what it did, as any run does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, cast

import msgspec

from reprise.kernel.errors import ConfigurationError, SagaFailed
from reprise.kernel.events import Said
from reprise.kernel.failures import brief, encode_error
from reprise.kernel.policy import Retry, seconds
from reprise.runtime.agents import called_with
from reprise.runtime.engine import Engine
from reprise.runtime.face import current_step, wait_for_signal
from reprise.runtime.host import STEP
from reprise.runtime.step import DEFAULT_RETRY, Step, step
from reprise.runtime.undo import Undo
from reprise.runtime.workflow import Workflow
from reprise.workflows.flow import Flow, flow_here
from reprise.workflows.performers import Performers
from reprise.workflows.saga_log import SagaEvent, say
from reprise.workflows.saga_steps import TIMEOUT, UNDO_ATTEMPTS
from reprise.workflows.services import answering

EVENT = "event"
"""Signal that brings an event to a service that takes part."""


class Reaction:
    """What a service does about an event."""

    def __init__(self, service: str, function: Callable[..., Any], on: str, says: str, ends: bool) -> None:
        self.name = getattr(function, "__name__", "reaction")
        self.on = on
        self.ends = ends
        self.says = says
        self.by = f"{service}.{self.name}"
        self.react = called_with(function, 1, f"{self.name}(event)")
        self.compensate: Callable[..., Awaitable[Any]] | None = None
        self.step: Step[..., Any]

    def prepare(self, compensation: Callable[..., Any] | None, retry: Retry | None, timeout: float) -> None:
        """Make the step of it, and of what compensates it."""
        undo = None
        if compensation is not None:
            self.compensate = called_with(compensation, 2, f"compensation of {self.name}(event, undo)")
            undo = compensate.options(
                name=f"undo {self.name}", retry=retry or Retry(UNDO_ATTEMPTS), timeout=timeout
            )
        self.step = react.options(
            name=self.name,
            effect=self.by,
            idempotent=True,
            undo=undo,
            retry=retry or DEFAULT_RETRY,
            timeout=timeout,
        )

    def said(self, given: Any, cause: int) -> list[Said]:
        """Return the events that follow from what the function returned."""
        if isinstance(given, Said):
            found = [given]
        elif (
            isinstance(given, list)
            and given
            and all(isinstance(one, Said) for one in cast("list[Any]", given))
        ):
            found = cast("list[Said]", given)
        else:
            found = [Said(self.says, given, ends=self.ends)] if self.says else []
        return [msgspec.structs.replace(one, by=self.by, cause=cause) for one in found]


class SagaService:
    """A service that takes part in sagas by what it reacts to.

    >>> stock = SagaService("stock")
    >>> async def release(event: SagaEvent, undo: Undo) -> None: ...
    >>> @stock.on("order.placed", says="stock.reserved", compensation=release)
    ... async def reserve(event: SagaEvent) -> int:
    ...     return event.data["amount"]
    >>> sorted(stock.reactions)
    ['order.placed']
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.reactions: dict[str, list[Reaction]] = {}
        """What it does, by the name of the event."""

    def on(
        self,
        event: str,
        *,
        says: str = "",
        ends: bool = False,
        compensation: Callable[..., Any] | None = None,
        retry: Retry | None = None,
        timeout: float | timedelta = TIMEOUT,
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Let the decorated function be called with each :class:`SagaEvent` of that name, async or not.

        What it returns is the data of the event ``says``; or it returns :class:`Said` itself, or a list of them. ``ends``: with
        that the saga is complete. When it fails for good it says ``<service>.<function>.failed``, and every service
        compensates what it did. ``compensation`` is called with the event and an :class:`Undo`, or the event only; it must
        accept that nothing happened. ``retry`` holds for both, ``timeout`` in seconds (or timedelta) for each call.

        Raises:
            ConfigurationError: the service has a reaction of that name to that event.
        """

        def add(function: Callable[..., Any]) -> Callable[..., Any]:
            made = Reaction(self.name, function, event, says, ends)
            if any(made.name == known.name for known in self.reactions.get(event, ())):
                raise ConfigurationError(
                    f"Service {self.name!r} has two reactions to {event!r} called {made.name!r}.",
                    hint="Rename one of them.",
                )
            made.prepare(compensation, retry, seconds(timeout, "timeout"))
            self.reactions.setdefault(event, []).append(made)
            return function

        return add

    def flow(self, agent_executor: object = None, agents: object = None) -> ServiceFlow:
        """Return the workflow whose runs are this service in one saga each."""
        return ServiceFlow(self)


class ServiceFlow(Flow):
    """A service as a workflow."""

    def __init__(self, service: SagaService) -> None:
        super().__init__(take_part, name=f"saga.{service.name}", performers=Performers(), definition=service)
        self.service = service
        reactions = [each for some in service.reactions.values() for each in some]
        self.undoes = {each.name: each.step for each in reactions if each.compensate}

    def does_as(self, other: Workflow[..., Any]) -> bool:
        """Return whether it is the same service."""
        return isinstance(other, ServiceFlow) and self.service is other.service


# ---------------------------------------------------------------- what the run of a service does


async def take_part(saga: str) -> int:
    """Be the body of all services: react to one event after the other; return how often."""
    service, count = cast("ServiceFlow", flow_here()).service, 0
    while True:
        event = await _next(saga)
        if event.fails:
            raise SagaFailed(f"Saga {saga} failed: {event.by or 'somebody outside'} said {event.name!r}.")
        for reaction in service.reactions.get(event.name, ()):
            await _react(reaction, event)
            count += 1
        if event.ends:
            return count


async def _next(saga: str) -> SagaEvent:
    """Wait for the next event; whoever is cancelled meanwhile fails the saga."""
    try:
        return await wait_for_signal(EVENT, SagaEvent)
    except asyncio.CancelledError:
        await _say_failure(saga, "cancelled", 0, "its run was cancelled")
        raise


async def _react(reaction: Reaction, event: SagaEvent) -> None:
    key = f"{reaction.name}@{event.version}"
    try:
        said = await reaction.step.options(key=key)(event)
    except Exception as error:
        await _say_failure(event.saga, f"{reaction.name}.failed", event.version, brief(encode_error(error)))
        raise
    except asyncio.CancelledError:
        await _say_failure(event.saga, "cancelled", event.version, "its run was cancelled")
        raise
    if said:
        await tell.options(key=f"{key}/said")(event.saga, said, always=False)


async def _say_failure(saga: str, what: str, cause: int, why: str) -> None:
    service = cast("ServiceFlow", flow_here()).service.name
    said = Said(f"{service}.{what}", why, fails=True, by=service, cause=cause)
    await tell.options(key=f"{what}/said")(saga, [said], always=True)


def _reaction(event: SagaEvent, name: str) -> Reaction:
    service = cast("ServiceFlow", flow_here()).service
    for each in service.reactions.get(event.name, ()):
        if each.name == name:
            return each
    raise ConfigurationError(
        f"Service {service.name!r} has no reaction {name!r} to {event.name!r} any more.",
        hint="Keep it until all sagas that it took part in have ended, then: reprise resume.",
    )


@step
async def compensate(undo: Undo) -> None:
    """Undo a reaction, and say so in the saga."""
    event: SagaEvent = undo.args[0]
    reaction = _reaction(event, undo.step)
    if reaction.compensate is not None:
        await reaction.compensate(event, undo)
    await _tell(
        event.saga, [Said(f"{reaction.by}.compensated", by=reaction.by, cause=event.version)], always=True
    )


@step(undo=compensate)
async def react(event: SagaEvent) -> list[Said]:
    """Let a service react to an event, and return what it has to say."""
    reaction = _reaction(event, current_step().name)
    with answering():
        return reaction.said(await reaction.react(event), event.version)


@step(idempotent=True)
async def tell(saga: str, said: list[Said], always: bool) -> None:
    """Say something in a saga: once, however often this is called for the same."""
    await _tell(saga, said, always=always)


async def _tell(saga: str, said: list[Said], *, always: bool) -> None:
    job = STEP.get()
    assert job is not None
    await say(cast("Engine", job.execution.host), saga, current_step().idempotency_key, said, always=always)
