"""Threads that take turns with the loop: of all threads of a simulation one runs at a time, and only when the loop says so.

So the SQLite keeper runs as it is, threads and all, and everything follows from the seed. A thread that waits parks:
it hands control back to the loop, and goes on in a callback of its process, when that is not paused. When the process
is killed, its threads end where they wait.
"""

from __future__ import annotations

import _thread
from asyncio import TimerHandle
from collections import deque
from collections.abc import Callable
from contextvars import Context
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from reprise.kernel.errors import RepriseError
from reprise.stores.sqlite.crew import Crew, FileLock, Queue, Semaphore, Thread
from reprise.testing.loop import SimulatedLoop

Result = TypeVar("Result")

PROMPT = 0.0005
"""Seconds that a thread needs at most to notice that it may go on."""


class Killed(BaseException):
    """The process of a thread is gone. No ``Exception``: nobody in the thread gets to see it."""


class Lockstep(Crew):
    """The threads, and what they wait for, of one simulated process."""

    def __init__(self, loop: SimulatedLoop, context: Context, locks: Locks) -> None:
        self.loop, self.context = loop, context
        self.perf_counter = loop.time
        self.current: _Thread | None = None
        """The thread that runs now; None = the loop does."""
        self.is_dead = False
        self._locks = locks
        self._threads: list[_Thread] = []

    # ---------------------------------------------------------------- what the keeper asks

    def queue(self) -> Queue[Any]:
        """Return a queue between threads."""
        return _Queue(self)

    def semaphore(self) -> Semaphore:
        """Return a semaphore that has nothing yet."""
        return _Semaphore(self)

    def begin(self, work: Callable[..., None], *args: Any, name: str) -> Thread:
        """Start a thread."""
        thread = _Thread(self, partial(work, *args), name)
        self._threads = [one for one in self._threads if not one.has_ended]
        self._threads.append(thread)
        self.wake(thread)
        return thread

    async def call(self, work: Callable[[], Result]) -> Result:
        """Do something that waits, in a thread, and return what it returns."""
        answer = self.loop.create_future()

        def run() -> None:
            tell: Callable[[Any], None] = answer.set_result
            try:
                result: Any = work()
            except Exception as error:  # noqa: BLE001  it is for whoever awaits the work
                tell, result = answer.set_exception, error
            if not answer.done():
                tell(result)

        self.begin(run, name="call")
        return await answer

    def lock(self, path: Path) -> FileLock:
        """Return the lock of a file; it is no file, and other machines do not see it."""
        return _FileLock(self, self._locks, str(path))

    # ---------------------------------------------------------------- going on

    def sleep(self, seconds: float) -> None:
        """Let time pass in the thread that runs now."""
        self.park(self.loop.time() + seconds)

    def park(self, until: float | None = None) -> None:
        """Let others go on, until somebody wakes the thread that runs now, or up to a moment."""
        thread = self._running()
        timer = None if until is None else self.wake(thread, until - self.loop.time())
        thread.park()
        if timer is not None:
            timer.cancel()
        if self.is_dead:
            raise Killed

    def wake(self, thread: _Thread, after: float | None = None) -> TimerHandle | None:
        """Let a thread go on after so many seconds, None = soon, unless something else wakes it before."""
        if self.loop.is_closed():
            return None  # all is over
        delay = self.loop.chance() * PROMPT if after is None else after
        return self.loop.call_later(delay, self._go_on, thread, thread.turns, context=self.context)

    def running(self) -> _Thread:
        """Return the thread that runs now."""
        return self._running()

    def kill(self) -> None:
        """End all threads where they wait; what they held among processes is free."""
        self.is_dead = True
        self._locks.freed_by(self)
        for thread in self._threads:
            if thread.has_begun and not thread.has_ended:
                self._run(thread)
            thread.has_ended = True

    @property
    def is_idle(self) -> bool:
        """Tell whether all threads wait for work, and there is none."""
        return all(thread.has_ended or thread.is_idle for thread in self._threads)

    def _running(self) -> _Thread:
        if self.current is None:
            raise RepriseError("The event loop itself waits for a thread of the SQLite keeper.")
        return self.current

    def _go_on(self, thread: _Thread, turns: int) -> None:
        if not thread.has_ended and thread.turns == turns:
            self._run(thread)

    def _run(self, thread: _Thread) -> None:
        before, self.current = self.current, thread
        try:
            thread.run_on()
        finally:
            self.current = before
        if thread.error is not None:
            self.loop.fail(thread.error)


