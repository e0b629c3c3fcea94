"""Limits: as many at once as allowed, waiting runs in nobody's way, and places that are never lost."""

import asyncio
import sqlite3
from contextlib import AsyncExitStack, closing
from types import SimpleNamespace

import pytest
from tests.unit.runtime.scenes import (
    Shared,
    kill,
    kinds,
    opened,
    recorded,
    row_when,
    status_is,
    until,
    worker_of,
)

import reprise.runtime.places
import reprise.runtime.worker
from reprise import (
    ConfigurationError,
    DeadlineExceeded,
    Kind,
    Limit,
    Reprise,
    RunCancelled,
    UnknownOption,
    VirtualClock,
    step,
    wait_for_signal,
    workflow,
)
from reprise.kernel.events import run_stream
from reprise.runtime.worker import Worker
from reprise.stores.memory import MemoryStore
from reprise.stores.memory.lease import MemoryLease
from reprise.stores.runs import RunFilter

at_work: set[str] = set()
crowds: list[int] = []
"""How many were at work when each began."""
ran: list[str] = []
stage = SimpleNamespace()


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(reprise.runtime.worker, "LOOK", 0.01)
    at_work.clear()
    crowds.clear()
    ran.clear()
    stage.go = asyncio.Event()


@step
async def work(name: str) -> str:
    """Take a moment, and count who else does."""
    at_work.add(name)
    crowds.append(len(at_work))
    ran.append(name)
    await asyncio.sleep(0.003)
    at_work.discard(name)
    return name


@step
async def hold(name: str) -> str:
    """Execute until the test says go."""
    at_work.add(name)
    ran.append(name)
    await stage.go.wait()
    at_work.discard(name)
    return name


@workflow(limits=Limit(2))
async def two_at_once(name: str) -> str:
    await work(name)
    return await work(name)


@workflow
async def unlimited(name: str) -> str:
    await work(name)
    return await work(name)


@workflow(limits=[Limit(1)])
async def one_at_once(name: str) -> str:
    return await hold(name)


@workflow(limits=Limit(2))
async def patient(name: str) -> str:
    await work(name)
    await wait_for_signal("go")
    return await work(name)


@workflow(limits=Limit(1, per="tenant"))
async def tenants(name: str) -> str:
    return await hold(name)


async def holders(app: Reprise, lane: str) -> list[str]:
    return sorted(grant.holder for grant in await app.store.lease.holder(f"slot/{lane}"))


# ---------------------------------------------------------------- as many as allowed


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_no_more_at_once_than_the_limit_over_several_workers(kind, tmp_path):
    shared = Shared() if kind == "memory" else None
    url = f"sqlite:///{tmp_path / 'runs.db'}?synchronous=OFF"
    async with AsyncExitStack() as stack:
        apps = [
            await stack.enter_async_context(opened(shared or url, workflows=[two_at_once, unlimited]))
            for _ in range(3)
        ]
        for flow, allowed in ((two_at_once, range(2, 3)), (unlimited, range(3, 100))):
            handles = [
                await apps[n % 3].start(
                    flow, f"{flow.name}-{n}", id=f"{flow.name}-{n}", detach=flow is two_at_once
                )
                for n in range(20)
            ]
            assert [await handle.result(20) for handle in handles] == [handle.id for handle in handles]
            assert max(crowds) in allowed, "the control without a limit must exceed it"
            crowds.clear()
        assert sorted(ran) == sorted(
            2 * [f"{flow.name}-{n}" for flow in (two_at_once, unlimited) for n in range(20)]
        )
        assert await holders(apps[0], "two_at_once") == []


async def test_runs_under_an_unnamed_limit_begin_in_the_order_of_their_starts():
    async with opened(workflows=[two_at_once]) as app:
        for n in range(12):
            await app.start(two_at_once, f"{n:02}", id=f"{n:02}")
        await app.handle("11").result(5)
        begun = list(dict.fromkeys(ran))
        assert begun == sorted(begun)


