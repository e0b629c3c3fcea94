"""Two versions of the code, as two module files, share one store: workers of the old one go, workers of the new one come."""

import asyncio
import itertools
import os
import signal
import time
from collections import Counter
from contextlib import asynccontextmanager

import msgspec
import pytest
from tests.crash import fleet_main, ledger
from tests.crash.helping import help_some
from tests.crash.places import PATIENCE, FilePlace, ServerPlace

from reprise import Kind, Past, Reprise, check_runs
from reprise.kernel.events import Owned

HEAD = """
import asyncio
from reprise import step, wait_for_signal, workflow
from tests.crash.fleet_main import executed

@step
async def reserve(n: int) -> int:
    executed()
    return n

@step
async def check(n: int) -> int:
    executed()
    return n

@step
async def ship(n: int) -> int:
    executed()
    return n
"""
OLD = f"""{HEAD}
@workflow
async def order(n: int) -> str:
    await reserve(n)
    await wait_for_signal("paid")
    await ship(n)
    return f"old-{{n}}"
"""
NEW = f"""{HEAD}
@workflow
async def order(n: int) -> str:
    await reserve(n)
    await check(n)
    await wait_for_signal("paid")
    await ship(n)
    return f"new-{{n}}"
"""
TAXED = f"""{HEAD}
from reprise import current_run, patched

@step
async def tax(n: int) -> int:
    executed()
    await asyncio.sleep(0.03)
    return n
"""
CARELESS = f"""{TAXED}
@workflow
async def order(n: int) -> str:
    await tax(n)
    await reserve(n)
    await wait_for_signal("paid")
    await ship(n)
    return f"taxed-{{n}}"
"""
CAREFUL = f"""{TAXED}
@workflow
async def order(n: int) -> str:
    taxed = patched("tax")
    if taxed:
        await tax(n)
    await reserve(n)
    await wait_for_signal("paid")
    await ship(n)
    return f"{{'taxed' if taxed else 'untaxed'}}-{{n}}"

@workflow
async def naive(n: int) -> str:
    taxed = not current_run().replaying
    if taxed:
        await tax(n)
    await reserve(n)
    await wait_for_signal("paid")
    return f"{{'taxed' if taxed else 'untaxed'}}-{{n}}"
"""
BUILDS = {"v1": OLD, "v2": NEW, "v3": CARELESS, "v4": CAREFUL}
"""A run that v1 began, v2 can go on with: what it has more comes after what v1 recorded. Not the other way round.
v3 cannot go on with it, v4 has both ways."""

MUST_OCCUR = {
    "incompatible runs refused by a worker, as checked": "incompatible runs found by check",
    "runs of the new build taken over on the new way": "runs of the new build, their workers killed",
    "naive runs that did what they do not know": "runs of the new build, their workers killed",
}


_numbers = itertools.count()


class Fleet:
    """Workers of two builds on one store."""

    def __init__(self, nursery, folder, url):
        self.nursery, self.folder, self.url = nursery, folder, url
        self.code = {}
        for build, text in BUILDS.items():
            path = folder / f"code_{build}.py"
            path.write_text(text)
            self.code[build] = fleet_main.load(str(path))

    def start(self, build, accepts=None):
        module = str(self.folder / f"code_{build}.py")
        return self.nursery.spawn(
            "fleet", self.folder, store=self.url, module=module, build=build, accepts=accepts
        )

    def drain(self, *workers):
        """Let workers end as a deploy does: by SIGTERM."""
        until = time.monotonic() + PATIENCE
        for worker in workers:
            while not fleet_main.ready_file(self.folder, worker).exists():
                assert time.monotonic() < until
                time.sleep(0.002)
            os.kill(worker, signal.SIGTERM)
        for worker in workers:
            assert self.nursery.ended(worker, wait=True) == 0

    @asynccontextmanager
    async def client(self, build):
        async with Reprise(self.url, worker=False, build=build) as app:
            yield app

    async def begin(self, app, build, names):
        """Start orders with the code of a build and wait until all of them wait for their payment."""
        for n in names:
            await app.start(self.code[build].order, n, id=f"{build}-{n:02}")
        await self.until(
            app, [f"{build}-{n:02}" for n in names], lambda row: row.status == "waiting" and not row.owner
        )

    async def until(self, app, ids, holds):
        until = time.monotonic() + PATIENCE
        for id in ids:
            while not holds(row := await app.client.row(id)):
                assert time.monotonic() < until, row
                await asyncio.sleep(0.01)

    async def pay(self, app, ids):
        for id in ids:
            await app.client.signal(id, "paid")

    async def results(self, app, ids):
        """Return what becomes of orders."""
        await self.until(app, ids, lambda row: row.status in ("completed", "failed"))
        return {id: await app.handle(id).result(PATIENCE) for id in ids}

    def executed(self):
        """Return how often each step of each run was executed."""
        lines = ledger.lines(self.folder / fleet_main.EXECUTED)
        return Counter((line.run, line.key) for line in lines if isinstance(line, ledger.Began))

    async def builds(self, app, id):
        """Return the builds that had a run, in their order."""
        records = [record async for record in app.client.events(id)]
        return [
            msgspec.json.decode(record.data, type=Owned).build
            for record in records
            if record.kind == Kind.RUN_OWNED
        ]


