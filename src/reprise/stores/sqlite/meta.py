"""Counters of the file that never fall behind: the keeper's clock and its fencing tokens."""

from __future__ import annotations

import threading

from reprise.kernel.clock import MICROSECONDS, Clock
from reprise.stores.conditions import floor_of
from reprise.stores.sqlite.database import Connection
from reprise.stores.sqlite.statements import Statements

SQL = Statements("meta.sql")


class KeeperClock:
    """The host's clock, made so that it never goes back for one file.

    All processes share the host's clock, so the only trouble is a step. When it is set back, the time goes on from
    the latest that was ever told, at the pace of the monotonic clock: within a process from memory, for a new process
    from the file. A step forward is followed, and leases end early, which their tokens make safe.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._mutex = threading.Lock()
        self._told = 0
        self._told_at = 0.0

    def read(self, stored: int) -> int:
        """Return the time, in microseconds, that is not before ``stored`` nor before any time told so far."""
        with self._mutex:
            now, monotonic = self._clock.now(), self._clock.monotonic()
            running = self._told + int((monotonic - self._told_at) * MICROSECONDS) if self._told else 0
            self._told = max(now, running, stored)
            self._told_at = monotonic
            return self._told


class Counters:
    """The counters within one transaction; read at the first question, written at its end."""

    def __init__(self, connection: Connection, clock: KeeperClock) -> None:
        self._connection = connection
        self._clock = clock
        self._now = 0
        self._token = 0
        self._last_token = 0
        self._serial = 0

    def begin(self) -> None:
        """Forget what the last transaction knew."""
        self._now = self._token = self._last_token = self._serial = 0

    def now(self) -> int:
        """Return the time of the transaction."""
        if not self._now:
            self._now = self._clock.read(stored(self._connection, "clock"))
        return self._now

    def new_token(self, least: int = 0) -> int:
        """Return a token higher than any before, and at least ``least``."""
        if not self._token:
            floor = floor_of(stored(self._connection, "epoch"))
            self._token = self._last_token = max(stored(self._connection, "token"), floor)
        self._token = max(self._token + 1, least)
        return self._token

    def begin_epoch(self, above: int) -> int:
        """Raise the epoch; return it."""
        epoch = max(stored(self._connection, "epoch"), above) + 1
        self._connection.execute(SQL["write"], ("epoch", epoch))
        self._token = self._last_token = 0
        return epoch

    def flush(self) -> None:
        """Write what was used up."""
        if self._now:
            self._serial = stored(self._connection, "serial") + 1
            self._connection.execute(SQL["write"], ("clock", self._now))
            self._connection.execute(SQL["write"], ("serial", self._serial))
        if self._token != self._last_token:
            self._connection.execute(SQL["write"], ("token", self._token))
            self._last_token = self._token

    def were_written(self, connection: Connection) -> bool | None:
        """Return whether the last transaction is in the file, None when it used no counter and so left no trace."""
        return stored(connection, "serial") == self._serial if self._serial else None


def stored(connection: Connection, name: str) -> int:
    """Return a counter as it stands in the file, 0 when it was never written."""
    row = connection.execute(SQL["read"], (name,)).fetchone()
    return row[0] if row else 0
