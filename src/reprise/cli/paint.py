"""How a tree is drawn: lines of styled text for a moment, a width and a height. Pure, but for rich's text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from reprise.cli.moments import clock_time, duration
from reprise.cli.output import clean, line
from reprise.cli.tree import Row, State, Step, Tree, Undo
from reprise.kernel.events import Progress
from reprise.kernel.machine import RunStatus

if TYPE_CHECKING:
    from reprise.runtime.waits import Waits  # all of a worker, which who only looks does not need

SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
FRAME = 100_000
"""Microseconds that one picture of the spinner stands."""
BAR = 20
NAMES = 32
"""Most columns that a name takes."""

_MARKS = {
    State.RETRYING: ("↻", "yellow"),
    State.DONE: ("✓", "green"),
    State.FAILED: ("✗", "red"),
    State.CANCELLED: ("–", "dim"),
}
UNDONE = f"↶ {Undo.DONE}"
_STATUS = {
    RunStatus.PENDING: ("·", "dim"),
    RunStatus.RUNNING: ("▸", "cyan"),
    RunStatus.WAITING: ("⏸", "blue"),
    RunStatus.PAUSED: ("⏸", "yellow"),
    RunStatus.CANCELLING: ("–", "yellow"),
    RunStatus.COMPENSATING: ("↶", "yellow"),
    RunStatus.COMPLETED: ("✓", "green"),
    RunStatus.FAILED: ("✗", "red"),
    RunStatus.CANCELLED: ("–", "magenta"),
    RunStatus.STRANDED: ("!", "red"),
    RunStatus.NEEDS_ATTENTION: ("!", "red"),
}


def status(name: str) -> Text:
    """Return a run's state as its mark and its name."""
    mark, style = _STATUS.get(name, ("?", ""))
    return Text(f"{mark} {name}", style)


class View:
    """What is drawn: a run, those of its children that are followed, and what it waits for."""

    def __init__(
        self, tree: Tree, children: Mapping[str, Tree] | None = None, waits: Waits | None = None
    ) -> None:
        self.tree = tree
        self.children = children or {}
        self.waits = waits


def frame(view: View, now: int, width: int = 80, height: int = 24) -> list[Text]:
    """Return the picture of a run at a moment, no line longer and no picture taller than the terminal."""
    tree = view.tree
    body = _rows(view, tree, now, "  ")
    room = max(3, height - 4)
    if len(body) > room:
        # What is under way or went wrong is worth more than what is done.
        body = _shortened(body, room)
    name = tree.started.workflow if tree.started is not None else ""
    head = Text.assemble((line(name), "bold"), "  ", status(_status(view)))
    lines = [head, *(text for _, text in body), *_waiting(view, now), _foot(tree, now)]
    for text in lines:
        text.truncate(width, overflow="ellipsis")
    return lines


def _status(view: View) -> str:
    waits, state = view.waits, view.tree.status
    rests = waits is not None and not waits.steps and bool(waits.signals or waits.timers or waits.questions)
    return RunStatus.WAITING if rests and state == RunStatus.RUNNING else state


def _foot(tree: Tree, now: int) -> Text:
    elapsed = (tree.ended_at or now) - tree.started_at if tree.started is not None else 0
    parts = [tree.id, duration(elapsed), f"{tree.events} events"]
    if tree.generation:
        parts.insert(1, f"generation {tree.generation}")
    if tree.takeovers > 1:
        parts.append(f"taken over {tree.takeovers - 1}×")
    return Text("  " + " · ".join(parts), "dim")


Line = tuple[bool, Text]
"""Whether it may be left out, and the line."""


def _shortened(body: list[Line], room: int) -> list[Line]:
    surplus = len(body) - room + 1
    left_out = {at for at, (done, _) in enumerate(body) if done}
    left_out = set(sorted(left_out)[:surplus])
    note = (False, Text(f"  ✓ {len(left_out)} more, done", "dim"))
    kept = [item for at, item in enumerate(body) if at not in left_out]
    return ([note] if left_out else []) + kept[-room:]


def _rows(view: View, tree: Tree, now: int, indent: str) -> list[Line]:
    names = [len(line(name, NAMES)) for name in tree.rows]
    pad = min(NAMES, max(names, default=0))
    body: list[Line] = []
    for row in tree.rows.values():
        progress = tree.progress_of(row)
        body.append((row.state is State.DONE, _row(row, progress, now, indent, pad)))
        step = row.single
        child = view.children.get(step.child) if step is not None and step.child else None
        if child is not None:
            body += _rows(view, child, now, indent + "  ")
    if own := tree.progress.get(""):
        body.append((False, Text(f"{indent}{_progress(own)}", "cyan")))
    return body


