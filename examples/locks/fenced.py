"""A holder that stands still past its time: its lock passes on, and its write is refused by the token."""

import asyncio
import sqlite3
import sys
import time
from subprocess import PIPE, Popen

from reprise import LockLost, LockManager

URL = "sqlite:///locks.db"
TTL = 0.5


def documents() -> sqlite3.Connection:
    """Open the store of documents; each row knows the token it was written under."""
    file = sqlite3.connect("documents.db", isolation_level=None)
    file.execute("CREATE TABLE IF NOT EXISTS documents (key TEXT PRIMARY KEY, value TEXT, token INTEGER)")
    return file


def write(file: sqlite3.Connection, key: str, value: str, token: int) -> bool:
    """Write a document unless somebody wrote it under a higher token."""
    done = file.execute(
        "INSERT INTO documents VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE "
        "SET value = excluded.value, token = excluded.token WHERE excluded.token >= documents.token",
        (key, value, token),
    )
    return done.rowcount == 1


async def sleeper() -> None:
    """Hold the lock, stand still past its time, then write."""
    file = documents()
    async with LockManager(URL) as manager:
        try:
            async with manager.lock("report", ttl=TTL) as held:
                print("held", flush=True)
                time.sleep(4 * TTL)  # noqa: ASYNC251 - nothing of this process runs, as if it were stopped
                taken = write(file, "report", "by the sleeper", held.token)
                print("the sleeper's write was", "taken" if taken else "refused", flush=True)
                await asyncio.sleep(1)
        except LockLost as lost:
            print(lost.what, flush=True)


async def main() -> None:
    """Start the sleeper, wait for the lock, write."""
    file = documents()
    file.execute("DELETE FROM documents")
    with Popen([sys.executable, __file__, "sleeper"], stdout=PIPE, text=True) as other:  # noqa: ASYNC220 - nothing else runs
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        async with LockManager(URL) as manager, manager.lock("report", ttl=30, timeout=None) as held:
            assert write(file, "report", "by who had the lock", held.token)
            print(other.stdout.read(), end="")
    print("the report is", file.execute("SELECT value FROM documents").fetchone()[0])
    file.close()


if __name__ == "__main__":
    asyncio.run(sleeper() if sys.argv[1:] == ["sleeper"] else main())
