"""A schema of every older version is brought up to date with all that is in it."""

import pytest
from tests.contract.old_schemas import check, past

from reprise.kernel.errors import SchemaTooNew
from reprise.stores.postgres.rows import checksum
from reprise.stores.postgres.statements import migrations

NEWEST = migrations()[-1][0]


async def write_first(connection, store) -> None:
    """Write the tables of the first schema."""
    for stream in dict.fromkeys(record.stream for record in await store.log.scan(limit=10_000)):
        head = await store.log.head(stream)
        number = await connection.fetchval(
            "INSERT INTO streams (name, version, token, closed) VALUES ($1, $2, $3, $4) RETURNING id",
            stream, head.version, head.token, head.closed,
        )  # fmt: skip
        for r in await store.log.read(stream):
            crc = checksum(stream, r.version, r.kind, r.at, r.key, r.data, r.print, r.took, r.append)
            await connection.execute(
                "INSERT INTO records (position, stream, version, kind, at, key, data, print, took, append, checksum)"
                " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
                r.position, number, r.version, r.kind, r.at, r.key, r.data, r.print, r.took, r.append,
                crc ^ (r.position & 0xFFFFFFFF),
            )  # fmt: skip
    for row in await store.runs.find():
        tags = "{" + ", ".join(f'"{name}": "{value}"' for name, value in row.tags.items()) + "}"
        await connection.execute(
            "INSERT INTO runs (id, workflow, status, created_at, updated_at, parent, owner, due_at, build, tags, error)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10::text::jsonb, $11)",
            row.id, row.workflow, row.status, row.created_at, row.updated_at, row.parent, row.owner, row.due_at,
            row.build, tags, row.error,
        )  # fmt: skip
    await connection.execute("INSERT INTO leases VALUES ('x', 'me', 41, false, 1::bigint << 60)")


async def write_third(connection) -> None:
    """Write the queue that the third schema brought."""
    await connection.execute(
        "INSERT INTO tasks (number, queue, id, data, rank, due_at, state, claims, token, worker, until, note, offered_at,"
        " place, later_at) VALUES (nextval('task_numbers'), 'q', 't', '\\x01ff', 2.5, 0, 'ready', 0, 0, '', 0, '', 9, 1, 0)"
    )


async def write_cells(connection) -> None:
    """Write the cell that the ninth schema brought."""
    data = b"\2\xfe"
    crc = checksum("s", "c", data) ^ 3
    await connection.execute("INSERT INTO spaces VALUES ('s', 3, 2)")
    await connection.execute("INSERT INTO cells VALUES ('s', 'c', $1, 3, 0, $2)", data, crc)
    entry = "INSERT INTO cell_changes VALUES ('s', 3, 'c', $1, 0, 'me', 9, 1, $2)"
    await connection.execute(entry, data, crc)


@pytest.mark.parametrize("version", range(1, NEWEST))
async def test_a_schema_of_each_version_comes_up_to_date_with_all_that_is_in_it(keeper, version):
    before = await past()
    connection = await keeper.connect()
    await connection.execute(f"CREATE SCHEMA {keeper.schema}")
    for number, script in migrations()[:version]:
        await connection.execute(script)
        await connection.execute("UPDATE meta SET value = $1 WHERE name = 'schema'", number)
        if number == 1:
            await write_first(connection, before)
        if number == 3:
            await write_third(connection)
        if number == 9:
            await write_cells(connection)
    store = keeper.factory()
    keeper.opened.append(store)
    assert await store.schema() == (version, NEWEST)
    await store.start()
    if version < 3:
        await write_third(connection)
    if version < 9:
        await write_cells(connection)
    await connection.close()
    assert await store.schema() == (NEWEST, NEWEST)
    await check(store, before)


def test_there_is_a_script_for_every_number():
    assert [number for number, _ in migrations()] == list(range(1, NEWEST + 1))


async def test_a_newer_schema_is_refused_and_left_alone(keeper, store):
    await store.stop()
    await keeper.ask("UPDATE meta SET value = value + 1 WHERE name = 'schema'")
    fresh = keeper.factory()
    assert await fresh.schema() == (NEWEST + 1, NEWEST)
    with pytest.raises(SchemaTooNew, match=f"has version {NEWEST + 1}; this Reprise knows {NEWEST}"):
        await fresh.start()
    assert await fresh.schema() == (NEWEST + 1, NEWEST)