def _row(row: Row, progress: Progress | None, now: int, indent: str, pad: int) -> Text:
    state = row.state
    mark, style = _MARKS.get(state) or (SPINNER[now // FRAME % len(SPINNER)], "cyan")
    text = Text(indent)
    text.append(mark, style)
    text.append(f" {line(row.name, NAMES):<{pad}}", "dim" if state is State.CANCELLED else "")
    step = row.single
    if step is not None:
        _one(text, step, progress, now)
    else:
        _many(text, row, now)
    if row.undone:
        text.append(f"  {UNDONE}" if step is not None else f"  {UNDONE} {row.undone}", "yellow")
    if row.not_undone:
        text.append(f"  {Undo.FAILED}", "red")
    if row.error and (row.failed or row.retrying or row.not_undone):
        text.append(f"  {line(row.error)}", "yellow" if row.retrying else "red")
    return text


def _one(text: Text, step: Step, progress: Progress | None, now: int) -> None:
    text.append(f"  {duration(step.took or now - step.started_at)}", "dim")
    if step.saved:
        text.append(f"  from the cache, saved {duration(step.saved)}", "dim")
    if step.attempt > 1:
        text.append(f"  attempt {step.attempt}", "yellow")
    if step.state is State.RETRYING:
        text.append(
            f"  next in {duration(step.next_at - now)}" if step.next_at > now else "  next now", "yellow"
        )
    elif progress is not None:
        text.append(f"  {_progress(progress)}", "cyan")


def _many(text: Text, row: Row, now: int) -> None:
    if row.open:
        text.append(f"  {row.ended} ended, {row.total - row.ended} under way")
    else:
        text.append(f"  {bar(row.ended / row.total)}", "green" if row.quiet and not row.failed else "cyan")
        text.append(f"  {row.ended}/{row.total}")
    if row.failed:
        text.append(f"  ✗{row.failed}", "red")
    if row.retrying:
        text.append(f"  ↻{row.retrying}", "yellow")
        if row.next_at > now:
            text.append(f" next in {duration(row.next_at - now)}", "yellow")
    text.append(f"  {duration((row.ended_at if row.quiet else now) - row.started_at)}", "dim")


def _progress(progress: Progress) -> str:
    note = f"  {line(progress.note)}" if progress.note else ""
    if not progress.total:
        return f"{progress.done:g}{note}"
    return f"{bar(progress.done / progress.total, BAR // 2)}  {progress.done:g}/{progress.total:g}{note}"


def bar(share: float, width: int = BAR) -> str:
    """Return a bar of ``width`` characters of which a share is full.

    >>> bar(0.5, 8), bar(2, 4)
    ('━━━━────', '━━━━')
    """
    full = round(min(1.0, max(0.0, share)) * width)
    return "━" * full + "─" * (width - full)


def _waiting(view: View, now: int) -> list[Text]:
    """Say what a run waits for while nothing of it executes."""
    waits, tree = view.waits, view.tree
    if waits is None or tree.settled or waits.steps:
        return []
    lines = [
        Text.assemble(
            ("  ⏸ ", "blue"),
            f"waits for the signal {line(name)!r}",
            (f"   reprise signal {tree.id} {line(name)} VALUE", "dim"),
        )
        for name in waits.signals[:3]
    ]
    lines += [
        Text.assemble(
            ("  ⏸ ", "blue"), f"asks {line(text) or 'a question'}", (f"   reprise answer {tree.id}", "dim")
        )
        for text in waits.questions[:3]
    ]
    if waits.timers:
        due = waits.timers[0]
        lines.append(
            Text.assemble(("  ⏸ ", "blue"), f"waits until {clock_time(due)}, {duration(due - now)} from now")
        )
    return lines


def error_lines(kind: str, message: str, trace: str) -> Sequence[Text]:
    """Return an error with the last lines of its traceback."""
    found = [Text.assemble((line(kind), "bold red"), f": {clean(message)}" if message else "")]
    return [*found, *(Text(f"  {text}", "dim") for text in clean(trace).rstrip().splitlines()[-8:])]
