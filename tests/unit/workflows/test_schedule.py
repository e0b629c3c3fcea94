"""What a schedule does next, as values: each policy by example, and all of them against a model without shortcuts."""

from datetime import UTC, datetime
from typing import NamedTuple

import msgspec
import pytest
from hypothesis import given, settings, strategies as st

from reprise.kernel.clock import from_datetime
from reprise.workflows.calendar import begins, timing
from reprise.workflows.schedule import (
    AT_ONCE,
    MOST_COUNTED,
    MOST_WAITING,
    ON_TIME,
    Schedule,
    ScheduleState,
    Span,
    decide,
    fire_id,
    wakes_at,
)

SECOND, DAY = 1_000_000, 86_400_000_000
NOON = from_datetime(datetime(2026, 3, 1, 12, tzinfo=UTC))


def state_of(through=NOON, *, window=0, overlap="skip", catch_up="one", **options):
    times = {key: options.pop(key) for key in ("cron", "every", "jitter", "timezone") if key in options}
    declared = Schedule(
        "s",
        "flow",
        msgspec.Raw(b"[[],{}]"),
        timing(**times or {"cron": "0 2 * * *"}),
        overlap,
        catch_up,
        window,
    )
    return ScheduleState(declared, through, **options)


def settle(state, now, ended=()):
    """Do everything that is to be done; return the state then, and the fire times of the runs that began."""
    fires = []
    state = msgspec.structs.replace(state, active=tuple(run for run in state.active if run not in ended))
    while (move := decide(state, now)) is not None:
        state = move.state
        fires += move.fires
    return state, fires


def at(day, hour=2):
    return NOON - NOON % DAY + (day - 1) * DAY + hour * 3600 * SECOND


# ---------------------------------------------------------------- three days down


@pytest.mark.parametrize(
    ("catch_up", "window", "fires", "missed"),
    [
        ("all", 0, [at(2), at(3), at(4)], 0),
        ("all", 36 * 3600, [at(3), at(4)], 1),
        ("all", 60, [], 3),
        ("one", 0, [at(4)], 2),
        ("one", 60, [], 3),
        ("none", 0, [], 3),
        ("none", 24 * 3600, [at(4)], 2),
    ],
)
def test_what_is_made_up_for_after_three_days_down(catch_up, window, fires, missed):
    before = state_of(overlap="allow", catch_up=catch_up, window=window * SECOND)
    state, began = settle(before, at(4, 12))
    assert (began, state.missed) == (fires, missed)
    assert state.next() == [at(5)]


def test_what_is_not_made_up_for_still_begins_a_little_late():
    state = state_of(catch_up="none")
    assert settle(state, at(2) + ON_TIME)[1] == [at(2)]
    assert settle(state, at(2) + ON_TIME + 1)[1] == []


def test_a_year_of_seconds_is_met_in_pieces_and_one_of_it_at_once():
    state = state_of(every=1, overlap="allow", catch_up="all")
    move = decide(state, NOON + 365 * DAY)
    assert len(move.fires) == AT_ONCE
    assert wakes_at(move.state) <= NOON + 365 * DAY
    state, fires = settle(state_of(every=1, overlap="allow", catch_up="one"), NOON + 365 * DAY)
    assert (fires, state.missed) == ([NOON + 365 * DAY], MOST_COUNTED)


# ---------------------------------------------------------------- a run that has not ended


def test_skip_leaves_out_what_is_due_while_a_run_goes_on():
    state, fires = settle(state_of(), at(2))
    assert state.active == (fire_id("s", at(2)),)
    state, fires = settle(state, at(3))
    assert (fires, state.skipped) == ([], 1)
    state, fires = settle(state, at(4), ended=state.active)
    assert fires == [at(4)]


def test_queue_lets_it_wait_and_each_has_its_turn():
    state, _ = settle(state_of(overlap="queue", catch_up="all"), at(4))
    assert state.waiting == (at(3), at(4))
    assert wakes_at(state) == at(5)
    state = msgspec.structs.replace(state, active=())
    assert wakes_at(state) == 0
    state, fires = settle(state, at(4))
    assert (fires, state.waiting) == ([at(3)], (at(4),))


def test_a_queue_is_bounded_and_what_has_no_room_stays_due():
    state, fires = settle(state_of(every=1, overlap="queue", catch_up="all"), NOON + 5_000 * SECOND)
    assert (len(fires), len(state.waiting)) == (1, MOST_WAITING)
    last = state.waiting[-1]
    state, fires = settle(state, NOON + 5_000 * SECOND, ended=state.active)
    assert len(state.waiting) == MOST_WAITING
    assert state.waiting[-1] == last + SECOND


def test_allow_starts_all_and_waits_for_none():
    state, fires = settle(state_of(overlap="allow", catch_up="all"), at(4))
    assert (fires, state.active) == ([at(2), at(3), at(4)], ())


def test_cancel_asks_once_and_the_last_one_begins_when_it_has_ended():
    state, _ = settle(state_of(overlap="cancel"), at(2))
    move = decide(state, at(3))
    assert (move.cancels, move.fires, move.state.waiting) == (state.active, (), (at(3),))
    move = decide(move.state, at(4))
    assert (move.cancels, move.state.waiting, move.state.skipped) == ((), (at(4),), 1)
    state, fires = settle(move.state, at(4), ended=state.active)
    assert (fires, state.active) == ([at(4)], (fire_id("s", at(4)),))


def test_cancel_starts_nothing_that_it_would_cancel_at_once():
    state, fires = settle(state_of(overlap="cancel", catch_up="all"), at(4))
    assert (fires, state.skipped) == ([at(4)], 2)


