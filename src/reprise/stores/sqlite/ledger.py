"""Write appends: check their conditions against known heads, collect rows, insert many at once.

Lives on the writer's connection, inside its transaction and its turn, so what it knows of the file stays true until
another process has written; ``PRAGMA data_version`` tells. No head row is written per append: the unique index over
(stream, version) says where a stream is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from reprise.kernel.errors import AppendRefused, CodecError, StoreCorrupt, StoreError
from reprise.stores.conditions import NO_STREAM, admit, check_room, floor_of, is_plain, streams_of
from reprise.stores.log import Append, Group, Head
from reprise.stores.sqlite.blob_rows import BlobRows
from reprise.stores.sqlite.database import Connection
from reprise.stores.sqlite.meta import Counters
from reprise.stores.sqlite.rows import broken_row, check_row, checksum, is_sealed, missing_records, sealed
from reprise.stores.sqlite.run_rows import RunRows
from reprise.stores.sqlite.statements import Statements
from reprise.stores.sqlite.terms import Places

SQL = Statements("log.sql")

RECORD_WIDTH = 11
KNOWN_STREAMS = 20_000
"""Heads kept in memory; beyond it all are forgotten and read again."""
RECORDS_PER_DROP = 1000
"""Records that one job deletes or trims, so that nobody waits long for a turn."""
VERSIONS_PER_HEAD_ROW = 64
"""A stream's row is written again at least this often, so that lost records at its end are noticed."""


class _Stream:
    """What the writer knows of a stream beside its head."""

    __slots__ = ("id", "kept", "token")

    def __init__(self, id: int, kept: int, token: int) -> None:
        self.id = id
        self.kept = kept
        """Version in the stream's row; -1 = the row is not written yet."""
        self.token = token


