"""The only door to asyncpg: what we use of it, with types, and what its errors mean.

asyncpg has no types of its own; the protocols here are as much of it as this keeper uses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from reprise.kernel.errors import (
    MissingExtra,
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreReadOnly,
    StoreUnreachable,
)

try:
    import asyncpg  # pyright: ignore[reportMissingTypeStubs]
except ImportError as error:
    raise MissingExtra(
        "PostgreSQL needs the driver asyncpg, which is not installed.",
        hint="Run: pip install 'reprise-agents[postgres]'",
    ) from error

_asyncpg: Any = asyncpg

Row = Mapping[str, Any]


class DriversTransaction(AbstractAsyncContextManager[Any], Protocol):
    """A transaction, also of those who end it themselves."""

    async def start(self) -> None:
        """Begin it."""
        ...

    async def commit(self) -> None:
        """End it, with what was done."""
        ...

    async def rollback(self) -> None:
        """End it as if nothing had been done."""
        ...


class Connection(Protocol):
    """A connection, as far as it is used here."""

    async def fetch(self, query: str, *args: Any) -> Sequence[Row]:
        """Return rows."""
        ...

    async def fetchval(self, query: str, *args: Any) -> Any:
        """Return the first column of the first row."""
        ...

    async def execute(self, query: str, *args: Any) -> str:
        """Run one statement, or a script without arguments."""
        ...

    def transaction(self) -> DriversTransaction:
        """Return a transaction."""
        ...

    async def reset(self) -> None:
        """Set back what the session was set to, and let go what it holds."""
        ...

    async def add_listener(self, channel: str, callback: Callable[[Any, int, str, str], None]) -> None:
        """Listen to a channel: callback(connection, process, channel, payload)."""
        ...

    def add_termination_listener(self, callback: Callable[[Any], None]) -> None:
        """Call back when the connection has ended."""
        ...

    def get_server_pid(self) -> int:
        """Return the number of the server's process that serves it."""
        ...

    def is_closed(self) -> bool:
        """Return whether it has ended."""
        ...

    async def close(self) -> None:
        """End it in order."""
        ...

    def terminate(self) -> None:
        """End it now."""
        ...


DURABLE = (
    "SELECT set_config('synchronous_commit', 'on', false)"
    " WHERE current_setting('synchronous_commit') IN ('off', 'local')"
)
"""Said on every connection; a stricter setting than ours stays."""


async def connect(
    dsn: str, defaults: Mapping[str, str], timeout: float, settings: Mapping[str, str] | None = None
) -> Connection:
    """Connect; ``timeout`` seconds are the limit of this and of every later statement.

    ``defaults`` are what the server's settings can be set back to; ``settings`` are set over them.
    Commits are durable whatever the server's default is, for that is what the log promises.
    """
    connection: Connection = await _asyncpg.connect(
        dsn, server_settings=dict(defaults), timeout=timeout, command_timeout=timeout
    )
    try:
        await connection.execute(
            "; ".join([DURABLE, *(f"SET {name} = '{value}'" for name, value in (settings or {}).items())])
        )
    except BaseException:
        connection.terminate()
        raise
    return connection


_ERRORS: Any = _asyncpg.exceptions

_LOST: tuple[type[BaseException], ...] = (
    OSError,
    EOFError,
    TimeoutError,
    _ERRORS.InterfaceError,
    # A connection that breaks in the wrong moment leaves asyncpg's own state machine puzzled.
    _ERRORS.InternalClientError,
    _ERRORS.PostgresConnectionError,
    _ERRORS.AdminShutdownError,
    _ERRORS.CrashShutdownError,
    _ERRORS.CannotConnectNowError,
    _ERRORS.TooManyConnectionsError,
    _ERRORS.IdleInTransactionSessionTimeoutError,
)

_AGAIN: tuple[type[BaseException], ...] = (
    _ERRORS.TransactionRollbackError,
    _ERRORS.QueryCanceledError,
    _ERRORS.LockNotAvailableError,
    _ERRORS.InvalidCachedStatementError,
)

_VALUE: tuple[type[BaseException], ...] = (
    _ERRORS.DataError,
    _ERRORS.ProgramLimitExceededError,
    ValueError,  # asyncpg's own DataError is one: a value that does not fit its type is not sent
    OverflowError,
)


def is_lost(error: BaseException) -> bool:
    """Return whether the connection broke, so that nobody said what became of the statement."""
    return isinstance(error, _LOST) and not is_about_one_value(error)


def is_worth_another_try(error: BaseException) -> bool:
    """Return whether the statement was rolled back for a reason that passes."""
    return isinstance(error, _AGAIN)


def is_about_one_value(error: BaseException) -> bool:
    """Return whether one value caused the error, so that the rest of a batch is worth a try without it."""
    return isinstance(error, _VALUE)


def translate(error: BaseException, where: str) -> StoreError:
    """Return the error of ours that says what happened; ``where`` is the store's URL without a password."""
    if isinstance(error, StoreError):
        return error
    for kinds, meaning, what, hint in _MEANINGS:
        if isinstance(error, kinds):
            return _because(meaning(f"The store {where} {what} ({error}).", hint=hint), error)
    if is_lost(error):
        return _because(StoreUnreachable(f"The store {where} cannot be reached ({error!r})."), error)
    return _because(StoreError(f"The store {where} refused a statement ({error})."), error)


def _because(translated: StoreError, error: BaseException) -> StoreError:
    translated.__cause__ = error
    return translated


_MEANINGS: tuple[tuple[Any, type[StoreError], str, str], ...] = (
    (_ERRORS.DiskFullError, StoreFull, "has no room left", "Make room on the server's disk; then try again."),
    (_ERRORS.ReadOnlySQLTransactionError, StoreReadOnly, "takes no writes", "Connect to the primary."),
    (
        _ERRORS.InsufficientPrivilegeError,
        StoreReadOnly,
        "does not let this role do that",
        "Grant it what docs/guide/postgresql.md says; after an update let the owner run: reprise db migrate",
    ),
    (
        (_ERRORS.DataCorruptedError, _ERRORS.IndexCorruptedError),
        StoreCorrupt,
        "is damaged",
        "Restore a backup.",
    ),
    (
        (_ERRORS.InvalidAuthorizationSpecificationError, _ERRORS.InvalidCatalogNameError),
        StoreUnreachable,
        "does not let us in",
        "Check user, password and database in the URL.",
    ),
)
