"""A dictionary that behaves like the places and lines of a keeper, and random histories to compare with it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from reprise.kernel.errors import NoRoom
from reprise.kernel.events import run_stream
from reprise.kernel.limit import Slot
from reprise.stores.log import Group, RunChange
from reprise.testing.suites.keeper import Keeper, fact, put

SECOND = 1_000_000
RUNS = [f"r{n}" for n in range(5)]
LANES = [("flow", ""), ("tenant", "x"), ("tenant", "y")]

_runs = st.sampled_from(RUNS)
_most = st.integers(1, 2)


class Modelled(msgspec.Struct):
    """What the model knows of one run."""

    born: int
    slots: tuple[Slot, ...]
    token: int = 0
    owned: bool = False
    in_line: bool = True
    ended: bool = False


class LimitsMachine(RuleBasedStateMachine):
    """Random starts, take-overs, waits, returns to the line, ends, restarts and passing of time."""

    def __init__(self, make_keeper: Callable[[], Keeper]) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.keeper = make_keeper()
        self.store = self.runner.run(self.keeper.open())
        self.runs: dict[str, Modelled] = {}
        self.taken: dict[str, dict[str, float | None]] = {}
        """By lease: when the place of each run ends, None = not by itself."""
        self.now = 0.0

    def _others(self, slot: Slot, run: str) -> int:
        return sum(holder != run for holder in self.taken.get(slot.lease, ()))

    def _write(
        self,
        run: str,
        change: RunChange,
        slots: tuple[Slot, ...] | None = None,
        *,
        takes: bool = False,
        closes: bool = False,
    ) -> bool:
        """Append a change; tell whether it was let in."""
        known = self.runs[run]
        events = [fact()] if closes else []
        group = Group(
            run_stream(run), events, token=known.token, takes=takes, closes=closes, run=change, slots=slots
        )
        with suppress(NoRoom):
            self.runner.run(put(self.store.log, group))
            return True
        return False

    def _take(self, run: str, slots: tuple[Slot, ...]) -> None:
        for slot in slots:
            ends = self.now + slot.period / SECOND if slot.period else None
            self.taken.setdefault(slot.lease, {}).setdefault(run, ends)

    def _give_back(self, run: str) -> None:
        for places in self.taken.values():
            if run in places and places[run] is None:
                del places[run]

    @precondition(lambda self: len(self.runs) < len(RUNS))
    @rule(lanes=st.sets(st.sampled_from(LANES), min_size=1), timed=st.booleans(), most=_most)
    def start(self, lanes: set[tuple[str, str]], timed: bool, most: int) -> None:
        """Start the next run; it stands in line."""
        run = RUNS[len(self.runs)]
        slots = tuple(Slot(name, key, most) for name, key in sorted(lanes))
        if timed and self.keeper.exact_time:
            slots += (Slot("flow", "", most, round(self.keeper.short * SECOND)),)
        self.runs[run] = Modelled(len(self.runs) + 1, slots)
        change = RunChange(run, "pending", "flow", slots=slots, in_line=True, at=self.runs[run].born)
        self.runner.run(put(self.store.log, Group(run_stream(run), [fact()], 0, run=change)))

    @rule(run=_runs, most=_most)
    def take_over(self, run: str, most: int) -> None:
        """Own a run with its places, by whatever numbers."""
        known = self.runs.get(run)
        if known is None or known.ended:
            return
        slots = tuple(msgspec.structs.replace(slot, most=most) for slot in known.slots)
        has_room = all(
            self._others(slot, run) < most or run in self.taken.get(slot.lease, ()) for slot in slots
        )
        known.token += 1
        done = self._write(run, RunChange(run, owner="w", at=9), slots, takes=True)
        assert done == has_room
        if not done:
            known.token -= 1
            return
        self._take(run, slots)
        known.owned, known.in_line = True, False

    @rule(run=_runs)
    def wait(self, run: str) -> None:
        """Give the places back and stay owned."""
        known = self.runs.get(run)
        if known is not None and known.owned:
            self._write(run, RunChange(run, at=9), ())
            self._give_back(run)

    @rule(run=_runs, in_line=st.booleans())
    def release(self, run: str, in_line: bool) -> None:
        """Let a run be nobody's, in line or not."""
        known = self.runs.get(run)
        if known is not None and not known.ended:
            self._write(run, RunChange(run, owner=None, in_line=in_line, at=9))
            self._give_back(run)
            known.owned, known.in_line = False, in_line

    @rule(run=_runs)
    def end(self, run: str) -> None:
        """End a run."""
        known = self.runs.get(run)
        if known is not None and known.owned:
            self._write(run, RunChange(run, "completed", owner=None, at=9), closes=True)
            self._give_back(run)
            known.owned, known.ended = False, True

    @rule(part=st.sampled_from([0.25, 0.5, 1.0]))
    def pass_time(self, part: float) -> None:
        """Let time go by; some places end."""
        if not self.keeper.exact_time:
            return
        self.runner.run(self.keeper.pass_time(self.keeper.short * part))
        self.now += self.keeper.short * part
        for places in self.taken.values():
            for run in [run for run, ends in places.items() if ends is not None and ends <= self.now + 1e-9]:
                del places[run]

    @rule()
    def restart(self) -> None:
        """Close and open."""
        self.store = self.runner.run(self.keeper.reopen(self.store))

    @invariant()
    def places_are_those_of_the_model(self) -> None:
        """Nobody has a place that the model does not know, and the other way round."""
        for lease, places in self.taken.items():
            held = self.runner.run(self.store.lease.holder(lease))
            assert sorted(grant.holder for grant in held) == sorted(places)

    @invariant()
    def lines_are_those_of_the_model(self) -> None:
        """Who waits, for what, how full that is; and the oldest of each line are found by it."""
        waiting = {run: known for run, known in self.runs.items() if known.in_line and not known.ended}
        wanted: dict[tuple[Slot, ...], list[str]] = {}
        for run, known in waiting.items():
            wanted.setdefault(known.slots, []).append(run)
        lines = self.runner.run(self.store.runs.lines())
        assert {line.slots: line.oldest for line in lines} == {
            slots: min(self.runs[run].born for run in runs) for slots, runs in wanted.items()
        }
        for line in lines:
            assert line.taken == tuple(len(self.taken.get(slot.lease, ())) for slot in line.slots)
            rows = self.runner.run(self.store.runs.due(99, owner="w2", lines=[line]))
            assert [row.id for row in rows] == sorted(wanted[line.slots], key=lambda run: self.runs[run].born)

    def teardown(self) -> None:
        """Close."""
        self.runner.run(self.keeper.close())
        self.runner.close()
