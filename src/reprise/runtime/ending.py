"""The end of a run as others see it: mail in the same commit, and where a body was when something went wrong."""

from __future__ import annotations

import asyncio
import sys
from types import FrameType
from typing import TYPE_CHECKING, Any

import msgspec

from reprise.kernel.events import CancelRequest, ChildFinished, Event, Finished, Kind, inbox_stream
from reprise.stores.log import Group, RunChange

if TYPE_CHECKING:
    from reprise.runtime.execution import Execution


def ends_elsewhere(execution: Execution, finished: Finished) -> list[Group]:
    """Return what the end of a run writes to others in the same commit: mail to its parent and its children."""
    groups: list[Group] = []
    now = execution.host.now()
    started = execution.started
    if started.parent:
        mail = ChildFinished(execution.id, started.parent_key, finished)
        groups.append(
            Group(
                inbox_stream(started.parent),
                [Event(Kind.CHILD_FINISHED, now, execution.id, msgspec.json.encode(mail))],
                run=RunChange(started.parent, due_at=now, at=now),
            )
        )
    for key, job in execution.child_jobs.items():
        child = execution.children.get(key)
        if child is not None and job.step.on_end == "cancel":
            request = msgspec.json.encode(CancelRequest(f"its parent {execution.id} ended", by=execution.id))
            groups.append(
                Group(
                    inbox_stream(child),
                    [Event(Kind.CANCEL_SENT, now, f"parent-{execution.id}", request)],
                    run=RunChange(child, due_at=now, at=now),
                )
            )
    return groups


def caller() -> str:
    """Return `` at file:line`` of the body's line that made the call."""
    frame: FrameType | None = sys._getframe(2)  # pyright: ignore[reportPrivateUsage]
    while frame is not None and frame.f_globals.get("__name__", "").startswith(
        ("reprise.runtime", "asyncio")
    ):
        frame = frame.f_back
    return f" at {frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else ""


def line_of(task: asyncio.Task[Any]) -> str:
    """Return the function and line where a task waits."""
    stack = task.get_stack(limit=1)
    if not stack:
        return "?"
    return f"{stack[0].f_code.co_name}, line {stack[0].f_lineno}"


def where_it_waits(execution: Execution) -> str:
    """Return where the body waits, for an error about a record that nobody waits for."""
    tasks = [task for task in [execution.main, *execution.loop.tasks] if not task.done()]
    return f" (it waits at {line_of(tasks[0])})" if tasks else ""
