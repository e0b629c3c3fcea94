"""Leaving memory without having ended: runs that only wait, runs that are paused, runs that are given to others.

A run that left is due again at its next timer, when mail comes, or at once. It comes back by replay.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from reprise.kernel.clock import MICROSECONDS
from reprise.kernel.errors import AppendRefused, StaleVersion, StoreError
from reprise.kernel.events import Kind, inbox_stream, run_stream
from reprise.kernel.machine import RunStatus
from reprise.runtime.execution import Execution
from reprise.runtime.history import DEADLINE
from reprise.stores.log import Append, Group, RunChange, enlist, written

if TYPE_CHECKING:
    from reprise.runtime.engine import Engine


def due_at(execution: Execution) -> int | None:
    """Return when somebody must look at a run although no mail came, microseconds."""
    due = [round(handle.due * MICROSECONDS) for handle in execution.loop.timers.values()]
    if execution.started.deadline and DEADLINE not in execution.seen:
        due.append(execution.started.deadline)
    return min(due, default=None)


async def park(
    engine: Engine, executions: Iterable[Execution], *, in_line: bool = False, attention: str = ""
) -> int:
    """Let waiting runs go from memory, but those to which mail came meanwhile; return how many went.

    With ``in_line`` they wait for their places; with ``attention``, which says what for, for a person.
    """
    leaving = [
        Leaving(engine, execution, in_line, attention)
        for execution in executions
        if execution.live and execution.idle and not execution.done
    ]
    if not leaving:
        return 0
    await written(engine.store.log, [one.append for one in leaving])
    left = sum([one.settle() for one in leaving])
    engine.counters["parked"] += left
    for one in leaving:
        if isinstance(one.append.error, StoreError) and not isinstance(one.append.error, AppendRefused):
            raise one.append.error
    return left


async def show_resting(engine: Engine, executions: Iterable[Execution]) -> None:
    """Show runs in memory as waiting; they are still ours."""
    shown: list[tuple[Execution, Append]] = []
    for execution in executions:
        execution.rests = True
        change = RunChange(execution.id, execution.resting(RunStatus.WAITING), at=engine.now())
        group = Group(execution.stream, (), token=execution.token, run=change)
        shown.append((execution, Append(engine.numbers.new(), (group,))))
    if not shown:
        return
    await written(engine.store.log, [append for _, append in shown])
    for execution, append in shown:
        if isinstance(append.error, AppendRefused):
            execution.lose(append.error)  # another worker owns it


class Leaving:
    """A run on its way out of memory."""

    __slots__ = ("_due", "_engine", "_execution", "_version", "append")

    def __init__(self, engine: Engine, execution: Execution, in_line: bool, attention: str = "") -> None:
        self._engine, self._execution = engine, execution
        self._due, self._version = due_at(execution), execution.version
        status = execution.resting(RunStatus.PENDING if in_line else RunStatus.WAITING)
        change = RunChange(execution.id, status, owner=None, due_at=self._due, at=engine.now())
        if in_line:
            change.in_line = True
        elif attention:
            change.status, change.error = RunStatus.NEEDS_ATTENTION, attention
        rest = Group(execution.stream, (), execution.version, execution.token, run=change)
        inbox = Group(inbox_stream(execution.id), (), execution.inbox_version)
        self.append = Append(engine.numbers.new(), (rest, inbox))

    def settle(self) -> bool:
        """Do what the outcome of the append says; return whether the run left."""
        engine, execution, error = self._engine, self._execution, self.append.error
        if execution.done:
            return False
        if isinstance(error, StaleVersion):
            engine.post.bring(execution.id)
            return False
        if error is not None:
            if isinstance(error, AppendRefused):
                execution.lose(error)  # another worker owns it
            return False
        if not execution.idle or execution.version != self._version:
            # It went on meanwhile. It stays due, for mail may have made it so.
            execution.alter(status=RunStatus.RUNNING, owner=engine.worker)
            return False
        execution.evict()
        engine.ended_quietly(execution)
        engine.on_parked(self._due)
        return True


async def settle(execution: Execution) -> None:
    """Let a run start nothing more and wait until what executes is recorded."""
    execution.holding = True
    await all_recorded(execution)


async def all_recorded(execution: Execution) -> None:
    """Wait until nothing of a run executes and what came of it is durable."""
    while (execution.in_flight or execution.out or execution.acks) and not (
        execution.done or execution.finishing
    ):
        await execution.news()


async def pause(engine: Engine, execution: Execution, mail: str) -> None:
    """Let what executes be recorded, then let the run rest until somebody resumes it."""
    await settle(execution)
    if execution.done or execution.finishing:
        return
    execution.record(Kind.RUN_PAUSED, mail)
    # Due once more: a wish to resume may have come while we settled.
    execution.alter(status=RunStatus.PAUSED, owner=None, due_at=engine.now())
    final = execution.take(engine.numbers.new())
    assert final is not None
    execution.evict()
    engine.ended_quietly(execution)
    try:
        await enlist(engine.store.log, [final])
    except AppendRefused:
        engine.counters["lost"] += 1
    except StoreError:
        engine.orphans.add(execution.id)
        raise
    else:
        engine.observe(execution.id, final.groups[0].events)
    engine.store.signal.wake([run_stream(execution.id), "runs"])


async def give_back(engine: Engine) -> None:
    """Record what there is to record, let others take all runs, and leave memory."""
    releases: list[Append] = []
    for execution in list(engine.executions.values()):
        while execution.finishing and execution.unchained and not execution.done:
            await execution.news()  # its end waits for what it said before
    for execution in list(engine.executions.values()):
        if not execution.done and (execution.wish is not None or not execution.finishing):
            execution.alter(owner=None, due_at=engine.now(), status=execution.resting(RunStatus.PENDING))
        final = execution.take(engine.numbers.new())
        if final is not None:
            releases.append(final)
    if releases:
        try:
            await enlist(engine.store.log, releases)
        except StoreError:
            engine.counters["lost"] += 1  # others take them when our lease ends
    for execution in list(engine.executions.values()):
        execution.evict()
        engine.ended_quietly(execution)
