"""Workers of queues: they claim ahead, do many tasks side by side, and say in batches what came of them.

A worker claims as soon as there is room for more, and says what came of tasks as soon as one has ended; what ends meanwhile
goes together. So under load few calls claim and settle many, while the worker does what it has; and one with little to do
answers at once. When there is nothing to claim it sleeps until it is tapped, or until the keeper said that something will be
due.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

from reprise.coordination.batching import LOOK_AGAIN
from reprise.coordination.hands import Handlers, Hands
from reprise.coordination.lanes import Lanes
from reprise.coordination.tasks import Task
from reprise.kernel.errors import ConfigurationError, StoreError
from reprise.kernel.policy import Duration, seconds
from reprise.stores import queue as port
from reprise.stores.lease import Grant

if TYPE_CHECKING:
    from reprise.coordination.queue import TaskQueue

T = TypeVar("T")

_LOG = logging.getLogger(__name__)

AHEAD = 0.5
"""Seconds of work that are claimed ahead: more would keep others idle, and hold up what is urgent."""
BEAT = 10.0
"""Most seconds between two times that a worker says it is there; it counts as gone after three."""
PAUSE = (0.05, 5.0)
"""Seconds to wait after the first and the last of the times that the keeper could not be reached."""
LAST = 10.0
"""Seconds that ``stop`` waits for the keeper to take what came of the last tasks."""
_COUNTED = {"done": "completed", "gone": "completed", "ready": "failed", "dead": "dead", "back": "given_back"}
UNKNOWN = 5.0
"""Seconds after which a task that nobody here can do is offered to others again."""
AFTER_OTHERS = 0.02
"""Seconds by which a worker that gave such a task back looks later than others."""


class Job:
    """A task that is claimed here and not settled yet."""

    __slots__ = ("is_ended", "is_lost", "places", "row", "running", "task")

    def __init__(self, row: port.Task, task: Task) -> None:
        self.row = row
        self.task = task
        self.places: list[Grant] = []
        self.running: asyncio.Task[None] | None = None
        self.is_ended = self.is_lost = False


class QueueWorker:
    """Does the tasks of a queue until it is stopped.

    ``async with`` starts and drains it; ``run`` does it until it is cancelled or stopped.

    Args:
        handlers: by task type, or one for all. A coroutine function, or a plain function, which is called in a thread.
        concurrency: tasks that are done at one time.
        prefetch: tasks that are claimed ahead at most, four times ``concurrency`` by default. It claims no more than what it
            takes about half a second to do.
        timeout: seconds that a try may take, for all types or by type. A thread cannot be stopped: its task counts as failed
            and what it does goes on.
        visibility_timeout: seconds after which others get the tasks of a worker that died; renewed while it lives. None =
            the queue's.
        grace: seconds that ``stop`` waits for what is being done; what is not done by then is cancelled and given back.

    Raises ``ConfigurationError`` for numbers out of range, and without handlers.
    """

    def __init__(
        self,
        queue: TaskQueue,
        handlers: Handlers,
        *,
        concurrency: int = 50,
        prefetch: int | None = None,
        timeout: Duration | Mapping[str, Duration] | None = None,
        visibility_timeout: Duration | None = None,
        name: str = "",
        grace: Duration = 30.0,
    ) -> None:
        if concurrency < 1 or (prefetch is not None and prefetch < 0) or not handlers:
            raise ConfigurationError(
                f"A worker of queue {queue.name!r} has concurrency={concurrency}, prefetch={prefetch}, "
                f"{'no ' if not handlers else ''}handlers.",
                hint="Give at least 1, at least 0, and handlers.",
            )
        self.queue = queue
        self.name = name or f"worker-{queue.clerk.new_id()}"
        self._hands = Hands(handlers, timeout, concurrency, self.name)
        self._concurrency = concurrency
        self._prefetch = 4 * concurrency if prefetch is None else prefetch
        self._ttl = queue.visibility_timeout if visibility_timeout is None else seconds(visibility_timeout)
        self._grace = seconds(grace, "grace")
        self._jobs: dict[int, Job] = {}
        """All that is claimed, by token."""
        self._ready: deque[Job] = deque()
        """Claimed and not begun."""
        self._running = 0
        self._ends: list[port.Settlement] = []
        self._freed: list[Grant] = []
        self._wake = asyncio.Event()
        """Set when there may be room for more."""
        self._ended = asyncio.Event()
        """Set when there is something to settle."""
        self._asked = 0
        """How many it is asking for."""
        self._is_dry = False
        """Whether there was nothing more to claim when we last asked."""
        self._unknown_until = 0.0
        """Until when there may be tasks that nobody here can do."""
        self._is_stopping = False
        self._mean = 1.0
        """Seconds that a task takes, of late."""
        self._services: list[asyncio.Task[None]] = []
        self._serving = asyncio.Event()
        self.counters: dict[str, int] = dict.fromkeys(
            ("claimed", "completed", "failed", "dead", "lost", "given_back"), 0
        )
        self._waited = 0.0

    # ------------------------------------------------------------ life

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Begin to work, and return when others can see that; idempotent. Raises ``StoreUnreachable``."""
        if self._services:
            return
        self._store = await self.queue.start()
        self._is_stopping = self._is_dry = False
        await self._say_we_are_there()
        self._lanes = Lanes(self._store.lease, self._ttl, 4 * self._concurrency, self._begin, self._give_back)
        self._unlisten = self.queue.bell("").also(self._rung)
        claims = (self._claims() for _ in range(self._store.queue.claims_at_once))
        services = (self._settlements(), *claims, self._tend())
        self._services = [asyncio.create_task(service) for service in services]
        self._serving.set()

    async def ready(self) -> None:
        """Wait until it works; returns at once while it does."""
        await self._serving.wait()

    async def run(self) -> None:
        """Work until ``stop`` is called elsewhere, or this is cancelled; then drain."""
        await self.start()
        try:
            await asyncio.wait(self._services, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await self.stop()

    async def stop(self, timeout: float | None = None) -> None:
        """Claim no more, give back what was not begun, wait for the rest; idempotent, safe before start.

        What still runs after ``timeout`` seconds (None = ``grace``) is cancelled and given back: it does not count as tried.
        """
        if not self._services or self._is_stopping:
            return
        self._is_stopping = True
        self._serving.clear()
        self._unlisten()
        for job in (*self._ready, *await self._lanes.close()):
            self._give_back(job)
        self._ready.clear()
        running = [job.running for job in self._jobs.values() if job.running is not None]
        if running:
            _, late = await asyncio.wait(running, timeout=self._grace if timeout is None else timeout)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)
        self._ended.set()
        await asyncio.wait(self._services[:1], timeout=LAST)  # the settlements
        for service in self._services:
            service.cancel()
        services, self._services = self._services, []
        await asyncio.wait(services)
        with suppress(StoreError):
            await self._store.lease.drop([self._presence] if self._presence is not None else [])
        self._hands.close()
        for service in services:
            if not service.cancelled():
                service.result()

    def statistics(self) -> dict[str, int | float | str]:
        """Return counters, what it has in hand, and for how long tasks waited and took on average, in seconds."""
        claimed = self.counters["claimed"]
        return {
            **self.counters,
            "running": self._running,
            "ahead": len(self._ready),
            "waited_mean": self._waited / claimed if claimed else 0.0,
            "took_mean": self._mean,
            "name": self.name,
        }

    # ------------------------------------------------------------ rounds

    async def _claims(self) -> None:
        """Claim as soon as there is room for more."""
        timer: asyncio.TimerHandle | None = None
        while True:
            self._wake.clear()
            if not self._room():
                await self._wake.wait()
                continue
            due = await self._insist(self._claim)
            self._ended.set()
            if due is not None:
                if timer is not None:
                    timer.cancel()
                loop = asyncio.get_running_loop()
                others_first = AFTER_OTHERS if loop.time() < self._unknown_until else 0
                timer = loop.call_later(due + others_first, self._rung)

    async def _claim(self) -> float | None:
        """Claim what there is room for; return in how many seconds to look again if it is dry now."""
        heard, room = self.queue.bell("").rings, self._room()
        self._asked += room
        try:
            rows = await self._store.queue.claim(self.queue.name, self.name, room, self._ttl)
        finally:
            self._asked -= room
        for row in rows:
            self._take_in(row)
        self._fill()
        if len(rows) < room and heard == self.queue.bell("").rings:
            due = await self._store.queue.due(self.queue.name)
            if heard == self.queue.bell("").rings:
                self._is_dry = True
                return LOOK_AGAIN if due is None else min(LOOK_AGAIN, max(due, 0.001))
        return None

    async def _settlements(self) -> None:
        """Say what came of tasks as soon as there is something to say; what ends meanwhile goes together."""
        while self._ends or not (self._is_stopping and not self._jobs and not self._asked):
            self._ended.clear()
            if self._ends or self._freed:
                await self._insist(self._settle)
            else:
                await self._ended.wait()

    async def _settle(self) -> None:
        ends, self._ends = self._ends, []
        freed, self._freed = self._freed, []
        try:
            if freed:
                await self._store.lease.drop(freed)
                freed = []
            answers = await self.queue.settle(ends) if ends else []
        except StoreError:
            self._ends[:0], self._freed[:0] = ends, freed
            raise
        for end, stood in zip(ends, answers, strict=True):
            self._jobs.pop(end.task.token, None)
            self._count(end, stood=stood)

    async def _insist(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask the keeper until it can be reached."""
        pause = PAUSE[0]
        while True:
            try:
                return await ask()
            except StoreError as error:
                _LOG.warning("Queue %s cannot be reached, trying again: %s", self.queue.name, error)
                await asyncio.sleep(pause)
                pause = min(2 * pause, PAUSE[1])

    def _count(self, end: port.Settlement, *, stood: bool) -> None:
        self.counters[_COUNTED[end.state] if stood else "lost"] += 1
        if not stood:
            _LOG.warning("Another worker has the task %s by now: what we did does not count.", end.task.id)

    def _room(self) -> int:
        """Return how many tasks to claim now."""
        if self._is_stopping or self._is_dry:
            return 0
        ahead = min(self._prefetch, int(self._concurrency * AHEAD / self._mean))
        room = self._concurrency + ahead - self._running - len(self._ready) - self._asked
        # What is claimed at once, in hand and under way are about the same.
        much = room > ahead // (1 + self._store.queue.claims_at_once)
        return max(0, room) if much or not (self._ready or self._asked) else 0

    def _rung(self) -> None:
        self._is_dry = False
        self._wake.set()

    # ------------------------------------------------------------ tasks

    def _take_in(self, row: port.Task) -> None:
        if self._is_stopping:
            self._ends.append(self.queue.clerk.put_back(row))
            return
        self.counters["claimed"] += 1
        claimed_at = row.until - self._ttl * 1e6
        self._waited += max(0.0, claimed_at - max(row.offered_at, row.due_at)) / 1e6
        task = self.queue.clerk.read(row)
        if isinstance(task, port.Settlement):
            self._ends.append(task)
            return
        job = self._jobs[row.token] = Job(row, task)
        try:
            places = self.queue.places.of(task)
        except Exception as error:  # noqa: BLE001  it is the user's function that says whose place it is
            self._end(job, self.queue.clerk.given_up(task, error))
            return
        if not places:
            self._ready.append(job)
        elif away := self._lanes.line_up(job, places, self.queue.clerk.holder_of(row)):
            self._end(job, self.queue.clerk.put_back(row, away))

    def _begin(self, job: Job) -> None:
        """Do a task that has got its places, as soon as there is a hand free."""
        self._ready.append(job)
        self._fill()

    def _give_back(self, job: Job) -> None:
        self._end(job, self.queue.clerk.put_back(job.row))

    def _fill(self) -> None:
        while self._ready and self._running < self._concurrency and not self._is_stopping:
            job = self._ready.popleft()
            if not job.is_lost:
                self._running += 1
                job.running = asyncio.create_task(self._do(job))

    async def _do(self, job: Job) -> None:
        clock = asyncio.get_running_loop().time
        began = clock()
        end = await self._tried(job)
        self._running -= 1
        self._mean += (clock() - began - self._mean) / 16
        if job.is_lost:
            self._forget(job)
        else:
            self._end(job, end)
        self._fill()

    async def _tried(self, job: Job) -> port.Settlement:
        """Do a task; return how its claim ends."""
        task = job.task
        if not self._hands.can_do(task):
            _LOG.warning("Nobody here can do tasks of type %r (%s).", task.task_type, task.task_id)
            self._unknown_until = asyncio.get_running_loop().time() + 2 * UNKNOWN
            return port.Settlement(job.row, "back", delay=UNKNOWN, note=f"no handler for {task.task_type}")
        try:
            return self.queue.clerk.finished(task, await self._hands.do(task))
        except asyncio.CancelledError:
            if self._is_stopping or job.is_lost:
                return self.queue.clerk.put_back(job.row)
            return self.queue.clerk.given_up(task, "it cancelled itself")
        except Exception as error:  # noqa: BLE001  whatever a handler raises is what came of the task
            return self.queue.clerk.given_up(task, error)

    def _end(self, job: Job, end: port.Settlement) -> None:
        job.is_ended = True
        self._ends.append(end)
        self._freed += job.places
        self._ended.set()
        self._wake.set()

    def _forget(self, job: Job) -> None:
        """A claim that another has by now is no more ours to end."""
        self._jobs.pop(job.row.token, None)
        self._freed += job.places
        self._ended.set()
        self.counters["lost"] += 1

    # ------------------------------------------------------------ staying alive

    async def _tend(self) -> None:
        """Renew what we hold, say that we are there, and now and then remove what was kept for long enough."""
        clock = asyncio.get_running_loop().time
        beat = min(self._ttl / 3, BEAT)
        purge_at = clock() + self.queue.purge_interval
        while True:
            await asyncio.sleep(beat)
            try:
                await self._renew()
                await self._say_we_are_there()
                if self.queue.purge_interval and clock() >= purge_at:
                    await self.queue.purge()
                    purge_at = clock() + self.queue.purge_interval
            except StoreError as error:
                _LOG.warning("Claims on queue %s could not be renewed: %s", self.queue.name, error)

    async def _renew(self) -> None:
        jobs = [job for job in self._jobs.values() if not (job.is_lost or job.is_ended)]
        rows = await self._store.queue.extend([job.row for job in jobs], self._ttl)
        for job, row in zip(jobs, rows, strict=True):
            if row is None and not job.is_ended:
                self._lose(job)
        await self._store.lease.renew([grant for job in jobs for grant in job.places], self._ttl)

    def _lose(self, job: Job) -> None:
        _LOG.warning("The claim on task %s was lost.", job.task.task_id)
        job.is_lost = True
        if job.running is not None:
            job.running.cancel()
        else:
            self._forget(job)

    async def _say_we_are_there(self) -> None:
        self._presence = await self._store.lease.take(self.queue.workers, self.name, 3 * BEAT, shared=True)
