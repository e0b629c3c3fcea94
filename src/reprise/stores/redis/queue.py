"""Queues on one Redis server: one script does what is asked of a queue, all keys of which lie in one slot.

Whatever is asked of a queue in one turn of the loop becomes one call, and each call is done once, also when its answer was
lost with the connection (:class:`~reprise.stores.redis.turns.Turns`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from functools import partial
from heapq import nsmallest
from struct import Struct
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple
from urllib.parse import quote

import msgspec
from msgspec.structs import replace

from reprise.kernel.clock import MICROSECONDS
from reprise.stores.queue import QueueStats, Settlement, Task, check_change, check_settlements
from reprise.stores.redis.turns import Operation, Turns, text
from reprise.stores.redis.wire import Script, Wire, no_matter

SCRIPT = Script.of("head.lua", "queue.lua", "turn.lua")
MERGED = frozenset({"offer", "settle", "extend"})
PAGE = 1000
"""Tasks looked at with one command, where all have to be."""

_HEAD = Struct(">ddddi")
_claim = msgspec.msgpack.Decoder(tuple[str, str, int, int, int, int, str, str])
_NEVER_CLAIMED = ("ready", "", 0, 0, 0, 0, "", "")


class _Found(NamedTuple):
    """A task and its number, by which those stand that are equal otherwise."""

    task: Task
    number: float


class RedisQueue:
    """Queues by name. ``root`` begins all keys; ``client`` is known to the script as the one who asks."""

    claims_at_once: ClassVar[int] = 2

    def __init__(self, wire: Wire, root: str, client: str) -> None:
        self._wire, self._root, self._client = wire, root, client
        self._names = f"{root}queues"
        self._named: set[str] = set()
        """Queues whose name the server was told."""
        self._turns: dict[tuple[str, ...], Turns] = {}

    async def offer(self, tasks: Sequence[Task]) -> list[bool]:
        """Add tasks, all or none; return of each whether it is new. Those of one turn of the loop are one call.

        Raises:
            StoreFull: the server has no room for them.
        """
        if not tasks:
            return []
        queues = tuple(dict.fromkeys(task.queue for task in tasks))
        for queue in queues:
            self._name(queue)
        wishes: dict[str, list[Any]] = {queue: [] for queue in queues}
        for task in tasks:
            wishes[task.queue].append(_wish(task))
        operations = [(place, "offer", wishes[queue]) for place, queue in enumerate(queues, 1)]
        answers = await self._of(*queues).ask(*operations, weight=len(tasks))
        marks = {queue: iter(answer) for queue, answer in zip(queues, answers, strict=True)}
        return [next(marks[task.queue]) == b"1"[0] for task in tasks]

    async def claim(self, queue: str, worker: str, limit: int, ttl: float) -> list[Task]:
        """Claim up to ``limit`` ready, due tasks (and claimed ones whose claim ended) for ``ttl`` seconds.

        What comes when nobody waits for it any more is given back.
        """
        if limit < 1:
            return []
        flat = await self._ask(queue, "claim", worker, limit, _us(ttl), weight=limit)
        return [found.task for found in _found(queue, flat)]

    async def due(self, queue: str) -> float | None:
        """Return in how many seconds there will be something to claim; None = not by the passing of time."""
        answer = await self._ask(queue, "due")
        return int(answer) / MICROSECONDS if answer else None

    async def extend(self, tasks: Sequence[Task], ttl: float) -> list[Task | None]:
        """Extend claims; None in the place of each that was lost."""
        ends = await self._each(
            tasks, "extend", lambda place: [tasks[place].id, tasks[place].token, _us(ttl)]
        )
        return [
            replace(task, until=int(end)) if int(end) else None for task, end in zip(tasks, ends, strict=True)
        ]

    async def settle(self, settlements: Sequence[Settlement]) -> list[bool]:
        """End claims, each for itself; return of each whether it was ended: its token is not old.

        A late settle still counts as long as nobody else has claimed the task. Raises ``ConfigurationError`` for a
        state that is none.
        """
        check_settlements(settlements)
        tasks = [settlement.task for settlement in settlements]
        marks = await self._each(tasks, "settle", lambda place: _end(settlements[place]))
        return [mark == b"1"[0] for mark in marks]

    async def names(self) -> list[str]:
        """Return the names of the queues that have tasks of any state."""
        names = [name.decode() for name in await self._wire.send("SMEMBERS", self._names)]
        counts = [self._wire.send("HLEN", f"{self._keys(name)}:task") for name in names]
        return sorted([name for name, count in zip(names, counts, strict=True) if await count])

    async def find(
        self,
        queue: str,
        state: str = "",
        limit: int = 100,
        *,
        ids: Sequence[str] | None = None,
        skip: int = 0,
    ) -> list[Task]:
        """Return tasks of one state if given, of ``ids`` if given, after the first ``skip``.

        Of all states together it looks at every task of the queue, a page at a time.
        """
        if ids is None and state:
            _, *flat = await self._ask(queue, "find", state, limit, skip)
            return [found.task for found in _found(queue, flat)]
        if ids is None:
            places = [place async for place in self._places(queue)]
            ids = [id for _, _, id in nsmallest(skip + limit, places)]
        now, *flat = await self._ask(queue, "look", list(dict.fromkeys(ids)))
        found = [each for each in _found(queue, flat) if state in ("", _shown(each.task, int(now)))]
        found.sort(key=_PLACES[state])
        return [each.task for each in found[skip : skip + limit]]

    async def change(
        self,
        queue: str,
        ids: Sequence[str],
        *,
        order: float | None = None,
        due_at: int | None = None,
        state: str | None = None,
    ) -> int:
        """Change tasks that are ready or dead (redrive, delay, re-order, remove); return how many.

        Raises ``ConfigurationError`` for a state other than ready, dead, gone.
        """
        check_change(state)
        return int(await self._ask(queue, "change", list(ids), order, due_at, state))

    async def pause(self, queue: str, paused: bool) -> None:
        """Let nobody claim until it is resumed."""
        await self._ask(queue, "pause", paused)

    async def stats(self, queue: str) -> QueueStats:
        """Return counts."""
        *counts, oldest, paused, levels = await self._ask(queue, "stats")
        counted = zip(levels[::2], levels[1::2], strict=True)
        return QueueStats(
            *counts,
            oldest_us=oldest,
            levels={int(level): int(count) for level, count in counted if int(count)},
            paused=bool(paused),
        )

    async def sweep(self, queue: str, limit: int = 1000) -> int:
        """Remove up to ``limit`` tasks that were kept for as long as they should; return how many."""
        return int(await self._ask(queue, "sweep", limit))

    async def renew(self) -> None:
        """Bring the keys of all queues to this layout; done twice it does no harm."""
        for name in await self._wire.send("SMEMBERS", self._names):
            await self._ask(name.decode(), "renew")

    def back(self) -> None:
        """Tell the names on a new connection, before what is asked again: the server may know nothing any more."""
        if self._named:
            self._wire.tell("SADD", self._names, *self._named)

    def _keys(self, queue: str) -> str:
        """Return what the keys of a queue begin with. The braces put them into one slot of a cluster."""
        return f"{self._root}queue:{{{quote(queue, safe='')}}}"

    def _of(self, *queues: str) -> Turns:
        turns = self._turns.get(queues)
        if turns is None:
            client = f"{self._client}.{len(self._turns)}"
            keys = [self._keys(queue) for queue in queues]
            self._turns[queues] = turns = Turns(
                self._wire, SCRIPT, keys, client, MERGED, partial(self._give_back, queues)
            )
        return turns

    async def _ask(self, queue: str, name: str, *args: Any, weight: int = 1) -> Any:
        [answer] = await self._of(queue).ask((1, name, list(args)), weight=weight)
        return answer

    async def _each(self, tasks: Sequence[Task], name: str, wish: Callable[[int], list[Any]]) -> list[Any]:
        """Ask something about each of tasks, which may be of several queues."""
        queues: dict[str, list[int]] = {}
        for place, task in enumerate(tasks):
            queues.setdefault(task.queue, []).append(place)
        asked = [
            (places, self._of(queue).ask((1, name, [wish(place) for place in places]), weight=len(places)))
            for queue, places in queues.items()
        ]
        answers: list[Any] = [None] * len(tasks)
        for places, reply in asked:
            [answer] = await reply
            for place, each in zip(places, answer, strict=True):
                answers[place] = each
        return answers

    def _name(self, queue: str) -> None:
        """Let others know of the queue, before its first task is there."""
        if queue not in self._named:
            self._named.add(queue)
            self._wire.tell("SADD", self._names, queue)

    def _give_back(self, queues: tuple[str, ...], operation: Operation, answer: Any) -> None:
        """Give back what was claimed for somebody who does not wait any more."""
        if operation[1] == "claim" and answer:
            claims = [found.task for found in _found(queues[0], answer)]
            wishes = [_end(Settlement(task, "back", note=task.note)) for task in claims]
            self._of(*queues).ask((1, "settle", wishes), weight=len(wishes)).add_done_callback(no_matter)

    async def _places(self, queue: str) -> AsyncIterator[tuple[float, float, str]]:
        cursor, key = b"0", f"{self._keys(queue)}:task"
        while True:
            cursor, flat = await self._wire.send("HSCAN", key, cursor, "COUNT", PAGE)
            for id, task in zip(flat[::2], flat[1::2], strict=True):
                order, _, _, number, _ = _HEAD.unpack_from(task)
                yield order, number, id.decode()
            if cursor == b"0":
                return


# ---------------------------------------------------------------- tasks


def _found(queue: str, flat: Sequence[bytes]) -> Iterator[_Found]:
    parts = iter(flat)
    for id, task, claim, outcome in zip(parts, parts, parts, parts, strict=True):
        order, due_at, offered_at, number, level = _HEAD.unpack_from(task)
        state, _, token, until, claims, ended_at, worker, note = (
            _claim.decode(claim) if claim else _NEVER_CLAIMED
        )
        yield _Found(
            Task(
                id.decode(), queue, task[_HEAD.size :], order, int(due_at), state, claims, token, worker, until,
                note, outcome, level, int(offered_at), ended_at,
            ),
            number,
        )  # fmt: skip


def _wish(task: Task) -> list[Any]:
    return [
        task.id, text(task.data), task.order, task.due_at, task.level, _us(task.delay),
        -1 if task.is_new else _us(task.again),
    ]  # fmt: skip


def _end(settlement: Settlement) -> list[Any]:
    outcome, keep = settlement.outcome, settlement.keep
    return [
        settlement.task.id,
        settlement.task.token,
        settlement.state,
        _us(settlement.delay),
        settlement.note,
        None if outcome is None else text(outcome),
        None if keep is None else _us(keep),
    ]


def _us(seconds: float) -> int:
    return round(seconds * MICROSECONDS) if seconds else 0


def _shown(task: Task, now: int) -> str:
    return "later" if task.state == "ready" and task.due_at > now else task.state


def _by_order(found: _Found) -> tuple[float, float]:
    return found.task.order, found.number


def _by_time(found: _Found) -> tuple[float, float]:
    task = found.task
    return {"ready": task.due_at, "claimed": task.until}.get(task.state, task.ended_at), found.number


_PLACES: Mapping[str, Callable[[_Found], tuple[float, float]]] = MappingProxyType(
    {
        "": _by_order,
        "ready": _by_order,
        "later": _by_time,
        "claimed": _by_time,
        "done": _by_time,
        "dead": _by_time,
    }
)
