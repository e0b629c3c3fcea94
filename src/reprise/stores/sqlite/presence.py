"""Who is alive on this machine: a worker holds the lock of a file of its own, which the kernel frees when it dies.

So the runs of a process that was killed are taken over at once, and not after its lease's time. A process that only
stopped answering still holds its file; for it the lease decides.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Collection, Sequence
from pathlib import Path


class SQLitePresence:
    """The lock files of one store's workers in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: dict[str, int] = {}

    async def enter(self, worker: str) -> None:
        """Hold the file of ``worker`` until :meth:`leave`, or the end of the process; idempotent."""
        if worker in self._held:
            return
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = os.open(self._path(worker), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(file, fcntl.LOCK_EX)
        self._held[worker] = file

    async def leave(self, worker: str) -> None:
        """Let the file go and remove it."""
        file = self._held.pop(worker, None)
        if file is not None:
            self._path(worker).unlink(missing_ok=True)
            os.close(file)

    def abandon(self) -> None:
        """Close the files only, as a forked child must: its copies would keep a dead parent alive."""
        for file in self._held.values():
            os.close(file)
        self._held.clear()

    async def died(self, workers: Collection[str]) -> set[str]:
        """Return those of ``workers`` whose file nobody holds. Those of other machines have none."""
        return {worker for worker in workers if self._is_free(worker)}

    async def forget(self, worker: str) -> None:
        """Remove the file of a worker that died and owns nothing more."""
        if worker not in self._held:
            self._path(worker).unlink(missing_ok=True)

    async def seen(self) -> Sequence[str]:
        """Return the workers that have a file."""
        return sorted(path.stem for path in self._folder.glob("*.lock"))

    def _is_free(self, worker: str) -> bool:
        if worker in self._held:
            return False
        try:
            file = os.open(self._path(worker), os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            os.close(file)
        return True

    def _path(self, worker: str) -> Path:
        return self._folder / f"{worker}.lock"
