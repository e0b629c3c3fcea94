"""A process that takes a lock or leads, again and again, and writes to a resource while it does; forked by the nursery."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import msgspec

from reprise import HeldLock, LeaderElection, LeaseLost, LockManager, StoreError, Term

TTL = 0.25
RESOURCE = "resource.db"
WRITES = 30
"""Writes of one holder, a few milliseconds apart."""


class Options(msgspec.Struct):
    """What a process is told."""

    folder: str
    store: str
    fenced: bool = True
    """False = the control: the resource takes every write."""
    leads: bool = False


class Resource:
    """A table that takes no write under a lower token than it has seen; every attempt is kept, in order."""

    def __init__(self, folder: Path, *, fenced: bool = True) -> None:
        self._file = sqlite3.connect(folder / RESOURCE, timeout=60, isolation_level=None)
        self._file.execute(
            "CREATE TABLE IF NOT EXISTS writes (id INTEGER PRIMARY KEY, token INTEGER, process INTEGER, taken INTEGER)"
        )
        self._condition = "? >= coalesce((SELECT max(token) FROM writes), 0)" if fenced else "? > 0"

    def write(self, token: int, process: int) -> None:
        """Write, or be refused; one statement, so nothing comes between check and write."""
        self._file.execute(
            f"INSERT INTO writes (token, process, taken) SELECT ?, ?, {self._condition}",
            (token, process, token),
        )

    def all(self) -> list[tuple[int, int, int]]:
        """Return token, process and whether it was taken, of each write in order."""
        return self._file.execute("SELECT token, process, taken FROM writes ORDER BY id").fetchall()

    def close(self) -> None:
        """Close."""
        self._file.close()


async def serve(options: Options) -> None:
    """Hold and write until the kill."""
    resource = Resource(Path(options.folder), fenced=options.fenced)
    manager = LockManager(options.store)
    election = LeaderElection(options.store, "x", ttl=TTL)
    while True:
        scope: AbstractAsyncContextManager[HeldLock | Term] = (
            election.campaign() if options.leads else manager.lock("x", ttl=TTL, timeout=None)
        )
        try:
            async with scope as held:
                for _ in range(WRITES):
                    time.sleep(0.003)  # noqa: ASYNC251 - where it is stopped, so that it writes as soon as it goes on
                    resource.write(held.token, os.getpid())
                    await asyncio.sleep(0)
        except (LeaseLost, StoreError) as error:
            with (Path(options.folder) / "lost").open("a") as file:
                file.write(f"{type(error).__name__}\n")


def main(options: dict[str, Any]) -> None:
    """Be a holder."""
    asyncio.run(serve(msgspec.convert(options, Options)))
