"""What is asked of the same keys in one turn of the loop, or while the last call is under way, becomes one call.

So nobody who awaits one thing after the other waits longer, and many who await one thing each share a round trip, a script
and a commit. For the same keys there is one call at a time, or two while much waits: the server then finds the next when it
is done with one. Each call has a number: after a lost connection the script knows whether it did it already, and answers the
same.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from reprise.kernel.errors import StoreFull
from reprise.stores.redis.wire import Script, Wire

MOST = 1000
"""Items of one call, unless one operation alone has more: a script holds up everybody else."""

MUCH = 16
"""Items that do not wait for the answer of the call before them; fewer wait, and become more."""
LANES = 2
"""Calls that are under way at one time."""

Operation = tuple[int, str, list[Any]]
"""Which of the keys, what is to be done, and with what."""


class _Unit:
    """Operations of one caller, done together or not at all."""

    __slots__ = ("answer", "operations", "weight")

    def __init__(
        self, operations: Sequence[Operation], weight: int, answer: asyncio.Future[list[Any]]
    ) -> None:
        self.operations, self.weight, self.answer = operations, weight, answer


class _Lane:
    """One call at a time: under what name the script remembers its answer, and which it is."""

    __slots__ = ("client", "number")

    def __init__(self, client: str) -> None:
        self.client, self.number = client, 0


class Turns:
    """Calls of one script with the same keys, one after the other.

    ``client``
        Under what the script remembers what it answered last.
    ``merged``
        Names of operations with a list of items, of which several that follow each other become one.
    ``unwanted``
        Called with an operation and its answer whose caller was cancelled meanwhile.
    """

    def __init__(
        self,
        wire: Wire,
        script: Script,
        keys: Sequence[str],
        client: str,
        merged: frozenset[str],
        unwanted: Callable[[Operation, Any], None],
    ) -> None:
        self._wire, self._script, self._keys = wire, script, keys
        self._merged, self._unwanted = merged, unwanted
        self._waiting: deque[_Unit] = deque()
        self._weight = 0
        """Of all that waits."""
        self._free = [_Lane(f"{client}-{n}") for n in range(LANES)]
        self._is_due = False
        """What waits leaves at the end of this turn."""
        self._singly = 0
        """How many of those who wait are asked one by one, since together they were refused."""

    def ask(self, *operations: Operation, weight: int = 1) -> asyncio.Future[list[Any]]:
        """Have operations done together with what else is asked in this turn; the future has their answers."""
        loop = asyncio.get_running_loop()
        unit = _Unit(operations, weight, loop.create_future())
        self._waiting.append(unit)
        self._weight += weight
        if self._may_send() and not self._is_due:
            self._is_due = True
            loop.call_soon(self._turn)
        return unit.answer

    def _may_send(self) -> bool:
        return len(self._free) == LANES or bool(self._free and self._weight >= MUCH)

    def _turn(self) -> None:
        self._is_due = False
        self._send_all()

    def _send_all(self) -> None:
        while self._waiting and self._may_send():
            self._send(self._free.pop())

    def _send(self, lane: _Lane) -> None:
        units = [self._waiting.popleft()]
        weight = units[0].weight
        while self._waiting and not self._singly and weight + self._waiting[0].weight <= MOST:
            weight += self._waiting[0].weight
            units.append(self._waiting.popleft())
        self._singly = max(self._singly - 1, 0)
        operations, places = self._joined(units)
        self._weight -= weight
        lane.number += 1
        wish = msgspec.msgpack.encode(operations)
        reply = self._wire.run(self._script, self._keys, lane.client, lane.number, wish)
        self._wire.flush()  # who asks in this turn is in it: another turn, in which a worker does what it has, would be lost
        reply.add_done_callback(lambda reply: self._came(lane, units, places, reply))

    def _joined(self, units: Sequence[_Unit]) -> tuple[list[list[Any]], list[list[tuple[int, slice]]]]:
        """Return operations to ask, and for each unit where its answers will be."""
        joined: list[list[Any]] = []
        places: list[list[tuple[int, slice]]] = []
        for unit in units:
            mine: list[tuple[int, slice]] = []
            for key, name, args in unit.operations:
                if name not in self._merged:
                    joined.append([key, name, *args])
                    mine.append((len(joined) - 1, slice(None)))
                    continue
                if not joined or joined[-1][:2] != [key, name]:
                    joined.append([key, name, []])
                items = joined[-1][2]
                mine.append((len(joined) - 1, slice(len(items), len(items) + len(args))))
                items += args
            places.append(mine)
        return joined, places

    def _came(
        self,
        lane: _Lane,
        units: Sequence[_Unit],
        places: Sequence[Sequence[tuple[int, slice]]],
        reply: asyncio.Future[list[Any]],
    ) -> None:
        error = reply.exception()
        is_again = isinstance(error, StoreFull) and len(units) > 1
        if is_again:
            # It refuses what needs memory; what needs none is not to suffer from having come with it.
            self._waiting.extendleft(reversed(units))
            self._singly += len(units)
            self._weight += sum(unit.weight for unit in units)
        self._free.append(lane)
        self._send_all()  # first: the server is at it while those who are answered go on
        if error is None:
            for unit, mine in zip(units, places, strict=True):
                self._give(unit, mine, reply.result())
        elif not is_again:
            for unit in units:
                if not unit.answer.done():
                    unit.answer.set_exception(error)

    def _give(self, unit: _Unit, places: Sequence[tuple[int, slice]], answers: Sequence[Any]) -> None:
        mine: list[Any] = []
        for operation, (place, part) in zip(unit.operations, places, strict=True):
            mine.append(answers[place][part] if operation[1] in self._merged else answers[place])
        if not unit.answer.done():
            unit.answer.set_result(mine)
            return
        for operation, answer in zip(unit.operations, mine, strict=True):
            self._unwanted(operation, answer)


def text(data: bytes) -> msgspec.Raw:
    """Return bytes as msgpack's older text: the server's Lua knows no other."""
    return msgspec.Raw(b"\xdb" + len(data).to_bytes(4, "big") + data)
