"""Unpack what is read: fetch blobs, open what is sealed, and unfold differences from the payloads before them."""

from __future__ import annotations

from collections.abc import Sequence

from reprise.kernel.errors import KeyMissing, StoreCorrupt
from reprise.kernel.events import Kind, Record
from reprise.stores.blobs import Blobs, referred
from reprise.stores.log import Log
from reprise.stores.packing.bases import LINK, Base, Bases, Chain
from reprise.stores.packing.envelope import (
    FIRST_PLAIN,
    SEALED,
    SMALL,
    SpoiltError,
    place_of,
    unfold,
)
from reprise.stores.packing.keys import key_missing
from reprise.stores.packing.writing import ANYWHERE, Keys, place_in_log


class Gone(Exception):
    """What a record's payload refers to or rests upon is not there: the record has gone since, too, or the store is damaged."""

    def __init__(self, record: Record, why: str) -> None:
        super().__init__(why)
        self.record, self.why = record, why


class Unpacker:
    """Unpacks records of one log."""

    def __init__(self, log: Log, blobs: Blobs, bases: Bases, keys: Keys | None) -> None:
        self._log = log
        self._blobs = blobs
        self._bases = bases
        self._keys = keys

    async def unpack(self, records: list[Record]) -> list[Record]:
        """Return records with the payloads that were handed in; of each stream they must be without a gap.

        Raises ``StoreCorrupt``, ``KeyMissing``, or ``Gone``.
        """
        streams: dict[str, list[int]] = {}
        for number, record in enumerate(records):
            data = record.data
            if len(data) >= SMALL or (data and data[0] < FIRST_PLAIN) or record.kind == Kind.RUN_CONTINUED:
                streams.setdefault(record.stream, []).append(number)
        if not streams:
            return records
        unpacked = list(records)
        first, last = _ends(records)
        contents = await self._contents([records[n] for numbers in streams.values() for n in numbers])
        for stream, numbers in streams.items():
            chain = self._bases.take("read", stream)
            if chain is None or chain.version != first[stream] - 1:
                chain = Chain()
            for number in numbers:
                record = records[number]
                if record.kind == Kind.RUN_CONTINUED:
                    chain.clear()
                base = await self._base(chain, record, contents.pop(record.position))
                if len(base.data) >= SMALL:
                    chain.note(record.key, base)
                unpacked[number] = _with(record, base.data)
            chain.version = last[stream]
            self._bases.put("read", stream, chain)
        return unpacked

    async def judged(self, gone: Gone) -> StoreCorrupt | None:
        """Return the damage where a record is there still: then what it needs should be; None = it has gone, too.

        Positions are never used again, so a record that is there now was there when what it needs was looked for.
        """
        record = gone.record
        there = await self._log.read(record.stream, record.version - 1, 1)
        return corrupt(record, gone.why) if there and there[0].position == record.position else None

    # ---------------------------------------------------------------- from records to contents

    async def _contents(self, records: Sequence[Record]) -> dict[int, bytes]:
        """Return by position what of each record is left when it is fetched and opened."""
        contents = {record.position: self._opened(record) for record in records}
        wanted = {hash: None for data in contents.values() if (hash := referred(data)) is not None}
        if not wanted:
            return contents
        blobs = await self._blobs.get(list(wanted))
        for record in records:
            hash = referred(contents[record.position])
            if hash is not None:
                if hash not in blobs:
                    raise Gone(record, "the blob that it refers to is not there")
                contents[record.position] = self._open(record, blobs[hash], ANYWHERE)
        return contents

    def _opened(self, record: Record) -> bytes:
        return self._open(
            record, record.data, place_in_log(record.stream, record.kind, record.at, record.key)
        )

    def _open(self, record: Record, data: bytes, place: bytes) -> bytes:
        if not data or data[0] != SEALED:
            return data
        try:
            if self._keys is None:
                raise key_missing(data)
            return self._keys.open(data, place)
        except (KeyMissing, StoreCorrupt) as error:
            where = f"{_name(record)}: {error.what}"
            raise type(error)(where, hint=error.hint) from error

    # ---------------------------------------------------------------- from contents to payloads

    async def _base(self, chain: Chain, record: Record, content: bytes) -> Base:
        """Return a record's payload, as one to which others may be differences."""
        place = place_of(content)
        if place is None:
            return self._whole(record, content)
        back, root = place
        version = record.version - back
        known = chain.find(version)
        if known is not None:
            try:
                return _applied(record, content, known)
            except SpoiltError:
                pass  # what we remember may be of another life of the stream; ask the store
        try:
            return _applied(record, content, await self._load(record, version, version - root))
        except SpoiltError as error:
            raise Gone(record, str(error)) from error

    def _whole(self, record: Record, content: bytes) -> Base:
        try:
            return Base(record.version, record.version, len(content) + LINK, unfold(content))
        except SpoiltError as error:
            raise corrupt(record, str(error)) from error

    async def _load(self, wanting: Record, version: int, root: int) -> Base:
        """Read an earlier payload of a stream, from the whole one on that it rests upon."""
        rows = await self._log.read(wanting.stream, root - 1, version - root + 1) if root > 0 else []
        records = {record.version: record for record in rows}
        links: list[tuple[Record, bytes]] = []
        place: tuple[int, int] | None = (wanting.version - version, 0)
        at = wanting.version
        while place is not None:
            at -= place[0]
            record = records.get(at)
            if record is None:
                raise Gone(wanting, f"version {at}, on which it rests, is not there")
            [content] = (await self._contents([record])).values()
            links.append((record, content))
            place = place_of(content)
        record, content = links.pop()
        base = self._whole(record, content)
        for record, content in reversed(links):
            base = _applied(record, content, base)
        return base


def _applied(record: Record, content: bytes, base: Base) -> Base:
    weight = base.weight + len(content) + LINK
    return Base(record.version, base.root, weight, unfold(content, base.data))


def _ends(records: Sequence[Record]) -> tuple[dict[str, int], dict[str, int]]:
    """Return the first and the last version of each stream."""
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for record in records:
        first.setdefault(record.stream, record.version)
        last[record.stream] = record.version
    return first, last


def corrupt(record: Record, why: str) -> StoreCorrupt:
    """Return the error of a payload that cannot be read."""
    return StoreCorrupt(
        f"{_name(record)} cannot be unpacked: {why}.",
        hint="The store was damaged outside of Reprise: restore a backup.",
    )


def _name(record: Record) -> str:
    return f"The payload of {record.stream}, version {record.version} ({record.key or 'no key'})"


def _with(record: Record, data: bytes) -> Record:
    return Record(
        record.position,
        record.stream,
        record.version,
        record.kind,
        record.at,
        record.key,
        data,
        record.print,
        record.took,
        record.append,
    )
