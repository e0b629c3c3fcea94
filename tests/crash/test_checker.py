"""The judge itself: each fault, made on purpose in a store that was well, is found."""

import shutil
import sqlite3

import pytest
from tests.crash import flows, ledger
from tests.crash.checker import check
from tests.crash.conftest import SEED
from tests.crash.places import DATABASE
from tests.crash.rounds import Round

from reprise.kernel.events import Kind
from reprise.stores.sqlite.rows import sealed


@pytest.fixture(scope="module")
def sound(opened_nursery, tmp_path_factory):
    """A folder in which everything went well."""
    folder = tmp_path_factory.mktemp("sound")
    round = Round(opened_nursery, folder, SEED)
    round.start_worker()
    round.start_client()
    round.wait_until_began(30)
    assert not round.finish().faults
    return folder


@pytest.fixture
def folder(sound, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(sound, copy, ignore=shutil.ignore_patterns("runs.db.*"))
    return copy


def alter(folder, change):
    """Change records as somebody would who knows about checksums; an index of the file keeps its word."""
    connection = sqlite3.connect(folder / DATABASE)
    change(connection)
    connection.commit()
    connection.close()


def a_step(connection):
    """Return the row of a run's last step."""
    return connection.execute(
        "SELECT r.* FROM records r WHERE kind = ? ORDER BY position DESC", (Kind.STEP_COMPLETED,)
    ).fetchone()


def replace(connection, row, *, data):
    kept = (*row[:6], data, *row[7:-1])
    connection.execute("DELETE FROM records WHERE position = ?", (row[0],))
    connection.execute(f"INSERT INTO records VALUES ({','.join('?' * 11)})", sealed(kept))


async def test_a_sound_store_has_no_faults(folder):
    verdict = await check(folder)
    assert not verdict.faults
    assert verdict.counts["acknowledged"] > 100


async def test_a_missing_record_is_found(folder):
    def drop_the_newest(connection):
        connection.execute("DELETE FROM records WHERE position = (SELECT max(position) FROM records)")

    alter(folder, drop_the_newest)
    assert {"lost", "damaged"} <= set((await check(folder)).faults)


async def test_another_value_is_found(folder):
    alter(folder, lambda connection: replace(connection, a_step(connection), data=b"-77"))
    assert set((await check(folder)).faults) == {"lost"}


async def test_another_result_is_found(folder):
    def lie(connection):
        row = connection.execute("SELECT * FROM records WHERE kind = ?", (Kind.RUN_FINISHED,)).fetchone()
        replace(connection, row, data=b'{"status":"completed","value":-77}')

    alter(folder, lie)
    assert set((await check(folder)).faults) == {"lost", "wrong"}


async def test_a_second_record_is_found(folder):
    def record_again(connection):
        _, stream, _, *rest = a_step(connection)
        (last,) = connection.execute(
            "SELECT max(version) FROM records WHERE stream = ?", (stream,)
        ).fetchone()
        (end,) = connection.execute("SELECT max(position) FROM records").fetchone()
        row = sealed((end + 1, stream, last + 1, *rest[:-1]))
        connection.execute(f"INSERT INTO records VALUES ({','.join('?' * 11)})", row)

    alter(folder, record_again)
    assert "twice" in (await check(folder)).faults


async def test_another_execution_of_a_recorded_step_is_found(folder):
    (first, *_) = (line for line in ledger.lines(folder / flows.EXECUTED) if isinstance(line, ledger.Began))
    ledger.Ledger(folder / flows.EXECUTED).write(first)
    assert set((await check(folder)).faults) == {"repeated"}


async def test_a_refused_append_that_is_there_is_found(folder):
    connection = sqlite3.connect(folder / DATABASE)
    (append,) = connection.execute("SELECT max(append) FROM records").fetchone()
    connection.close()
    ledger.Ledger(folder / "a.said.jsonl").write(ledger.Refused("chain-0", append, "StaleToken", []))
    assert set((await check(folder)).faults) == {"damaged"}


async def test_an_index_that_says_otherwise_is_found(folder):
    def say_failed(connection):
        named = connection.execute("SELECT * FROM runs ORDER BY id")
        row = dict(zip([column for column, *_ in named.description], named.fetchone(), strict=True))
        del row["crc"]
        crc = sealed(tuple({**row, "status": "failed"}.values()))[-1]
        connection.execute("UPDATE runs SET status = 'failed', crc = ? WHERE id = ?", (crc, row["id"]))

    alter(folder, say_failed)
    assert set((await check(folder)).faults) == {"damaged"}
