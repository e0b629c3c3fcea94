"""What may become of a queued task: pure functions that keepers in this process share, in the words of the port.

>>> shown(Task("a", "q", due_at=5), now=1)
'later'
"""

from __future__ import annotations

from msgspec.structs import replace

from reprise.kernel.clock import MICROSECONDS
from reprise.stores.queue import Settlement, Task


def micros(seconds: float) -> int:
    """Return seconds as microseconds."""
    return round(seconds * MICROSECONDS)


def shown(task: Task, now: int) -> str:
    """Return the state by which a task is found."""
    return "later" if task.state == "ready" and task.due_at > now else task.state


def is_over(task: Task, now: int) -> bool:
    """Return whether a task has ended and was kept for as long as it should."""
    return task.state in ("done", "dead") and 0 < task.until <= now


def blocks(known: Task, wanted: Task, now: int) -> bool:
    """Return whether a known task keeps one of the same id from being offered."""
    if is_over(known, now):
        return False
    return known.state != "done" or now < known.ended_at + micros(wanted.again)


def offered(task: Task, now: int) -> Task:
    """Return a task as it stands in the queue once it is offered."""
    return replace(
        task, state="ready", claims=0, token=0, worker="", until=0, offered_at=now, ended_at=0, delay=0.0, again=0.0,
        due_at=now + micros(task.delay) if task.delay else task.due_at,
    )  # fmt: skip


def claimed(task: Task, token: int, worker: str, until: int) -> Task:
    """Return a task with a claim on it."""
    return replace(task, state="claimed", claims=task.claims + 1, token=token, worker=worker, until=until)


def settled(task: Task, settlement: Settlement, now: int) -> Task:
    """Return a task whose claim has ended, other than as ``gone``."""
    state = settlement.state
    has_ended = state in ("done", "dead")
    return replace(
        task,
        state="ready" if state == "back" else state,
        claims=task.claims - (state == "back"),
        data=b"" if state == "done" else task.data,
        due_at=now + micros(settlement.delay) if settlement.delay else task.due_at,
        note=settlement.note,
        outcome=task.outcome if settlement.outcome is None else settlement.outcome,
        worker="",
        until=now + micros(settlement.keep) if has_ended and settlement.keep is not None else 0,
        ended_at=now if has_ended else 0,
    )


def may_change(task: Task, state: str | None, now: int) -> bool:
    """Return whether a task that somebody names may become ``state``."""
    if is_over(task, now):
        return False
    return task.state in ("ready", "dead") or (task.state == "done" and state == "gone")


def changed(task: Task, order: float | None, due_at: int | None, state: str | None, now: int) -> Task:
    """Return a task that was changed, other than to ``gone``."""
    task = replace(
        task, order=task.order if order is None else order, due_at=task.due_at if due_at is None else due_at
    )
    if state == "ready":
        return replace(task, state=state, claims=0, until=0, ended_at=0)
    return replace(task, state=state, until=0, ended_at=now) if state else task


def place(task: Task, state: str) -> float:
    """Return by what tasks are sorted when those of ``state`` are looked for."""
    if state in ("", "ready"):
        return task.order
    return {"later": task.due_at, "claimed": task.until}.get(state, task.ended_at)
