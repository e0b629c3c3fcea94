"""The event loop that a body sees: a ready queue of its own, without clock, sockets or threads.

The body of a run executes here. Tasks, futures, locks, queues and timeouts of plain asyncio use this face and nothing
else, so whatever they do is a function of what is delivered and in which order. The loop starts nothing itself: timers
it was asked for are collected in ``to_arm``; :mod:`reprise.runtime.execution` arms them outside of the drain.
"""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
import weakref
from asyncio import events
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import suppress
from hashlib import blake2b
from typing import Any, cast

from reprise.kernel.clock import Clock
from reprise.kernel.errors import BodyError, BusyBodyError, Evicted
from reprise.runtime.branch import BRANCH, Branch
from reprise.runtime.handles import Handle, RunTask, TimerHandle
from reprise.runtime.step import StepCall

SLICE = 0.005
"""Seconds after which a drain lets the outer loop run."""
FAST = 256
"""Handles that a drain runs before it starts to look at the clock."""
SPIN = 32
"""Rounds of a long drain before it looks for a fixed point."""
BUSY = 2_000_000
"""Rounds after which a body that is never quiet is given up."""
REFUSALS = 100
"""How often a body may call the loop while it is unwound before the loop goes inert."""

_FORBIDDEN = (
    "run_forever run_until_complete stop close run_in_executor set_default_executor getaddrinfo getnameinfo "
    "create_connection create_server create_unix_connection create_unix_server create_datagram_endpoint sendfile "
    "start_tls connect_accepted_socket sock_recv sock_recv_into sock_recvfrom sock_recvfrom_into sock_sendall "
    "sock_sendto sock_connect sock_accept sock_sendfile connect_read_pipe connect_write_pipe subprocess_shell "
    "subprocess_exec add_reader remove_reader add_writer remove_writer add_signal_handler remove_signal_handler "
    "set_task_factory set_exception_handler set_debug shutdown_default_executor"
).split()

_ENSURE_FUTURE = {
    getattr(asyncio.tasks, name).__code__
    for name in ("ensure_future", "_ensure_future")
    if hasattr(asyncio.tasks, name)
}
_GATHER = asyncio.gather.__code__
_AS_COMPLETED = {
    "as_completed",
    "_AsCompletedIterator.__init__",
    "as_completed.<locals>.<setcomp>",
    "_AsCompletedIterator.__init__.<locals>.<setcomp>",
}


def _under_as_completed(frame: Any) -> bool:
    """Tell whether ``ensure_future`` was called by ``asyncio.as_completed``, which starts coroutines in address order."""
    for _ in range(3):
        frame = frame.f_back
        if frame is None:
            return False
        code = frame.f_code
        if getattr(code, "co_qualname", code.co_name) in _AS_COMPLETED:
            return frame.f_globals.get("__name__") == "asyncio.tasks"
    return False


