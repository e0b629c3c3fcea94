"""Mail: what others want of the runs in memory, from their inboxes to their histories.

A run's inbox is read when somebody taps, when the run was just taken over or has just begun a generation, and when its
row in the index says that it is due.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import msgspec

from reprise.kernel.errors import StoreError
from reprise.kernel.events import ChildFinished, Event, Kind, Record, inbox_stream, run_stream
from reprise.kernel.machine import RunStatus
from reprise.runtime.budgets import purse_of
from reprise.runtime.effects import answered
from reprise.runtime.ending import child_error
from reprise.runtime.execution import Execution
from reprise.runtime.history import pause_in
from reprise.runtime.parking import pause
from reprise.runtime.updates import admit, repeat
from reprise.stores.log import Group, RunChange, append

if TYPE_CHECKING:
    from reprise.runtime.engine import Engine


class Post:
    """Brings mail to the runs of one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._tapped: set[str] = set()
        self.reading: set[str] = set()
        self.unread: set[str] = set()
        """Runs in memory whose mail could not be read because the store failed."""

    async def send(self, run: str, kind: Kind, id: str, data: bytes = b"") -> None:
        """Put mail into a run's inbox; its owner is tapped, or it becomes due.

        Raises:
            StreamMissing: there is no such run.
            StreamClosed: it has ended.
        """
        engine, now = self._engine, self._engine.now()
        group = Group(
            inbox_stream(run),
            [Event(kind, now, id, data)],
            guard=run_stream(run),
            run=RunChange(run, due_at=now, at=now),
        )
        await append(engine.store.log, engine.numbers.new(), group)
        engine.store.signal.wake([inbox_stream(run), "runs"])

    def tap(self, stream: str) -> None:
        """Notice that there may be mail in an inbox."""
        run = stream.removeprefix("inbox/")
        if self._engine.is_starting(run):
            self._tapped.add(run)
        self.bring(run)

    def entered(self, run: str) -> bool:
        """Notice that a run is in memory now; return whether it was tapped on its way there."""
        tapped = run in self._tapped
        self._tapped.discard(run)
        return tapped

    def bring(self, run: str) -> None:
        """Read the inbox of a run that is in memory here."""
        execution = self._engine.executions.get(run)
        if execution is None:
            return
        if not execution.live:
            execution.had_mail = True
        elif run in self.reading:
            self._tapped.add(run)
        else:
            self.reading.add(run)
            self._engine.spawn(self._bring(run))

    async def _bring(self, run: str) -> None:
        executions = self._engine.executions
        execution = executions.get(run)
        try:
            if execution is not None:
                await self._read(execution)
        except StoreError:
            self.unread.add(run)
            raise
        finally:
            self.reading.discard(run)
            # Tapped for the run's next life here, which began while we still read for this one?
            tapped = run in self._tapped and not self._engine.is_starting(run)
            if tapped or executions.get(run) is not execution:
                self._tapped.discard(run)
                self.bring(run)
            if execution is not None and (not execution.seated or execution.doubts is not None):
                execution.wake()  # to ask for its places, if it still wants a step; or for attention

    async def _read(self, execution: Execution) -> None:
        log, inbox = self._engine.store.log, inbox_stream(execution.id)
        while not (execution.done or execution.finishing) and execution.live:
            self._tapped.discard(execution.id)
            records = await log.read(inbox, execution.inbox_version)
            if execution.finishing:
                return  # its next generation reads them, too
            if not records:
                execution.inbox_known = True
                if execution.id in self._tapped:
                    continue  # it came while we read
                return
            wish = pause_in(records, execution.seen)
            if not await self._take_in(execution, records):
                return
            if wish is not None:
                await pause(self._engine, execution, wish)
                return
            # What is recorded here says that the run is not due. Mail that came before that is durable has made it due
            # in vain, so only a look after it is the last.
            if execution.marked and not execution.done:
                await execution.written()

    async def _take_in(self, execution: Execution, records: Sequence[Record]) -> bool:
        """Consume mail in its order; False = some is left, and not for this life of the run in memory."""
        for is_talk, some in groupby(records, _is_talk):
            if not is_talk:
                letters = list(some)
                receive(execution, letters)
                for letter in letters:
                    if letter.kind == Kind.CHILD_FINISHED:  # here, or by another worker
                        self._engine.registry.release(letter.key)
                continue
            for record in some:
                if record.key in execution.seen:
                    await repeat(self._engine, execution, record)
                elif not await admit(self._engine, execution, record):
                    return False
                execution.seen[record.key] = None
                execution.inbox_version = record.version
                execution.alter(due_at=None)
        return True


def _is_talk(record: Record) -> bool:
    return record.kind in (Kind.UPDATE_SENT, Kind.ANSWER_SENT)


def receive(execution: Execution, records: Sequence[Record]) -> None:
    """Consume mail: what is recorded here fixes its order for ever."""
    execution.inbox_known = True
    for record in records:
        execution.inbox_version = record.version
        if record.key in execution.seen or execution.done:
            continue
        execution.seen[record.key] = None
        if record.kind == Kind.SIGNAL_SENT:
            execution.record(Kind.SIGNAL_RECEIVED, record.key, record.data)
        elif record.kind == Kind.CANCEL_SENT:
            execution.record(Kind.CANCEL_REQUESTED, record.key, record.data)
            execution.alter(status=execution.resting(RunStatus.CANCELLING))
        elif record.kind == Kind.BUDGET_RAISED:
            purse_of(execution).raise_by(record.key, record.data)
        elif record.kind == Kind.EFFECT_ANSWER:
            answered(execution, record)
        elif record.kind == Kind.CHILD_FINISHED:
            _child_finished(execution, msgspec.json.decode(record.data, type=ChildFinished))
        execution.alter(due_at=None)


def _child_finished(execution: Execution, mail: ChildFinished) -> None:
    job = execution.child_jobs.get(mail.key)
    if job is None or execution.children.get(mail.key) != mail.run:
        return  # nobody waits for it any more, or it was of an earlier generation
    if execution.purse is not None:
        execution.purse.settle(job, 0, mail.spent)
    finished = mail.finished
    if finished.status == RunStatus.COMPLETED:
        execution.job_ended(job, Kind.STEP_COMPLETED, bytes(finished.value), 0)
    elif finished.status == RunStatus.CANCELLED and job.asked:
        execution.job_ended(job, Kind.STEP_CANCELLED, b"", 0)
    else:
        execution.job_ended(job, Kind.STEP_FAILED, msgspec.json.encode(child_error(mail)), 0)
