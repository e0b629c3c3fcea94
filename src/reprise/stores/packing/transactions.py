"""Transactions whose appends are packed on their way to a keeper."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from reprise.stores.log import Append
from reprise.stores.packing.writing import Packer
from reprise.stores.transactions import Transactions, Writes


class PackedTransactions:
    """The port of the transactions over a keeper's.

    Payloads are packed each for itself: differences are made on the loop, to what was written before, and this may
    be another thread. Later payloads of the stream are differences to others, as they would be after one that is small.
    """

    def __init__(self, keeper: Transactions, packer: Packer) -> None:
        self._keeper = keeper
        self._packer = packer

    @property
    def is_sync(self) -> bool:
        """Whether work is synchronous and done where the keeper writes."""
        return self._keeper.is_sync

    async def commit(
        self, id: int, work: Callable[[Any], Any], finish: Callable[[], Any], seconds: float
    ) -> Append:
        """Do work with a connection, then write what ``finish`` returns, packed; errors as of the keeper."""
        if self.is_sync:
            return await self._keeper.commit(id, work, lambda: self._packed(finish()), seconds)

        async def finished() -> Writes:
            return self._packed(await finish())

        return await self._keeper.commit(id, work, finished, seconds)

    def _packed(self, writes: Writes) -> Writes:
        return Writes(tuple([self._packer.pack_apart(group) for group in writes.groups]), writes.tasks)