class RunLoop(asyncio.AbstractEventLoop):
    """The loop of one run."""

    def __init__(
        self,
        outer: asyncio.AbstractEventLoop,
        run: str,
        seed: str,
        fail: Callable[[BodyError], None],
        clock: Clock,
    ) -> None:
        self.outer = outer
        self._clock = clock
        self.run = run
        self.now = 0.0
        """Time of the record being delivered, in seconds; stands still in a drain."""
        self.ready: deque[Handle] = deque()
        self.timers: dict[str, TimerHandle] = {}
        self.to_arm: dict[str, TimerHandle] = {}
        self.tasks: dict[RunTask, None] = {}
        self.lost_generators: list[AsyncGenerator[Any, Any]] = []
        self.generators: weakref.WeakSet[AsyncGenerator[Any, Any]] | None = None
        self.poison: BodyError | None = None
        """The first thing that only a step may do; fails the run even if the body swallowed it."""
        self.numbered = int.from_bytes(blake2b(seed.encode(), digest_size=7).digest(), "big")
        """Number of the latest task. It starts at a hash, the same in every replay: asyncio keeps the tasks of all runs
        in one set, where equal numbers would collide."""
        self.refusals = 0
        self._fail = fail
        self._thread = threading.get_ident()
        self._entered = False
        self._keep_timer: Callable[[TimerHandle], bool] = _keep_no_timer
        self._closed = False
        self._rounds = 0
        self._left = 0
        self._ran: list[tuple[Any, Any]] | None = None
        self.touched = False
        """Somebody who was to read only asked something of the loop."""

    # ---------------------------------------------------------------- what tasks, futures and locks ask

    def get_debug(self) -> bool:
        """Return False: the debug mode of asyncio reads the clock."""
        return False

    def is_running(self) -> bool:
        """Return True: whoever can ask runs on it."""
        return True

    def is_closed(self) -> bool:
        """Tell whether the run has left memory."""
        return self._closed

    def time(self) -> float:
        """Return the time of the record being delivered, in seconds since the epoch."""
        return self.now

    def get_exception_handler(self) -> None:
        """Return None."""

    def get_task_factory(self) -> None:
        """Return None."""

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """Pass on to the outer loop."""
        self.outer.call_exception_handler(context)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Pass on to the outer loop."""
        self.outer.call_exception_handler(context)

    def create_future(self) -> asyncio.Future[Any]:
        """Return a future of this loop."""
        return asyncio.Future(loop=self)

    def call_soon(
        self, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> Any:
        """Put a callback at the end of the ready queue."""
        if context is None:
            context = contextvars.copy_context()
        handle = Handle(callback, args, context)
        self.ready.append(handle)
        return handle

    def call_soon_threadsafe(
        self, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> Any:
        """Refuse: what a thread does is not in the log."""
        error = BodyError(
            f"A thread called back into the body of run {self.run}.",
            hint="Put the threaded work into a @step.",
        )
        if threading.get_ident() != self._thread:
            self.outer.call_soon_threadsafe(self._fail, error)
        else:
            self.poison = self.poison or error
        raise error

    def create_task(
        self, coro: Any, *, name: str | None = None, context: contextvars.Context | None = None, **_: Any
    ) -> Any:
        """Start a coroutine as a branch of the one that runs; a step call gets its future without a task."""
        frame: Any = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
        if (
            frame.f_code in _ENSURE_FUTURE
            and frame.f_back.f_code is not _GATHER
            and _under_as_completed(frame)
        ):
            coro.close()
            self.forbid(
                "asyncio.as_completed over bare coroutines (it starts them in the order of their addresses)",
                hint="Wrap each in asyncio.create_task() first.",
            )
        branch = BRANCH.get()
        is_step = coro.__class__ is StepCall
        name_of = coro.step.name if is_step else getattr(coro, "__qualname__", None) or type(coro).__name__
        path = branch.child(name_of)
        if is_step and context is None:
            future = coro.start(path + ":1")
            if name is not None:
                future.set_name(name)
            return future
        inner = contextvars.copy_context() if context is None else context
        inner.run(BRANCH.set, Branch(path))
        task = RunTask.make(coro, self, name or path, inner, self.number())
        self.tasks[task] = None
        task.add_done_callback(self._task_done, context=inner)
        return task

    def number(self) -> int:
        """Count tasks and step futures of the run."""
        self.numbered += 1
        return self.numbered

    def _task_done(self, task: asyncio.Task[Any]) -> None:
        self.tasks.pop(cast(RunTask, task), None)

    # ---------------------------------------------------------------- timers

    def call_later(
        self,
        delay: float,
        callback: Callable[..., Any],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> Any:
        """Ask for a durable timer ``delay`` seconds from the run's now."""
        return self.call_at(self.now + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[..., Any],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> Any:
        """Ask for a durable timer at ``when`` seconds of the run's time."""
        key = BRANCH.get().timer()
        if context is None:
            context = contextvars.copy_context()
        handle = TimerHandle(callback, args, context, due=when, loop=self, key=key)
        self.timers[key] = handle
        self.to_arm[key] = handle
        return handle

    def timer_cancelled(self, handle: TimerHandle) -> None:
        """Forget a cancelled timer, unless its record is in the history or on its way to the log."""
        self.to_arm.pop(handle.key, None)
        if not self._keep_timer(handle):
            self.timers.pop(handle.key, None)

    def keep_timers_if(self, keep: Callable[[TimerHandle], bool]) -> None:
        """Set who decides whether a cancelled timer stays known; it also disarms it."""
        self._keep_timer = keep

    def _timer_handle_cancelled(self, handle: Any) -> None:
        """Exist for asyncio's own timer handles."""

    # ---------------------------------------------------------------- what a body may not do

    def forbid(self, what: str, *, hint: str = "Put it into a @step.") -> None:
        """Raise, and remember, that the body did what only a step may do."""
        error = BodyError(
            f"{what} cannot run in the body of run {self.run}: a body only waits for steps, timers, signals and child "
            "runs.",
            hint=hint,
        )
        self.poison = self.poison or error
        raise error

    def elsewhere(self, what: str) -> BodyError:
        """Return the error for a call from a thread or another loop; the run fails with it, whoever catches it."""
        error = BodyError(
            f"{what} was called from outside of the loop of run {self.run} (a thread, a task of another event loop).",
            hint="Await it in the body itself; threaded work belongs into a @step.",
        )
        self.poison = self.poison or error
        with suppress(RuntimeError):  # the outer loop has ended: nobody is left to be told
            self.outer.call_soon_threadsafe(self._fail, error)
        return error

    # ---------------------------------------------------------------- draining

    def drain(self) -> bool:
        """Run what is ready until nothing is; False when the slice of time is used up first.

        The caller has made this the running loop (see :meth:`entered`).

        Raises:
            BusyBodyError: the body never becomes quiet.
        """
        ready = self.ready
        if self._left:
            return self._drain_long()
        budget = FAST
        while ready:
            if not budget:
                return self._drain_long()
            budget -= 1
            handle = ready.popleft()
            if not handle.dead:
                try:
                    handle.context.run(handle.callback, *handle.args)
                except (SystemExit, KeyboardInterrupt):
                    raise
                except BaseException as error:
                    self._report(handle, error)
        return True

    def _report(self, handle: Handle, error: BaseException) -> None:
        self.call_exception_handler(
            {"message": f"Exception in callback {handle.callback}", "exception": error}
        )

    def _drain_long(self) -> bool:
        """Go on in rounds: look at the clock, and for callbacks that only re-schedule themselves (anyio's scopes)."""
        ready = self.ready
        until = self._clock.monotonic() + SLICE
        while ready:
            if not self._left:
                self._left = len(ready)
                self._rounds += 1
                self._ran = [] if self._rounds > SPIN else None
                if self._rounds > BUSY:
                    raise BusyBodyError(
                        f"The body of run {self.run} never becomes quiet.",
                        hint="Look for a loop that awaits only asyncio.sleep(0).",
                    )
            count = min(self._left, 64)
            self._left -= count
            self._run_some(count)
            if not self._left and self._at_fixed_point():
                break
            if self._clock.monotonic() > until and ready:
                return False
        self._rounds = self._left = 0
        self._ran = None
        return True

    def _run_some(self, count: int) -> None:
        ready, ran = self.ready, self._ran
        for _ in range(count):
            handle = ready.popleft()
            if handle.dead:
                continue
            if ran is not None:
                ran.append((handle.callback, handle.args))
            try:
                handle.context.run(handle.callback, *handle.args)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:
                self._report(handle, error)

    def _at_fixed_point(self) -> bool:
        ran, ready = self._ran, self.ready
        if ran is None or not ready or len(ran) != len(ready):
            return False
        return all(
            (handle.callback, handle.args) == before for handle, before in zip(ready, ran, strict=True)
        )

    def enter(self) -> tuple[Any, Any]:
        """Become the running loop; return what :meth:`leave` needs to undo it."""
        before = (events._get_running_loop(), sys.get_asyncgen_hooks())
        events._set_running_loop(self)
        sys.set_asyncgen_hooks(self._generator_began, self.lost_generators.append)
        self._entered = True
        return before

    def _generator_began(self, generator: AsyncGenerator[Any, Any]) -> None:
        if self.generators is None:
            self.generators = weakref.WeakSet()
        self.generators.add(generator)

    def leave(self, before: tuple[Any, Any]) -> None:
        """Give the place back."""
        self._entered = False
        events._set_running_loop(before[0])
        sys.set_asyncgen_hooks(*before[1])

    def is_here(self) -> bool:
        """Tell whether it is the running loop of this thread; asking asyncio costs a system call before Python 3.12."""
        return self._entered and threading.get_ident() == self._thread

    # ---------------------------------------------------------------- the end

    def close_generators(self, context: contextvars.Context) -> None:
        """Close the async generators that the body left to the collector, as tasks of the body."""
        lost, self.lost_generators[:] = list(self.lost_generators), []
        for generator in lost:
            context.run(self.create_task, _aclose(generator))

    def forget(self) -> None:
        """Know nobody any more, so that memory comes back without the cycle collector."""
        self._fail = _tell_nobody
        self._keep_timer = _keep_no_timer
        self.timers.clear()
        self.to_arm.clear()

    def refuse(self) -> None:
        """From now on raise :class:`Evicted` at every call: the body is being unwound."""
        self._closed = True
        self.__class__ = RefusingLoop  # pyright: ignore[reportAttributeAccessIssue]


def _keep_no_timer(handle: TimerHandle) -> bool:
    return False


def _tell_nobody(error: BodyError) -> None:
    pass


async def _aclose(generator: AsyncGenerator[Any, Any]) -> None:
    await generator.aclose()


class RefusingLoop(RunLoop):
    """A run's loop while, and after, its body is unwound: nothing can be started, keyed or recorded."""

    def _refuse(self) -> None:
        self.refusals += 1
        if self.refusals < REFUSALS:
            raise Evicted("the body is being unwound from memory")

    def is_here(self) -> bool:
        """Tell whether it is the running loop of this thread: whoever unwinds made it that without entering it."""
        return events._get_running_loop() is self

    def number(self) -> int:
        """Raise Evicted: a step is called."""
        self._refuse()
        return super().number()

    def call_soon(
        self, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> Any:
        """Raise Evicted; after many refusals do nothing."""
        self._refuse()
        return Handle(callback, args, context or contextvars.Context())

    def call_at(
        self,
        when: float,
        callback: Callable[..., Any],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> Any:
        """Raise Evicted; after many refusals do nothing."""
        self._refuse()
        return TimerHandle(callback, args, context or contextvars.Context(), due=when, loop=self, key="")

    def create_task(self, coro: Any, **_: Any) -> Any:
        """Raise Evicted; after many refusals return a future that never ends."""
        coro.close()
        self._refuse()
        return self.create_future()

    def timer_cancelled(self, handle: TimerHandle) -> None:
        """Do nothing."""


class ReadingLoop(RunLoop):
    """A run's loop while somebody only reads the body's state: nothing can be started, woken or keyed."""

    def forbid(self, what: str, *, hint: str = "") -> None:
        """Raise ``BodyError``; the run itself does not fail with it."""
        self.touched = True
        raise BodyError(
            f"{what} is not possible while the state of run {self.run} is only read.",
            hint="A query or validator is a plain function over what is in memory; what has to wait is an @update.",
        )

    def elsewhere(self, what: str) -> BodyError:
        """Return the error for a call from another thread; the run itself does not fail with it."""
        return BodyError(f"{what} is not possible while the state of run {self.run} is only read.")

    def number(self) -> int:
        """Refuse: a step is called."""
        self.forbid("A step or a task")
        return 0

    def call_soon(
        self, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> Any:
        """Refuse: a waiting task is woken."""
        self.forbid("Waking a task")

    def call_soon_threadsafe(
        self, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> Any:
        """Refuse."""
        self.forbid("Waking a task")

    def call_at(
        self,
        when: float,
        callback: Callable[..., Any],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> Any:
        """Refuse: a timer is set."""
        self.forbid("Setting a timer")

    def create_task(self, coro: Any, **_: Any) -> Any:
        """Refuse."""
        coro.close()
        self.forbid("Starting a task")

    def timer_cancelled(self, handle: TimerHandle) -> None:
        """Refuse."""
        self.forbid("Stopping a timer")


def _forbidden(name: str) -> Callable[..., Any]:
    def method(self: RunLoop, *args: Any, **kwargs: Any) -> Any:
        for value in args:
            if isinstance(value, Coroutine):
                value.close()
        self.forbid(f"loop.{name}()")

    method.__name__ = name
    method.__doc__ = "Refuse: only a step may do this."
    return method


for _name in _FORBIDDEN:
    setattr(RunLoop, _name, _forbidden(_name))
