"""Stores over a fresh schema, a stranger beside them, and a wire that can be cut."""

import tempfile
from pathlib import Path

import pytest
from tests.contract.postgres.keeper import PostgresKeeper
from tests.contract.postgres.wire import Wire

from reprise.stores.postgres import PostgresStore


@pytest.fixture
async def keeper(postgres):
    keeper = PostgresKeeper(postgres.url)
    yield keeper
    await keeper.close()


@pytest.fixture
async def store(keeper):
    return await keeper.open()


@pytest.fixture
async def neighbour(keeper, store):
    """A connection of somebody else to the same tables."""
    connection = await keeper.connect()
    yield connection
    connection.terminate()


@pytest.fixture
async def wire(postgres):
    if postgres.folder is None:
        pytest.skip("the server of REPRISE_TEST_POSTGRES has no socket that could be put behind a wire")
    with tempfile.TemporaryDirectory(prefix="reprise-wire-") as folder:
        async with Wire(Path(folder), postgres.folder) as wire:
            yield wire


@pytest.fixture
async def wired(wire, keeper):
    """A store whose connections go over the wire."""
    store = PostgresStore(wire.url, schema=keeper.schema, patience=30)
    await store.start()
    yield store
    wire.refuse = False
    await store.stop()
