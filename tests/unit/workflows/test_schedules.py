"""What people do with schedules: add, change, pause, trigger, make up for, remove."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from reprise import (
    Budget,
    ConfigurationError,
    PayloadTooLarge,
    ScheduleNotFound,
    UnknownOption,
    VirtualClock,
    workflow,
)
from reprise.kernel.clock import from_datetime, to_datetime
from reprise.kernel.events import SCHEDULES, run_stream
from reprise.runtime.registry import Registry
from reprise.stores.memory import MemoryStore
from reprise.stores.runs import RunFilter
from reprise.workflows.schedule import Span, fire_id
from reprise.workflows.scheduler import Scheduler
from reprise.workflows.schedules import LARGEST_INPUT, Schedules, read_schedule

SECOND = 1_000_000
NOON = from_datetime(datetime(2026, 3, 1, 12, tzinfo=UTC))


@workflow
async def flow(text: str = "") -> str:
    return text


@pytest.fixture
def clock():
    return VirtualClock(NOON)


@pytest.fixture
async def store():
    store = MemoryStore()
    await store.start()
    yield store
    await store.stop()


@pytest.fixture
def schedules(store, clock):
    return Schedules(store, clock, Registry())


async def version(store, name="s"):
    return (await read_schedule(store.log, name)).version


async def test_the_same_declaration_again_changes_nothing(schedules, store, clock):
    options = {"cron": "0 2 * * *", "timezone": "Europe/Berlin", "tags": {"a": 1}, "args": ["x"]}
    first = await schedules.add("s", flow, **options)
    clock.advance(10)
    assert await schedules.add("s", flow, **options) == first
    assert await version(store) == 1
    assert len(await store.log.read(SCHEDULES)) == 1


async def test_another_declaration_changes_it_and_keeps_what_it_did(schedules, store, clock):
    await schedules.add("s", flow, every=60, overlap="allow")
    clock.advance(60)
    await Scheduler(store, clock).look()
    changed = await schedules.add("s", flow, every=60, overlap="queue", args=["y"])
    assert (changed.started, changed.through) == (1, NOON + 60 * SECOND)
    assert bytes(changed.schedule.input) == b'[["y"],{}]'
    clock.advance(5)
    changed = await schedules.add("s", flow, every=7)
    assert (changed.started, changed.through) == (1, clock.now() - 1)


async def test_what_is_due_in_the_moment_it_is_added_is_due(schedules, store, clock):
    await schedules.add("s", flow, at=to_datetime(NOON))
    assert (await schedules.get("s")).next() == [NOON]


async def test_a_schedule_may_begin_paused_and_stays_as_people_left_it(schedules):
    await schedules.add("s", flow, every=60, paused=True)
    assert (await schedules.get("s")).paused
    await schedules.resume("s")
    await schedules.add("s", flow, every=30, paused=True)
    assert not (await schedules.get("s")).paused


async def test_pausing_is_noted_and_resuming_makes_up_for_nothing(schedules, store, clock):
    await schedules.add("s", flow, every=1, overlap="allow", catch_up="all")
    scheduler = Scheduler(store, clock)
    await scheduler.look()
    await schedules.pause("s", "mending the mail server")
    before = await version(store)
    await schedules.pause("s")
    assert await version(store) == before
    clock.advance(10)
    await scheduler.look()
    assert (await schedules.get("s")).note == "mending the mail server"
    state = await schedules.resume("s")
    assert (state.note, state.started, state.next()) == ("", 1, [NOON + 10 * SECOND])
    await scheduler.look()
    assert scheduler.fired == 2


async def test_a_clock_set_back_while_it_is_paused_fires_nothing_again(schedules, store, clock):
    await schedules.add("s", flow, every=1)
    await Scheduler(store, clock).look()
    await schedules.pause("s")
    clock._now -= 60 * SECOND
    assert (await schedules.resume("s")).next() == [NOON + SECOND]


async def test_they_are_listed_by_name_without_those_that_were_removed(schedules):
    for name in ("b", "a", "c"):
        await schedules.add(name, flow, every=60)
    await schedules.remove("c")
    assert [state.schedule.name for state in await schedules.list()] == ["a", "b"]


async def test_what_is_not_there_is_said_with_the_nearest_name(schedules):
    await schedules.add("nightly", flow, every=60)
    with pytest.raises(ScheduleNotFound, match="no schedule 'nightlt'") as missing:
        await schedules.get("nightlt")
    assert missing.value.hint == "Did you mean 'nightly'?"
    await schedules.remove("nightly")
    for act in (schedules.get, schedules.pause, schedules.resume, schedules.remove, schedules.trigger):
        with pytest.raises(ScheduleNotFound):
            await act("nightly")


async def test_one_that_was_removed_and_added_anew_begins_anew(schedules, store, clock):
    await schedules.add("s", flow, every=1)
    await Scheduler(store, clock).look()
    await schedules.remove("s")
    state = await schedules.add("s", flow, every=1)
    assert (state.started, state.active, state.runs) == (0, (), ())
    assert await version(store) == 4


async def test_a_run_is_triggered_whatever_the_schedule_does(schedules, store, clock):
    await schedules.add("s", flow, every=3600, args=["x"], paused=True)
    first, second = await schedules.trigger("s"), await schedules.trigger("s")
    rows = await store.runs.find(RunFilter(), newest_first=False)
    assert [row.id for row in rows] == [first, second]
    assert all(row.id.startswith("s@") for row in rows)
    state = await schedules.get("s")
    assert (state.active, state.started, state.runs) == ((first, second), 2, (second,))
    await schedules.resume("s")
    clock.advance(3600)
    await Scheduler(store, clock).look()
    assert (await schedules.get("s")).skipped == 1


async def test_a_change_holds_although_it_fires_meanwhile(schedules, store, clock, monkeypatch):
    await schedules.add("s", flow, every=1, overlap="allow")
    scheduler, read = Scheduler(store, clock), store.log.read
    fired = []

    async def fires_first(stream, *rest):
        found = await read(stream, *rest)
        if stream == "schedule/s" and not fired:
            fired.append(stream)
            await scheduler.look()
        return found

    monkeypatch.setattr(store.log, "read", fires_first)
    await schedules.pause("s", "now")
    state = await schedules.get("s")
    assert (state.paused, state.started, fired) == (True, 1, ["schedule/s"])


# ---------------------------------------------------------------- making up for the past


async def test_a_backfill_asks_for_what_was_not_fired(schedules, store, clock):
    await schedules.add("s", flow, every=1, overlap="allow")
    number = await schedules.backfill(
        "s", to_datetime(NOON - 3 * SECOND), to_datetime(NOON + 60 * SECOND), overlap="allow"
    )
    assert number == 3, "what is to come is fired when it comes"
    await Scheduler(store, clock).look()
    rows = await store.runs.find(RunFilter(), newest_first=False)
    assert sorted(row.id for row in rows) == [fire_id("s", NOON + n * SECOND) for n in range(-3, 1)]
    assert await schedules.backfill("s", to_datetime(NOON - 4 * SECOND), overlap="allow") == 4
    await Scheduler(store, clock).look()
    assert len(await store.runs.find(RunFilter())) == 5


async def test_moments_of_a_backfill_are_those_of_the_schedules_place(schedules):
    await schedules.add("s", flow, cron="0 2 * * *", timezone="America/New_York")
    await schedules.backfill("s", datetime(2026, 2, 27, 2), datetime(2026, 2, 28, 2))
    (span,) = (await schedules.get("s")).backfills
    assert span == Span(
        from_datetime(datetime(2026, 2, 27, 7, tzinfo=UTC)) - 1,
        from_datetime(datetime(2026, 2, 28, 7, tzinfo=UTC)),
    )


async def test_a_backfill_of_nothing_is_refused(schedules, store):
    await schedules.add("s", flow, cron="0 2 * * *")
    with pytest.raises(ConfigurationError, match="no fire time in that time"):
        await schedules.backfill("s", to_datetime(NOON - SECOND))
    with pytest.raises(UnknownOption, match="skip"):
        await schedules.backfill("s", to_datetime(0), overlap="skip")
    assert await version(store) == 1


# ---------------------------------------------------------------- what cannot be declared


@pytest.mark.parametrize(
    ("name", "options", "error", "text"),
    [
        ("a b", {"every": 1}, ConfigurationError, "cannot be named 'a b'"),
        ("a@b", {"every": 1}, ConfigurationError, "cannot be named"),
        ("s", {"every": 1, "overlap": "skipp"}, UnknownOption, "overlap="),
        ("s", {"every": 1, "catch_up": "most"}, UnknownOption, "catch_up="),
        ("s", {"crom": "* * * * *"}, UnknownOption, "crom"),
        ("s", {"every": 1, "args": [1, 2]}, ConfigurationError, "cannot be started so"),
        ("s", {"every": 1, "window": -1}, ConfigurationError, "window"),
        ("s", {"every": 1, "tags": {"a b": 1}}, ConfigurationError, "tag"),
        ("s", {"every": 1, "args": ["x" * LARGEST_INPUT]}, PayloadTooLarge, "it may have 65,536"),
    ],
)
async def test_what_cannot_be_meant_is_refused(schedules, store, name, options, error, text):
    with pytest.raises(error, match=text):
        await schedules.add(name, flow, **options)
    assert await store.log.end() == 0


async def test_what_runs_are_started_with_is_kept(schedules, store, clock):
    budget = Budget(steps=5)
    state = await schedules.add(
        "s", flow, every=1, kwargs={"text": "x"}, deadline=timedelta(minutes=1), budget=budget, window=60
    )
    assert (state.schedule.deadline, state.schedule.window) == (60 * SECOND, 60 * SECOND)
    assert bytes(state.schedule.input) == b'[[],{"text":"x"}]'
    assert state.schedule.budget == budget
    await asyncio.gather(*(Scheduler(store, clock).look() for _ in range(3)))
    assert (await store.log.head(run_stream(fire_id("s", NOON)))).version == 1


async def test_a_schedule_that_goes_while_it_is_read_is_none(schedules, store):
    await schedules.add("s", flow, every=60)
    read = store.log.read

    async def late(*args):
        store.log.read = read
        await store.log.drop(args[0])
        return await read(*args)

    store.log.read = late
    assert await read_schedule(store.log, "s") is None