class Ledger:
    """The writer's view of the log; one transaction at a time."""

    def __init__(self, connection: Connection, counters: Counters) -> None:
        self._connection = connection
        self._heads: dict[str, Head] = {}
        self._streams: dict[str, _Stream] = {}
        self._broken: dict[str, StoreCorrupt] = {}
        self._data_version = -1
        self._position: int = 0
        self._last_stream = 0
        self._floor = 0
        self.epoch = 0
        self._flat: list[Any] = []
        self._changed: dict[str, None] = {}
        self.runs = RunRows(connection, Places(connection, counters))
        self.blobs = BlobRows(connection)
        self.rows: int = 0
        """Records staged since ``begin``."""
        self.bytes: int = 0
        """Bytes of their data and of blobs."""

    @property
    def position(self) -> int:
        """Highest position given so far."""
        return self._position

    def begin(self, appends: Iterable[Append]) -> None:
        """Make sure that what is known is true, and know all streams and runs that the appends name."""
        (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        if version != self._data_version or len(self._heads) > KNOWN_STREAMS:
            self.forget()
            self._data_version = version
            self._position, self._last_stream, self.epoch = self._connection.execute(SQL["ends"]).fetchone()
            self._floor = floor_of(self.epoch)
        self.rows = self.bytes = 0
        self._broken.clear()
        self._learn(appends)

    def look_again(self, appends: Iterable[Append]) -> None:
        """Begin anew within the transaction, after some of what was written was undone."""
        rows, size = self.rows, self.bytes
        self.forget()
        self.begin(appends)
        self.rows, self.bytes = rows, size

    def forget(self) -> None:
        """Know nothing any more: another process has written, or the transaction was undone."""
        self._data_version = -1
        self._heads.clear()
        self._streams.clear()
        self._flat.clear()
        self._changed.clear()
        self.runs.forget()
        self.blobs.forget()

    def stage(self, append: Append) -> None:
        """Check an append and collect its rows, or set its ``error``; nothing of a refused one is kept."""
        append.error = None  # it may be another try
        groups = append.groups
        before = len(self._flat), self._position, self.rows, self.bytes
        try:
            if (
                len(groups) == 1
                and (head := self._heads.get(groups[0].stream))
                and is_plain(groups[0], head, self._floor)
            ):
                self._collect_plain(append, groups[0], head)
                return
            if self._broken:
                self._check_broken(append)
            changed = admit(append, self._heads, self._floor)
            check_room(append, self.runs.places.others)
            self._collect(append)
        except (AppendRefused, StoreCorrupt) as error:
            append.error = error
            return
        except (TypeError, ValueError, OverflowError) as error:
            append.error = CodecError(f"An event of the append {append.id} cannot be written ({error}).")
            start, self._position, self.rows, self.bytes = before
            del self._flat[start:]
            return
        for name, head in changed.items():
            self._set_head(name, head)
        for group in groups:
            if group.run is not None:
                self.runs.apply(group.run)
                if group.slots is not None:
                    self.runs.seat(group.run.id, group.slots, group.token)
            if group.closes and group.stream.startswith("run/"):
                self.runs.end(group.stream[4:])

    def write(self, append: Append) -> None:
        """Stage an append that ``begin`` was not told of; raises its ``error`` when it is refused."""
        self._learn((append,))
        self.stage(append)
        if append.error is not None:
            raise append.error

    def flush(self) -> None:
        """Write what was staged."""
        if self._changed:
            self._write_streams()
        if self._flat:
            SQL.write(self._connection, "insert_records", self._flat, RECORD_WIDTH)
            self._flat.clear()
        self.runs.flush()
        self.blobs.flush()

    def begin_epoch(self, epoch: int) -> None:
        """Void older tokens, and go on with positions above all that were given."""
        self.epoch, self._floor = epoch, floor_of(epoch)
        self._position = max(self._position, self._floor)
        self._connection.execute(SQL["keep_position"], (self._position,))

    def trim(self, name: str, through: int) -> int:
        """Delete some of a stream's oldest records, up to version ``through`` in the end; return how many."""
        head = self._know(name)
        stream = self._streams.get(name)
        if stream is None:
            return 0
        begin = self._trimmed(stream.id)
        end = min(through, head.version - 1, begin + RECORDS_PER_DROP)
        if end <= begin:
            return 0
        while self.blobs.release(stream.id, RECORDS_PER_DROP, end):
            pass
        self._connection.execute(SQL["trim_records"], (stream.id, end))
        self._connection.execute(SQL["set_trimmed"], sealed((stream.id, end)))
        return end - begin

    def _trimmed(self, id: int) -> int:
        row = self._connection.execute(SQL["trimmed"], (id,)).fetchone()
        if row is None:
            return 0
        check_row("trims", str(id), row)
        return row[1]

    def _know(self, name: str) -> Head:
        if name not in self._heads:
            self._load([name])
            if name in self._broken:
                raise self._broken[name]
        return self._heads.get(name, NO_STREAM)

    def hide(self, name: str) -> tuple[int, int]:
        """Begin to drop a stream: nobody finds it or its run's row any more; return its number and its count."""
        head = self._know(name)
        self._heads.pop(name, None)
        stream = self._streams.pop(name, None)
        if stream is None:
            return 0, 0
        self._changed.pop(name, None)
        count = head.version - self._trimmed(stream.id)
        self._connection.execute(SQL["forget_trimmed"], (stream.id,))
        self._connection.execute(SQL["keep_position"], (self._position,))
        self._connection.execute(SQL["hide_stream"], (f"~dropped/{stream.id}", stream.id))
        if name.startswith("run/"):
            self.runs.drop(name[4:])
        return stream.id, count

    def clear_hidden(self, ids: Sequence[int]) -> Sequence[int]:
        """Delete some references and records of hidden streams, and those left without; return the other streams."""
        room = RECORDS_PER_DROP
        for done, id in enumerate(ids):
            if self._connection.execute(SQL["is_hidden"], (id,)).fetchone() is None:
                continue
            if self.blobs.release(id, room):
                return ids[done:]
            self._connection.execute(SQL["drop_records"], (id, room))
            (gone,) = self._connection.execute(SQL["changes"]).fetchone()
            if gone == room:
                return ids[done:]
            self._connection.execute(SQL["drop_stream"], (id,))
            room -= gone + 1
            if room <= 0:
                return ids[done + 1 :]
        return ()

    def _collect_plain(self, append: Append, group: Group, head: Head) -> None:
        """Collect the rows of an append that needs no more than its place: most of all appends."""
        version = self._add_rows(self._streams[group.stream].id, head.version, group, append.id)
        append.versions = (version,)
        append.position = self._position
        self._set_head(group.stream, Head(version, head.token))

    def _collect(self, append: Append) -> None:
        before = self._position
        versions: dict[str, int] = {}
        for group in append.groups:
            name = group.stream
            version = versions.get(name)
            if version is None:
                version = self._heads.get(name, NO_STREAM).version
            if group.events:
                stream = self._streams.get(name) or self._add_stream(name)
                version = self._add_rows(stream.id, version, group, append.id)
            versions[name] = version
        append.versions = tuple([versions[group.stream] for group in append.groups])
        if self._position > before:
            append.position = self._position
        for group in append.groups:
            if group.blobs and group.events:
                stream = self._streams[group.stream]
                self.bytes += self.blobs.stage(group.blobs, stream.id, versions[group.stream])

    def _add_rows(self, stream: int, version: int, group: Group, mark: int) -> int:
        """Collect the columns of a group's records, one after the other; return the version of the last."""
        flat, position, size = self._flat, self._position, 0
        for event in group.events:
            version += 1
            position += 1
            data = event.data
            size += len(data)
            # int(): the driver binds a member of an enum half as fast as a plain number.
            row = (position, stream, version, int(event.kind), event.at, event.key, data,
                   event.print, event.took, mark)  # fmt: skip
            crc = checksum(row)
            flat += row
            flat.append(crc)
            mark = 0
        self.rows += position - self._position
        self.bytes += size
        self._position = position
        return version

    def _set_head(self, name: str, head: Head) -> None:
        stream = self._streams[name]
        self._heads[name] = head
        if head.version - stream.kept >= VERSIONS_PER_HEAD_ROW or head.token != stream.token or head.closed:
            self._changed[name] = None

    def _add_stream(self, name: str) -> _Stream:
        self._last_stream += 1
        stream = self._streams[name] = _Stream(self._last_stream, -1, -1)
        return stream

    def _write_streams(self) -> None:
        new: list[Any] = []
        old: list[Any] = []
        for name in self._changed:
            stream, head = self._streams[name], self._heads[name]
            row = sealed((stream.id, name, head.version, head.token, int(head.closed)))
            (new if stream.kept < 0 else old).extend(row)
            stream.kept, stream.token = head.version, head.token
        SQL.write(self._connection, "insert_streams", new, 6)
        SQL.write(self._connection, "update_streams", old, 6)
        self._changed.clear()

    def _learn(self, appends: Iterable[Append]) -> None:
        heads = self._heads
        streams: dict[str, None] = {}
        runs: dict[str, None] = {}
        for append in appends:
            for group in append.groups:
                if group.stream not in heads:
                    streams[group.stream] = None
                if group.guard and group.guard not in heads:
                    streams[group.guard] = None
                if group.run is not None:
                    runs[group.run.id] = None
        if streams:
            self._load(list(streams))
        if runs:
            self.runs.load(runs)

    def _load(self, names: Sequence[str]) -> None:
        for text, first, last in SQL.many("heads", len(names)):
            for row in self._connection.execute(text, names[first:last]).fetchall():
                *columns, seen = row
                id, name, kept, token, closed, _ = columns
                version = seen or 0
                if not is_sealed(tuple(columns)):
                    self._broken[name] = broken_row("streams", name)
                elif version < kept:
                    self._broken[name] = missing_records(name, version, kept)
                else:
                    self._heads[name] = Head(version, token, bool(closed))
                    self._streams[name] = _Stream(id, kept, token)

    def _check_broken(self, append: Append) -> None:
        for name in streams_of(append):
            if name in self._broken:
                raise self._broken[name]


def clear(append: Append, error: StoreError) -> None:
    """Make an append look refused after its transaction was undone."""
    append.error = error
    append.versions = ()
    append.position = 0