async def test_a_named_limit_is_shared_and_one_without_name_is_not():
    gpu = Limit(1, name="gpu")

    @workflow(limits=gpu)
    async def train(name: str) -> str:
        return await hold(name)

    @workflow(limits=[gpu, Limit(5)])
    async def infer(name: str) -> str:
        return await hold(name)

    async with opened(workflows=[train, infer, one_at_once]) as app:
        await app.start(train, "train", id="train")
        await until(lambda: at_work == {"train"})
        await app.start(infer, "infer", id="infer")
        await app.start(one_at_once, "own", id="own")
        await until(lambda: at_work == {"train", "own"})
        await worker_of(app).look()
        assert (await app.client.row("infer")).in_line
        assert at_work == {"train", "own"}
        stage.go.set()
        assert await app.handle("infer").result(5) == "infer"


async def test_per_tag_per_key_and_for_all_workflows():
    @workflow(limits=[Limit(1, per=lambda name, customer: customer)])
    async def orders(name: str, customer: str | None) -> str:
        return await hold(name)

    everywhere = [Limit(3, per="team"), Limit(4, per="workflow")]
    async with opened(workflows=[orders, tenants], limits=everywhere) as app:

        async def start(flow, name: str, *more, **tags: str) -> None:
            await app.start(flow, name, *more, id=name, tags=tags)

        await start(orders, "c1-a", "c1")
        await start(orders, "c1-b", "c1")
        await start(orders, "c2-a", "c2")
        await start(orders, "none-a", None)
        await start(orders, "none-b", None)
        await start(tenants, "t1-a", tenant="t1", team="x")
        await start(tenants, "t1-b", tenant="t1", team="x")
        await start(tenants, "t2-a", tenant="t2", team="x")
        await start(tenants, "t3-a", tenant="t3", team="x")
        await start(tenants, "t4-a", tenant="t4", team="x")
        await start(tenants, "t5-a", tenant="t5", team="y")
        await start(tenants, "free")
        expected = {"c1-a", "c2-a", "none-a", "none-b", "t1-a", "t2-a", "t3-a", "t5-a"}
        await until(lambda: at_work == expected)
        await worker_of(app).look()
        assert at_work == expected
        lanes = {slot.lane for row in await app.store.runs.find() for slot in row.slots}
        assert lanes >= {"orders.key=c1", "tenants.tenant=t1", "*.team=x", "*.workflow=orders"}
        assert [slot.lane for slot in (await app.client.row("free")).slots] == ["*.workflow=tenants"]
        stage.go.set()
        for name in ("c1-b", "t1-b", "t4-a", "free"):
            assert await app.handle(name).result(5) == name


# ---------------------------------------------------------------- waiting runs are in nobody's way


async def test_waiting_runs_hold_no_place():
    async with opened(workflows=[patient]) as app:
        for n in range(10):
            await app.start(patient, f"w{n}", id=f"w{n}")
        for n in range(10):
            await status_is(app, f"w{n}", "waiting")
        assert await holders(app, "patient") == []
        assert app.engine.statistics()["parked"] == 0, "they wait in memory"
        assert max(crowds) == 2
        for n in range(10):
            await app.client.signal(f"w{n}", "go")
        assert [await app.handle(f"w{n}").result(5) for n in range(10)] == [f"w{n}" for n in range(10)]
        assert max(crowds) == 2
        assert len(ran) == 20


async def test_waiting_runs_that_left_memory_come_back_and_take_their_turn():
    async with opened(workflows=[patient, one_at_once], max_loaded=3) as app:
        worker_of(app)._idle = 0.0
        for n in range(8):
            await app.start(patient, f"w{n}", id=f"w{n}")
        for n in range(8):
            await row_when(app, f"w{n}", lambda row: row.status == "waiting" and row.owner is None)
        for n in range(8):
            await app.client.signal(f"w{n}", "go")
        assert [await app.handle(f"w{n}").result(5) for n in range(8)] == [f"w{n}" for n in range(8)]
        assert max(crowds) <= 2
        assert len(ran) == 16


