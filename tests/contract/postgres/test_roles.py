"""The roles of docs/guide/postgresql.md can do what they are for, and nothing else; its scripts are run as they stand."""

import re
from pathlib import Path

import asyncpg
import pytest

from reprise import Reprise, step, wait_for_signal, workflow
from reprise.kernel.errors import StoreError, StoreReadOnly
from reprise.stores.postgres import PostgresStore

PAGE = Path(__file__).parents[3] / "docs" / "guide" / "postgresql.md"


@step
async def greet(name: str) -> str:
    return f"hello {name}"


@workflow
async def meet() -> str:
    return await greet(await wait_for_signal("name", str))


@pytest.fixture
async def role(keeper):
    """Make the roles as the page says, in the keeper's schema and with its name; return the store of each."""
    text = PAGE.read_text("utf-8").replace("reprise_", f"{keeper.schema}_")
    text = re.sub(r"\breprise\b(?=[.; ])", keeper.schema, text)
    first, second = re.findall(r"```sql.*?\n(.*?)```", text, re.DOTALL)

    def open_as(name):
        url = keeper.dsn.replace("postgres@", f"{keeper.schema}_{name}@")
        return PostgresStore(url, schema=keeper.schema, patience=5)

    admin = await asyncpg.connect(keeper.dsn)
    await admin.execute(first)
    owner = open_as("owner")
    await owner.start()
    await owner.stop()
    await admin.execute(f"SET ROLE {keeper.schema}_owner; {second}; RESET ROLE")
    yield open_as
    for name in ("worker", "sender", "owner"):
        await admin.execute(f"DROP OWNED BY {keeper.schema}_{name} CASCADE; DROP ROLE {keeper.schema}_{name}")
    await admin.close()


async def test_a_sender_starts_and_signals_and_a_worker_executes(role):
    long = "ada" + "!" * 50_000
    async with Reprise(role("worker"), workflows=[meet]) as worker:
        async with Reprise(role("sender"), worker=False) as sender:
            handle = await sender.start(meet, id="a", tags={"team": "red"}, detach=True)
            await handle.signal("name", long)
        assert await worker.handle("a", meet).result(20) == f"hello {long}"
        await worker.store.log.drop("run/a")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE records SET data = ''",
        "DELETE FROM records",
        "SELECT data FROM records",
        "SELECT data FROM blobs",
        "DELETE FROM streams",
        "UPDATE streams SET name = 'x'",
        "DELETE FROM runs",
        "UPDATE meta SET value = 9",
        "SELECT * FROM leases",
        "INSERT INTO tasks SELECT * FROM tasks",
        "TRUNCATE records",
        "DROP FUNCTION lock_log",
        "CREATE TABLE x ()",
    ],
)
async def test_a_sender_may_do_nothing_else(role, statement):
    store = role("sender")
    async with Reprise(store, worker=False) as sender:
        await sender.start(meet, id="a", detach=True)
        connection = await store._target.connect()
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
        await connection.close()


async def test_a_sender_that_reads_is_told_what_it_lacks(role):
    store = role("sender")
    await store.start()
    with pytest.raises(StoreError, match=r"permission denied for table records.*postgresql\.md"):
        await store.log.read("run/a")
    with pytest.raises(StoreError, match="permission denied"):
        await store.log.drop("run/a")
    await store.stop()


async def test_a_worker_does_not_upgrade(role, neighbour):
    await neighbour.execute("UPDATE meta SET value = value - 1 WHERE name = 'schema'")
    store = role("worker")
    with pytest.raises(StoreReadOnly, match=r"must be owner|permission denied"):
        await store.start()
    await store.stop()
