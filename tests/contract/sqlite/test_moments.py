"""Reads of several statements on one file are of one moment, whatever another process commits in between."""

import asyncio
from functools import partial

import pytest
from tests.contract.moments import MomentsScenes, Steps
from tests.contract.test_sqlite import SQLiteKeeper

from reprise.stores.sqlite import SQLiteStore, database


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
