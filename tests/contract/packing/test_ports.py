"""A store that packs keeps every promise of the keeper beneath it."""

from functools import partial

import pytest
from tests.contract.test_memory import MemoryKeeper
from tests.contract.test_sqlite import SQLiteKeeper

from reprise.kernel.errors import StoreCorrupt
from reprise.stores import open_store
from reprise.stores.cells import Change
from reprise.stores.packing import keeper_of, packed
from reprise.stores.packing.keys import KeyRing
from reprise.testing.suites import (
    BlobsSuite,
    CellsSuite,
    ConcurrentLogSuite,
    KeeperSuite,
    LogSuite,
    TransactionsSuite,
)

KEYS = KeyRing({"k": bytes(range(32))}, "k")


class SealedMemoryKeeper(MemoryKeeper):
    """Payloads sealed, in memory."""

    def __init__(self):
        super().__init__()
        self.store = packed(self.store, KEYS)
        self.opened = [self.store]

    async def waiting(self, name):
        return keeper_of(self.store).lease.waiting(name)


class PackedSQLiteKeeper(SQLiteKeeper):
    """Payloads packed, in a file."""

    def __init__(self):
        super().__init__()
        self.factory = partial(open_store, f"sqlite:///{self.folder}/test.db?synchronous=OFF")


class InSealedMemory(KeeperSuite):
    exceptions = frozenset({"one_process"})

    def make_keeper(self):
        return SealedMemoryKeeper()


class InPackedSQLite(KeeperSuite):
    examples = 10

    def make_keeper(self):
        return PackedSQLiteKeeper()


class TestSealedLog(InSealedMemory, LogSuite, ConcurrentLogSuite): ...


class TestSealedBlobs(InSealedMemory, BlobsSuite): ...


class TestSealedCells(InSealedMemory, CellsSuite):
    async def test_values_are_sealed_and_what_was_there_before_stays_readable(self, store):
        """Names, versions and times are not."""
        kept = keeper_of(store).cells
        await kept.apply("s", [Change("old", b"{}")])
        await store.cells.apply("s", [Change("new", b"secret")])
        (new, old) = (await kept.scan("s")).cells
        assert b"secret" not in new.data
        assert (new.name, old.data) == ("new", b"{}")
        assert [cell.data for cell in (await store.cells.scan("s")).cells] == [b"secret", b"{}"]
        await kept.apply("s", [Change("moved", new.data)])
        with pytest.raises(StoreCorrupt, match="moved from another place"):
            await store.cells.get("s", ["moved"])


class TestPackedLog(InPackedSQLite, LogSuite, ConcurrentLogSuite): ...


class TestPackedTransactions(InPackedSQLite, TransactionsSuite): ...


class SealedSQLiteKeeper(SQLiteKeeper):
    """Payloads sealed, in a file."""

    def __init__(self):
        super().__init__()
        self.factory = partial(open_store, f"sqlite:///{self.folder}/test.db?synchronous=OFF", keys=KEYS)


class TestSealedTransactions(TransactionsSuite):
    def make_keeper(self):
        return SealedSQLiteKeeper()
