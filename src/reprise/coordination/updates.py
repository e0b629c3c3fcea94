"""What those hear who want to know of changes, and how they are told: each in order, none held up by another."""

from __future__ import annotations

import asyncio
import fnmatch
import re
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from inspect import isawaitable
from typing import Any

import msgspec

from reprise.kernel.clock import to_datetime
from reprise.kernel.codec import standard
from reprise.kernel.errors import FeedGone
from reprise.stores.cells import Cells, Changed

_decode = standard.decoder(Any)


class StateUpdate(msgspec.Struct, frozen=True):
    """One change of one key."""

    key: str
    value: Any
    """None also where it was deleted."""
    version: int
    old_value: Any
    """None where there was none, and where it is no longer known."""
    deleted: bool
    """It was deleted, or its time was over."""
    origin: str
    """Instance that changed it; '' = its time was over."""
    at: datetime
    """By the clock of the store, in UTC."""
    gap: bool = False
    """Versions between this one and the last one told were missed: the store did not have them any more."""


Handler = Callable[[StateUpdate], object]
"""Is called with each update; what it returns is awaited if it can be."""


class Subscription:
    """One handler, and what it has still to be told."""

    def __init__(self, handler: Handler, pattern: str) -> None:
        self.matches = re.compile(fnmatch.translate(pattern)).match
        self._handler = handler
        self._pattern = pattern
        self._waiting: deque[StateUpdate] = deque()
        self._task: asyncio.Task[None] | None = None
        self.is_ended = False

    @property
    def waiting(self) -> int:
        """How many updates it has still to be told."""
        return len(self._waiting)

    def tell(self, update: StateUpdate) -> None:
        """Tell it soon, after what it is still to be told."""
        self._waiting.append(update)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._tell_all(), name=f"reprise state updates {self._pattern}")

    async def told(self) -> None:
        """Wait until it was told everything."""
        if self._task is not None:
            await asyncio.wait([self._task])

    def end(self) -> None:
        """Tell it nothing more."""
        self.is_ended = True
        self._waiting.clear()

    def cancel(self) -> None:
        """Stop what it does."""
        self.end()
        if self._task is not None:
            self._task.cancel()

    async def _tell_all(self) -> None:
        while self._waiting:
            update = self._waiting.popleft()
            try:
                answer = self._handler(update)
                if isawaitable(answer):
                    await _as_awaitable(answer)
            except Exception as error:  # noqa: BLE001 - a handler's error is its owner's, and the next update is another one
                context = {
                    "message": f"A handler of updates of {self._pattern} failed at {update.key}, version {update.version}.",
                    "exception": error,
                }
                asyncio.get_running_loop().call_exception_handler(context)


def to_update(entry: Changed, old: bytes | None, *, gap: bool = False) -> StateUpdate:
    """Return an entry of the feed as an update; ``old`` is what there was before it."""
    return StateUpdate(
        key=entry.name,
        value=None if entry.data is None else _decode(entry.data),
        version=entry.position,
        old_value=None if old is None else _decode(old),
        deleted=entry.data is None,
        origin=entry.origin,
        at=to_datetime(entry.at),
        gap=gap,
    )


async def walk_feed(cells: Cells, space: str) -> AsyncIterator[Changed]:
    """Yield all entries of a feed that are still kept."""
    position = 0
    while True:
        try:
            page = await cells.feed(space, position)
        except FeedGone as gone:
            position = gone.kept_after
            continue
        for entry in page:
            yield entry
        if not page:
            return
        position = page[-1].position


async def _as_awaitable(answer: Awaitable[object]) -> None:
    await answer