async def test_a_run_without_a_place_takes_signals_and_waits_only_for_its_step():
    @workflow(limits=Limit(1, name="one"))
    async def talks() -> list[str]:
        heard = [await wait_for_signal("say", str), await wait_for_signal("say", str)]
        return [*heard, await work("talks")]

    @workflow(limits=Limit(1, name="one"))
    async def holds() -> str:
        return await hold("holds")

    async with opened(workflows=[talks, holds]) as app:
        await app.start(talks, id="talks")
        await status_is(app, "talks", "waiting")
        await app.start(holds, id="holds")
        await until(lambda: at_work == {"holds"})
        await app.client.signal("talks", "say", "a")
        await app.client.signal("talks", "say", "b")
        row = await row_when(app, "talks", lambda row: row.in_line)
        assert (row.status, row.owner) == ("pending", None)
        records = await recorded(app, "talks", Kind.SIGNAL_RECEIVED, 2)
        assert kinds(records)[-2:] == ["SIGNAL_RECEIVED", "SIGNAL_RECEIVED"]
        assert ran == ["holds"]
        stage.go.set()
        assert await app.handle("talks").result(5) == ["a", "b", "talks"]


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_ten_thousand_of_a_full_tenant_delay_another_by_no_more_than_a_look(kind, tmp_path):
    """By the order of events: the other tenant's run is taken at the first look after it was started."""
    url = f"sqlite:///{tmp_path / 'runs.db'}?synchronous=OFF"
    async with opened(MemoryStore() if kind == "memory" else url, workflows=[tenants]) as app:
        await app.start(tenants, "full", id="full", tags={"tenant": "full"})
        await until(lambda: at_work == {"full"})
        worker_of(app)._tasks[1].cancel()  # from here on it looks only when the test says so
        await asyncio.gather(
            *(
                app.start(tenants, f"n{n}", id=f"n{n}", tags={"tenant": "full"}, detach=True)
                for n in range(10_000)
            )
        )
        await app.start(tenants, "other", id="other", tags={"tenant": "other"}, detach=True)
        await worker_of(app).look()
        assert (await app.client.row("other")).owner == app.engine.worker
        (line,) = await app.store.runs.lines()
        assert (line.slots[0].lane, line.taken) == ("tenants.tenant=full", (1,))
        taken = [
            record.stream
            for record in await app.store.log.scan(limit=50_000, prefix="run/")
            if record.kind == Kind.RUN_OWNED
        ]
        assert taken == ["run/full", "run/other"]


# ---------------------------------------------------------------- taps


@pytest.fixture
def unasked(monkeypatch):
    """Let no worker look unless it is tapped."""
    monkeypatch.setattr(reprise.runtime.worker, "LOOK", 3600)


async def test_who_begins_to_wait_taps_those_in_line(unasked):
    @workflow(limits=Limit(1))
    async def flow(name: str) -> str:
        await work(name)
        await wait_for_signal("go")
        return name

    async with opened(workflows=[flow]) as app:
        for name in "abc":
            await app.start(flow, name, id=name)
        await until(lambda: ran == ["a", "b", "c"])


async def test_a_child_in_line_is_tapped_for(unasked):
    @workflow
    async def parent() -> str:
        await asyncio.sleep(0)
        return await two_at_once("child")

    async with opened() as app:
        await worker_of(app).look()
        assert await (await app.start(parent)).result(5) == "child"


async def test_room_that_comes_while_a_run_gets_in_line_is_not_lost(unasked, monkeypatch):
    one = Limit(1, name="one")

    @workflow(limits=one)
    async def talks() -> str:
        await wait_for_signal("say")
        return await work("talks")

    @workflow(limits=one)
    async def holds() -> str:
        return await hold("holds")

    async with opened(workflows=[talks, holds]) as app:
        park = reprise.runtime.places.park

        async def park_late(*what, **how) -> int:
            stage.go.set()
            await app.handle("holds").result(5)
            await worker_of(app).look()
            worker_of(app)._tapped.clear()
            return await park(*what, **how)

        monkeypatch.setattr(reprise.runtime.places, "park", park_late)
        await app.start(talks, id="talks")
        await status_is(app, "talks", "waiting")
        await app.start(holds, id="holds")
        await until(lambda: at_work == {"holds"})
        await app.client.signal("talks", "say")
        assert await app.handle("talks").result(5) == "talks"


