"""A process that contends for locks with many others, stands still while it holds one, and writes on; forked by the nursery.

It has a lane for each thing that is locked at one time. Lanes beside each other see the same pauses and the same failures
of the servers: those with our lock, whose every call is recorded, and one with redis-py's own `Lock`, which has no token.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import msgspec
from redis.asyncio import Redis
from redis.asyncio.lock import Lock
from redis.exceptions import RedisError

from reprise import LeaseLost, LockManager, LockNotAcquired, StoreError
from reprise.kernel.clock import MICROSECONDS, SystemClock
from reprise.stores import open_store
from reprise.stores.lease import Grant, Lease
from reprise.testing.linearizable import History

RESOURCE, STOPS, BEGIN, ENOUGH, LOST = "resource.db", "stops", "begin", "enough", "lost"
"""The protected thing; where a process says that it is ready, or about to stand still; what begins and ends all; a line for each lock lost."""
WAIT = 1.0
"""Seconds for which a lock is waited for before its holder looks whether the history is over."""
WRITES, WRITES_AFTER = 3, 30
"""Writes of a holder; and of one that stood still, before anybody can tell it that its time is over."""
CLOCK = SystemClock()
PLAIN = "plain"
"""The lane of redis-py's own lock."""
Write = tuple[str, int, str, int]
"""Name, token, holder, whether it was taken."""


class Options(msgspec.Struct):
    """What a process is told."""

    folder: str
    stores: list[str]
    """One keeper, or several that vote."""
    lanes: list[str]
    tasks: int
    """Of each lane."""
    ttl: float
    holders: int
    """How often a lock is taken before its history is over and the lane goes on to another name."""
    stops: float
    """Probability with which a holder stands still."""
    seed: int


class Resource:
    """A table that takes no write under a lower token than it has seen of that name; every attempt is kept, in order.

    Under token 0 it takes every write: a lock without tokens leaves it nothing to check.
    """

    def __init__(self, folder: Path) -> None:
        self._file = sqlite3.connect(folder / RESOURCE, timeout=60, isolation_level=None)
        self._file.execute("PRAGMA synchronous = off")

    def make(self) -> None:
        """Make the tables."""
        self._file.executescript(
            "PRAGMA journal_mode = wal;"
            "CREATE TABLE writes (id INTEGER PRIMARY KEY, name TEXT, token INTEGER, holder TEXT, taken INTEGER);"
            "CREATE INDEX by_token ON writes (name, token);"
            "CREATE TABLE names (name TEXT PRIMARY KEY, holders INTEGER);"
        )

    def write(self, name: str, token: int, holder: str) -> bool:
        """Write, or be refused; one statement, so nothing comes between check and write."""
        [(taken,)] = self._file.execute(
            "INSERT INTO writes (name, token, holder, taken) SELECT ?1, ?2, ?3,"
            " ?2 >= coalesce((SELECT max(token) FROM writes WHERE name = ?1), 0) RETURNING taken",
            (name, token, holder),
        ).fetchall()
        return bool(taken)

    def begin(self, name: str) -> None:
        """Count one more who holds the lock of a name."""
        self._file.execute(
            "INSERT INTO names VALUES (?, 1) ON CONFLICT DO UPDATE SET holders = holders + 1", (name,)
        )

    def holders(self, name: str) -> int:
        """Return how many held the lock of a name."""
        [(number,)] = self._file.execute(
            "SELECT coalesce(max(holders), 0) FROM names WHERE name = ?", (name,)
        ).fetchall()
        return number

    def over(self, holders: int) -> list[str]:
        """Return the names whose locks were held so often."""
        return [
            name for (name,) in self._file.execute("SELECT name FROM names WHERE holders >= ?", (holders,))
        ]

    def succeeded(self, name: str, holder: str) -> bool:
        """Return whether somebody else wrote after a holder did."""
        last = "(SELECT max(id) FROM writes WHERE name = ?1 AND holder = ?2)"
        query = f"SELECT 1 FROM writes WHERE name = ?1 AND id > {last} AND holder <> ?2 LIMIT 1"
        return bool(self._file.execute(query, (name, holder)).fetchall())

    def last(self) -> int:
        """Return the number of the last write."""
        [(number,)] = self._file.execute("SELECT coalesce(max(id), 0) FROM writes").fetchall()
        return number

    def all(self) -> list[Write]:
        """Return each write, in order."""
        return self._file.execute("SELECT name, token, holder, taken FROM writes ORDER BY id").fetchall()

    def close(self) -> None:
        """Close."""
        self._file.close()


