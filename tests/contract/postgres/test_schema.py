"""Tables are made once, upgraded from every older version, and left alone when they are newer."""

import asyncio

import pytest
from tests.contract.postgres.keeper import PostgresKeeper

from reprise.kernel.errors import SchemaTooNew
from reprise.kernel.events import Event
from reprise.kernel.ids import Counter
from reprise.stores.log import Group, append
from reprise.stores.postgres import PostgresStore
from reprise.stores.postgres.statements import migrations
from reprise.stores.runs import RunFilter

IDS = Counter()


async def test_many_may_start_at_once(keeper):
    """One makes the tables, the others find them."""
    stores = [PostgresStore(keeper.dsn, schema=keeper.schema) for _ in range(5)]
    await asyncio.gather(*(store.start() for store in stores))
    await append(stores[0].log, IDS.new(), Group("run/a", [Event(16, 1)]))
    assert len(await stores[4].log.scan()) == 1
    await asyncio.gather(*(store.stop() for store in stores))


async def test_a_newer_schema_is_left_alone(keeper, store, neighbour):
    await store.stop()
    await neighbour.execute("UPDATE meta SET value = 99 WHERE name = 'schema'")
    with pytest.raises(SchemaTooNew):
        await keeper.open()


async def test_version_1_is_upgraded_with_its_runs(keeper: PostgresKeeper):
    """Which had rows that nobody read: now they are found, and those that ended are not due."""
    old = await keeper.connect()
    await old.execute(f"CREATE SCHEMA {keeper.schema}")
    await old.execute(migrations()[0][1])
    await old.execute("UPDATE meta SET value = 1 WHERE name = 'schema'")
    await old.execute(
        "INSERT INTO streams (name, version, token, closed) VALUES ('run/a', 1, 5, true), ('run/b', 1, 7, false);"
        "INSERT INTO runs VALUES ('a', 'w', 'completed', 1, 2, NULL, NULL, 1, '', '{}', ''),"
        "('b', 'w', 'pending', 2, 2, NULL, NULL, 1, '', '{\"team\": \"red\"}', '')"
    )
    await old.close()
    store = await keeper.open()
    assert [(row.id, row.token) for row in await store.runs.find()] == [("b", 7), ("a", 5)]
    assert [row.id for row in await store.runs.find(RunFilter(tags={"team": "red"}))] == ["b"]
    assert [row.id for row in await store.runs.due(9, owner="me")] == ["b"]
