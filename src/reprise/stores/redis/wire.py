"""One connection that everybody shares: what is asked in one turn of the loop leaves in one write.

Answers come in the order of the questions, taps (RESP3 pushes) in between. A connection that is lost is made again; what
was asked and not answered is asked again in its order, so all that we ask may be done twice: what must not be asks so that
the second time is known (``queue.lua``). Callers notice no more of it than that it takes longer, up to ``patience`` seconds.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from hashlib import sha1
from importlib.resources import files
from typing import Any, NamedTuple

from reprise.kernel.errors import ConfigurationError, StoreClosed, StoreError, StoreUnreachable
from reprise.stores.redis.driver import (
    NoScript,
    NotNow,
    Push,
    Reader,
    ReplyError,
    Target,
    meaning,
    pack,
    take_over,
)

FIRST_PAUSE, LONGEST_PAUSE = 0.02, 1.0
"""Seconds between two attempts to reach the server."""
_CONFIRMS = frozenset({b"subscribe", b"unsubscribe", b"psubscribe", b"punsubscribe"})
"""Pushes that answer a command."""

_LOG = logging.getLogger(__name__)


class Script(NamedTuple):
    """A script, and the name that the server gives it."""

    text: bytes
    name: str

    @classmethod
    def of(cls, *names: str) -> Script:
        """Return the script of files beside this module, one after the other."""
        here = files(__name__.rpartition(".")[0])
        code = b"".join(here.joinpath(name).read_bytes() for name in names)
        return cls(code, sha1(code, usedforsecurity=False).hexdigest())


class _Call:
    """A command that waits for its answer."""

    __slots__ = ("answer", "command", "script", "since")

    def __init__(
        self, command: tuple[Any, ...], answer: asyncio.Future[Any], since: float, script: Script | None
    ) -> None:
        self.command, self.answer, self.since, self.script = command, answer, since, script

    def fail(self, error: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


class _Link(asyncio.Protocol):
    """One connection while it lasts."""

    def __init__(self, writer: asyncio.StreamWriter, wire: Wire) -> None:
        self._writer = writer  # closes the socket when it is let go
        self.transport, self._wire = writer.transport, wire
        self._reader = Reader()
        self._loop = asyncio.get_running_loop()
        self._out: list[bytes] = []
        self.calls: deque[_Call] = deque()
        """Not yet answered, in their order."""
        self.answered = 0
        self.refuses = False
        """Whether it ends because the server cannot do it now."""
        self.over = asyncio.Event()
        self.transport.set_protocol(self)

    def send(self, call: _Call) -> None:
        self.calls.append(call)
        if not self._out:
            self._loop.call_soon(self.flush)
        self._out.append(pack(call.command))

    def flush(self) -> None:
        if self._out and not self.transport.is_closing():
            self.transport.write(b"".join(self._out))
        self._out.clear()

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not False:
            if isinstance(reply, Push) and reply[0] not in _CONFIRMS:
                self._wire.pushed(reply)
                continue
            self.answered += 1
            call = self.calls.popleft()
            if isinstance(reply, ReplyError):
                self._failed(call, meaning(reply, self._wire.target.url, call.command))
                if self.refuses:
                    return
            elif not call.answer.done():
                call.answer.set_result(reply)

    def _failed(self, call: _Call, error: Exception) -> None:
        if isinstance(error, NoScript) and call.script is not None:
            # Its text instead of its name: that does it and lets the server know it again.
            call.command = ("EVAL", call.script.text, *call.command[2:])
            self.send(call)
        elif isinstance(error, NotNow) and self._loop.time() - call.since < self._wire.target.patience:
            self.calls.appendleft(call)  # of another server, or of this one later
            self.refuses = True
            self.transport.abort()
        else:
            call.fail(error)

    async def close(self) -> None:
        """Write what was sent and close the socket; a server that takes nothing more is not waited for long."""
        self.flush()
        self.transport.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(LONGEST_PAUSE):
                await self.over.wait()
        self.transport.abort()
        await self.over.wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self.over.set()
        self._wire.lost(self)


class Wire:
    """The connection of a store."""

    def __init__(
        self, target: Target, pushed: Callable[[Sequence[Any]], None], back: Callable[[], None]
    ) -> None:
        self.target, self.pushed, self._back = target, pushed, back
        self._link: _Link | None = None
        self._unsent: deque[_Call] = deque()
        self._task: asyncio.Task[None] | None = None
        self._watch: asyncio.Task[None] | None = None
        self._why: StoreError | None = None
        """Why the server cannot be reached, once that has lasted for ``patience``."""
        self.closed = True
        self.counters = {"commands": 0, "connections": 0}

    async def start(self) -> None:
        """Connect.

        Raises:
            StoreUnreachable: for ``patience`` seconds there was no server.
            ConfigurationError: it does not let us in.
        """
        self.closed = False
        try:
            self._connected(await self._attempt(0))
        except BaseException:
            self.closed = True
            raise
        self._watch = asyncio.create_task(self._keep_watch())

    async def stop(self) -> None:
        """Close; what is not answered by then raises ``StoreClosed``."""
        self.closed = True
        for task in (self._task, self._watch):
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
        link, self._link = self._link, None
        if link is not None:
            await link.close()
            self._unsent.extendleft(reversed(link.calls))
        self._fail_all(StoreClosed("The Redis store was closed."))

    def send(self, *command: Any, script: Script | None = None) -> asyncio.Future[Any]:
        """Send a command with this turn of the loop; the future has its answer, or raises what went wrong."""
        loop = asyncio.get_running_loop()
        call = _Call(command, loop.create_future(), loop.time(), script)
        self.counters["commands"] += 1
        if self._link is not None:
            self._link.send(call)
        elif self.closed:
            call.fail(StoreClosed("The Redis store is not open.", hint="await store.start() first."))
        elif self._why is not None:
            call.fail(self._why)
        else:
            self._unsent.append(call)
        return call.answer

    def run(self, script: Script, keys: Sequence[str], *args: Any) -> asyncio.Future[Any]:
        """Run a script with this turn of the loop; a server that does not know it is given its text."""
        return self.send("EVALSHA", script.name, len(keys), *keys, *args, script=script)

    def flush(self) -> None:
        """Write what was sent now, not at the end of this turn of the loop."""
        if self._link is not None:
            self._link.flush()

    def tell(self, *command: Any) -> None:
        """Send a command whose answer nobody wants to know."""
        self.send(*command).add_done_callback(no_matter)

    def lost(self, link: _Link) -> None:
        """Notice that a connection ended, and make another."""
        if link is not self._link:
            return
        self._link = None
        self._unsent.extendleft(reversed(link.calls))
        if not self.closed:
            self._task = asyncio.create_task(self._return(FIRST_PAUSE if link.refuses else 0))

    async def _return(self, pause: float) -> None:
        try:
            self._connected(await self._attempt(pause))
        except (StoreError, ConfigurationError) as error:
            self._why = error if isinstance(error, StoreUnreachable) else StoreUnreachable(str(error))
            self._fail_all(self._why)
            while self._link is None:
                await asyncio.sleep(LONGEST_PAUSE)
                with suppress(StoreError, ConfigurationError):
                    self._connected(take_over(await self.target.connect()))

    async def _attempt(self, pause: float) -> asyncio.StreamWriter:
        loop = asyncio.get_running_loop()
        end = loop.time() + self.target.patience
        while True:
            await asyncio.sleep(pause)
            try:
                return take_over(await self.target.connect())
            except StoreUnreachable:
                pause = min(max(2 * pause, FIRST_PAUSE), LONGEST_PAUSE)
                if loop.time() + pause > end:
                    raise

    def _connected(self, writer: asyncio.StreamWriter) -> None:
        self._why = None
        self.counters["connections"] += 1
        self._link = _Link(writer, self)
        unsent, self._unsent = self._unsent, deque()
        self._back()
        for call in unsent:
            if not call.answer.done():
                self._link.send(call)

    async def _keep_watch(self) -> None:
        """Find a connection that is there and says nothing: a server that hangs, a network that swallows."""
        known, answered = self._link, -1
        while True:
            await asyncio.sleep(self.target.patience / 2)
            link = self._link
            if link is None:
                continue
            if link is known and link.calls and link.answered == answered:
                link.transport.abort()
                continue
            known, answered = link, link.answered
            self.tell("PING")

    def _fail_all(self, error: StoreError) -> None:
        while self._unsent:
            self._unsent.popleft().fail(error)


def no_matter(answer: asyncio.Future[Any]) -> None:
    """Take note of an answer that nobody wants to know; that the server refuses somebody something is said."""
    error = None if answer.cancelled() else answer.exception()
    if isinstance(error, ConfigurationError):
        _LOG.warning("%s", error)