class Recorded:
    """Leases of which every call is written down, with what came of it."""

    def __init__(self, lease: Lease, history: History, client: str) -> None:
        self._lease, self._history, self._client = lease, history, client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lease, name)

    async def take(self, name: str, holder: str, ttl: float, **options: Any) -> Grant | None:
        with self._history.call(self._client, "take", holder, ttl, key=name) as answer:
            grant = await self._lease.take(name, holder, ttl, **options)
            answer(grant and (grant.token, self._given_at(grant, ttl)))
        return grant

    async def renew(self, grants: Sequence[Grant], ttl: float) -> list[Grant | None]:
        with ExitStack() as stack:
            wishes = [(each.holder, each.token, ttl) for each in grants]
            answers = [
                stack.enter_context(self._history.call(self._client, "renew", *wish, key=each.name))
                for each, wish in zip(grants, wishes, strict=True)
            ]
            renewed = await self._lease.renew(grants, ttl)
            for answer, grant in zip(answers, renewed, strict=True):
                answer(grant is not None and (True, self._given_at(grant, ttl)))
            return renewed

    async def lift(self, grant: Grant, token: int) -> Grant | None:
        wish = grant.holder, grant.token, token
        with self._history.call(self._client, "lift", *wish, key=grant.name) as answer:
            lifted = await self._lease.lift(grant, token)
            answer(lifted and lifted.token)
        return lifted

    async def drop(self, grants: Sequence[Grant]) -> None:
        with ExitStack() as stack:
            answers = [
                stack.enter_context(
                    self._history.call(self._client, "drop", each.holder, each.token, key=each.name)
                )
                for each in grants
            ]
            await self._lease.drop(grants)
            for answer in answers:
                answer(None)

    @staticmethod
    def _given_at(grant: Grant, ttl: float) -> float:
        """Return when a grant was given by its keeper's clock, which is this machine's, as a moment of the history."""
        while True:
            before, now, after = CLOCK.monotonic(), CLOCK.now(), CLOCK.monotonic()
            if after - before < 0.001:  # else we stood still in between
                return before + (grant.expires_at - now) / MICROSECONDS - ttl


class Contender:
    """One of many processes."""

    def __init__(self, options: Options) -> None:
        self._options, self._folder = options, Path(options.folder)
        self._me = str(os.getpid())
        self._history = History(now=CLOCK.monotonic)
        self._resource = Resource(self._folder)
        self._stops = os.open(self._folder / STOPS, os.O_WRONLY)
        self._numbers = count(1)
        self._manager: LockManager
        self._client: Redis

    async def serve(self) -> None:
        """Contend in all lanes until it is enough; then write the history."""
        urls = self._options.stores
        async with AsyncExitStack() as stack:
            stores = [open_store(url) for url in urls]
            for store in stores:
                await store.start()
                stack.push_async_callback(store.stop)
            self._client = await stack.enter_async_context(Redis.from_url(urls[0]))
            self._manager = LockManager(stores if len(stores) > 1 else stores[0])
            self._record(await self._manager._acquirer._keeper.start())
            await stack.enter_async_context(self._manager)
            self._say("ready")
            while not (self._folder / BEGIN).exists():  # noqa: ASYNC110 - a file has no event to wait for
                await asyncio.sleep(0.1)
            await asyncio.gather(*map(self._lane, self._options.lanes * self._options.tasks))
        self._history.save(self._folder / f"history.{self._me}")

    def _record(self, keeper: Any) -> None:
        keeper.lease = Recorded(keeper.lease, self._history, self._me)

    async def _lane(self, lane: str) -> None:
        dice = Random(f"{self._options.seed} {self._me} {lane} {next(self._numbers)}")
        number = 0
        while not (self._folder / ENOUGH).exists():
            name = f"{lane}/{number}"
            if self._resource.holders(name) >= self._options.holders:
                number += 1
                continue
            try:
                async with self._plain(name) if lane == PLAIN else self._fenced(name) as token:
                    if self._resource.holders(name) < self._options.holders:
                        self._resource.begin(name)
                        await self._hold(name, token, f"{self._me}.{next(self._numbers)}", dice)
            except LockNotAcquired:
                continue
            except (LeaseLost, StoreError, RedisError) as error:
                with (self._folder / LOST).open("a") as file:
                    file.write(f"{lane} {type(error).__name__}\n")
                if not isinstance(error, LeaseLost):
                    await asyncio.sleep(WAIT)  # the server is away; who asks again at once only hears that

    @asynccontextmanager
    async def _fenced(self, name: str) -> AsyncIterator[int]:
        async with self._manager.lock(name, self._options.ttl, timeout=WAIT) as held:
            yield held.token

    @asynccontextmanager
    async def _plain(self, name: str) -> AsyncIterator[int]:
        lock = Lock(self._client, name, timeout=self._options.ttl, blocking_timeout=WAIT)
        if not await lock.acquire():
            raise LockNotAcquired(name)
        try:
            yield 0
        finally:
            await lock.release()

    def _say(self, line: str) -> None:
        os.write(self._stops, f"{line}\n".encode())

    async def _hold(self, name: str, token: int, holder: str, dice: Random) -> None:
        for _ in range(WRITES):
            self._write(name, token, holder)
            if dice.random() < self._options.stops / WRITES:
                self._say(f"{self._me} {name} {holder}")
                os.kill(os.getpid(), signal.SIGSTOP)
                for _ in range(WRITES_AFTER):
                    self._write(name, token, holder)
            await asyncio.sleep(0)

    def _write(self, name: str, token: int, holder: str) -> None:
        if not token:
            self._resource.write(name, token, holder)
            return
        with self._history.call(self._me, "write", token, key=f"lock/{name}") as answer:
            answer(self._resource.write(name, token, holder))


def main(options: dict[str, Any]) -> None:
    """Be a contender."""
    asyncio.run(Contender(msgspec.convert(options, Options)).serve())
