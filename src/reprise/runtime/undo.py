"""Undoing what a run did when it fails or is cancelled: the phase between the end of its body and the end of the run.

What is to be undone follows from the log alone: every intent of a step with ``undo=``, the latest first, whatever became
of the call. A body ends at the same place in every replay, so whoever takes the run over comes to this phase again and
goes on with what is left. Nothing interrupts it but ``cancel --force`` and its own deadline; then, or when something
cannot be undone, a person has to see to the rest.
"""

from __future__ import annotations

import asyncio
from asyncio import events
from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from reprise.kernel.clock import MICROSECONDS
from reprise.kernel.codec import standard
from reprise.kernel.errors import (
    BodyError,
    ConfigurationError,
    DeadlineExceeded,
    RunCancelled,
    StoreError,
)
from reprise.kernel.events import (
    CancelRequest,
    Finished,
    Intended,
    Kind,
    Owed,
    Record,
    run_stream,
)
from reprise.kernel.failures import brief
from reprise.kernel.machine import RunStatus
from reprise.kernel.policy import Retry
from reprise.runtime.aside import start_aside, step_aside
from reprise.runtime.branch import RUN
from reprise.runtime.ending import leaves_children
from reprise.runtime.execution import Execution
from reprise.runtime.generation import ContinueAs, begin_next
from reprise.runtime.history import NOTHING
from reprise.runtime.host import STEP, Job
from reprise.runtime.intents import GIVEN
from reprise.runtime.owing import handed_on, owed_in
from reprise.runtime.parking import all_recorded, park
from reprise.runtime.step import DEFAULT_TIMEOUT, UNDOABLE, Step
from reprise.runtime.workflow import Workflow

if TYPE_CHECKING:
    from reprise.runtime.engine import Engine

UNDO_RETRY = Retry(10)
"""How an undo is tried again unless it is a step and says otherwise."""
LONGEST_TEXT = 500
"""Characters of why a run needs attention that its row keeps."""


class Undo(msgspec.Struct, frozen=True):
    """A call that is to be undone."""

    run: str
    step: str
    """Name of the step."""
    key: str
    """What the receiver knows the call by: what ``current_step().idempotency_key`` was in it."""
    happened: bool | None
    """True: it completed and ``value`` is its result; None: it failed, was cancelled or died, and may have happened."""
    value: Any
    args: tuple[Any, ...]
    """Arguments of the call, or those that it gave to :func:`set_undo`."""
    kwargs: dict[str, Any]


def set_undo(*args: Any, **kwargs: Any) -> None:
    """In a step with ``undo=``: set the arguments that its undo is given, in place of those of the call.

    They are recorded now, before the step's result. Plain JSON values only. Outside of a run it does nothing.

    Raises:
        ConfigurationError: the step has no ``undo=``.
        CodecError, PayloadTooLarge: they cannot be written; those before hold.
    """
    job = STEP.get()
    if job is None:
        return
    if job.step.undo is None:
        raise ConfigurationError(f"Step {job.step.name} has no undo= that could be given arguments.")
    job.execution.host.keep_undo(job, standard.encode([list(args), kwargs]))


def let_stay() -> None:
    """In a body: let what the run did so far stay, should it fail or be cancelled: there is no way back any more.

    Steps with ``undo=`` that begin after this are to be undone again, and with them all others. What was recorded does not
    change: a replayed body says it again.
    """
    if (execution := RUN.get()) is not None:
        execution.undoable = False


def keep_undo(engine: Engine, job: Job, call: bytes) -> None:
    """Record what the undo of a step is to be given, before what the step returns."""
    engine.payloads.within(call, GIVEN, job.step.name, job.key)
    if events._get_running_loop() is engine.outer:
        _keep(job, call)
    else:
        engine.outer.call_soon_threadsafe(_keep, job, call)


def call_ended(*, refused: bool = False) -> None:
    """In an async step with ``undo=``: say that this attempt acts no more, so that undoing it need not wait for its time.

    ``refused``: nothing came of it, and nothing is to be undone unless an attempt before it may have happened.
    """
    job = STEP.get()
    if job is None or job.intent is None:
        return
    intent = job.intent
    settled = refused and intent.number == 1
    _intend(job, replace(intent, until=job.execution.host.now(), settled=settled))


def _keep(job: Job, call: bytes) -> None:
    assert job.intent is not None
    _intend(job, replace(job.intent, call=msgspec.Raw(call), given=True))


def _intend(job: Job, intent: Intended) -> None:
    job.intent = intent
    job.execution.record(Kind.STEP_INTENDED, job.key, msgspec.json.encode(job.intent), job.print)


# ---------------------------------------------------------------- generations


def carry_over(engine: Engine, execution: Execution, wish: ContinueAs) -> None:
    """Let the next generation begin, with what this one and those before owe to undo."""
    engine.spawn(_carry_over(engine, execution, wish))


