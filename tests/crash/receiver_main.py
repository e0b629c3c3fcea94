"""The receiver: a process outside of everything that does what steps ask it to, and writes down what it did.

It is asked by lines of JSON over a loopback socket. It acts a while after it was asked and answers a while after it
acted, so that whoever asks can die in between. Nobody kills it.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
from tests.crash.ledger import open_lines, write_line

ADDRESS = "receiver.port"
RECEIVED = "received.acts"


class Wish(msgspec.Struct):
    """What a step asks for: ``act``, ``look`` or ``undo``."""

    what: str
    key: str
    name: str = ""
    run: str = ""
    until: int = 0
    """Acts no more after this moment (microseconds), 0 = whenever."""
    once: bool = False
    """Knows calls by their key and acts once."""
    hold: float = 0.0
    """Seconds before it acts; it answers a while after that."""


class Act(msgspec.Struct, frozen=True):
    """What it did."""

    what: str
    key: str
    name: str = ""
    run: str = ""


class Receiver:
    """Acts, and remembers."""

    def __init__(self, folder: Path) -> None:
        self._acts = open_lines(folder / RECEIVED)
        self._done: set[str] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one call; one who hung up meanwhile is served none the less."""
        with suppress(ConnectionError):
            line = await reader.readline()
            if line:
                answer = await self.answer(msgspec.json.decode(line, type=Wish))
                writer.write(msgspec.json.encode(answer) + b"\n")
                await writer.drain()
        writer.close()

    async def answer(self, wish: Wish) -> str:
        """Do what is asked for and say what was done."""
        if wish.what == "look":
            return "there" if wish.key in self._done else "missing"
        await asyncio.sleep(wish.hold)
        if wish.until and time.time_ns() // 1000 > wish.until:
            return "late"
        if wish.what == "undo":
            self._write(Act("undo", wish.key, wish.name, wish.run))
            self._done.discard(wish.key)
        elif not (wish.once and wish.key in self._done):
            self._done.add(wish.key)
            self._write(Act("act", wish.key, wish.name, wish.run))
        await asyncio.sleep(min(wish.hold, 0.02))
        return "done"

    def _write(self, act: Act) -> None:
        write_line(self._acts, act)


async def work(folder: Path) -> None:
    """Be the receiver until somebody ends the process."""
    receiver = Receiver(folder)
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0, backlog=1000)
    (port,) = {socket.getsockname()[1] for socket in server.sockets}
    half = folder / f"{ADDRESS}.half"
    half.write_text(str(port))
    half.rename(folder / ADDRESS)
    await server.serve_forever()


def main(options: dict[str, Any]) -> None:
    """Be the receiver."""
    asyncio.run(work(Path(options["folder"])))
