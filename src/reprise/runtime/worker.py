"""A worker: takes runs that are due, also those of workers that died, and keeps its own lease alive.

Workers need no coordinator. Each looks into the index of runs when it is tapped, when a timer of a parked run is due,
and once a second. Two may want the same run: the append that takes it over is conditional, one of them wins.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from heapq import heappop, heappush, nsmallest
from itertools import takewhile

from msgspec.structs import replace

from reprise.kernel.clock import MICROSECONDS, Clock
from reprise.kernel.errors import AppendRefused, NoRoom, StoreError
from reprise.kernel.ids import Ids
from reprise.kernel.machine import RunStatus
from reprise.kernel.surroundings import Rhythm
from reprise.runtime.builds import Accepts, Builds
from reprise.runtime.carriage import is_of
from reprise.runtime.engine import Engine
from reprise.runtime.parking import park, show_resting
from reprise.runtime.takeover import point_out
from reprise.stores.lease import Grant
from reprise.stores.runs import Line, RunFilter, RunRow, find_row
from reprise.stores.store import Store

_LOG = logging.getLogger(__name__)

LEASE = 15.0
"""Seconds after which a worker that does not renew is taken for dead."""
LOOK = 1.0
"""Seconds between two looks into the index when nothing taps the worker."""
RESTS = 1.0
"""Seconds after which a run that only waits is shown as waiting."""
IDLE = 60.0
"""Seconds that a run may wait in memory before it is let go."""
STRANGER = 5.0
"""Seconds that a run of a workflow not known here waits for another worker before it is shown as stranded."""
BATCH = 200
"""Runs taken in one look."""
DUES = 100_000
"""Moments at which timers of parked runs are due that are kept in memory."""
LIVE = (
    RunStatus.PENDING,
    RunStatus.RUNNING,
    RunStatus.WAITING,
    RunStatus.CANCELLING,
    RunStatus.COMPENSATING,
    RunStatus.STRANDED,
)


class Worker:
    """Executes due runs of a store through an engine."""

    def __init__(
        self,
        store: Store,
        engine: Engine,
        clock: Clock,
        *,
        ttl: float = LEASE,
        idle: float = IDLE,
        claims: bool = True,
        only: str = "",
        accepts: Accepts = None,
    ) -> None:
        self._store = store
        self._engine = engine
        self._clock = clock
        self._ttl = ttl
        self._idle = idle
        self._claims = claims
        self._only = only
        self._builds = Builds(engine.build, accepts)
        self._ids = Ids(clock.now)
        self._presence = store.presence
        self._grant: Grant | None = None
        self._tapped = asyncio.Event()
        self._rhythm = Rhythm(clock)
        self._blind = False
        """Whether the last look failed because the store did."""
        self._tasks: list[asyncio.Task[None]] = []
        self._undo: list[Callable[[], None]] = []
        self._next: asyncio.TimerHandle | None = None
        self._dues: list[int] = []
        """When timers of parked runs are due, a heap; some may have been given up."""
        self._stopping = False
        self._first = True
        self._strangers_at = 0.0
        self.drained = asyncio.Event()

    @property
    def id(self) -> str:
        """Name under which runs are owned; a new one after a lease was lost."""
        return self._engine.worker

    async def start(self) -> None:
        """Take the worker's lease and begin to look for runs; idempotent."""
        if self._tasks:
            return
        await self._become(self._engine.worker)
        self._engine.start()
        self._engine.on_parked = self._look_at
        self._undo.append(self._store.signal.listen("runs", lambda _: self._tapped.set()))
        self._tasks = [asyncio.create_task(self._renew()), asyncio.create_task(self._look())]

    async def _become(self, name: str) -> None:
        await self._presence.enter(name)
        self._grant = await self._store.lease.take(f"worker/{name}", name, self._ttl)
        self._engine.worker = name

    async def stop(self, grace: float = 10.0) -> None:
        """Take nothing more, let running steps end, give the runs to others; idempotent, safe before start."""
        if self._stopping:
            return
        self._stopping = True
        for undo in self._undo:
            undo()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._next is not None:
            self._next.cancel()
        await self._engine.stop(grace)
        if self._grant is not None:
            with suppress(StoreError):
                await self._store.lease.drop([self._grant])
        with suppress(StoreError):
            await self._presence.leave(self._engine.worker)
        self._store.signal.wake(["runs"])
        self.drained.set()

    # ---------------------------------------------------------------- the lease

    async def _renew(self) -> None:
        wait = self._ttl / 3
        while True:
            await asyncio.sleep(wait)
            wait = self._rhythm.next(self._ttl / 3)
            with suppress(StoreError):  # tried again soon; the log refuses whatever we may not do
                if self._grant is not None:
                    ttl = max(self._ttl, 3 * wait)
                    self._grant = (await self._store.lease.renew([self._grant], ttl))[0]
                if self._grant is None:
                    await self._lost()

    async def _lost(self) -> None:
        """Others may own our runs by now: leave them, and begin again under a new name."""
        self._engine.drop_all()
        await self._presence.leave(self._engine.worker)
        await self._become(self._ids.new())
        self._tapped.set()

    # ---------------------------------------------------------------- looking for work

    def _look_at(self, due_at: int | None) -> None:
        """Look again when a timer of a parked run is due."""
        if due_at is None:
            return
        heappush(self._dues, due_at)
        if len(self._dues) > DUES:  # the periodic look finds the rest
            self._dues = nsmallest(DUES // 2, self._dues)
        self._arm()

    def _arm(self) -> None:
        """Wake up at the first of those moments, however many were given up before it."""
        if not self._dues:
            return
        loop = asyncio.get_running_loop()
        # At least a millisecond: a clock that stands still must not make us go round.
        at = loop.time() + max(0.001, (self._dues[0] - self._clock.now()) / MICROSECONDS)
        if self._next is None or self._next.cancelled() or self._next.when() > at:
            if self._next is not None:
                self._next.cancel()
            self._next = loop.call_at(at, self._timer_due)

    def _timer_due(self) -> None:
        self._next = None
        now = self._clock.now()
        while self._dues and self._dues[0] <= now:
            heappop(self._dues)
        self._tapped.set()
        self._arm()

    async def _look(self) -> None:
        while True:
            self._tapped.clear()
            full = await self._try_to_look()
            if full:
                await asyncio.sleep(0)
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(self._rhythm.next(LOOK)):
                    await self._tapped.wait()
                    self._rhythm.news()

    async def look(self) -> bool:
        """Look once: take due runs, bring mail, let long waits go; True when there is more to take."""
        await self._park_idle()
        await self._retry()
        dead = await self._dead()
        due = await self._due(dead, BATCH)
        await self._point_out_strangers(dead)
        here = [row for row in due if row.id in self._engine.executions]
        others = [row for row in due if row.id not in self._engine.executions]
        rows = others[: await self._engine.loaded.make_room(len(others))]
        taken = await self._take([*here, *rows])
        if dead and not self._only:
            await self._forget(dead)
        return taken > 0 and (len(due) == BATCH or len(rows) < len(others))

    async def _take(self, rows: Sequence[RunRow]) -> int:
        """Act on runs side by side, so that what they write shares commits; return how many were taken."""
        outcomes = await asyncio.gather(*map(self._try, rows), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException) and not isinstance(outcome, NoRoom):
                raise outcome
        if any(isinstance(outcome, NoRoom) for outcome in outcomes):
            self._tapped.set()  # others were faster: see whether there is room still
        return sum(outcome is True for outcome in outcomes)

    async def _forget(self, dead: list[str]) -> None:
        """Forget the dead that own nothing more; what is left of the others still says that they died."""
        left = await self._store.runs.owners()
        for worker in dead:
            if worker not in left:
                await self._presence.forget(worker)

    async def _due(self, dead: list[str], limit: int) -> list[RunRow]:
        """Return the runs to act on; at the first look also those that were stranded before this worker came."""
        now, runs, builds = self._clock.now(), self._store.runs, self._builds
        first, self._first = self._first and self._claims, False
        lines = await self._open_lines()
        if self._only:
            rows = (await self._due_of_family(now, dead, lines, first))[:limit]
        else:
            rows = await runs.due(
                now,
                owner=self.id,
                dead=dead,
                workflows=self._engine.registry.names(),
                build=builds.own,
                shunned=builds.shunned,
                lines=lines,
                limit=limit,
            )
            rows += await runs.find(RunFilter(status=(RunStatus.STRANDED,)), limit=BATCH) if first else []
        met = len(builds.shunned)
        admitted = [row for row in rows if row.owner == self.id or builds.admits(row)]
        if len(builds.shunned) > met:
            self._tapped.set()  # for what those runs hid
        return admitted

    async def _due_of_family(
        self, now: int, dead: list[str], lines: Sequence[Line], first: bool
    ) -> list[RunRow]:
        there_is_room = {line.slots for line in lines}
        return [
            row
            async for row in self._family()
            if is_of(row, self._only)
            and (
                row.owner in dead
                or (row.owner in (None, self.id) and row.due_at is not None and row.due_at <= now)
                or (row.in_line and row.slots in there_is_room)
                or (first and row.status == RunStatus.STRANDED)
            )
        ]

    async def _open_lines(self) -> list[Line]:
        """Return the lines in which there is room, and look again when places end by themselves."""
        found: list[Line] = []
        for line in await self._store.runs.lines():
            if room := self._engine.registry.room(line):
                found.append(replace(line, asked=room))
            timed = zip(line.slots, line.free_in, strict=True)
            if ends := [free_in or slot.period for slot, free_in in timed if slot.period]:
                self._look_at(self._clock.now() + min(ends))
        return found

    async def _point_out_strangers(self, dead: list[str]) -> None:
        """Show as stranded what nobody took for a while, and why it cannot be executed here."""
        now = self._clock.monotonic()
        if not self._claims or self._only or now < self._strangers_at:
            return
        self._strangers_at = now + STRANGER
        due_since = self._clock.now() - round(STRANGER * MICROSECONDS)
        runs, lines = self._store.runs, await self._store.runs.lines()
        for row in await runs.due(due_since, owner=self.id, dead=dead, lines=lines, limit=BATCH):
            reason = self._why_not(row)
            if reason and row.created_at <= due_since and row.id not in self._engine.executions:
                with suppress(AppendRefused):
                    await point_out(self._engine, row, reason)

    def _why_not(self, row: RunRow) -> str:
        """Return why this worker cannot execute a run, '' when it can."""
        registry = self._engine.registry
        if registry.get(row.workflow, row.id) is None:
            return registry.why_not(row.workflow, self.id)
        if self._builds.admits(row):
            return ""
        if row.pinned:
            return f"it is pinned to build {row.pinned!r}"
        if row.build in self._builds.shunned:
            return (
                f"worker {self.id} (build {self._builds.own!r}) does not accept runs of build {row.build!r}"
            )
        return row.error or f"build {self._builds.own!r} cannot replay it"

    async def _family(self) -> AsyncIterator[RunRow]:
        """Yield the runs that have not ended and whose id begins as that of the one we are for."""
        where = RunFilter(prefix=self._only, status=(*LIVE, RunStatus.PAUSED, RunStatus.NEEDS_ATTENTION))
        before = ""
        while rows := await self._store.runs.find(where, limit=BATCH, before=before, newest_first=False):
            for row in rows:
                yield row
            before = rows[-1].id if len(rows) == BATCH else ""
            if not before:
                return

    async def _try_to_look(self) -> bool:
        """Look, and say when the store begins to fail and when it is well again; True when there may be more to do."""
        try:
            full = await self.look()
        except StoreError as error:
            if not self._blind:
                _LOG.warning(
                    "Worker %s cannot look for runs, and goes on trying. %s", self._engine.worker, error
                )
            self._blind = True
            return False
        if self._blind:
            _LOG.warning("Worker %s can look for runs again.", self._engine.worker)
        self._blind = False
        return full

    async def _try(self, row: RunRow) -> bool:
        """Act on a run; what is wrong with it must not keep the worker from the others."""
        try:
            return await self._act(row)
        except StoreError:
            raise
        except Exception as error:
            message = f"run {row.id} of {row.workflow!r} could not be taken up"
            asyncio.get_running_loop().call_exception_handler({"message": message, "exception": error})
            return False

    async def _act(self, row: RunRow) -> bool:
        engine = self._engine
        if row.id in engine.executions:
            await self._store.runs.mark(row.id, None)
            engine.post.bring(row.id)
            return False
        if not self._claims and row.id not in engine.expected:
            return False
        known = engine.registry.get(row.workflow, row.id) is not None
        if not known and (row.status == RunStatus.STRANDED or row.workflow in engine.registry.names()):
            return False  # of that name only those runs are done here to which a flow was lent
        taken = await engine.take_over(row) is not None
        engine.expected.discard(row.id)
        return taken

    async def _dead(self) -> list[str]:
        """Return workers that own runs and are no more."""
        if not self._claims:
            return []
        others = [owner for owner in await self._store.runs.owners() if owner != self.id]
        died, lease = await self._presence.died(others), self._store.lease
        return [owner for owner in others if owner in died or not await lease.holder(f"worker/{owner}")]

    async def _park_idle(self) -> None:
        engine, now = self._engine, self._clock.monotonic()
        await park(engine, takewhile(lambda one: one.idle_since <= now - self._idle, engine.idle()))
        resting = takewhile(lambda one: one.idle_since <= now - RESTS, engine.idle())
        await show_resting(engine, [one for one in resting if not one.rests])

    async def _retry(self) -> None:
        """Look again after runs whose store failed us: those we may own without having them, and unread mail."""
        engine = self._engine
        unread, engine.post.unread = engine.post.unread, set()
        for run in unread:
            engine.post.bring(run)
        for run in list(engine.orphans):
            row = await find_row(self._store.runs, run)
            if row is not None and row.owner == self.id:
                await self._try(row)
                if run not in engine.executions:
                    continue  # something of ours is still on its way: it stays an orphan
            engine.orphans.discard(run)

    def statistics(self) -> dict[str, int | str]:
        """Return the engine's counts and the worker's name."""
        return {"worker": self.id, **self._engine.statistics()}