# ---------------------------------------------------------------- clocks, pauses, backfills


def test_a_clock_that_is_set_back_fires_nothing_again():
    state, fires = settle(state_of(every=1, overlap="allow", catch_up="all"), NOON + 3 * SECOND)
    assert len(fires) == 3
    assert decide(state, NOON - DAY) is None
    assert wakes_at(state) == NOON + 4 * SECOND


def test_jitter_delays_the_beginning_and_not_the_fire_time():
    state = state_of(every=60, jitter=50, overlap="allow", catch_up="all")
    first = NOON + 60 * SECOND
    begin = begins(state.schedule.timing, "s", first)
    assert begin > first
    assert wakes_at(state) == begin
    assert decide(state, begin - 1) is None
    assert settle(state, begin)[1] == [first]


def test_a_paused_schedule_does_nothing_by_itself():
    state = state_of(paused=True, waiting=(at(1),))
    assert decide(state, at(9)) is None
    assert wakes_at(state) is None
    assert state.next(3) == []


def test_a_backfill_goes_one_by_one_also_while_paused():
    span = Span(at(2) - 1, at(5))
    state, fires = settle(state_of(at(9), paused=True, backfills=(span,)), at(9))
    assert (fires, wakes_at(state)) == ([at(2)], None)
    fired = list(fires)
    while state.backfills:
        state, fires = settle(state, at(9), ended=state.active)
        fired += fires
    assert fired == [at(2), at(3), at(4)]


def test_a_backfill_that_may_overlap_goes_at_once_in_pieces():
    span = Span(NOON - 1, NOON + 250 * SECOND, "allow")
    state = state_of(NOON + 999 * SECOND, every=1, backfills=(span,), overlap="skip")
    move = decide(state, NOON + 999 * SECOND)
    assert len(move.fires) == AT_ONCE
    assert wakes_at(move.state) == 0
    state, fires = settle(state, NOON + 999 * SECOND)
    assert fires == [NOON + n * SECOND for n in range(250)]
    assert (state.backfills, state.active) == ((), ())


# ---------------------------------------------------------------- against a model


class Look(NamedTuple):
    """Somebody looks at a schedule, so much later (or earlier: the clock was set); these runs have ended meanwhile."""

    moved: int
    ended: int


LOOKS = st.lists(st.builds(Look, st.integers(-5, 40), st.integers(0, 3)), min_size=1, max_size=12)
SCHEDULES = st.fixed_dictionaries(
    {
        "every": st.integers(1, 12),
        "jitter": st.sampled_from([0, 0, 3, 30]),
        "overlap": st.sampled_from(["skip", "queue", "allow", "cancel"]),
        "catch_up": st.sampled_from(["all", "one", "none"]),
        "window": st.sampled_from([0, 0, 5, 15]),
    }
)


class Model:
    """The same without cursors and arithmetic: all fire times there are, each looked at on its own."""

    def __init__(self, state):
        self.schedule = state.schedule
        every = self.schedule.timing.every
        first = state.through - state.through % every + every
        self.left = [first + n * every for n in range(600)]
        self.waiting, self.running, self.began = [], [], []
        self.skipped = self.missed = 0
        self.asked = set()

    def look(self, now):
        due = []
        while begins(self.schedule.timing, "s", self.left[0]) <= now:
            due.append(self.left.pop(0))
        for number, at in enumerate(due):
            if self._is_too_late(at, now, is_last=number == len(due) - 1):
                self.missed += 1
            else:
                self._meet(at, is_last=number == len(due) - 1)
        if self.waiting and not self.running:
            self._begin(self.waiting.pop(0))

    def _is_too_late(self, at, now, *, is_last):
        schedule = self.schedule
        if schedule.catch_up == "all":
            return bool(schedule.window) and at < now - schedule.window - schedule.timing.jitter
        window = schedule.window or (ON_TIME if schedule.catch_up == "none" else 0)
        return not is_last or (bool(window) and now - begins(schedule.timing, "s", at) > window)

    def _meet(self, at, *, is_last):
        overlap = self.schedule.overlap
        if overlap == "allow":
            self.began.append(at)
        elif overlap == "cancel" and not is_last:
            self.skipped += 1
        elif overlap == "cancel":
            self.asked.update(self.running)
            self.skipped += len(self.waiting)
            self.waiting = [at]
        elif overlap == "queue":
            self.waiting.append(at)
        elif not self.running:
            self._begin(at)
        else:
            self.skipped += 1

    def _begin(self, at):
        self.began.append(at)
        self.running.append(fire_id("s", at))


@settings(max_examples=400, deadline=None)
@given(SCHEDULES, LOOKS)
def test_any_policy_does_what_a_model_without_shortcuts_does(options, looks):
    window = options.pop("window") * SECOND
    state = state_of(NOON - 1, window=window, **options)
    model, now, began, asked = Model(state), NOON, [], set()
    for look in looks:
        now += look.moved * SECOND
        ended = state.active[: look.ended]
        model.running = [run for run in model.running if run not in ended]
        state = msgspec.structs.replace(state, active=tuple(r for r in state.active if r not in ended))
        if (move := decide(state, now)) is not None:
            state = move.state
            began += move.fires
            asked.update(move.cancels)
        model.look(now)
        assert decide(state, now) is None
        assert (began, list(state.active)) == (model.began, model.running)
        assert list(state.waiting) == model.waiting
        assert (state.skipped, state.missed, asked) == (model.skipped, model.missed, model.asked)
    assert began == sorted(set(began))
