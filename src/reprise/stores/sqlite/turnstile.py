"""A fair turn at the file among processes.

SQLite's own lock is a scramble: who waits sleeps and looks again, so under load somebody waits for ever (a third
process beside two busy ones saw 127 ms where two file locks in a row gave 23 ms). Here a process passes a *gate* and
then takes the *turn*. Whoever waits for the turn stands in the gate, so the process that had the turn cannot have it
again before. The kernel frees both when a process dies, even by kill -9.
"""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path
from queue import SimpleQueue

from reprise.kernel.errors import StoreLocked


class Turnstile:
    """Two lock files in ``folder``; used by one thread at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        self._gate = os.open(folder / "gate", flags, 0o600)
        self._turn = os.open(folder / "turn", flags, 0o600)
        self._waiter: _Waiter | None = None
        self.waits = 0
        """How often the turn was not free at once."""

    def enter(self, seconds: float) -> bool:
        """Take the turn and return whether others wanted it too; ``StoreLocked`` when they keep it for ``seconds``."""
        waiter = self._waiter
        if waiter is None or not waiter.waiting:
            if _try(self._gate):
                if _try(self._turn):
                    fcntl.flock(self._gate, fcntl.LOCK_UN)
                    return False
                fcntl.flock(self._gate, fcntl.LOCK_UN)
            waiter = self._waiter = waiter or _Waiter(self._gate, self._turn)
        self.waits += 1
        if not waiter.wait(seconds):
            raise StoreLocked(
                f"Another process has kept its turn at {self._folder} for {seconds:g} s.",
                hint="Look for a process that is stopped (state T) and uses this database; end or continue it.",
            )
        return True

    def leave(self) -> None:
        """Give the turn to whoever is next."""
        fcntl.flock(self._turn, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the lock files; not while somebody is in ``enter``."""
        if self._waiter is not None and not self._waiter.end():
            return  # its thread still hangs in a lock of these files; the end of the process closes them
        self.abandon()

    def abandon(self) -> None:
        """Close the lock files only, as a forked child must: its copies would keep a dead parent's turn."""
        for fd in (self._gate, self._turn):
            os.close(fd)


class _Waiter:
    """A thread that waits in the kernel's queue, because such a wait cannot be given up in place.

    A wait whose caller gave up goes on; the next caller joins it.
    """

    def __init__(self, gate: int, turn: int) -> None:
        self.waiting = False
        """Whether a wait was begun and its turn not yet handed to a caller."""
        self._gate, self._turn = gate, turn
        self._calls: SimpleQueue[bool] = SimpleQueue()
        self._got = threading.Semaphore(0)
        self._mutex = threading.Lock()
        self._wanted = False
        self._thread = threading.Thread(target=self._run, name="reprise-turnstile", daemon=True)
        self._thread.start()

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
            fcntl.flock(self._gate, fcntl.LOCK_EX)
            fcntl.flock(self._turn, fcntl.LOCK_EX)
            fcntl.flock(self._gate, fcntl.LOCK_UN)
            with self._mutex:
                self.waiting = False
                if self._wanted:
                    self._wanted = False
                    self._got.release()
                else:
                    fcntl.flock(self._turn, fcntl.LOCK_UN)


def _try(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
