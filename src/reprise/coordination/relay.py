"""Carrying tasks from the log to a queue of another keeper.

A step with ``transaction=True`` can commit tasks only where its log is. For a queue elsewhere they are written into the log, in
the step's own commit, and a relay carries them on: at least once, and as their ids are known to the queue, they are in it once.
"""

from __future__ import annotations

import asyncio
import logging
from types import TracebackType
from typing import TYPE_CHECKING, Self

import msgspec

from reprise.coordination.batching import LOOK_AGAIN, Bell
from reprise.coordination.keepers import Keeper, Source
from reprise.kernel.errors import StoreError
from reprise.kernel.events import Event, Kind, tasks_stream
from reprise.kernel.ids import Counter
from reprise.stores import queue as port
from reprise.stores.log import Group, append

if TYPE_CHECKING:
    from reprise.coordination.queue import TaskQueue

_LOG = logging.getLogger(__name__)

LAST = 10.0
"""Seconds that ``stop`` waits for what is being carried."""
AT_ONCE = 500
"""Tasks that are carried together."""

_row = msgspec.msgpack.Decoder(port.Task).decode


class QueueRelay:
    """Carries tasks from the log of ``source`` to a queue, until it is stopped.

    Several may run at once, in one process or in many: what two of them carry is put in once.
    """

    def __init__(self, queue: TaskQueue, source: Source) -> None:
        self._queue = queue
        self._keeper = Keeper(source)
        self._stream = tasks_stream(queue.name)
        self._numbers = Counter()
        self._carrying: asyncio.Task[None] | None = None
        self._is_stopping = False
        self.carried = 0

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Begin to carry; idempotent. Raises ``StoreUnreachable``."""
        if self._carrying is None:
            store = await self._keeper.start()
            self._is_stopping = False
            self._bell = Bell(store.signal, self._stream)
            self._carrying = asyncio.create_task(self._carry_on(self._bell))

    async def stop(self) -> None:
        """Carry no more; what is in the log stays there for the next. Idempotent, safe before start."""
        if self._carrying is not None:
            self._is_stopping = True
            self._bell.ring()
            _, late = await asyncio.wait([self._carrying], timeout=LAST)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)
            self._carrying = None
        await self._keeper.stop()

    async def carry(self) -> int:
        """Carry what is there now; return how many tasks."""
        log = (await self._keeper.start()).log
        count = 0
        while records := await log.read(self._stream, limit=AT_ONCE):
            rows = [_row(record.data) for record in records if record.kind == Kind.TASK_OFFERED]
            if not rows:
                break
            await self._queue.offer(rows)
            # The newest record of a stream always stays, so what is carried is followed by one that says so.
            mark = Event(Kind.CURSOR, self._queue.clerk.now())
            await append(log, self._numbers.new(), Group(self._stream, [mark]))
            await log.trim(self._stream, records[-1].version)
            count += len(rows)
        self.carried += count
        return count

    async def _carry_on(self, bell: Bell) -> None:
        try:
            while not self._is_stopping:
                heard = bell.rings
                try:
                    await self.carry()
                except StoreError as error:
                    _LOG.warning("Tasks for queue %s are not carried for now: %s", self._queue.name, error)
                await bell.wait(heard, LOOK_AGAIN)
        finally:
            bell.close()
