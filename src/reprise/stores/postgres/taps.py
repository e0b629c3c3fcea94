"""Taps between processes: one connection that listens and sends, made again when it breaks.

Two kinds of taps share its channel: a number is the ticket of who waits for a lease, a list is names that were woken.
A tap may be lost. So when the connection was made again, everybody here is tapped: who waits looks again anyway.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import msgspec

from reprise.stores.listeners import EVERYTHING
from reprise.stores.postgres.connections import Target, pauses
from reprise.stores.postgres.driver import Connection
from reprise.stores.postgres.statements import statements

SQL = statements("taps.sql")

MOST_BYTES = 7900
"""Length of a payload; PostgreSQL's limit is 7999."""
MOST_PAYLOADS = 50
"""Payloads at a time, before they become EVERYTHING."""
BEAT = 30.0
"""Seconds after which an idle connection is used, to learn whether it still is one."""
LAST_WORDS = 1.0
"""Seconds that a store which stops gives its last taps."""

_decode = msgspec.json.Decoder(int | list[str]).decode


class Taps:
    """The line to the other processes; ``receive`` is called with names that they woke."""

    def __init__(self, target: Target, receive: Callable[[Iterable[str]], None]) -> None:
        self._target = target
        self._channel = f"reprise {target.schema}"
        self._receive = receive
        self._tickets: dict[int, asyncio.Event] = {}
        self._names: dict[str, None] = {}
        self._listening = asyncio.Event()
        self._stirred = asyncio.Event()
        self._connection: Connection | None = None
        self._turn = asyncio.Lock()
        """A connection does one thing at a time."""
        self._present: dict[str, None] = {}
        self.connected_at: float | None = None
        """Since when (by the loop's time) the line has been up; None while it is not."""
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen from now on, if the server can be reached; else as soon as it can."""
        if self._task is None:
            with suppress(Exception):
                await self._connect()
            self._task = asyncio.create_task(self._keep(), name="reprise postgres taps")

    async def listening(self) -> None:
        """Wait until somebody who taps is heard; but no longer than one waits for the server."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._target.patience):
                await self._listening.wait()

    @contextmanager
    def expect(self, ticket: int) -> Generator[asyncio.Event]:
        """Give an event that is set at each tap for a ticket."""
        event = self._tickets[ticket] = asyncio.Event()
        try:
            yield event
        finally:
            del self._tickets[ticket]

    def send(self, names: Iterable[str]) -> None:
        """Tap who listens to these names in other processes, soon."""
        if self._task is not None:
            self._names.update(dict.fromkeys(names))
            self._stirred.set()

    async def hold(self, worker: str) -> None:
        """Hold the lock of a worker on this connection and on every one that follows it."""
        if worker not in self._present:
            self._present[worker] = None
            await self._on_line(SQL["hold"], [worker])

    async def let_go(self, worker: str) -> None:
        """Hold it no longer."""
        if worker in self._present:
            del self._present[worker]
            await self._on_line(SQL["let_go"], worker)

    async def _on_line(self, statement: str, *arguments: Any) -> None:
        """Say something if the line is up; on a new one everything that holds is said anyway."""
        connection = self._connection
        if connection is None or not self._listening.is_set():
            return
        async with self._turn:
            try:
                await connection.execute(statement, *arguments)
            except Exception:  # noqa: BLE001  whatever it was, the next connection begins anew
                connection.terminate()

    async def close(self) -> None:
        """Send what is to be sent, and stop listening."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        connection, self._connection = self._connection, None
        if connection is None or connection.is_closed():
            return
        try:
            async with asyncio.timeout(LAST_WORDS):
                if self._names:
                    await self._speak(connection)
                await connection.close()
        except Exception:  # noqa: BLE001  a tap may be lost
            connection.terminate()

    # ---------------------------------------------------------------- the connection

    async def _connect(self) -> None:
        connection = await self._target.connect()
        try:
            # Asked for now: one that has ended does not know it any more, and what it heard last is still to come.
            me = connection.get_server_pid()
            await connection.add_listener(
                self._channel, lambda _, sender, __, payload: self._heard(payload, sender == me)
            )
            held: list[str] = []
            while new := [worker for worker in self._present if worker not in held]:
                await connection.execute(SQL["hold"], new)
                held += new
        except BaseException:
            connection.terminate()
            raise
        connection.add_termination_listener(self._lost)
        self._connection = connection
        self.connected_at = asyncio.get_running_loop().time()
        self._listening.set()

    async def _keep(self) -> None:
        """Connect again whenever the connection is lost, and tap everybody then."""
        while True:
            waits = pauses()
            while not self._listening.is_set():
                try:
                    await self._connect()
                except Exception:  # noqa: BLE001  whatever keeps us out: those who need the server are told by it
                    await asyncio.sleep(next(waits))
                else:
                    self._tap_everybody()
            assert self._connection is not None
            with suppress(Exception):
                await self._serve(self._connection)
            self._connection.terminate()
            self.connected_at = None
            self._listening.clear()

    async def _serve(self, connection: Connection) -> None:
        while not connection.is_closed():
            with suppress(TimeoutError):
                async with asyncio.timeout(BEAT):
                    await self._stirred.wait()
            self._stirred.clear()
            await self._speak(connection)

    async def _speak(self, connection: Connection) -> None:
        names, self._names = self._names, {}
        try:
            async with self._turn:
                await connection.execute(SQL["tap"], self._channel, payloads(list(names)))
        except BaseException:
            self._names = {**names, **self._names}
            raise

    def _lost(self, _connection: Any) -> None:
        self.connected_at = None
        self._listening.clear()
        self._stirred.set()

    def _tap_everybody(self) -> None:
        for event in self._tickets.values():
            event.set()
        self._receive((EVERYTHING,))

    def _heard(self, payload: str, is_ours: bool) -> None:
        try:
            what = _decode(payload)
        except msgspec.DecodeError:
            return  # it means nothing to us
        if isinstance(what, int):
            if what in self._tickets:
                self._tickets[what].set()
        elif not is_ours:  # who wakes taps its own process itself, at once
            self._receive(what)


def payloads(names: Sequence[str]) -> list[str]:
    """Pack names into as few payloads as hold them; EVERYTHING if one is too long or there are too many.

    >>> payloads(["inbox/a", "runs"])
    ['["inbox/a","runs"]']
    """
    packed: list[str] = []
    piece: list[bytes] = []
    room = MOST_BYTES
    for name in names:
        encoded = msgspec.json.encode(name.encode("utf-8", "replace").decode())
        if len(encoded) + 3 > MOST_BYTES:
            return [f'["{EVERYTHING}"]']
        if len(encoded) + 1 > room:
            packed.append(f"[{b','.join(piece).decode()}]")
            piece, room = [], MOST_BYTES
        piece.append(encoded)
        room -= len(encoded) + 1
    if piece:
        packed.append(f"[{b','.join(piece).decode()}]")
    return packed if len(packed) <= MOST_PAYLOADS else [f'["{EVERYTHING}"]']
