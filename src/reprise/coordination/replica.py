"""A copy of a space of cells in this process, which follows the feed of the space.

It is whole as of a position of the feed, and may be ahead of it where this process itself has written. What the feed
says is passed on entry by entry, in order. An instance that could not reach the store goes on from its position. Where
the feed is no longer kept from there, or the store was restored, everything is loaded anew, and the differences are
passed on as what they are: the newest versions, with a gap before them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from heapq import heappop, heappush
from typing import Any, Protocol

import msgspec

from reprise.kernel.clock import MICROSECONDS, Clock
from reprise.kernel.errors import FeedGone
from reprise.kernel.surroundings import Rhythm
from reprise.stores.cells import Cell, Cells, Changed, View, tap_of, whole_space
from reprise.stores.signal import Signal

_LOG = logging.getLogger(__name__)

LOOK_AGAIN = 2.0
"""Seconds after which the feed is read without a tap: a tap may be lost."""
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 2.0
"""Seconds between two attempts to reach the store."""
_PAGE = 1000

_SCALARS = frozenset({str, int, float, bool, type(None)})


class Known(msgspec.Struct, gc=False):
    """What is known of one name."""

    data: bytes | None
    """None = it was removed here, and the feed has not said so yet."""
    version: int
    expires_at: int = 0
    value: str | int | float | bool | None = None
    is_plain: bool = False
    """``value`` is the value, which nobody can change, and it does not end."""


class Heard(Protocol):
    """What a replica passes on."""

    def __call__(self, entry: Changed, before: Known | None, *, gap: bool) -> None:
        """Take an entry of the feed, and what was before."""
        ...


class Replica:
    """A copy that follows a space; ``decode`` makes values of data."""

    def __init__(
        self,
        cells: Cells,
        signal: Signal,
        space: str,
        clock: Clock,
        *,
        decode: Callable[[bytes], Any],
        heard: Heard,
    ) -> None:
        self.known: dict[str, Known] = {}
        """By name: as of the position, or newer where this process wrote. It is always the same object."""
        self.told: dict[str, Known] = {}
        """As of the position exactly: what those were told who hear of every entry."""
        self.position = 0
        self.reloads = 0
        self.is_connected = False
        self._cells, self._signal, self._space, self._clock = cells, signal, space, clock
        self._decode, self._heard = decode, heard
        self._ahead: dict[str, Known] = {}
        """Names at which this process has written what the feed has not said yet."""
        self._ends: list[tuple[int, str]] = []
        self._offset = -(1 << 62)
        """How far the keeper's clock is ahead of ours, at least."""
        self._whole_at = 0.0
        self._tapped = asyncio.Event()
        self._reading = asyncio.Lock()
        self._next_read: asyncio.Task[None] | None = None
        """One that has not begun to look."""
        self._reads: dict[asyncio.Task[None], None] = {}
        self._task: asyncio.Task[None] | None = None
        self._unlisten: Callable[[], None] | None = None

    # ---------------------------------------------------------------- life

    async def start(self) -> None:
        """Load everything and follow from there."""
        # Listen before the first look, or what comes between the two is noticed late.
        self._unlisten = self._signal.listen(tap_of(self._space), lambda _: self._tapped.set())
        try:
            self.told, self.position = await self._load()
        except BaseException:
            self._unlisten()
            raise
        self.known.update(self.told)
        self._note_contact()
        self._task = asyncio.create_task(self._follow(), name=f"reprise follow {self._space}")

    async def stop(self) -> None:
        """Follow no more, and forget everything."""
        if self._unlisten is not None:
            self._unlisten()
        tasks = [*self._reads, *([self._task] if self._task else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._task = self._next_read = None
        self.known.clear()
        self.told, self._ahead, self._ends = {}, {}, []
        self.is_connected = False

    @property
    def staleness(self) -> float:
        """Seconds since the copy was known to be whole; taps make it so, and otherwise a look every ``LOOK_AGAIN``."""
        return self._clock.monotonic() - self._whole_at

    # ---------------------------------------------------------------- reading

    def find(self, name: str) -> Known | None:
        """Return what is known of a name, None = there is no such cell, or it has ended."""
        known = self.known.get(name)
        if known is None or known.data is None or self.has_ended(known):
            return None
        return known

    def has_ended(self, known: Known) -> bool:
        """Return whether a cell has ended, as far as the keeper's clock is known."""
        return 0 < known.expires_at <= self.now()

    def now(self) -> int:
        """Return the keeper's time, or a little less."""
        return self._clock.now() + self._offset

    async def catch_up(self) -> None:
        """Return when everything is in the copy that was committed before this was called.

        Raises ``StoreUnreachable`` and other errors of the store.
        """
        # A read that is under way may have looked already; all who come before the next one begins share that.
        read = self._next_read
        if read is None:
            read = self._next_read = asyncio.create_task(self._read(), name=f"reprise read {self._space}")
            self._reads[read] = None
            read.add_done_callback(self._reads.pop)
        await asyncio.shield(read)

    def note(self, view: View, names: list[str]) -> None:
        """Take in what this process has just written: the cells in the view; the others of these names are removed."""
        self._note_time(view.at)
        written = {cell.name: cell for cell in view.cells}
        for name in names:
            cell = written.get(name)
            fresh = self._to_known(cell) if cell else Known(None, view.position)
            present = self.known.get(name)
            if fresh.version > self.position and (present is None or fresh.version > present.version):
                self.known[name] = self._ahead[name] = fresh

    # ---------------------------------------------------------------- following

    async def _follow(self) -> None:
        rhythm = Rhythm(self._clock)
        pause = FIRST_PAUSE
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._next_look(rhythm)):
                    await self._tapped.wait()
            self._tapped.clear()
            before = self.position
            try:
                await self.catch_up()
                pause = FIRST_PAUSE
            except Exception as error:  # noqa: BLE001 - whatever it is, who follows goes on as soon as it is over
                if self.is_connected:
                    _LOG.warning("%s cannot be followed for now: %s", self._space, error)
                self.is_connected = False
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
                self._tapped.set()
            if self.position != before:
                rhythm.news()

    def _next_look(self, rhythm: Rhythm) -> float:
        """Return in how many seconds to look unasked: also when a cell ends, so that all hear of it."""
        look = rhythm.next(LOOK_AGAIN)
        while self._ends:
            ends, name = self._ends[0]
            known = self.known.get(name)
            if known is not None and known.expires_at == ends and ends > self.now():
                return min(look, (ends - self.now()) / MICROSECONDS)
            heappop(self._ends)
            if known is not None and known.expires_at == ends:
                return 0.0
        return look

    async def _read(self) -> None:
        async with self._reading:
            self._next_read = None
            try:
                await self._read_on()
            except FeedGone:
                await self._begin_anew()
            self._note_contact()

    async def _read_on(self) -> None:
        while True:
            page = await self._cells.feed(self._space, self.position, _PAGE)
            for entry in page:
                self._take(entry)
            self._forget_ahead()
            if len(page) < _PAGE:
                return

    def _forget_ahead(self) -> None:
        """Forget what this process wrote and the feed has said since."""
        for name, known in list(self._ahead.items()):
            if known.version <= self.position:
                del self._ahead[name]
                if known.data is None and self.known.get(name) is known:
                    del self.known[name]

    def _take(self, entry: Changed) -> None:
        before = self.told.get(entry.name)
        self.position = entry.position
        fresh = self._enter(entry, self.told)
        self._settle(entry.name, fresh, entry.position)
        self._heard(entry, before, gap=False)

    def _settle(self, name: str, fresh: Known | None, position: int) -> None:
        """Let the copy be as the feed says, except where this process has written something newer."""
        ahead = self._ahead.get(name)
        if ahead is not None and ahead.version > position:
            return
        if fresh is None:
            self.known.pop(name, None)
        else:
            self.known[name] = fresh

    # ---------------------------------------------------------------- loading

    async def _load(self) -> tuple[dict[str, Known], int]:
        """Return all cells as of a position exactly, and that position."""
        view = await whole_space(self._cells, self._space, _PAGE)
        self._note_time(view.at)
        return {cell.name: self._to_known(cell) for cell in view.cells}, view.position

    async def _begin_anew(self) -> None:
        """Load everything, and pass on how it differs from what was told."""
        # What this process wrote before now is loaded, if this store ever had it; what it writes meanwhile stays.
        self._ahead.clear()
        loaded, position = await self._load()
        self.reloads += 1
        _LOG.warning(
            "The changes of %s behind position %s are no longer kept, or its store was restored: loaded anew.",
            self._space,
            self.position,
        )
        before, self.told, self.position = self.told, loaded, position
        self.known.clear()
        self.known.update(loaded)
        self.known.update(self._ahead)
        self._pass_on_differences(before, loaded, position)

    def _pass_on_differences(self, before: dict[str, Known], now: dict[str, Known], position: int) -> None:
        for name in sorted(before.keys() - now.keys()):
            entry = Changed(position, name, None, 0, "", self.now())
            self._heard(entry, before[name], gap=True)
        fresh = [
            (known.version, name) for name, known in now.items() if _version(before, name) != known.version
        ]
        for version, name in sorted(fresh):
            known = now[name]
            entry = Changed(version, name, known.data, known.expires_at, "", self.now())
            self._heard(entry, before.get(name), gap=True)

    # ---------------------------------------------------------------- small things

    def _enter(self, entry: Changed, known: dict[str, Known]) -> Known | None:
        """Let a dictionary be as an entry says; return what is known then."""
        self._note_time(entry.at)
        if entry.data is None:
            known.pop(entry.name, None)
            return None
        fresh = self._to_known(Cell(entry.name, entry.data, entry.position, entry.expires_at))
        known[entry.name] = fresh
        return fresh

    def _to_known(self, cell: Cell) -> Known:
        if cell.expires_at:
            heappush(self._ends, (cell.expires_at, cell.name))
        value = self._decode(cell.data)
        if type(value) in _SCALARS:
            return Known(cell.data, cell.version, cell.expires_at, value, not cell.expires_at)
        return Known(cell.data, cell.version, cell.expires_at)

    def _note_time(self, at: int) -> None:
        self._offset = max(self._offset, at - self._clock.now())

    def _note_contact(self) -> None:
        self._whole_at = self._clock.monotonic()
        self.is_connected = True


def _version(known: dict[str, Known], name: str) -> int:
    return known[name].version if name in known else 0
