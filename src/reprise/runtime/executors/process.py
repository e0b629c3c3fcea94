"""Our end of one process: begin it, ask it, notice that it ended, end it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from typing import Any, cast

from msgspec import MsgspecError

from reprise.kernel.errors import ConfigurationError
from reprise.runtime.executors.frames import (
    Answer,
    BrokenFrame,
    Frames,
    Hello,
    News,
    Order,
    Quit,
    Raised,
    Ready,
    Returned,
    frame,
    read_answer,
)
from reprise.runtime.executors.origins import Origin
from reprise.runtime.host import Job

BEAT = 1.0
"""Seconds between signs of life of a busy process, at most."""
_LINGER = 0.5
"""Seconds a process may live on after it closed its end; usually it is ending already, and we want to know how."""
_SOURCE = """
import sys
sys.path[:] = sys.argv[3].split("\\n")
from reprise.runtime.executors.inside import main
main(int(sys.argv[1]), int(sys.argv[2]))
"""

Tell = Callable[[Job | None, News], Coroutine[Any, Any, None] | None]


class ProcessGone(Exception):
    """The process ended before it answered."""


class Process(asyncio.Protocol):
    """A spawned interpreter that does one order at a time, in a process group of its own.

    ``tell`` is given what the call says while it runs. It is begun on the thread of the loop: the kernel ends it with
    the thread that began it.
    """

    def __init__(self, most: int, beat: float, tell: Tell) -> None:
        self._loop = asyncio.get_running_loop()
        self._frames = Frames(most)
        self._tell = tell
        self._answer: asyncio.Future[Answer] | None = None
        self._transport: asyncio.Transport | None = None
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._popen = subprocess.Popen(  # noqa: S603 - this very interpreter
                    _command(theirs.fileno()),
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=_stderr(),  # stdout is for what the worker prints
                    process_group=0,  # it is killed with what it started; Ctrl-C is the worker's to answer
                )
            except BaseException:
                ours.close()
                raise
        self.gone = self._loop.create_future()
        self.heard = self._loop.time()
        self.job: Job | None = None
        self.loaded: dict[Origin, None] = {}
        self.began = False
        """Whether it has said that it begins with the order."""
        self.calls = 0
        self.at_first = 0
        """Bytes of memory after the first call."""
        self.why = ""
        """Why we ended it."""
        self._ending: asyncio.Task[None] | None = None
        self._holding: asyncio.Task[None] | None = None
        self.opened = self._loop.create_task(self._open(ours, Hello(_argv(), _levels(), beat, most)))

    @property
    def pid(self) -> int:
        """Its process id, which is that of its group."""
        return self._popen.pid

    @property
    def exit(self) -> int | None:
        """How it ended: exit code, or a signal as a negative number; None while it has not."""
        return self._popen.returncode

    @property
    def is_asked(self) -> bool:
        """Tell whether it has an order, and has yet to answer."""
        return self._answer is not None and self.opened.done()

    # ---------------------------------------------------------------- asking

    async def _open(self, end: socket.socket, hello: Hello) -> None:
        await self._loop.create_unix_connection(lambda: self, sock=end)
        await self.ask(hello)

    async def ask(self, order: Order) -> Answer:
        """Give an order and return the answer.

        Raises:
            ProcessGone: it ended instead of answering.
        """
        if self._transport is None or self._transport.is_closing():
            raise ProcessGone
        self.heard = self._loop.time()
        self.began = False
        self._answer = self._loop.create_future()
        self._transport.write(frame(order))
        try:
            return await self._answer
        finally:
            self._answer = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection."""
        self._transport = cast("asyncio.Transport", transport)  # that of uvloop is one without saying so

    def data_received(self, data: bytes) -> None:
        """Take what the process says."""
        self.heard = self._loop.time()
        try:
            for each in self._frames.feed(data):
                self._take(read_answer(each))
        except (BrokenFrame, MsgspecError):
            self.kill("frame")

    def _take(self, said: Answer) -> None:
        if isinstance(said, Ready | Returned | Raised):
            if self._answer is not None and not self._answer.done():
                self._answer.set_result(said)
        elif isinstance(said, News):
            if (room := self._tell(self.job, said)) is not None:
                self._hold(room)
        else:
            self.began = True

    def _hold(self, room: Coroutine[Any, Any, None]) -> None:
        """Read no more until there is room for what it writes; then who writes waits, too."""
        if self._holding is not None and not self._holding.done():
            room.close()  # somebody waits for it already
            return
        if self._transport is not None:
            self._transport.pause_reading()
        self._holding = self._loop.create_task(self._go_on(room))

    async def _go_on(self, room: Coroutine[Any, Any, None]) -> None:
        await room
        self.heard = self._loop.time()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Find out how it ended, then say so to whoever waits."""
        self._ending = self._loop.create_task(self._reap())

    # ---------------------------------------------------------------- ending

    async def _reap(self) -> None:
        until = self._loop.time() + _LINGER
        pause = 0.001
        while not self._has_ended():
            if self._loop.time() > until:
                self.kill("frame")
            await asyncio.sleep(pause)
            pause = min(0.05, pause * 2)
        # Its id is not free before we have waited for it: until then this meets what it started, and nobody else.
        self._send(signal.SIGKILL)
        self._popen.wait()
        if not self.gone.done():
            self.gone.set_result(None)
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ProcessGone())

    def _has_ended(self) -> bool:
        if not hasattr(os, "waitid"):  # macOS before Python 3.13
            return self._popen.poll() is not None
        try:
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return True

    def look(self) -> bool:
        """Tell whether it is there.

        An end may close nothing, when what the process started holds its end of the socket.
        """
        if self._transport is None:
            return not self.gone.done()
        if not self._transport.is_closing() and self._has_ended():
            self._transport.abort()
        return not self._transport.is_closing()

    def kill(self, why: str) -> None:
        """End it at once."""
        self.why = self.why or why
        self._send(signal.SIGKILL)
        if self._transport is not None:
            self._transport.abort()

    async def end(self, grace: float) -> None:
        """Let the running call clean up for ``grace`` seconds, then kill the process; return when it is gone."""
        self.why = self.why or "told"
        self._send(signal.SIGTERM)
        await self.wait(grace)

    async def quit(self, grace: float) -> None:
        """Let an idle process end in order; return when it is gone."""
        self.why = self.why or "told"
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(frame(Quit()))
        await self.wait(grace)

    async def wait(self, grace: float) -> None:
        """Wait until it is gone; after ``grace`` seconds kill it."""
        await asyncio.wait([self.gone], timeout=grace)
        if not self.gone.done():
            self.kill("told")
            await asyncio.wait([self.gone], timeout=_LINGER * 10)

    def _send(self, number: signal.Signals) -> None:
        if self._popen.returncode is None:
            with suppress(
                ProcessLookupError, PermissionError
            ):  # macOS: a group of zombies may not be signalled
                os.killpg(self.pid, number)


def _command(descriptor: int) -> list[str]:
    if not sys.executable:
        raise ConfigurationError(
            "No process can be begun: this interpreter does not know its own file (sys.executable)."
        )
    flags = ["-O"] * sys.flags.optimize + [f"-W{each}" for each in sys.warnoptions]
    path = "\n".join(each for each in sys.path if "\n" not in each)
    return [sys.executable, *flags, "-c", _SOURCE, str(descriptor), str(os.getpid()), path]


def _argv() -> list[str]:
    return [each.encode("utf-8", "backslashreplace").decode() for each in sys.argv]


def _stderr() -> int:
    try:
        os.fstat(2)
    except OSError:
        return subprocess.DEVNULL
    return 2


def _levels() -> dict[str, int]:
    """Return the levels that loggers were given, so that what nobody wants to see is not sent."""
    root = logging.getLogger()
    loggers: Iterable[tuple[str, object]] = list(root.manager.loggerDict.items())
    given = {name: each.level for name, each in loggers if isinstance(each, logging.Logger) and each.level}
    return {"": root.level} | given
