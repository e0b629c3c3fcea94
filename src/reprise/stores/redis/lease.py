"""Leases on one Redis server: one script changes all there is about a name.

Who gives a lease back hands it to the next in line within the same script, and tells that one by a push; nobody polls,
and nobody overtakes. Who waits looks again when the lease of a holder that says nothing ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from itertools import count
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

import msgspec

from reprise.kernel.clock import MICROSECONDS
from reprise.kernel.errors import ConfigurationError
from reprise.stores.lease import Grant
from reprise.stores.redis.wire import Script, Wire, no_matter

SCRIPT = Script.of("lease.lua")
LOOK_AGAIN = 0.01
"""Seconds after the end of somebody's lease at which who waits for it looks."""
PAGE = 1000
"""Keys looked at with one command, where all have to be."""
LONGEST_LOOK = 30.0
"""Seconds after which whoever waits looks again in any case."""


class _Wish(NamedTuple):
    """What a caller waits for."""

    name: str
    holder: str
    text: bytes
    answer: asyncio.Future[Grant]


class RedisLease:
    """Leases by name."""

    def __init__(self, wire: Wire, root: str, channel: str) -> None:
        self._wire, self._root, self._channel = wire, root, channel
        self._numbers = count(1)
        self._wishes: dict[bytes, _Wish] = {}

    async def take(
        self,
        name: str,
        holder: str,
        ttl: float,
        *,
        limit: int = 1,
        shared: bool = False,
        wait: float | None = 0,
    ) -> Grant | None:
        """Take the lease for ``ttl`` seconds, or return None when it is not free within ``wait`` seconds.

        Raises:
            ConfigurationError: a ``ttl`` or ``limit`` that is not positive.
            StoreUnreachable: the server is away; whether it was taken is then unknown, and it ends after ``ttl``.
        """
        if ttl <= 0 or limit < 1:
            raise ConfigurationError(
                f"The lease {name} was asked for {ttl} s and {limit} holders.", hint="Both must be positive."
            )
        id = f"{self._channel}/{next(self._numbers)}"
        text = msgspec.json.encode(
            {"id": id, "channel": self._channel, "holder": holder, "ttl": round(ttl * MICROSECONDS),
             "limit": limit, "shared": shared}
        )  # fmt: skip
        wish = _Wish(name, holder, text, asyncio.get_running_loop().create_future())
        if wait == 0:
            return _grant(name, holder, await self._do(name, "take", text, 0))
        self._wishes[id.encode()] = wish
        try:
            return await self._wait(wish, wait)
        except BaseException:
            self._give_up(wish)
            raise
        finally:
            del self._wishes[id.encode()]

    async def renew(self, grants: Sequence[Grant], ttl: float) -> list[Grant | None]:
        """Extend grants by ``ttl`` seconds from now; None in the place of each that was lost."""
        until = round(ttl * MICROSECONDS)
        replies = await self._for_each(grants, "renew", until)
        return [_grant(grant.name, grant.holder, reply) for grant, reply in zip(grants, replies, strict=True)]

    async def drop(self, grants: Sequence[Grant]) -> None:
        """Give grants back; those already lost are ignored."""
        await self._for_each(grants, "drop")

    async def holder(self, name: str) -> list[Grant]:
        """Return the live grants of a name, oldest first."""
        found = [
            Grant(name, holder.decode(), int(token), int(ends))
            for holder, token, ends in await self._do(name, "holders")
        ]
        return sorted(found, key=lambda grant: grant.token)

    async def find(self, prefix: str = "") -> list[Grant]:
        """Return the live grants of all names that begin with ``prefix``, by name, then oldest first.

        Goes through all keys of the server, some at a time.
        """
        names = sorted([name async for name in self._all(prefix)])
        return [grant for grants in await asyncio.gather(*map(self.holder, names)) for grant in grants]

    async def lift(self, grant: Grant, token: int) -> Grant | None:
        """Give a grant a token that is at least ``token``, and every later one a higher; None when it was lost.

        A lease of another name follows when the server's clock has come there: tokens are moments of it.
        """
        reply = await self._do(grant.name, "lift", grant.holder, grant.token, token)
        return _grant(grant.name, grant.holder, reply)

    async def end_all(self) -> None:
        """End all grants of all names."""
        async for name in self._all(""):
            await self._do(name, "end")

    def pushed(self, message: bytes) -> None:
        """Take in that a wish was granted."""
        id, token, ends = message.split()
        wish = self._wishes.get(id)
        if wish is not None and not wish.answer.done():
            wish.answer.set_result(Grant(wish.name, wish.holder, int(token), int(ends)))

    async def _all(self, prefix: str) -> AsyncIterator[str]:
        """Yield the names that are known and begin with a prefix."""
        cursor, seen = b"0", set[bytes]()
        pattern = f"{self._root}lease:{{{quote(prefix, safe='')}*:held"
        while True:
            cursor, keys = await self._wire.send("SCAN", cursor, "MATCH", pattern, "COUNT", PAGE)
            for key in set(keys) - seen:
                yield unquote(key.decode()[len(f"{self._root}lease:{{") : -len("}:held")])
            seen.update(keys)
            if cursor == b"0":
                return

    def _keys(self, name: str) -> tuple[str, str]:
        """Return the keys of a name: who holds it, and who waits. The braces put both into one slot of a cluster."""
        key = f"{self._root}lease:{{{quote(name, safe='')}}}"
        return f"{key}:held", f"{key}:line"

    async def _wait(self, wish: _Wish, wait: float | None) -> Grant | None:
        loop = asyncio.get_running_loop()
        end = None if wait is None else loop.time() + wait
        while True:
            # Again and again the same question: it also serves those before us whose turn came, and puts us back in
            # line where a server lost what it knew.
            reply = await self._do(wish.name, "take", wish.text, 1)
            if not wish.answer.done() and len(reply) > 1:
                return _grant(wish.name, wish.holder, reply)
            if not wish.answer.done():
                pause = min(int(reply[0]) / 1000 + LOOK_AGAIN, LONGEST_LOOK)
                await _done_within(wish.answer, pause if end is None else min(pause, end - loop.time()))
            if wish.answer.done():
                return wish.answer.result()
            if end is not None and loop.time() >= end:
                return _grant(wish.name, wish.holder, await self._do(wish.name, "leave", wish.text))

    def _give_up(self, wish: _Wish) -> None:
        """Wait no more; give back what came meanwhile. Sent at once, so nobody who asks later finds us in line."""

        def left(reply: asyncio.Future[Any]) -> None:
            if reply.cancelled() or reply.exception() is not None:
                return
            grant = _grant(wish.name, wish.holder, reply.result())
            if grant is not None:
                self._do(wish.name, "drop", grant.holder, grant.token).add_done_callback(no_matter)

        self._do(wish.name, "leave", wish.text).add_done_callback(left)

    async def _for_each(self, grants: Sequence[Grant], what: str, *more: Any) -> list[Any]:
        replies = [self._do(grant.name, what, grant.holder, grant.token, *more) for grant in grants]
        if len(replies) == 1:
            return [await replies[0]]
        return await asyncio.gather(*replies)

    def _do(self, name: str, what: str, *args: Any) -> asyncio.Future[Any]:
        return self._wire.run(SCRIPT, self._keys(name), what, *args)


async def _done_within(answer: asyncio.Future[Any], seconds: float) -> None:
    """Wait until there is an answer, or time has passed; at a fraction of what ``asyncio.wait`` does for it."""
    loop = asyncio.get_running_loop()
    woken: asyncio.Future[None] = loop.create_future()

    def wake(_: object = None) -> None:
        if not woken.done():
            woken.set_result(None)

    alarm = loop.call_later(max(seconds, 0), wake)
    answer.add_done_callback(wake)
    try:
        await woken
    finally:
        alarm.cancel()
        answer.remove_done_callback(wake)


def _grant(name: str, holder: str, reply: Sequence[bytes]) -> Grant | None:
    return Grant(name, holder, int(reply[0]), int(reply[1])) if len(reply) > 1 else None
