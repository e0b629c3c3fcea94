"""kill -9 of workers, and of PostgreSQL's own processes, while steps execute in the log's transaction.

The rows that such steps wrote are the steps that were recorded, each once; so are the runs that they started and the
tasks that they offered. In the same rounds plain steps write the same rows by connections of their own: these double.
"""

import asyncio
import os
import random
import signal
import sqlite3
import sys
import time
from collections import Counter
from contextlib import closing

import pytest
from tests.crash import fleet_main, ledger
from tests.crash.conftest import CYCLES, SEED, again
from tests.crash.helping import help_some
from tests.crash.places import PATIENCE, FilePlace, ServerPlace

from reprise import Reprise
from reprise.kernel.events import Kind
from reprise.stores import open_store
from reprise.stores.runs import RunFilter

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc to see what has ended")

PER_ROUND = 25
"""Kills in one store; then all runs must come to their end, and everything is compared."""
AT_START, PER_CYCLE = 15, 5
"""Runs that are started."""
MUST_OCCUR = {
    "kills of a worker that met a transaction": "kills of a worker",
    "control: rows too many of plain steps": "kills of a worker",
    **({"kills of a backend at a commit": "kills of a backend"} if CYCLES >= 200 else {}),
}
TABLE = "CREATE TABLE booked (run TEXT, key TEXT)"
CONTROL = "CREATE TABLE scribbled (run TEXT, key TEXT)"

FLOW = """
import asyncio, os, sqlite3, time
from contextlib import closing
from reprise import Retry, current_step, outbox, step, workflow
from tests.crash.fleet_main import executed

@workflow
async def ship(run: str) -> str:
    return run

def tell(i: int) -> None:
    if i == 0:
        outbox.start(ship, current_step().run)
    outbox.offer("mail", b"", id=f"{current_step().run}-{i}")

@workflow
async def sale(n: int) -> int:
    for i in range(4):
        await book(i)
        await scribble(i)
    return n
"""

IN_FILE = (
    FLOW
    + """
@step(transaction=True)
def book(connection, i: int) -> int:
    executed()
    connection.execute("INSERT INTO booked VALUES (?, ?)", (current_step().run, current_step().key))
    tell(i)
    time.sleep(0.004)
    return i

@step
def scribble(i: int) -> int:
    with closing(sqlite3.connect(CONTROL, timeout=60)) as file, file:
        file.execute("INSERT INTO scribbled VALUES (?, ?)", (current_step().run, current_step().key))
    return i
"""
)

ON_SERVER = (
    FLOW
    + """
import asyncpg

@step(transaction=True)
async def book(connection, i: int) -> int:
    executed()
    await connection.execute("INSERT INTO booked VALUES ($1, $2)", current_step().run, current_step().key)
    tell(i)
    await asyncio.sleep(0.004)
    return i

@step(retry=Retry(100, backoff=0.05, max_delay=0.2))
async def scribble(i: int) -> int:
    connection = await asyncpg.connect(URL, server_settings={"search_path": SCHEMA})
    try:
        await connection.execute("INSERT INTO scribbled VALUES ($1, $2)", current_step().run, current_step().key)
    finally:
        await connection.close()
    return i
"""
)


class InFile:
    """An SQLite file; the control has one of its own, for whoever writes beside the turnstile may wait for long."""

    def __init__(self, folder):
        self.place = FilePlace(folder)
        self.control = folder / "control.db"
        self.code = f"CONTROL = {str(self.control)!r}\n{IN_FILE}"

    def make_tables(self):
        for path, table in ((self.place.path, TABLE), (self.control, CONTROL)):
            with closing(sqlite3.connect(path)) as file:
                file.execute(table)

    def rows(self, table):
        path = self.control if table == "scribbled" else self.place.path
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as file:
            return Counter(file.execute(f"SELECT run, key FROM {table}").fetchall())

    def close(self):
        pass


class OnServer:
    """A schema of a PostgreSQL."""

    def __init__(self, server, schema):
        self.place = ServerPlace(server, schema)
        self.code = f"URL, SCHEMA = {server.url!r}, {schema!r}\n{ON_SERVER}"

    def make_tables(self):
        self.place._ask(TABLE)
        self.place._ask(CONTROL)

    def rows(self, table):
        return Counter(self.place._ask(f"SELECT run, key FROM {table}"))

    def at_work(self):
        """Return the server's processes that are inside of a transaction of ours, and whether they commit."""
        rows = self.place._ask(
            "SELECT pid, query LIKE '%write_batch%' OR query LIKE 'COMMIT%' FROM pg_stat_activity"
            " WHERE application_name LIKE 'crash-%' AND xact_start IS NOT NULL"
        )
        return {pid: bool(commits) for pid, commits in rows}

    def close(self):
        self.place.close()


