"""Runs and records as rows of data, for programs; and as short texts, for people."""

from __future__ import annotations

from typing import Any

import msgspec

from reprise.cli.moments import iso
from reprise.cli.tree import Step, Tree
from reprise.cli.why import Lines, why_not
from reprise.kernel import events
from reprise.kernel.clock import SystemClock
from reprise.kernel.events import ErrorValue, Kind, LogLine, Record, Started
from reprise.kernel.failures import brief
from reprise.runtime.branch import name_in
from reprise.stores.runs import RunRow

_BODIES: dict[int, Any] = {
    Kind.RUN_STARTED: Started,
    Kind.RUN_OWNED: events.Owned,
    Kind.STEP_STARTED: str,
    Kind.STEP_RETRYING: events.Retrying,
    Kind.CHILD_STARTED: events.ChildStarted,
    Kind.RUN_STRANDED: events.Stranded,
    Kind.RUN_FINISHED: events.Finished,
    Kind.RUN_CONTINUED: events.Continued,
    Kind.BUDGET: events.Spending,
    Kind.STEP_INTENDED: events.Intended,
    Kind.EFFECT_RESOLVED: events.Resolved,
    Kind.UNDO_FAILED: ErrorValue,
    Kind.STEP_FAILED: ErrorValue,
    Kind.TIMER_FIRED: int,
    Kind.SIGNAL_RECEIVED: events.Signal,
    Kind.CANCEL_REQUESTED: events.CancelRequest,
    Kind.UPDATE_RECEIVED: events.Update,
    Kind.ANSWER_RECEIVED: events.Answer,
    Kind.PATCHED: events.Patched,
    Kind.STEP_COMPLETED: msgspec.Raw,
}
"""What the data of a record is, by kind; of others it is shown as it stands."""


_NAMES = {kind.value: kind.name.lower() for kind in Kind}


def kind_name(kind: int) -> str:
    """Return the name of a kind as it is written: ``step_completed``."""
    return _NAMES.get(kind) or f"kind_{kind}"


def run_fact(row: RunRow, lines: Lines) -> dict[str, Any]:
    """Return a row of the index for programs; ``lines`` as of :func:`reprise.cli.why.lines_of`."""
    return {
        "id": row.id,
        "workflow": row.workflow,
        "status": row.status,
        "created_at": iso(row.created_at),
        "updated_at": iso(row.updated_at),
        "parent": row.parent,
        "owner": row.owner,
        "due_at": iso(row.due_at) if row.due_at else None,
        "build": row.build,
        "tags": row.tags,
        "error": row.error,
        "warning": row.warning,
        "generation": row.generation,
        "limits": [str(slot) for slot in row.slots],
        "in_line": row.in_line,
        "refused": row.refused,
        "pinned": row.pinned or None,
        "waits": why_not(row, lines, SystemClock().now()),
    }


def step_fact(step: Step) -> dict[str, Any]:
    """Return a step for programs; durations in seconds."""
    return {
        "key": step.key,
        "name": step.name,
        "state": step.state.value,
        "attempts": step.attempt,
        "started_at": iso(step.started_at),
        "ended_at": iso(step.ended_at) if step.ended_at else None,
        "seconds": step.took / 1_000_000 if step.ended_at else None,
        "saved": step.saved / 1_000_000 or None,
        "error": step.error,
        "undo": step.undo.value.lower() or None,
        "undo_at": iso(step.undo_at) if step.undo_at else None,
        "child": step.child or None,
    }


def show_fact(row: RunRow, tree: Tree, lines: Lines) -> dict[str, Any]:
    """Return all that is known of a run, for programs."""
    finished, started = tree.finished, tree.started
    return run_fact(row, lines) | {
        "input": started.input if started is not None else None,
        "result": finished.value if finished is not None and finished.status == "completed" else None,
        "failure": finished.error if finished is not None else None,
        "started_at": iso(tree.started_at if not row.generation else row.created_at),
        "continued_at": iso(tree.started_at) if row.generation else None,
        "ended_at": iso(tree.ended_at) if tree.ended_at else None,
        "deadline": iso(started.deadline) if started is not None and started.deadline else None,
        "python": started.python if started is not None else "",
        "takeovers": tree.takeovers,
        "events": tree.events,
        "steps": [step_fact(step) for step in tree.steps],
        "signals": [{"at": iso(at), "name": name} for at, name in tree.signals],
        "progress": tree.progress,
    }


