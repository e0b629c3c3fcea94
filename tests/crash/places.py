"""Where a round takes place: a file in its folder, or a schema of a server. What is looked at there while it goes on."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import asyncpg
from tests.servers import Server

from reprise.kernel.events import Kind, run_stream

DATABASE = "runs.db"

PATIENCE = 45.0
"""Seconds after which something that should happen is taken for never happening."""


class Place(Protocol):
    """What a round needs to know of a store, beside the store's own ports."""

    url: str

    def records(self, run: str, kind: Kind) -> Sequence[tuple[str, bytes]]:
        """Return key and data of a run's records of one kind."""
        ...

    def commits(self, pid: int) -> bool:
        """Return whether a process, which is stopped, is inside a commit."""
        ...

    def is_in_the_way(self, pid: int) -> bool:
        """Return whether a process, which is stopped, keeps others from writing."""
        ...

    def unfinished(self) -> str:
        """Return the rows of the runs that have not ended, and who is there: why nothing goes on."""
        ...

    def integrity(self) -> Sequence[str]:
        """Return what the keeper's own check says is broken."""
        ...


class FilePlace:
    """An SQLite file in the round's folder."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / DATABASE
        self.url = f"sqlite:///{self.path}"

    def records(self, run: str, kind: Kind) -> Sequence[tuple[str, bytes]]:
        return self._ask(
            "SELECT key, data FROM records r JOIN streams s ON s.id = r.stream WHERE s.name = ? AND r.kind = ?",
            run_stream(run),
            int(kind),
        )

    def commits(self, pid: int) -> bool:
        return "turn" in self._locks(pid)

    def is_in_the_way(self, pid: int) -> bool:
        return bool(self._locks(pid))

    def unfinished(self) -> str:
        runs = self._ask(
            "SELECT id, workflow, status, owner, due_at, error FROM runs WHERE ended = 0 LIMIT 20"
        )
        locks = sorted(path.name for path in self.path.parent.glob(f"{self.path.name}.workers/*"))
        return "\n".join(map(str, [*runs, *locks]))

    def integrity(self) -> Sequence[str]:
        return [line for (line,) in self._ask("PRAGMA integrity_check") if line != "ok"]

    def _ask(self, query: str, *arguments: Any) -> list[Any]:
        connection = sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)
        try:
            return connection.execute(query, arguments).fetchall()
        finally:
            connection.close()

    def _locks(self, pid: int) -> set[str]:
        """Return which locks of the turnstile a process holds, or waits for (``-> turn``)."""
        folder = self.path.with_name(f"{self.path.name}.wake")
        names = {str((folder / name).stat().st_ino): name for name in ("gate", "turn")}
        found: set[str] = set()
        for line in Path("/proc/locks").read_text().splitlines():
            waits, fields = "-> " in line, line.replace("-> ", "").split()
            name = names.get(fields[5].rpartition(":")[2])
            if name and fields[4] == str(pid):
                found.add(f"-> {name}" if waits else name)
        return found


class Backend(NamedTuple):
    """A server's process that serves one connection of one of ours."""

    pid: int
    serves: int
    commits: bool


class ServerPlace:
    """A schema of a PostgreSQL that may crash at any moment."""

    def __init__(self, server: Server, schema: str) -> None:
        self.server, self.schema = server, schema
        self.url = f"{server.url}&schema={schema}"
        self._runner = asyncio.Runner()
        self._connection: asyncpg.Connection | None = None

    def records(self, run: str, kind: Kind) -> Sequence[tuple[str, bytes]]:
        return self._ask(
            "SELECT key, data FROM records r JOIN streams s ON s.id = r.stream WHERE s.name = $1 AND r.kind = $2",
            run_stream(run),
            int(kind),
        )

    def commits(self, pid: int) -> bool:
        return any(backend.commits for backend in self.backends() if backend.serves == pid)

    def is_in_the_way(self, pid: int) -> bool:
        return bool(
            self._ask(
                "SELECT FROM pg_stat_activity WHERE application_name = $1 AND state LIKE 'idle in transaction%'",
                name_of(pid),
            )
        )

    def backends(self) -> list[Backend]:
        """Return the server's processes that serve our processes."""
        rows = self._ask(
            "SELECT pid, substr(application_name, 7)::integer, state = 'active' AND query LIKE '%write_batch%'"
            " FROM pg_stat_activity WHERE application_name LIKE 'crash-%' AND state IS NOT NULL"
        )
        return [Backend(*row) for row in rows]

    def unfinished(self) -> str:
        runs = self._ask(
            "SELECT id, workflow, status, owner, due_at, error FROM runs WHERE NOT ended LIMIT 20"
        )
        leases = self._ask("SELECT name, expires_at - now_us() FROM leases")
        return "\n".join(map(str, [*runs, *leases]))

    def integrity(self) -> Sequence[str]:
        """Hold the tables against each other: PostgreSQL itself has no check of everything."""
        wrong = self._ask(
            "SELECT s.name || ': ' || count(r.version) || ' records, head at ' || s.version"
            " FROM streams s LEFT JOIN records r ON r.stream = s.id GROUP BY s.id"
            " HAVING count(r.version) <> s.version - s.trimmed OR max(r.version) <> s.version"
        )
        lost = self._ask(
            "SELECT 'record without a stream' FROM records WHERE stream NOT IN (SELECT id FROM streams)"
        )
        return [line for (line,) in [*wrong, *lost]]

    def close(self) -> None:
        """Drop the schema."""
        self._ask(f"DROP SCHEMA IF EXISTS {self.schema} CASCADE")
        self._runner.run(self._connection.close())
        self._runner.close()

    def _ask(self, query: str, *arguments: Any) -> list[Any]:
        until = time.monotonic() + PATIENCE
        while True:
            try:
                return [tuple(row) for row in self._runner.run(self._fetch(query, *arguments))]
            except (
                OSError,
                asyncpg.PostgresConnectionError,
                asyncpg.InterfaceError,
                asyncpg.OperatorInterventionError,
            ):
                assert time.monotonic() < until, f"the server does not come back: {self.server.log()}"
                self._connection = None
                time.sleep(0.02)

    async def _fetch(self, query: str, *arguments: Any) -> list[asyncpg.Record]:
        if self._connection is None:
            settings = {"search_path": self.schema}
            self._connection = await asyncpg.connect(self.server.url, server_settings=settings)
        return await self._connection.fetch(query, *arguments)


def name_of(pid: int) -> str:
    """Return the name under which the connections of a process are known to the server."""
    return f"crash-{pid}"
