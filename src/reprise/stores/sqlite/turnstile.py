"""A fair turn at the file among processes.

SQLite's own lock is a scramble: who waits sleeps and looks again, so under load somebody waits for ever (a third
process beside two busy ones saw 127 ms where two file locks in a row gave 23 ms). Here a process passes a *gate* and
then takes the *turn*. Whoever waits for the turn stands in the gate, so the process that had the turn cannot have it
again before. The kernel frees both when a process dies, even by kill -9.
"""

from __future__ import annotations

import threading
from pathlib import Path

from reprise.kernel.errors import StoreLocked
from reprise.stores.sqlite.crew import MACHINE, Crew, FileLock, Queue


class Turnstile:
    """Two lock files in ``folder``; used by one thread at a time."""

    def __init__(self, folder: Path, crew: Crew = MACHINE) -> None:
        self._folder, self._crew = folder, crew
        self._gate = crew.lock(folder / "gate")
        self._turn = crew.lock(folder / "turn")
        self._waiter: _Waiter | None = None
        self.waits = 0
        """How often the turn was not free at once."""

    def enter(self, seconds: float) -> bool:
        """Take the turn and return whether others wanted it too; ``StoreLocked`` when they keep it for ``seconds``."""
        if self.enter_at_once():
            return False
        waiter = self._waiter = self._waiter or _Waiter(self._gate, self._turn, self._crew)
        self.waits += 1
        if not waiter.wait(seconds):
            raise StoreLocked(
                f"Another process has kept its turn at {self._folder} for {seconds:g} s.",
                hint="Look for a process that is stopped (state T) and uses this database; end or continue it.",
            )
        return True

    def enter_at_once(self) -> bool:
        """Take the turn if nobody has it or waits for it; return whether that is so."""
        if (self._waiter is not None and self._waiter.waiting) or not self._gate.try_take():
            return False
        try:
            return self._turn.try_take()
        finally:
            self._gate.free()

    def leave(self) -> None:
        """Give the turn to whoever is next."""
        self._turn.free()

    def close(self) -> None:
        """Close the lock files; not while somebody is in ``enter``."""
        if self._waiter is not None and not self._waiter.end():
            return  # its thread still hangs in a lock of these files; the end of the process closes them
        self.abandon()

    def abandon(self) -> None:
        """Close the lock files only, as a forked child must: its copies would keep a dead parent's turn."""
        for lock in (self._gate, self._turn):
            lock.close()


class _Waiter:
    """A thread that waits in the kernel's queue, because such a wait cannot be given up in place.

    A wait whose caller gave up goes on; the next caller joins it.
    """

    def __init__(self, gate: FileLock, turn: FileLock, crew: Crew) -> None:
        self.waiting = False
        """Whether a wait was begun and its turn not yet handed to a caller."""
        self._gate, self._turn = gate, turn
        self._calls: Queue[bool] = crew.queue()
        self._got = crew.semaphore()
        self._mutex = threading.Lock()
        self._wanted = False
        self._thread = crew.begin(self._run, name="reprise-turnstile")

    def wait(self, seconds: float) -> bool:
        with self._mutex:
            self._wanted = True
            if not self.waiting:
                self.waiting = True
                self._calls.put(True)
        if self._got.acquire(timeout=seconds):
            return True
        with self._mutex:
            # The turn may have come between the timeout and here.
            if self._got.acquire(blocking=False):
                return True
            self._wanted = False
            return False

    def end(self) -> bool:
        self._calls.put(False)
        self._thread.join(timeout=1)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while self._calls.get():
            self._gate.take()
            self._turn.take()
            self._gate.free()
            with self._mutex:
                self.waiting = False
                if self._wanted:
                    self._wanted = False
                    self._got.release()
                else:
                    self._turn.free()
