"""Schedulers over one store: each fire time has one run, whoever looks, whoever is late, whatever people change."""

import asyncio
import logging
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from tests.unit.runtime.scenes import Shared, opened, status_is, until

from reprise import Limit, VirtualClock, current_run, step, wait_for_signal, workflow
from reprise.kernel.clock import from_datetime, to_datetime
from reprise.kernel.errors import StoreUnreachable
from reprise.kernel.events import SCHEDULES, CancelRequest, Event, Kind, Started, inbox_stream, run_stream
from reprise.runtime.registry import Registry
from reprise.stores.log import Group, append
from reprise.stores.runs import RunFilter
from reprise.workflows import scheduler as module
from reprise.workflows.schedule import FIRE_TIME_TAG, SCHEDULE_TAG, fire_id
from reprise.workflows.scheduler import KEPT, Scheduler
from reprise.workflows.schedules import Schedules, read_schedule, state_group

SECOND = 1_000_000
STAND_BY = module._STAND_BY / SECOND
NOON = from_datetime(datetime(2026, 3, 1, 12, tzinfo=UTC))


@workflow
async def flow(n: int = 0) -> int:
    return n


class Scene:
    """A store, a clock, and schedulers that look when they are told to."""

    def __init__(self):
        self.store = Shared()
        self.clock = VirtualClock(NOON)
        self.schedules = Schedules(self.store, self.clock, Registry())
        self._number = 0

    async def __aenter__(self):
        await self.store.start()
        return self

    async def __aexit__(self, *_):
        await Shared.__mro__[1].stop(self.store)

    def scheduler(self):
        return Scheduler(self.store, self.clock)

    async def add(self, name="s", **options):
        return await self.schedules.add(
            name, flow, **({"every": 1, "overlap": "allow", "catch_up": "all"} | options)
        )

    async def runs(self):
        rows = await self.store.runs.find(RunFilter(), limit=1000, newest_first=False)
        return sorted(row.id for row in rows)

    async def end(self, run):
        """Let a run end, as its worker would write it."""
        self._number += 1
        event = Event(Kind.RUN_FINISHED, self.clock.now(), "", b'{"status":"completed"}')
        await append(self.store.log, self._number, Group(run_stream(run), [event], closes=True))
        self.store.signal.wake([run_stream(run)])


@pytest.fixture
async def scene():
    async with Scene() as made:
        yield made


def ids(*seconds, name="s"):
    return [fire_id(name, NOON + n * SECOND) for n in seconds]


# ---------------------------------------------------------------- each fire time has one run


async def test_a_fire_time_and_its_run_are_one_commit(scene):
    await scene.add(args=[7], tags={"env": "prod"}, deadline=60)
    scheduler = scene.scheduler()
    await scheduler.look()
    (row,) = await scene.store.runs.find(RunFilter())
    assert (row.id, row.workflow, row.status, row.owner) == (*ids(0), "flow", "pending", None)
    assert row.tags == {
        "env": "prod",
        SCHEDULE_TAG: "s",
        FIRE_TIME_TAG: "2026-03-01T12:00:00.000000Z",
    }
    (first,) = await scene.store.log.read(run_stream(row.id))
    started = msgspec.json.decode(first.data, type=Started)
    assert bytes(started.input) == b"[[7],{}]"
    assert started.deadline == NOON + 60 * SECOND
    fired = (await scene.store.log.read("schedule/s"))[-1]
    assert fired.kind == Kind.SCHEDULE_FIRED
    assert first.position - fired.position == 1


async def test_the_next_look_is_at_the_next_fire_time_and_never_far_away(scene):
    scheduler = scene.scheduler()
    assert await scheduler.look() == module.LOOK
    await scene.add(every=0.25)
    assert await scheduler.look() == 0.25
    await scene.add(every=3600)
    assert await scheduler.look() == module.LOOK


