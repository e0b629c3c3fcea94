"""Replaying a run to look at it: its history is delivered to the code that is here, and nothing else happens.

It is the replay that a worker would do, with nothing behind it (:mod:`reprise.runtime.rehearsal`): no step is executed,
nothing is written. Between two records the body is quiet, and that is where it is looked at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Literal

import msgspec

from reprise.kernel.clock import MICROSECONDS
from reprise.kernel.errors import NonDeterminismError, RepriseError
from reprise.kernel.events import ErrorValue, Event, Finished, Kind, Record
from reprise.kernel.failures import brief, encode_error
from reprise.kernel.machine import RunStatus
from reprise.runtime.branch import name_in
from reprise.runtime.entering import enter
from reprise.runtime.forking import generation_at
from reprise.runtime.handles import RunTask
from reprise.runtime.history import STEP_KINDS, owned_by, read_history
from reprise.runtime.moments import OUTCOMES
from reprise.runtime.rehearsal import Line, Rehearsal, Stage, frames_of, where
from reprise.runtime.waits import Waits
from reprise.runtime.workflow import Workflow

LONGEST = 500
"""Characters of a variable that are shown."""

Verdict = Literal["reached", "diverges", "waits"]


class Reached(msgspec.Struct):
    """A call of a step, or of a child run, that the body came to."""

    key: str
    name: str
    where: Line
    """Where the body waited then."""
    after: int
    """Version of the record after which it was called."""
    version: int = 0
    """Of the record of its outcome, 0 = there is none."""
    state: str = ""
    """done, failed, cancelled; '' = there is no outcome."""
    took: int = 0
    """Microseconds, as recorded."""
    value: msgspec.Raw | None = None
    error: ErrorValue | None = None


class Scene(msgspec.Struct, frozen=True):
    """A line of the body at which a task waits, and the variables there."""

    task: str
    where: Line
    variables: dict[str, str]
    """As ``repr`` shows them, cut."""


class Break(msgspec.Struct, frozen=True):
    """The body in the moment in which a step was called that was to be stopped at."""

    key: str
    version: int
    """Of the latest record that the body was given."""
    scenes: list[Scene]


class Replay(msgspec.Struct, kw_only=True):
    """How a history and the code that is here went along."""

    run: str
    workflow: str
    verdict: Verdict
    """reached = the end that is recorded, or the record that was asked for; diverges; waits = for what is not recorded yet."""
    reason: str = ""
    """Of what diverges, both sides in words."""
    version: int = 0
    """Of the latest record that the body was given."""
    records: int = 0
    """How many it was given."""
    steps: list[Reached] = []
    """In the order in which the body came to them."""
    breaks: list[Break] = []
    scenes: list[Scene] = []
    """Where the body waits in the end, or waited when it diverged; empty = it has ended."""
    waits: Waits = Waits()
    """For what."""
    recorded: Record | None = None
    """Of what diverges, what the log holds."""
    where: Line = Line()
    """Of what diverges, where the code is."""
    finished: Finished | None = None
    """How the body ended."""
    continues: bool = False
    """It ended by going on as another generation."""


class Watched(Rehearsal):
    """A run whose body is looked at between two records."""

    __slots__ = ("breaks", "ends", "given", "steps", "stops")

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.steps: dict[str, Reached] = {}
        self.breaks: list[Break] = []
        self.stops: Collection[str] = ()
        """Keys and names of the steps to stop at."""
        self.given: Record | None = None
        """The latest record that the body was given, or was to be."""
        self.ends: list[Scene] = []
        """The body before it was unwound."""

    def deliver(self, record: Event | Record) -> None:
        """Look at the body, then let it have the record."""
        assert isinstance(record, Record)
        self._look()
        self.given = record
        super().deliver(record)
        if record.kind in STEP_KINDS and (step := self.steps.get(record.key)) is not None:
            _ended(step, record)

    def go_live(self) -> None:
        """Look at the body once more: it has all that there is."""
        self._look()
        super().go_live()

    def fail(self, error: RepriseError) -> None:
        """Keep what there is to see before the body is unwound."""
        if not self.done and self.error is None:
            self._look()
            self.ends = scenes_of(self)
        super().fail(error)

    def _look(self) -> None:
        version = self.given.version if self.given is not None else self.since
        for key, future in self.waiting.items():
            if key in self.steps:
                continue
            task = self._task_at(key)
            place = where(task) if task is not None else Line()
            self.steps[key] = Reached(key, future.step.name, place, version)
            if key in self.stops or future.step.name in self.stops or name_in(key) in self.stops:
                self.breaks.append(Break(key, version, scenes_of(self)))


def _ended(step: Reached, record: Record) -> None:
    step.version, step.state, step.took = record.version, OUTCOMES[record.kind], record.took
    if record.kind == Kind.STEP_COMPLETED:
        step.value = msgspec.Raw(record.data)
    elif record.kind == Kind.STEP_FAILED:
        step.error = msgspec.json.decode(record.data, type=ErrorValue)


async def replay(
    stage: Stage,
    workflow: Workflow[..., Any],
    run: str,
    records: Sequence[Record],
    *,
    until: int | None = None,
    stops: Collection[str] = (),
    variables: Mapping[str, ContextVar[Any]] | None = None,
) -> Replay:
    """Replay a run with the code that is here, and return how far the two go along; nothing is executed or written.

    Options:
        until: number of the record after which to stop, None = all.
        stops: keys or names of steps: when the body comes to one of them, its variables are kept.
        variables: context variables that enter bodies, as of ``Reprise(variables=)``.

    Raises:
        NoSuchRecord: the history has no record ``until``.
        NonDeterminismError: its input does not fit the workflow any more.
    """
    generation = generation_at(run, records, until)
    if until is not None:
        generation = [record for record in generation if record.version <= until]
    history = read_history(run, generation)
    owned_by(history, stage.build)  # as whoever takes it over would
    body = enter(Watched, stage, run, 1, history, workflow, variables or {})
    body.stops = stops
    try:
        await body.perform()
        return _told(body, generation, until)
    finally:
        body.evict()


def _told(body: Watched, records: Sequence[Record], until: int | None) -> Replay:
    """Judge what came of a replay."""
    last = records[-1]
    told = Replay(
        run=body.id,
        workflow=body.workflow.name,
        verdict="waits" if until is None else "reached",
        version=body.given.version if body.given is not None and body.error is not None else last.version,
        records=body.length,
        steps=list(body.steps.values()),
        breaks=body.breaks,
        continues=body.wish is not None,
        finished=body.finished,
    )
    recorded = msgspec.json.decode(last.data, type=Finished) if last.kind == Kind.RUN_FINISHED else None
    if body.error is not None and not _was_its_end(body.error, recorded):
        told.verdict, told.reason = "diverges", str(body.error)
        told.where, told.scenes = body.line, body.ends
        told.recorded = _held(records, body.error) or body.given
    elif body.error is not None:
        told.verdict, told.finished = "reached", recorded
    elif body.wish is None and body.finished is None:
        told.waits, told.scenes = _waits(body), scenes_of(body)
        if recorded is not None:
            told.verdict, told.recorded = "diverges", last
            told.reason = f"The log says that it ended ({_end(recorded)}); this code waits for more."
    else:
        told.verdict = "reached"
        if recorded is not None and not _is_same_end(recorded, body.finished):
            told.verdict, told.recorded, told.where = "diverges", last, body.line
            told.reason = f"This code ends {_end(body.finished)}; the log holds {_end(recorded)}."
    return told


def _was_its_end(error: RepriseError, recorded: Finished | None) -> bool:
    """Tell whether a body that broke the rules did so when it was live, too."""
    failure = recorded.error if recorded is not None else None
    return failure is not None and failure.type == encode_error(error).type


def _held(records: Sequence[Record], error: RepriseError) -> Record | None:
    key = error.key if isinstance(error, NonDeterminismError) else ""
    return next((record for record in records if key and record.key == key and record.kind >= 16), None)


def _is_same_end(recorded: Finished, finished: Finished | None) -> bool:
    if finished is None or recorded.status != finished.status:
        return False
    if recorded.error is None or finished.error is None:
        return msgspec.json.decode(recorded.value) == msgspec.json.decode(finished.value)
    return (recorded.error.type, recorded.error.message) == (finished.error.type, finished.error.message)


def _end(finished: Finished | None) -> str:
    if finished is None:
        return "by going on as another generation"
    if finished.status == RunStatus.COMPLETED:
        return f"completed with {bytes(finished.value).decode()[:LONGEST]}"
    return (
        f"{finished.status} with {brief(finished.error)}" if finished.error is not None else finished.status
    )


def _waits(body: Watched) -> Waits:
    """Return what a body waits for of which nothing is recorded."""
    steps = Counter(future.step.name for future in body.waiting.values() if not future.done())
    timers = sorted(round(each.due * MICROSECONDS) for each in body.loop.timers.values() if not each.dead)
    questions = body.talk.questions.values() if body.talk is not None else ()
    asked = tuple(f"{one.to}: {one.text}" if one.to else one.text for one in questions)
    return Waits(dict(steps), tuple(timers), tuple(body.mail.awaited()), asked)


# ---------------------------------------------------------------- what a body looks like


def scenes_of(body: Rehearsal) -> list[Scene]:
    """Return the lines at which the tasks of a body wait, with the variables there; outermost first, task by task."""
    tasks: list[RunTask] = [body.main, *body.loop.tasks]
    return [scene for task in tasks if not task.done() for scene in _scenes(body, task)]


def _scenes(body: Rehearsal, task: RunTask) -> Iterator[Scene]:
    for frame in frames_of(task):
        shown = {
            name: body.host.payloads.text(_shown(value))
            for name, value in frame.f_locals.items()
            if not name.startswith("__")
        }
        yield Scene(
            task.get_name(), Line(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name), shown
        )


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except Exception as error:
        return f"<its repr failed: {type(error).__name__}>"
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
