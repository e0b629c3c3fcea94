"""Create the schema, or bring an older one up to date."""

from __future__ import annotations

import msgspec

from reprise.kernel.errors import SchemaTooNew
from reprise.stores.postgres.driver import Connection
from reprise.stores.postgres.found_by import decode_tags, told
from reprise.stores.postgres.statements import migrations, statements
from reprise.stores.store import Schema

SQL = statements("schema.sql")
RUNS = statements("runs.sql")
AT_ONCE = 1000
"""Runs of an older schema that are indexed by one statement."""


async def schema_of(connection: Connection, schema: str) -> Schema:
    """Return of what version the tables of a schema are."""
    empty = await connection.fetchval(SQL["empty"], schema)
    return Schema(0 if empty else await connection.fetchval(SQL["version"]), migrations()[-1][0])


async def upgrade(connection: Connection, schema: str) -> None:
    """Run the migrations that a schema has not seen, in one transaction; several processes may start at once.

    Raises ``SchemaTooNew`` when it was written by a newer Reprise.
    """
    async with connection.transaction():
        await connection.execute(SQL["lock"], schema)
        # Asked for first: to create needs a right that a role may lack where the schema was made for it.
        if not await connection.fetchval(SQL["exists"], schema):
            await connection.execute(f'CREATE SCHEMA "{schema}"')
        version, newest = await schema_of(connection, schema)
        if version > newest:
            raise SchemaTooNew(
                f"The schema {schema} has version {version}; this Reprise knows {newest}.",
                hint="Install the newer Reprise.",
            )
        for number, script in migrations():
            if number > version:
                await connection.execute(script)
                await connection.execute(SQL["set_version"], number)
        if version < newest:
            await _index_old_runs(connection)


async def _index_old_runs(connection: Connection) -> None:
    """Let runs be found that were written before what they are found by was told to the server."""
    found = [
        *(
            told({"id": row["id"], "error": row["error"]})
            for row in await connection.fetch(RUNS["errors_to_index"])
        ),
        *(
            told({"id": row["id"], "tags": decode_tags(row["tags"])})
            for row in await connection.fetch(RUNS["tags_to_index"])
        ),
    ]
    for first in range(0, len(found), AT_ONCE):
        changes = msgspec.json.encode(found[first : first + AT_ONCE]).decode()
        await connection.execute(RUNS["index"], changes)
