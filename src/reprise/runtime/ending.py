"""The end of a run as others see it: mail in the same commit, and where a body was when something went wrong."""

from __future__ import annotations

import asyncio
import sys
from types import FrameType
from typing import TYPE_CHECKING, Any

import msgspec

from reprise.kernel.errors import (
    BodyError,
    DeadlineExceeded,
    NonDeterminismError,
    RepriseError,
    RunCancelled,
    RunEnded,
    StuckBodyError,
)
from reprise.kernel.events import (
    CancelRequest,
    ChildFinished,
    ErrorValue,
    Event,
    Finished,
    Kind,
    inbox_stream,
    talk_stream,
)
from reprise.kernel.failures import brief, encode_error
from reprise.kernel.machine import RunStatus
from reprise.kernel.tags import same_tags
from reprise.runtime.retrying import again_after
from reprise.stores.log import Group, RunChange

if TYPE_CHECKING:
    from reprise.runtime.execution import Execution


def ends_elsewhere(execution: Execution, finished: Finished) -> list[Group]:
    """Return what the end of a run writes to others in the same commit: mail to its parent and its children."""
    groups = leaves_children(execution) if execution.child_jobs else []
    groups += last_words(execution)
    started = execution.started
    if started.parent:
        now = execution.host.now()
        spent = execution.purse.taken() if execution.purse is not None else None
        mail = ChildFinished(execution.id, started.parent_key, finished, spent)
        groups.append(
            Group(
                inbox_stream(started.parent),
                [Event(Kind.CHILD_FINISHED, now, execution.id, msgspec.json.encode(mail))],
                run=RunChange(started.parent, due_at=now, at=now),
            )
        )
    return groups


def last_words(execution: Execution) -> list[Group]:
    """Return what is to be said when a body has ended: also that updates which it did not get through ended with it."""
    talk = execution.talk
    if talk is None:
        return []
    for update in list(talk.running):
        talk.reply(update, error=RunEnded(f"Run {execution.id} ended before the update was through."))
    words = talk.last_words()
    groups = [Group(talk_stream(execution.id), words)] if words else []
    return groups + [group for outlet in talk.outlets.values() for group in outlet.groups()]


def leaves_children(execution: Execution) -> list[Group]:
    """Return what a run writes to its children when its body has ended and some of them have not: they are cancelled."""
    groups: list[Group] = []
    now = execution.host.now()
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


def end(execution: Execution, finished: Finished) -> dict[str, Any]:
    """Return what the index says of a run that ends."""
    fields: dict[str, Any] = {"status": finished.status, "owner": None, "due_at": None, "error": ""}
    if finished.error is not None:
        fields["error"] = brief(finished.error)[:500]
    if not same_tags(execution.tags, execution.indexed_tags):
        fields["tags"] = execution.tags  # set by a body that ended before all its history was delivered
    return fields


def outcome_of(execution: Execution) -> Finished:
    """Return how a body ended whose main task is done."""
    main, request = execution.main, execution.cancel_request
    if main.cancelled():
        if request is not None and request.deadline:
            return failed(DeadlineExceeded(f"Run {execution.id} did not end before its deadline."))
        reason = request.reason if request is not None else "the body cancelled itself"
        return Finished(RunStatus.CANCELLED, error=encode_error(RunCancelled(reason)))
    error = main.exception()
    if error is not None:
        return failed(_explained(execution, error))
    try:
        value = execution.workflow.encode(main.result())
        execution.host.payloads.within(value, "The result of run {}", execution.id)
        return Finished(RunStatus.COMPLETED, msgspec.Raw(value))
    except RepriseError as unwritable:
        return failed(unwritable)


def failed(error: BaseException) -> Finished:
    """Return the end by an error."""
    again, void = again_after(error)
    return Finished(RunStatus.FAILED, error=encode_error(error), again=again, void=void)


def _explained(execution: Execution, error: BaseException) -> BaseException:
    """Say what to do where asyncio says only that a future is of another loop."""
    if not isinstance(error, RuntimeError | ValueError) or "different loop" not in str(error):
        return error
    return BodyError(
        f"The body of run {execution.id} waited for a task or future of another event loop. {error}",
        hint="Await steps, timers, signals and child runs; put foreign work into a @step.",
    )


def stuck(execution: Execution) -> StuckBodyError:
    """Return the error of a body that waits for what can never come."""
    tasks = [task for task in [execution.main, *execution.loop.tasks] if not task.done()]
    waits = "; ".join(f"{task.get_name()} at {line_of(task)}" for task in tasks)
    return StuckBodyError(
        f"The body of run {execution.id} waits for something that is no step, timer, signal or child: {waits}.",
        hint="Put the threaded or foreign work into a @step; look for a lock that is never released.",
    )


def child_error(mail: ChildFinished) -> ErrorValue:
    """Return what a parent gets of a child run that did not complete and that it did not cancel."""
    finished = mail.finished
    if finished.status == RunStatus.FAILED and finished.error is not None:
        return finished.error
    reason = finished.error.message if finished.error is not None else ""
    return encode_error(
        RunCancelled(f"The child run {mail.run} was cancelled: {reason or 'no reason given'}.")
    )


def disagreement(execution: Execution, key: str, name: str) -> NonDeterminismError:
    """Return the error for a call that is another than the one recorded under its key."""
    file, line = caller()
    error = NonDeterminismError(
        f"Run {execution.id} recorded {key!r} with other arguments than those of {name!r}"
        f"{f' at {file}:{line}' if file else ''}.",
        hint="Run it with the code that started it, or give moved steps their old key (key=…).",
    )
    error.key, error.file, error.line = key, file, line
    return error


def unreached(execution: Execution, what: str, key: str) -> NonDeterminismError:
    """Return the error for a record that nobody waits for when its turn comes."""
    error = NonDeterminismError(
        f"Run {execution.id} recorded the {what} {key!r}, which this code does not reach{instead(execution)}.",
        hint="Run it with the code that started it, or give moved steps their old key (key=…).",
    )
    error.key = key
    return error


def check_reached(execution: Execution) -> None:
    """Raise ``NonDeterminismError`` when the history of a body that ended holds what this code never asked for."""
    for record in execution.history:
        is_timer = record.kind == Kind.TIMER_FIRED
        known = execution.loop.timers if is_timer else execution.waiting
        if record.kind <= Kind.TIMER_FIRED and record.key not in known:
            raise unreached(execution, "timer" if is_timer else "step", record.key)


def caller() -> tuple[str, int]:
    """Return file and line of the body that made the call."""
    frame: FrameType | None = sys._getframe(2)  # pyright: ignore[reportPrivateUsage]
    while frame is not None and frame.f_globals.get("__name__", "").startswith(
        ("reprise.runtime", "asyncio")
    ):
        frame = frame.f_back
    return (frame.f_code.co_filename, frame.f_lineno) if frame is not None else ("", 0)


def line_of(task: asyncio.Task[Any]) -> str:
    """Return the function and line where a task waits."""
    stack = task.get_stack(limit=1)
    if not stack:
        return "?"
    return f"{stack[0].f_code.co_name}, line {stack[0].f_lineno}"


def instead(execution: Execution) -> str:
    """Return what the body does, for an error about a record that nobody waits for."""
    tasks = [task for task in [*execution.loop.tasks, execution.main] if not task.done()]
    if not tasks:
        return " (it ended)"
    calls = [repr(key) for key, future in execution.waiting.items() if not future.done()]
    called = f", and called {', '.join(calls[:3])}" if calls else ""
    return f" (it waits at {line_of(tasks[0])}{called})"
