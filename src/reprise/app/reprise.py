"""``Reprise``: a store, an engine and a worker, opened and closed together. Wiring only."""

from __future__ import annotations

import gc
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextvars import ContextVar
from datetime import datetime, timedelta
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack

from reprise.kernel.budget import Budget
from reprise.kernel.clock import MICROSECONDS, Clock, from_datetime
from reprise.kernel.codec import standard
from reprise.kernel.errors import ConfigurationError
from reprise.kernel.ids import Ids
from reprise.kernel.limit import EVERYWHERE, Limit, parse_limits
from reprise.kernel.policy import seconds
from reprise.kernel.settings import ProcessSettings, Settings, WorkflowSettings
from reprise.kernel.surroundings import SURROUNDINGS
from reprise.kernel.tags import as_tags
from reprise.runtime.agents import Agent
from reprise.runtime.batch import Batch
from reprise.runtime.builds import Accepts
from reprise.runtime.client import Client
from reprise.runtime.comparing import Comparison
from reprise.runtime.engine import Engine
from reprise.runtime.executors.executor import Executor
from reprise.runtime.executors.origins import check_not_importing
from reprise.runtime.handle import RunHandle
from reprise.runtime.host import Observer
from reprise.runtime.middleware import Middleware
from reprise.runtime.migrating import Carry, Migration
from reprise.runtime.payloads import LIMIT, Payloads, Redact
from reprise.runtime.registry import Registry
from reprise.runtime.rehearsal import Stage
from reprise.runtime.replaying import Replay, replay
from reprise.runtime.side import SideHandler
from reprise.runtime.starting import check_id
from reprise.runtime.worker import LEASE, Worker
from reprise.runtime.workflow import Workflow
from reprise.stores import open_store
from reprise.stores.packing import KeyRing, packed
from reprise.stores.runs import RunRow
from reprise.stores.store import Store
from reprise.workflows.flow import Definition
from reprise.workflows.house import OPEN, House, opens
from reprise.workflows.performers import AgentExecutor
from reprise.workflows.schedule import ScheduleState
from reprise.workflows.scheduler import Scheduler
from reprise.workflows.schedules import ScheduleOptions, Schedules

if TYPE_CHECKING:
    from reprise.tools.registry import ToolRegistry

T = TypeVar("T")

GC_THRESHOLD = 100_000
"""Containers made between two looks of the cycle collector while open. A run has about forty of them, all alive and in no
cycle when it ends: with a thousand runs in memory each look would go through them all and find nothing."""
DEFAULT_STORE = "sqlite:///.reprise/reprise.db"


