"""Lend the writer's connection to a caller's own work: what of it can break the commit around it is kept back.

The caller gets a face that can execute statements. An authorizer, asked by SQLite for each part of each statement that
is prepared, refuses what would end the transaction, change what the connection is set to, or touch the keeper's tables;
a progress handler, asked every few thousand steps of SQLite's machine, ends statements when the time is over.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from time import perf_counter
from typing import Any, cast

from reprise.kernel.errors import BodyError, ConfigurationError
from reprise.stores.sqlite.database import Connection, migrations
from reprise.stores.transactions import WorkTooLong

Parameters = Sequence[Any] | Mapping[str, Any]

SAVEPOINT = "job"
"""Name of the savepoint to which the writer goes back when work fails; nobody else's may be called so."""
STEPS_PER_LOOK = 10_000
"""Steps of SQLite's machine between two looks at the clock: about 0.2 ms."""

_READING = frozenset({"table_info", "table_xinfo", "table_list", "index_list", "index_info", "index_xinfo",
                      "foreign_key_list", "foreign_key_check", "compile_options", "data_version"})  # fmt: skip
"""Pragmas that only tell something."""

_IN_FIRST = frozenset({
    sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE, sqlite3.SQLITE_DROP_TABLE,
    sqlite3.SQLITE_DROP_VTABLE, sqlite3.SQLITE_CREATE_TABLE, sqlite3.SQLITE_CREATE_VTABLE,
})  # fmt: skip
_IN_SECOND = frozenset({
    sqlite3.SQLITE_ALTER_TABLE, sqlite3.SQLITE_CREATE_INDEX, sqlite3.SQLITE_DROP_INDEX, sqlite3.SQLITE_CREATE_TRIGGER,
    sqlite3.SQLITE_DROP_TRIGGER,
})  # fmt: skip
"""What changes a table, by the argument of the authorizer that names it."""
_TEMPORARY = frozenset({
    sqlite3.SQLITE_CREATE_TEMP_INDEX, sqlite3.SQLITE_CREATE_TEMP_TABLE, sqlite3.SQLITE_CREATE_TEMP_TRIGGER,
    sqlite3.SQLITE_CREATE_TEMP_VIEW,
})  # fmt: skip


class SQLiteConnection:
    """The connection that a step with ``transaction=True`` is given on SQLite, as long as it executes.

    It is that of the log's own commit. It executes statements, one at a time, as :class:`sqlite3.Connection` does; it
    cannot commit or roll back, attach files, or write the tables of Reprise. ``SAVEPOINT`` works. What it returns is
    closed when the step ends.
    """

    def __init__(self, connection: sqlite3.Connection, guard: Guard) -> None:
        self._connection = connection
        self._guard = guard
        self._cursors: list[sqlite3.Cursor] = []
        self.row_factory: Any = None
        """What makes a row of a tuple, such as :class:`sqlite3.Row`; None = the tuple itself."""

    def execute(self, sql: str, parameters: Parameters = (), /) -> SQLiteCursor:
        """Execute one statement.

        Raises ``sqlite3.Error`` as SQLite says; ``ConfigurationError`` for what a step may not do here; ``BodyError``
        when the step has ended.
        """
        return self._cursor("execute", sql, parameters)

    def executemany(self, sql: str, parameters: Iterable[Parameters], /) -> SQLiteCursor:
        """Execute one statement for each of many sets of parameters; errors as of :meth:`execute`."""
        return self._cursor("executemany", sql, parameters)

    def _cursor(self, how: str, sql: str, parameters: Any) -> SQLiteCursor:
        guard = self._guard
        if guard.face is not self:
            raise BodyError(
                "The connection of a step was used after the step had ended.",
                hint="Read all rows within the step; keep values, not cursors.",
            )
        if not self._connection.in_transaction:
            raise _refused(
                "go on after a statement has undone the transaction (OR ROLLBACK, RAISE(ROLLBACK))"
            )
        guard.denied = ""
        try:
            # A text of its own: one that is the same as the keeper's would be found prepared, and nobody asked.
            cursor: sqlite3.Cursor = getattr(self._connection, how)("\n" + sql, parameters)
        except sqlite3.DatabaseError as error:
            if guard.denied:
                raise _refused(guard.denied) from error
            raise
        cursor.row_factory = self.row_factory
        self._cursors.append(cursor)
        return SQLiteCursor(cursor)

    def close_cursors(self) -> None:
        """Close what was returned: an open one would hold the file at what it reads."""
        for cursor in self._cursors:
            cursor.close()
        self._cursors.clear()