async def _carry_over(engine: Engine, execution: Execution, wish: ContinueAs) -> None:
    try:
        records = await engine.store.log.read(execution.stream, execution.since)
    except StoreError as error:
        execution.lose(error)
        return
    if not execution.done:
        begin_next(execution, wish, handed_on(records, execution.continued, execution.generation))


# ---------------------------------------------------------------- the phase


class Compensating(Execution):
    """A run whose body has ended and that undoes what it did. Nothing is delivered to a body any more."""

    __slots__ = ()

    def pump(self) -> None:
        """Take note of what became durable."""
        self.scheduled = False
        for event in self.pending:
            if event.kind == Kind.CANCEL_REQUESTED:
                request = msgspec.json.decode(event.data, type=CancelRequest)
                self.cancel_request = request if request.force else self.cancel_request
        self.pending = NOTHING
        if self.settled is not None and not self.settled.done():
            self.settled.set_result(None)

    def resting(self, status: str) -> str:
        """Return that it is compensating, whatever comes."""
        return RunStatus.COMPENSATING

    def _look_if_stuck(self) -> None:
        """Do nothing: there is no body that could be."""


def compensate(engine: Engine, execution: Execution, finished: Finished) -> None:
    """Let a run whose body has ended undo what it did, then end as ``finished``."""
    try:
        if not execution.live:
            execution.go_live()
    except BodyError as error:
        execution.done = True
        engine.ended(execution, None, error)
        return
    if execution.pipeline is not None:
        execution.pipeline.give_up()
        execution.pipeline = None  # what it ran ahead with is waited for as a whole
    execution.__class__ = Compensating
    engine.spawn(Compensation(engine, execution, finished).run())


