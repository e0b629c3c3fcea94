"""Stores on a server that is shared; a module whose tests stop it has a fixture ``redis`` of its own."""

import pytest
from tests.contract.redis.keeper import RedisKeeper


@pytest.fixture
async def keeper(redis):
    keeper = RedisKeeper(redis.url)
    yield keeper
    await keeper.close()


@pytest.fixture
async def store(keeper):
    return await keeper.open()
