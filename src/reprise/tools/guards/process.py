"""Functions in a process of their own, for what can take long: a thread cannot be stopped, a process is killed.

It is not for code that somebody else wrote: the process has our user's rights, to files and the network too. Its limits hold what
*our* code may take on input that was chosen to take long.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import msgspec

from reprise.kernel.errors import ToolError

LENGTH = 4
_BEGINNING = 20.0
"""Seconds that a new process may take to import what it needs."""
_GRACE = 1.0
"""Seconds after which a process is killed that should have ended by itself."""
_SOURCE = """
import sys
sys.path[:] = sys.argv[2].split("\\n")
from reprise.tools.guards.forking import main
main(int(sys.argv[1]))
"""
_ENVIRONMENT = {"LC_ALL": "C.UTF-8", "PATH": os.defpath, "PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1"}
"""All that the process has: no keys, no tokens; and what is in no order comes in the same one each time."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What one call may take."""

    seconds: float = 10.0
    """By the clock, and of the processor (rounded up to whole ones)."""
    memory: int = 512 << 20
    """Bytes on top of what is imported; only Linux keeps it."""
    most: int = 1 << 20
    """Bytes of the result as JSON."""
    threads: bool = False
    """Whether it may begin threads: a library that has them is imported by the function, not by its module."""


class _Gone(Exception):
    """The process ended, or said what it should not."""


class _Server:
    """One process that imports and forks, in a session of its own."""

    def __init__(self) -> None:
        self._end, theirs = socket.socketpair()
        path = "\n".join(each for each in sys.path if "\n" not in each)
        with theirs:
            try:
                self._popen = subprocess.Popen(  # noqa: S603 - this very interpreter
                    [sys.executable, "-c", _SOURCE, str(theirs.fileno()), path],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env=_ENVIRONMENT,
                    cwd="/",
                    start_new_session=True,  # it is killed with its forks; Ctrl-C is the caller's to answer
                )
            except BaseException:
                self._end.close()
                raise
        self.is_new = True

    def ask(self, order: bytes, most: int, until: float) -> bytes:
        """Return the answer; raises ``TimeoutError``, or ``_Gone``."""
        self.is_new = False
        try:
            self._end.settimeout(max(0.001, until - time.monotonic()))
            self._end.sendall(len(order).to_bytes(LENGTH, "big") + order)
            size = int.from_bytes(self._read(LENGTH, until), "big")
            if size > most + 4_096:  # around the result stands who says it, or the text of an error
                raise _Gone
            return self._read(size, until)
        except (ConnectionError, BrokenPipeError):
            raise _Gone from None

    def _read(self, size: int, until: float) -> bytes:
        data = bytearray()
        while len(data) < size:
            self._end.settimeout(max(0.001, until - time.monotonic()))
            more = self._end.recv(min(size - len(data), 1 << 20))
            if not more:
                raise _Gone
            data += more
        return bytes(data)

    def kill(self) -> None:
        """Kill it and its fork; from any thread."""
        if self._popen.returncode is None:  # not waited for, so its number is nobody else's
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._popen.pid, signal.SIGKILL)

    def close(self) -> None:
        """Kill it, and wait until it is gone."""
        self.kill()
        self._popen.wait()
        self._end.close()

    def forget(self) -> None:
        """Let go of what belongs to the process that we were forked from."""
        self._popen.returncode = 0
        self._end.close()


