"""Pipelined durability: what a pure step returns is delivered before it is durable, and nothing leaves the run too early.

A run begins as any other. When it calls its first pure step it becomes :class:`Pipelined`, and from then on:

1. *Order.* Records are delivered in the order in which they were recorded, which is that of the log. One is delivered
   when all before it were, and it is durable or came of a pure step. So what a crash leaves is the begin of what the
   body was given, and its replay is that of any other history.
2. *Output commit.* What others can notice is done only when all that the body was given before it asked is durable: a
   step that is not pure starts or is asked to stop, a child is asked to stop, somebody is answered
   (:func:`past_is_durable`). What is itself a record of the run needs no waiting, for the log accepts it only behind its
   past and in the same stream: the start of a child, tags, a timer that fired, the end. Progress and log lines of a body
   are for people and wait for nothing.
3. *Bound.* At most ``AHEAD`` records, or ``AHEAD_BYTES`` bytes, were delivered and are not durable: what a crash may cost.
4. *Gathering.* While an append of the run is on its way, results that nobody waits for are gathered for the next one.

When an append fails the run leaves memory, as always; what its body was given ahead was seen by nobody.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any

from reprise.kernel.budget import Cost
from reprise.kernel.clock import MICROSECONDS
from reprise.kernel.events import Event, Kind
from reprise.runtime.execution import Execution
from reprise.runtime.history import NOTHING
from reprise.runtime.host import Job
from reprise.runtime.step import Recorded
from reprise.stores.log import Append, Group

AHEAD = 1000
"""Records that may be delivered and not yet durable."""
AHEAD_BYTES = 16 << 20
"""Bytes of their data, beyond that of one."""


class Pipeline:
    """What of one run was recorded and is not durable yet."""

    __slots__ = ("ahead", "asked", "behind", "bytes", "entries", "known", "pasts", "released", "waits")

    def __init__(self, execution: Execution) -> None:
        self.ahead: deque[Event] = deque()
        """Records that the body was given, and that the log did not acknowledge."""
        self.bytes = 0
        """Bytes of their data."""
        self.released = 0
        """How many records were ever delivered ahead: the past of what the body asks for now, as a number."""
        self.behind: deque[tuple[Event, bool]] = deque()
        """Records that the body was not given, and whether it may be before they are durable."""
        self.behind.extend((event, False) for event in execution.out if event.kind >= 16)
        self.known = 0
        """How many of the appends on their way were taken from here. What others hold is not known, so while one of
        those is on its way (from before the run became pipelined, or a step in a transaction) nothing runs ahead."""
        self.pasts: dict[str, int] = {}
        """By key of a call that may not start, or stop, before its past is durable: which one that is."""
        self.entries: dict[str, str] = {}
        """By key of a call whose result is kept for others: the stream that it is kept in."""
        self.waits = False
        """Whether the run asked for something that has to wait until its past is durable."""
        self.asked: list[tuple[int, asyncio.Future[bool]]] = []
        """Who else waits for that, and for which past."""

    @property
    def durable(self) -> int:
        """How many of the records that were delivered ahead are durable."""
        return self.released - len(self.ahead)

    def release(self) -> list[Event]:
        """Return the records that may be delivered ahead now."""
        early: list[Event] = []
        behind = self.behind
        while behind and behind[0][1] and len(self.ahead) < AHEAD and self.bytes < AHEAD_BYTES:
            event, _ = behind.popleft()
            early.append(event)
            self.ahead.append(event)
            self.bytes += len(event.data)
            self.released += 1
        return early

    def acknowledge(self, events: Sequence[Event]) -> list[Event]:
        """Note that events are durable; return those that the body was not given yet."""
        ahead, behind = self.ahead, self.behind
        fresh: list[Event] = []
        for event in events:
            if ahead and event is ahead[0]:
                ahead.popleft()
                self.bytes -= len(event.data)
                continue
            if behind and event is behind[0][0]:
                behind.popleft()
            fresh.append(event)
        return fresh

    def insert(self, out: list[Event], event: Event) -> None:
        """Put an event behind what the body was given, and before what it was not; nothing is on its way to the log."""
        given = self.ahead[-1] if self.ahead else None
        out.insert(0 if given is None else next(n for n, one in enumerate(out, 1) if one is given), event)
        self.behind.appendleft((event, False))

    def give_up(self) -> None:
        """Tell those who still wait that they are not to be told."""
        asked, self.asked = self.asked, []
        for _, future in asked:
            if not future.done():
                future.set_result(False)

    def answer(self, durable: int) -> None:
        """Tell those whose past is durable."""
        while self.asked and self.asked[0][0] <= durable:
            _, future = self.asked.pop(0)
            if not future.done():
                future.set_result(True)


class Pipelined(Execution):
    """A run that has called a pure step."""

    __slots__ = ()
    pipeline: Pipeline  # pyright: ignore[reportIncompatibleVariableOverride]

    def record(self, kind: int, key: str, data: bytes = b"", print: int = 0, took: int = 0) -> None:
        """Append an event of this run; it is delivered when it is durable, that of a pure step as soon as it is its turn."""
        if self.done or self.finishing:
            return
        super().record(kind, key, data, print, took)
        if kind < 16:
            return
        future = self.waiting.get(key) if kind <= Kind.STEP_CANCELLED else None
        self.pipeline.behind.append((self.out[-1], future is not None and future.step.pure))
        if len(self.acks) == self.pipeline.known and (early := self.pipeline.release()):
            self._give(early)

    def job_ended(self, job: Job, kind: int, data: bytes, took: int) -> None:
        """Record what came of a step; with a result that was computed goes its entry in the cache."""
        if took < 0 and self.purse is not None and job.key in self.in_flight:
            self.purse.settle(job, 0, Cost())  # what came from the cache costs nothing
        before = len(self.out)
        super().job_ended(job, kind, data, took)
        entry = self.pipeline.entries.pop(job.key, "")
        if entry and kind == Kind.STEP_COMPLETED and took >= 0 and len(self.out) > before:
            self.extra.append(entry_of(entry, job.step, self.out[-1]))

    def arrived(self, events: Sequence[Event]) -> Sequence[Event]:
        """Return what is to be delivered now that events are durable; see :meth:`Execution.committed`."""
        pipeline = self.pipeline
        if len(self.acks) < pipeline.known:
            pipeline.known -= 1  # else it was one of the others, which come first
        fresh = pipeline.acknowledge(events)
        if len(self.acks) == pipeline.known:
            fresh += pipeline.release()
        if pipeline.asked:
            pipeline.answer(pipeline.durable)
        if self.out and not self.marked:
            self.mark()
        return fresh

    def _give(self, events: Sequence[Event]) -> None:
        if self.pending is NOTHING:
            self.pending = deque(events)
        else:
            self.pending.extend(events)
        self.wake()

    def take(self, id: int) -> Append | None:
        """Hand over what is to be appended; nothing while it is gathered."""
        pipeline = self.pipeline
        if self.acks and not (
            pipeline.behind or pipeline.waits or pipeline.asked or self.change or self.after or self.finishing
        ):
            self.marked = False
            return None
        append = super().take(id)
        pipeline.known += append is not None
        return append

    def go_out(self) -> None:
        """Do what the body asked for, as far as its past is durable or does not matter."""
        pipeline = self.pipeline
        stops: list[Job] = []
        starts: dict[str, Job] = {}
        if pipeline.ahead or pipeline.waits:
            to_stop, self.to_stop = self.to_stop, []
            for job in to_stop:
                (stops if self._must_wait(job) else self.to_stop).append(job)
            to_start, self.to_start = self.to_start, {}
            for key, job in to_start.items():
                (starts if self._must_wait(job) else self.to_start)[key] = job
        super().go_out()
        pipeline.waits = bool(stops or starts)
        if pipeline.waits:
            self.to_stop = stops + self.to_stop
            self.to_start = starts | self.to_start
            if self.out and not self.marked:
                self.mark()  # gathering is over

    def _must_wait(self, job: Job) -> bool:
        """Tell whether what is asked of a job follows from something that is not durable."""
        pipeline, step = self.pipeline, job.step
        if step.pure or (step.what == "workflow" and job.key not in self.children):
            return False
        if pipeline.pasts.setdefault(job.key, pipeline.released) > pipeline.durable:
            return True
        del pipeline.pasts[job.key]  # it may be asked to stop later, then with another past
        return False

    def past(self) -> asyncio.Future[bool]:
        """Return a future of whether all that the body was given so far is durable."""
        future: asyncio.Future[bool] = self.host.outer.create_future()
        if self.pipeline.ahead:
            self.pipeline.asked.append((self.pipeline.released, future))
            if self.out and not self.marked:
                self.mark()
        else:
            future.set_result(True)
        return future

    def _at_end(self) -> bool:
        """Tell whether the body has ended; with it end those steps that it left running, so that must be justified."""
        if self.pipeline.ahead and not all(job.step.pure for job in self.in_flight.values()):
            return False
        return super()._at_end()

    def _over(self) -> None:
        self.pipeline.answer(self.pipeline.released)
        super()._over()

    def _forget(self) -> None:
        super()._forget()
        self.pipeline.give_up()


def entry_of(stream: str, step: Recorded[..., Any], event: Event) -> Group:
    """Return what is written for others of a result that was computed; it goes into the commit of ``event``."""
    until = 0 if step.cache is True else event.at + round(step.cache * MICROSECONDS)
    return Group(stream, [Event(Kind.CACHED, event.at, step.name, event.data, until, event.took)])


def become_pipelined(execution: Execution) -> Pipeline:
    """Let results of pure steps of a run be delivered before they are durable, from now on."""
    if execution.pipeline is None:
        execution.pipeline = Pipeline(execution)
        execution.__class__ = Pipelined
    return execution.pipeline


async def past_is_durable(execution: Execution) -> bool:
    """Wait until all that a body was given so far is durable, before something that follows from it is told to anybody.

    Returns False when that will not be: the run left memory, and what the body was given may not have happened.
    """
    if execution.done or not isinstance(execution, Pipelined):
        return not execution.done
    return await execution.past()
