"""What following a log must prove, over keepers that take turns, tap each other and lose taps."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing

import pytest

from reprise.kernel.events import Record
from reprise.stores.log import Group
from reprise.stores.signal import Signal
from reprise.stores.store import Store
from reprise.stores.tail import tail
from reprise.testing.suites.keeper import Keeper, KeeperSuite, fact, put, soon

WRITERS, EACH = 4, 60


class TailSuite(KeeperSuite):
    """Tests of :func:`reprise.stores.tail.tail`, which needs ``Log`` and ``Signal``."""

    @pytest.fixture
    async def stores(self, keeper: Keeper) -> list[Store]:
        """Two stores, as of two processes."""
        return [await keeper.open() for _ in range(2)]

    async def test_every_record_comes_once_and_in_order_while_others_write(self, stores: list[Store]) -> None:
        """What came is what is there in the end."""
        reader = asyncio.create_task(follow(stores[0], WRITERS * EACH))
        await soon(asyncio.gather(*(write(stores[n % 2], f"log/{n}") for n in range(WRITERS))))
        found = await soon(reader)
        assert found == await stores[0].log.scan(limit=WRITERS * EACH + 1)
        assert [record.position for record in found] == sorted({record.position for record in found})
        for n in range(WRITERS):
            assert [r.key for r in found if r.stream == f"log/{n}"] == [str(key) for key in range(EACH)]

    async def test_it_goes_on_where_the_last_one_stopped_and_keeps_to_its_streams(
        self, stores: list[Store]
    ) -> None:
        """The position of the last record is all there is to remember."""
        await write(stores[0], "log/a")
        await write(stores[0], "log/b")
        first = await soon(follow(stores[1], 10, prefix="log/b"))
        rest = await soon(follow(stores[1], EACH - 10, after=first[-1].position, prefix="log/b"))
        assert [record.key for record in first + rest] == [str(key) for key in range(EACH)]

    async def test_a_lost_tap_only_makes_it_look_later(
        self, stores: list[Store], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nobody relies on taps for truth."""
        monkeypatch.setattr(type(stores[0].signal), "wake", _lose)
        reader = asyncio.create_task(follow(stores[0], 2 * EACH))
        await soon(asyncio.gather(write(stores[1], "log/a"), write(stores[1], "log/b")))
        assert len(await soon(reader)) == 2 * EACH


def _lose(_signal: Signal, _names: Sequence[str]) -> None:
    """Stand in for ``wake``."""


async def write(store: Store, stream: str) -> None:
    """Append records one after the other, and tap at each."""
    for n in range(EACH):
        await put(store.log, Group(stream, [fact(key=str(n))]))
        store.signal.wake([stream])


async def follow(store: Store, count: int, after: int = 0, prefix: str = "") -> list[Record]:
    """Return the next ``count`` records."""
    found: list[Record] = []
    async with aclosing(tail(store, after, prefix, batch=7)) as records:
        async for record in records:
            found.append(record)
            if len(found) == count:
                break
    return found