@pytest.fixture(params=["file", "server"])
def fleet(request, nursery, tmp_path):
    if request.param == "file":
        yield Fleet(nursery, tmp_path, FilePlace(tmp_path).url)
        return
    place = ServerPlace(request.getfixturevalue("killable_postgres"), f"deploy_{next(_numbers)}")
    yield Fleet(nursery, tmp_path, place.url)
    nursery.kill(*nursery.alive)
    place.close()


@pytest.mark.timeout(120)
async def test_pinned_runs_end_on_the_workers_of_their_own_version(fleet, counts):
    old = [fleet.start("v1", ["v1"]) for _ in range(2)]
    async with fleet.client("v1") as before, fleet.client("v2") as after:
        await fleet.begin(before, "v1", range(12))
        new = [fleet.start("v2", ["v2"])]
        await fleet.begin(after, "v2", range(12))
        fleet.drain(old[0])
        new.append(fleet.start("v2", ["v2"]))
        ids = [f"{build}-{n:02}" for n in range(12) for build in ("v1", "v2")]
        await fleet.pay(after, ids)
        assert await fleet.results(after, ids) == {
            id: f"{'old' if id.startswith('v1') else 'new'}-{int(id[3:])}" for id in ids
        }
        for id in ids:
            assert set(await fleet.builds(after, id)) == {id[:2]}
        fleet.drain(old[1], *new)
    assert set(fleet.executed().values()) == {1}
    assert len(fleet.executed()) == 12 * 2 + 12 * 3
    counts["runs ended by their own version"] += len(ids)


@pytest.mark.timeout(120)
async def test_a_run_that_only_the_new_code_can_replay_survives_the_old_code_taking_it_first(fleet, counts):
    new = fleet.start("v2")
    async with fleet.client("v2") as app:
        await fleet.begin(app, "v2", range(8))
        fleet.drain(new)
        old = fleet.start("v1")
        ids = [f"v2-{n:02}" for n in range(8)]
        await fleet.pay(app, ids)
        await fleet.until(app, ids, lambda row: row.refused == ("v1",))
        assert {(await app.client.row(id)).build for id in ids} == {"v2"}
        new = fleet.start("v2")
        assert await fleet.results(app, ids) == {id: f"new-{int(id[3:])}" for id in ids}
        for id in ids:
            builds = await fleet.builds(app, id)
            assert builds.count("v1") == 1, "the same build does not try again"
            assert builds[-1] == "v2"
        fleet.drain(old, new)
    assert set(fleet.executed().values()) == {1}
    assert len(fleet.executed()) == 8 * 3
    counts["refused by the old version, ended by the new"] += len(ids)


@pytest.mark.timeout(120)
async def test_a_rolling_deploy_without_pins_ends_every_run_and_executes_nothing_twice(fleet, counts):
    workers = [fleet.start("v1") for _ in range(3)]
    async with fleet.client("v1") as before, fleet.client("v2") as after:
        await fleet.begin(before, "v1", range(20))
        ids = [f"v1-{n:02}" for n in range(20)]
        results = {}
        for number, worker in enumerate(workers):
            fleet.drain(worker)
            workers[number] = fleet.start("v2")
            some = [f"v2-{n:02}" for n in range(5 * number, 5 * number + 5)]
            for id in some:
                await after.start(fleet.code["v2"].order, int(id[3:]), id=id)
            ids += some
            paid = [*ids[5 * number : 5 * number + 5], *some]
            await fleet.pay(after, paid)
            results |= await fleet.results(after, paid)
        await fleet.pay(after, rest := [id for id in ids if id not in results])
        results |= await fleet.results(after, rest)
        assert {id: result.partition("-")[2] for id, result in results.items()} == {
            id: str(int(id[3:])) for id in ids
        }
        taken = Counter([tuple(sorted(set(await fleet.builds(after, id)))) for id in ids])
        fleet.drain(*workers)
    assert set(fleet.executed().values()) == {1}
    for builds, number in taken.items():
        counts[f"runs taken by {' and '.join(builds)}"] += number


