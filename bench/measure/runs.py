"""A million runs that look like real ones: the rows of an index, written in bulk past the keeper's own way."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from reprise.stores.sqlite import database
from reprise.stores.sqlite.rows import joined_words, sealed

DAY = 86_400_000_000
NOW = 1_790_000_000_000_000
"""Microseconds: when the newest run was started."""
DAYS = 90

_WORKFLOWS = (
    "order",
    "survey",
    "import",
    "mail",
    "report",
    "ship",
    "refund",
    "index",
    "train",
    "sync",
    "audit",
    "rare",
)
_ERRORS = (
    "TimeoutError: no answer from 10.{}.{}.7 within 30 s",
    "ConnectionError: connection reset by peer while reading part {} of {}",
    "KeyError: 'customer_{}_{}'",
    "RateLimited: 429 from the model provider, retry after {}.{} s",
    "ValueError: the total {} does not match the sum {}",
    "StepFailed: card {}{} was declined",
)


class Run(NamedTuple):
    """One run of the bench."""

    id: str
    workflow: str
    status: str
    created_at: int
    parent: str | None
    owner: str | None
    due_at: int | None
    tags: dict[str, Any]
    error: str


def runs(count: int) -> Iterator[Run]:
    """Yield runs, oldest first: families of a parent and its children, tags of every frequency, some errors.

    ``legacy`` is a numeric tag of the oldest fifth alone, ``case`` a tag of every 50,000th run, the workflow ``rare`` is
    that of every 20,000th and the status ``stranded`` that of every 10,000th.
    """
    dice = Random(1)  # noqa: S311 (figures that are the same each time)
    step = DAYS * DAY // count
    parent: str | None = None
    left = 0
    for n in range(count):
        at = NOW - (count - n) * step
        id = f"{at // 1000:013x}{n:09x}"
        if left:
            left -= 1
        else:
            parent, left = None, dice.choice((0, 0, 1, 4, 20))
        yield _run(dice, n, count, id, at, parent)
        if parent is None:
            parent = id


def _run(dice: Random, n: int, count: int, id: str, at: int, parent: str | None) -> Run:
    workflow = "rare" if n % 20_000 == 7 else _WORKFLOWS[min(int(dice.expovariate(0.5)), 10)]
    chance = dice.random()
    status = "failed" if chance < 0.05 else "cancelled" if chance < 0.06 else "completed"
    if n % 10_000 == 3:
        status = "stranded"
    elif n > count - count // 100:
        status = "waiting" if chance < 0.5 else status
    tags: dict[str, Any] = {
        "env": "prod" if chance * 7 % 1 < 0.6 else "staging",
        "tenant": f"t{int(dice.paretovariate(0.7)) % 500}",
    }
    if dice.random() < 0.6:
        tags["amount"] = round(dice.expovariate(1 / 80), 2)
    if n < count // 5:
        tags["legacy"] = n
    if n % 50_000 == 11:
        tags["case"] = "needle"
    if n % 3 == 0:
        tags["vip"] = chance < 0.3
    error = (
        dice.choice(_ERRORS).format(dice.randrange(200), dice.randrange(200))
        if status in ("failed", "stranded")
        else ""
    )
    owner, due = (f"w{n % 4}", at + DAY) if status == "waiting" else (None, None)
    return Run(id, workflow, status, at, parent, owner, due, tags, error)


def fill_sqlite(path: Path, count: int) -> None:
    """Write runs into a new file of the newest schema."""
    connection = database.connect(f"file:{path}?mode=rwc")
    database.upgrade(connection, path)
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("PRAGMA cache_size = -500000")
    connection.execute("BEGIN")
    wanted = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL AND tbl_name LIKE 'run%'"
    indexes = connection.execute(wanted).fetchall()
    for name, _ in indexes:
        connection.execute(f"DROP INDEX {name}")
    made = runs(count)
    number = 0
    while batch := list(islice(made, 20_000)):
        _insert(connection, batch, number)
        number += len(batch)
    for _, sql in indexes:
        connection.execute(sql)
    connection.execute("COMMIT")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def _insert(connection: Any, batch: list[Run], number: int) -> None:
    put: Any = connection.executemany
    rows = [
        sealed((r.id, r.workflow, r.status, r.created_at, r.created_at + 60_000_000, r.parent, r.owner, r.due_at, "v7",
                json.dumps(r.tags, separators=(",", ":"), sort_keys=True), r.error, int(r.status != "waiting"), 0, 0, ""))
        for r in batch
    ]  # fmt: skip
    put(
        "INSERT INTO runs (id, workflow, status, created_at, updated_at, parent, owner, due_at, build, tags, error, ended,"
        " since, generation, warning, crc) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        rows,
    )
    put(
        "INSERT INTO streams VALUES (?, ?, ?, ?, ?, ?)",
        [sealed((number + at + 1, f"run/{r.id}", 0, 1, 0)) for at, r in enumerate(batch)],
    )
    put(
        "INSERT INTO run_tags (run, name, value, created_at) VALUES (?, ?, ?, ?)",
        [(r.id, name, {True: "true", False: "false"}.get(value, value) if isinstance(value, bool) else value, r.created_at)
         for r in batch for name, value in r.tags.items()],
    )  # fmt: skip
    for r in batch:
        if r.error:
            ((error,),) = connection.execute(
                "INSERT INTO run_errors (run, created_at) VALUES (?, ?) RETURNING number",
                (r.id, r.created_at),
            ).fetchall()
            connection.execute(
                "INSERT INTO error_words (rowid, words) VALUES (?, ?)", (error, joined_words(r.error))
            )


def sqlite_sizes(path: Path) -> dict[str, int]:
    """Return the bytes of each table and index."""
    with sqlite3.connect(path) as connection:
        rows = connection.execute(
            "SELECT name, sum(pgsize) FROM dbstat GROUP BY name ORDER BY 2 DESC"
        ).fetchall()
    connection.close()
    return dict(rows)
