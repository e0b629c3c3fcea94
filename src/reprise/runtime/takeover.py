"""Taking runs over: own by an append, then replay. And saying why a run cannot go on here.

The append that takes a run holds only if nobody wrote since its history was read, so what was read is all there is;
from then on the owner before is fenced off, whatever it still believes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from reprise.kernel.errors import AppendRefused, NonDeterminismError, RepriseError, RunNeedsAttention
from reprise.kernel.events import (
    Event,
    Finished,
    Kind,
    Owned,
    Stranded,
    inbox_stream,
    run_stream,
)
from reprise.kernel.failures import encode_error
from reprise.runtime.execution import Execution
from reprise.runtime.history import POISON, History, read_history
from reprise.runtime.workflow import Workflow
from reprise.stores.log import Group, Head, RunChange, append
from reprise.stores.runs import RunRow

if TYPE_CHECKING:
    from reprise.runtime.engine import Engine


async def take_over(engine: Engine, row: RunRow) -> Execution | None:
    """Own a run and let it go on; None when somebody else was faster or the run cannot go on here.

    A run that cannot is marked so: stranded (unknown workflow, other code), paused, needs_attention.
    """
    workflow = engine.registry.get(row.workflow)
    try:
        if workflow is None:
            await _unknown(engine, row)
            return None
        return await _take(engine, row, workflow)
    except AppendRefused:
        return None


async def _take(engine: Engine, row: RunRow, workflow: Workflow[..., Any]) -> Execution | None:
    log, stream = engine.store.log, run_stream(row.id)
    head = await log.head(stream)
    if head.closed or not head.version or head.token != row.token:
        return None  # it has ended, or another worker took it since the row was read
    history = read_history(row.id, await log.read(stream))
    mail = await log.read(inbox_stream(row.id))
    resumed = [m.key for m in mail if m.kind == Kind.RESUME_SENT and m.key not in history.seen]
    if history.owned >= POISON and not resumed:
        await _needs_attention(engine, row, head)
        return None
    if history.paused and not resumed:
        await _release(engine, row.id, head, status="paused", owner=None, due_at=None)
        return None
    owner = await _own(engine, row.id, head, history, resumed)
    try:
        return engine.enter(workflow, row.id, owner.token, history, bool(mail))
    except NonDeterminismError as error:
        await _release(engine, row.id, owner, status="stranded", owner=None, due_at=None, error=str(error))
        return None


async def _own(engine: Engine, run: str, head: Head, history: History, resumed: Sequence[str]) -> Head:
    """Append the take-over; bring ``history`` up to date and return where the stream is then."""
    token, now = head.token + 1, max(engine.now(), history.at)
    owned = Owned(engine.worker, token, 1 if resumed else history.owned + 1)
    events = [Event(Kind.RUN_OWNED, now, "", msgspec.json.encode(owned))]
    events += [Event(Kind.RUN_RESUMED, now, key) for key in resumed]
    status = "cancelling" if history.cancelling else "running"
    change = RunChange(run, status, owner=engine.worker, due_at=None, error="", at=now)
    group = Group(run_stream(run), events, history.version, token, takes=True, run=change)
    await append(engine.store.log, engine.numbers.new(), group)
    engine.observe(run, events)
    history.version += len(events)
    history.at = now
    history.seen.update(resumed)
    engine.counters["taken"] += 1
    return Head(history.version, token)


async def _unknown(engine: Engine, row: RunRow) -> None:
    """Make visible that nobody here can execute the run; it stays due for those who can."""
    if row.status == "stranded" and row.error:
        return
    head = await engine.store.log.head(run_stream(row.id))
    reason = f"workflow {row.workflow!r} is not known to worker {engine.worker}"
    await _release(engine, row.id, head, status="stranded", owner=None, error=reason)


async def _needs_attention(engine: Engine, row: RunRow, head: Head) -> None:
    reason = f"taken over {POISON} times without progress: it may kill its workers"
    await _release(engine, row.id, head, status="needs_attention", owner=None, due_at=None, error=reason)
    engine.tell(row.id, Finished("needs_attention", error=encode_error(RunNeedsAttention(reason))))


async def _release(engine: Engine, run: str, head: Head, **fields: Any) -> None:
    """Change the index row of a run, if the run is still where we saw it."""
    change = RunChange(run, at=engine.now(), **fields)
    group = Group(run_stream(run), (), head.version, head.token, run=change)
    await append(engine.store.log, engine.numbers.new(), group)
    engine.store.signal.wake([run_stream(run)])


async def strand(engine: Engine, execution: Execution, error: RepriseError) -> None:
    """Give back a run whose history this code cannot replay; nothing of it was executed."""
    note = Event(
        Kind.RUN_STRANDED, engine.now(), "", msgspec.json.encode(Stranded(str(error), engine.worker))
    )
    change = RunChange(
        execution.id,
        "stranded",
        owner=None,
        due_at=None,
        error=str(error)[:500],
        build=engine.build,
        at=note.at,
    )
    group = Group(execution.stream, [note], execution.version, execution.token, run=change)
    try:
        await append(engine.store.log, engine.numbers.new(), group)
    except AppendRefused:
        return
    engine.observe(execution.id, [note])
    engine.tell(execution.id, Finished("stranded", error=encode_error(error)))
    engine.store.signal.wake([run_stream(execution.id)])