def carried(past: Past) -> dict[str, int]:
    """Compute what an order of v1 begins anew with."""
    return {"n": past.args[0]}


@pytest.mark.timeout(120)
async def test_a_deploy_that_does_not_fit_is_found_before_and_cured_in_each_of_three_ways(fleet, counts):
    old = fleet.start("v1")
    ids = [f"v1-{n:02}" for n in range(18)]
    both, pinned, moved, control = ids[:5], ids[5:10], ids[10:15], ids[15:]
    async with fleet.client("v4") as app:
        await fleet.begin(app, "v1", range(18))
        fleet.drain(old)
        done, end = fleet.executed(), await app.store.log.end()
        assert (await check_runs(app.store, [fleet.code["v2"].order], build="v2")).ok
        checked = await check_runs(app.store, [fleet.code["v3"].order], build="v3")
        (misfit,) = checked.misfits
        assert checked.affected[misfit] == len(ids)
        assert (misfit.reason, misfit.source) == (
            "the code calls 'tax' where the log has 'reserve'",
            "await tax(n)",
        )
        assert (fleet.executed(), await app.store.log.end()) == (done, end), "looking does nothing"
        counts["incompatible runs found by check"] += len(ids)

        careless = fleet.start("v3")
        await fleet.pay(app, control)
        await fleet.until(app, control, lambda row: row.refused == ("v3",))
        counts["incompatible runs refused by a worker, as checked"] += len(control)
        fleet.drain(careless)
        assert fleet.executed() == done

        for id in pinned:
            assert await app.client.pin(id) == "v1"
        for id in moved:
            await app.client.migrate(id, carried, fleet.code["v4"].order)
        assert (await check_runs(app.store, [fleet.code["v4"].order], build="v4")).ok
        workers = [fleet.start("v4"), fleet.start("v4")]
        await fleet.pay(app, [*both, *pinned, *moved])
        assert await fleet.results(app, both + control) == {
            id: f"untaxed-{int(id[3:])}" for id in both + control
        }
        fleet.nursery.kill(workers.pop())
        assert await fleet.results(app, moved) == {id: f"taxed-{int(id[3:])}" for id in moved}
        assert not {(await app.client.row(id)).status for id in pinned} & {"completed", "failed"}
        workers.append(fleet.start("v1", ["v1"]))
        assert await fleet.results(app, pinned) == {id: f"old-{int(id[3:])}" for id in pinned}
        for id in pinned:
            assert set(await fleet.builds(app, id)) == {"v1"}
        fleet.drain(*workers)
    counts["runs cured by a patch"] += len(both + control)
    counts["runs cured by a pin"] += len(pinned)
    counts["runs cured by migrating"] += len(moved)


@pytest.mark.timeout(120)
async def test_kill_9_leaves_no_run_that_did_what_is_not_its_way(fleet, counts):
    """Beside them, runs that ask only whether they are replayed: these do what their history does not know."""
    async with fleet.client("v4") as app:
        names = [f"{name}-{n:02}" for n in range(40) for name in ("order", "naive")]
        for name in names:
            flow = getattr(fleet.code["v4"], name.partition("-")[0])
            await app.start(flow, int(name[-2:]), id=name)
            await app.client.signal(name, "paid")
        orders = [name for name in names if name.startswith("order")]

        async def all_done():
            """Whether every order has ended; a naive run that was taken over may rest for good."""
            return (await app.count("status:completed workflow:order")).get("completed") == len(orders)

        for _ in range(6):
            workers, before = [fleet.start("v4") for _ in range(2)], fleet.executed().total()
            until = time.monotonic() + PATIENCE
            while fleet.executed().total() < before + 6 and not await all_done():
                assert time.monotonic() < until
                await help_some(app)
                await asyncio.sleep(0.002)
            fleet.nursery.kill(*workers)
        last, until = fleet.start("v4"), time.monotonic() + PATIENCE
        while not await all_done():
            await help_some(app)
            assert time.monotonic() < until
            await asyncio.sleep(0.05)
        taxed = {run for run, key in fleet.executed() if key.endswith(".tax")}
        for name in names:
            records = [record async for record in app.client.events(name)]
            way = any(record.kind == Kind.PATCHED for record in records)
            knows = any(
                record.kind == Kind.STEP_COMPLETED and record.key.endswith(".tax") for record in records
            )
            owners = sum(record.kind == Kind.RUN_OWNED for record in records)
            if name.startswith("naive"):
                counts["naive runs that did what they do not know"] += name in taxed and not knows
                continue
            assert (way, knows, name in taxed) == (True,) * 3, "it began under the build that has the new way"
            counts["runs of the new build, their workers killed"] += 1
            counts["runs of the new build taken over on the new way"] += owners > 1
        fleet.drain(last)
