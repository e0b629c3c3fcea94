"""The engine of one worker: runs in memory, their steps, and their way to the log.

It starts runs, takes runs over, hands what they want to append to the log in as few commits as possible, brings mail,
and lets waiting runs go from memory. Which runs to take is the worker's business.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextvars import Context, ContextVar
from functools import partial
from typing import Any

import msgspec

from reprise.kernel.clock import Clock
from reprise.kernel.errors import (
    AppendRefused,
    KeyMissing,
    NonDeterminismError,
    NoRoom,
    RepriseError,
    StoreError,
)
from reprise.kernel.events import (
    Event,
    Finished,
    Kind,
    LogLine,
    Progress,
    inbox_stream,
    run_stream,
)
from reprise.kernel.ids import Counter
from reprise.kernel.limit import Slot
from reprise.kernel.machine import RunStatus
from reprise.kernel.settings import ProcessSettings
from reprise.kernel.tags import same_tags
from reprise.runtime.caching import Cache
from reprise.runtime.children import start_child
from reprise.runtime.effects import attend, begin, check_intents, doubt
from reprise.runtime.entering import enter
from reprise.runtime.execution import Execution
from reprise.runtime.executors.executor import Executor
from reprise.runtime.executors.pools import Pools, all_executors
from reprise.runtime.generation import ContinueAs, continued_history, is_to_trim, trim
from reprise.runtime.history import DEADLINE, History
from reprise.runtime.host import Job, Observer
from reprise.runtime.loaded import Loaded
from reprise.runtime.parking import give_back, show_resting
from reprise.runtime.payloads import Payloads
from reprise.runtime.pipelining import become_pipelined, past_is_durable
from reprise.runtime.places import Places
from reprise.runtime.pool import Pool
from reprise.runtime.post import Post
from reprise.runtime.queries import Desk
from reprise.runtime.registry import Registry
from reprise.runtime.side import Side
from reprise.runtime.starting import launch
from reprise.runtime.step import TRANSACTION
from reprise.runtime.streams import recall_outlets
from reprise.runtime.takeover import strand, take_over
from reprise.runtime.talk import Talk, go_live, recall
from reprise.runtime.transactions import InTransaction
from reprise.runtime.undo import carry_over, compensate, keep_undo
from reprise.runtime.workflow import Workflow
from reprise.stores.log import Append, outcome, settle_of
from reprise.stores.runs import RunRow
from reprise.stores.store import Store

COUNTED = ("started", "taken", "finished", "parked", "stranded", "lost", "continued")
"""What becomes of runs, as statistics count it."""


class Engine:
    """Executes runs under the name ``worker``."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        *,
        worker: str,
        clock: Clock,
        uniform: Callable[[], float],
        build: str = "",
        concurrency: int = 100,
        middleware: Sequence[Any] = (),
        variables: Mapping[str, ContextVar[Any]] | None = None,
        max_loaded: int = 1000,
        max_loaded_bytes: int = 256 << 20,
        keep_generations: int | None = 10,
        payloads: Payloads | None = None,
        processes: ProcessSettings | None = None,
        executors: Mapping[str, Executor] | None = None,
    ) -> None:
        self.store = store
        self.registry = registry
        self.worker, self.build = worker, build
        self.outer = asyncio.get_running_loop()
        self.context = Context()
        self.clock = clock
        self.now = clock.now
        self.numbers = Counter()
        self.payloads = payloads = payloads or Payloads()
        self.variables = dict(variables or {})
        known = all_executors(concurrency, processes, payloads, self.variables)
        known |= {**(executors or {}), TRANSACTION: InTransaction(self)}
        self._settle = settle_of(store.log)
        log = self.flush, self.settle, self._schedule
        made = partial(Pool, self.outer, clock, *log, uniform, payloads, known, middleware=middleware)
        self.pool = Pools(known, concurrency, made)
        self.post, self.desk = Post(self), Desk(self)
        self.side = Side(store, clock, self.outer, self.numbers.new, payloads)
        self.loaded = Loaded(self, max_loaded, max_loaded_bytes)
        self.executions = self.loaded.runs
        self.observers: list[Observer] = []
        self.keep_generations = keep_generations
        self.on_parked: Callable[[int | None], None] = lambda due_at: None
        self._dirty: list[Execution] = []
        self._sending: list[Append] = []
        self._scheduled = self.stopping = False
        self._waiters: dict[str, list[asyncio.Future[Finished | None]]] = {}
        self.starting: set[str] = set()
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self._deadlines: dict[str, asyncio.TimerHandle] = {}
        self._unlisten: list[Callable[[], None]] = []
        self.unreadable: set[str] = set()
        """Runs whose history is sealed with a key that is not here."""
        self.places, self.cache = Places(self), Cache(self)
        self.foreign: set[str] = set()
        """Runs that another build had before, and whose history was not yet replayed here."""
        self.expected: set[str] = set()
        """Runs started here that stand in line."""
        self.orphans: set[str] = set()
        """Runs that left memory because the store failed, not because another worker owns them."""
        self.counters = dict.fromkeys(COUNTED, 0)

    def start(self) -> None:
        """Listen for mail."""
        if not self._unlisten:
            listen = self.store.signal.listen
            self._unlisten = [listen("inbox/*", self.post.tap), listen("query/*", self.desk.tap)]

    # ---------------------------------------------------------------- host of the executions

    def dirty(self, execution: Execution) -> None:
        """Append what the execution has, with the next flush."""
        self._dirty.append(execution)
        if not self.pool.shared.recording:
            self._schedule()

    def send(self, append: Append) -> asyncio.Future[Append]:
        """Append something else with the next flush; the future has its outcome."""
        future, append.done = outcome(self.outer)
        self._sending.append(append)
        self._schedule()
        return future

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self.outer.call_soon(self._tick)

    def _tick(self) -> None:
        self._scheduled = False
        self.flush()

    def flush(self) -> None:
        """Hand everything that is to be appended to the log, one append per run."""
        if appends := self._gather():
            self.store.log.submit(appends)

    def settle(self) -> None:
        """Hand everything to the log, and let it answer at once if it can: the pool has nothing more to execute."""
        dirty = self._dirty
        if appends := self._gather():
            self._settle(appends, partial(self._is_alone, dirty))

    def _is_alone(self, dirty: Sequence[Execution]) -> bool:
        """Tell whether all there is to do here is to write what one run wants to append, and that waits for it."""
        runs = len(self.executions) - len(self.loaded.idle) + len(self.starting)
        return runs <= 1 and not self.pool.executing and not any(execution.scheduled for execution in dirty)

    def _gather(self) -> list[Append]:
        """Take what is to be appended from those who have something."""
        dirty, self._dirty = self._dirty, []
        appends, self._sending = self._sending, []
        for execution in dirty:
            if execution.done:
                continue  # it left memory; what it still wanted to say is said by whoever goes on
            if execution.talk is not None and execution.talk.held and not execution.finishing:
                continue  # for a moment only; whoever holds it hands it in again
            append = execution.take(self.numbers.new())
            if append is not None:
                appends.append(append)
                if self.loaded.idle:
                    self.loaded.goes_on(execution)
        return appends

    def observe(self, run: str, events: Sequence[Event]) -> None:
        """Show observers what became durable."""
        for observe in self.observers:
            try:
                observe(run, events)
            except Exception as error:
                self.outer.call_exception_handler(
                    {"message": f"observer {observe!r} failed; run {run} goes on", "exception": error}
                )

    def start_jobs(self, jobs: Iterable[Job]) -> None:
        """Execute steps; start child runs."""
        steps: list[Job] = []
        for job in jobs:
            if job.execution.attempts:
                job.attempt = job.execution.attempts.get(job.key, 0)
            if not job.step.declared or self._is_for_the_pool(job):
                steps.append(job)
        self.pool.start(steps)

    def _is_for_the_pool(self, job: Job) -> bool:
        """Do what a call declares; return whether it is to be executed like any other then."""
        if job.step.what == "workflow":
            start_child(self, job)
            return False
        if job.step.intends:
            return begin(self, job)
        if job.step.pure:
            become_pipelined(job.execution)
        if job.step.cache:
            self.cache.start(job)
            return False
        return True

    def stop_job(self, job: Job) -> None:
        """Stop a step, or ask a child run to stop."""
        if job.step.what == "step":
            self.pool.stop(job)
        elif job.step.on_end != "abandon":
            child = job.execution.children.get(job.key)
            if child is not None and not job.execution.finishing:
                self.spawn(self._cancel_child(job.execution.id, child))

    async def _cancel_child(self, parent: str, child: str) -> None:
        data = msgspec.json.encode({"reason": "its parent no longer waits for it", "by": parent})
        await self.post.send(child, Kind.CANCEL_SENT, f"parent-{parent}", data)

    def warn(self, execution: Execution, text: str) -> None:
        """Write a line into the run's log."""
        self.side.line(execution.id, LogLine("WARNING", "reprise", f"Run {execution.id}: {text}"))

    def progress(self, run: str, progress: Progress) -> None:
        """Tell people how far a step is."""
        self.side.progress(run, progress)

    def went_live(self, execution: Execution) -> None:
        """Bring the mail that came while the run was in nobody's memory; index the tags that its body has set by now.

        From now on the run is this build's.

        Raises:
            NonDeterminismError: this code does not make a call whose outcome is unknown.
        """
        if execution.intents:
            check_intents(execution)
        if not same_tags(execution.tags, execution.indexed_tags):
            execution.indexed_tags = execution.tags
            execution.alter(tags=execution.tags)
        if execution.patches.unwritten:
            execution.patches.write(execution)
        if execution.id in self.foreign:
            self.foreign.discard(execution.id)
            execution.alter(build=self.build)
        if execution.talk is not None:
            self.outer.call_soon(go_live, execution, context=self.context)
        if execution.had_mail:
            self.outer.call_soon(self.post.bring, execution.id)

    def tap(self, streams: Sequence[str]) -> None:
        """Tap those who listen to streams."""
        self.store.signal.wake(streams)

    def keep_only(self, stream: str, count: int) -> None:
        """Trim a stream to its latest records, soon."""
        self.spawn(self._keep_only(stream, count))

    async def _keep_only(self, stream: str, count: int) -> None:
        head = await self.store.log.head(stream)
        await self.store.log.trim(stream, head.version - count)

    async def past_is_durable(self, execution: Execution) -> bool:
        """Wait until others may be told what a body was given so far; False when it left memory before."""
        return await past_is_durable(execution)

    def recall(self, talk: Talk) -> None:
        """Read what a run has said and written so far, and let it say and write the rest."""
        self.outer.call_soon(self._recall, talk, context=self.context)

    def _recall(self, talk: Talk) -> None:
        if talk.is_unsure:
            self.spawn(recall_outlets(self, talk))
        if talk.unsaid:
            self.spawn(recall(self, talk))

    def quiet(self, execution: Execution) -> None:
        """Remember that the run only waits: it may be let go."""
        execution.idle_since = self.clock.monotonic()
        if execution.slots and execution.seated:
            self.places.give_back(execution)
        self.loaded.rests(execution)
        if execution.suspect and not execution.rests:
            # Should its worker die now, it was not this run's doing.
            self.spawn(show_resting(self, [execution]))

    def doubt(self, job: Job, error: BaseException, took: int) -> None:
        """Find out whether a call happened."""
        doubt(self, job, error, took)

    def keep_undo(self, job: Job, call: bytes) -> None:
        """Record what the undo of an executing step is to be given; may be called from any thread."""
        keep_undo(self, job, call)

    def compensate(self, execution: Execution, finished: Finished) -> None:
        """Undo what the run did, then let it end so."""
        compensate(self, execution, finished)

    def carry_over(self, execution: Execution, wish: ContinueAs) -> None:
        """Let the next generation of a run begin, which undoes what this one did should it fail."""
        carry_over(self, execution, wish)

    def attend(self, execution: Execution) -> None:
        """Let the run go from memory until somebody says what became of its calls."""
        self.spawn(attend(self, execution))

    def unseated(self, execution: Execution) -> None:
        """Take the places that the run needs, or let it stand in line for them."""
        self.places.want(execution)

    def continued(self, execution: Execution, events: Sequence[Event]) -> None:
        """Let the next generation of a run take the place of the one that ended."""
        self.counters["continued"] += 1
        self.forget(execution)
        if self.stopping:
            self.tell(execution.id, None)
            return
        history = continued_history(execution, events)
        assert history.continued is not None
        if is_to_trim(history.continued, execution):
            self.spawn(trim(self.store.log, execution.id, history.continued, history.since))
        try:
            self.enter(
                execution.workflow,
                execution.id,
                execution.token,
                history,
                has_mail=True,
                slots=execution.slots,
                seated=execution.seated,
            )
        except NonDeterminismError as error:
            self.ended(execution, None, error)

    def ended(self, execution: Execution, finished: Finished | None, error: RepriseError | None) -> None:
        """Let an execution go and tell whoever waits here."""
        self.forget(execution)
        if finished is not None:
            self.counters["finished"] += 1
            self.registry.release(execution.id)
            self.tell(execution.id, finished)
            self.store.signal.wake([run_stream(execution.id), *self._mailed(execution)])
        elif error is not None and not isinstance(error, StoreError):
            self.counters["stranded"] += 1
            self.spawn(strand(self, execution, error))
        else:
            self.counters["lost"] += 1
            if not isinstance(error, AppendRefused):
                self.orphans.add(execution.id)
            self.tell(execution.id, None)

    def _mailed(self, execution: Execution) -> list[str]:
        """Return whom to tap about the end of a run: its parent, children still running, those who want its places."""
        children = map(execution.children.get, execution.child_jobs)
        runs = [run for run in (execution.started.parent, *children) if run]
        mailed = [inbox_stream(run) for run in runs]
        if execution.slots or not self.executions.keys() >= set(runs):
            mailed.append("runs")
        return mailed

    def tell(self, run: str, finished: Finished | None) -> None:
        """Tell whoever waits here how a run ended, or that it rests; None = it left memory, look elsewhere."""
        for waiter in self._waiters.pop(run, ()):
            if not waiter.done():
                waiter.set_result(finished)

    def waiter(self, run: str) -> asyncio.Future[Finished | None] | None:
        """Return a future of the end of a run that is in memory here, None if it is not; see :meth:`tell`."""
        if run not in self.executions and run not in self.starting:
            return None
        waiter: asyncio.Future[Finished | None] = self.outer.create_future()
        self._waiters.setdefault(run, []).append(waiter)
        return waiter

    def is_starting(self, run: str) -> bool:
        """Tell whether a run is on its way into memory."""
        return run in self.starting

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Do something in the background; what goes wrong with it is told to the loop's handler."""
        task = self.outer.create_task(coroutine)
        self._tasks[task] = None
        task.add_done_callback(self._reap)
        return task

    def _reap(self, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task, None)
        if (
            not task.cancelled()
            and (error := task.exception()) is not None
            and (not isinstance(error, StoreError) or isinstance(error, KeyMissing))
        ):
            self.outer.call_exception_handler(
                {"message": "background work of the engine failed", "exception": error}
            )

    # ---------------------------------------------------------------- starting

    launch = launch

    def enter(
        self,
        workflow: Workflow[..., Any],
        id: str,
        token: int,
        history: History,
        has_mail: bool = False,
        *,
        slots: tuple[Slot, ...] = (),
        seated: bool = True,
    ) -> Execution:
        """Bring a run that is owned here into memory and let it go on.

        ``slots`` are the places that it needs to execute steps; ``seated`` = it has them.
        """
        execution = enter(Execution, self, id, token, history, workflow, self.variables)
        execution.slots, execution.seated = slots, seated
        self.executions[id] = execution
        execution.had_mail = self.post.entered(id) or has_mail
        if history.started.deadline:
            delay = max(0, history.started.deadline - self.now()) / 1_000_000
            self._deadlines[id] = self.outer.call_later(
                delay, self._deadline, execution, context=self.context
            )
        execution.wake()
        return execution

    def _deadline(self, execution: Execution) -> None:
        if DEADLINE not in execution.seen and not execution.done:
            execution.seen[DEADLINE] = None
            execution.record(Kind.CANCEL_REQUESTED, DEADLINE, b'{"reason":"deadline","deadline":true}')
            execution.alter(status=execution.resting(RunStatus.CANCELLING))

    async def take_over(self, row: RunRow) -> Execution | None:
        """Take a run over and let it go on here; None when that is not possible (see :mod:`takeover`).

        Raises:
            NoRoom: it stands in line, and there is no room yet.
        """
        if row.id in self.executions or row.id in self.starting:
            return None
        self.starting.add(row.id)
        try:
            return await take_over(self, row)
        except NoRoom:
            raise
        except StoreError:
            self.orphans.add(row.id)  # it may be ours by now
            raise
        finally:
            self.entered(row.id)

    def entered(self, run: str) -> None:
        """Note that a run is in memory by now, or will not come."""
        self.starting.discard(run)
        if run not in self.executions:
            self.tell(run, None)

    # ---------------------------------------------------------------- leaving memory

    def ended_quietly(self, execution: Execution) -> None:
        """Forget an execution that left memory but has not ended."""
        self.forget(execution)
        self.tell(execution.id, None)

    def forget(self, execution: Execution) -> None:
        """Have an execution in memory no longer."""
        self.loaded.left(execution)
        timer = self._deadlines.pop(execution.id, None)
        if timer is not None:
            timer.cancel()

    def idle(self) -> list[Execution]:
        """Return the runs that only wait, longest first."""
        return list(self.loaded.idle.values())

    async def stop(self, grace: float = 10.0) -> None:
        """Let running steps end and be recorded, give the runs back to others, and stop."""
        if self.stopping:
            return
        self.stopping = True
        for unlisten in self._unlisten:
            unlisten()
        await self.pool.close(grace)
        self.flush()
        self.side.flush()
        await give_back(self)
        for task in list(self._tasks):
            task.cancel()

    def drop_all(self) -> None:
        """Leave memory at once and write nothing: the worker's own lease is lost, others own the runs."""
        for execution in list(self.executions.values()):
            execution.evict()
            self.ended_quietly(execution)
            self.counters["lost"] += 1

    def statistics(self) -> dict[str, int]:
        """Return counts of runs and steps."""
        return {
            **self.counters,
            "loaded": len(self.executions),
            "waiting": len(self.loaded.idle),
            **self.pool.statistics(),
            "cache_hits": self.cache.hits,
            "cache_misses": self.cache.misses,
        }
