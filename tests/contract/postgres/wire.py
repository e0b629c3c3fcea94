"""A wire between a client and a PostgreSQL server that can be cut at a chosen moment."""

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Self
from urllib.parse import urlencode

SOCKET = ".s.PGSQL.5432"


class Wire:
    """A Unix socket that passes everything on to the server's, until told otherwise.

    ``cut_at`` is a predicate on what the client sends. When it first holds, that connection is cut, by ``when``:
    ``before`` the server gets the bytes, ``after`` it has answered, or ``during``: it has the bytes and nobody waits.
    Where ``hold_at`` holds, the bytes are kept until ``go_on``.
    """

    def __init__(self, folder: Path, server: Path) -> None:
        self.url = f"postgresql://postgres@/postgres?{urlencode({'host': str(folder)})}"
        self.refuse = False
        self.cut_at = lambda _: False
        self.when = "after"
        self.cut = asyncio.Event()
        self.hold_at = lambda _: False
        self.held = asyncio.Event()
        self.go_on = asyncio.Event()
        self._socket, self._server = folder / SOCKET, server / SOCKET
        self._ends: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_unix_server(self._serve, self._socket)
        return self

    async def __aexit__(self, *_) -> None:
        self._listener.close()
        self.cut_all()
        await self._listener.wait_closed()

    def cut_all(self) -> None:
        """Cut every connection."""
        for end in self._ends:
            end.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refuse:
            writer.close()
            return
        upstream, downstream = await asyncio.open_unix_connection(self._server)
        ends = {writer, downstream}
        self._ends |= ends
        back = asyncio.create_task(self._pass_back(upstream, writer))
        with suppress(OSError):
            while data := await reader.read(1 << 20):
                if self.hold_at(data):
                    self.hold_at = lambda _: False
                    self.held.set()
                    await self.go_on.wait()
                if self.cut_at(data):
                    self.cut_at = lambda _: False
                    await self._cut(data, back, upstream, downstream, writer)
                    break
                downstream.write(data)
        for end in ends:
            end.close()
        self._ends -= ends
        with suppress(OSError, asyncio.CancelledError):
            await back

    async def _cut(self, data, back, upstream, downstream, writer) -> None:
        back.cancel()
        await asyncio.wait([back])
        if self.when != "before":
            downstream.write(data)
        if self.when == "after":
            await upstream.read(1 << 20)
        writer.close()
        self.cut.set()
        if self.when == "during":
            # The server goes on with what it got; its connection stays until it has answered.
            await upstream.read(1 << 20)

    @staticmethod
    async def _pass_back(upstream: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await upstream.read(1 << 20):
            writer.write(data)
        writer.close()
