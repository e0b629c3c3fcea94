"""How processes ended, as errors and in words."""

from __future__ import annotations

import signal

from reprise.kernel.errors import ProcessDied, StepError
from reprise.runtime.executors.orders import AnyStep
from reprise.runtime.executors.process import Process


def unfit(step: AnyStep, why: str) -> StepError:
    """Return the error for a step that no process has begun."""
    return StepError(
        f"No process could begin with step {step.name}: {why}.", hint="What they said is on stderr."
    )


def died(process: Process, step: AnyStep) -> ProcessDied:
    """Return the error for a step whose process ended before it did."""
    number = -process.exit if process.exit is not None and process.exit < 0 else 0
    if process.why in ("frame", "silence"):
        reason = process.why
    elif number == getattr(signal, "SIGXCPU", None):
        reason = "cpu"
    else:
        reason = "signal" if number else "exit"
    error = ProcessDied(
        f"The process of step {step.name} {how_it_ended(process, step)}: whether the step happened is unknown.",
        hint="Declare it idempotent=True if doing it twice is harmless.",
    )
    error.reason, error.signal, error.exit_code = reason, number, None if number else process.exit
    return error


def how_it_ended(process: Process, step: AnyStep | None = None) -> str:
    """Say how a process ended."""
    code = process.exit
    if process.why == "silence":
        return "gave no sign of life (it was stopped, or code in it does not let go of the interpreter) and was killed"
    if process.why == "frame":
        return "closed the connection to its worker, or wrote into it, and was killed"
    if code is None or code >= 0:
        return f"ended itself with exit code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else "unknown"
    if name == "SIGXCPU":
        return f"used more CPU than its {step.cpu if step is not None and step.cpu else 'limit of'} s"
    if name == "SIGKILL":
        return "was killed by signal 9 (SIGKILL): by the system for want of memory, or by somebody"
    return f"was killed by signal {-code} ({name})"
