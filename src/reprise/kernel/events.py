"""The dictionary of facts: everything that can happen, in one place.

An :class:`Event` is what is appended, a :class:`Record` is an event that has its place in the log. What kind of
fact it is, is a number of :class:`Kind`; numbers are written to disk, so they are never re-used or re-ordered.

Streams
    ``run/<id>``       the history that replay reads; written only by the owner of the run, under its token
    ``inbox/<id>``     what others want of the run; written by anyone, consumed by the owner
    ``progress/<id>``  what people watch; side stream, never replayed
    ``log/<id>``       captured log lines; side stream, never replayed
    ``talk/<id>``      what the run says to others: questions, answers to updates; written only by its owner
    ``query/<id>``     questions about the state of the run, and their answers; kept for a moment
    ``out/<id>``       names of its streams of partial output, each in ``out/<id>/<name>``; written only by its owner
    ``mark/<id>``      checkpoints: names that people gave to records of its history; written by anyone, never replayed
    ``saga/<id>``      what is said in a saga that nobody coordinates; belongs to all runs that take part in it
    ``cursor/<reader>`` how far somebody has read the log
    ``cache/<digest>`` the result of a pure step for whoever asks the same; belongs to no run
    ``schedules``      names of schedules that somebody changed, for whoever keeps them in memory
    ``schedule/<name>`` a schedule: what was declared, and up to where it has fired; the last record says all

Kinds below 64 belong to ``run/``; replay *delivers* those marked so, the rest are notes for people.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import Any, Literal

import msgspec

from reprise.kernel.budget import Budget, Cost
from reprise.kernel.settings import WorkflowSettings
from reprise.kernel.tags import Tag


class Kind(IntEnum):
    """What happened."""

    @property
    def words(self) -> str:
        """The kind as people read it: step completed."""
        return self.name.lower().replace("_", " ")

    # -- run/<id>, notes: read by people and by take-over, not delivered to the body
    RUN_STARTED = 1
    """``Started``: workflow, input and the conditions of the start."""
    RUN_OWNED = 2
    """``Owned``: a worker took the run over; the event that fences the one before."""
    STEP_STARTED = 3
    """A step began and has not ended within 20 ms; ``took`` = 0."""
    STEP_RETRYING = 4
    """``Retrying``: an attempt failed and another will follow."""
    CHILD_STARTED = 5
    """``ChildStarted``: in one commit with the child's own RUN_STARTED."""
    RUN_PAUSED = 6
    RUN_RESUMED = 7
    RUN_STRANDED = 8
    """``Stranded``: why no worker of this build can execute the run."""
    RUN_FINISHED = 9
    """``Finished``: how it ended; always the last event of the stream."""
    RUN_CONTINUED = 10
    """``Continued``: the run goes on as a new generation with a fresh history; replay reads from here."""
    STEP_INTENDED = 11
    """``Intended``: durable before a step with ``effect=`` or ``undo=`` begins."""
    EFFECT_RESOLVED = 12
    """``Resolved``: what became of a call whose outcome was unknown; its outcome, if any, follows in the same commit."""
    UNDO_DONE = 13
    """The step of that key was undone."""
    UNDO_FAILED = 14
    """``ErrorValue``: why the step of that key could not be undone."""
    BUDGET = 15
    """``Spending``: what a call may cost, before it begins; what it did cost, with its outcome; or more to spend."""

    # -- run/<id>, delivered to the body one at a time in log order
    STEP_COMPLETED = 16
    """The step's (or child run's) encoded value is the data; ``key``, ``print``, ``took`` are set."""
    STEP_FAILED = 17
    """``ErrorValue``: what the last attempt raised."""
    STEP_CANCELLED = 18
    """The step was asked to stop and did."""
    TIMER_FIRED = 19
    """``due`` (microseconds) as data; ``key`` names the timer."""
    SIGNAL_RECEIVED = 20
    """``Signal`` as it was taken from the inbox; ``key`` is the signal's id."""
    CANCEL_REQUESTED = 21
    """``CancelRequest`` as it was taken from the inbox; ``key`` is the request's id."""
    UPDATE_RECEIVED = 22
    """``Update`` as it was admitted from the inbox; ``key`` is ``update/`` and the id of its sender."""
    ANSWER_RECEIVED = 23
    """``Answer`` as it was admitted from the inbox; ``key`` is ``answer/`` and the id of its sender."""
    PATCHED = 24
    """``Patched``: the body takes the new way at the patch ``key``, for ever; see ``runtime.patching``."""

    # -- inbox/<id>: the ``key`` is the id by which duplicates are dropped
    SIGNAL_SENT = 64
    CANCEL_SENT = 65
    PAUSE_SENT = 66
    RESUME_SENT = 67
    CHILD_FINISHED = 68
    """``ChildFinished``: in one commit with the child's RUN_FINISHED."""
    EFFECT_ANSWER = 69
    """``EffectAnswer``: a person says what became of a call."""
    UPDATE_SENT = 70
    """``Update``: admitted or refused by the run; ``REPLIED`` under the same key says which."""
    ANSWER_SENT = 71
    """``Answer``: likewise."""
    BUDGET_RAISED = 72
    """``Spending`` with the name of the budget: somebody gives the run more to spend."""

    # -- side streams
    PROGRESS = 128
    """``Progress``: how far a step or a run is."""
    LOG_LINE = 129
    """``LogLine``: one captured record of ``logging``."""
    CHUNK = 130
    """A piece of partial output, as JSON; ``key`` is the step that wrote it, '' = the body, whose chunks ``print`` counts."""
    CHUNKS_VOID = 132
    """The step ``key`` begins anew: what it wrote before into this stream is void."""
    STREAM_OPENED = 133
    """``key`` names a stream of partial output."""
    QUERY_SENT = 134
    """``Update``: what is asked of the body's state; ``key`` is the query's id."""
    QUERY_ANSWERED = 135
    """``Reply``."""
    REPLIED = 136
    """``Reply``: what came of the update, or of the answer to a question, that was sent under ``key``."""
    QUESTION_ASKED = 137
    """``Question``: the run asks a person; ``key`` names the question."""
    QUESTION_CLOSED = 138
    """``Closed``: the question ``key`` takes no answer any more."""
    CHECKPOINT = 139
    """``Checkpoint``: ``key`` names a record of the run's history; the latest of a name counts."""

    # -- cache/<digest>
    CACHED = 131
    """The encoded result of a pure step, for all runs that ask the same; ``key`` is the step's name, ``took`` what
    it cost, ``print`` until when it holds (microseconds, 0 = for ever)."""

    # -- schedule/<name>: each with the whole ``ScheduleState``; in ``schedules`` the first with nothing but the name
    SCHEDULE_CHANGED = 144
    """Somebody added, changed, paused, resumed or removed the schedule, or asked for runs of it; ``key`` is its name."""
    SCHEDULE_FIRED = 145
    """Fire times were met: in one commit with the runs that this started."""

    # -- saga/<id>, cursor/<reader>, tasks/<queue>
    SAGA_EVENT = 150
    """``Said``: what happened in a saga that nobody coordinates; ``key`` is the id by which it is said once."""
    CURSOR = 151
    """``Cursor``: up to which position of the log a reader has dealt with everything; in ``tasks`` up to itself."""
    TASK_OFFERED = 152
    """A task for a queue that another keeper has; ``key`` is its id, the data its row."""