class _Call:
    """One call, which may be cancelled from another thread than the one that waits for it."""

    def __init__(self, pool: Processes, order: bytes, limits: Limits) -> None:
        self._pool = pool
        self._order = order
        self._limits = limits
        self._lock = threading.Lock()
        self._server: _Server | None = None
        self._cancelled = False

    def cancel(self) -> None:
        with self._lock:
            self._cancelled = True
            if self._server is not None:
                self._server.kill()

    def do(self) -> Any:
        from reprise.tools.guards.forking import Answer  # noqa: PLC0415 - not on systems without its modules

        server = self._pool.take()
        with self._lock:
            self._server = server
            if self._cancelled:
                server.kill()
        limits = self._limits
        wait = limits.seconds + _GRACE + (_BEGINNING if server.is_new else 0)
        try:
            data = server.ask(self._order, limits.most, time.monotonic() + wait)
            answer = msgspec.json.decode(data, type=Answer)
        except (TimeoutError, _Gone, msgspec.MsgspecError) as error:
            with self._lock:
                self._server = None
            server.close()
            if isinstance(error, TimeoutError):
                raise _late(limits) from None
            raise ToolError("upstream", "Its process ended before it answered.") from None
        with self._lock:
            self._server = None
            cancelled = self._cancelled
        if cancelled:
            server.close()
        else:
            self._pool.give_back(server)
        return _value(answer, limits)


class Processes:
    """Processes that are kept for the next call; ``size`` calls are done at once, others wait."""

    def __init__(self, size: int = 0) -> None:
        self._size = size or os.cpu_count() or 1
        self._lock = threading.Lock()
        self._idle: list[_Server] = []
        self._threads: ThreadPoolExecutor | None = None

    async def call(self, function: str, *arguments: Any, limits: Limits | None = None) -> Any:
        """Return what a function (``module:name``) returns; arguments and result are JSON.

        The call is killed when it takes too long, and when who waits for it is cancelled.

        Raises ``ToolError``: its own, ``timeout``, ``too_large`` for memory or result, ``upstream`` for what it raises else and
        when it crashes, ``unavailable`` where there are no process groups (Windows).
        """
        call = self._call(function, arguments, limits)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor(), call.do)
        except asyncio.CancelledError:
            call.cancel()
            raise

    def run(self, function: str, *arguments: Any, limits: Limits | None = None) -> Any:
        """Do the same as :meth:`call`, for who waits in a thread; raises the same."""
        return self._executor().submit(self._call(function, arguments, limits).do).result()

    def _call(self, function: str, arguments: tuple[Any, ...], limits: Limits | None) -> _Call:
        if not hasattr(os, "killpg"):
            raise ToolError(
                "unavailable", "It needs a process that can be killed; this system has no process groups."
            )
        limits = limits or Limits()
        order = msgspec.json.encode(
            {"function": function, "arguments": arguments, **msgspec.structs.asdict(limits)}
        )
        return _Call(self, order, limits)

    def take(self) -> _Server:
        """Return a process that does nothing, or a new one."""
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return _Server()

    def give_back(self, server: _Server) -> None:
        """Keep a process for the next call."""
        with self._lock:
            self._idle.append(server)

    def close(self) -> None:
        """End the processes that do nothing."""
        with self._lock:
            idle, self._idle = self._idle, []
        for server in idle:
            server.close()

    def forget(self) -> None:
        """Begin anew in a fork of the process that had them."""
        self._lock, self._threads = threading.Lock(), None
        idle, self._idle = self._idle, []
        for server in idle:
            server.forget()

    def _executor(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(self._size, thread_name_prefix="reprise-process")
            return self._threads


def _value(answer: Any, limits: Limits) -> Any:
    from reprise.tools.guards.forking import Died, Refused  # noqa: PLC0415

    if isinstance(answer, Refused):
        raise ToolError(answer.code, answer.what, hint=answer.hint, field=answer.field)
    if isinstance(answer, Died):
        if -answer.exit in (signal.SIGALRM, signal.SIGXCPU):
            raise _late(limits)
        how = signal.Signals(-answer.exit).name if answer.exit < 0 else f"exit code {answer.exit}"
        raise ToolError("upstream", f"Its process ended before it answered ({how}).")
    return msgspec.json.decode(answer.value)


def _late(limits: Limits) -> ToolError:
    return ToolError(
        "timeout", f"It was stopped after {limits.seconds:g} s.", hint="Ask for something simpler."
    )


PROCESSES = Processes()
"""Those of this process."""
atexit.register(PROCESSES.close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=PROCESSES.forget)
