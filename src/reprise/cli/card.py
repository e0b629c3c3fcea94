"""One run on one page: what ``reprise show`` prints for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
from rich.table import Table
from rich.text import Text

from reprise.cli.moments import ago, duration, local
from reprise.cli.output import clean, line, table
from reprise.cli.paint import error_lines, status
from reprise.cli.session import AGENTS_TAG, FILE_TAG, flag, is_ours
from reprise.cli.tree import Row, State, Step, Tree, Undo
from reprise.kernel.events import Finished
from reprise.kernel.machine import RUN, RunStatus
from reprise.runtime.forking import FORK_OF, RETRY_OF
from reprise.runtime.retrying import RETRIED
from reprise.stores.runs import RunRow, group_name

MANY = 8
"""Steps of one name that are listed one by one; more become one line."""
LONG = 2_000
"""Characters of an input or a result that are shown; ``-o json`` shows all."""

TALL = 24
"""Lines of one that is written with a line for each value."""

_STATES = {
    State.DONE: "green",
    State.FAILED: "red",
    State.RETRYING: "yellow",
    State.CANCELLED: "dim",
    State.RUNNING: "cyan",
}

Part = Table | Sequence[Text]


def card(
    row: RunRow, tree: Tree, children: Sequence[RunRow], waits: str, *, alive: bool, steps: bool, now: int
) -> Iterator[Part]:
    """Yield the parts of the page: head, what it waits for, input, outcome, steps, children, signals."""
    yield _head(row, tree, alive, now)
    if waits:
        yield [Text.assemble(("  not yet  ", "dim"), (line(waits), "yellow"))]
    if tree.started is not None:
        yield call_lines("input", bytes(tree.started.input))
    yield from _outcome(row, tree)
    if tree.rows:
        yield [Text()]
        yield _steps(tree, steps, now, idle=row.owner is None)
    if children:
        yield [Text()]
        yield _children(children, now)
    if tree.signals:
        yield [Text(), *(Text(f"signal {line(name)}  {ago(at, now)}") for at, name in tree.signals[-5:])]


def _head(row: RunRow, tree: Tree, alive: bool, now: int) -> list[Text]:
    end = tree.ended_at or now
    began = row.created_at if tree.generation else tree.started_at
    facts = [
        ("started", f"{local(began)}  ({ago(began, now)})"),
        ("took", duration(end - began) + ("" if tree.ended_at else " so far")),
        (
            "history",
            f"{tree.events} events" + (f", taken over {tree.takeovers - 1}×" if tree.takeovers > 1 else ""),
        ),
    ]
    if tree.generation:
        since = f"{local(tree.started_at)}  ({ago(tree.started_at, now)})"
        facts.insert(2, ("goes on", f"as generation {tree.generation} since {since}"))
    if row.owner:
        facts.append(("owner", f"worker {row.owner}" + ("" if alive else ", which no longer answers")))
    if row.due_at and row.status not in RUN.final:
        facts.append(("due", f"{ago(row.due_at, now)}  ({local(row.due_at)})"))
    if tree.started is not None and tree.started.deadline:
        facts.append(("deadline", f"{local(tree.started.deadline)}  ({ago(tree.started.deadline, now)})"))
    if row.parent:
        facts.append(("parent", line(row.parent)))
    elif before := row.tags.get(RETRY_OF):
        facts.append(("retry of", line(str(before))))
    elif before := row.tags.get(FORK_OF):
        facts.append(("fork of", line(str(before))))
    if row.build:
        facts.append(("build", line(row.build)))
    if row.slots:
        facts.append(("limits", line(", ".join(map(str, row.slots)))))
    if file := row.tags.get(FILE_TAG):
        facts.append(("file", line(str(file))))
    if agents := row.tags.get(AGENTS_TAG):
        facts.append(("agents", line(str(agents))))
    if tags := [f"{name}={group_name(row.tags[name])}" for name in sorted(row.tags) if not is_ours(name)]:
        facts.append(("tags", line("  ".join(tags))))
    head = Text.assemble((line(row.workflow), "bold"), "  ", line(row.id), "  ", status(row.status))
    return [head, *(Text.assemble((f"  {name:<9}", "dim"), text) for name, text in facts)]


def call_lines(name: str, input: bytes) -> list[Text]:
    """Return the arguments of a call, without the part that is empty."""
    args, kwargs = msgspec.json.decode(input, type=tuple[msgspec.Raw, msgspec.Raw])
    call = bytes(kwargs) if bytes(args) == b"[]" else bytes(args) if bytes(kwargs) == b"{}" else input
    return _value(name, call)


def _value(name: str, data: bytes) -> list[Text]:
    text = msgspec.json.format(data, indent=-1).decode()
    if len(text) > 60 and (pretty := msgspec.json.format(data, indent=2).decode()).count("\n") < TALL:
        text = pretty
    more = f" … {len(text) - LONG} characters more: -o json" if len(text) > LONG else ""
    first, *rest = clean(text[:LONG] + more).splitlines() or [""]
    return [Text.assemble((f"  {name:<9}", "dim"), first), *(Text(f"  {'':<9}{each}") for each in rest)]


def _outcome(row: RunRow, tree: Tree) -> Iterator[Part]:
    finished = tree.finished
    if finished is None:
        if row.warning:
            yield [Text.assemble(("  note     ", "dim"), (line(row.warning), "yellow"))]
        why = row.error or tree.reason
        if why:
            yield [Text.assemble(("  why      ", "dim"), (line(why), "yellow"))]
    else:
        yield outcome_lines(finished)


def outcome_lines(finished: Finished) -> list[Text]:
    """Return how a run ended."""
    if finished.status == RunStatus.COMPLETED:
        return _value("result", bytes(finished.value))
    error = finished.error
    return [Text(), *error_lines(error.type, error.message, error.traceback)] if error is not None else []


def _steps(tree: Tree, each: bool, now: int, *, idle: bool) -> Table:
    """Return the table of steps; ``idle`` = nobody executes any."""
    made = table(
        "step", "state", "took", "at", "attempts", "note", right=("took", "at", "attempts"), fold="note"
    )
    for row in tree.rows.values():
        if not row.steps:
            continue
        listed = each or len(row.steps) <= MANY
        for step in row.steps.values() if listed else ():
            made.add_row(*_step(step, tree, now, idle=idle))
        if not listed:
            made.add_row(*_folded(row, tree, now))
    return made


def _step(step: Step, tree: Tree, now: int, *, idle: bool) -> list[Text]:
    took = step.took if step.ended_at else now - step.started_at
    progress = tree.progress.get(step.key) if not step.ended_at else None
    note = step.error or (f"from the cache, saved {duration(step.saved)}" if step.saved else "")
    if tree.started is not None and tree.started.fork is not None and step.key in tree.started.fork.edited:
        note = f"edited, as a fork of {tree.started.fork.run}" + (f": {note}" if note else "")
    if progress is not None and not note:
        note = f"{progress.done:g}/{progress.total or 0:g} {progress.note}"
    if step.undo is Undo.DONE:
        undone = f"undone at +{duration(step.undo_at - tree.started_at)}"
        note = f"{undone}; {note}" if note else undone
    name = line(step.name) + (
        "" if step.key.startswith((":", "/")) or step.key == step.name else f" [{line(step.key)}]"
    )
    return [
        Text(name),
        _state(step, idle=idle),
        Text(duration(took), "dim"),
        Text(f"+{duration(step.started_at - tree.started_at)}", "dim"),
        Text(str(step.attempt) if step.attempt > 1 else "", "yellow"),
        Text(line(note), "dim"),
    ]


def _state(step: Step, *, idle: bool) -> Text:
    """Return what became of a step, and whether it was undone."""
    if idle and step.intended and step.state is State.RUNNING:
        return Text("in doubt", "red")
    state = Text(step.state, _STATES[step.state])
    if step.undo:
        state.append(f", {step.undo}", "yellow" if step.undo is Undo.DONE else "red")
    return state


def _folded(row: Row, tree: Tree, now: int) -> list[Text]:
    failed = f", {row.failed} failed" if row.failed else ""
    failed += f", {row.undone} {Undo.DONE}" if row.undone else ""
    failed += f", {row.not_undone} {Undo.FAILED}" if row.not_undone else ""
    cached = f"{row.cached} from the cache" if row.cached else ""
    end = row.ended_at if row.quiet else now
    tried = max(step.attempt for step in row.steps.values())
    return [
        Text(f"{line(row.name)} ×{len(row.steps)}"),
        Text(f"{row.ended} ended{failed}", _STATES[row.state]),
        Text(duration(end - row.started_at), "dim"),
        Text(f"+{duration(row.started_at - tree.started_at)}", "dim"),
        Text(f"≤{tried}" if tried > 1 else "", "yellow"),
        Text(line(row.error) or cached, "dim"),
    ]


def _children(children: Sequence[RunRow], now: int) -> Table:
    made = table("child run", "workflow", "status", "started", "note", fold="note")
    for child in children[:50]:
        made.add_row(
            Text(line(child.id)),
            Text(line(child.workflow)),
            status(child.status),
            Text(ago(child.created_at, now), "dim"),
            Text(line(child.error), "dim"),
        )
    return made


def next_commands(row: RunRow, tree: Tree, store: str | None) -> list[str]:
    """Return the commands that make sense for a run in its state."""
    run, where = line(row.id), flag(store)
    history = [f"reprise events {run}{where}", f"reprise logs {run}{where}"]
    if row.status in RUN.final:
        many = any(len(each.steps) > MANY for each in tree.rows.values())
        fresh = " --fresh" if tree.undoes else ""  # what was undone cannot be gone on from
        again = [f"reprise retry {run}{fresh}{where}"] if row.status in RETRIED and row.parent is None else []
        return again + ([f"reprise show {run} --steps{where}"] if many else []) + history
    if row.status in (RunStatus.PAUSED, RunStatus.STRANDED, RunStatus.NEEDS_ATTENTION):
        if any(step.intended for step in tree.steps):
            history.insert(0, f"reprise effects {run}{where}")
        return [f"reprise resume {run}{where}", f"reprise cancel {run}{where}", *history]
    commands = [
        f"reprise cancel {run}{where}",
        f"reprise pause {run}{where}",
        f"reprise signal {run} NAME VALUE{where}",
    ]
    if row.owner is None:
        commands.insert(0, f"reprise resume {run}{where}")
    return [*commands, history[0] + " -f"]