class _Thread:
    """A real thread; the loop stands still while it runs, and it while the loop runs."""

    def __init__(self, crew: Lockstep, work: Callable[[], None], name: str) -> None:
        self.name = name
        self.turns = 0
        """How often it has gone on; what would wake it from an earlier time comes too late."""
        self.has_begun = self.has_ended = False
        self.is_idle = False
        """Whether it waits for work."""
        self.error: BaseException | None = None
        self.joining: list[_Thread] = []
        self._crew, self._work = crew, work
        self._go, self._back = _thread.allocate_lock(), _thread.allocate_lock()
        self._go.acquire()
        self._back.acquire()

    def run_on(self) -> None:
        """Let it run until it parks or ends; called by the loop."""
        self.turns += 1
        if self.has_begun:
            self._go.release()
        else:
            self.has_begun = True
            _thread.start_new_thread(self._main, ())
        self._back.acquire()

    def park(self) -> None:
        """Let the loop go on, until it lets this one run."""
        self._back.release()
        self._go.acquire()

    def join(self, timeout: float | None = None) -> None:
        """Wait for its end."""
        crew = self._crew
        until = None if timeout is None else crew.loop.time() + timeout
        while not self.has_ended and (until is None or crew.loop.time() < until):
            self.joining.append(crew.running())
            crew.park(until)

    def is_alive(self) -> bool:
        """Return whether it has not ended."""
        return not self.has_ended

    def _main(self) -> None:
        try:
            self._crew.context.copy().run(self._work)
        except Killed:
            pass
        except BaseException as error:  # noqa: BLE001  it ends the simulation
            self.error = error
        finally:
            self.has_ended = True
            for waiting in self.joining:
                self._crew.wake(waiting)
            self._back.release()


class _Queue:
    """A ``SimpleQueue``."""

    def __init__(self, crew: Lockstep) -> None:
        self._crew = crew
        self._items: deque[Any] = deque()
        self._waiting: deque[_Thread] = deque()

    def put(self, item: Any, /) -> None:
        self._items.append(item)
        if self._waiting:
            thread = self._waiting.popleft()
            thread.is_idle = False
            self._crew.wake(thread)

    def get(self) -> Any:
        while not self._items:
            thread = self._crew.running()
            self._waiting.append(thread)
            thread.is_idle = True
            self._crew.park()
        return self._items.popleft()

    def qsize(self) -> int:
        return len(self._items)

    def empty(self) -> bool:
        return not self._items


class _Semaphore:
    """A ``threading.Semaphore``."""

    def __init__(self, crew: Lockstep) -> None:
        self._crew = crew
        self._free = 0
        self._waiting: deque[_Thread] = deque()

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        crew = self._crew
        until = None if timeout is None else crew.loop.time() + timeout
        while not self._free:
            if not blocking or (until is not None and crew.loop.time() >= until):
                return False
            waiting = crew.running()
            self._waiting.append(waiting)
            crew.park(until)
            if waiting in self._waiting:
                self._waiting.remove(waiting)
        self._free -= 1
        return True

    def release(self) -> None:
        self._free += 1
        if self._waiting:
            self._crew.wake(self._waiting.popleft())


class Locks:
    """The file locks of a machine: who has which, and who waits. When one is free all who wait for it try again."""

    def __init__(self) -> None:
        self._held: dict[str, _FileLock] = {}
        self._waiting: dict[str, list[tuple[Lockstep, _Thread]]] = {}

    def take(self, path: str, lock: _FileLock) -> bool:
        """Give a lock to somebody, if it is free."""
        return self._held.setdefault(path, lock) is lock

    def free(self, path: str, lock: _FileLock) -> None:
        """Take it back from its holder."""
        if self._held.get(path) is lock:
            del self._held[path]
            for crew, thread in self._waiting.pop(path, ()):
                crew.wake(thread)

    def wait(self, path: str, crew: Lockstep) -> None:
        """Wait until it is worth another try."""
        self._waiting.setdefault(path, []).append((crew, crew.running()))
        crew.park()

    def freed_by(self, crew: Lockstep) -> None:
        """Take back what a process held that is gone."""
        for path, lock in list(self._held.items()):
            if lock.crew is crew:
                self.free(path, lock)


class _FileLock:
    """The lock of a file, as one process sees it."""

    def __init__(self, crew: Lockstep, locks: Locks, path: str) -> None:
        self.crew = crew
        self._locks, self._path = locks, path

    def try_take(self) -> bool:
        return self._locks.take(self._path, self)

    def take(self) -> None:
        while not self._locks.take(self._path, self):
            self._locks.wait(self._path, self.crew)

    def free(self) -> None:
        self._locks.free(self._path, self)

    def close(self) -> None:
        self.free()