class Round:
    """Three workers on one store, runs that are started bit by bit, and kills."""

    def __init__(self, nursery, folder, where, seed, counts):
        self.where, self.counts = where, counts
        self.dice = random.Random(seed)
        self._nursery, self._folder = nursery, folder
        self._said = ledger.Reader(folder / fleet_main.EXECUTED)
        self._begun: dict[int, list[tuple[str, str]]] = {}
        self._seen = self._last = 0
        self.workers: list[int] = []
        self.runs = 0
        (folder / "code.py").write_text(where.code)
        self.code = fleet_main.load(str(folder / "code.py"))
        asyncio.run(self._make())
        where.make_tables()
        self.start_runs(AT_START)
        self.workers = [self._begin() for _ in range(3)]

    async def _make(self):
        store = open_store(self.where.place.url)
        await store.start()
        await store.stop()

    def _begin(self):
        module = str(self._folder / "code.py")
        return self._nursery.spawn("fleet", self._folder, store=self.where.place.url, module=module)

    def start_runs(self, number):
        async def start():
            async with Reprise(self.where.place.url, worker=False, capture_logs=False) as app:
                for _ in range(number):
                    await app.start(self.code.sale, self.runs, id=f"sale-{self.runs}")
                    self.runs += 1

        asyncio.run(start())

    def _read(self):
        for line in self._said.new():
            self._begun.setdefault(line.pid, []).append((line.run, line.key))
            self._seen += 1
            if line.pid in self.workers:
                self._last = line.pid

    def wait_for_work(self):
        """Let the workers come to a random moment."""
        self._read()
        goal, until = self._seen + self.dice.randint(1, 15), time.monotonic() + PATIENCE
        while self._seen < goal:
            assert time.monotonic() < until, self.where.place.unfinished()
            time.sleep(0.0005)
            self._read()
        until = time.perf_counter() + self.dice.random() * 0.004
        while time.perf_counter() < until:
            pass

    def recorded(self):
        return {
            (f"sale-{n}", key)
            for n in range(self.runs)
            for key, _ in self.where.place.records(f"sale-{n}", Kind.STEP_COMPLETED)
            if "book" in key
        }

    def kill_worker(self):
        self._read()
        victim = self.dice.choice(self.workers)
        if self._last in self.workers and self.dice.random() < 0.67:
            victim = self._last
        self._nursery.kill(victim)
        self._read()
        recorded = {
            (run, key)
            for run, _ in self._begun.get(victim, [])[-20:]
            for key, _ in self.where.place.records(run, Kind.STEP_COMPLETED)
        }
        open = {begun for begun in self._begun.get(victim, [])[-20:] if begun not in recorded}
        self.counts["kills of a worker"] += 1
        self.counts["kills of a worker that met a transaction"] += bool(open)
        self.workers[self.workers.index(victim)] = self._begin()

    def kill_backend(self):
        """Kill a process of the server; one that commits, if one is caught at it."""
        looks = (self.where.at_work() for _ in range(20))
        busy = next(
            filter(None, ({pid for pid, commits in look.items() if commits} for look in looks)), set()
        )
        victims = sorted(busy or self.where.at_work())
        if not victims:
            return
        self.counts["kills of a backend"] += 1
        self.counts["kills of a backend at a commit"] += bool(busy)
        try:
            os.kill(self.dice.choice(victims), signal.SIGKILL)
        except ProcessLookupError:
            self.counts["kills of a backend"] -= 1

    def finish(self):
        """Let all runs come to their end; return what of the outbox is there."""

        async def wait():
            until = time.monotonic() + PATIENCE
            async with Reprise(self.where.place.url, worker=False, capture_logs=False) as app:
                while left := {k: v for k, v in (await app.store.runs.count()).items() if k != "completed"}:
                    await help_some(app)
                    failed = [row.error for row in await app.store.runs.find(RunFilter(status=("failed",)))]
                    assert not failed, failed
                    assert time.monotonic() < until, (left, (self._folder / "stderr").read_text()[-3000:])
                    await asyncio.sleep(0.05)
                ships = await app.store.runs.find(RunFilter(workflow="ship"), limit=100_000)
                tasks = await app.store.queue.find("mail", limit=100_000)
                sent = Counter([(await app.handle(ship.id).result()) for ship in ships])
                return sent, [task.id for task in tasks]

        found = asyncio.run(wait())
        self._nursery.kill(*self.workers)
        return found


def judge(round, request, seed):
    ships, tasks = round.finish()
    where, counts = round.where, round.counts
    booked, scribbled, recorded = where.rows("booked"), where.rows("scribbled"), round.recorded()
    doubled = sum(count - 1 for count in scribbled.values())
    counts["steps in a transaction"] += len(recorded)
    counts["rows that they wrote"] += booked.total()
    counts["control: rows too many of plain steps"] += doubled
    assert booked == Counter(recorded), again(request, seed)
    assert len(recorded) == 4 * round.runs
    assert len(scribbled) == len(recorded)
    assert ships == Counter(f"sale-{n}" for n in range(round.runs)), again(request, seed)
    assert sorted(tasks) == sorted(f"sale-{n}-{i}" for n in range(round.runs) for i in range(4))
    assert where.place.integrity() == []


def rounds(kills):
    return [(number, min(PER_ROUND, kills - number * PER_ROUND)) for number in range(-(-kills // PER_ROUND))]


@pytest.mark.timeout(180)
@pytest.mark.parametrize(("number", "kills"), rounds(CYCLES // 5))
def test_rows_are_recorded_steps_over_kills_in_a_file(number, kills, nursery, tmp_path, counts, request):
    seed = SEED + number
    round = Round(nursery, tmp_path, InFile(tmp_path), seed, counts)
    for _ in range(kills):
        round.wait_for_work()
        round.kill_worker()
        round.start_runs(PER_CYCLE)
    judge(round, request, seed)


@pytest.mark.timeout(180)
@pytest.mark.parametrize(("number", "kills"), rounds(CYCLES // 10))
def test_rows_are_recorded_steps_over_kills_on_a_server(
    number, kills, nursery, tmp_path, killable_postgres, counts, request
):
    seed = SEED + number
    where = OnServer(killable_postgres, f"transactions_{number}")
    try:
        round = Round(nursery, tmp_path, where, seed, counts)
        for kill in range(kills):
            round.wait_for_work()
            if kill % 3 == 2:
                round.kill_backend()
            else:
                round.kill_worker()
            round.start_runs(PER_CYCLE)
        judge(round, request, seed)
    finally:
        where.close()
