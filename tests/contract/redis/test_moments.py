"""Reads of several commands on a server are of one moment, whatever others change in between."""

import asyncio

import pytest
from tests.contract.moments import MomentsOfCells, MomentsOfQueues, Steps


class TestMoments(MomentsOfQueues, MomentsOfCells):
    @pytest.fixture
    async def other(self, keeper):
        return await keeper.open()

    @pytest.fixture
    def steps(self):
        return Steps()

    @pytest.fixture
    async def store(self, keeper, steps, monkeypatch):
        store = await keeper.open()
        send = store._wire.send

        def stepped(*command, script=None):
            if not steps.is_now():
                return send(*command, script=script)

            async def later():
                await steps.meanwhile()
                return await send(*command, script=script)

            return asyncio.ensure_future(later())

        monkeypatch.setattr(store._wire, "send", stepped)
        return store
