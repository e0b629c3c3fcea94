"""The promise of the transaction: a caller's own work on the keeper's database, in the commit of an append.

What the work wrote and what is appended are durable together, or neither is. So work of which the append is the record
was done exactly once.

Guarantees (proved by ``reprise.testing.TransactionsSuite`` over every keeper that has transactions)
    - work that fails, and an append that is refused, leave nothing; other appends are not touched
    - the work is done before the append's conditions are checked, on a connection that sees what it wrote itself
    - the work can neither end the transaction nor write what is the keeper's own; when it has ended, its connection is
      of no use
    - work that takes too long is ended and leaves nothing
    - as all appends: atomic, fenced, in the one order, durable when ``commit`` returns
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from reprise.kernel.errors import StoreError
from reprise.stores.log import Append, Group
from reprise.stores.queue import Task


class Writes(msgspec.Struct):
    """What is written together with some work: the groups of an append, and tasks that are offered."""

    groups: tuple[Group, ...]
    tasks: tuple[Task, ...] = ()


class WorkFailed(StoreError):
    """The work raised what is the ``__cause__``; nothing was written."""


class WorkTooLong(WorkFailed):
    """The work took longer than it may; nothing was written."""


class Transactions(Protocol):
    """Work in the commit of an append."""

    @property
    def is_sync(self) -> bool:
        """Whether work is synchronous and done where the keeper writes; else it is awaited on the caller's loop."""
        ...

    async def commit(
        self, id: int, work: Callable[[Any], Any], finish: Callable[[], Any], seconds: float
    ) -> Append:
        """Give ``work`` a connection, then write what ``finish`` returns (:class:`Writes`) as the append ``id``.

        Both are plain functions where ``is_sync``, else they return awaitables. Both are called again when the
        transaction was undone for reasons of the keeper; of all times one is committed. ``work`` may take ``seconds``.
        When ``finish`` returns, nothing else for the streams that it names may be on its way to the log.

        Raises ``WorkFailed``; ``AppendRefused`` or another ``StoreError``: nothing was written; ``OutcomeUnknown``.
        """
        ...
