"""A backup of a store in use, and going back to it without anybody taking it for what was before."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Protocol, runtime_checkable

import msgspec

from reprise.kernel.clock import Clock
from reprise.kernel.errors import ConfigurationError, StoreUnreachable
from reprise.stores.archive import Opening, read_archive, verify_archive
from reprise.stores.moving.exporting import export_store
from reprise.stores.moving.importing import import_runs
from reprise.stores.packing import keeper_of
from reprise.stores.progress import Report, nobody
from reprise.stores.store import Store

UNSEEN = 15
"""Epochs left out, because the store that was lost may have seen some that the archive does not know of."""


@runtime_checkable
class FileStore(Protocol):
    """A store in one file, which can be copied as it is."""

    async def back_up(self, to: Path, report: Report = nobody) -> int:
        """Write the file, as it is at one moment, to another one; return the size of that."""
        ...

    async def restore(self, copy: Path, *, replace: bool = False, report: Report = nobody) -> int:
        """Put a backup in the place of the file, and begin an epoch; return that."""
        ...


NAMES = (".jsonl", ".jsonl.gz")
"""How the names of archives end."""


class BackedUp(msgspec.Struct, frozen=True):
    """A backup that was made."""

    path: str
    bytes: int
    kind: str
    """``file``: the keeper's own; ``archive``: JSON lines, which any store takes."""
    hash: str = ""
    """Of an archive's last line."""


class Restored(msgspec.Struct, frozen=True):
    """A store as it was brought back."""

    epoch: int
    runs: int


async def back_up_store(
    store: Store, path: Path, *, clock: Clock | None = None, report: Report = nobody
) -> BackedUp:
    """Write all that a store holds, as it is at one moment, to a file, while it is in use.

    A name that ends in ``.jsonl`` or ``.jsonl.gz`` makes an archive, which can be restored into any kind of store; any
    other a copy of the store's own file, which is faster. The store has been started.

    Raises ``ConfigurationError`` when there is such a file, or the store is none of one file.
    """
    if path.name.endswith(NAMES):
        made = await export_store(store, path, clock=clock, report=report)
        size = (await asyncio.to_thread(path.stat)).st_size
        return BackedUp(str(path), size, "archive", made.hash)
    keeper = keeper_of(store)
    if not isinstance(keeper, FileStore):
        raise ConfigurationError(
            f"The store {store.url} is not one file that could be copied to {path}.",
            hint="Give a name that ends in .jsonl or .jsonl.gz: an archive of all runs.",
        )
    return BackedUp(str(path), await keeper.back_up(path, report), "file")


async def restore_store(
    store: Store, path: Path, *, replace: bool = False, clock: Clock | None = None, report: Report = nobody
) -> Restored:
    """Bring a store back to what it was when a backup was made; leaves it started.

    Tokens, claims and leases of before are void from then on: a worker that still believes in them is refused, and
    begins anew. With ``replace`` what the store holds now is lost; an archive goes into an empty store only. The
    store has not been started.

    Raises ``ConfigurationError`` when the store holds something, ``ArchiveCorrupt`` or ``StoreCorrupt`` when the backup
    is damaged, ``SchemaTooNew`` when a newer Reprise wrote it. Then nothing was changed.
    """
    if await asyncio.to_thread(is_archive, path):
        await asyncio.to_thread(verify_archive, path)
        await store.start()
        if await store.log.scan(0, 1):
            raise ConfigurationError(
                f"The store {store.url} holds data, and an archive is restored into an empty one.",
                hint="Give another store, or remove what is in this one first.",
            )
        opening = next(iter(read_archive(path)))
        assert isinstance(opening, Opening)
        if not opening.whole:
            raise ConfigurationError(
                f"{path} holds some runs, and is no backup of a store.",
                hint=f"Bring them in with: reprise events import {path}",
            )
        epoch = await store.begin_epoch(opening.epoch + UNSEEN)
        runs = (await import_runs(store, path, clock=clock, report=report)).runs
        return Restored(epoch, runs)
    keeper = keeper_of(store)
    if not isinstance(keeper, FileStore):
        raise ConfigurationError(
            f"The store {store.url} is not one file that could be replaced by {path}.",
            hint="Restore an archive (.jsonl), or copy the file's runs with: reprise db copy",
        )
    epoch = await keeper.restore(path, replace=replace, report=report)
    await store.start()
    return Restored(epoch, sum((await store.runs.count()).values()))


def is_archive(path: Path) -> bool:
    """Return whether a file looks like an archive, packed or not.

    Raises ``StoreUnreachable`` when it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(2) in (b'{"', b"\x1f\x8b")
    except OSError as error:
        raise StoreUnreachable(
            f"{path} cannot be read ({error.strerror}).", hint="Give the path of a backup."
        ) from error
