"""Steps in the log's transaction: what they write, what is recorded of them and what they tell others is one commit.

Their record cannot be handed to the log as others are, for it is made within the commit. So nothing else of the run is
on its way meanwhile (``Execution.alone``): the versions are then known, and what failed leaves no hole.
"""

from __future__ import annotations

import asyncio
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any

from reprise.kernel.clock import MICROSECONDS
from reprise.kernel.errors import (
    ConfigurationError,
    StaleVersion,
    StepTimeout,
    StoreError,
    StreamClosed,
    StreamMissing,
)
from reprise.kernel.events import Event, Kind
from reprise.runtime.executors.here import outside
from reprise.runtime.face import CurrentStep
from reprise.runtime.host import Job
from reprise.runtime.outbox import LETTERS, Letters
from reprise.stores.log import Append, Group
from reprise.stores.transactions import Transactions, WorkFailed, WorkTooLong, Writes

if TYPE_CHECKING:
    from reprise.runtime.engine import Engine


class InTransaction:
    """Executor of the steps with ``transaction=True``."""

    capacity = None

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def execute(self, job: Job) -> Any:
        """Execute one attempt of a step and commit it together with its record; return its value.

        Raises:
            ConfigurationError: the store has no transactions, or wants another kind of function; nothing was executed.
            CancelledError: it was asked to stop before it was done, or its run left memory; nothing was written.
        """
        step, port, url = job.step, self._engine.store.transactions, self._engine.store.url
        if port.is_sync is not step.is_sync:
            wanted, written = ("def", "async def") if port.is_sync else ("async def", "def")
            raise ConfigurationError(
                f"Step {step.name} is written with {written!r}; in the transactions of {url} it must be {wanted!r}.",
                hint="On SQLite the writer calls it, on PostgreSQL it awaits a connection of its own.",
            )
        job.driver.hold()  # the keeper keeps the time, for a wait in its line does not count
        context = copy_context() if job.context is None else outside(job.context, job)
        return await Attempt(self._engine, job, context, port).run()

    def statistics(self) -> dict[str, int]:
        """Return nothing: there is nothing to count."""
        return {}

    async def close(self) -> None:
        """Do nothing: the store is not ours."""


class StoppedError(Exception):
    """The step was asked to stop before its turn came."""