async def test_many_schedulers_at_once_start_each_run_once(scene):
    for n in range(5):
        await scene.add(f"s{n}", every=n + 1)
    schedulers = [scene.scheduler() for _ in range(6)]
    for _ in range(10):
        await asyncio.gather(*(each.look() for each in schedulers))
        scene.clock.advance(0.5)
    expected = {
        fire_id(f"s{n}", NOON + at * SECOND) for n in range(5) for at in range(5) if at % (n + 1) == 0
    }
    assert set(await scene.runs()) == expected
    assert sum(each.fired for each in schedulers) == len(expected)
    assert (await scene.schedules.get("s0")).started == 5


async def test_who_lost_stands_by_until_the_other_is_silent(scene, monkeypatch):
    await scene.add()
    first, second = scene.scheduler(), scene.scheduler()
    await asyncio.gather(first.look(), second.look())
    leader, other = (first, second) if first.fired else (second, first)
    commit, tried = other._commit, []
    monkeypatch.setattr(other, "_commit", lambda *args: tried.append(args) or commit(*args))
    scene.clock.advance(STAND_BY)
    for _ in range(3):
        scene.clock.advance(1 - STAND_BY)
        await leader.look()
        scene.clock.advance(STAND_BY)
        await other.look()
    assert (leader.fired, other.fired, tried) == (4, 0, [])
    scene.clock.advance(1 - STAND_BY)
    await other.look()
    assert not tried
    scene.clock.advance(STAND_BY)
    await other.look()
    assert other.fired == 1
    scene.clock.advance(1 - STAND_BY)
    await other.look()
    assert other.fired == 2, "it leads from now on"


async def test_a_clock_set_back_starts_nothing_twice_and_goes_on_where_it_was(scene):
    await scene.add()
    scheduler = scene.scheduler()
    for _ in range(3):
        await scheduler.look()
        scene.clock.advance(1)
    scene.clock._now -= 3600 * SECOND
    for _ in range(3):
        await scheduler.look()
        scene.clock.advance(1)
    assert await scene.runs() == ids(0, 1, 2)
    scene.clock._now = NOON + 3 * SECOND
    await scheduler.look()
    assert await scene.runs() == ids(0, 1, 2, 3)


async def test_a_schedule_that_was_added_anew_is_not_taken_for_the_old_one(scene):
    await scene.add()
    sleeper = scene.scheduler()
    await sleeper.look()
    entry = sleeper._entries["s"]
    await scene.schedules.remove("s")
    await scene.add(every=10)
    assert (await read_schedule(scene.store.log, "s")).version > entry.version
    scene.clock.advance(3)
    await sleeper._deal(entry)
    assert await scene.runs() == ids(0)


async def test_runs_of_an_earlier_life_are_left_alone(scene):
    await scene.add()
    scheduler = scene.scheduler()
    await scheduler.look()
    await scene.end(*ids(0))
    await scene.schedules.remove("s")
    await scene.add()
    scene.clock.advance(2)
    await scene.schedules.backfill("s", to_datetime(NOON), to_datetime(NOON + 2 * SECOND))
    await scheduler.look()
    for _ in range(3):
        for run in await scene.runs():
            if not (await scene.store.log.head(run_stream(run))).closed:
                await scene.end(run)
        scene.clock.advance(0.001)
        await scheduler.look()
    assert await scene.runs() == ids(0, 1, 2)


async def test_old_records_of_a_schedule_go(scene):
    await scene.add(every=0.001)
    scheduler = scene.scheduler()
    for _ in range(3 * KEPT):
        scene.clock.advance(0.001)
        await scheduler.look()
    records = await scene.store.log.read("schedule/s")
    assert KEPT <= len(records) < 2 * KEPT
    assert (await scene.schedules.get("s")).started == 3 * KEPT + 1


# ---------------------------------------------------------------- runs that go on


