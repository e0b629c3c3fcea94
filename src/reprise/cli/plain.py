"""The tree of a run where nobody watches: a line per change, fan-outs folded, few lines however long the run."""

from __future__ import annotations

from reprise.cli.moments import clock_time, duration
from reprise.cli.output import line
from reprise.cli.tree import Row, State, Tree, Undo
from reprise.kernel.clock import MICROSECONDS

FIRST_PAUSE = MICROSECONDS
"""Least time between the first two lines about a fan-out; it doubles with each line."""
_WORDS = {
    State.DONE: "done",
    State.FAILED: "FAILED",
    State.CANCELLED: "cancelled",
    State.RETRYING: "retrying",
}


class Lines:
    """What was said of each tree, so that only changes are said."""

    def __init__(self) -> None:
        self._status: dict[str, str] = {}
        self._said: dict[tuple[str, str], tuple[int, ...]] = {}
        self._next: dict[tuple[str, str], tuple[int, int]] = {}
        """When to speak of a row again, and the pause after that."""

    def changes(self, tree: Tree, now: int) -> list[str]:
        """Return lines about what changed since the last call."""
        lines: list[str] = []
        if tree.started is not None and self._status.get(tree.id) != tree.status:
            self._status[tree.id] = tree.status
            if not tree.settled:
                why = f": {line(tree.reason)}" if tree.reason else ""
                lines.append(_line(now, tree.id, f"{line(tree.started.workflow)} {tree.status}{why}"))
        lines += [
            _line(now, tree.id, describe(row)) for row in tree.rows.values() if self._worth(tree, row, now)
        ]
        return lines

    def _worth(self, tree: Tree, row: Row, now: int) -> bool:
        """Tell whether a row changed so that it is said, and note that it is."""
        place = (tree.id, row.name)
        step = row.single
        tried = step.attempt if step is not None else row.retrying
        state = (row.ended, row.failed, tried, row.quiet, row.undone, row.not_undone)
        before = self._said.get(place)
        silent = step is not None and row.state is State.RUNNING
        if silent or state == before or not (row.ended or row.retrying):
            return False
        due, pause = self._next.get(place, (row.started_at + FIRST_PAUSE, FIRST_PAUSE))
        first = (row.quiet and not (before and before[3])) or bool(row.failed and not (before and before[1]))
        if not (step is not None or first or tree.settled or now >= due):
            return False
        self._said[place] = state
        self._next[place] = (now + pause, pause * 2)
        return True


def describe(row: Row) -> str:
    """Return what there is to say of a row."""
    step = row.single
    told = row.failed or row.retrying or row.not_undone
    error = f"  {line(row.error)}" if row.error and told else ""
    if step is None:
        counts = f"{row.ended} ended" if row.open else f"{row.ended}/{row.total}"
        counts += f"  {row.failed} failed" if row.failed else ""
        counts += f"  {row.retrying} retrying" if row.retrying else ""
        counts += f"  {row.cached} from the cache" if row.cached else ""
        counts += f"  {row.undone} {Undo.DONE}" if row.undone else ""
        counts += f"  {row.not_undone} {Undo.FAILED}" if row.not_undone else ""
        took = f"  {duration(row.ended_at - row.started_at)}" if row.quiet else ""
        return f"{line(row.name)}  {counts}{took}{error}"
    if step.undo:
        return f"{line(row.name)}  {step.undo}{error if step.undo is Undo.FAILED else ''}"
    attempt = f"  attempt {step.attempt}" if step.attempt > 1 else ""
    if step.state is State.RETRYING:
        return (
            f"{line(row.name)}  attempt {step.attempt - 1} failed, next at {clock_time(step.next_at)}{error}"
        )
    took = f"from the cache, saved {duration(step.saved)}" if step.saved else duration(step.took)
    return f"{line(row.name)}  {_WORDS.get(step.state, step.state)}  {took}{attempt}{error}"


def _line(now: int, run: str, text: str) -> str:
    return f"{clock_time(now)}  {run}  {text}"
