"""Reads of several statements on one file are of one moment, whatever another process commits in between."""

import asyncio
from functools import partial

import pytest
from tests.contract.moments import MomentsScenes, Steps
from tests.contract.test_sqlite import SQLiteKeeper

from reprise.stores.packing import PackedStore
from reprise.stores.sqlite import SQLiteStore, database
from reprise.testing.suites.blobs import large, naming
from reprise.testing.suites.keeper import put


class Stepped:
    """A connection that reads, whose statements are counted."""

    def __init__(self, uri, steps, loop):
        self._inner, self._steps, self._loop = database.connect(uri), steps, loop

    @property
    def in_transaction(self):
        return self._inner.in_transaction

    def execute(self, sql, parameters=(), /):
        if sql not in ("BEGIN", "COMMIT") and not sql.startswith("PRAGMA") and self._steps.is_now():
            asyncio.run_coroutine_threadsafe(self._steps.meanwhile(), self._loop).result(30)
        return self._inner.execute(sql, parameters)

    def close(self):
        self._inner.close()


class TestMoments(MomentsScenes):
    @pytest.fixture
    async def keeper(self):
        keeper = SQLiteKeeper()
        yield keeper
        await keeper.close()

    @pytest.fixture
    async def other(self, keeper):
        return await keeper.open()

    @pytest.fixture
    def steps(self):
        return Steps()

    @pytest.fixture
    async def store(self, keeper, steps):
        def connect(uri, loop):
            return Stepped(uri, steps, loop) if "mode=ro" in uri else database.connect(uri)

        connect = partial(connect, loop=asyncio.get_running_loop())
        store = SQLiteStore(
            keeper.folder / "test.db", synchronous="OFF", clock=keeper.clock, connect=connect, readers=1
        )
        await store.start()
        yield store
        await store.stop()

    @pytest.mark.parametrize("face", [lambda store: store, PackedStore])
    async def test_a_sound_file_is_found_sound_while_others_drop_what_it_holds(
        self, store, other, steps, face
    ):
        async def scene(number):
            await put(other.log, naming(f"run/{number}", large(number)))

            async def write():
                await other.log.drop(f"run/{number}")
                await other.blobs.collect()

            return face(store).verify, write

        assert await self.hold(steps, scene) > 10

    async def test_a_sound_file_is_found_sound_while_a_drop_is_under_way(self, store, other):
        """References go before the records that have them; these are nobody's by then."""
        await put(other.log, naming("run/a", large(1)))
        id, _ = await other._writer.submit(lambda transaction: transaction.ledger.hide("run/a"))
        assert await store.verify() == []
        await other._writer.submit(lambda transaction: transaction.ledger.blobs.release(id, 10))
        assert await store.verify() == []
