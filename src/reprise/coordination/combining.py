"""Read, decide, write if nobody else wrote meanwhile: again until it succeeds, and together where it can be.

What several callers of one process want of one key at the same time becomes one write, if what they want can be done
one after the other: a hundred increments are one. So processes that contend for a key stand in each other's way as
processes, not as callers.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from reprise.coordination.replica import Replica
from reprise.kernel.errors import CellConflict, StoreClosed
from reprise.stores.cells import ABSENT, KEEP, Change, View

MOST_TOGETHER = 10_000
"""Wishes that become one write."""


class Present(msgspec.Struct, frozen=True):
    """What there is when somebody decides."""

    exists: bool
    value: Any
    version: int


class Decision(msgspec.Struct, frozen=True):
    """What becomes of a key."""

    value: Any
    data: bytes | None
    """None = it is removed."""
    ttl: float | None = KEEP
    is_written: bool = True
    """Else everything stays as it is."""


class Outcome(msgspec.Struct, frozen=True):
    """What came of a wish."""

    value: Any
    version: int
    is_written: bool


Decide = Callable[[Present], Decision]
"""Say what is to become of a key; may be asked several times. What it raises is its caller's."""


class _Wish(msgspec.Struct, eq=False):
    decide: Decide
    combines: bool
    """It does not matter to it whether what is there was written or is only about to be."""
    answer: asyncio.Future[Outcome]


class Combiner:
    """The wishes of one process for the keys of one space."""

    def __init__(
        self,
        replica: Replica,
        apply: Callable[[Sequence[Change]], Any],
        decode: Callable[[bytes], Any],
    ) -> None:
        self.writes = 0
        self.wishes = 0
        self.conflicts = 0
        self._replica, self._apply, self._decode = replica, apply, decode
        self._waiting: dict[str, deque[_Wish]] = {}
        self._tasks: dict[asyncio.Task[None], None] = {}

    async def wish(self, key: str, decide: Decide, *, combines: bool) -> Outcome:
        """Let a key become what is decided, and return that.

        Raises what ``decide`` raises, if that holds for what the store has now, and errors of the store.
        """
        self.wishes += 1
        wish = _Wish(decide, combines, asyncio.get_running_loop().create_future())
        waiting = self._waiting.get(key)
        if waiting is not None:
            waiting.append(wish)
        else:
            self._waiting[key] = deque((wish,))
            task = asyncio.create_task(self._serve(key), name=f"reprise state write {key}")
            self._tasks[task] = None
            task.add_done_callback(self._tasks.pop)
        return await wish.answer

    async def stop(self) -> None:
        """Stop what is under way; who waits is told so."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, key: str) -> None:
        """Serve the wishes for a key until there are no more."""
        waiting = self._waiting[key]
        some: list[_Wish] = []
        try:
            while waiting:
                some = _first(waiting)
                try:
                    await self._fulfil(key, some)
                except Exception as error:  # noqa: BLE001 - told to those who wait for it
                    _refuse(some, error)
        finally:
            # After this there is no await, so nobody stands in a line that is served no more.
            del self._waiting[key]
            _refuse(
                (*some, *waiting),
                StoreClosed(
                    f"The state was stopped before {key} was written.", hint="Start it again, and look."
                ),
            )

    async def _fulfil(self, key: str, wishes: Sequence[_Wish]) -> None:
        """Write what comes of wishes, one after the other."""
        is_fresh = False
        while True:
            # Whether it has ended meanwhile is for the store to say: its clock counts.
            known = self._replica.known.get(key)
            data = known.data if known else None
            version = known.version if known and data is not None else ABSENT
            outcomes, last = self._decided(data, wishes, version)
            is_certain = last is not None and all(isinstance(o, Outcome) and o.is_written for o in outcomes)
            if not (is_certain or is_fresh):
                # A refusal is told of what the store has, not of what this process has heard of so far.
                await self._replica.catch_up()
                is_fresh = True
                continue
            if last is not None:
                try:
                    view = await self._apply([Change(key, last.data, version, last.ttl)])
                except CellConflict:
                    self.conflicts += 1
                    await self._replica.catch_up()
                    is_fresh = True
                    continue
                self.writes += 1
                version = _version_in(view)
            _answer(wishes, outcomes, version)
            return

    def _decided(
        self, data: bytes | None, wishes: Sequence[_Wish], version: int
    ) -> tuple[list[Outcome | Exception], Decision | None]:
        """Return what comes of each wish after those before it, and what is to be written in the end, if anything."""
        last: Decision | None = None
        outcomes: list[Outcome | Exception] = []
        for wish in wishes:
            value = None if data is None else self._decode(data)
            try:
                decision = wish.decide(Present(data is not None, value, version))
            except Exception as error:  # noqa: BLE001 - it is its caller's
                outcomes.append(error)
                continue
            outcomes.append(Outcome(decision.value, version, decision.is_written))
            if decision.is_written:
                # Of several times to live the last that says one counts.
                keeps = decision.ttl == KEEP and last is not None and decision.data is not None
                last = msgspec.structs.replace(decision, ttl=last.ttl) if keeps and last else decision
                data = decision.data
        return outcomes, last


def _first(waiting: deque[_Wish]) -> list[_Wish]:
    """Take the wishes off a line that can be fulfilled together: those that combine, or one that does not."""
    some = [waiting.popleft()]
    while some[0].combines and waiting and waiting[0].combines and len(some) < MOST_TOGETHER:
        some.append(waiting.popleft())
    return some


def _version_in(view: View) -> int:
    return view.cells[0].version if view.cells else view.position


def _answer(wishes: Sequence[_Wish], outcomes: Sequence[Outcome | Exception], version: int) -> None:
    for wish, outcome in zip(wishes, outcomes, strict=True):
        if wish.answer.done():
            continue  # its caller has gone
        if isinstance(outcome, Exception):
            wish.answer.set_exception(outcome)
        else:
            wish.answer.set_result(msgspec.structs.replace(outcome, version=version))


def _refuse(wishes: Sequence[_Wish], error: Exception) -> None:
    for wish in wishes:
        if not wish.answer.done():
            wish.answer.set_exception(error)