class Compensation:
    """The undoing of one run."""

    def __init__(self, engine: Engine, execution: Execution, finished: Finished) -> None:
        self._engine = engine
        self._execution = execution
        self._finished = finished
        self._ends_at = 0
        """When it has to be done (microseconds), 0 = whenever."""

    async def run(self) -> None:
        """Undo what is owed, the latest first; end the run, or leave the rest to a person."""
        execution = self._execution
        began = round(execution.loop.now * MICROSECONDS)
        self._leave_body()
        try:
            await all_recorded(execution)
            records = await self._engine.store.log.read(execution.stream, execution.since)
            self._ends_at = self._deadline(records, began)
            left = owed_in(records)
            if not await self._undo(reversed(left)):
                return
            await all_recorded(execution)
            if execution.done or execution.holding:
                return
            left = owed_in(await self._engine.store.log.read(execution.stream, execution.since))
            if left:
                await self._attend(left)
            else:
                execution.finish(self._finished)
        except StoreError as error:
            execution.lose(error)

    def _leave_body(self) -> None:
        """Let go of the body; cancel the children that it left behind, and steps that it did not wait for."""
        execution = self._execution
        execution.unwind()
        execution.doubts, execution.cancel_request = {}, None
        execution.extra.extend(leaves_children(execution))
        execution.child_jobs.clear()
        execution.history = execution.pending = NOTHING
        execution.alter(status=RunStatus.COMPENSATING)

    def _deadline(self, records: Sequence[Record], began: int) -> int:
        within = self._execution.workflow.undo_deadline
        if within is None:
            return 0
        resumed = max((record.at for record in records if record.kind == Kind.RUN_RESUMED), default=0)
        return max(began, resumed) + round(within * MICROSECONDS)

    async def _undo(self, owed: Iterable[Owed]) -> bool:
        """Undo one after the other what did not fail already; False if the run left memory, or is to rest."""
        execution = self._execution
        for one in owed:
            if one.failed is not None:
                continue
            if not await self._seated() or execution.done or execution.holding:
                return False
            await self._undo_one(one)
            await all_recorded(execution)
            if execution.done:
                return False
        return True

    async def _seated(self) -> bool:
        """Wait for the places that the run needs to execute anything; False if it left memory for them."""
        execution = self._execution
        while execution.slots and not execution.seated and not execution.done:
            self._engine.places.want(execution)
            await execution.news()
        return not execution.done

    async def _undo_one(self, one: Owed) -> None:
        """Undo one call, and record that; or why it could not be."""
        execution, step = self._execution, _step_of(self._execution.workflow, one.intent)
        if step is None or step.undo is None:
            missing = f"No step {one.intent.undo} with undo= is known here."
            self._record(one, ConfigurationError(missing, hint="Import the module that has it."))
            return
        if one.outcome != Kind.STEP_COMPLETED and (one.loose or not one.outcome):
            await self._until_it_cannot_act(one.intent.until)
        if execution.done or execution.holding:
            return
        if (reason := self._why_stopped()) is not None:
            self._record(one, reason)
            return
        try:
            undo = self._described(one, step)
        except Exception as error:  # what was recorded does not fit the code any more
            self._record(one, error)
            return
        ended = self._engine.outer.create_future()
        undoing = step_aside(step.undo, f"undo {step.name}", _nothing, UNDO_RETRY, DEFAULT_TIMEOUT)
        then = partial(self._told, one, ended)
        start_aside(self._engine, execution, f"undo:{one.key}", undoing, undo, then)
        await self._until(ended)

    def _told(self, one: Owed, ended: asyncio.Future[None], kind: int, data: bytes) -> None:
        """Record what came of an undo in the moment in which it ended: a pause waits for no more than what executes."""
        if kind == Kind.STEP_CANCELLED:
            self._record(one, self._why_stopped() or RunCancelled("The undo was cancelled."))
        elif kind == Kind.STEP_FAILED:
            self._execution.record(Kind.UNDO_FAILED, one.key, data)
        else:
            self._execution.record(Kind.UNDO_DONE, one.key)
        if not ended.done():
            ended.set_result(None)

    def _record(self, one: Owed, error: BaseException) -> None:
        failure = self._engine.payloads.failure(error)
        self._execution.record(Kind.UNDO_FAILED, one.key, msgspec.json.encode(failure))

    def _described(self, one: Owed, step: Step[..., Any]) -> Undo:
        intent, happened = one.intent, one.outcome == Kind.STEP_COMPLETED
        if intent.given:
            given, kwargs = standard.decode(bytes(intent.call))
            args = tuple(given)
        else:
            args, kwargs = step.arguments.decode(bytes(intent.call))
        value = step.decode(bytes(one.value)) if happened else None
        return Undo(self._execution.id, intent.name, intent.key, happened or None, value, args, kwargs)

    async def _until_it_cannot_act(self, until: int) -> None:
        """Wait until a call of which nobody knows whether it still acts cannot act any more."""
        execution = self._execution
        while (left := until - self._engine.now()) > 0 and not execution.done and not execution.holding:
            if self._why_stopped() is not None:
                return
            await self._news(left)

    async def _until(self, ended: asyncio.Future[None]) -> None:
        """Wait for the end of an undo; stop it when nothing more is to be undone."""
        stopped = False
        while not ended.done():
            if not stopped and self._why_stopped() is not None:
                stopped = True
                for job in list(self._execution.in_flight.values()):
                    self._engine.stop_job(job)
            await self._news(None, ended)

    async def _news(self, left: int | None, *others: asyncio.Future[Any]) -> None:
        """Wait for news of the run, for others, for ``left`` microseconds or for the deadline."""
        now = self._engine.now()
        ends = [left] if left is not None else []
        ends += [self._ends_at - now] if self._ends_at > now else []
        timeout = min(ends) / MICROSECONDS if ends else None
        await asyncio.wait({self._execution.news(), *others}, timeout=timeout, return_when="FIRST_COMPLETED")

    def _why_stopped(self) -> BaseException | None:
        """Return why nothing more is undone, None while it is."""
        run, request = self._execution.id, self._execution.cancel_request
        if request is not None:
            return RunCancelled(
                f"Run {run} was told to undo nothing more: {request.reason or 'no reason given'}."
            )
        if self._ends_at and self._engine.now() >= self._ends_at:
            return DeadlineExceeded(f"Run {run} did not undo all before its undo_deadline.")
        return None

    async def _attend(self, left: Sequence[Owed]) -> None:
        """Leave what could not be undone to a person."""
        engine, execution = self._engine, self._execution
        names = [
            f"{one.intent.name} ({one.intent.key}): {brief(one.failed) if one.failed is not None else ''}"
            for one in reversed(left)
        ]
        text = f"not undone: {'; '.join(names)}"
        hint = f". Try again: reprise resume {execution.id}"
        text = engine.payloads.text(text[: LONGEST_TEXT - len(hint)] + hint)
        while not execution.done:
            if await park(engine, [execution], attention=text):
                engine.store.signal.wake([run_stream(execution.id), "runs"])
                return
            if execution.holding:
                return
            await self._news(MICROSECONDS)


def _step_of(workflow: Workflow[..., Any], intent: Intended) -> Step[..., Any] | None:
    """Return the step whose undo is owed; if its file was loaded under another name, the only one called so."""
    if (step := workflow.undoes.get(intent.name)) is not None and step.full_name == intent.undo:
        return step
    if (step := UNDOABLE.get(intent.undo)) is not None:
        return step
    alike = [step for step in UNDOABLE.values() if step.name == intent.name]
    return alike[0] if len(alike) == 1 else None


def _nothing(value: object) -> bytes:
    """Write nothing of what an undo returns."""
    return b""