DELIVERED = frozenset(k for k in Kind if 16 <= k < 64)
"""Kinds that replay delivers to the body."""


class Event(msgspec.Struct, frozen=True, gc=False):
    """One fact to be appended. ``at`` is microseconds since the epoch, ``took`` microseconds of work."""

    kind: int
    at: int
    key: str = ""
    data: bytes = b""
    print: int = 0
    """Fingerprint of name and arguments (63 bits), 0 where there is none."""
    took: int = 0
    """Negative of a step's result that came from the cache: so much work was saved."""


class Record(msgspec.Struct, frozen=True, gc=False):
    """An event in its place: ``position`` in the whole log, ``version`` (1, 2, 3 …) in its stream."""

    position: int
    stream: str
    version: int
    kind: int
    at: int
    key: str = ""
    data: bytes = b""
    print: int = 0
    took: int = 0
    append: int = 0
    """Id of the append that wrote it; the first record of a group carries it, the others 0."""


# ---------------------------------------------------------------- bodies of facts (JSON in ``data``)


class ErrorValue(msgspec.Struct, frozen=True, omit_defaults=True):
    """An exception as data: encoding a decoded one gives the same value again."""

    type: str
    """Registered name of the class."""
    message: str = ""
    args: list[Any] = []
    state: dict[str, Any] = {}
    """Attributes of the exception that are plain JSON."""
    notes: list[str] = []
    within: list[ErrorValue] = []
    """Members of an exception group, in order."""
    traceback: str = ""
    """Last frames, for people; never compared."""


