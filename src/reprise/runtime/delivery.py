"""Let what the log says of a step or a timer happen in the body."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from reprise.kernel.clock import MICROSECONDS
from reprise.kernel.errors import RepriseError
from reprise.kernel.events import ErrorValue, Kind
from reprise.kernel.failures import decode_error
from reprise.runtime.ending import unreached

if TYPE_CHECKING:
    from reprise.runtime.execution import Execution


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
