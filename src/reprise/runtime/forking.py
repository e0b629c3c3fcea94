"""Forks: a run under an id of its own goes on from what another one recorded.

A fork begins with records of the first run, as they are; large payloads among them are stored once, by their hash. Replay
is the judge of whether a body can go on from there; a record that nobody waits for strands the fork before anything is
executed. There is one mechanism with two uses:

- *Trying again* (:func:`retry`): a run that failed or was cancelled, without what made it end. To the outside it is the same
  work: the idempotency keys are those of the first run. See ``docs/decisions/0017-trying-again.md``.
- *What if* (:func:`fork`): any run, from any place, with other results or another input. That is other work, with keys of its
  own; what the first run did outside is taken as done and is not the fork's to undo. See ``docs/decisions/0020-forks.md``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import msgspec

from reprise.kernel.errors import ForkRefused, NoSuchRecord, RunConflict, RunNotFound
from reprise.kernel.events import (
    Continued,
    Event,
    Forked,
    Kind,
    Record,
    Signal,
    Spending,
    Started,
    inbox_stream,
    run_stream,
)
from reprise.kernel.machine import RunStatus
from reprise.kernel.tags import Tag
from reprise.runtime.branch import name_in
from reprise.runtime.editing import Outcome, Wish, key_of
from reprise.runtime.effect_rows import EffectRow, effects_in
from reprise.runtime.history import STEP_KINDS, read_history
from reprise.runtime.retrying import RETRIED, check, outlasting
from reprise.runtime.starting import PYTHON, check_id
from reprise.stores.log import Group, RunChange
from reprise.stores.runs import RunRow
from reprise.stores.store import Store

RETRY_OF = "reprise.retry_of"
"""Tag of a fork that names the run in whose place it goes on."""
FORK_OF = "reprise.fork_of"
"""Tag of any other fork, which names the run that it began from."""

_SETTLED = STEP_KINDS - {Kind.STEP_CANCELLED}
_OF_STEPS = frozenset({Kind.STEP_STARTED, Kind.STEP_RETRYING, Kind.CHILD_STARTED})
_OF_RUNS = frozenset(
    {Kind.RUN_PAUSED, Kind.RUN_RESUMED, Kind.RUN_STRANDED, Kind.RUN_FINISHED, Kind.RUN_OWNED}
)
LINEAGE = frozenset({RETRY_OF, FORK_OF})
"""Tags that say of what a run is a fork."""
_NOT_OF_IDS = re.compile(r"[^\w\-.+=,~]")
_TRY = re.compile(r"(.+)~(\d+)")


class Fork(msgspec.Struct, frozen=True, kw_only=True):
    """What a fork begins with, and what that means for the outside."""

    id: str
    run: str
    """The run that it was made from."""
    at: int
    """Version of the last record of that run that it could begin with."""
    kept: int
    """Steps that are not done again."""
    again: tuple[str, ...]
    """Names of steps that had ended and are not kept: they are done again where the body comes to them."""
    edited: tuple[str, ...] = ()
    """Keys of steps whose outcome was given."""
    shared: tuple[EffectRow, ...] = ()
    """What the first run did outside, and the fork takes as done: it neither does nor undoes it."""
    repeated: tuple[EffectRow, ...] = ()
    """What the first run did outside, or may have done, and the fork may do once more, under keys of its own."""
    signals: tuple[str, ...] = ()
    """Names of signals that the first run was given and the fork was not: it waits for them anew."""


class Made(NamedTuple):
    """A fork, and what is to be appended in one commit so that it exists."""

    fork: Fork
    groups: tuple[Group, ...]
    forked: Forked | None = None


def next_try(run: str) -> str:
    """Return the id of a run's next try. One run has one next try, so that nobody starts two.

    >>> next_try("order-7"), next_try("order-7~2")
    ('order-7~2', 'order-7~3')
    """
    found = _TRY.fullmatch(run)
    return f"{found[1]}~{int(found[2]) + 1}" if found else f"{run}~2"


# ---------------------------------------------------------------- the two uses


async def retry(store: Store, row: RunRow, now: int, *, fresh: bool = False) -> Made:
    """Return what a run that failed or was cancelled is tried again with.

    ``fresh``: with its input only (that of its latest generation), as a run of its own.

    Raises:
        RetryRefused: it has not ended so, has a parent, or undid what it had done.
        RunNotFound: its history is gone.
    """
    check(row)
    records = await _read(store, row.id, row.since)
    id, lineage = next_try(row.id), {RETRY_OF: row.id}
    started = _next_started(row, records[0], now, lineage)
    if fresh:
        started = msgspec.structs.replace(started, python=PYTHON, origin="", work="", fork=None)
        anew = Event(Kind.RUN_STARTED, now, "", msgspec.json.encode(started))
        return Made(Fork(id=id, run=row.id, at=0, kept=0, again=()), (_group(row, id, [anew], now),))
    work, origin = started.work or row.id, started.origin or row.id
    started = msgspec.structs.replace(started, work=work, origin=origin)
    kept = _kept(records, outlasting(row.id, records), same_work=True)
    events = [_begin(records[0], started), *map(_event, kept)]
    group = _group(row, id, events, now, generation=row.generation, tags=row.tags | lineage)
    mail = await _unread(store, row.id, records, id)
    return Made(_described(id, row.id, records, kept, records[-1].version), (group, *mail))


async def fork(store: Store, row: RunRow, now: int, wish: Wish) -> Made:
    """Return what a run is forked with.

    Raises:
        ForkRefused, NoSuchRecord: the wish does not fit the run's history.
        RetryRefused: it is to go on from its end, and undid what it had done.
        RunNotFound: its history is gone.
    """
    records = generation_at(row.id, await _read(store, row.id, 0), wish.at)
    edits = {key_of(row.id, records, name): outcome for name, outcome in wish.edits.items()}
    at = _cut(row.id, records, wish, edits)
    prefix = [record for record in records if record.version <= at]
    given = {record.version for record in prefix if 16 <= record.kind < 64}
    if wish.is_whole and row.status in RETRIED:
        given = outlasting(row.id, prefix)
    kept = _kept(prefix, given, same_work=False)
    input = bytes(_started_in(prefix[0]).input)
    if wish.change is not None:
        input = wish.change(input)
    print = wish.print(row.id, at, edits, input)
    id = check_id(wish.id) if wish.id else f"{_NOT_OF_IDS.sub('-', row.id)}+{print >> 31:08x}"
    lineage, forked = {FORK_OF: row.id}, Forked(row.id, at, sorted(edits), print)
    started = _forked_started(row, prefix[0], now, lineage, forked, input)
    events = [_begin(prefix[0], started), *_edited(prefix, kept, edits)]
    group = _group(
        row,
        id,
        events,
        now,
        generation=_generation(prefix[0]),
        tags=row.tags | lineage,
        build=_build(row) if wish.pinned else "",
        pinned=wish.pinned,
    )
    mail = await _unread(store, row.id, prefix, id) if wish.is_whole else []
    made = _described(id, row.id, records, kept, at, edits, passes_on=wish.is_whole)
    return Made(made, (group, *mail), forked)


async def same_fork(store: Store, made: Made) -> Fork:
    """Return the fork that has the id already, if it is the one that was asked for.

    Raises:
        RunConflict: it is another run.
    """
    first = await store.log.read(run_stream(made.fork.id), 0, 1)
    if not first or _started_in(first[0]).fork != made.forked:
        raise RunConflict(f"Run {made.fork.id} exists and is not this fork.", hint="Choose another id.")
    return made.fork


async def _read(store: Store, run: str, since: int) -> list[Record]:
    records = await store.log.read(run_stream(run), since)
    if not records:
        raise RunNotFound(f"The history of run {run} is gone.", hint="List runs: reprise ps")
    return records


def _build(row: RunRow) -> str:
    if not row.build:
        raise ForkRefused(
            f"Run {row.id} was had by no build that has a name, so its fork cannot be left to that.",
            hint='Name builds: Reprise(build=…), reprise worker --build; or leave code="pinned" out.',
        )
    return row.build


# ---------------------------------------------------------------- where a fork leaves the first run


def generation_at(run: str, records: Sequence[Record], at: int | str | None) -> list[Record]:
    """Return the records of the generation that a moment belongs to, of the latest if none is named.

    Raises:
        NoSuchRecord: there is no such record, or no longer.
    """
    first, last = records[0].version, records[-1].version
    if not isinstance(at, int):
        at = last
    elif at > last or (at < first and first > 1):
        raise NoSuchRecord(
            f"The history of run {run} has the records {first} to {last}, and no record {at}.",
            hint=f"See them: reprise events {run}",
        )
    begins = [record.version for record in records if record.kind == Kind.RUN_CONTINUED]
    begin = max((version for version in begins if version <= at), default=0)
    end = min((version for version in begins if version > at), default=last + 1)
    return [record for record in records if begin <= record.version < end]


def _cut(run: str, records: Sequence[Record], wish: Wish, edits: Collection[str]) -> int:
    """Return the version of the last record that a fork can begin with."""
    ends = {record.key: record.version for record in records if record.kind in STEP_KINDS}
    first, last = _end_of_begin(records), records[-1].version
    if isinstance(wish.at, int):
        at = max(wish.at, first)
    elif wish.at is not None:
        key = key_of(run, records, wish.at)
        at = ends[key] - (key not in edits) if key in ends else last
    elif edits:
        at = max(ends.get(key, last) for key in edits)
    else:
        at = last if wish.change is None else first
    if late := [key for key in edits if ends.get(key, 0) > at]:
        raise ForkRefused(
            f"Step {late[0]!r} of run {run} ended with record {ends[late[0]]}, after the fork leaves it at {at}.",
            hint="Fork later (at=), or leave the edit out.",
        )
    return at


def _end_of_begin(records: Sequence[Record]) -> int:
    """Return the version of the last record of the commit that begins a generation; a run begins with one record."""
    last = records[0]
    if last.kind == Kind.RUN_CONTINUED:
        for record in records[1:]:
            if record.append or record.kind not in (Kind.SIGNAL_RECEIVED, Kind.CANCEL_REQUESTED):
                break
            last = record
    return last.version


# ---------------------------------------------------------------- what a fork begins with


def _kept(records: Sequence[Record], given: Collection[int], *, same_work: bool) -> list[Record]:
    """Return the records that a fork goes on from, without the first: those ``given`` to the body, and notes about them."""
    ended = {record.key for record in records if record.version in given and record.kind in STEP_KINDS}
    # What was cancelled may have happened: its intent stays, so that it is found out before it is called again.
    dropped = {record.key for record in records if record.kind in _SETTLED} - ended
    owned = next((record.version for record in records if record.kind == Kind.RUN_OWNED), 0)
    kept: list[Record] = []
    for record in records[1:]:
        kind = record.kind
        if record.version in given or record.version == owned:
            # The first owner says when the body's time began.
            kept.append(record)
        elif kind in _OF_STEPS:
            if record.key in ended:
                kept.append(record)
        elif kind == Kind.BUDGET:
            # Of the same work what was spent stays spent; of other work what the kept steps have spent.
            if same_work or record.key in ended or _raises(record):
                kept.append(record)
        elif same_work and kind < 16 and kind not in _OF_RUNS and record.key not in dropped:
            kept.append(record)  # intents: what is in doubt stays in doubt
    return kept


def _raises(record: Record) -> bool:
    return msgspec.json.decode(record.data, type=Spending).what == "raised"


def _edited(records: Sequence[Record], kept: Sequence[Record], edits: Mapping[str, Outcome]) -> list[Event]:
    """Return the kept records as events, with the outcomes that were given; of steps that have none yet, at the end."""
    events: list[Event] = []
    left = dict(edits)
    for record in kept:
        outcome = left.pop(record.key, None) if record.kind in STEP_KINDS else None
        events.append(
            _event(record) if outcome is None else Event(outcome.kind, record.at, record.key, outcome.data)
        )
    at = records[-1].at
    return events + [Event(outcome.kind, at, key, outcome.data) for key, outcome in left.items()]


def _event(record: Record) -> Event:
    return Event(record.kind, record.at, record.key, record.data, record.print, record.took)


async def _unread(store: Store, run: str, records: Sequence[Record], id: str) -> list[Group]:
    """Return the signals that a run was sent and never took in, as mail of its fork."""
    history = read_history(run, records)
    consumed = history.continued.inbox if history.continued is not None else 0
    mail = await store.log.read(inbox_stream(run), consumed)
    left = [_event(one) for one in mail if one.kind == Kind.SIGNAL_SENT and one.key not in history.seen]
    return [Group(inbox_stream(id), left)] if left else []


def _described(
    id: str,
    run: str,
    records: Sequence[Record],
    kept: Sequence[Record],
    at: int,
    edits: Collection[str] = (),
    *,
    passes_on: bool = True,
) -> Fork:
    """Say what a fork keeps of a run's records, and what of them it may do once more."""
    done = {record.key for record in kept if record.kind in STEP_KINDS} | set(edits)
    ended = {record.key: None for record in records if record.kind in STEP_KINDS}
    effects = effects_in(records)
    is_shared = [
        effect.step_key in done or not effect.at for effect in effects
    ]  # or of an earlier generation
    later = [one for one in records if one.version > at and one.kind == Kind.SIGNAL_RECEIVED]
    names = [msgspec.json.decode(one.data, type=Signal).name for one in later if not passes_on]
    return Fork(
        id=id,
        run=run,
        at=at,
        kept=len(done),
        again=tuple(dict.fromkeys(name_in(key) for key in ended if key not in done)),
        edited=tuple(sorted(edits)),
        shared=tuple(effect for effect, shared in zip(effects, is_shared, strict=True) if shared),
        repeated=tuple(
            effect
            for effect, shared in zip(effects, is_shared, strict=True)
            if not shared and effect.state != "not_done"
        ),
        signals=tuple(dict.fromkeys(names)),
    )