class SQLiteCursor:
    """Rows of a statement, and what it did."""

    def __init__(self, cursor: sqlite3.Cursor) -> None:
        self._cursor = cursor

    def fetchone(self) -> Any:
        """Return the next row, or None."""
        return self._cursor.fetchone()

    def fetchmany(self, size: int) -> list[Any]:
        """Return up to ``size`` rows."""
        return self._cursor.fetchmany(size)

    def fetchall(self) -> list[Any]:
        """Return the rows that are left."""
        return self._cursor.fetchall()

    def __iter__(self) -> Iterator[Any]:
        return iter(self._cursor)

    @property
    def rowcount(self) -> int:
        """How many rows were changed, -1 where that is not known."""
        return self._cursor.rowcount

    @property
    def lastrowid(self) -> int | None:
        """Number of the row inserted last."""
        return self._cursor.lastrowid

    @property
    def description(self) -> Any:
        """Names of the columns, each the first of a tuple; None where there are none."""
        return self._cursor.description


class Guard:
    """What watches over one connection while it is lent; used in the writer's thread alone."""

    def __init__(self, connection: Connection) -> None:
        if not isinstance(connection, sqlite3.Connection):
            raise ConfigurationError(
                f"Work in the log's transaction needs a connection of sqlite3, not {type(connection).__name__}."
            )
        self.connection = connection
        self.denied = ""
        """What the last statement wanted to do that it may not, in words."""
        self.face: SQLiteConnection | None = None
        self._ends = 0.0
        # Never taken off again: to set one costs all prepared statements.
        connection.set_authorizer(self._authorize)

    @contextmanager
    def lent(self, seconds: float) -> Generator[SQLiteConnection]:
        """Give the connection's face for some work; raises ``WorkTooLong`` when that took more than ``seconds``."""
        self._ends = perf_counter() + seconds
        face = self.face = SQLiteConnection(self.connection, self)
        self.connection.set_progress_handler(self._is_over, STEPS_PER_LOOK)
        try:
            yield face
        finally:
            self.face = None
            self.connection.set_progress_handler(None, 0)
            face.close_cursors()
            if perf_counter() > self._ends:
                raise WorkTooLong(f"Work in a transaction took longer than {seconds:g} s.")

    def _is_over(self) -> bool:
        return perf_counter() > self._ends

    def _authorize(
        self, action: int, first: str | None, second: str | None, _database: str | None, _trigger: str | None
    ) -> int:
        if self.face is None:
            return sqlite3.SQLITE_OK
        self.denied = _objection(action, first or "", second or "")
        return sqlite3.SQLITE_DENY if self.denied else sqlite3.SQLITE_OK


def _objection(action: int, first: str, second: str) -> str:
    """Return what a part of a statement wants to do that it may not, '' when it may."""
    table = first if action in _IN_FIRST else second if action in _IN_SECOND else ""
    if table and is_ours(table):
        return f"change the table {table}, which is Reprise's own"
    if action == sqlite3.SQLITE_TRANSACTION:
        return f"{first} the transaction, which is the log's"
    if action == sqlite3.SQLITE_SAVEPOINT and second.lower() == SAVEPOINT:
        return f"use a savepoint called {second}"
    if action in (sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH):
        return "attach or detach a file"
    if action == sqlite3.SQLITE_PRAGMA and first.lower() not in _READING:
        return f"PRAGMA {first}"
    if action in _TEMPORARY:
        return "make what is temporary: the connection is everybody's"
    return ""


@cache
def _own_tables() -> frozenset[str]:
    texts = "\n".join(script for _, script in migrations())
    words = re.findall(r"CREATE VIRTUAL TABLE (\w+)", texts)
    return frozenset(re.findall(r"CREATE TABLE (\w+)", texts)).union(
        words,
        (f"{name}_{part}" for name in words for part in ("data", "idx", "content", "docsize", "config")),
    )


def is_ours(table: str) -> bool:
    """Tell whether a table is the keeper's, or one in which SQLite keeps what belongs to an index of words of ours.

    >>> is_ours("records"), is_ours("Error_Words_data"), is_ours("orders")
    (True, True, False)
    """
    return table.lower() in _own_tables()


def _refused(what: str) -> ConfigurationError:
    return ConfigurationError(
        f"A step in the log's transaction may not {what}.",
        hint="It may read, and write tables of your own; see docs/guide/transactions.md.",
    )


def guard_of(connection: Connection, last: Guard | None) -> Guard:
    """Return the guard of a connection: the last one, unless the connection was made anew since."""
    if last is not None and cast("object", last.connection) is connection:
        return last
    return Guard(connection)
