"""A store that packs keeps every promise of the keeper beneath it."""

from functools import partial

import pytest
from tests.contract.test_memory import MemoryKeeper
from tests.contract.test_sqlite import SQLiteKeeper

from reprise.kernel.errors import StoreCorrupt
from reprise.stores import open_store
from reprise.stores.cells import Change
from reprise.stores.log import Append, Group
from reprise.stores.packing import keeper_of, packed
from reprise.stores.packing.bases import Bases
from reprise.stores.packing.envelope import unfold
from reprise.stores.packing.keys import KeyRing
from reprise.stores.packing.transactions import PackedTransactions
from reprise.stores.packing.writing import Packer
from reprise.stores.queue import Task
from reprise.stores.transactions import Writes
from reprise.testing.suites import (
    BlobsSuite,
    CellsSuite,
    ConcurrentLogSuite,
    KeeperSuite,
    LogSuite,
    TransactionsSuite,
)
from reprise.testing.suites.keeper import fact

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


class Awaiting:
    """Transactions of a keeper whose work is awaited."""

    is_sync = False

    async def commit(self, id, work, finish, seconds):
        await work("connection")
        return Append(id, (await finish()).groups)


async def test_what_is_written_in_a_transaction_that_is_awaited_is_packed():
    met, text = [], b'["%s"]' % (b"x" * 5000)
    writes = Writes((Group("run/a", [fact(text)]),), (Task("t", "q"),))

    async def work(connection):
        met.append(connection)

    async def finish():
        return writes

    port = PackedTransactions(Awaiting(), Packer(Bases(), None))
    done = await port.commit(7, work, finish, 10)
    (event,) = done.groups[0].events
    assert (met, done.id, unfold(event.data)) == (["connection"], 7, text)
    assert len(event.data) < 100