# ---------------------------------------------------------------- runs that end before they began


async def test_a_cancelled_run_in_line_ends_without_a_place_and_executes_nothing():
    async with opened(workflows=[one_at_once]) as app:
        await app.start(one_at_once, "a", id="a")
        await until(lambda: at_work == {"a"})
        await app.start(one_at_once, "b", id="b")
        await app.client.cancel("b", "not wanted")
        with pytest.raises(RunCancelled, match="not wanted"):
            await app.handle("b").result(5)
        assert ran == ["a"]
        assert await holders(app, "one_at_once") == ["a"]
        assert await app.store.runs.lines() == []


async def test_a_cancelled_run_in_line_takes_no_place_that_is_free(monkeypatch):
    seated = []
    seat = MemoryLease.seat
    monkeypatch.setattr(MemoryLease, "seat", lambda lease, *a: (seated.append(a[1]), seat(lease, *a))[1])
    shared = Shared()
    async with opened(shared, worker=False) as client:
        await client.start(one_at_once, "a", id="a")
        await client.client.cancel("a")
    async with opened(shared, workflows=[one_at_once]) as app:
        with pytest.raises(RunCancelled):
            await app.handle("a").result(5)
    assert (seated, ran) == ([], [])


async def test_the_deadline_of_a_run_in_line_passes():
    async with opened(workflows=[one_at_once]) as app:
        await app.start(one_at_once, "a", id="a")
        await until(lambda: at_work == {"a"})
        late = await app.start(one_at_once, "b", id="b", deadline=0.05)
        with pytest.raises(DeadlineExceeded):
            await late.result(5)
        assert ran == ["a"]


async def test_a_paused_run_in_line_leaves_it_and_comes_back():
    async with opened(workflows=[one_at_once]) as app:
        await app.start(one_at_once, "a", id="a")
        await until(lambda: at_work == {"a"})
        await app.start(one_at_once, "b", id="b")
        await app.client.pause("b")
        row = await status_is(app, "b", "paused")
        assert not row.in_line
        stage.go.set()
        await app.handle("a").result(5)
        assert await holders(app, "one_at_once") == []
        await app.client.resume("b")
        await row_when(app, "b", lambda row: row.status != "paused")
        assert await app.handle("b").result(5) == "b"


@pytest.mark.parametrize("how", ["pause", "cancel", "fail", "strand"])
async def test_a_run_that_stops_gives_its_place_back(how):
    @workflow(limits=Limit(1, name="one"))
    async def stops() -> None:
        await work("stops")
        if how == "fail":
            raise ValueError("no")
        await hold("stops")
        await work("stops")

    @workflow(limits=Limit(1, name="one"))
    async def next_one() -> str:
        return await work("next")

    async with opened(workflows=[stops, next_one]) as app:
        handle = await app.start(stops, id="stops")
        waiting = asyncio.create_task(handle.finished())
        if how != "fail":
            await until(lambda: "stops" in at_work and ran.count("stops") == 2)
        await app.start(next_one, id="next")
        if how == "pause":
            await handle.pause()
            await until(lambda: app.engine.executions["stops"].holding)
            stage.go.set()
        elif how == "cancel":
            await handle.cancel()
        elif how == "strand":
            app.engine.executions["stops"].fail(reprise.NonDeterminismError("other code"))
        assert await app.handle("next").result(5) == "next"
        stage.go.set()
        assert (await waiting).status == {"pause": "paused", "cancel": "cancelled", "fail": "failed"}.get(
            how, "stranded"
        )


# ---------------------------------------------------------------- children


