"""Taking runs over: own by an append, then replay. And saying why a run cannot go on here.

The append that takes a run holds only if nobody wrote since its history was read, so what was read is all there is;
from then on the owner before is fenced off, whatever it still believes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from reprise.kernel.errors import (
    AppendRefused,
    KeyMissing,
    NonDeterminismError,
    RepriseError,
    RunNeedsAttention,
    RunStranded,
    StoreCorrupt,
    StoreError,
)
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
from reprise.kernel.machine import RunStatus
from reprise.runtime.execution import Execution
from reprise.runtime.history import POISON, History, read_history, wishes
from reprise.runtime.starting import PYTHON, next_token
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
    if row.id in engine.unreadable and row.status == RunStatus.STRANDED:
        return None
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
    try:
        history = read_history(row.id, await log.read(stream, row.since))
        history.warned = bool(row.warning)
        history.tags = row.tags
        poisoned = history.owned >= POISON
        consumed = history.continued.inbox if history.continued is not None else 0
        mail = await log.read(inbox_stream(row.id), consumed) if poisoned or history.paused else []
    except StoreCorrupt as error:
        await _needs_attention(engine, row, head, str(error))
        return None
    except KeyMissing as error:
        await _unreadable(engine, row, head, str(error))
        return None
    resumed = wishes(history, mail)
    if poisoned and not resumed:
        reason = f"taken over {POISON} times without progress: it may kill its workers"
        await _needs_attention(engine, row, head, reason, mail[-1].version if mail else consumed)
        return None
    if history.paused and not resumed:
        inbox = mail[-1].version if mail else consumed
        await _release(engine, row.id, head, inbox, status=RunStatus.PAUSED, owner=None, due_at=None)
        return None
    owner = await _own(engine, row, head, history, resumed)
    try:
        # From the take-over on the run is not due, so mail that came before it is looked for after it.
        return engine.enter(workflow, row.id, owner.token, history, has_mail=True)
    except NonDeterminismError as error:
        await _release(
            engine, row.id, owner, status=RunStatus.STRANDED, owner=None, due_at=None, error=str(error)
        )
        return None


async def _own(engine: Engine, row: RunRow, head: Head, history: History, resumed: Sequence[str]) -> Head:
    """Append the take-over; bring ``history`` up to date and return where the stream is then."""
    run, token, now = row.id, next_token(engine, head.token), max(engine.now(), history.at)
    # A run that was given back (parked, drained, stranded), or that we lost by our store's fault, killed nobody.
    # Nor did one that only waited.
    died = row.owner not in (None, engine.worker) and row.status != RunStatus.WAITING and not resumed
    owned = Owned(engine.worker, token, history.owned + 1 if died else 1)
    history.owned = owned.attempt
    events = [Event(Kind.RUN_OWNED, now, "", msgspec.json.encode(owned))]
    events += [Event(Kind.RUN_RESUMED, now, key) for key in resumed]
    status = RunStatus.CANCELLING if history.cancelling else RunStatus.RUNNING
    change = RunChange(run, status, owner=engine.worker, due_at=None, error="", at=now)
    group = Group(run_stream(run), events, history.version, token, takes=True, run=change)
    await append(engine.store.log, engine.numbers.new(), group)
    engine.observe(run, events)
    history.version += len(events)
    history.at = now
    history.began = history.began or now
    history.seen.update(dict.fromkeys(resumed))
    engine.counters["taken"] += 1
    return Head(history.version, token)


async def _unknown(engine: Engine, row: RunRow) -> None:
    """Make visible that nobody here can execute the run; it stays due for those who can."""
    if row.status == RunStatus.STRANDED and row.error:
        return
    head = await engine.store.log.head(run_stream(row.id))
    reason = f"workflow {row.workflow!r} is not known to worker {engine.worker}"
    await _release(engine, row.id, head, status=RunStatus.STRANDED, owner=None, error=reason)


async def _unreadable(engine: Engine, row: RunRow, head: Head, reason: str) -> None:
    """Make visible that this worker lacks the key to the run's history; it stays due for those who have it."""
    engine.unreadable.add(row.id)
    rest: dict[str, Any] = {"status": RunStatus.STRANDED, "owner": None, "due_at": engine.now()}
    await _release(engine, row.id, head, error=reason[:500], **rest)


async def _needs_attention(
    engine: Engine, row: RunRow, head: Head, reason: str, inbox: int | None = None
) -> None:
    rest: dict[str, Any] = {"status": "needs_attention", "owner": None, "due_at": None, "error": reason[:500]}
    await _release(engine, row.id, head, inbox, **rest)
    engine.tell(row.id, Finished(RunStatus.NEEDS_ATTENTION, error=encode_error(RunNeedsAttention(reason))))


async def _release(engine: Engine, run: str, head: Head, inbox: int | None = None, **fields: Any) -> None:
    """Change the index row of a run, if it is still where we saw it, and its inbox at version ``inbox``, if given."""
    change = RunChange(run, at=engine.now(), **fields)
    groups = [Group(run_stream(run), (), head.version, head.token, run=change)]
    if inbox is not None:
        groups.append(Group(inbox_stream(run), (), inbox))
    await append(engine.store.log, engine.numbers.new(), *groups)
    engine.store.signal.wake([run_stream(run)])


async def strand(engine: Engine, execution: Execution, error: RepriseError) -> None:
    """Give back a run whose history this code cannot replay; nothing of it was executed."""
    reason = str(error)
    if execution.started.python != PYTHON:
        reason += f" It was started under Python {execution.started.python}, this is {PYTHON}."
    reason = engine.payloads.text(reason)
    note = Event(Kind.RUN_STRANDED, engine.now(), "", msgspec.json.encode(Stranded(reason, engine.worker)))
    change = RunChange(
        execution.id,
        RunStatus.STRANDED,
        owner=None,
        due_at=None,
        error=reason[:500],
        build=engine.build,
        at=note.at,
    )
    group = Group(execution.stream, [note], execution.version, execution.token, run=change)
    try:
        await append(engine.store.log, engine.numbers.new(), group)
    except StoreError as failure:
        if not isinstance(failure, AppendRefused):
            engine.orphans.add(execution.id)
        engine.tell(execution.id, None)
        return
    engine.observe(execution.id, [note])
    engine.tell(execution.id, Finished(RunStatus.STRANDED, error=encode_error(RunStranded(reason))))
    engine.store.signal.wake([run_stream(execution.id)])
