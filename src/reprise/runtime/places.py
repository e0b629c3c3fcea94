"""The places of limited runs in memory: given back while a run only waits, taken again before it executes a step.

Who has no place may still think: its body takes signals, timers and the ends of children. Only when it asks for a step
does it need its places; and when others have them, it leaves memory and stands in line. What the keeper writes is all
there is: a place belongs to a run, not to its worker, so one that was killed takes none along.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from reprise.kernel.errors import NoRoom, StoreError
from reprise.kernel.limit import Slot
from reprise.kernel.machine import RunStatus
from reprise.runtime.execution import Execution
from reprise.runtime.parking import park
from reprise.stores.log import Append, Group, RunChange

if TYPE_CHECKING:
    from reprise.runtime.engine import Engine


def lasting(slots: tuple[Slot, ...]) -> tuple[Slot, ...]:
    """Return the places that a run that has begun still needs: the others only counted its beginning."""
    return tuple(slot for slot in slots if not slot.period)


class Places:
    """The places of the runs of one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._asking: set[str] = set()

    def give_back(self, execution: Execution) -> None:
        """Let others have the places of a run that only waits; it stays in memory."""
        execution.seated, execution.rests = False, True
        status = execution.resting(RunStatus.WAITING)
        self._engine.spawn(self._given_back(execution, self._write(execution, status, execution.slots, ())))

    async def _given_back(self, execution: Execution, written: asyncio.Future[Append]) -> None:
        try:
            await written
        except StoreError as error:
            execution.lose(error)
        else:
            self._engine.store.signal.wake(["runs"])

    def want(self, execution: Execution) -> None:
        """Take the places of a run that asks for a step, or let it stand in line."""
        if execution.id not in self._asking:
            self._asking.add(execution.id)
            self._engine.spawn(self._take(execution))

    async def _take(self, execution: Execution) -> None:
        engine = self._engine
        try:
            if execution.id in engine.post.reading or execution.done or execution.finishing:
                return  # its mail may say that it shall stop; when that was read, it asks again
            slots = engine.registry.today(execution.slots)
            await self._write(execution, execution.resting(RunStatus.RUNNING), lasting(slots), slots)
            execution.slots, execution.seated, execution.rests = lasting(slots), True, False
        except NoRoom:
            if await park(engine, [execution], in_line=True):
                engine.store.signal.wake(["runs"])  # room that came meanwhile was nobody's in this line
        except StoreError as error:
            execution.lose(error)
        finally:
            self._asking.discard(execution.id)
        execution.wake()

    def _write(
        self, execution: Execution, status: str, needed: tuple[Slot, ...], taken: tuple[Slot, ...]
    ) -> asyncio.Future[Append]:
        change = RunChange(execution.id, status, slots=needed, at=self._engine.now())
        group = Group(execution.stream, token=execution.token, run=change, slots=taken)
        return self._engine.send(Append(self._engine.numbers.new(), (group,)))
