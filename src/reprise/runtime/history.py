"""What the log says of one run, read for take-over."""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Sequence
from typing import Any

import msgspec

from reprise.kernel.errors import StoreCorrupt
from reprise.kernel.events import (
    ChildStarted,
    Continued,
    Finished,
    Intended,
    Kind,
    Owned,
    Patched,
    Record,
    Resolved,
    Retrying,
    Started,
)
from reprise.kernel.tags import Tag
from reprise.runtime.budgets import RUN_SCOPE, Books
from reprise.runtime.patching import Patches

STEP_KINDS = frozenset({Kind.STEP_COMPLETED, Kind.STEP_FAILED, Kind.STEP_CANCELLED})
_RESTING = frozenset({Kind.RUN_OWNED, Kind.RUN_PAUSED, Kind.RUN_RESUMED, Kind.RUN_STRANDED})
"""Notes that are no doing of a body."""
DEADLINE = "@deadline"
"""Key of the request that the run's own deadline makes; no id of mail begins so."""
NOTHING: deque[Any] = deque(maxlen=0)
"""An empty deque that stays so. One for each run that has nothing would cost 700 bytes a run."""
POISON = 5
"""Take-overs without progress after which a run needs attention."""


class History(msgspec.Struct):
    """One run's past."""

    started: Started
    """Also of a later generation; then with its input."""
    continued: Continued | None = None
    """What the generation began with; None of the first."""
    since: int = 0
    """Version after which the generation begins."""
    version: int = 0
    at: int = 0
    """Time of the last record, microseconds."""
    began: int = 0
    """Time of the first ownership, microseconds: where the body's time begins, in every replay."""
    records: deque[Record] = msgspec.field(default_factory=lambda: NOTHING)
    """What is to be delivered, in log order."""
    prints: dict[str, int] = {}
    """Fingerprint by step key."""
    recorded: dict[str, None] = {}
    """Keys of steps and timers whose record is still to be delivered."""
    children: dict[str, str] = {}
    """Child run by step key."""
    books: Books | None = None
    """What the notes say of budgets, None if there are none."""
    attempts: dict[str, int] = {}
    """Failed attempts by step key, of steps that have not ended."""
    intents: dict[str, Intended] = {}
    """The last intent by step key, of steps that have not ended."""
    undoable: bool = False
    """Some step has begun that would have to be undone."""
    not_undone: dict[str, None] = {}
    """Keys of steps that could not be undone since somebody resumed the run."""
    patches: Patches = msgspec.field(default_factory=Patches)
    """Which patches the run has, and from where on they are given."""
    build: str | None = None
    """Of the last owner, '' = it has no name, None = there is none."""
    owner_before: tuple[str | None, int, int] = (None, -1, 0)
    """What was known of builds, and how many records there were, when it took the run."""
    untouched: bool = False
    """It was carried over to other code, and whoever owned it since has done nothing: the code is still to come."""
    seen: dict[str, None] = {}
    """Ids of mail that was consumed, in its order."""
    owned: int = 0
    """Take-overs since the run last made progress."""
    fresh: bool = True
    """Nobody owned the run before, or it begins a generation here and now: no owner before has seen any of it."""
    warned: bool = False
    """Whether somebody was told that it is long."""
    cancelling: bool = False
    paused: str = ""
    """Id of the request because of which the run rests, '' if it does not."""
    finished: Finished | None = None
    tags: dict[str, Tag] | None = None
    """As the index had them at the take-over, None = those of the start."""


def read_history(run: str, records: Sequence[Record]) -> History:
    """Fold the records of ``run/<id>`` into what take-over needs: those of its latest generation.

    Raises:
        StoreCorrupt: no generation begins in them.
    """
    begin = next((i for i in range(len(records) - 1, -1, -1) if records[i].kind == Kind.RUN_CONTINUED), 0)
    history = _begun(run, records[begin] if records else None)
    for record in records[begin + 1 :]:
        if 16 <= record.kind < 64:
            _delivered(history, record)
        else:
            _noted(history, record)
    history.version = records[-1].version
    history.at = records[-1].at
    return history


def _begun(run: str, first: Record | None) -> History:
    """Return the history of which only the first event is known."""
    if first is not None and first.kind == Kind.RUN_STARTED:
        return History(msgspec.json.decode(first.data, type=Started), records=deque())
    if first is not None and first.kind == Kind.RUN_CONTINUED:
        continued = msgspec.json.decode(first.data, type=Continued)
        seen = dict.fromkeys(continued.seen)
        history = History(continued.started, continued, first.version - 1, records=deque(), seen=seen)
        history.began, history.undoable = first.at, bool(continued.owed)
        if not continued.migrated:
            history.fresh, history.build = False, continued.build
        history.untouched = bool(continued.migrated)
        if continued.spent is not None:
            history.books = Books({RUN_SCOPE: continued.spent})
        return history
    raise StoreCorrupt(
        f"The history of run {run} does not begin with its start.",
        hint="Restore the store from a backup.",
    )


