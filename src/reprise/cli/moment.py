"""``reprise show --at``: a run as of one of its records."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from rich.table import Table
from rich.text import Text

from reprise.cli.card import call_lines, outcome_lines
from reprise.cli.moments import duration, iso, local
from reprise.cli.output import Format, Screen, line, table
from reprise.cli.paint import status
from reprise.kernel.failures import brief
from reprise.runtime.moments import RunState, StepState

LONG = 200
"""Characters of a value that are shown; ``-o json`` shows all."""


def show_state(screen: Screen, state: RunState, output: Format) -> None:
    """Print a run as of a record."""
    if output is not Format.TABLE:
        screen.fact(output, state_fact(state))
        return
    head = Text.assemble((line(state.workflow), "bold"), "  ", line(state.run), "  ", status(state.status))
    when = f"record {state.version}, {local(state.at)}"
    screen.lines([head, Text.assemble(("  as of    ", "dim"), when)])
    if state.generation:
        screen.line(Text.assemble(("  goes on  ", "dim"), f"as generation {state.generation}"))
    screen.lines(call_lines("input", bytes(state.input)))
    if state.reason:
        screen.line(Text.assemble(("  why      ", "dim"), (line(state.reason), "yellow")))
    if state.finished is not None:
        screen.lines(outcome_lines(state.finished))
    for name, steps in (("under way", state.waiting), ("ended", state.ended)):
        if steps:
            screen.line(Text())
            screen.table(_steps(name, steps, state.at))
    if state.signals:
        screen.line(Text())
        screen.lines(Text(f"signal {line(one.name)} = {shown(one.value)}") for one in state.signals)


def _steps(title: str, steps: Iterable[StepState], now: int) -> Table:
    made = table(title, "state", "took", "record", "value", right=("took", "record"), fold="value")
    for step in steps:
        took = step.ended_at - step.started_at if step.ended_at else max(0, now - step.started_at)
        name = step.name if step.name == step.key else f"{step.name} [{step.key}]"
        made.add_row(
            Text(line(name)),
            Text(step.state),
            Text(duration(took), "dim"),
            Text(str(step.version or ""), "dim"),
            Text(value_of(step)),
        )
    return made


def value_of(step: StepState | None) -> str:
    """Return what came of a step, as one short line."""
    if step is None:
        return ""
    if step.value is not None:
        return shown(step.value)
    return line(brief(step.error), LONG) if step.error is not None else step.state


def shown(value: msgspec.Raw | bytes) -> str:
    """Return a value as one short line."""
    return line(bytes(value).decode(), LONG)


def state_fact(state: RunState) -> dict[str, Any]:
    """Return a state for programs."""
    finished = state.finished
    return {
        "run": state.run,
        "workflow": state.workflow,
        "version": state.version,
        "at": iso(state.at),
        "status": state.status,
        "reason": state.reason,
        "generation": state.generation,
        "input": state.input,
        "result": finished.value if finished is not None and finished.status == "completed" else None,
        "failure": finished.error if finished is not None else None,
        "waiting": [step_fact(step) for step in state.waiting],
        "ended": [step_fact(step) for step in state.ended],
        "signals": [{"name": one.name, "value": one.value} for one in state.signals],
        "timers": state.timers,
    }


def step_fact(step: StepState) -> dict[str, Any]:
    """Return a step for programs; durations in seconds."""
    return {
        "key": step.key,
        "name": step.name,
        "state": step.state,
        "attempts": step.attempt,
        "version": step.version or None,
        "seconds": max(0, step.took) / 1_000_000 if step.version else None,
        "value": step.value,
        "error": step.error,
        "child": step.child or None,
    }
