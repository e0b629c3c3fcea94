"""An event loop without time: the clock jumps to the next timer, and a seed decides what runs first.

Everything that plain asyncio code does on it is a function of the code and the seed. So a week passes in milliseconds,
and what went wrong once goes wrong again. Work for threads is done on the loop at some moment of its own; whatever
leads outside (sockets, processes) is refused.
"""

from __future__ import annotations

import asyncio
import gc
import heapq
from asyncio import events
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, ContextVar, copy_context
from hashlib import blake2b
from math import ceil
from typing import Any, Protocol, TypeVar, cast

from reprise.kernel.chance import seeded
from reprise.kernel.clock import MICROSECONDS, Clock
from reprise.kernel.errors import RepriseError
from reprise.kernel.surroundings import SURROUNDINGS, Surroundings
from reprise.testing.reality import Reality, refusal

T = TypeVar("T")

START = 1_767_225_600 * MICROSECONDS
"""When simulations begin: 2026-01-01, a Thursday, in UTC."""
PATIENCE = 0.1
"""Part of an idle time by which periodic looks come later, see :class:`~reprise.kernel.surroundings.Surroundings`."""
FOREVER = 100 * 366 * 86_400 * MICROSECONDS
"""Virtual time after which whoever still waits is taken to wait in vain."""
STANDSTILL = 1_000_000
"""Rounds in which time does not move, after which it is taken for standing still."""
COLLECT = 200_000
"""Callbacks between two looks for garbage, which must not come at a moment of its own."""
WORK = 0.002
"""Seconds that work in a thread takes at most, besides what it sleeps."""

_OUTSIDE = (
    "create_connection create_server create_unix_connection create_unix_server create_datagram_endpoint sendfile "
    "start_tls connect_accepted_socket sock_recv sock_recv_into sock_recvfrom sock_recvfrom_into sock_sendall "
    "sock_sendto sock_connect sock_accept sock_sendfile connect_read_pipe connect_write_pipe subprocess_shell "
    "subprocess_exec add_reader remove_reader add_writer remove_writer add_signal_handler remove_signal_handler "
    "getaddrinfo getnameinfo"
).split()


class Deadlock(RepriseError):
    """Everybody waits, and nothing will ever happen."""

    hint = "Look at what each waits for; nobody is left to bring it."


class Standstill(RepriseError):
    """Callbacks run for ever and time does not pass."""

    hint = "Look for a loop that awaits only asyncio.sleep(0)."


class Place(Protocol):
    """Where callbacks run: a process that may be paused or dead. See :class:`~reprise.testing.node.Node`."""

    def admits(self, handle: asyncio.Handle) -> bool:
        """Tell whether a callback may run now; one that may not is kept or forgotten by the place."""
        ...


class _Everywhere:
    """Outside of all processes: where the test itself runs."""

    def admits(self, handle: asyncio.Handle) -> bool:
        """Return True."""
        return True


EVERYWHERE = _Everywhere()
PLACE: ContextVar[Place | None] = ContextVar("reprise_place", default=None)
"""Where the running code runs; what has none runs where it was called from."""


class _Handle(asyncio.Handle):
    """A callback and where it runs."""

    __slots__ = ("place",)
    place: Place


class _Timer(asyncio.TimerHandle):
    """The same, later."""

    __slots__ = ("place",)
    place: Place


class SimulatedClock:
    """The clock of a simulation."""

    def __init__(self, loop: SimulatedLoop) -> None:
        self._loop = loop

    def now(self) -> int:
        """Return microseconds since the epoch (UTC)."""
        return START + self._loop.elapsed

    def monotonic(self) -> float:
        """Return seconds since the simulation began."""
        return self._loop.time()


class SkewedClock:
    """A clock that is wrong: ahead ``by`` seconds, and ``rate`` times as fast.

    >>> from reprise.kernel.clock import VirtualClock
    >>> SkewedClock(VirtualClock(start=0), by=2.0).now()
    2000000
    """

    def __init__(self, clock: Clock, by: float = 0.0, rate: float = 1.0) -> None:
        self._clock = clock
        self._began = clock.now()
        self._began_at = clock.monotonic()
        self._by = round(by * MICROSECONDS)
        self._rate = rate

    def now(self) -> int:
        """Return microseconds since the epoch, as this clock sees it."""
        return self._began + self._by + round((self._clock.now() - self._began) * self._rate)

    def monotonic(self) -> float:
        """Return seconds, as fast as this clock goes."""
        return self._began_at + (self._clock.monotonic() - self._began_at) * self._rate