async def test_children_count_and_a_parent_that_waits_for_them_does_not():
    @workflow(limits=Limit(1, name="one"))
    async def child(name: str) -> str:
        return await work(name)

    @workflow(limits=Limit(1, name="one"))
    async def parent() -> list[str]:
        first = await work("parent")
        return [first, *await asyncio.gather(*(child(f"c{n}") for n in range(5))), await child("last")]

    async with opened(workflows=[parent, child]) as app:
        assert await app.run(parent, id="p") == ["parent", "c0", "c1", "c2", "c3", "c4", "last"]
        assert max(crowds) == 1
        assert await holders(app, "one") == []


async def test_children_have_the_tags_of_their_parent_and_their_own_keys():
    def key_of(name: str) -> str:
        if name == "bad":
            raise LookupError("no key")
        return name

    @workflow(limits=Limit(1, per=key_of))
    async def child(name: str) -> str:
        return await work(name)

    @workflow
    async def parent() -> list[str]:
        names = ["x", "x", "y", "bad"]
        found = await asyncio.gather(*(child(name) for name in names), return_exceptions=True)
        return [str(each) for each in found]

    async with opened(workflows=[parent, child], limits=Limit(9, per="tenant")) as app:
        assert await app.run(parent, id="p", tags={"tenant": "acme"}) == ["x", "x", "y", "no key"]
        rows = await app.store.runs.find(RunFilter(parent="p"))
        started = [await app.store.log.read(run_stream(row.id)) for row in rows]
        assert len(started) == 3
        with pytest.raises(LookupError):
            await app.start(child, "bad")


# ---------------------------------------------------------------- workers that die


async def test_the_places_of_a_dead_worker_go_on_with_its_runs():
    """Not one more at once than allowed, while they are taken over."""
    clock = VirtualClock()
    shared = Shared(clock)
    async with opened(shared, workflows=[two_at_once], clock=clock) as first, AsyncExitStack() as stack:
        blocked = asyncio.create_task(asyncio.Event().wait())
        for n in range(6):
            await first.start(two_at_once, f"r{n}", id=f"r{n}", detach=True)
        await until(lambda: len(at_work) == 2)
        kill(first)
        at_work.clear()
        held = sorted(grant.holder for grant in await shared.lease.holder("slot/two_at_once"))
        assert len(held) == 2
        second = await stack.enter_async_context(opened(shared, workflows=[two_at_once], clock=clock))
        await worker_of(second).look()
        assert await holders(second, "two_at_once") == held, "its lease still holds"
        clock.advance(16)
        for n in range(6):
            assert await second.handle(f"r{n}").result(5) == f"r{n}"
        assert max(crowds) == 2
        assert await holders(second, "two_at_once") == []
        blocked.cancel()


async def test_a_run_that_waited_in_the_memory_of_a_dead_worker_needs_no_place_to_be_taken_over():
    clock = VirtualClock()
    shared = Shared(clock)

    @workflow(limits=Limit(1, name="one"))
    async def waits() -> str:
        await wait_for_signal("go")
        return await work("waits")

    @workflow(limits=Limit(1, name="one"))
    async def holds() -> str:
        return await hold("holds")

    async with opened(shared, workflows=[waits], clock=clock) as first:
        await first.start(waits, id="waits")
        await status_is(first, "waits", "waiting")
        async with opened(shared, workflows=[holds, waits], clock=clock) as second:
            await second.start(holds, id="holds")
            await until(lambda: at_work == {"holds"})
            kill(first)
            clock.advance(14)
            await worker_of(second)._store.lease.renew([worker_of(second)._grant], 15)
            clock.advance(2)
            await row_when(second, "waits", lambda row: row.owner == second.engine.worker)
            await second.client.signal("waits", "go")
            await row_when(second, "waits", lambda row: row.in_line)
            stage.go.set()
            assert await second.handle("waits").result(5) == "waits"


async def test_a_place_that_a_dead_worker_did_not_give_back_is_given_back_by_the_next(monkeypatch):
    clock = VirtualClock()
    shared = Shared(clock)
    async with opened(shared, workflows=[patient], clock=clock) as first:
        first.engine.places.give_back = lambda execution: None
        await first.start(patient, "a", id="a")
        await until(first.engine.idle)
        kill(first)
        clock.advance(16)
        assert await holders(first, "patient") == ["a"]
        async with opened(shared, workflows=[patient], clock=clock) as second:
            await row_when(second, "a", lambda row: row.owner == second.engine.worker)
            await status_is(second, "a", "waiting")
            assert await holders(second, "patient") == []