async def test_the_run_before_is_asked_to_stop_once_and_the_next_waits_for_its_end(scene):
    await scene.add(overlap="cancel")
    scheduler = scene.scheduler()
    for _ in range(4):
        await scheduler.look()
        scene.clock.advance(1)
    (run,) = await scene.runs()
    (mail,) = await scene.store.log.read(inbox_stream(run))
    request = msgspec.json.decode(mail.data, type=CancelRequest)
    assert (mail.kind, request.by) == (Kind.CANCEL_SENT, "schedule s")
    await scene.end(run)
    await scheduler.look()
    assert await scene.runs() == ids(0, 4)


async def test_a_run_that_ends_before_it_can_be_cancelled_holds_nothing_up(scene, monkeypatch):
    await scene.add(overlap="cancel")
    scheduler = scene.scheduler()
    await scheduler.look()
    scene.clock.advance(1)
    commit, ended = scheduler._commit, []

    async def ends_first(*args):
        if not ended:
            ended.append(await scene.end(*ids(0)))
        await commit(*args)

    monkeypatch.setattr(scheduler, "_commit", ends_first)
    await scheduler.look()
    assert await scene.runs() == ids(0, 1)


async def test_the_end_of_a_run_lets_the_next_begin(scene):
    await scene.add(overlap="queue")
    scheduler = scene.scheduler()
    for _ in range(2):
        await scheduler.look()
        scene.clock.advance(1)
    scheduler._tapped.clear()
    await scene.end(*ids(0))
    await asyncio.wait_for(scheduler._tapped.wait(), 5)
    await scheduler.look()
    assert set(ids(0, 1)) <= set(await scene.runs())
    await scene.end(*ids(1))
    await scene.schedules.remove("s")
    await scheduler.look()
    assert not scheduler._entries


# ---------------------------------------------------------------- what goes wrong


async def test_a_schedule_that_cannot_be_followed_here_does_not_stop_the_others(scene, caplog):
    await scene.add("good")
    state = await scene.add("odd")
    odd = msgspec.structs.replace(state.schedule.timing, every=0, cron="* * * * *", timezone="Mars/Olympus")
    state = msgspec.structs.replace(state, schedule=msgspec.structs.replace(state.schedule, timing=odd))
    await append(scene.store.log, 1, state_group(Kind.SCHEDULE_CHANGED, state, 1, NOON))
    scheduler = scene.scheduler()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            scene.clock.advance(61)
            await scheduler.look()
    assert len([r for r in caplog.records if "Mars/Olympus" in r.message]) == 1
    assert len([run for run in await scene.runs() if run.startswith("good@")]) == 123


async def test_a_schedule_that_a_later_version_wrote_does_not_stop_the_others(scene, caplog):
    await scene.add("good")
    state = msgspec.json.encode(await scene.add("odd")).replace(b'"overlap":"allow"', b'"overlap":"dance"')
    event = Event(Kind.SCHEDULE_CHANGED, NOON, "odd", state)
    await append(scene.store.log, 1, Group("schedule/odd", [event], expected=1))
    scheduler = scene.scheduler()
    with caplog.at_level(logging.WARNING):
        await scheduler.look()
    assert ["cannot be read" in record.message for record in caplog.records] == [True]
    assert await scene.runs() == ids(0, name="good")
    assert scheduler.statistics() == {"schedules": 1, "fired": 1}


async def test_a_fault_of_ours_in_one_schedule_does_not_stop_the_others(scene, monkeypatch, caplog):
    await scene.add("good")
    await scene.add("odd")
    decide = module.decide

    def fails(state, now):
        if state.schedule.name == "odd":
            raise ZeroDivisionError
        return decide(state, now)

    monkeypatch.setattr(module, "decide", fails)
    with caplog.at_level(logging.WARNING):
        await scene.scheduler().look()
    assert await scene.runs() == ids(0, name="good")
    assert "'odd' cannot be followed here" in caplog.text