# ---------------------------------------------------------------- how a fork begins


def _group(
    row: RunRow,
    id: str,
    events: Sequence[Event],
    now: int,
    *,
    generation: int = 0,
    tags: Mapping[str, Tag] | None = None,
    build: str | None = None,
    pinned: bool = False,
) -> Group:
    """Return the beginning of a fork; ``tags`` are those that it has in the index beside those of its start.

    ``build`` is whose it is, '' = anybody's, None = that of the run before it; ``pinned``: and nobody else's.
    """
    started = _started_in(events[0])
    change = RunChange(
        id,
        RunStatus.PENDING,
        row.workflow,
        None,
        None,
        now,
        row.build if build is None else build,
        started.tags if tags is None else started.tags | _without_lineage(tags, started.tags),
        generation=generation,
        at=now,
    )
    if pinned:
        change.pinned = change.build
    return Group(run_stream(id), events, 0, run=change)


def _without_lineage(tags: Mapping[str, Tag], own: Mapping[str, Tag]) -> dict[str, Tag]:
    """Return tags without what they say of being a fork, unless that is said of this one."""
    return {name: value for name, value in tags.items() if name in own or name not in LINEAGE}


def _started_in(first: Event | Record) -> Started:
    if first.kind == Kind.RUN_CONTINUED:
        return msgspec.json.decode(first.data, type=Continued).started
    return msgspec.json.decode(first.data, type=Started)


