"""Asking several independent keepers at once, each for a short while: who answers, who is away."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from math import inf
from typing import Any, TypeAlias

from reprise.coordination.keepers import Keeper
from reprise.kernel.errors import StoreError, StoreUnreachable
from reprise.stores.lease import Lease

PATIENCE = 5.0
"""Seconds for which a majority that is away is waited for, by whoever waits at all: servers restart, disks stall."""
ARRIVED = 0.001
"""Seconds in which we take in what has arrived already, where our own loop was held up and looks late."""

Away: TypeAlias = dict[int, StoreError]
"""Which keepers did not answer, by number, and why."""


class Panel:
    """Keepers that are asked together.

    A question is given up after ``node_timeout`` seconds. Opening a keeper is not: that may take longer (TLS, a long way, a
    server that starts), goes on by itself, and the keeper counts as away until it is done.
    """

    def __init__(self, keepers: Sequence[Keeper], node_timeout: float) -> None:
        self._keepers = keepers
        self.node_timeout = node_timeout
        self.everybody = range(len(keepers))
        self.quorum = len(keepers) // 2 + 1
        self._opening: dict[int, asyncio.Task[Any]] = {}

    async def ask(self, nodes: Iterable[int], call: Callable[[int, Lease], Awaitable[None]]) -> Away:
        """Ask keepers, all at once and each once; return those that did not answer, and why."""

        async def one(node: int) -> None:
            await call(node, await self._lease(node))

        asked = {node: asyncio.create_task(one(node)) for node in nodes}
        try:
            await _done(asked.values(), self.node_timeout)
            await _done(asked.values(), ARRIVED)
        finally:
            for task in asked.values():
                task.cancel()
            answers = await asyncio.gather(*asked.values(), return_exceptions=True)
        return self._away(dict(zip(asked, answers, strict=True)))

    async def reach(self) -> None:
        """Open all keepers, and return when a majority is open.

        Raises:
            StoreUnreachable: it was not within ``PATIENCE``.
        """

        async def nothing(node: int, lease: Lease) -> None:
            pass

        missing = Missing()
        while True:
            try:
                return self.check(await self.ask(self.everybody, nothing))
            except StoreUnreachable as error:
                missing.note(error)
                await asyncio.sleep(self.node_timeout)

    def check(self, away: Away) -> None:
        """Raise ``StoreUnreachable`` when so many are away that the others are no majority."""
        if len(away) > len(self._keepers) - self.quorum:
            raise self.unreachable(away)

    def unreachable(self, away: Away) -> StoreUnreachable:
        """Return the error that says who is away."""
        first = next(iter(away.values()))
        return StoreUnreachable(
            f"Of {len(self._keepers)} keepers {len(away)} cannot be reached: {first.what}",
            hint=f"{self.quorum} are needed; check that they run.",
        )

    async def settle(self) -> None:
        """Open no more."""
        opening = list(self._opening.values())
        for task in opening:
            task.cancel()
        await asyncio.gather(*opening, return_exceptions=True)
        self._opening.clear()

    async def _lease(self, node: int) -> Lease:
        keeper = self._keepers[node]
        if not keeper.is_open:
            opening = self._opening.get(node)
            if opening is None or opening.done():
                opening = self._opening[node] = asyncio.create_task(keeper.start())
            await asyncio.wait([opening])
            opening.result()
        return keeper.store.lease

    def _away(self, answers: Mapping[int, BaseException | None]) -> Away:
        away: Away = {}
        for node, answer in answers.items():
            if isinstance(answer, asyncio.CancelledError):
                away[node] = StoreUnreachable(f"It did not answer within {self.node_timeout:g} s.")
            elif isinstance(answer, StoreError):
                away[node] = answer
            elif answer is not None:
                raise answer
        return away


class Missing:
    """A majority that is away while somebody waits."""

    def __init__(self) -> None:
        self._since = inf

    def note(self, error: StoreUnreachable, until: float = inf) -> None:
        """Take note that it is away, or raise the error: it has been for ``PATIENCE``, or nobody waits beyond ``until``."""
        now = asyncio.get_running_loop().time()
        self._since = min(self._since, now)
        if now >= min(self._since + PATIENCE, until):
            raise error

    def over(self) -> None:
        """Note that a majority answered."""
        self._since = inf


async def _done(tasks: Iterable[asyncio.Task[None]], within: float) -> None:
    """Return when all tasks are done, or after a while."""
    if pending := [task for task in tasks if not task.done()]:
        await asyncio.wait(pending, timeout=within)
