"""Connections to SQLite in a simulation: their statements take time, and they wait for locks in virtual time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from reprise.stores.sqlite.database import Connection
from reprise.stores.sqlite.faults import code_of
from reprise.testing.lockstep import Killed, Lockstep

BUSY = 5
FLUSH = 0.004
"""Seconds that a commit takes at most."""
STATEMENT = 0.001
"""Seconds that a statement takes at most, when it takes any."""
SELDOM = 0.1
"""Share of statements that take time, so that others come in between."""
_NAPS = (0.001, 0.002, 0.005, 0.010, 0.015, 0.020, 0.025, 0.025, 0.025, 0.050, 0.050, 0.100)
"""How long SQLite itself sleeps between its looks at a lock that others have."""


class Witness(Protocol):
    """Who is told of transactions at the moment at which they happen."""

    @property
    def is_gone(self) -> bool:
        """Tell whether the process is dead, or its machine has no power."""
        ...

    def began(self) -> None:
        """Note that a transaction that writes has begun."""
        ...

    def commits(self) -> None:
        """Note that one is about to be committed."""
        ...

    def committed(self) -> None:
        """Note that one was."""
        ...


class Rows:
    """The rows of a statement that has been executed to its end."""

    def __init__(self, rows: list[Any]) -> None:
        self._rows = iter(rows)

    def fetchone(self) -> Any:
        """Return the next row, or None."""
        return next(self._rows, None)

    def fetchall(self) -> list[Any]:
        """Return the rows that are left."""
        return list(self._rows)


class Session:
    """A connection of a simulated process."""

    def __init__(self, crew: Lockstep, connect: Callable[[], Any], witness: Witness) -> None:
        self._crew, self._connect, self._witness = crew, connect, witness
        self._connection: Any = connect()
        self._busy = 0.0
        self._is_closed = False
        self._is_writing = False
        """Whether its transaction writes; those that only read are none of the witness's business."""

    @property
    def in_transaction(self) -> bool:
        """Return whether a transaction is open."""
        self._check()
        return self._raw.in_transaction

    @property
    def _raw(self) -> Any:
        if self._connection is None:
            self._connection = self._connect()
        return self._connection

    def execute(self, sql: str, parameters: Sequence[Any] | dict[str, Any] = (), /) -> Rows:
        """Execute one statement to its end."""
        self._check()
        if sql.startswith("PRAGMA busy_timeout"):
            # The wait for a lock must let others go on, so it is done here.
            self._busy = int(sql.partition("=")[2]) / 1000
            return Rows([])
        in_thread = self._crew.current is not None
        if in_thread:
            self._take_time(sql)
        rows = self._insist(sql, parameters)
        if sql.startswith("BEGIN"):
            self._is_writing = sql != "BEGIN"
            if self._is_writing:
                self._witness.began()
        elif sql == "COMMIT" and self._is_writing:
            self._witness.committed()
            if in_thread:
                self._crew.sleep(self._crew.loop.chance() * STATEMENT)
        return Rows(rows)

    def close(self) -> None:
        """Close the connection."""
        if not self._witness.is_gone:
            self._is_closed = True
            self.lose()

    def cut(self) -> None:
        """Be gone with the process: what was not committed never was."""
        if self._is_closed or self._connection is None:
            return
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")
        self.lose()

    def lose(self) -> None:
        """Lose the connection; the next statement opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _check(self) -> None:
        if self._witness.is_gone:
            raise Killed

    def _take_time(self, sql: str) -> None:
        crew = self._crew
        if sql == "COMMIT" and self._is_writing:
            self._witness.commits()
            crew.sleep(crew.loop.chance() * FLUSH)
        elif crew.loop.chance() < SELDOM:
            crew.sleep(crew.loop.chance() * STATEMENT)

    def _insist(self, sql: str, parameters: Any) -> list[Any]:
        """Do it, and wait for the locks of others as SQLite does."""
        waited, tries = 0.0, 0
        while True:
            try:
                rows = list(self._raw.execute(sql, parameters))
                self._check()
                return rows
            except Exception as error:
                waits = code_of(error) == BUSY and not self._raw.in_transaction and waited < self._busy
                if not waits or self._crew.current is None:
                    raise
            self._check()
            nap = _NAPS[min(tries, len(_NAPS) - 1)]
            waited, tries = waited + nap, tries + 1
            self._crew.sleep(nap)


_: type[Connection] = Session