async def test_a_run_in_line_that_nobody_knows_is_pointed_out_after_a_while():
    clock = VirtualClock()
    shared = Shared(clock)
    async with opened(shared, clock=clock, worker=False) as client:
        await client.start(one_at_once, "a", id="a")
    async with opened(shared, clock=clock, lease=1e6) as stranger:
        await worker_of(stranger).look()
        assert (await stranger.client.row("a")).status == "pending"
        clock.advance(6)
        row = await status_is(stranger, "a", "stranded")
        assert "not known" in row.error
        assert row.in_line
    async with opened(shared, clock=clock, workflows=[one_at_once]) as app:
        await until(lambda: at_work == {"a"})
        assert (await app.client.row("a")).status == "running"


async def test_the_places_of_a_dead_run_that_nobody_knows_are_free_after_a_while(monkeypatch):
    monkeypatch.setattr(reprise.runtime.worker, "STRANGER", 0.0)
    clock = VirtualClock()
    shared = Shared(clock)
    one = Limit(1, name="one")

    @workflow(limits=one)
    async def unknown() -> str:
        return await hold("unknown")

    @workflow(limits=one)
    async def known() -> str:
        return await work("known")

    async with opened(shared, workflows=[unknown], clock=clock) as first:
        await first.start(unknown, id="unknown")
        await until(lambda: at_work == {"unknown"})
        kill(first)
        clock.advance(16)
        async with opened(shared, workflows=[known], clock=clock) as second:
            assert await second.run(known, id="known") == "known"
            assert (await second.client.row("unknown")).status == "stranded"
            second.registry.add(unknown)
            await row_when(second, "unknown", lambda row: row.owner == second.engine.worker)
            stage.go.set()
            assert await second.handle("unknown").result(5) == "unknown"


# ---------------------------------------------------------------- rates


async def test_in_no_window_begin_more_than_the_rate_allows(monkeypatch):
    """Over two workers, by the keeper's clock; the control without a rate exceeds it."""
    seated: list[tuple[str, int]] = []
    seat = MemoryLease.seat

    def note(lease: MemoryLease, name: str, holder: str, token: int, period: int) -> None:
        seated.append((name, lease._clock.now()))
        seat(lease, name, holder, token, period)

    monkeypatch.setattr(MemoryLease, "seat", note)
    clock = VirtualClock()
    shared = Shared(clock)

    @workflow(limits=Limit(rate=(3, 10)))
    async def slowly(name: str) -> str:
        return await work(name)

    @workflow(limits=Limit(100))
    async def control(name: str) -> str:
        return await work(name)

    options = {"workflows": [slowly, control], "clock": clock, "lease": 1e6}
    async with opened(shared, **options) as first, opened(shared, **options) as second:
        for n in range(20):
            await first.start(slowly, f"s{n}", id=f"s{n}", detach=True)
            await first.start(control, f"c{n}", id=f"c{n}", detach=True)
        while len(set(ran)) < 40:
            clock.advance(1.7)
            await worker_of(first).look()
            await worker_of(second).look()
        for n in range(20):
            await first.handle(f"s{n}").result(5)

    def fullest(name: str) -> int:
        times = [at for lane, at in seated if lane == name]
        assert len(times) == 20
        return max(sum(begin <= at < begin + 10_000_000 for at in times) for begin in times)

    assert fullest("rate/slowly") == 3
    assert fullest("slot/control") > 3


async def test_a_run_counts_once_when_it_begins(tmp_path):
    """Not again when it comes back from a wait, or from another worker."""

    @workflow(limits=Limit(rate=(1, 3600)))
    async def once() -> str:
        await work("once")
        await wait_for_signal("go")
        return await work("once")

    async with opened(workflows=[once]) as app:
        worker_of(app)._idle = 0.0
        await app.start(once, id="a")
        await row_when(app, "a", lambda row: row.status == "waiting" and row.owner is None)
        await app.client.signal("a", "go")
        assert await app.handle("a").result(5) == "once"
        await app.start(once, id="b")
        await worker_of(app).look()
        assert (await app.client.row("b")).in_line


