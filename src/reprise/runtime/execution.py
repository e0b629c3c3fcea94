"""One run in memory: its body on its own loop, what it waits for, and the way of its records.

Live and replay are one path: a record is delivered, then the body runs until it is quiet; only then comes the next
record. Live, records come back from the log after they are durable; in replay they are read from it. Nothing new is
started until the whole history was delivered (:attr:`Execution.live`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any, cast

import msgspec

from reprise.kernel.clock import MICROSECONDS
from reprise.kernel.errors import BodyError, NonDeterminismError, RepriseError
from reprise.kernel.events import (
    CancelRequest,
    Event,
    Finished,
    Kind,
    Record,
)
from reprise.kernel.limit import Slot
from reprise.kernel.machine import RunStatus
from reprise.runtime.branch import RUN
from reprise.runtime.budgets import Purse
from reprise.runtime.delivery import deliver
from reprise.runtime.ending import (
    check_reached,
    disagreement,
    end,
    ends_elsewhere,
    failed,
    outcome_of,
    stuck,
)
from reprise.runtime.generation import LONG, NEVER, ContinueAs, begin_next, news_of, scope_of, wish_in
from reprise.runtime.handles import RunTask, StepFuture, TimerHandle
from reprise.runtime.history import NOTHING, History
from reprise.runtime.host import Host, Job
from reprise.runtime.loop import SLICE, RunLoop
from reprise.runtime.mailbox import Mailboxes
from reprise.runtime.outward import go_out
from reprise.runtime.step import Recorded
from reprise.runtime.talk import Talk
from reprise.runtime.unwind import unwind
from reprise.runtime.workflow import Workflow
from reprise.stores.log import Append, Group, RunChange

if TYPE_CHECKING:
    from reprise.runtime.pipelining import Pipeline

Body = Callable[["Execution"], Coroutine[Any, Any, Any]]
"""Makes the body of a run, in a context of its own."""

_OWN_VARIABLES = 2
"""Context variables that the runtime itself puts into a body: the run and the branch. A step of a body that has more
is executed in a context of its own."""
_LOOK_AT_CLOCK = 16
"""Deliveries between two looks at the clock."""


class Execution:
    """The run ``id`` while it is loaded here, owned under ``token``."""

    # More attributes than a shared instance dictionary takes; slots are smaller and made faster.
    __slots__ = (
        "__weakref__ acks after alone armed attempts bytes cancel_request change child_jobs children context continued "
        "done doubts ending explicit extra failing finishing fresh generation had_mail history holding host id idle_since "
        "in_flight inbox_known inbox_version indexed_tags intents last_at length live loop mail main marked out patches pending "
        "pipeline prints purse recorded replaying rests scheduled scope seated seed seen settled since slots started "
        "stream suspect tags talk to_start to_stop token unchained undoable unheard version waiting warn_at wish workflow"
    ).split()

    def __init__(
        self,
        host: Host,
        id: str,
        token: int,
        history: History,
        workflow: Workflow[..., Any],
        body: Body,
    ) -> None:
        self.host = host
        self.id = id
        self.token = token
        self.stream = f"run/{id}"
        self.workflow = workflow
        self._remember(history)
        self.had_mail = False
        self.idle_since = 0.0
        self.live = False
        self.slots: tuple[Slot, ...] = ()
        self.seated = True
        """Whether the run has the places in ``slots``, which it needs to execute steps."""
        self.rests = False  # whether the index shows it as waiting
        self.length = 0  # how many records were delivered
        self.done = self.ending = self.finishing = self.marked = self.scheduled = self.holding = False
        self.failing: RepriseError | None = None
        self.wish: ContinueAs | None = None
        """What ended the body, if it was the wish to continue."""
        self.cancel_request: CancelRequest | None = None
        self.unheard: Event | Record | None = None
        """A request to cancel that came when the body had ended."""
        self.waiting: dict[str, StepFuture] = {}
        self.in_flight: dict[str, Job] = {}
        self.child_jobs: dict[str, Job] = {}
        self.doubts: dict[str, Job] | None = None
        """Steps of which only a person can say whether they happened; None = there never were any."""
        self.to_start: dict[str, Job] = {}
        self.to_stop: list[Job] = []
        self.armed: dict[str, asyncio.TimerHandle] = {}
        self.explicit: dict[str, None] = {}
        self.pending: deque[Event | Record] = NOTHING
        self.out: list[Event] = []
        self.extra: list[Group] = []
        self.change: RunChange | None = None
        self.pipeline: Pipeline | None = None
        """Of a run that called a pure step; see :mod:`reprise.runtime.pipelining`."""
        self.after: list[Callable[[bool], None]] = []
        self.acks: list[tuple[Callable[[bool], None], ...]] = []
        """One entry for each append on its way: whom to tell whether it was written."""
        self.unchained = 0  # of these, those that hold no event of the run: later ones do not hang on them
        self.alone: asyncio.Future[None] | None = None
        """Something of the run is written by another way than this; until it is done, nothing goes this way."""
        self.settled: asyncio.Future[None] | None = None
        self.talk: Talk | None = None
        """What it listens to and says; None while that is nothing."""
        self.loop = RunLoop(host.outer, id, self.seed, self.fail, host.clock)
        self.mail = Mailboxes(self.loop)
        self._open_body(body, history.began)

    def _remember(self, history: History) -> None:
        """Take over what is known of the run so far."""
        self.version = history.version
        self.started = started = history.started
        self.tags = started.tags
        self.indexed_tags = started.tags if history.tags is None else history.tags
        self.continued = continued = history.continued
        self.generation = generation = continued.generation if continued is not None else 0
        self.scope = scope_of(self.id, generation)
        """In what the keys of this generation are counted for others: ids of child runs, see also :attr:`work`."""
        self.seed = scope_of(started.origin, generation) if started.origin else self.scope
        """From what random values and the order of sets follow."""
        self.since = history.since
        self.warn_at = NEVER if history.warned else history.since + LONG
        self.last_at = history.at
        self.children = history.children
        self.attempts = history.attempts
        books, budget = history.books, started.budget
        self.purse = None if books is None and budget is None else Purse(self, budget, books)
        """What the run may still spend, None where nothing is limited."""
        self.intents = history.intents
        """Durable intents of steps that have not ended, until these are started here."""
        self.undoable = history.undoable
        """Whether a step has begun that is to be undone should the run fail."""
        self.seen = history.seen
        self.inbox_version = continued.inbox if continued is not None else 0
        self.inbox_known = history.fresh and continued is None
        """Whether all mail that was consumed lies before ``inbox_version``."""
        self.suspect = history.owned > 1
        """Whether its owner before died and it made no progress since."""
        self.bytes = len(started.input)
        """How much data the body was given."""
        self.recorded = history.recorded
        self.prints = history.prints
        self.patches = history.patches
        self.history = history.records
        self.fresh = history.fresh
        """Whether no owner before has seen any of it, or of this generation."""
        self.replaying = not history.fresh
        """Whether the body does what an owner before may have seen it do; for people, not for decisions."""

    def _open_body(self, body: Body, began: int) -> None:
        """Make the main task, in a context that holds nothing but what is declared; its time begins at ``began``."""
        self.loop.keep_timers_if(self._timer_cancelled)
        self.loop.now = began / MICROSECONDS
        self.context = Context()
        main = self.context.run(body, self)
        self.main = RunTask.make(main, self.loop, self.id, self.context, self.loop.number())

    # ---------------------------------------------------------------- what the body asks for

    def call(
        self, step: Recorded[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], key: str
    ) -> StepFuture:
        """Register a call under ``key``; it starts after the drain, once the run is live."""
        print = step.arguments.fingerprint(step.name, args, kwargs)
        if self.prints and (before := self.prints.get(key)) is not None and before != print:
            self.loop.poison = self.loop.poison or disagreement(self, key, step.name)
            raise self.loop.poison
        if key in self.waiting or (step.key and key in self.explicit):
            self.loop.forbid(f"Two calls under the one key {key!r}", hint="Give each call a key of its own.")
        if step.key:
            self.explicit[key] = None
        context = copy_context()
        if self.purse is not None:
            self.purse.called(key)
        future = StepFuture.make(self.loop, key, step, self.loop.number(), self._ask)
        self.waiting[key] = future
        self.to_start[key] = Job(
            self, key, step, args, kwargs, print, context if len(context) > _OWN_VARIABLES else None
        )
        return future

    def _ask(self, key: str) -> None:
        """Take note that the wait for a step was cancelled."""
        job = self.to_start.pop(key, None)
        if job is not None:
            if key in self.recorded:
                return
            if job.step.on_cancel == "wait":
                self.to_stop.append(job)
            else:
                self.waiting.pop(key, None)
                self.intents.pop(key, None)
        elif (job := self.in_flight.get(key) or self.child_jobs.get(key)) is not None or (
            self.doubts is not None and (job := self.doubts.pop(key, None)) is not None
        ):
            self.to_stop.append(job)

    def _timer_cancelled(self, handle: TimerHandle) -> bool:
        armed = self.armed.pop(handle.key, None)
        if armed is not None:
            armed.cancel()
        return handle.key in self.recorded

    # ---------------------------------------------------------------- what happened goes to the log

    def record(self, kind: int, key: str, data: bytes = b"", print: int = 0, took: int = 0) -> None:
        """Append an event of this run; it is delivered when it is durable."""
        if self.done or self.finishing:
            return
        at = self.host.clock.now()
        if at < self.last_at:
            at = self.last_at
        self.last_at = at
        self.out.append(Event(kind, at, key, data, print, took))
        if not self.marked:
            self.mark()

    def mark(self) -> None:
        """Let what there is to be appended be taken with the next flush."""
        if not self.marked:
            self.marked = True
            self.host.dirty(self)

    def job_ended(self, job: Job, kind: int, data: bytes, took: int) -> None:
        """Record what came of a step or a child run."""
        if self.done or (
            self.in_flight.pop(job.key, None) is None and self.child_jobs.pop(job.key, None) is None
        ):
            return
        if self.purse is not None:
            self.purse.ended(job, took)
        if self.talk is not None:
            self.talk.flush()  # what it wrote is there when its outcome is
        self.recorded[job.key] = None
        self.record(kind, job.key, data, job.print, took)

    def spawn(self, note: Event, opening: Group, settled: Callable[[bool], None]) -> None:
        """Append the note of a child run together with the first events of the child; say whether that was done."""
        self.out.append(note)
        self.extra.append(opening)
        self.after.append(settled)
        self.mark()

    def send(self, group: Group, settled: Callable[[bool], None]) -> None:
        """Append events of another stream with what is appended next; say whether that was done."""
        self.extra.append(group)
        self.after.append(settled)
        self.mark()

    def written(self) -> asyncio.Future[bool]:
        """Return a future of whether what is to be appended now, or next, was written."""
        future: asyncio.Future[bool] = self.host.outer.create_future()
        self.after.append(lambda written: None if future.done() else future.set_result(written))
        return future

    def alter(self, **fields: Any) -> RunChange:
        """Change the run's row in the index with the next append."""
        if self.change is None:
            self.change = RunChange(self.id, **fields)
            self.mark()
        else:
            for name, value in fields.items():
                setattr(self.change, name, value)
        return self.change

    def take(self, id: int) -> Append | None:
        """Hand over what is to be appended, as one append; None when there is nothing."""
        self.marked = False
        if self.alone is not None or (self.finishing and self.unchained):
            return None  # what was said before the end stands before it, or goes on with another owner
        events, change, extra = self.out, self.change, self.extra
        if not events and change is None and not extra:
            return None
        self.out, self.change = [], None
        if extra:
            self.extra = []
        if events and (self.rests or self.version > self.warn_at):
            change = news_of(self, change)
        if change is not None:
            change.at = events[-1].at if events else self.host.now()
        closes = bool(events) and events[-1].kind == Kind.RUN_FINISHED
        group = Group(self.stream, events, self.version, self.token, False, closes, "", change)
        self.version += len(events)
        self.unchained += not events
        self.acks.append(tuple(self.after))  # a copy: what is asked for later waits for a later append
        self.after.clear()
        return Append(id, (group, *extra) if extra else (group,), self.committed)

    def release(self) -> None:
        """Let what was held back go to the log: what was written alone is written, or was not."""
        alone, self.alone = self.alone, None
        if alone is not None:
            alone.set_result(None)
        if not self.done and (self.out or self.extra or self.change is not None):
            self.mark()

    def committed(self, append: Append) -> None:
        """Receive an append that is durable, or was refused."""
        error, events = append.error, append.groups[0].events
        self.unchained -= not events
        if self.host.observers and error is None:
            self.host.observe(self.id, events)
        for settled in self.acks.pop(0):
            settled(error is None)
        if self.done:
            return
        if error is not None:
            self.lose(error)
            return
        if not self.finishing:
            if self.pipeline is not None:
                events = self.arrived(events)
            if self.pending is NOTHING:
                self.pending = deque(events)
            else:
                self.pending.extend(events)
            self.pump()
        elif events and events[-1].kind == Kind.RUN_FINISHED:
            self._over()
            self.host.ended(self, msgspec.json.decode(events[-1].data, type=Finished), None)
        elif events and events[0].kind == Kind.RUN_CONTINUED:
            self._over()
            self.host.continued(self, events)
        elif self.out:
            self.mark()

    def arrived(self, events: Sequence[Event]) -> Sequence[Event]:
        """Return what of durable events is still to be delivered: all, where none was delivered before."""
        return events

    # ---------------------------------------------------------------- delivery

    deliver = deliver
    go_out = go_out

    def wake(self) -> None:
        """Let the body be driven in the next turn of the outer loop."""
        if not self.scheduled and not self.done:
            self.scheduled = True
            self.host.outer.call_soon(self._woken)

    def _woken(self) -> None:
        if self.scheduled:  # else it was pumped meanwhile; by now it may compensate
            self.pump()

    def pump(self) -> None:
        """Deliver records one at a time, each followed by a drain, until nothing is left or the slice is used up."""
        self.scheduled = False
        if self.done or self.finishing:
            return
        loop = self.loop
        before = loop.enter()
        try:
            unfinished = self._advance()
        except BodyError as error:
            loop.leave(before)
            self.fail(error)
            return
        except BaseException:
            loop.leave(before)
            raise
        loop.leave(before)
        if self.done or self.finishing:
            self._tell_settled()  # who keeps back what is to be appended must let the end go
            return
        if self.live:
            self.go_out()
        if unfinished:
            self.wake()
        elif self.live:
            if self.settled is not None:
                self._tell_settled()
            if not (self.in_flight or self.holding):
                self._look_if_stuck()

    def _advance(self) -> bool:
        """Return True when more is to be done."""
        loop, main = self.loop, self.main
        until = 0.0
        count = 0
        while True:
            if loop.ready and not loop.drain():
                return True
            if loop.poison is not None:
                raise loop.poison
            if main.done():
                if not self.ending:
                    self._begin_end()
                    continue
                if self._at_end():
                    if self.wish is None:
                        self._conclude(outcome_of(self))
                    else:
                        self.finishing = True
                        self._disarm()
                        if self.undoable:
                            self.host.carry_over(self, self.wish)
                        else:
                            begin_next(self, self.wish)
                    return False
            if self.history:
                self.deliver(self.history.popleft())
            elif not self.live:
                self.go_live()
            elif self.pending:
                self.deliver(self.pending.popleft())
            else:
                return False
            count += 1
            if count % _LOOK_AT_CLOCK == 0:
                now = self.host.clock.monotonic()
                until = until or now + SLICE
                if now > until:
                    return True

    def go_live(self) -> None:
        """Let what the body does from now on happen: its history was delivered."""
        self.live = True
        self.replaying = False
        self.prints = {}
        self.host.went_live(self)

    # ---------------------------------------------------------------- nothing left to do

    @property
    def work(self) -> str:
        """In what idempotency keys are counted: a run that is tried again is the same work as the first one."""
        work = self.started.work
        return scope_of(work, self.generation) if work else self.scope

    @property
    def idle(self) -> bool:
        """Tell whether nothing of the run executes or is on its way: it only waits."""
        busy = self.in_flight or self.out or self.acks or self.scheduled or self.pending or self.marked
        return not (busy or (self.talk is not None and self.talk.busy))

    def resting(self, status: str) -> str:
        """Return the state of the run when it leaves memory: ``status``, unless it is about to be cancelled."""
        return status if self.cancel_request is None else RunStatus.CANCELLING

    def _look_if_stuck(self) -> None:
        if not self.idle:
            return
        waits_for_more = bool(self.to_start) and self.purse is not None and self.purse.blocks
        listens = self.talk is not None and self.talk.listens
        if self.doubts:
            self.host.attend(self)
        elif self.to_start and not self.seated and not waits_for_more:
            self.host.unseated(self)
        elif not (self.armed or self.mail.waiting or self.child_jobs or waits_for_more or listens):
            self.fail(stuck(self))
        else:
            self.history = self.pending = NOTHING
            self.host.quiet(self)

    # ---------------------------------------------------------------- the end

    def _begin_end(self) -> None:
        """Cancel what the body left behind when its main task ended."""
        self.ending = True
        if not self.main.cancelled():
            self.wish = wish_in(self.main.exception())
        for task in tuple(self.loop.tasks):
            task.cancel()
        for future in tuple(self.waiting.values()):
            if future.step.on_end != "wait":
                future.cancel()
        if self.loop.lost_generators:
            self.loop.close_generators(self.context)

    def _at_end(self) -> bool:
        """Tell whether nothing of the body is left to wait for; raises what :func:`check_reached` does."""
        if self.loop.tasks or (self.waiting and not all(future.done() for future in self.waiting.values())):
            return False
        if self.wish is not None and (
            self.holding or self.history or self.pending or self.out or self.acks or not self.live
        ):
            return False  # a pause comes first; and what came for this generation is known, so that it is not lost
        if self.talk is not None and self.talk.is_unsure:
            return False
        check_reached(self)
        return True

    def _conclude(self, finished: Finished) -> None:
        """End a run whose body has ended; what it did is undone first if it did not complete."""
        if self.undoable and finished.status != RunStatus.COMPLETED:
            self.host.compensate(self, finished)
        else:
            self.finish(finished)

    def finish(self, finished: Finished) -> None:
        """Append the end. What of the run still executes is abandoned; its results would be refused."""
        self.history = self.pending = NOTHING
        self._disarm()
        finished = self.host.payloads.end(finished)
        self.alter(**end(self, finished))
        self.extra += ends_elsewhere(self, finished)
        self.record(Kind.RUN_FINISHED, "", msgspec.json.encode(finished))
        self.finishing = True

    def _over(self) -> None:
        self.done = True
        self._forget()

    def _disarm(self) -> None:
        for armed in self.armed.values():
            armed.cancel()
        self.armed.clear()
        for job in tuple(self.in_flight.values()):  # one that only waits to be executed ends at once
            self.host.stop_job(job)

    def fail(self, error: BodyError) -> None:
        """End a run whose body broke the rules: failed, or stranded with its history untouched if that was replayed."""
        if self.done or self.failing is not None:
            return
        self.failing = error
        # With all its history delivered, what the body does is news: this code would have failed at first, too.
        news = not self.history and not isinstance(error, NonDeterminismError)
        self.unwind()
        if news:
            self._conclude(failed(error))
            return
        self.done = True
        self.host.ended(self, None, error)

    def lose(self, error: RepriseError) -> None:
        """Leave memory because the log refused: another worker owns the run, or the store failed."""
        if self.done:
            return
        self.done = True
        self.unwind()
        self.host.ended(self, None, error)

    def evict(self) -> None:
        """Leave memory without a trace in the log."""
        if self.done:
            return
        self.done = True
        self.unwind()

    def unwind(self) -> None:
        """Let go of the body; what executes is asked to stop."""
        self._disarm()
        if not self.loop.is_closed():
            unwind(self.loop, [self.main, *self.loop.tasks], self.context)
        self._forget()

    def news(self) -> asyncio.Future[None]:
        """Return a future of when something of the run became durable, its mail was read, or it ended or left memory."""
        if self.settled is None or self.settled.done():
            self.settled = self.host.outer.create_future()
        return self.settled

    def _tell_settled(self) -> None:
        if self.settled is not None and not self.settled.done():
            self.settled.set_result(None)

    def _forget(self) -> None:
        """Break the cycles, so that memory comes back without the cycle collector; nothing more will be written."""
        after, self.after = self.after, []
        for settled in after:
            settled(False)
        self._tell_settled()
        self.waiting.clear()
        self.to_start.clear()
        self.to_stop.clear()
        self.mail.clear()
        self.loop.forget()
        self.context.run(RUN.set, None)
        self.wish = None
        # Its children's contexts hold us, as does its exception's traceback.
        self.main = cast("RunTask", None)
