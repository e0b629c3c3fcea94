"""Carrying a run over to code that its history does not fit: it ends its generation and goes on as the next one.

What the new generation begins with is computed by a function from what the log says of the old one. Nothing of either
code is executed for it. It is one commit, conditional on nobody having the run and nothing having happened since; the
event that begins the generation says who computed it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, cast

import msgspec

from reprise.kernel.clock import to_datetime
from reprise.kernel.codec import standard
from reprise.kernel.errors import CodecError, ConfigurationError, MigrationRefused
from reprise.kernel.events import (
    CancelRequest,
    Continued,
    Event,
    Kind,
    Record,
    Signal,
    Started,
    inbox_stream,
    run_stream,
)
from reprise.kernel.machine import RUN, RunStatus
from reprise.kernel.tags import Tag
from reprise.runtime.branch import name_in
from reprise.runtime.budgets import RUN_SCOPE
from reprise.runtime.generation import BORDERS
from reprise.runtime.history import STEP_KINDS, History, read_history
from reprise.runtime.owing import handed_on
from reprise.runtime.starting import input_print
from reprise.runtime.workflow import Workflow
from reprise.stores.conditions import floor_of
from reprise.stores.log import Group, RunChange
from reprise.stores.runs import RunFilter, RunRow
from reprise.stores.store import Store

_ENDS = frozenset({RunStatus.CANCELLING, RunStatus.COMPENSATING})


class Heard(msgspec.Struct, frozen=True):
    """A signal that the body was given, whether it took it or not."""

    id: str
    name: str
    value: Any
    """Plain JSON."""


class Past(msgspec.Struct, frozen=True):
    """What the log says of the latest generation of a run. All values are plain JSON, as ``reprise show`` prints them."""

    run: str
    workflow: str
    args: list[Any]
    kwargs: dict[str, Any]
    """What the generation began with."""
    steps: dict[str, Any]
    """What steps and children returned, by the key of the call (``:2.ship``), in the order of the log."""
    failed: dict[str, str]
    """What steps raised, by key: class and message."""
    signals: list[Heard]
    """What it was sent, in order. Which of them the body had taken only its code knows."""
    tags: dict[str, Tag]
    generation: int
    began_at: datetime
    build: str
    """Build that had it last."""

    def results(self, name: str) -> list[Any]:
        """Return what the calls of a step returned, in the order of the log.

        >>> Past("r", "order", [], {}, {":1.load": 7, "/load:1": 8, ":2.ship": 9}, {}, [], {}, 0, datetime.min, "").results("load")
        [7, 8]
        """
        return [value for key, value in self.steps.items() if name_in(key) == name]


class Onward(msgspec.Struct, frozen=True):
    """What a migrated run goes on with: arguments of the workflow, and signals that it is still to be given."""

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = {}
    signals: Sequence[Heard] = ()


Carry = Callable[[Past], "Onward | tuple[Any, ...] | Mapping[str, Any]"]
"""Computes what a run goes on with: arguments by position or by name, or both and more as an ``Onward``. Pure."""


class Migration(msgspec.Struct, frozen=True):
    """What a run is carried over with."""

    run: str
    past: Past
    generation: int
    """That which begins."""
    workflow: str
    input: bytes
    """What it begins with, as JSON: ``[args, kwargs]``."""
    cancelled: tuple[str, ...]
    """Children of the old generation that are asked to stop."""
    groups: tuple[Group, ...]


async def migration(
    store: Store, row: RunRow, carry: Carry, workflow: Workflow[..., Any], now: int
) -> Migration:
    """Return what carries a run over to a workflow, to be appended in one commit.

    Raises:
        MigrationRefused: somebody has it, it is about to end, or an effect or child of it is open.
        ConfigurationError: what the function returned are no arguments of the workflow.
        Whatever the function raises.
    """
    _check(row)
    records = await store.log.read(run_stream(row.id), row.since)
    history = read_history(row.id, records)
    _check_open(row, history, records)
    children, cancelled = await _children(store, row, history, now)
    past = _past(row, history, records)
    onward, input = _called(carry, past, workflow)
    continued = _continued(row, history, records, workflow, input, _name_of(carry))
    events = [Event(Kind.RUN_CONTINUED, max(now, history.at), "", msgspec.json.encode(continued))]
    events += [
        Event(
            Kind.SIGNAL_RECEIVED, events[0].at, one.id, msgspec.json.encode(Signal(one.name, _raw(one.value)))
        )
        for one in onward.signals
    ]
    change = RunChange(
        row.id,
        RunStatus.PENDING,
        workflow.name,
        due_at=now,
        error="",
        since=history.version,
        generation=continued.generation,
        warning="",
        refused=(),
        at=now,
    )
    token = max(row.token + 1, floor_of(store.epoch))
    group = Group(run_stream(row.id), events, history.version, token, takes=True, run=change)
    return Migration(row.id, past, continued.generation, workflow.name, input, cancelled, (group, *children))


def _check(row: RunRow) -> None:
    if row.status in RUN.final or row.status in _ENDS:
        raise MigrationRefused(
            f"Run {row.id} is {row.status}: it does not go on.", hint=f"Look: reprise show {row.id}"
        )
    if row.owner is not None:
        raise MigrationRefused(
            f"Run {row.id} is {row.status}: worker {row.owner} has it.",
            hint=f"Let it rest first: reprise pause {row.id}",
        )


def _check_open(row: RunRow, history: History, records: Sequence[Record]) -> None:
    undoes = any(record.kind in (Kind.UNDO_DONE, Kind.UNDO_FAILED) for record in records)
    if history.cancelling or history.finished is not None or undoes:
        raise MigrationRefused(f"Run {row.id} is about to end.", hint=f"Look: reprise show {row.id}")
    if open := [intent.effect for intent in history.intents.values() if intent.effect]:
        raise MigrationRefused(
            f"Nobody knows whether effect {open[0]!r} of run {row.id} happened.",
            hint=f"Say so: reprise effects {row.id} resolve",
        )


async def _children(
    store: Store, row: RunRow, history: History, now: int
) -> tuple[list[Group], tuple[str, ...]]:
    """Return what is written to children that have not ended, as at the end of a run, and to which."""
    groups: list[Group] = []
    open = [child for child in history.children.values() if child not in history.seen]
    for child in open:
        found = await store.runs.find(RunFilter(id=child), limit=1)
        first = await store.log.read(run_stream(child), 0, 1)
        if not found or not first or found[0].status in RUN.final:
            continue
        started = _started_in(first[0])
        if started.on_parent_end == "wait":
            raise MigrationRefused(
                f"The child {child} of run {row.id} has not ended.",
                hint=f"Its end is waited for (on_parent_end). Cancel it: reprise cancel {child}",
            )
        if started.on_parent_end == "cancel":
            request = CancelRequest(f"its parent {row.id} was migrated", by=row.id)
            mail = Event(Kind.CANCEL_SENT, now, f"parent-{row.id}", msgspec.json.encode(request))
            change = RunChange(child, due_at=now, at=now)
            groups.append(Group(inbox_stream(child), [mail], guard=run_stream(child), run=change))
    return groups, tuple(group.stream.removeprefix("inbox/") for group in groups)


def _started_in(first: Record) -> Started:
    if first.kind == Kind.RUN_CONTINUED:
        return msgspec.json.decode(first.data, type=Continued).started
    return msgspec.json.decode(first.data, type=Started)


def _past(row: RunRow, history: History, records: Sequence[Record]) -> Past:
    args, kwargs = msgspec.json.decode(bytes(history.started.input), type=tuple[list[Any], dict[str, Any]])
    mine = [record for record in records if record.version > history.since]
    steps = [record for record in mine if record.kind in STEP_KINDS]
    signals = [
        (record.key, msgspec.json.decode(record.data, type=Signal))
        for record in mine
        if record.kind == Kind.SIGNAL_RECEIVED
    ]
    errors = {one.key: msgspec.json.decode(one.data) for one in steps if one.kind == Kind.STEP_FAILED}
    return Past(
        row.id,
        row.workflow,
        args,
        kwargs,
        {one.key: msgspec.json.decode(one.data) for one in steps if one.kind == Kind.STEP_COMPLETED},
        {key: f"{error['type']}: {error.get('message', '')}" for key, error in errors.items()},
        [Heard(id, sent.name, msgspec.json.decode(bytes(sent.value))) for id, sent in signals],
        row.tags,
        row.generation,
        to_datetime(records[0].at),
        row.build,
    )


def _called(carry: Carry, past: Past, workflow: Workflow[..., Any]) -> tuple[Onward, bytes]:
    """Return what a function carries over, and the input that this is for the workflow."""
    returned: Any = carry(past)
    if inspect.isawaitable(returned):
        cast("Any", returned).close()
        raise ConfigurationError(
            f"{_name_of(carry)} is async.", hint="It computes from what it is given, and waits for nothing."
        )
    if isinstance(returned, Onward):
        onward = returned
    elif isinstance(returned, tuple):
        onward = Onward(cast("tuple[Any, ...]", returned))
    elif isinstance(returned, Mapping):
        onward = Onward(kwargs=cast("Mapping[str, Any]", returned))
    else:
        raise ConfigurationError(
            f"{_name_of(carry)} returned {type(returned).__name__}.",
            hint="Return the arguments of the workflow: a tuple, or a dict by name.",
        )
    try:
        input = workflow.arguments.encode(onward.args, dict(onward.kwargs))
        workflow.arguments.decode(input)
        workflow.arguments.check_call(onward.args, dict(onward.kwargs))
    except (CodecError, TypeError) as error:
        raise ConfigurationError(
            f"What {_name_of(carry)} returned are no arguments of {workflow.name!r}. {error}",
            hint=f"It was called for run {past.run}.",
        ) from error
    return onward, input


def _continued(
    row: RunRow,
    history: History,
    records: Sequence[Record],
    workflow: Workflow[..., Any],
    input: bytes,
    by: str,
) -> Continued:
    before, started = history.continued, history.started
    books = history.books
    return Continued(
        msgspec.structs.replace(started, workflow=workflow.name, input=msgspec.Raw(input), tags=row.tags),
        row.generation + 1,
        before.first if before is not None else _first_print(workflow, started),
        before.inbox if before is not None else 0,
        list(history.seen),
        books.taken.get(RUN_SCOPE) if books is not None else None,
        [*(before.borders if before is not None else ()), history.since][-BORDERS:],
        handed_on(records, before, row.generation),
        migrated=by,
    )


def _first_print(workflow: Workflow[..., Any], started: Started) -> int:
    """Return the fingerprint of the input that a run was started with, 0 where it does not fit the new workflow."""
    try:
        return input_print(workflow, bytes(started.input))
    except (CodecError, TypeError):
        return 0


def _name_of(carry: Carry) -> str:
    return f"{carry.__module__}:{getattr(carry, '__qualname__', carry)}"


def _raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(standard.encode(value))
