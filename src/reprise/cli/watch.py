"""Watching a run: read its log as it grows, and show it, as a live picture or as lines."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from rich.console import Group
from rich.live import Live

from reprise.cli.output import Screen
from reprise.cli.paint import View, frame
from reprise.cli.plain import Lines
from reprise.cli.tree import Tree
from reprise.kernel.clock import Clock
from reprise.kernel.errors import ResultTimeout
from reprise.kernel.events import ErrorValue, Event, Finished, progress_stream, run_stream
from reprise.kernel.machine import SETTLED
from reprise.runtime.client import Client
from reprise.runtime.waits import Waits
from reprise.stores.store import Store

LOOK_AGAIN = 1.0
"""Seconds after which the log is read although nobody said that it grew: what others write may come without a tap."""
FOLLOWED = 8
"""Child runs that are shown with steps of their own."""


class Feed:
    """The trees of a run and of its first children, brought up to date from the log."""

    def __init__(self, store: Store, run: str) -> None:
        self.tree = Tree(run)
        self.children: dict[str, Tree] = {}
        self.tapped = asyncio.Event()
        self.waits: Callable[[str], Waits | None] = lambda _: None
        """What a run in this process waits for."""
        self._store = store
        self._progress: dict[str, int] = {}
        self._rests: tuple[int, Waits | None] = (0, None)
        """What the run waited for when it was last in memory, and at which version."""
        self._undo = [
            store.signal.listen(stream, self._tap) for stream in (run_stream(run), progress_stream(run))
        ]

    def observe(self, run: str, _: Sequence[Event]) -> None:
        """Note that something of a run was written; given to ``Reprise`` as an observer."""
        if run.startswith(self.tree.id):
            self.tapped.set()

    def _tap(self, _: str) -> None:
        self.tapped.set()

    def close(self) -> None:
        """Listen no more."""
        for undo in self._undo:
            undo()

    async def pull(self, now: int) -> View:
        """Read what is new, and return what is to be shown."""
        self.tapped.clear()
        await self._pull(self.tree)
        for child in list(self.tree.children.values())[:FOLLOWED]:
            await self._pull(self.children.setdefault(child, Tree(child)))
        return self.view(now)

    async def _pull(self, tree: Tree) -> None:
        if tree.settled:
            return
        for record in await self._store.log.read(run_stream(tree.id), tree.version):
            tree.apply(record)
        after = self._progress.get(tree.id, 0)
        if records := await self._store.log.read(progress_stream(tree.id), after):
            tree.apply_progress(records)
            self._progress[tree.id] = records[-1].version

    def view(self, now: int) -> View:
        """Return what is to be shown, with what the worker says of the moment."""
        for tree in (self.tree, *self.children.values()):
            waits = self.waits(tree.id)
            tree.ask(waits.steps if waits is not None else None, now)
        return View(self.tree, self.children, self._waiting(self.waits(self.tree.id)))

    def _waiting(self, waits: Waits | None) -> Waits | None:
        """Return what the run waits for, also while a long wait has let it go from memory."""
        version, before = self._rests
        if waits is None and before is not None and not before.steps and version == self.tree.version:
            return before
        self._rests = (self.tree.version, waits)
        return waits


class Show(Protocol):
    """One way to show a run."""

    period: float
    """Seconds between two pictures."""

    def show(self, view: View, now: int) -> None:
        """Show a moment of the run."""
        ...

    def close(self) -> None:
        """Leave the last picture and be done."""
        ...


class Picture:
    """A live picture on a terminal; what steps print appears above it."""

    period = 0.1

    def __init__(self, screen: Screen) -> None:
        self._console = screen.err
        self._live = Live(console=screen.err, auto_refresh=False, transient=False)
        self._live.start()

    def show(self, view: View, now: int) -> None:
        """Draw."""
        width, height = self._console.size
        self._live.update(Group(*frame(view, now, width, height)), refresh=True)

    def close(self) -> None:
        """Leave the last picture on the screen."""
        self._live.stop()


class Words:
    """A line per change."""

    period = 0.25

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._lines = Lines()

    def show(self, view: View, now: int) -> None:
        """Print what changed."""
        for tree in (view.tree, *view.children.values()):
            for text in self._lines.changes(tree, now):
                self._screen.say(text)

    def close(self) -> None:
        """Do nothing: all was said."""


class Nothing:
    """No words at all."""

    period = 0.5

    def show(self, view: View, now: int) -> None:
        """Show nothing."""

    def close(self) -> None:
        """Do nothing."""


async def follow(feed: Feed, show: Show, clock: Clock, ended: asyncio.Future[Any]) -> None:
    """Show a run until ``ended`` is done, and then as it is."""
    looked = 0.0
    view = View(feed.tree)
    while True:
        over = ended.done()
        if over or feed.tapped.is_set() or not looked or clock.monotonic() - looked > LOOK_AGAIN:
            looked = clock.monotonic()
            view = await feed.pull(clock.now())
        else:
            view = feed.view(clock.now())
        show.show(view, clock.now())
        if over:
            return
        await asyncio.wait([ended], timeout=show.period)


async def end_of(client: Client, run: str) -> Finished:
    """Wait until a run has ended, or rests until somebody tells it to go on.

    A run that rests but is due is about to be taken up by some worker.
    """
    while True:
        try:
            return await client.wait(run, LOOK_AGAIN)
        except ResultTimeout:
            row = await client.row(run)
        if row.status in SETTLED and row.due_at is None and row.owner is None:
            return Finished(row.status, error=ErrorValue("", row.error))