def _delivered(history: History, record: Record) -> None:
    history.records.append(record)
    history.owned = 0
    history.untouched &= history.build is None  # what was carried over with it is nobody's doing
    key = record.key
    if record.kind in STEP_KINDS:
        if record.print:
            history.prints[key] = record.print
        else:  # its outcome was given by somebody who forked the run, whatever its arguments may be now
            history.prints.pop(key, None)
        history.recorded[key] = None
        history.attempts.pop(key, None)
        history.intents.pop(key, None)
        if key in history.children:
            history.seen[history.children[key]] = None
    elif record.kind == Kind.TIMER_FIRED:
        history.recorded[key] = None
    elif record.kind == Kind.PATCHED:
        history.patches.known[key] = msgspec.json.decode(record.data, type=Patched)
    else:
        history.seen[key] = None
        history.cancelling |= record.kind == Kind.CANCEL_REQUESTED


def owned_by(history: History, build: str) -> None:
    """Note that an owner with this build goes on from here."""
    history.owner_before = (history.build, history.patches.since, len(history.records))
    if history.build is not None and (not build or build != history.build) and not history.untouched:
        history.patches.since = len(history.records)
    history.build = build


def _noted(history: History, record: Record) -> None:
    kind = record.kind
    history.untouched &= kind in _RESTING
    if kind == Kind.RUN_OWNED:
        history.fresh = False
        owned = msgspec.json.decode(record.data, type=Owned)
        history.owned = owned.attempt
        owned_by(history, owned.build)
        history.began = history.began or record.at
    elif kind == Kind.RUN_STRANDED:
        build, since, count = history.owner_before
        if count == len(history.records):  # it went no way: its code did not get to the end of the history
            history.build, history.patches.since = build, since
    elif kind == Kind.STEP_RETRYING:
        history.attempts[record.key] = msgspec.json.decode(record.data, type=Retrying).attempt
    elif kind == Kind.CHILD_STARTED:
        history.children[record.key] = msgspec.json.decode(record.data, type=ChildStarted).run
        history.prints[record.key] = record.print
    elif kind == Kind.BUDGET:
        history.books = history.books or Books()
        if history.books.read(record).what == "raised":
            history.seen[record.key] = None  # the id of the mail that did
    elif kind == Kind.RUN_PAUSED:
        history.paused = record.key
        history.seen[record.key] = None
    elif kind == Kind.RUN_RESUMED:
        history.paused = ""
        history.not_undone.clear()
        history.seen[record.key] = None
    elif kind == Kind.RUN_FINISHED:
        history.finished = msgspec.json.decode(record.data, type=Finished)
    elif Kind.STEP_INTENDED <= kind <= Kind.UNDO_FAILED:
        _about_effects(history, record)


def _about_effects(history: History, record: Record) -> None:
    kind, key = record.kind, record.key
    if kind == Kind.STEP_INTENDED:
        intent = msgspec.json.decode(record.data, type=Intended)
        history.intents[key] = intent
        history.prints[key] = record.print
        history.undoable |= bool(intent.undo)
    elif kind == Kind.EFFECT_RESOLVED:
        resolved = msgspec.json.decode(record.data, type=Resolved)
        if resolved.mail:
            history.seen[resolved.mail] = None
        if (open := history.intents.get(key)) is not None:
            history.intents[key] = msgspec.structs.replace(open, settled=True)
    elif kind == Kind.UNDO_DONE:
        history.owned = 0
    else:
        history.not_undone[key] = None


def wishes(history: History, mail: Sequence[Record]) -> list[str]:
    """Return keys of the mail that wants a resting run to go on, and that no RUN_RESUMED answered yet.

    To resume and to cancel are such wishes; of a paused run, only those that were sent after the request to pause.
    """
    found: list[str] = []
    for record in mail:
        if history.paused and record.key == history.paused:
            found.clear()
        elif record.kind == Kind.RESUME_SENT:
            found.append(record.key)
        elif record.kind == Kind.CANCEL_SENT and record.key not in history.seen:
            found.append(f"for {record.key}")  # the key itself is that of the CANCEL_REQUESTED to come
    return [key for key in found if key not in history.seen]


def pause_in(records: Sequence[Record], seen: Container[str]) -> str | None:
    """Return the id of an unseen request to pause that nobody took back, None if there is none."""
    found: str | None = None
    for record in records:
        if record.kind == Kind.PAUSE_SENT and record.key not in seen:
            found = record.key
        elif record.kind == Kind.RESUME_SENT:
            found = None
    return found
