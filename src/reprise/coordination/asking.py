"""Asking several independent keepers at once, each for a short while: who answers, who is away."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from math import inf
from typing import Any, TypeAlias, TypeVar

from reprise.coordination.keepers import Keeper
from reprise.kernel.errors import RepriseError, StoreError, StoreUnreachable
from reprise.stores.lease import Lease

T = TypeVar("T")

PATIENCE = 5.0
"""Seconds for which a majority that is away is waited for, by whoever waits at all: servers restart, disks stall."""
ARRIVED = 0.001
"""Seconds in which we take in what has arrived already, where our own loop was held up and looks late."""
GRACE = 0.01
"""Seconds for which the others are waited for when the answers of some decide: who is well answers by then."""
LONGEST_PAUSE = 1.0
"""Seconds after which a keeper that is away is asked again at the latest."""
_NOTHING = "redlock/nothing"
"""A name that nobody takes, to ask something."""

Away: TypeAlias = dict[int, StoreError]
"""Which keepers did not answer, by number, and why."""
Call: TypeAlias = "Callable[[int, Lease], Awaitable[None]]"
"""Ask a keeper something."""


class Panel:
    """Keepers that are asked together.

    A question is given up after ``node_timeout`` seconds. Then the keeper is away: it is asked by nobody but one task, until it
    answers that. So one that stands still costs those seconds once, and does not find a heap of questions when it goes on.
    Opening a keeper is not given up: that may take longer (TLS, a long way, a server that starts), goes on by itself, and
    the keeper is away until it is done.
    """

    def __init__(self, keepers: Sequence[Keeper], node_timeout: float) -> None:
        self._keepers = keepers
        self.node_timeout = node_timeout
        self.everybody = range(len(keepers))
        self.quorum = len(keepers) // 2 + 1
        self._opening: dict[int, asyncio.Task[Any]] = {}
        self._away: dict[int, asyncio.Task[None]] = {}
        """Keepers that are away, and who asks whether they are back."""
        self._late: dict[asyncio.Task[None], None] = {}
        """Questions that may still be answered, though nobody waits for it."""
        self._watches: dict[int, asyncio.Task[None]] = {}
        """By keeper with whom somebody stays: who ends when it is away."""
        self._staying = Counter[int]()

    async def ask(
        self,
        nodes: Iterable[int],
        call: Call,
        enough: Callable[[], bool] = lambda: False,
        *,
        anyway: bool = False,
    ) -> Away:
        """Ask keepers, all at once and each once; return those that did not answer, and why.

        As soon as what came is ``enough``, the others are waited for no longer than a moment; their calls go on.
        Who was away before is asked only when those who are not are no majority, or ``anyway``.
        """
        asked = list(nodes)
        left = [] if anyway or self._are_too_few() else [node for node in asked if node in self._away]
        away = await self._ask([node for node in asked if node not in left], call, enough)
        if left and self._are_too_few() and not enough():
            return away | await self._ask(left, call, enough)
        return away | {node: StoreUnreachable("It did not answer before.") for node in left}

    async def stay(self, node: int, call: Callable[[Lease], Awaitable[T]]) -> T:
        """Ask a keeper what it may answer much later; it is asked something else now and then.

        Raises:
            StoreUnreachable: it is away.
        """

        async def one() -> T:
            return await call(await self._lease(node))

        watch = self._watches.get(node)
        if watch is None:
            watch = self._watches[node] = asyncio.create_task(self._until_away(node))
        self._staying[node] += 1
        task = asyncio.create_task(one())
        try:
            await asyncio.wait((task, watch), return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise self._unanswered()
            return task.result()
        finally:
            self._staying[node] -= 1
            if not self._staying[node]:
                self._watches.pop(node).cancel()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def back(self, node: int) -> None:
        """Return when a keeper that was away is back; after a while where it was not."""
        asking = self._away.get(node)
        if asking is None:
            await asyncio.sleep(self.node_timeout)
        else:
            await asyncio.wait([asking])

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

    def is_away(self, node: int) -> bool:
        """Tell whether a keeper did not answer when it was asked last."""
        return node in self._away

    def check(self, away: Mapping[int, StoreError]) -> None:
        """Raise ``StoreUnreachable`` when so many are away that the others are no majority."""
        if len(away) > len(self._keepers) - self.quorum:
            raise self.unreachable(away)

    def unreachable(self, away: Mapping[int, StoreError]) -> StoreUnreachable:
        """Return the error that says who is away."""
        first = next(iter(away.values()))
        return StoreUnreachable(
            f"Of {len(self._keepers)} keepers {len(away)} cannot be reached: {first.what}",
            hint=f"{self.quorum} are needed; check that they run.",
        )

    async def settle(self) -> None:
        """Open no more, and ask no more."""
        while tasks := [*self._late, *self._away.values(), *self._opening.values()]:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._opening.clear()

    # ------------------------------------------------------------ one question

    async def _ask(self, nodes: Sequence[int], call: Call, enough: Callable[[], bool]) -> Away:
        async def one(node: int) -> None:
            await call(node, await self._lease(node))

        asked = {asyncio.create_task(one(node)): node for node in nodes}
        until = asyncio.get_running_loop().time() + self.node_timeout
        try:
            decided = await _done(asked, until, enough)
        except BaseException:
            await _cancelled(asked)
            raise
        away: Away = {}
        late = {task: node for task, node in asked.items() if not task.done()}
        if decided:
            for task, node in late.items():
                self._leave(task, node, until)
                away[node] = self._unanswered()
        else:
            await _cancelled(late)
        for task, node in asked.items():
            if node not in away and (error := self._judged(task, node)) is not None:
                away[node] = error
        return away

    def _leave(self, task: asyncio.Task[None], node: int, until: float) -> None:
        """Let a question be answered until some moment, though nobody waits for it."""
        alarm = asyncio.get_running_loop().call_at(until, task.cancel)

        def done(task: asyncio.Task[None]) -> None:
            alarm.cancel()
            del self._late[task]
            self._judged(task, node)

        self._late[task] = None
        task.add_done_callback(done)

    def _judged(self, task: asyncio.Task[None], node: int) -> StoreError | None:
        """Return why a keeper did not answer, None if it did; raises what is no matter of keepers."""
        error = self._unanswered() if task.cancelled() else task.exception()
        if error is None:
            return None
        if not isinstance(error, StoreError):
            raise error
        if node not in self._away:
            self._away[node] = asyncio.create_task(self._until_back(node))
            self._away[node].add_done_callback(lambda _: self._away.pop(node))
        return error

    def _unanswered(self) -> StoreUnreachable:
        return StoreUnreachable(f"It did not answer within {self.node_timeout:g} s.")

    def _are_too_few(self) -> bool:
        return len(self._keepers) - len(self._away) < self.quorum

    # ------------------------------------------------------------ one keeper

    async def _lease(self, node: int) -> Lease:
        keeper = self._keepers[node]
        if not keeper.is_open:
            opening = self._opening.get(node)
            if opening is None or opening.done():
                opening = self._opening[node] = asyncio.create_task(keeper.start())
            await asyncio.wait([opening])
            opening.result()
        return keeper.store.lease

    async def _until_back(self, node: int) -> None:
        """Ask a keeper until it answers, and in time."""
        loop, pause = asyncio.get_running_loop(), self.node_timeout
        while True:
            asked_at = loop.time()
            try:
                async with asyncio.timeout(pause):
                    await (await self._lease(node)).holder(_NOTHING)
            except (RepriseError, TimeoutError):
                await asyncio.sleep(asked_at + pause - loop.time())
                pause = min(2 * pause, LONGEST_PAUSE)
            else:
                if loop.time() - asked_at <= self.node_timeout:
                    return

    async def _until_away(self, node: int) -> None:
        """Ask a keeper something now and then, until it is away."""

        async def look(node: int, lease: Lease) -> None:
            await lease.holder(_NOTHING)

        away: Away = {}
        while not away:
            await asyncio.sleep(self.node_timeout)
            away = await self.ask([node], look)


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


async def _done(tasks: Iterable[asyncio.Task[None]], until: float, enough: Callable[[], bool]) -> bool:
    """Wait until all tasks are done, or for a while; return whether what is done is enough."""
    loop = asyncio.get_running_loop()
    pending, decided = {task for task in tasks if not task.done()}, False
    while pending:
        if not decided and enough():
            decided, until = True, min(until, loop.time() + GRACE)
        left = until - loop.time()
        done, pending = await asyncio.wait(
            pending, timeout=max(left, ARRIVED), return_when=asyncio.FIRST_COMPLETED
        )
        if not done and left <= ARRIVED:
            break
    return decided


async def _cancelled(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel tasks and wait for their end."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
