"""Limits over three processes that are killed: never more at once than allowed, never more in a time, nothing lost.

How many execute is counted by locks of files, which know nothing of limits; when runs began is written by the server
itself, by the clock that it goes by. In the same round the same steps are executed without a limit: these must exceed it.
"""

import asyncio
import itertools
import random
import sqlite3
import time
from collections import Counter
from contextlib import closing

import asyncpg
import pytest
from tests.crash import fleet_main, ledger
from tests.crash.conftest import CYCLES, SEED, again
from tests.crash.places import PATIENCE, FilePlace, ServerPlace

from reprise import Reprise

AT_ONCE = 3
IN_A_TIME, PERIOD = 4, 0.4
PER_ROUND = 20
PER_CYCLE = {"limited": 6, "control": 6, "rated": 2, "unrated": 2}
CODE = f"""
import asyncio
from reprise import Limit, step, workflow
from tests.crash.fleet_main import executed, seat

@step
async def hold(group: str, n: int) -> int:
    executed()
    with seat(group):
        await asyncio.sleep(0.04 + n % 5 * 0.01)
    return n

async def twice(group: str, n: int) -> int:
    first = await hold(group, n)
    await asyncio.sleep(0.005)
    return first + await hold(group, n + 1)

@workflow(limits=Limit({AT_ONCE}))
async def limited(n: int) -> int:
    return await twice("limited", n)

@workflow
async def control(n: int) -> int:
    return await twice("control", n)

@workflow(limits=Limit(rate=({IN_A_TIME}, {PERIOD})))
async def rated(n: int) -> int:
    return await twice("rated", n)

@workflow(limits=Limit(rate=(1000, {PERIOD})))
async def unrated(n: int) -> int:
    return await twice("unrated", n)
"""

NOTED_IN_FILE = """
CREATE TABLE noted (name TEXT, at INTEGER);
CREATE TRIGGER note AFTER INSERT ON leases WHEN NEW.name LIKE 'rate/%' BEGIN
    INSERT INTO noted VALUES (NEW.name, NEW.expires_at);
END;
"""
NOTED_ON_SERVER = """
CREATE TABLE noted (name text, at bigint);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO noted VALUES (NEW.name, NEW.expires_at);
    RETURN NEW;
END $$;
CREATE TRIGGER note AFTER INSERT ON leases FOR EACH ROW WHEN (NEW.name LIKE 'rate/%') EXECUTE FUNCTION note();
"""
"""What the keeper itself writes when a run takes its part of a rate: by its clock, in its order."""

_numbers = itertools.count()


class InFile:
    """An SQLite file."""

    def __init__(self, folder):
        self.path = FilePlace(folder).path
        self.url = FilePlace(folder).url

    async def note(self):
        with closing(sqlite3.connect(self.path)) as file:
            file.executescript(NOTED_IN_FILE)

    async def ask(self, query):
        with closing(sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)) as file:
            return file.execute(query).fetchall()

    def close(self):
        pass


class OnServer:
    """A schema of a PostgreSQL."""

    def __init__(self, server):
        self.server, self.schema = server, f"limits_{next(_numbers)}"
        self.url = ServerPlace(server, self.schema).url

    async def note(self):
        await self._execute("execute", NOTED_ON_SERVER)

    async def ask(self, query):
        return [tuple(row) for row in await self._execute("fetch", query)]

    async def _execute(self, how, query):
        connection = await asyncpg.connect(self.server.url, server_settings={"search_path": self.schema})
        try:
            return await getattr(connection, how)(query)
        finally:
            await connection.close()

    def close(self):
        asyncio.run(self._execute("execute", f"DROP SCHEMA {self.schema} CASCADE"))


@pytest.fixture(params=["file", "server"])
def place(request, tmp_path):
    place = (
        InFile(tmp_path)
        if request.param == "file"
        else OnServer(request.getfixturevalue("killable_postgres"))
    )
    yield place
    place.close()


def begin(nursery, folder, place):
    return nursery.spawn("fleet", folder, store=place.url, module=str(folder / "code.py"))


def fullest(times, period):
    """Return how many there are at most in a window of that length, wherever it begins."""
    return max(sum(begin <= at < begin + period for at in times) for begin in times)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("number", range(-(-CYCLES // 10 // PER_ROUND)))
async def test_limits_hold_over_kills(number, nursery, tmp_path, place, counts, request):
    seed = SEED + number
    dice = random.Random(seed)
    (tmp_path / "code.py").write_text(CODE)
    code = fleet_main.load(str(tmp_path / "code.py"))
    said = ledger.Reader(tmp_path / fleet_main.EXECUTED)
    begun, seen = Counter(), []
    async with Reprise(place.url, worker=False) as app:
        await place.note()
        await fleet_main.start_some(app, code, begun, dict.fromkeys(PER_CYCLE, 12))
        workers = [begin(nursery, tmp_path, place) for _ in range(3)]
        for _ in range(PER_ROUND):
            await fleet_main.start_some(app, code, begun, PER_CYCLE)
            wanted, until = len(seen) + dice.randint(5, 40), time.monotonic() + PATIENCE
            while len(seen) < wanted:
                seen += said.new()
                assert time.monotonic() < until, await app.store.runs.count()
                await asyncio.sleep(0.002)
            victim = dice.randrange(3)
            nursery.kill(workers[victim])
            workers[victim] = begin(nursery, tmp_path, place)
        await fleet_main.until_ended(app)
        for name, number_of in begun.items():
            for n in range(number_of):
                assert await app.handle(f"{name}-{n:04}").result() == 2 * n + 1
        assert await app.store.runs.lines() == []
        held = await place.ask("SELECT name FROM leases WHERE name LIKE 'slot/%'")
        noted = await place.ask("SELECT name, at FROM noted")
    nursery.kill(*workers)
    seen += said.new()
    crowds = {
        name: [s.number for s in seen if isinstance(s, ledger.Crowd) and s.group == name] for name in begun
    }
    rates = {
        name: fullest([at for n, at in noted if n == f"rate/{name}"], PERIOD * 1e6)
        for name in ("rated", "unrated")
    }
    again_executed = [
        key
        for key, times in Counter((s.run, s.key) for s in seen if isinstance(s, ledger.Began)).items()
        if times > 1
    ]
    where = type(place).__name__
    counts[f"kills ({where})"] += PER_ROUND
    counts[f"runs ({where})"] += sum(begun.values())
    counts[f"steps executed again after a kill ({where})"] += len(again_executed)
    for name, most in (("limited", max(crowds["limited"])), ("control", max(crowds["control"]))):
        counts[f"most at once, {name} ({where})"] = max(most, counts[f"most at once, {name} ({where})"])
    for name, most in rates.items():
        counts[f"most in {PERIOD} s, {name} ({where})"] = max(
            most, counts[f"most in {PERIOD} s, {name} ({where})"]
        )
    assert held == [], again(request, seed)
    assert max(crowds["limited"]) == AT_ONCE < max(crowds["control"]), again(request, seed)
    assert rates["rated"] == IN_A_TIME < rates["unrated"], again(request, seed)
    assert again_executed, "no kill hit a step"