async def test_a_store_that_fails_is_looked_at_again(scene, caplog, monkeypatch):
    scheduler = scene.scheduler()
    read = scene.store.log.read

    async def fails(*_):
        raise StoreUnreachable("no cable")

    with caplog.at_level(logging.WARNING):
        monkeypatch.setattr(scene.store.log, "read", fails)
        assert await scheduler._try_to_look() == module.LOOK
        await scheduler._try_to_look()
        monkeypatch.setattr(scene.store.log, "read", read)
        await scene.add()
        await scheduler._try_to_look()
    assert [record.message.split(".")[0] for record in caplog.records] == [
        "Schedules cannot be looked at, which is tried again",
        "Schedules can be looked at again",
    ]
    assert await scene.runs() == ids(0)


async def test_a_tap_that_is_lost_delays_a_change_by_one_look(scene):
    scheduler = scene.scheduler()
    await scheduler.look()
    await scene.add()
    assert not scheduler._tapped.is_set()  # nobody listens: it was not started
    await scheduler.look()
    assert await scene.runs() == ids(0)


# ---------------------------------------------------------------- inside an application


@workflow
async def waits() -> str:
    await wait_for_signal("go")
    return current_run().tags[FIRE_TIME_TAG]


async def test_an_open_application_fires_and_a_closed_one_does_not():
    store = Shared()
    async with opened(store, workflows=[flow]) as app:
        await app.schedule("poll", flow, every=0.02, args=[5], overlap="allow")
        await until(lambda: app.engine.counters["finished"] >= 3)
        (run, *_) = await app.find("status:completed")
        assert await app.handle(run.id, flow).result() == 5
    count = len(await store.runs.find(RunFilter(), limit=1000))
    assert app._scheduler is None
    async with opened(store, workflows=[flow], worker=False) as looker, opened(store, claims=False) as other:
        await asyncio.sleep(0.05)
        assert (looker._scheduler, other._scheduler) == (None, None)
        assert sum((await looker.count()).values()) == count


async def test_a_run_knows_for_which_moment_it_was_started():
    async with opened() as app:
        await app.schedule("once", waits, at=to_datetime(app.clock.now()) + timedelta(seconds=0.05))
        run = await until(lambda: next(iter(app.engine.executions), None))
        await app.client.signal(run, "go")
        assert fire_id("once", from_datetime(datetime.fromisoformat(await app.handle(run).result()))) == run
        assert (await app.schedules.get("once")).next() == []


@step
async def stays() -> None:
    await asyncio.Event().wait()


@workflow(limits=Limit(concurrency=1))
async def limited() -> None:
    await stays()


async def test_the_runs_of_a_schedule_are_under_the_limits_of_their_workflow():
    async with opened(workflows=[limited]) as app:
        await app.schedule("many", limited, every=0.02, overlap="allow", catch_up="all")
        await until(lambda: app._scheduler.fired >= 3 and app.engine.executions)
        await app.schedules.remove("many")
        assert len(app.engine.executions) == 1
        assert len(await app.find("status:pending", limit=1000)) >= 2


async def test_cancelling_for_the_next_one_goes_through_the_run():
    async with opened(workflows=[waits]) as app:
        await app.schedule("c", waits, every=0.1, overlap="cancel")
        first = await until(lambda: next(iter(app.engine.executions), None))
        await status_is(app, first, "cancelled")
        await until(lambda: next((run for run in app.engine.executions if run != first), None))
        await app.schedules.remove("c")


async def test_nobody_reads_more_than_the_changes_when_nothing_is_due(scene, monkeypatch):
    await scene.add(every=3600)
    scheduler = scene.scheduler()
    await scheduler.look()
    asked = []
    read = scene.store.log.read

    async def noted(stream, *rest):
        asked.append(stream)
        return await read(stream, *rest)

    monkeypatch.setattr(scene.store.log, "read", noted)
    for _ in range(3):
        scene.clock.advance(1)
        await scheduler.look()
    assert asked == [SCHEDULES] * 3
