"""What the keeper works with beside SQLite: threads, what they wait for, locks and taps between processes.

These are those of the machine. A simulation brings a crew of its own, whose threads run one at a time and in its time.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import threading
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from time import perf_counter
from typing import Any, Protocol, TypeVar

from reprise.stores.sqlite.signal import Post

Item = TypeVar("Item")
Result = TypeVar("Result")


class Queue(Protocol[Item]):
    """A ``SimpleQueue`` as far as we use it."""

    def put(self, item: Item, /) -> None:
        """Add an item; never waits."""
        ...

    def get(self) -> Item:
        """Return the oldest item; waits for one."""
        ...

    def qsize(self) -> int:
        """Return how many items there are."""
        ...

    def empty(self) -> bool:
        """Return whether there is none."""
        ...


class Semaphore(Protocol):
    """A ``threading.Semaphore`` as far as we use it."""

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        """Take one; False = there was none in time."""
        ...

    def release(self) -> None:
        """Add one."""
        ...


class Thread(Protocol):
    """A ``threading.Thread`` that was started, as far as we use it."""

    def join(self, timeout: float | None = None) -> None:
        """Wait for its end."""
        ...

    def is_alive(self) -> bool:
        """Return whether it has not ended."""
        ...


class FileLock(Protocol):
    """A lock among processes, which is free again when its process is gone."""

    def try_take(self) -> bool:
        """Take it if it is free."""
        ...

    def take(self) -> None:
        """Take it; waits."""
        ...

    def free(self) -> None:
        """Let it go."""
        ...

    def close(self) -> None:
        """Let it go for ever."""
        ...


class Crew:
    """The machine's own."""

    perf_counter: Callable[[], float] = staticmethod(perf_counter)
    """Seconds since some moment."""
    open_post: Callable[..., Post] = Post
    """Opens what taps other processes."""

    def queue(self) -> Queue[Any]:
        """Return a queue between threads."""
        return SimpleQueue()

    def semaphore(self) -> Semaphore:
        """Return a semaphore that has nothing yet."""
        return threading.Semaphore(0)

    def begin(self, work: Callable[..., None], *args: Any, name: str) -> Thread:
        """Start a thread."""
        thread = threading.Thread(target=work, args=args, name=name, daemon=True)
        thread.start()
        return thread

    async def call(self, work: Callable[[], Result]) -> Result:
        """Do something that waits, in a thread, and return what it returns."""
        return await asyncio.to_thread(work)

    def lock(self, path: Path) -> FileLock:
        """Return the lock of a file, which is made where it is missing."""
        return _FileLock(path)


class _FileLock:
    """A lock of the kernel, freed by it when a process dies, even by kill -9."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def try_take(self) -> bool:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def take(self) -> None:
        fcntl.flock(self._fd, fcntl.LOCK_EX)

    def free(self) -> None:
        fcntl.flock(self._fd, fcntl.LOCK_UN)

    def close(self) -> None:
        os.close(self._fd)


MACHINE = Crew()
"""The crew of whoever is not simulated."""