class SimulatedLoop(asyncio.BaseEventLoop):
    """A loop in virtual time.

    ``seed`` decides the order of what is ready at the same time, and all chance; None = in the order it was made ready,
    as on a real loop. ``trace()`` says what ran, in one number: the same seed and code give the same.
    """

    def __init__(self, seed: int | None = 0) -> None:
        super().__init__()
        self.seed = seed
        self.elapsed = 0
        """Microseconds since the simulation began."""
        self.ran = 0
        """Callbacks that ran."""
        self.clock: Clock = SimulatedClock(self)
        self.reality = Reality()
        self.place: Place = EVERYWHERE
        """Where the callback that runs now runs."""
        self._order = None if seed is None else seeded(b"order %d" % seed)
        self._queue: list[_Handle | _Timer] = []
        self._timers: list[tuple[int, int, _Timer]] = []
        self._made = 0
        self._still = 0
        self._tasks: list[asyncio.Task[Any]] = []
        self._trace = blake2b(digest_size=8)
        self._failure: BaseException | None = None

    # ---------------------------------------------------------------- what asyncio asks

    def time(self) -> float:
        """Return the seconds since the simulation began."""
        return self.elapsed / MICROSECONDS

    def call_soon(
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """Run a callback in the next round."""
        self._check_closed()  # type: ignore[attr-defined]
        handle = _Handle(callback, args, self, context)
        handle.place = self._place_of(context)
        self._queue.append(handle)
        return handle

    call_soon_threadsafe = call_soon

    def call_later(
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Run a callback after ``delay`` seconds, however short later than now."""
        when = self.time() + delay
        if delay > 0:
            when = max(when, (self.elapsed + 1) / MICROSECONDS)
        return self.call_at(when, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Run a callback at ``when`` of this loop's time, to the microsecond."""
        self._check_closed()  # type: ignore[attr-defined]
        handle = _Timer(when, callback, args, self, context)
        handle.place = self._place_of(context)
        self._push(handle)
        return handle

    def _push(self, timer: _Timer) -> None:
        self._made += 1
        heapq.heappush(self._timers, (ceil(timer.when() * MICROSECONDS - 0.001), self._made, timer))

    def create_task(
        self, coro: Generator[Any, None, T] | Coroutine[Any, Any, T], **options: Any
    ) -> asyncio.Task[T]:
        """Start a task, and remember it for who asks what everybody waits for."""
        task = super().create_task(coro, **options)
        self._tasks.append(task)
        if len(self._tasks) >= 256 and not len(self._tasks) & (len(self._tasks) - 1):
            self._tasks = [one for one in self._tasks if not one.done()]
        return task

    def run_in_executor(self, executor: object, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:
        """Do work of a thread on the loop, at a moment that the seed decides; what it sleeps passes before its answer."""
        answer: asyncio.Future[T] = self.create_future()
        self.call_later(self.chance() * WORK, self._work, answer, func, args)
        return answer

    def chance(self) -> float:
        """Return a number from 0 to 1 that follows from the seed; without one 0."""
        return self._order.random() if self._order is not None else 0.0

    def trace(self) -> str:
        """Return what ran so far and when, as one number."""
        return self._trace.hexdigest()

    def tasks(self) -> list[asyncio.Task[Any]]:
        """Return the tasks that have not ended, in the order in which they were made."""
        return [task for task in self._tasks if not task.done()]

    def _work(self, answer: asyncio.Future[Any], func: Callable[..., Any], args: tuple[Any, ...]) -> None:
        if answer.cancelled():
            return
        reality, before = self.reality, self.reality.slept
        reality.in_thread = True
        events._set_running_loop(None)
        settle: Callable[[Any], None] = answer.set_result
        try:
            value = func(*args)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001  it is for whoever awaits the work
            settle, value = answer.set_exception, error
        finally:
            reality.in_thread = False
            events._set_running_loop(self)
        self.call_later(reality.slept - before, _settle, answer, settle, value)

    def _place_of(self, context: Context | None) -> Place:
        place = context.get(PLACE) if context is not None else None
        return self.place if place is None else place

    # ---------------------------------------------------------------- going round

    def _run_once(self) -> None:
        if not self._queue and not self._timers:
            raise Deadlock(f"After {self.time():g} s nobody can go on. {self.waits()}")
        self._let_time_pass()
        queue, self._queue = self._queue, []
        if self._order is not None and len(queue) > 1:
            self._order.shuffle(queue)
        for handle in queue:
            if not handle.cancelled():
                self._run(handle)
        self._still += 1
        if self._still > STANDSTILL:
            raise Standstill(f"{STANDSTILL:,} rounds at {self.time():g} s. {self.waits()}")

    def _let_time_pass(self) -> None:
        timers = self._timers
        while timers and timers[0][2].cancelled():
            heapq.heappop(timers)
        if timers and not self._queue and timers[0][0] > self.elapsed:
            self.elapsed = timers[0][0]
            self._still = 0
            if self.elapsed > FOREVER:
                raise Deadlock(f"For a hundred years nothing happens but periodic looks. {self.waits()}")
        # Of timers that are overdue, those that were due first come a round before the others.
        due = timers[0][0] if timers else self.elapsed + 1
        while timers and timers[0][0] == due <= self.elapsed:
            self._queue.append(heapq.heappop(timers)[2])

    def _run(self, handle: _Handle | _Timer) -> None:
        place = handle.place
        if not place.admits(handle):
            return
        self.place = place
        self.ran += 1
        self._trace.update(b"%d %b\n" % (self.elapsed, name_of(handle).encode()))
        if not self.ran % COLLECT:
            gc.collect()
        handle._run()
        self.place = EVERYWHERE
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def fail(self, error: BaseException) -> None:
        """End the simulation with an error that no callback can swallow."""
        self._failure = self._failure or error

    def take(self, handle: asyncio.Handle) -> None:
        """Run a callback that its place kept back, in the next round."""
        if isinstance(handle, _Timer):
            self._push(handle)
        else:
            self._queue.append(cast("_Handle", handle))

    def waits(self) -> str:
        """Say in words who waits, and where."""
        tasks = self.tasks()
        lines = [f"{task.get_name()} at {place_of(task)}" for task in tasks[:20]]
        more = f" and {len(tasks) - 20} more" if len(tasks) > 20 else ""
        return f"Waiting: {'; '.join(lines) or 'nobody'}{more}."

    # ---------------------------------------------------------------- the end

    def end(self) -> None:
        """Cancel what still goes on, as far as it lets itself be cancelled, and close."""
        left = self.tasks()
        for task in left:
            task.cancel()
        try:
            if left:
                self.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        except (Deadlock, Standstill, RuntimeError):
            pass
        finally:
            for task in self.tasks():
                abandon(task)
            self._queue.clear()
            self._timers.clear()
            self.close()

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        pass

    def _write_to_self(self) -> None:
        pass


for _name in _OUTSIDE:
    setattr(SimulatedLoop, _name, refusal(_name))


def _settle(answer: asyncio.Future[Any], settle: Callable[[Any], None], value: Any) -> None:
    if not answer.done():
        settle(value)


def name_of(handle: asyncio.Handle) -> str:
    """Return the name of what a callback does, the same in every process."""
    callback: Any = handle._callback
    owner = getattr(callback, "__self__", None)
    if isinstance(owner, asyncio.Task):
        callback = cast("asyncio.Task[Any]", owner).get_coro()
    while hasattr(callback, "func"):
        callback = callback.func
    return getattr(callback, "__qualname__", type(callback).__name__)


def place_of(task: asyncio.Task[Any]) -> str:
    """Return where a task waits: the file and line of its innermost await outside of asyncio."""
    awaited: Any = task.get_coro()
    frame: Any = None
    while awaited is not None:
        inner = getattr(awaited, "cr_frame", None) or getattr(awaited, "gi_frame", None)
        inner = getattr(awaited, "ag_frame", None) or inner
        if inner is not None and not inner.f_globals.get("__name__", "").startswith("asyncio"):
            frame = inner
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)
    return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else "its end"


def abandon(task: asyncio.Task[Any]) -> None:
    """Close a task's coroutine without letting it go on; what its ``finally`` says is nobody's news."""
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    coroutine: Any = task.get_coro()
    for _ in range(100):
        try:
            coroutine.close()
        except RuntimeError:
            continue
        except BaseException:  # noqa: BLE001, S110  it is taken out of memory
            pass
        return


def run(main: Callable[[], Coroutine[Any, Any, T]], *, seed: int | None = 0, patience: float = PATIENCE) -> T:
    """Run a coroutine function in virtual time and return what it returns.

    Clock, ids and chance of a ``Reprise`` made inside come from the simulation. ``seed`` decides the order of whatever
    could happen in several; None = the plain order. With ``patience`` periodic looks at nothing become rare, so that
    idle weeks cost nothing; 0 = they come as on a real machine.

    Raises:
        Deadlock: everybody waits for something that cannot come; says who and where.
        RealWait: something waited for real time, which does not pass here; says where.
        NoOutside: something opened a socket or started a process.

    >>> async def week() -> float:
    ...     await asyncio.sleep(7 * 86_400)
    ...     return asyncio.get_running_loop().time()
    >>> run(week)
    604800.0
    """
    return run_on(SimulatedLoop(seed), main, patience=patience)


def run_on(loop: SimulatedLoop, main: Callable[[], Coroutine[Any, Any, T]], *, patience: float = 0.0) -> T:
    """Run a coroutine function on a loop and close that; errors as of :func:`run`."""
    chance = seeded(b"chance %d" % (loop.seed or 0))
    around = copy_context()
    around.run(PLACE.set, EVERYWHERE)
    around.run(SURROUNDINGS.set, Surroundings(loop.clock, chance.randbytes, chance.random, patience))
    collects = gc.isenabled()
    gc.disable()
    try:
        with loop.reality.kept_out():
            value = around.run(_run, loop, main)
        loop.reality.check()
    finally:
        if collects:
            gc.enable()
    return value


def _run(loop: SimulatedLoop, main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    try:
        return loop.run_until_complete(loop.create_task(main(), name="main"))
    finally:
        loop.end()
