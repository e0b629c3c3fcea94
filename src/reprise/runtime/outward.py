"""What a body asked for happens outside of it, after a drain: steps are stopped and started, timers are armed.

Never inside a drain, for steps must not see the body's loop; never before the whole history was delivered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reprise.kernel.clock import MICROSECONDS
from reprise.kernel.events import Kind
from reprise.runtime.handles import TimerHandle
from reprise.runtime.host import Job
from reprise.runtime.intents import is_in_doubt

if TYPE_CHECKING:
    from reprise.runtime.execution import Execution


def go_out(execution: Execution) -> None:
    """Stop, start and arm what the body asked for; not before it is durable which way it went."""
    if execution.patches.unwritten:
        return
    if execution.to_stop:
        jobs, execution.to_stop = execution.to_stop, []
        for job in jobs:
            _stop(execution, job)
    talk = execution.talk
    # Unsure = chunks of the body are not known to stand in its streams; those of later steps come behind them.
    is_unsure = talk is not None and talk.is_unsure
    if execution.to_start and execution.seated and not execution.holding and not is_unsure:
        if execution.purse is None:
            starting, execution.to_start = execution.to_start, {}
            _start(execution, starting)
        elif starting := execution.purse.admit(execution.to_start):
            _start_when_reserved(execution, starting)
    if execution.loop.to_arm:
        _arm(execution)


def _arm(execution: Execution) -> None:
    """Let timers fire; those that are overdue, as after a crash, in the order in which they were due."""
    handles, execution.loop.to_arm = execution.loop.to_arm, {}
    host = execution.host
    now = host.now() / MICROSECONDS
    for handle in sorted(handles.values(), key=TimerHandle.when):
        execution.armed[handle.key] = host.outer.call_later(
            handle.due - now, _fire, execution, handle, context=host.context
        )


def _start(execution: Execution, jobs: dict[str, Job]) -> None:
    for key, job in jobs.items():
        (execution.in_flight if job.step.what == "step" else execution.child_jobs)[key] = job
    execution.host.start_jobs(jobs.values())


def _start_when_reserved(execution: Execution, jobs: dict[str, Job]) -> None:
    """Start steps when it is durable what they may cost; a child is started by the same commit.

    What is in doubt has reserved nothing: it is found out at once.
    """
    steps = {key: job for key, job in jobs.items() if job.step.what == "step" and not is_in_doubt(job)}
    if others := {key: job for key, job in jobs.items() if key not in steps}:
        _start(execution, others)
    if steps:
        execution.in_flight.update(steps)

        def start(durable: bool) -> None:
            if durable and not execution.done:
                execution.host.start_jobs(list(steps.values()))

        execution.after.append(start)


def again(execution: Execution, job: Job) -> None:
    """Make another attempt when it is reserved what it may cost. It may have to wait for that."""
    execution.in_flight.pop(job.key, None)
    execution.attempts[job.key] = job.attempt
    execution.to_start[job.key] = job
    execution.wake()


def _stop(execution: Execution, job: Job) -> None:
    """Ask what executes to stop; of what never began, record that it was cancelled."""
    key = job.key
    if key in execution.children and key not in execution.recorded:
        execution.child_jobs[key] = job  # asked for in replay: the child was started by an owner before
    if key in execution.in_flight or key in execution.child_jobs:
        job.asked = True
        execution.host.stop_job(job)
    elif key in execution.waiting and key not in execution.recorded:
        execution.recorded[key] = None
        execution.record(Kind.STEP_CANCELLED, key, print=job.print)


def _fire(execution: Execution, handle: TimerHandle) -> None:
    execution.armed.pop(handle.key, None)
    if handle.dead or execution.done:
        return
    execution.recorded[handle.key] = None
    execution.record(Kind.TIMER_FIRED, handle.key, b"%d" % round(handle.due * MICROSECONDS))