class Attempt:
    """One attempt of one step."""

    def __init__(self, engine: Engine, job: Job, context: Context, port: Transactions) -> None:
        self._engine, self._job, self._context, self._port = engine, job, context, port
        self._execution = execution = job.execution
        step = CurrentStep(execution.id, execution.work, job.key, job.step.name, job.attempt)
        self._letters = Letters(engine, step.idempotency_key)
        context.run(LETTERS.set, self._letters)
        self._stopped = self._has_turn = False
        self._at = self._took = 0
        self._began = 0.0
        self._value: Any = None
        self._group = Group(execution.stream)

    async def run(self) -> Any:
        """Execute the step until it is committed or has failed; return its value."""
        port = self._port
        work, finish = (self._work, self._finish) if port.is_sync else (self._async_work, self._async_finish)
        try:
            while True:
                number, failure = self._engine.numbers.new(), None
                if port.is_sync:
                    await self._take_turn()
                commit = port.commit(number, work, finish, self._job.step.timeout)
                try:
                    await self._outcome(asyncio.ensure_future(commit))
                except WorkFailed as failed:
                    raise self._error(failed) from failed.__cause__
                except StoreError as error:
                    failure = error
                if failure is None or not await self._is_of_outbox(failure):
                    return self._settle(number, failure)
                self._give_turn_back()
                await self._letters.explain(failure)
        finally:
            self._give_turn_back()

    async def _outcome(self, committing: asyncio.Future[Append]) -> None:
        """Wait for what comes of it. Asked to stop, say so and wait on: it may be too late for that."""
        while True:
            try:
                await asyncio.shield(committing)
            except asyncio.CancelledError:
                if committing.cancelled():
                    raise
                self._stopped = True
                if not self._has_turn:
                    committing.cancel()
            else:
                return

    def _error(self, failed: WorkFailed) -> BaseException:
        """Return what the step raised."""
        step, error = self._job.step, failed.__cause__
        if isinstance(failed, WorkTooLong):
            return StepTimeout(
                f"Step {step.name} took longer than {step.timeout} s in its transaction; nothing of it was written.",
                hint="Do less in it, or give it a longer timeout=; others wait for it.",
            )
        return asyncio.CancelledError() if isinstance(error, StoppedError) else error or failed

    # ---------------------------------------------------------------- the work, as keepers want it

    def _work(self, connection: Any) -> None:
        """Call the step's function; in the thread of the keeper, when the turn was taken."""
        self._begin()
        if self._stopped:
            raise StoppedError
        job = self._job
        self._value = self._context.run(job.step.function, connection, *job.args, **job.kwargs)

    def _finish(self) -> Writes:
        return self._writes(self._encoded())

    async def _async_work(self, connection: Any) -> None:
        """Await the step's function; what else the run does goes on meanwhile."""
        self._give_turn_back()
        self._begin()
        job = self._job
        called = job.step.function(connection, *job.args, **job.kwargs)
        self._value = await self._engine.outer.create_task(called, context=self._context.copy())

    async def _async_finish(self) -> Writes:
        data = self._encoded()
        await self._take_turn()
        return self._writes(data)

    def _begin(self) -> None:
        self._letters.empty()
        self._began = self._engine.clock.monotonic()

    def _encoded(self) -> bytes:
        step, payloads = self._job.step, self._engine.payloads
        return payloads.within(
            step.encode(self._value), "The result of step {} ({})", step.name, self._job.key
        )

    def _writes(self, data: bytes) -> Writes:
        execution, job = self._execution, self._job
        self._took = took = int((self._engine.clock.monotonic() - self._began) * MICROSECONDS)
        event = Event(Kind.STEP_COMPLETED, self._at, job.key, data, job.print, took)
        self._group = Group(execution.stream, [event], execution.version, execution.token)
        return Writes((self._group, *self._letters.groups()), tuple(self._letters.tasks))

    # ---------------------------------------------------------------- alone on the way to the log

    async def _take_turn(self) -> None:
        """Wait until nothing of the run is on its way to the log, and let nothing go that way until this is settled."""
        execution = self._execution
        while not (execution.done or execution.finishing):
            if execution.alone is not None:
                await asyncio.shield(execution.alone)
            elif execution.out or execution.extra or execution.change is not None:
                await execution.written()
            elif execution.acks:
                await self._acknowledged()
            else:
                execution.alone = self._engine.outer.create_future()
                execution.acks.append(())
                self._at = execution.last_at = max(self._engine.now(), execution.last_at)
                self._has_turn = True
                self._job.driver.noted = True  # that it has begun would be said after it has ended
                return
        raise asyncio.CancelledError

    async def _acknowledged(self) -> None:
        """Wait for the outcome of what is on its way to the log."""
        acks, outcome = self._execution.acks, self._engine.outer.create_future()
        acks[-1] = (*acks[-1], lambda _: None if outcome.done() else outcome.set_result(None))
        await outcome

    def _give_turn_back(self) -> None:
        if self._has_turn:
            self._has_turn = False
            self._execution.acks.pop()
            self._execution.release()

    async def _is_of_outbox(self, error: StoreError) -> bool:
        """Tell whether it is what goes to others that was refused, not the step's own record."""
        execution = self._execution
        if not self._letters.groups() or not isinstance(error, StreamMissing | StreamClosed | StaleVersion):
            return False
        head = await self._engine.store.log.head(execution.stream)
        return (head.version, head.token, head.closed) == (execution.version, execution.token, False)

    def _settle(self, number: int, failure: StoreError | None) -> Any:
        """Deliver the record, or leave memory because the log took none; return the step's value."""
        execution, job = self._execution, self._job
        self._has_turn = False
        execution.in_flight.pop(job.key, None)
        if failure is None:
            execution.recorded[job.key] = None
            execution.version += 1
            self._letters.told()
        execution.release()
        if execution.purse is not None:
            execution.purse.ended(
                job, self._took
            )  # a commit later than its outcome; until then the reservation counts
        execution.committed(Append(number, (self._group,), error=failure))
        if failure is not None:
            raise asyncio.CancelledError
        return self._value
