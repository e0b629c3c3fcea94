"""Lend a connection to a caller's own work: as it is, but for what would end the transaction around the work."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from reprise.kernel.errors import BodyError, ConfigurationError
from reprise.stores.postgres.driver import Connection

_SAYS = frozenset(
    {"execute", "executemany", "fetch", "fetchrow", "fetchval", "fetchmany", "prepare", "cursor"}
)
"""Methods that are given a statement."""
_ENDS = frozenset({"close", "terminate", "reset", "reload_schema_state", "add_listener"})
"""Methods that are the keeper's."""
_TRANSACTION = re.compile(
    r"\s*(commit|end|abort|begin|start\s+transaction|prepare\s+transaction"
    r"|rollback(?!\s+(work\s+|transaction\s+)?to\b))\b",
    re.IGNORECASE,
)


class Lent:
    """A connection of asyncpg, as long as the work on it lasts.

    A statement that would end the transaction is refused. One that is hidden (in a script, in a procedure) is noticed
    afterwards: then the append is refused, but what was committed by hand stays.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection: Connection | None = connection

    def give_back(self) -> None:
        """Be of no use any more."""
        self._connection = None

    def __getattr__(self, name: str) -> Any:
        if self._connection is None:
            raise BodyError(
                "The connection of a step was used after the step had ended.",
                hint="Read all rows within the step; keep values, not cursors.",
            )
        if name in _ENDS:
            raise refused(f"call {name}() of its connection")
        value = getattr(self._connection, name)
        return _heard(value) if name in _SAYS else value


def _heard(method: Callable[..., Any]) -> Callable[..., Any]:
    def say(statement: str, *args: Any, **options: Any) -> Any:
        if (found := _TRANSACTION.match(statement)) is not None:
            raise refused(f"{found[1].upper()} the transaction, which is the log's")
        return method(statement, *args, **options)

    return say


def refused(what: str) -> ConfigurationError:
    """Return the error for what work may not do."""
    return ConfigurationError(
        f"A step in the log's transaction may not {what}.",
        hint="It may read, and write tables of your own; see docs/guide/transactions.md.",
    )