async def test_a_run_that_mail_brought_into_memory_counts_once_too():
    clock = VirtualClock()
    shared = Shared(clock)

    @workflow(limits=Limit(2, rate=(1, 10)))
    async def once(name: str) -> str:
        await work(name)
        await wait_for_signal("go")
        return await work(name)

    async with opened(shared, clock=clock, worker=False) as client:
        await client.start(once, "a", id="a")
        await client.client.signal("a", "other")
    async with opened(shared, workflows=[once], clock=clock, lease=1e6) as app:
        await status_is(app, "a", "waiting")
        clock.advance(11)
        await app.start(once, "b", id="b")
        await status_is(app, "b", "waiting")
        await app.client.signal("a", "go")
        assert await app.handle("a").result(5) == "a"


@pytest.mark.parametrize("letter", [False, True])
async def test_a_run_that_has_begun_needs_no_part_of_the_rate_any_more(letter):
    """Also when mail brought it into memory before it had any."""
    clock = VirtualClock()

    @workflow(limits=Limit(2, rate=(1, 10)))
    async def once(name: str) -> str:
        await work(name)
        await wait_for_signal("go")
        return await work(name)

    async with opened(workflows=[once], clock=clock, store=MemoryStore(clock), lease=1e6) as app:
        await app.start(once, "a", id="a")
        await status_is(app, "a", "waiting")
        await app.start(once, "b", id="b")
        if letter:
            await app.client.signal("b", "other")
            await recorded(app, "b", Kind.SIGNAL_RECEIVED)
            await row_when(app, "b", lambda row: row.in_line)
        assert ran == ["a"]
        clock.advance(11)
        await status_is(app, "b", "waiting")
        await app.client.signal("a", "go")
        assert await app.handle("a").result(5) == "a"
        clock.advance(11)
        await app.start(once, "c", id="c")
        await status_is(app, "c", "waiting")
        await app.client.signal("b", "go")
        assert await app.handle("b").result(5) == "b"
        assert [slot.period for slot in (await app.client.row("c")).slots] == [0]


async def test_who_waits_for_a_rate_begins_when_its_time_has_come(monkeypatch):
    """Not at the next look that would come anyway."""
    monkeypatch.setattr(reprise.runtime.worker, "LOOK", 3600)

    @workflow(limits=Limit(rate=(2, 0.05)))
    async def slowly(name: str) -> str:
        return await work(name)

    async with opened(workflows=[slowly]) as app:
        handles = [await app.start(slowly, f"s{n}") for n in range(6)]
        assert [await handle.result(5) for handle in handles] == [f"s{n}" for n in range(6)]


# ---------------------------------------------------------------- other code


@pytest.mark.parametrize(("numbers", "together"), [((1, 3), 3), ((3, 1), 1), ((1, None), 4)])
async def test_a_limit_may_change_between_deploys(numbers, together):
    """What counts is the number of the worker that takes the run; a limit that is gone holds nobody who it knows."""
    before, after = numbers

    def flow_of(number):
        @workflow(
            limits=Limit(number, rate=(100, 60), name="n") if number else Limit(rate=(100, 60), name="n")
        )
        async def flow(name: str) -> str:
            return await hold(name)

        return flow

    shared = Shared()
    old, new = flow_of(before), flow_of(after)
    async with opened(shared, worker=False) as client:
        for n in range(4):
            await client.start(old, f"r{n}", id=f"r{n}")
    async with opened(shared, workflows=[new]) as app:
        await until(lambda: len(at_work) == together)
        await worker_of(app).look()
        assert len(at_work) == together
        stage.go.set()
        for n in range(4):
            assert await app.handle(f"r{n}").result(5) == f"r{n}"