def record_fact(record: Record) -> dict[str, Any]:
    """Return a record for programs: its data is JSON already."""
    return {
        "version": record.version,
        "at": iso(record.at),
        "kind": kind_name(record.kind),
        "key": record.key,
        "seconds": max(0, record.took) / 1_000_000,
        "saved": max(0, -record.took) / 1_000_000 or None,
        "data": msgspec.Raw(record.data) if record.data else None,
        "position": record.position,
    }


def record_text(record: Record) -> str:
    """Return what a record says, for people."""
    kind = record.kind
    body: Any = msgspec.json.decode(record.data, type=_BODIES.get(kind, Any)) if record.data else None
    if kind == Kind.RUN_STARTED:
        return f"{body.workflow} {bytes(body.input).decode()}{_fork_text(body.fork)}"
    if kind == Kind.RUN_CONTINUED:
        by = f"migrated by {body.migrated} " if body.migrated else ""
        return f"generation {body.generation} {by}{bytes(body.started.input).decode()}"
    if kind == Kind.RUN_OWNED:
        return f"by {body.worker}, attempt {body.attempt}"
    if kind == Kind.BUDGET:
        return f"{body.what} {body.cost}{''.join(f' of {name}' for name in body.scopes if name)}"
    if kind in (Kind.STEP_FAILED, Kind.UNDO_FAILED):
        return brief(body)
    if kind == Kind.STEP_INTENDED:
        return f"{body.effect or 'to be undone should the run fail'}, key {body.key}"
    if kind == Kind.EFFECT_RESOLVED:
        return f"{body.answer}, {'a person said' if body.mail else 'reconcile said'}"
    if kind == Kind.STEP_RETRYING:
        return f"attempt {body.attempt} failed: {brief(body.error)}"
    if kind == Kind.SIGNAL_RECEIVED:
        return f"{body.name} = {bytes(body.value).decode()}"
    if kind == Kind.UPDATE_RECEIVED:
        return f"{body.name} {bytes(body.input).decode()}"
    if kind == Kind.ANSWER_RECEIVED:
        return f"{body.question} = {bytes(body.value).decode()}" + (f" by {body.by}" if body.by else "")
    if kind == Kind.CHILD_STARTED:
        return f"{body.workflow}: {body.run}"
    if kind == Kind.RUN_FINISHED:
        return f"{body.status} {brief(body.error) if body.error is not None else bytes(body.value).decode()}"
    if kind == Kind.CANCEL_REQUESTED:
        return str(body.reason)
    if kind == Kind.RUN_STRANDED:
        return str(body.reason)
    if kind == Kind.TIMER_FIRED:
        return ""
    return bytes(body).decode() if isinstance(body, msgspec.Raw) else str(body or "")


def _fork_text(fork: events.Forked | None) -> str:
    if fork is None:
        return ""
    edited = f", edited: {', '.join(fork.edited)}" if fork.edited else ""
    return f"  fork of {fork.run}, from record {fork.at}{edited}"


def record_name(record: Record) -> str:
    """Return the name of the step that a record is about, '' where it is about none."""
    steps = (Kind.STEP_STARTED, Kind.STEP_RETRYING, Kind.CHILD_STARTED)
    is_step = record.kind in steps or (Kind.STEP_INTENDED <= record.kind <= Kind.STEP_CANCELLED)
    return name_in(record.key) if is_step else ""


def log_fact(record: Record) -> dict[str, Any]:
    """Return a captured log line for programs."""
    said = msgspec.json.decode(record.data, type=LogLine)
    return {
        "at": iso(record.at),
        "level": said.level,
        "logger": said.logger,
        "step": name_in(said.key) if said.key else "",
        "key": said.key,
        "text": said.text,
    }