class Forked(msgspec.Struct, frozen=True, omit_defaults=True):
    """Of what a run is a fork that is other work than the run it was forked from."""

    run: str
    at: int
    """Version of the last record of that run that the fork could begin with."""
    edited: list[str] = []
    """Keys of steps whose outcome was given, and did not happen."""
    print: int = 0
    """Fingerprint of all that was asked for."""


class Started(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """RUN_STARTED."""

    workflow: str
    input: msgspec.Raw
    """Encoded positional and keyword arguments: ``[args, kwargs]``."""
    python: str = ""
    """Minor version of the interpreter, such as ``3.11``."""
    build: str = ""
    deadline: int = 0
    """Microseconds since the epoch, 0 for none."""
    parent: str = ""
    parent_key: str = ""
    on_parent_end: str = ""
    tags: dict[str, Tag] = {}
    variables: dict[str, msgspec.Raw] = {}
    """Declared context variables that enter the body."""
    budget: Budget | None = None
    """What the run may spend; of a child, what its parent allots to it."""
    origin: str = ""
    """Id from which what the body is given by chance (random values, the order of sets) follows; '' = the run's own."""
    work: str = ""
    """Id of the run whose work is tried again: the idempotency keys of its steps follow from it; '' = the run's own."""
    fork: Forked | None = None
    """None = it is no fork, or one that tries the same work again."""
    defaults: WorkflowSettings | None = None
    """What plans, chains and the like take where they do not say otherwise; None = what is built in."""


class Intended(msgspec.Struct, frozen=True, omit_defaults=True):
    """STEP_INTENDED: a call that is about to be made."""

    name: str
    """Of the step."""
    key: str
    """What the receiver knows the call by."""
    number: int = 1
    """Intents of this call so far."""
    until: int = 0
    """Latest moment at which the call may still act (microseconds), 0 = there is none."""
    effect: str = ""
    undo: str = ""
    """Full name of the step whose ``undo`` would undo it, '' = none."""
    call: msgspec.Raw = msgspec.Raw(b"null")
    """Arguments for the undo: ``[args, kwargs]``."""
    given: bool = False
    """Those arguments were given by ``set_undo``; else they are the call's own."""
    settled: bool = False
    """It is known that nothing came of it: EFFECT_RESOLVED says so, or the step itself did."""


class Resolved(msgspec.Struct, frozen=True, omit_defaults=True):
    """EFFECT_RESOLVED: ``answer`` is done, not_done or unknown (which is not recorded)."""

    answer: str
    value: msgspec.Raw = msgspec.Raw(b"null")
    """What the step would have returned, if it is done."""
    mail: str = ""
    """Id of a person's answer, '' = the step's own ``reconcile`` said it."""


class EffectAnswer(msgspec.Struct, frozen=True):
    """EFFECT_ANSWER: of which intent of which step, and what became of it."""

    key: str
    number: int
    resolved: Resolved


class Owed(msgspec.Struct, frozen=True, omit_defaults=True):
    """A step that has begun and would have to be undone."""

    key: str
    intent: Intended
    outcome: int = 0
    """Kind of its outcome, 0 = none is known."""
    value: msgspec.Raw = msgspec.Raw(b"null")
    """What it returned, if it did."""
    loose: bool = False
    """It may act although nobody waits for it: its worker died, it was cancelled, or it failed in a way that says nothing."""
    failed: ErrorValue | None = None
    """Why it could not be undone so far."""


class Continued(msgspec.Struct, frozen=True, omit_defaults=True):
    """RUN_CONTINUED: all that a generation keeps of those before. What follows in the same commit is what came for them
    and nobody had taken: signals, a request to cancel.
    """

    started: Started
    """As at the start of the run, with the new generation's input."""
    generation: int
    """Counted from 0, the run as it was started."""
    first: int
    """Fingerprint of the input that the run was started with."""
    inbox: int = 0
    """Version of the inbox up to which mail was consumed."""
    seen: list[str] = []
    """Ids of mail that may be found, or sent, once more."""
    spent: Cost | None = None
    """What the earlier generations took of the run's budget."""
    borders: list[int] = []
    """Versions after which the earlier generations begin that are still in the log, oldest first."""
    owed: list[Owed] = []
    """Steps of earlier generations that are undone should this one fail, oldest first."""
    build: str = ""
    """Build whose code began it."""
    migrated: str = ""
    """Function that computed its input from the generation before, which its code could not go on with; '' = the body
    continued by itself."""


class Patched(msgspec.Struct, frozen=True, omit_defaults=True):
    """PATCHED."""

    deprecated: bool = False
    """Written by code that has only the new way: code that does not know the patch any more may read it."""


class Owned(msgspec.Struct, frozen=True, omit_defaults=True):
    """RUN_OWNED."""

    worker: str
    token: int
    attempt: int
    """Take-overs since the run last made progress, counted from 1."""
    build: str = ""


class Retrying(msgspec.Struct, frozen=True):
    """STEP_RETRYING."""

    attempt: int
    error: ErrorValue
    next_at: int


class ChildStarted(msgspec.Struct, frozen=True):
    """CHILD_STARTED."""

    run: str
    workflow: str


class Stranded(msgspec.Struct, frozen=True, omit_defaults=True):
    """RUN_STRANDED."""

    reason: str
    worker: str = ""
    build: str = ""


class Finished(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """RUN_FINISHED: ``status`` is completed, failed, cancelled or needs_attention."""

    status: str
    value: msgspec.Raw = msgspec.Raw(b"null")
    error: ErrorValue | None = None
    again: list[str] | None = None
    """Keys of the calls that are made again, unless they completed, when the run is tried again; None = its records say
    what ended it."""
    void: list[str] = []
    """Keys of those that are made again although they completed: what they returned was refused."""


class Said(msgspec.Struct, frozen=True, omit_defaults=True):
    """SAGA_EVENT: what a service of a saga says, or somebody outside."""

    name: str
    data: Any = None
    ends: bool = False
    """The saga is complete: nothing is compensated any more."""
    fails: bool = False
    """The saga has failed: every service compensates what it did."""
    by: str = ""
    """Service and reaction that said it, '' = somebody outside."""
    cause: int = 0
    """Version of the event that it follows from."""


class Signal(msgspec.Struct, frozen=True):
    """SIGNAL_SENT and SIGNAL_RECEIVED."""

    name: str
    value: msgspec.Raw


class Update(msgspec.Struct, frozen=True):
    """UPDATE_SENT and UPDATE_RECEIVED; also QUERY_SENT."""

    name: str
    input: msgspec.Raw
    """Encoded positional and keyword arguments: ``[args, kwargs]``."""


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """ANSWER_SENT and ANSWER_RECEIVED."""

    question: str
    """Key of the question."""
    value: msgspec.Raw
    by: str = ""
    """Who gave it, as far as they said."""


class Reply(msgspec.Struct, frozen=True, omit_defaults=True):
    """REPLIED and QUERY_ANSWERED: a value, or an error."""

    value: msgspec.Raw = msgspec.Raw(b"null")
    error: ErrorValue | None = None


class Question(msgspec.Struct, frozen=True, omit_defaults=True):
    """QUESTION_ASKED."""

    text: str
    schema: dict[str, Any]
    """JSON schema of what may be answered."""
    to: str = ""
    """Whom it is meant for."""
    expires_at: int = 0
    """Microseconds since the epoch, 0 = never."""


class Closed(msgspec.Struct, frozen=True, omit_defaults=True):
    """QUESTION_CLOSED: ``how`` is answered, or expired; the latter also when the body gave it up."""

    how: str
    by: str = ""


class Checkpoint(msgspec.Struct, frozen=True, omit_defaults=True):
    """CHECKPOINT."""

    at: int
    """Version of the record."""


class CancelRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """CANCEL_SENT and CANCEL_REQUESTED."""

    reason: str = ""
    by: str = ""
    deadline: bool = False
    """The run's own deadline, not somebody's wish."""
    force: bool = False
    """What is not undone yet stays so."""


class Spending(msgspec.Struct, frozen=True, omit_defaults=True):
    """BUDGET and BUDGET_RAISED."""

    what: Literal["reserved", "settled", "raised"]
    cost: Cost
    scopes: tuple[str, ...] = ("",)
    """Names of the budgets it counts against, the innermost first; '' is that of the run."""


class ChildFinished(msgspec.Struct, frozen=True, omit_defaults=True):
    """CHILD_FINISHED: the child's end, addressed by the parent's step key."""

    run: str
    key: str
    finished: Finished
    spent: Cost | None = None
    """What the child took of its budget."""


class Progress(msgspec.Struct, frozen=True, omit_defaults=True):
    """PROGRESS."""

    key: str
    done: float
    total: float | None = None
    note: str = ""


class LogLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """LOG_LINE."""

    level: str
    logger: str
    text: str
    key: str = ""


def run_stream(run: str) -> str:
    """Return the name of a run's history."""
    return f"run/{run}"


def inbox_stream(run: str) -> str:
    """Return the name of a run's inbox."""
    return f"inbox/{run}"


def progress_stream(run: str) -> str:
    """Return the name of a run's progress."""
    return f"progress/{run}"


def log_stream(run: str) -> str:
    """Return the name of a run's captured log lines."""
    return f"log/{run}"


def cache_stream(digest: str) -> str:
    """Return the name of the stream of a cached result."""
    return f"cache/{digest}"


def talk_stream(run: str) -> str:
    """Return the name of what a run says to others."""
    return f"talk/{run}"


def query_stream(run: str) -> str:
    """Return the name of the questions about a run's state."""
    return f"query/{run}"


def saga_stream(saga: str) -> str:
    """Return the stream in which the services of a saga say what they did."""
    return f"saga/{saga}"


SAGA_TAG, SERVICE_TAG = "saga", "saga.service"
"""Tags of a run that takes part in a saga: in which, and as what."""


def saga_of(tags: Mapping[str, Tag]) -> str:
    """Return the saga in which a run of these tags takes part, '' = in none.

    >>> saga_of({"saga": "order-7", "saga.service": "stock"}), saga_of({"saga": "Njáls"})
    ('order-7', '')
    """
    return str(tags[SAGA_TAG]) if SAGA_TAG in tags and SERVICE_TAG in tags else ""


def cursor_stream(reader: str) -> str:
    """Return the stream that holds how far somebody has read the log."""
    return f"cursor/{reader}"


def tasks_stream(queue: str) -> str:
    """Return the stream of tasks that are on their way to a queue of another keeper."""
    return f"tasks/{queue}"


def out_stream(run: str, name: str = "") -> str:
    """Return the name of a run's stream of partial output, or of the list of these streams."""
    return f"out/{run}/{name}" if name else f"out/{run}"


SCHEDULES = "schedules"
"""Name of the stream that says which schedules changed."""


def schedule_stream(name: str) -> str:
    """Return the name of the stream of a schedule."""
    return f"schedule/{name}"


def mark_stream(run: str) -> str:
    """Return the name of a run's checkpoints."""
    return f"mark/{run}"


RUN_STREAMS = tuple(
    f"{kind}/" for kind in ("run", "inbox", "progress", "log", "talk", "query", "out", "mark")
)
"""How the names of all streams begin that belong to a run; its history first."""


def streams_of_run(run: str, outs: Iterable[str] = ()) -> tuple[str, ...]:
    """Return the names of all streams of a run, its history first; ``outs`` are those of its partial output.

    >>> streams_of_run("a", ["tokens"])
    ('run/a', 'inbox/a', 'progress/a', 'log/a', 'talk/a', 'query/a', 'out/a', 'mark/a', 'out/a/tokens')
    """
    return (*(kind + run for kind in RUN_STREAMS), *(out_stream(run, name) for name in outs))
