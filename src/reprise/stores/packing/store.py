"""A store over a keeper's: the same ports, with a log that packs."""

from __future__ import annotations

from hashlib import blake2b
from typing import Protocol, runtime_checkable

from reprise.kernel.errors import ConfigurationError, KeyMissing, StoreCorrupt
from reprise.kernel.events import Record
from reprise.stores.blobs import Blobs
from reprise.stores.cells import Cells
from reprise.stores.lease import Lease
from reprise.stores.packing.bases import MEMORY, Bases
from reprise.stores.packing.cells import SealedCells
from reprise.stores.packing.keys import DIGEST_BYTES
from reprise.stores.packing.log import PackedLog
from reprise.stores.packing.reading import Gone, Unpacker
from reprise.stores.packing.transactions import PackedTransactions
from reprise.stores.packing.writing import Keys, Packer
from reprise.stores.presence import Presence
from reprise.stores.queue import Queue
from reprise.stores.runs import Runs
from reprise.stores.signal import Signal
from reprise.stores.store import Coordinating, Schema, Store
from reprise.stores.transactions import Transactions

MOST_PROBLEMS = 1000
"""A store that is worse is not described further."""
_PAGE = 100


@runtime_checkable
class Verifying(Protocol):
    """A store that can check all it holds."""

    async def verify(self) -> list[str]:
        """Return what is wrong, in words."""
        ...


class PackedStore:
    """All ports of ``keeper``; payloads that go by this log are packed, and sealed where there are keys."""

    def __init__(self, keeper: Store, keys: Keys | None = None, *, memory: int = MEMORY) -> None:
        self.keeper = keeper
        """The store as it is kept: its log shows packed payloads."""
        self.keys = keys
        self.log = PackedLog(keeper.log, keeper.blobs, keys, Bases(memory))
        self.cells: Cells = keeper.cells if keys is None else SealedCells(keeper.cells, keys)
        self._apart = Packer(Bases(0), keys)
        """Packs what is written by transactions, in whatever thread the keeper writes them."""

    @property
    def url(self) -> str:
        """The URL, without a password."""
        return self.keeper.url

    @property
    def blobs(self) -> Blobs:
        """The large payloads, as they are kept."""
        return self.keeper.blobs

    @property
    def runs(self) -> Runs:
        """The index of runs."""
        return self.keeper.runs

    @property
    def lease(self) -> Lease:
        """The leases."""
        return self.keeper.lease

    @property
    def queue(self) -> Queue:
        """The queues."""
        return self.keeper.queue

    @property
    def signal(self) -> Signal:
        """The wake-ups."""
        return self.keeper.signal

    @property
    def presence(self) -> Presence:
        """Who is there of the workers."""
        return self.keeper.presence

    @property
    def transactions(self) -> Transactions:
        """What does a caller's own work in the commit of an append."""
        return PackedTransactions(self.keeper.transactions, self._apart)

    @property
    def epoch(self) -> int:
        """How many epochs began before the one we are in."""
        return self.keeper.epoch

    async def schema(self) -> Schema:
        """Return of what version the tables are; also before ``start``."""
        return await self.keeper.schema()

    async def begin_epoch(self, above: int = 0) -> int:
        """Begin an epoch higher than the present one and than ``above``; return its number."""
        self.log.forget()
        return await self.keeper.begin_epoch(above)

    async def start(self) -> None:
        """Open; idempotent. Creates or upgrades the schema."""
        await self.keeper.start()

    async def stop(self) -> None:
        """Write what was handed over, then close; idempotent, safe before start."""
        await self.keeper.stop()

    def statistics(self) -> dict[str, int | float | str]:
        """Return the keeper's counters, and what packing did to payloads of at least a kilobyte."""
        packed, apart = self.log.packer.counters, self._apart.counters
        return {**self.keeper.statistics(), **{name: packed[name] + apart[name] for name in packed}}

    async def verify(self) -> list[str]:
        """Check all that the keeper can check, then unpack every payload; return what is wrong, in words."""
        problems = await self.keeper.verify() if isinstance(self.keeper, Verifying) else []
        unpacker = Unpacker(self.keeper.log, self.keeper.blobs, Bases(), self.keys)
        position = 0
        while len(problems) < MOST_PROBLEMS:
            try:
                records = await self.keeper.log.scan(position, _PAGE)
            except StoreCorrupt as error:
                return [*problems, error.what]
            if not records:
                return problems
            position = records[-1].position
            problems += await _problems(unpacker, records)
        return [*problems[:MOST_PROBLEMS], "… and more"]


def digest(store: Store, data: bytes) -> str:
    """Return a name that follows from data, keyed where the store is sealed."""
    if isinstance(store, PackedStore) and store.keys is not None:
        return store.keys.digest(data)
    return blake2b(data, digest_size=DIGEST_BYTES).hexdigest()


async def _problems(unpacker: Unpacker, records: list[Record]) -> list[str]:
    try:
        await unpacker.unpack(records)
    except (StoreCorrupt, KeyMissing, Gone):
        pass
    else:
        return []
    problems: list[str] = []
    for record in records:
        try:
            await unpacker.unpack([record])
        except (StoreCorrupt, KeyMissing) as error:
            problems.append(error.what)
        except Gone as gone:
            if (damage := await unpacker.judged(gone)) is not None:
                problems.append(damage.what)
    return problems


def packed(store: Store, keys: Keys | None = None) -> Store:
    """Return a store that packs its payloads. What is kept in memory is packed only to be sealed; without a log only cells are.

    Raises:
        ConfigurationError: the store packs already, with other keys.
    """
    if isinstance(store, PackedStore):
        if keys is not None and keys is not store.keys:
            raise ConfigurationError(
                f"The store {store.url} was opened with other keys.",
                hint="Give the keys once, where it is opened.",
            )
        return store
    if isinstance(store, Coordinating):
        if keys is not None:
            store.seal(keys)
        return store
    if keys is None and store.url.startswith("memory:"):
        return store
    return PackedStore(store, keys)


def keeper_of(store: Store) -> Store:
    """Return the store as it is kept: its log shows payloads packed and sealed, and takes them so."""
    return store.keeper if isinstance(store, PackedStore) else store
