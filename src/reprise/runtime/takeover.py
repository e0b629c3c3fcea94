"""Taking runs over: own by an append, then replay. And saying why a run cannot go on here.

The append that takes a run holds only if nobody wrote since its history was read, so what was read is all there is;
from then on the owner before is fenced off, whatever it still believes.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec

from reprise.kernel.errors import (
    AppendRefused,
    KeyMissing,
    NonDeterminismError,
    NoRoom,
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
from reprise.kernel.limit import Slot
from reprise.kernel.machine import RunStatus
from reprise.runtime.execution import Execution
from reprise.runtime.forking import LINEAGE
from reprise.runtime.history import POISON, History, owned_by, read_history, wishes
from reprise.runtime.places import lasting
from reprise.runtime.starting import PYTHON, next_token
from reprise.runtime.workflow import Workflow
from reprise.stores.log import Group, Head, RunChange, append
from reprise.stores.runs import RunRow, find_row

if TYPE_CHECKING:
    from reprise.runtime.engine import Engine


async def take_over(engine: Engine, row: RunRow) -> Execution | None:
    """Own a run and let it go on; None when somebody else was faster or the run cannot go on here.

    A run that cannot is marked so: stranded (unknown workflow, other code), paused, needs_attention.

    Raises:
        NoRoom: it stands in line, and there is no room yet.
    """
    workflow = engine.registry.get(row.workflow, row.id)
    if row.id in engine.unreadable and row.status == RunStatus.STRANDED:
        return None
    try:
        if workflow is None:
            await point_out(engine, row, engine.registry.why_not(row.workflow, engine.worker))
            return None
        return await _take(engine, row, workflow)
    except NoRoom:
        raise
    except AppendRefused:
        return None


async def _take(engine: Engine, row: RunRow, workflow: Workflow[..., Any]) -> Execution | None:
    log, stream = engine.store.log, run_stream(row.id)
    try:
        if not (records := await log.read(stream, row.since)):
            return None  # it was dropped
        history = read_history(row.id, records)
        if history.finished is not None:
            return None
        # Should another worker have taken it since the row was read, the token is not right, and nothing is written.
        head = Head(history.version, row.token)
        history.warned = bool(row.warning)
        history.tags = row.tags
        poisoned = history.owned >= POISON
        consumed = history.continued.inbox if history.continued is not None else 0
        asks = poisoned or history.paused or history.not_undone
        mail = await log.read(inbox_stream(row.id), consumed) if asks else []
    except StoreCorrupt as error:
        await _needs_attention(engine, row, await log.head(stream), str(error))
        return None
    except KeyMissing as error:
        await _unreadable(engine, row, await log.head(stream), str(error))
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
    if (
        not LINEAGE.isdisjoint(row.tags)
        and not (head.token or row.slots)
        and await _lines_up(engine, row, head, history, workflow)
    ):
        return None
    owner, seated = await _own_with_places(engine, row, head, history, resumed)
    if engine.build and row.build != engine.build:
        engine.foreign.add(row.id)
    slots = engine.registry.today(row.slots)
    try:
        # From the take-over on the run is not due, so mail that came before it is looked for after it.
        return engine.enter(
            workflow,
            row.id,
            owner.token,
            history,
            has_mail=True,
            slots=lasting(slots) if seated else slots,
            seated=seated,
        )
    except NonDeterminismError as error:
        await _give_up(engine, row.id, owner, engine.payloads.text(str(error)))
        return None


async def _lines_up(
    engine: Engine, row: RunRow, head: Head, history: History, workflow: Workflow[..., Any]
) -> bool:
    """Let a fork that nobody had yet stand in line for what its workflow's limits say.

    Who starts it has no code to ask, and the index forgets the places of a run that has ended.
    """
    try:
        args, kwargs = workflow.arguments.decode(bytes(history.started.input))
        slots = engine.registry.slots(workflow, args, kwargs, row.tags)
    except Exception as error:
        await point_out(engine, row, engine.payloads.text(f"its limits cannot be told: {error}"))
        return True
    if slots:
        due_at = history.started.deadline or None
        await _release(engine, row.id, head, slots=slots, in_line=True, due_at=due_at)
        engine.store.signal.wake(["runs"])
    return bool(slots)


async def _own_with_places(
    engine: Engine, row: RunRow, head: Head, history: History, resumed: Sequence[str]
) -> tuple[Head, bool]:
    """Own a run, if it may with the places that it needs; return where its stream is then, and whether it has them.

    Mail, and timers that are due, are looked at without places: they may say that the run shall end. One that its dead
    owner left may have its places still.
    """
    slots = engine.registry.today(row.slots)
    is_due = row.due_at is not None and row.due_at <= engine.now()
    if not slots:
        return await _own(engine, row, head, history, resumed), True
    if row.in_line and not is_due:
        return await _own(engine, row, head, history, resumed, slots), True
    if row.owner is not None:
        with suppress(NoRoom):
            return await _own(engine, row, head, history, resumed, slots), True
    return await _own(engine, row, head, history, resumed), False


async def _own(
    engine: Engine,
    row: RunRow,
    head: Head,
    history: History,
    resumed: Sequence[str],
    slots: tuple[Slot, ...] = (),
) -> Head:
    """Append the take-over; bring ``history`` up to date and return where the stream is then."""
    run, token, now = row.id, next_token(engine, head.token), max(engine.now(), history.at)
    # A run that was given back (parked, drained, stranded), or that we lost by our store's fault, killed nobody.
    # Nor did one that only waited.
    died = row.owner not in (None, engine.worker) and row.status != RunStatus.WAITING and not resumed
    owned = Owned(engine.worker, token, history.owned + 1 if died else 1, engine.build)
    history.owned = owned.attempt
    owned_by(history, engine.build)
    events = [Event(Kind.RUN_OWNED, now, "", msgspec.json.encode(owned))]
    events += [Event(Kind.RUN_RESUMED, now, key) for key in resumed]
    status = RunStatus.CANCELLING if history.cancelling else RunStatus.RUNNING
    change = RunChange(run, status, owner=engine.worker, due_at=None, error="", at=now)
    group = Group(run_stream(run), events, history.version, token, takes=True, run=change)
    if slots:
        group.slots, change.slots = slots, lasting(slots)
    await append(engine.store.log, engine.numbers.new(), group)
    engine.observe(run, events)
    history.version += len(events)
    history.at = now
    history.began = history.began or now
    history.seen.update(dict.fromkeys(resumed))
    engine.counters["taken"] += 1
    return Head(history.version, token)


async def point_out(engine: Engine, row: RunRow, reason: str) -> None:
    """Make visible that nobody here can execute the run; it stays due, or in its line, for those who can."""
    if row.status == RunStatus.STRANDED and row.error:
        return
    head = await engine.store.log.head(run_stream(row.id))
    due_at = engine.now() if row.due_at is None and not row.in_line else row.due_at
    await _release(
        engine, row.id, head, status=RunStatus.STRANDED, owner=None, due_at=due_at, error=reason[:500]
    )


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
    """Change the index row of a run, if it is still where we saw it, and its inbox at version ``inbox``, if given.

    Whoever had it is fenced off: it may only have stood still, and would go on with a run that nobody looks after then.
    """
    change = RunChange(run, at=engine.now(), **fields)
    token = next_token(engine, head.token) if head.token else 0
    groups = [Group(run_stream(run), (), head.version, token, takes=bool(token), run=change)]
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
    try:
        await _give_up(engine, execution.id, Head(execution.version, execution.token), reason)
    except StoreError as failure:
        if not isinstance(failure, AppendRefused):
            engine.orphans.add(execution.id)
        engine.tell(execution.id, None)


async def _give_up(engine: Engine, run: str, head: Head, reason: str) -> None:
    """Note that this build cannot replay a run, and leave it to others.

    A worker of another named build may be able to; so the run is shown as stranded only when none took it for a while
    (:func:`point_out`). Where builds have no names nobody could tell who has tried, and it is shown at once.
    """
    engine.foreign.discard(run)
    now = engine.now()
    note = Event(
        Kind.RUN_STRANDED, now, "", msgspec.json.encode(Stranded(reason, engine.worker, engine.build))
    )
    change = RunChange(run, RunStatus.STRANDED, owner=None, due_at=None, error=reason[:500], at=now)
    if engine.build:
        row = await find_row(engine.store.runs, run)
        known = row.refused if row is not None else ()
        change.status, change.due_at, change.refused = RunStatus.PENDING, now, (*known, engine.build)
    group = Group(run_stream(run), [note], head.version, head.token, run=change)
    await append(engine.store.log, engine.numbers.new(), group)
    engine.observe(run, [note])
    stranded = Finished(RunStatus.STRANDED, error=encode_error(RunStranded(reason)))
    engine.tell(run, None if engine.build else stranded)
    engine.store.signal.wake([run_stream(run), "runs"])
