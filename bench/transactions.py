"""What a step costs that writes a row in the log's transaction, beside a plain one and one with a connection of its own.

"In a row" is one run of 200 such steps; "at once" 50 runs of 20. All are durable on the disk: SQLite with synchronous=FULL,
PostgreSQL as it comes.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import Any

from tests.servers import Missing, postgres_installs, start_postgres

from bench.measure.report import Floors, figure, table
from reprise import Reprise, SQLiteConnection, Step, step, workflow

ROW, RUNS, EACH = 200, 50, 20
HEAD = ("store, step", "in a row ms", "CPU ms", "at once ms", "CPU ms")
OVER_OWN = 1.5
"""Times as long at most, in a row, as a step that writes the row by a connection of its own; less on a quiet machine."""

_steps: dict[str, Step[..., Any]] = {}
"""What the runs of now call."""
_where: list[str] = []
"""File or server of the store, for connections of its own."""


@step
async def plain(n: int) -> int:
    """Write nothing."""
    return n


@step
def own_in_file(n: int) -> int:
    """Write a row by a connection of its own."""
    with closing(sqlite3.connect(_where[0], timeout=60)) as file, file:
        file.execute("INSERT INTO bench_rows VALUES (?)", (n,))
    return n


@step(transaction=True)
def in_file(connection: SQLiteConnection, n: int) -> int:
    """Write a row."""
    connection.execute("INSERT INTO bench_rows VALUES (?)", (n,))
    return n


@step
async def own_on_server(n: int) -> int:
    """Write a row by a connection of its own."""
    connection = await _reach()
    try:
        await connection.execute("INSERT INTO public.bench_rows VALUES ($1)", n)
    finally:
        await connection.close()
    return n


@step(transaction=True)
async def on_server(connection: Any, n: int) -> int:
    """Write a row."""
    await connection.execute("INSERT INTO public.bench_rows VALUES ($1)", n)
    return n


@workflow
async def row_of(name: str, number: int) -> int:
    """Call a step again and again."""
    return sum([await _steps[name](n) for n in range(number)])


async def _reach() -> Any:
    from reprise.stores.postgres.driver import connect  # noqa: PLC0415  an extra

    return await connect(_where[0], {}, 30)


def main(*, once: bool) -> bool:
    """Print the table; return whether the floors were kept."""
    floors = Floors()
    rows: list[tuple[str, ...]] = []
    scale = 4 if once else 1

    def measure(store: str, url: str, make: Callable[[], Any]) -> None:
        found = asyncio.run(_measure(store, url, make, scale, rows))
        floors.most(f"{store}: transaction over own connection, in a row", found, OVER_OWN, unit="times")

    with TemporaryDirectory(prefix="reprise-bench-") as folder:
        path = Path(folder) / "runs.db"
        _where[:] = [str(path)]
        _steps.update({"plain": plain, "own connection": own_in_file, "transaction": in_file})
        measure("sqlite", f"sqlite:///{path}", _table_in_file)
        try:
            install = postgres_installs()[-1]
            server = start_postgres(install)
        except (Missing, IndexError):
            print("no PostgreSQL on this machine: not measured there")
        else:
            _where[:] = [server.url]
            _steps.update({"own connection": own_on_server, "transaction": on_server})
            try:
                measure(f"postgresql {install.name}", server.url, _table_on_server)
            finally:
                server.stop()
    table(HEAD, rows)
    floors.print()
    return floors.kept


async def _table_in_file() -> None:
    with closing(sqlite3.connect(_where[0])) as file:
        file.execute("CREATE TABLE bench_rows (n INTEGER)")


async def _table_on_server() -> None:
    connection = await _reach()
    await connection.execute("CREATE TABLE public.bench_rows (n bigint)")
    await connection.close()


async def _measure(
    store: str, url: str, make: Callable[[], Any], scale: int, rows: list[tuple[str, ...]]
) -> float:
    in_a_row: dict[str, float] = {}
    async with Reprise(url, capture_logs=False) as app:
        await make()
        for name in _steps:
            await app.run(row_of, name, 10)
            number = ROW // scale
            wall, cpu = perf_counter(), process_time()
            await app.run(row_of, name, number)
            one = in_a_row[name] = (perf_counter() - wall) / number
            one_cpu = (process_time() - cpu) / number
            wall, cpu, runs = perf_counter(), process_time(), RUNS // scale
            handles = [await app.start(row_of, name, EACH) for _ in range(runs)]
            for handle in handles:
                await handle.result()
            calls = runs * EACH
            many, many_cpu = (perf_counter() - wall) / calls, (process_time() - cpu) / calls
            rows.append((f"{store}, {name}", *[figure(s * 1e3, 2) for s in (one, one_cpu, many, many_cpu)]))
    return in_a_row["transaction"] / in_a_row["own connection"]
