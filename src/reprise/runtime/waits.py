"""What a loaded run waits for, for people. The log says it only afterwards."""

from __future__ import annotations

from collections import Counter

import msgspec

from reprise.kernel.clock import MICROSECONDS
from reprise.runtime.execution import Execution


class Waits(msgspec.Struct, frozen=True):
    """Steps asked for and not ended, by name; when the timers are due (microseconds); names of awaited signals; what
    people are asked.
    """

    steps: dict[str, int] = {}
    timers: tuple[int, ...] = ()
    signals: tuple[str, ...] = ()
    questions: tuple[str, ...] = ()


def waits_of(execution: Execution) -> Waits:
    """Return what a run in memory waits for."""
    steps = Counter(job.step.name for job in execution.in_flight.values())
    steps.update(job.step.name for job in execution.child_jobs.values())
    timers = execution.loop.timers
    due = sorted(round(timers[key].when() * MICROSECONDS) for key in execution.armed if key in timers)
    questions = execution.talk.questions.values() if execution.talk is not None else ()
    asked = tuple(
        [execution.host.payloads.text(f"{one.to}: {one.text}" if one.to else one.text) for one in questions]
    )
    return Waits(dict(steps), tuple(due), tuple(execution.mail.awaited()), asked)
