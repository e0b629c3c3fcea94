"""How a suite gets stores, and what all suites share."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import ClassVar, TypeVar, cast

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from reprise.kernel.events import Event
from reprise.kernel.ids import Counter
from reprise.stores.log import Append, Group, Log, append
from reprise.stores.store import Store

T = TypeVar("T")

PATIENCE = 30.0
"""Seconds after which a test that waits for an event gives up; never part of what is tested."""

LONG = 3600.0
"""A time to live, in seconds, that does not end within a test."""


class Keeper(ABC):
    """Fresh data of one keeper, and stores over it."""

    short = 10.0
    """A time to live, in seconds, that a test lets pass. Keepers with a clock of their own want it short."""

    exact_time = True
    """Whether the keeper's clock stands still but for ``pass_time``. Else random histories let no time run out unasked."""

    factory: Callable[[], Store] | None = None
    """Make one more store over the same data; can be pickled and called in another process. None = one process."""

    def __init__(self) -> None:
        self.opened: list[Store] = []

    async def open(self) -> Store:
        """Return one more started store over the same data."""
        if self.factory is None:
            raise NotImplementedError(f"{type(self).__name__} needs a factory or an open() of its own")
        store = self.factory()
        await store.start()
        self.opened.append(store)
        return store

    async def reopen(self, store: Store) -> Store:
        """Stop a store and return one over the same data, as after a restart of the process."""
        await store.stop()
        return await self.open()

    @abstractmethod
    async def pass_time(self, seconds: float) -> None:
        """Return when the keeper's clock has gone on by ``seconds``."""

    async def waiting(self, name: str) -> int:
        """Return how many wait for a lease."""
        raise NotImplementedError(f"{type(self).__name__} does not tell who waits for {name}")

    async def close(self) -> None:
        """Stop what was opened and remove the data."""
        for store in self.opened:
            await store.stop()


class KeeperSuite:
    """Root of the suites."""

    exceptions: ClassVar[frozenset[str]] = frozenset()
    """Tags of guarantees that this keeper does not give."""

    examples: ClassVar[int] = 100
    """How many random histories the model tests try; fewer for a keeper on a real disk."""

    steps: ClassVar[int] = 25
    """How long each of them is."""

    def make_keeper(self) -> Keeper:
        """Return a keeper over fresh data."""
        raise NotImplementedError(f"{type(self).__name__}.make_keeper")

    @pytest.fixture
    async def keeper(self) -> AsyncIterator[Keeper]:
        """A keeper over fresh data."""
        keeper = self.make_keeper()
        yield keeper
        await keeper.close()

    @pytest.fixture
    async def store(self, keeper: Keeper) -> Store:
        """A started store over fresh data."""
        return await keeper.open()

    def compare(self, machine: Callable[[Callable[[], Keeper]], RuleBasedStateMachine]) -> None:
        """Let hypothesis look for a history in which this keeper and a model disagree."""
        make = cast("type[RuleBasedStateMachine]", lambda: machine(self.make_keeper))
        run_state_machine_as_test(
            make,
            settings=settings(
                max_examples=self.examples,
                stateful_step_count=self.steps,
                deadline=None,
                suppress_health_check=[HealthCheck.too_slow],
            ),
        )

    def skip_if(self, tag: str) -> None:
        """End the test when ``tag`` is a documented exception of this keeper."""
        if tag in self.exceptions:
            pytest.skip(f"documented exception of this keeper: {tag}")


IDS = Counter()
"""Ids of appends."""


def fact(data: bytes = b"x", *, kind: int = 16, at: int = 1, key: str = "") -> Event:
    """Return an event."""
    return Event(kind, at, key=key, data=data)


async def put(log: Log, *groups: Group) -> Append:
    """Append groups under a new id and wait."""
    async with asyncio.timeout(PATIENCE):
        return await append(log, IDS.new(), *groups)


async def write(log: Log, stream: str, *data: bytes) -> Append:
    """Append one unconditional group, an event per piece of data."""
    return await put(log, Group(stream, [fact(piece) for piece in data]))


async def until(holds: Callable[[], Awaitable[bool]], what: str) -> None:
    """Ask again and again, giving way to others, until it holds; fail the test after ``PATIENCE`` seconds."""
    try:
        async with asyncio.timeout(PATIENCE):
            while not await holds():  # noqa: ASYNC110  what is asked has no event to wait for
                await asyncio.sleep(0.002)
    except TimeoutError:
        pytest.fail(f"not within {PATIENCE} s: {what}")


async def soon(awaitable: Awaitable[T]) -> T:
    """Wait for what must come; fail the test after ``PATIENCE`` seconds instead of hanging."""
    async with asyncio.timeout(PATIENCE):
        return await awaitable
