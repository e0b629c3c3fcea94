"""Reads of several statements on a server are of one moment, whatever others commit in between."""

import pytest
from tests.contract.moments import MomentsScenes, Steps


class Stepped:
    """A connection whose statements are counted."""

    def __init__(self, connection, steps):
        self._connection, self._steps = connection, steps

    async def _step(self, how, text, *arguments):
        if not text.startswith(("BEGIN", "COMMIT", "SET ")) and self._steps.is_now():
            await self._steps.meanwhile()
        return await getattr(self._connection, how)(text, *arguments)

    async def fetch(self, text, *arguments):
        return await self._step("fetch", text, *arguments)

    async def fetchval(self, text, *arguments):
        return await self._step("fetchval", text, *arguments)

    async def execute(self, text, *arguments):
        return await self._step("execute", text, *arguments)


class TestMoments(MomentsScenes):
    @pytest.fixture
    async def other(self, keeper):
        return await keeper.open()

    @pytest.fixture
    def steps(self):
        return Steps()

    @pytest.fixture
    async def store(self, keeper, steps, monkeypatch):
        store = await keeper.open()
        for pool in (store._pool, store._walks):
            run = pool.run
            monkeypatch.setattr(
                pool, "run", lambda work, run=run: run(lambda connection: work(Stepped(connection, steps)))
            )
        return store
