"""The tree of a run: a fold of its log, with no truth of its own. Pure: no terminal, no clock, no store.

Steps of one name are one row, so that a fan-out of a thousand takes one line. Applying a record twice changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

import msgspec

from reprise.kernel.events import (
    CancelRequest,
    ChildStarted,
    Continued,
    ErrorValue,
    Finished,
    Intended,
    Kind,
    Owned,
    Progress,
    Record,
    Retrying,
    Signal,
    Started,
    Stranded,
)
from reprise.kernel.failures import brief
from reprise.kernel.machine import RUN, RunStatus
from reprise.runtime.branch import name_in


class State(StrEnum):
    """State of one step."""

    RUNNING = "running"
    RETRYING = "retrying"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


SETTLES = 5
"""A total may grow so often and still be that of a fan-out: what ended a moment ago is not in the log yet."""
ENDED = frozenset({State.DONE, State.FAILED, State.CANCELLED})
_ENDS = {
    Kind.STEP_COMPLETED: State.DONE,
    Kind.STEP_FAILED: State.FAILED,
    Kind.STEP_CANCELLED: State.CANCELLED,
}


class Undo(StrEnum):
    """Whether a step was undone."""

    NONE = ""
    """Nobody has tried to."""
    DONE = "undone"
    FAILED = "NOT undone"


class Step(msgspec.Struct):
    """One call of a step or a child run. Times in microseconds, 0 = not known."""

    key: str
    name: str
    state: State = State.RUNNING
    attempt: int = 1
    started_at: int = 0
    ended_at: int = 0
    next_at: int = 0
    """When the next attempt begins, while it is retrying."""
    error: str = ""
    child: str = ""
    """Id of the child run that it is."""
    intended: bool = False
    """It was called with effect= or undo=: should nobody execute it, nobody knows whether it happened."""
    undo: Undo = Undo.NONE
    undo_at: int = 0
    """When it was undone, or that failed."""
    saved: int = 0
    """How long the work would have taken that was left out: its result came from the cache. 0 = it was executed."""

    @property
    def took(self) -> int:
        """How long it has taken, waiting for retries included; 0 while it has not ended."""
        return max(0, self.ended_at - self.started_at) if self.ended_at else 0


class Row(msgspec.Struct):
    """All steps of one name."""

    name: str
    steps: dict[str, Step] = {}
    counts: dict[State, int] = {}
    known: int = 0
    """How many there are, where a worker told; the log says it only of slow ones before they end."""
    grown: int = 0
    """How often there were more than before, after some had ended."""
    error: str = ""
    """Of the latest that failed an attempt."""
    next_at: int = 0
    """When the next retry of any begins."""
    started_at: int = 0
    ended_at: int = 0

    @property
    def ended(self) -> int:
        """How many have ended."""
        return sum(self.counts.get(state, 0) for state in ENDED)

    @property
    def failed(self) -> int:
        """How many failed."""
        return self.counts.get(State.FAILED, 0)

    @property
    def retrying(self) -> int:
        """How many wait for another attempt."""
        return self.counts.get(State.RETRYING, 0)

    @property
    def cached(self) -> int:
        """How many have their result from the cache."""
        return sum(step.saved > 0 for step in self.steps.values())

    @property
    def undone(self) -> int:
        """How many were undone."""
        return sum(step.undo is Undo.DONE for step in self.steps.values())

    @property
    def not_undone(self) -> int:
        """How many could not be undone."""
        return sum(step.undo is Undo.FAILED for step in self.steps.values())

    @property
    def total(self) -> int:
        """How many there are as far as is known."""
        return max(len(self.steps), self.known)

    @property
    def open(self) -> bool:
        """Tell whether more keep coming (a pool, a loop), so that the total says nothing about the end."""
        return self.grown > SETTLES and not self.quiet

    @property
    def quiet(self) -> bool:
        """Tell whether nothing of it is under way."""
        return self.ended == self.total

    @property
    def state(self) -> State:
        """The state of the row as a whole: that of its single step, or what matters most."""
        if not self.quiet:
            waits = self.retrying and self.retrying == self.total - self.ended
            return State.RETRYING if waits else State.RUNNING
        if self.failed:
            return State.FAILED
        return State.CANCELLED if self.counts.get(State.CANCELLED) == self.total else State.DONE

    @property
    def single(self) -> Step | None:
        """The step, where there is only one."""
        return next(iter(self.steps.values())) if len(self.steps) == 1 == self.total else None


class Tree(msgspec.Struct):
    """One run, as far as its records were applied; steps, signals and the like are those of its latest generation."""

    id: str
    version: int = 0
    """Version of the latest record that was applied."""
    generation: int = 0
    since: int = 0
    """Version after which the generation begins."""
    status: str = RunStatus.PENDING
    started: Started | None = None
    started_at: int = 0
    """When the generation began."""
    ended_at: int = 0
    finished: Finished | None = None
    owner: str = ""
    takeovers: int = 0
    """How many times a worker took the run, the first included."""
    reason: str = ""
    """Why it is being cancelled, or is stranded."""
    rows: dict[str, Row] = {}
    children: dict[str, str] = {}
    """Id of the child run by step key."""
    signals: list[tuple[int, str]] = []
    """When which signals were received."""
    timers: int = 0
    """Timers that fired."""
    progress: dict[str, Progress] = {}
    """The latest progress by step key, '' for the body's own."""
    homes: dict[str, str] = {}
    """Name of the row by step key: of an explicit key, only the start of a slow step tells the name."""

    # ---------------------------------------------------------------- what happened

    def apply(self, record: Record) -> None:
        """Take in the next record of ``run/<id>``."""
        if record.version <= self.version:
            return
        self.version = record.version
        if record.kind in _ENDS:
            self._ended(record)
        elif record.kind in (
            Kind.STEP_STARTED,
            Kind.STEP_RETRYING,
            Kind.CHILD_STARTED,
            Kind.STEP_INTENDED,
        ):
            self._under_way(record)
        else:
            self._about_run(record)

    def apply_progress(self, records: Iterable[Record]) -> None:
        """Take in records of ``progress/<id>``."""
        for record in records:
            if record.at < self.started_at:
                continue  # of an earlier generation
            self.progress[record.key] = msgspec.json.decode(record.data, type=Progress)

    def _about_run(self, record: Record) -> None:
        kind, data = record.kind, record.data
        if kind == Kind.RUN_STARTED:
            self.started = msgspec.json.decode(data, type=Started)
            self.started_at = record.at
        elif kind == Kind.RUN_CONTINUED:
            self._continue(record)
        elif kind == Kind.RUN_OWNED:
            self.owner = msgspec.json.decode(data, type=Owned).worker
            self.takeovers += 1
            self._move("own")
        elif kind == Kind.RUN_PAUSED:
            self._move("pause")
        elif kind == Kind.RUN_STRANDED:
            self.reason = msgspec.json.decode(data, type=Stranded).reason
            self._move("strand")
        elif kind in (Kind.UNDO_DONE, Kind.UNDO_FAILED):
            self._undone(record)
        elif kind == Kind.CANCEL_REQUESTED:
            self.reason = msgspec.json.decode(data, type=CancelRequest).reason
            self._move("cancel")
        elif kind == Kind.SIGNAL_RECEIVED:
            self.signals.append((record.at, msgspec.json.decode(data, type=Signal).name))
        elif kind == Kind.TIMER_FIRED:
            self.timers += 1
        elif kind == Kind.RUN_FINISHED:
            self.finished = msgspec.json.decode(data, type=Finished)
            self.status = self.finished.status
            self.ended_at = record.at

    def _continue(self, record: Record) -> None:
        continued = msgspec.json.decode(record.data, type=Continued)
        self.generation, self.since = continued.generation, record.version - 1
        self.started, self.started_at = continued.started, record.at
        self.status, self.reason = RunStatus.RUNNING, ""
        self.rows, self.children, self.homes, self.progress = {}, {}, {}, {}
        self.signals, self.timers = [], 0

    @property
    def events(self) -> int:
        """How many records the generation has."""
        return self.version - self.since

    def _move(self, event: str) -> None:
        # The log is the truth: what the table does not know is shown as it was.
        if RUN.allows(self.status, event):
            self.status = RUN.step(self.status, event)

    def _under_way(self, record: Record) -> None:
        kind, data, at = record.kind, record.data, record.at
        if kind == Kind.STEP_STARTED:
            step = self._step(record.key, msgspec.json.decode(data, type=str), at)
            self._set(step, State.RUNNING)
        elif kind == Kind.STEP_INTENDED:
            step = self._step(record.key, msgspec.json.decode(data, type=Intended).name, at)
            step.intended = True
            self._set(step, State.RUNNING)
        elif kind == Kind.CHILD_STARTED:
            child = msgspec.json.decode(data, type=ChildStarted)
            step = self._step(record.key, child.workflow, at)
            step.child = self.children[record.key] = child.run
        else:
            retrying = msgspec.json.decode(data, type=Retrying)
            step = self._step(record.key, "", at - record.took)
            step.attempt = retrying.attempt + 1
            step.next_at = retrying.next_at
            row = self.rows[step.name]
            row.error = step.error = brief(retrying.error)
            row.next_at = retrying.next_at
            self._set(step, State.RETRYING)

    def _undone(self, record: Record) -> None:
        self._move("compensate")
        row = self.rows.get(self.homes.get(record.key, ""))
        if row is None:
            return  # a step of an earlier generation
        step = row.steps[record.key]
        step.undo, step.undo_at = Undo.DONE, record.at
        if record.kind == Kind.UNDO_FAILED:
            step.undo = Undo.FAILED
            row.error = step.error = brief(msgspec.json.decode(record.data, type=ErrorValue))

    def _ended(self, record: Record) -> None:
        step = self._step(record.key, "", record.at - max(0, record.took))
        step.ended_at = record.at
        step.saved = max(0, -record.took)
        step.next_at = 0
        row = self.rows[step.name]
        row.ended_at = record.at
        if record.kind == Kind.STEP_FAILED:
            row.error = step.error = brief(msgspec.json.decode(record.data, type=ErrorValue))
        self._set(step, _ENDS[Kind(record.kind)])

    def _step(self, key: str, name: str, at: int) -> Step:
        name = self.homes.setdefault(key, name or name_in(key))
        row = self.rows.get(name)
        if row is None:
            row = self.rows[name] = Row(name, started_at=at)
        step = row.steps.get(key)
        if step is None:
            step = row.steps[key] = Step(key, name, started_at=at)
            row.counts[step.state] = row.counts.get(step.state, 0) + 1
        return step

    def _set(self, step: Step, state: State) -> None:
        counts = self.rows[step.name].counts
        counts[step.state] -= 1
        counts[state] = counts.get(state, 0) + 1
        step.state = state

    # ---------------------------------------------------------------- what a worker says

    def ask(self, steps: dict[str, int] | None, now: int) -> None:
        """Note how many steps of each name are asked for and have not ended; None = no worker tells any more."""
        if steps is None or self.settled:
            for row in self.rows.values():
                row.known = 0
            return
        for name, count in steps.items():
            row = self.rows.get(name)
            if row is None:
                row = self.rows[name] = Row(name, started_at=now)
            if row.known < row.ended + count:
                row.grown += bool(row.ended)
                row.known = row.ended + count

    # ---------------------------------------------------------------- questions

    @property
    def settled(self) -> bool:
        """Tell whether it has ended."""
        return self.finished is not None

    @property
    def steps(self) -> list[Step]:
        """All steps in the order of their start."""
        found = [step for row in self.rows.values() for step in row.steps.values()]
        return sorted(found, key=lambda step: (step.started_at, step.ended_at))

    @property
    def undoes(self) -> bool:
        """Tell whether something of it was undone, or was to be."""
        return any(row.undone or row.not_undone for row in self.rows.values())

    def progress_of(self, row: Row) -> Progress | None:
        """Return the latest progress of what is under way in a row."""
        steps = row.steps.values()
        return next(
            (self.progress[s.key] for s in steps if s.state not in ENDED and s.key in self.progress), None
        )