class Reprise:
    """A running Reprise: open it with ``async with``.

    >>> import asyncio
    >>> from reprise import Reprise, step, workflow
    >>> @step
    ... async def double(n: int) -> int: return 2 * n
    >>> @workflow
    ... async def sum_of_doubles(numbers: list[int]) -> int:
    ...     return sum(await asyncio.gather(*(double(n) for n in numbers)))
    >>> async def main() -> int:
    ...     async with Reprise("memory://") as app:
    ...         return await app.run(sum_of_doubles, [1, 2, 3])
    >>> asyncio.run(main())
    12

    Options:
        store: URL or an opened-by-us store object.
        workflows: what this process can execute besides what it starts itself.
        worker: False = only start, look and signal; execute nothing here.
        claims: False = execute only what is started here, take nothing over.
        only: id of a run: take nothing over but this one and its children.
        concurrency: steps executing at once.
        max_loaded: runs in memory at once; waiting ones beyond it are let go and come back when due.
        max_loaded_bytes: about how much memory they may take.
        keep_generations: how many earlier generations of a run that continues keep their history; None = all.
        middleware: what surrounds every attempt of a step, outermost first.
        variables: context variables that enter bodies, by the name under which they are recorded.
        observers: called with (run id, events) after events are durable; must not block.
        build: name of this version of the code; runs remember which had them last, and which could not replay them.
        accepts: builds whose runs this worker takes besides those of its own: a collection, or a function of the
            name; None = of all, and what it cannot replay it leaves to others.
        limits: how many runs of all workflows may execute at once, or begin in a time (see ``Limit``).
        processes: how many processes execute steps of ``executor="process"``, or settings of theirs by name (see
            ``[processes]``); default one for each processor.
        executors: further executors by the name that steps declare.
        agents: who does the steps of plans and chains, by name; those of installed packages are known too.
        tools: a :class:`~reprise.tools.registry.ToolRegistry`, whose tools steps of plans may name.
        defaults: what plans, chains, parallel executors and sagas that start here take where they do not say otherwise:
            ``max_concurrent``, ``default_timeout``, ``retry_count``, by name or as ``WorkflowSettings``. A run keeps those
            with which it started.
        tune_gc: while open, let the cycle collector of this process look less often (see ``GC_THRESHOLD``).
        lease: seconds (or timedelta) after which others take the runs of a worker that stopped answering. One that was
            killed on the same machine is succeeded at once, without that wait.
        keys: a :class:`~reprise.stores.packing.keys.KeyRing`; payloads are sealed with its current key.
        redact: called with every text that is written for people (log lines, notes of progress, texts of errors);
            returns what may be written of it. Never called with what a step returns.
        max_payload: bytes that one value may have as JSON; a larger one is :class:`PayloadTooLarge` where it arises.
    """

    _scheduler: Scheduler | None = None

    def __init__(
        self,
        store: str | Store = DEFAULT_STORE,
        *,
        workflows: Iterable[Workflow[..., Any]] = (),
        worker: bool = True,
        claims: bool = True,
        only: str = "",
        concurrency: int = 100,
        max_loaded: int = 1000,
        max_loaded_bytes: int = 256 << 20,
        keep_generations: int | None = 10,
        middleware: Sequence[Middleware] = (),
        variables: Mapping[str, ContextVar[Any]] | None = None,
        observers: Sequence[Observer] = (),
        build: str = "",
        accepts: Accepts = None,
        limits: Limit | Iterable[Limit] = (),
        clock: Clock | None = None,
        capture_logs: bool = True,
        tune_gc: bool = True,
        grace: float = 10.0,
        lease: float | timedelta = LEASE,
        keys: KeyRing | None = None,
        redact: Redact | None = None,
        max_payload: int = LIMIT,
        processes: int | Mapping[str, Any] | ProcessSettings | None = None,
        executors: Mapping[str, Executor] | None = None,
        agents: Mapping[str, Agent] | None = None,
        tools: ToolRegistry | None = None,
        defaults: WorkflowSettings | Mapping[str, Any] | None = None,
    ) -> None:
        self.clock = clock or SURROUNDINGS.get().clock
        self.store = open_store(store, keys=keys) if isinstance(store, str) else packed(store, keys)
        payloads = Payloads(max_payload, redact)
        self.client = Client(self.store, self.clock, payloads)
        kept = _workflow_settings(defaults)
        self.registry = Registry(workflows, parse_limits(limits, EVERYWHERE), agents, kept, tools)
        self.agents = self.registry.agents
        self._ids = Ids(self.clock.now)
        self._executes = worker
        self._claims = claims
        self._only = only
        self._accepts: Accepts = accepts
        self._options: dict[str, Any] = {
            "concurrency": concurrency,
            "middleware": middleware,
            "variables": variables,
            "build": build,
            "max_loaded": max_loaded,
            "max_loaded_bytes": max_loaded_bytes,
            "keep_generations": keep_generations,
            "payloads": payloads,
            "processes": _process_settings(processes),
            "executors": executors,
        }
        self._observers = list(observers)
        self._capture_logs, self._tune_gc = capture_logs, tune_gc
        self._grace = grace
        self._lease = seconds(lease, "lease")

    _around: House | None = None
    _gc_before: tuple[int, int, int] | None = None
    _engine: Engine | None = None
    _worker: Worker | None = None
    _handler: SideHandler | None = None

    # ---------------------------------------------------------------- life

    async def __aenter__(self) -> Self:
        await self.open()
        self._around = OPEN.get()
        OPEN.set(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        OPEN.set(self._around)
        await self.close()

    async def open(self) -> None:
        """Open the store and begin to work; idempotent.

        Raises:
            ConfigurationError: a process of a step opens it, by importing a program that has no
                ``if __name__ == "__main__":``.
        """
        if self._engine is not None:
            return
        check_not_importing()
        await self.store.start()
        try:
            self._engine = Engine(
                self.store,
                self.registry,
                worker=self._ids.new(),
                clock=self.clock,
                uniform=SURROUNDINGS.get().uniform,
                **self._options,
            )
        except BaseException:  # it keeps no runs
            await self.store.stop()
            raise
        if self._tune_gc and gc.isenabled() and gc.get_threshold()[0] < GC_THRESHOLD:
            self._gc_before = gc.get_threshold()
            gc.set_threshold(GC_THRESHOLD, *self._gc_before[1:])
        self._engine.observers.extend(self._observers)
        self.client.near = self._engine.desk.near
        if self._capture_logs:
            self._handler = SideHandler(self._engine.side, self._engine)
            logging.getLogger().addHandler(self._handler)
        if self._executes:
            self._worker = Worker(
                self.store,
                self._engine,
                self.clock,
                ttl=self._lease,
                claims=self._claims,
                only=self._only,
                accepts=self._accepts,
            )
            await self._worker.start()
            if self._claims and not self._only:
                self._scheduler = Scheduler(self.store, self.clock, self.registry.defaults)
                await self._scheduler.start()

    async def close(self) -> None:
        """Let running steps end, leave unfinished runs to the next worker, close; idempotent."""
        if self._handler is not None:
            logging.getLogger().removeHandler(self._handler)
            self._handler = None
        if self._gc_before is not None:
            gc.set_threshold(*self._gc_before)
            self._gc_before = None
        if self._scheduler is not None:
            await self._scheduler.stop()
            self._scheduler = None
        if self._worker is not None:
            await self._worker.stop(self._grace)
            self._worker = None
        if self._engine is not None:
            await self._engine.stop(0)
            self._engine = self.client.near = None
            await self.store.stop()

    @cached_property
    def schedules(self) -> Schedules:
        """The schedules of the store: to look at, pause, resume, trigger, backfill, remove."""
        return Schedules(self.store, self.clock, self.registry)

    @property
    def is_open(self) -> bool:
        """Whether it is open."""
        return self._engine is not None

    @property
    def engine(self) -> Engine:
        """The engine.

        Raises:
            ConfigurationError: not open.
        """
        if self._engine is None:
            raise ConfigurationError(
                "This Reprise is not open.", hint="Use it in 'async with Reprise(…) as app:'."
            )
        return self._engine

    def register(self, definition: Definition, agent_executor: AgentExecutor | None = None) -> None:
        """Make a plan, chain, parallel executor or saga known, so that its runs go on here after a crash.

        ``agent_executor`` does its steps; without one, the ``agents`` of this app.

        Raises:
            UnknownAgent: nobody is known for one of its steps.
            ConfigurationError: another one of its name was registered, or one with another executor.
        """
        self.registry.add(definition.flow(agent_executor, self.agents))

    # ---------------------------------------------------------------- runs

    async def start(
        self,
        workflow: Workflow[..., Any],
        /,
        *args: Any,
        id: str | None = None,
        kwargs: Mapping[str, Any] | None = None,
        tags: Mapping[str, Any] | None = None,
        deadline: float | timedelta | datetime | None = None,
        signal: tuple[str, Any] | None = None,
        budget: Budget | None = None,
        detach: bool = False,
    ) -> RunHandle[Any]:
        """Start a run and return its handle; when this returns the run is durable.

        ``id`` is the run's idempotency key: starting it again with the same input returns the run there is.
        ``tags`` (text, numbers, true or false, moments) are what it is found by; see :meth:`find`. A run
        under a limit begins when there is room.

        ``deadline`` in seconds from now, as timedelta or as a moment (naive = local time). ``signal`` (name, value) is
        sent in the same commit. ``budget``: what it may spend, instead of what the workflow says. ``detach`` leaves the execution to any worker of the store.

        Raises:
            RunConflict: the id exists with another workflow or input.
            CodecError: an argument cannot be written as its declared type, or is too large; nothing was written.
        """
        engine = self.engine
        id = check_id(id) if id else self._ids.new()
        input = workflow.arguments.encode(args, kwargs or {})
        known = as_tags(tags) if tags else {}
        owned = self._executes and not detach
        before = self.registry.lend(id, workflow)
        try:
            new = await engine.launch(
                workflow,
                input,
                id,
                owned=owned,
                tags=known,
                deadline=self._deadline(deadline),
                signals=[] if signal is None else [(signal[0], standard.encode(signal[1]))],
                slots=self.registry.slots(workflow, args, kwargs or {}, known),
                budget=budget or workflow.budget,
            )
        except BaseException:
            self.registry.take_back(id, before)
            raise
        if not self._executes:
            self.registry.release(id)
        if not new and owned:
            await self._adopt(id)
        return self.handle(id, workflow)

    async def resume(self, id: str, workflow: Workflow[..., Any] | None = None) -> RunHandle[Any]:
        """Let a run that exists go on, here if nobody else executes it, and return its handle.

        One that rests (paused, stranded, needs attention) is told so through its inbox, and so are its children that
        rest. ``workflow`` is the code to go on with; it may also have been given as one of ``workflows``.

        Raises:
            RunNotFound: there is no such run.
        """
        if workflow is not None:
            self.registry.lend(id, workflow)
        row = await self.client.row(id)
        if await self.client.resting(id):
            await self.client.resume(id)
        await self._adopt(id)
        return self.handle(id, workflow or self.registry.get(row.workflow, id))

    async def retry(
        self, id: str, workflow: Workflow[..., Any] | None = None, *, fresh: bool = False
    ) -> RunHandle[Any]:
        """Try a run again that failed, was cancelled or needs attention, and return the handle of the one that goes on.

        See :meth:`RunHandle.retry`; ``workflow`` as of :meth:`resume`.

        Raises:
            RetryRefused: it cannot be tried again so; says why.
            RunNotFound: there is no such run.
        """
        return await self.resume(await self.client.retry(id, fresh=fresh), workflow)

    async def fork(
        self, run: str, workflow: Workflow[..., Any] | None = None, **options: Any
    ) -> RunHandle[Any]:
        """Start a run that goes on from what another one recorded, with other results, another input, other code.

        Options and errors as of :meth:`Client.fork`; ``workflow`` as of :meth:`resume`. What the fork begins with, and what
        that means for the outside, is in ``begins_with`` of the handle.
        """
        row = await self.client.row(run)
        made = await self.client.fork(run, workflow or self.registry.get(row.workflow), **options)
        handle = await self.resume(made.id, workflow)
        handle.begins_with = made
        return handle

    async def replay(
        self,
        run: str,
        workflow: Workflow[..., Any] | None = None,
        *,
        until: int | None = None,
        stops: Collection[str] = (),
    ) -> Replay:
        """Replay a run with the code that is here, and return how far the two go along; nothing is executed or written.

        ``until`` is the number of the record after which to stop, None = all; ``stops`` are keys or names of steps: when the
        body comes to one of them, its variables are kept. ``workflow`` as of :meth:`resume`.

        Raises:
            RunNotFound, NoSuchRecord: there is no such run or record.
            UnknownWorkflow: no ``workflow`` was given, and none of that name is known here.
            NonDeterminismError: its input does not fit the workflow any more.
        """
        workflow = workflow or self.registry[(await self.client.row(run)).workflow]
        records = await self.client.history(run)
        stage = Stage(self.clock, payloads=self._options["payloads"], registry=self.registry)
        known = self._options["variables"]
        return await replay(stage, workflow, run, records, until=until, stops=stops, variables=known)

    async def diff(self, a: str, b: str) -> Comparison:
        """Compare two runs: where they first part, and every step that differs; see :meth:`Client.diff`."""
        return await self.client.diff(a, b)

    async def migrate(
        self, id: str, carry: Carry, workflow: Workflow[..., Any] | None = None, *, dry_run: bool = False
    ) -> Migration:
        """Let a run that nobody has go on as a new generation of new code, from what ``carry`` computes of its past.

        ``workflow`` is the new code; by default what is known here under the name of the run's workflow. See
        :meth:`Client.migrate`.

        Raises:
            MigrationRefused: a worker has it, it is about to end, an effect or child of it is open, or it moved on.
            ConfigurationError: what was returned are no arguments of the workflow.
            UnknownWorkflow, RunNotFound.
        """
        if workflow is None:
            workflow = self.registry[(await self.client.row(id)).workflow]
        self.registry.add(workflow)
        return await self.client.migrate(id, carry, workflow, dry_run=dry_run)

    async def batch(self, verb: str, query: str, *, reason: str = "", fresh: bool = False) -> Batch:
        """Tell every run that a query means to pause, resume, retry, cancel, pin or unpin; return what became of each.

        Runs in whose state the ``verb`` says nothing are not meant, nor are children unless the query asks of ``id`` or
        ``parent``. ``reason`` is that of a cancel, ``fresh`` that of :meth:`retry`.

        Raises:
            QueryError: the query cannot be read; nobody was told.
            UnknownOption: there is no such verb.
        """
        return await self.client.batch(verb, query, reason=reason, fresh=fresh)

    async def _adopt(self, id: str) -> None:
        """Look at once whether a run that exists can go on here."""
        if self._worker is not None and id not in self.engine.executions:
            await self._worker.look()

    async def run(self, workflow: Workflow[..., Any], /, *args: Any, **options: Any) -> Any:
        """Start a run, wait for its end and return its result. Options and errors as of :meth:`start`, and those of
        :meth:`RunHandle.result`.
        """
        return await (await self.start(workflow, *args, **options)).result()

    async def schedule(
        self,
        name: str,
        workflow: Workflow[..., Any],
        /,
        **options: Unpack[ScheduleOptions],
    ) -> ScheduleState:
        """Start runs of a workflow by the calendar: add a schedule, or change the one of that name.

        It lives in the store, and every worker of the store starts what is due, each fire time once, as a run with the
        id ``<name>@<fire time>``. The same declaration again changes nothing, so a program may make it whenever it starts.

        Options:
            cron: five fields (minute hour day month weekday) or ``@daily`` and its like, by the clock of ``timezone``.
            every: seconds (or timedelta) of real time from one to the next, counted from ``start``, else from the epoch.
            at: one or several moments.
            timezone: a name such as ``Europe/Berlin``; also that of moments which have none.
            jitter: each run begins up to so many seconds later, by a part of it that follows from name and fire time.
            start, end: no fire time is before ``start``, or at or after ``end``.
            overlap: when the run before has not ended: "skip" the fire time, "queue" it, "allow" both at once, or
                "cancel" that run and begin when it has ended.
            catch_up: of fire times that passed while no worker was there, make up for "all", the latest "one", "none".
            window: nothing that is later than so many seconds is made up for.
            args, kwargs, tags, budget: what each run is started with, as of :meth:`start`.
            deadline: seconds (or timedelta) after its start in which a run is cancelled.
            paused: a new schedule fires nothing until it is resumed.

        Raises:
            ConfigurationError: an option cannot be so, or the workflow cannot be started with these arguments.
            CodecError: an argument cannot be written as its declared type, or all are too large.
        """
        assert self.engine
        self.registry.add(workflow)
        return await self.schedules.add(name, workflow, **options)

    def handle(self, id: str, workflow: Workflow[..., T] | None = None) -> RunHandle[T]:
        """Return the handle of a run; with its workflow the result is read as the declared type."""
        return RunHandle(
            self.client, id, workflow.decode if workflow is not None else standard.decode, self.engine.waiter
        )

    async def find(
        self, query: str = "", *, limit: int = 50, before: str = "", newest_first: bool = True
    ) -> list[RunRow]:
        """Return the runs that a query asks for, such as ``status:failed env:prod age<2h``, newest first.

        ``before`` is the last id of the page before this one.

        Raises:
            QueryError: the query cannot be read; says where.
        """
        return await self.client.find(query, limit=limit, before=before, newest_first=newest_first)

    async def count(self, query: str = "", *, by: str = "status") -> dict[str, int]:
        """Count the runs that a query asks for by status, workflow, owner, parent, build or ``tag.<name>``.

        Raises:
            QueryError: the query cannot be read; says where.
            ConfigurationError: runs cannot be counted by that.
        """
        return await self.client.count(query, by=by)

    def _deadline(self, deadline: float | timedelta | datetime | None) -> int:
        if deadline is None:
            return 0
        if isinstance(deadline, datetime):
            return from_datetime(deadline)
        return self.clock.now() + round(seconds(deadline, "deadline") * MICROSECONDS)

    def statistics(self) -> dict[str, Any]:
        """Return the counters of store, worker and schedules."""
        return {
            "store": self.store.statistics(),
            "worker": self._worker.statistics() if self._worker is not None else {},
            "schedules": self._scheduler.statistics() if self._scheduler is not None else {},
        }


opens(Reprise)


def _process_settings(given: int | Mapping[str, Any] | ProcessSettings | None) -> ProcessSettings:
    if isinstance(given, ProcessSettings):
        return given
    values = {"size": given} if isinstance(given, int | None) else given
    return Settings.from_dict({"processes": values}).processes


def _workflow_settings(given: Mapping[str, Any] | WorkflowSettings | None) -> WorkflowSettings:
    if isinstance(given, WorkflowSettings):
        return given
    return Settings.from_dict({"workflows": given or {}}).workflows
