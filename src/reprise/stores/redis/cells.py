"""Cells on one Redis server: one script does what is asked of a space, all keys of which lie in one slot.

Whatever is asked of a space in one turn of the loop becomes one call, as of queues. The script itself taps who follows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from struct import Struct
from typing import Any
from urllib.parse import quote

from reprise.kernel.clock import MICROSECONDS
from reprise.stores.cells import Cell, Change, Changed, View, check_changes, conflict, feed_gone, tap_of
from reprise.stores.conditions import floor_of
from reprise.stores.redis.turns import Operation, Turns, text
from reprise.stores.redis.wire import Script, Wire

SCRIPT = Script.of("head.lua", "cells.lua", "turn.lua")

_HEAD = Struct(">dd")


class RedisCells:
    """Cells by space and name. ``root`` begins all keys; ``client`` is known to the script as the one who asks.

    ``epoch``
        Tells in which epoch we are.
    """

    def __init__(self, wire: Wire, root: str, client: str, epoch: Callable[[], int]) -> None:
        self._wire, self._root, self._client, self._epoch = wire, root, client, epoch
        self._names = f"{root}spaces"
        self._named: set[str] = set()
        """Spaces whose name the server was told."""
        self._turns: dict[str, Turns] = {}

    async def get(self, space: str, names: Sequence[str]) -> View:
        """Return cells by their names, in that order; with no names only how far the feed has come."""
        return _view(await self._ask(space, "get", list(names)))

    async def apply(self, space: str, changes: Sequence[Change], *, origin: str = "") -> View:
        """Make all changes in one commit, or none; return the cells that these names have now.

        Raises:
            CellConflict: a cell does not have the version that is expected.
            ConfigurationError: changes contradict each other.
            StoreFull: the server has no room for them.
        """
        check_changes(space, changes)
        if space not in self._named:
            self._named.add(space)
            self._wire.tell("SADD", self._names, space)
        wishes = [_wish(change) for change in changes]
        answer = await self._ask(space, "apply", *self._told(space), origin, wishes, weight=len(wishes))
        if answer[0] == b"refused":
            place, found = int(answer[1]), int(answer[2])
            raise conflict(space, changes[place].name, changes[place].expected or 0, found)
        return _view(answer)

    async def scan(self, space: str, prefix: str = "", *, after: str = "", limit: int = 1000) -> View:
        """Return cells in the order of their names, those behind the name ``after``."""
        least = f"({after}" if after and after >= prefix else f"[{prefix}"
        most = text(b"(" + prefix.encode() + b"\xff") if prefix else "+"
        return _view(await self._ask(space, "scan", *self._told(space), [least, most], limit))

    async def feed(self, space: str, after: int, limit: int = 1000) -> list[Changed]:
        """Return what was changed behind a position, oldest first; raises ``FeedGone``."""
        answer = await self._ask(space, "feed", *self._told(space), after, limit)
        if isinstance(answer, bytes):
            raise feed_gone(space, after, int(answer))
        return [_changed(position, fields) for position, fields in answer]

    async def prune(self, space: str, keep: int) -> int:
        """Forget the oldest entries of the feed but ``keep`` of them; return how many went."""
        return int(await self._ask(space, "prune", keep))

    async def spaces(self) -> list[str]:
        """Return the names of the spaces that have cells."""
        names = await self._known()
        counts = [self._wire.send("HLEN", f"{self._key(name)}:cell") for name in names]
        return sorted([name for name, count in zip(names, counts, strict=True) if await count])

    async def begin_epoch(self, epoch: int) -> None:
        """Let positions of all spaces go on above all that were given, whatever epoch others know of."""
        for name in await self._known():
            await self._ask(name, "lift", floor_of(epoch))

    def back(self) -> None:
        """Tell the names on a new connection, before what is asked again: the server may know nothing any more."""
        if self._named:
            self._wire.tell("SADD", self._names, *self._named)

    async def _known(self) -> list[str]:
        return [name.decode() for name in await self._wire.send("SMEMBERS", self._names)]

    def _told(self, space: str) -> tuple[str, int]:
        """Return the channel of those who follow, and above what positions go on."""
        return f"{self._root}tap:{tap_of(space)}", floor_of(self._epoch())

    def _key(self, space: str) -> str:
        """Return what the keys of a space begin with. The braces put them into one slot of a cluster."""
        return f"{self._root}cells:{{{quote(space, safe='')}}}"

    async def _ask(self, space: str, name: str, *args: Any, weight: int = 1) -> Any:
        turns = self._turns.get(space)
        if turns is None:
            turns = Turns(self._wire, SCRIPT, [self._key(space)], self._client, frozenset(), _no_matter)
            self._turns[space] = turns
        [answer] = await turns.ask((1, name, list(args)), weight=weight)
        return answer


def _wish(change: Change) -> list[Any]:
    ttl = None if change.ttl is None else round(change.ttl * MICROSECONDS)
    return [change.name, None if change.data is None else text(change.data), change.expected, ttl]


def _view(answer: Sequence[bytes]) -> View:
    at, head, *flat = answer
    cells: list[Cell] = []
    for name, cell in zip(flat[::2], flat[1::2], strict=True):
        version, expires_at = _HEAD.unpack_from(cell)
        cells.append(Cell(name.decode(), cell[_HEAD.size :], int(version), int(expires_at)))
    return View(cells, int(head), int(at))


def _changed(position: bytes, fields: Sequence[bytes]) -> Changed:
    told = dict(zip(fields[::2], fields[1::2], strict=True))
    return Changed(
        int(position.partition(b"-")[0]),
        told[b"n"].decode(),
        told.get(b"d"),
        int(told[b"e"]),
        told[b"o"].decode(),
        int(told[b"a"]),
    )


def _no_matter(operation: Operation, answer: Any) -> None:
    """Let it be: what was changed for somebody who does not wait any more is changed."""