def _generation(first: Record) -> int:
    if first.kind == Kind.RUN_CONTINUED:
        return msgspec.json.decode(first.data, type=Continued).generation
    return 0


def _next_started(row: RunRow, first: Record, now: int, lineage: Mapping[str, Tag]) -> Started:
    """Return the conditions of the start once more, as other work; a deadline is as far away as it was."""
    before = _started_in(first)
    return msgspec.structs.replace(
        before,
        deadline=now + max(0, before.deadline - row.created_at) if before.deadline else 0,
        tags={**_without_lineage(before.tags, {}), **lineage},
    )


def _forked_started(
    row: RunRow, first: Record, now: int, lineage: Mapping[str, Tag], forked: Forked, input: bytes
) -> Started:
    """Return the conditions under which a fork starts that is other work: nobody's child, with keys of its own.

    What the body is given by chance stays that of the first run, for the records that it is given follow from it.
    """
    before = _next_started(row, first, now, lineage)
    return msgspec.structs.replace(
        before,
        parent="",
        parent_key="",
        on_parent_end="",
        origin=before.origin or row.id,
        work="",
        fork=forked,
        input=msgspec.Raw(input),
    )


def _begin(first: Record, started: Started) -> Event:
    """Return the first record of a fork. What other work would owe to undo is not its own."""
    if first.kind == Kind.RUN_STARTED:
        return Event(first.kind, first.at, "", msgspec.json.encode(started))
    continued = msgspec.json.decode(first.data, type=Continued)
    # Nothing that it consumed is in the new inbox, and no generation before it in the new log.
    owed = continued.owed if started.work else []
    continued = msgspec.structs.replace(continued, started=started, inbox=0, borders=[], owed=owed)
    return Event(first.kind, first.at, "", msgspec.json.encode(continued))
