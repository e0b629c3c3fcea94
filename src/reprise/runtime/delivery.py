"""Let what the log says happen in the body, one record at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from reprise.kernel.clock import MICROSECONDS
from reprise.kernel.errors import RepriseError
from reprise.kernel.events import CancelRequest, ErrorValue, Event, Kind, Record, Signal
from reprise.kernel.failures import decode_error
from reprise.runtime.asking import give_answer
from reprise.runtime.ending import unreached
from reprise.runtime.updates import begin_update

if TYPE_CHECKING:
    from reprise.runtime.execution import Execution


def deliver(execution: Execution, record: Event | Record) -> None:
    """Let one record happen in the body.

    Raises:
        NonDeterminismError: nobody waits for it, and nobody ever did.
    """
    kind = record.kind
    if kind < 16:
        return
    loop = execution.loop
    now = record.at / MICROSECONDS
    if now > loop.now:
        loop.now = now
    key = record.key
    execution.length += 1
    execution.bytes += len(record.data)
    if kind <= Kind.STEP_CANCELLED:
        deliver_step(execution, kind, key, record.data)
    elif kind == Kind.TIMER_FIRED:
        deliver_timer(execution, key, record.data)
    elif kind == Kind.SIGNAL_RECEIVED:
        name = msgspec.json.decode(record.data, type=Signal).name
        execution.context.run(execution.mail.put, name, record)
    elif kind == Kind.CANCEL_REQUESTED:
        execution.cancel_request = msgspec.json.decode(record.data, type=CancelRequest)
        if execution.main.done():
            execution.unheard = record
        execution.main.cancel(execution.cancel_request.reason or None)
    elif kind == Kind.UPDATE_RECEIVED:
        begin_update(execution, record)
    elif kind == Kind.ANSWER_RECEIVED:
        give_answer(execution, record)
    elif kind == Kind.PATCHED:
        execution.patches.deliver(execution, record)


def deliver_step(execution: Execution, kind: int, key: str, data: bytes) -> None:
    """Settle the future of a call with its recorded outcome.

    Raises:
        NonDeterminismError: nobody made that call.
    """
    future = execution.waiting.pop(key, None)
    if execution.to_start:
        execution.to_start.pop(key, None)
    execution.recorded.pop(key, None)
    if future is None:
        raise unreached(execution, "step", key)
    if future.done():
        return
    if kind == Kind.STEP_CANCELLED or (kind == Kind.STEP_COMPLETED and future.asked):
        future.settle_cancelled()  # a cancellation is never lost to a step that completed meanwhile
    elif kind == Kind.STEP_COMPLETED:
        try:
            future.set_result(future.step.decode(data))
        except RepriseError as error:
            future.set_exception(error)
    else:
        future.set_exception(decode_error(msgspec.json.decode(data, type=ErrorValue)))


def deliver_timer(execution: Execution, key: str, data: bytes) -> None:
    """Let a timer of the body's loop fire.

    Raises:
        NonDeterminismError: nobody set it.
    """
    loop = execution.loop
    handle = loop.timers.pop(key, None)
    loop.to_arm.pop(key, None)
    execution.recorded.pop(key, None)
    if handle is None:
        raise unreached(execution, "timer", key)
    if not handle.dead:
        loop.now = max(loop.now, handle.due)
        loop.ready.append(handle)
    else:
        loop.now = max(loop.now, int(data) / MICROSECONDS)