async def test_a_limit_that_is_not_known_here_still_holds():
    shared = Shared()
    everywhere = Limit(1, per="tenant")

    @workflow
    async def flow(name: str) -> str:
        return await hold(name)

    async with opened(shared, worker=False, limits=everywhere) as client:
        for n in range(3):
            await client.start(flow, f"r{n}", id=f"r{n}", tags={"tenant": "t"})
    async with opened(shared, workflows=[flow]) as app:
        await until(lambda: at_work == {"r0"})
        await worker_of(app).look()
        assert at_work == {"r0"}
        stage.go.set()
        assert await app.handle("r2").result(5) == "r2"


# ---------------------------------------------------------------- what it costs, who may claim


async def test_unlimited_runs_write_nothing_for_limits(tmp_path):
    @workflow
    async def flow(name: str) -> str:
        return await work(name)

    async with opened(f"sqlite:///{tmp_path / 'runs.db'}?synchronous=OFF", workflows=[flow]) as app:
        assert app.registry.slots(flow, ("a",), {}, {}) == ()
        before = app.store.statistics()["appends"]
        await app.run(flow, "a")
        assert app.store.statistics()["appends"] - before == 3, "start, step, end"
        with closing(sqlite3.connect(tmp_path / "runs.db")) as file:
            terms, leases = (
                file.execute(f"SELECT count(*) FROM {name}").fetchone() for name in ("terms", "leases")
            )
        assert (terms, leases) == ((0,), (1,)), "the lease is the worker's own"


async def test_who_takes_nothing_over_still_executes_what_it_starts():
    async with opened(claims=False) as app:
        assert await app.run(two_at_once, "a") == "a"
        assert await app.run(patient_parent) == ["x", "y"]


async def test_who_is_for_one_run_only_waits_for_room_without_turning_in_circles(monkeypatch):
    looks = []
    look = Worker.look
    monkeypatch.setattr(Worker, "look", lambda worker: (looks.append(worker), look(worker))[1])
    monkeypatch.setattr(reprise.runtime.worker, "LOOK", 3600)
    shared = Shared()
    async with opened(shared, workflows=[one_at_once]) as first, opened(shared, only="b") as second:
        await first.start(one_at_once, "a", id="a")
        await until(lambda: at_work == {"a"})
        handle = await second.start(one_at_once, "b", id="b")
        for _ in range(200):
            await asyncio.sleep(0)
        assert looks.count(worker_of(second)) < 6
        assert (await second.client.row("b")).in_line
        stage.go.set()
        assert await handle.result(5) == "b"


@workflow
async def patient_parent() -> list[str]:
    return [await two_at_once("x"), await two_at_once("y")]


# ---------------------------------------------------------------- declaring


def test_wrong_limits_are_told_at_declaration():
    async def flow() -> None: ...

    with pytest.raises(ConfigurationError, match="limits nothing"):
        Limit()
    with pytest.raises(ConfigurationError, match="0 runs execute"):
        Limit(0)
    with pytest.raises(ConfigurationError, match="plain word"):
        Limit(1, name="a=b")
    with pytest.raises(ConfigurationError, match="like another"):
        workflow(limits=[Limit(1), Limit(rate=(1, 1))])(flow)
    with pytest.raises(ConfigurationError, match="holds 3"):
        workflow(limits=[3])(flow)
    with pytest.raises(UnknownOption, match="limits"):
        workflow(limit=Limit(1))(flow)
    with pytest.raises(ConfigurationError, match="name="):
        workflow(limits=Limit(1), name="a=b")(flow)


async def test_two_limits_of_one_name_and_a_long_key_are_told():
    @workflow(limits=Limit(1, name="n"))
    async def one() -> None: ...

    @workflow(limits=Limit(2, name="n"))
    async def two() -> None: ...

    with pytest.raises(ConfigurationError, match="Two limits are called 'n'"):
        Reprise("memory://", workflows=[one, two])
    async with opened() as app:
        with pytest.raises(ConfigurationError, match="201 characters"):
            await app.start(tenants, "a", tags={"tenant": "x" * 201})
