"""A store that packs keeps every promise of the keeper beneath it."""

from functools import partial

from tests.contract.test_memory import MemoryKeeper
from tests.contract.test_sqlite import SQLiteKeeper

from reprise.stores import open_store
from reprise.stores.packing import keeper_of, packed
from reprise.stores.packing.keys import KeyRing
from reprise.testing.suites import BlobsSuite, ConcurrentLogSuite, KeeperSuite, LogSuite, TransactionsSuite

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
