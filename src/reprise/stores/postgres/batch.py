"""A batch: appends that travel together, judged by the heads that the writer believes in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import msgspec

from reprise.kernel.errors import AppendRefused, NoRoom, OutcomeUnknown
from reprise.kernel.events import Event, run_stream
from reprise.kernel.limit import Slot
from reprise.stores.blobs import Blob
from reprise.stores.conditions import NO_STREAM, admit, floor_of, streams_of
from reprise.stores.log import Append, Group, Head, RunChange
from reprise.stores.postgres.found_by import told
from reprise.stores.postgres.rows import event_checksum

RUNS = run_stream("")
"""How the names of the streams begin that are runs."""


EPOCH = "~epoch"
"""The stream whose version is the store's epoch; see the migration that made it."""


class Written(msgspec.Struct, gc=False):
    """One record to be written: its event and its place."""

    owner: int
    """Number of its stream among the changed ones, counted from 1."""
    version: int
    event: Event
    append: int
    checksum: int


class Verdict(msgspec.Struct):
    """What becomes of one append when the batch is written."""

    append: Append
    error: AppendRefused | OutcomeUnknown | None
    versions: tuple[int, ...] = ()
    last: int = 0
    """Number of its last record in the batch, counted from 1; 0 if it has none."""


class Batch:
    """What is written, and what each append will be answered."""

    def __init__(
        self,
        appends: Sequence[Append],
        heads: Mapping[str, Head],
        crowded: Mapping[int, NoRoom] = MappingProxyType({}),
    ) -> None:
        """Judge; ``crowded`` are appends, by their numbers, that the server had no places for."""
        self.believed = {name: heads.get(name, NO_STREAM) for name in names_of(appends)}
        self._floor = floor_of(self.believed[EPOCH].version)
        self.changed: dict[str, Head] = {}
        self.verdicts: list[Verdict] = []
        self._owners: dict[str, int] = {}
        self._records: list[Written] = []
        self._markers: list[tuple[str, int, int, int]] = []
        self._runs: dict[str, dict[str, Any]] = {}
        self._blobs: list[tuple[Blob, str, int]] = []
        self._places: list[dict[str, Any]] = []
        self.has_takes = False
        """Whether it takes places: then the server has the last word."""
        now = dict(self.believed)
        for append in appends:
            if (error := crowded.get(len(self.verdicts))) is not None:
                self.verdicts.append(Verdict(append, error))
            else:
                self._judge(append, now)

    def _judge(self, append: Append, now: dict[str, Head]) -> None:
        try:
            changed = admit(append, now, self._floor)
        except AppendRefused as error:
            self.verdicts.append(Verdict(append, error))
            return
        before = len(self._records)
        reached: dict[str, int] = {}
        for group in append.groups:
            version = reached.get(group.stream, now[group.stream].version)
            self._place(group.stream, group.events, version, append.id)
            if group.blobs and group.events:
                end = version + len(group.events)
                self._blobs += [(blob, group.stream, end) for blob in group.blobs]
            reached[group.stream] = version + len(group.events)
            if group.run is not None:
                self._change_run(group.run, group.slots)
            if group.closes and group.stream.startswith(RUNS):
                run = group.stream.removeprefix(RUNS)
                self._runs.setdefault(run, {"id": run})["ended"] = True
        now.update(changed)
        self.changed.update(changed)
        if takes := [place for group in append.groups if group.slots for place in _places(group)]:
            self.has_takes = True
            self._places.append({"append": len(self.verdicts), "takes": takes})
        versions = tuple([now[group.stream].version for group in append.groups])
        last = len(self._records) if len(self._records) > before else 0
        self.verdicts.append(Verdict(append, None, versions, last))

    def _change_run(self, change: RunChange, slots: tuple[Slot, ...] | None) -> None:
        """Fold a change into what the batch says about its run."""
        known = self._runs.setdefault(change.id, {})
        known.setdefault("first_at", change.at)
        known.update(told(msgspec.to_builtins(change)), at=change.at)
        if slots:
            known.pop("gives_back", None)
        elif slots is not None or change.owner is None:
            known["gives_back"] = True
            self._places.append({"back": change.id})

    def _place(self, stream: str, events: Sequence[Event], version: int, append: int) -> None:
        if not events:
            return
        owner = self._owners.setdefault(stream, len(self._owners) + 1)
        self._markers.append((stream, version + 1, append, len(self._records) + 1))
        for event in events:
            version += 1
            crc = event_checksum(stream, version, event, append)
            self._records.append(Written(owner, version, event, append, crc))
            append = 0

    @property
    def marks(self) -> int:
        """How many places in the log say that the batch was written."""
        return len(self._markers)

    def doubt(self, others: Sequence[Batch]) -> None:
        """Say of appends that leave no record, and that not all of these batches take, that nobody knows.

        The batches write the same records; one of them was written, and nothing says which.
        """
        for number, verdict in enumerate(self.verdicts):
            judged = {other.verdicts[number].error is None for other in others}
            if len(judged) > 1:
                verdict.error = OutcomeUnknown(
                    f"The connection was lost twice while append {verdict.append.id} was written; by it alone "
                    "nothing can be found.",
                    hint="Look at the state that it was to change.",
                )
                verdict.versions = ()

    @property
    def has_blobs(self) -> bool:
        """Whether blobs are written with it."""
        return bool(self._blobs)

    def blobs(self) -> tuple[list[Any], ...]:
        """Return the arguments of ``write_blobs``: hashes, data, streams and the versions that these come to."""
        blobs, streams, versions = zip(*self._blobs, strict=True)
        return [blob.hash for blob in blobs], [blob.data for blob in blobs], list(streams), list(versions)

    def arguments(self) -> tuple[Any, ...]:
        """Return the arguments of ``write_batch``."""
        # Streams that get records come first, in the order of their numbers.
        changed = {**dict.fromkeys(self._owners, NO_STREAM), **self.changed}
        rows = self._records
        events = [row.event for row in rows]
        return (
            *_columns(self.believed),
            *_columns(changed),
            [row.owner for row in rows],
            [row.version for row in rows],
            [event.kind for event in events],
            [event.at for event in events],
            [event.key for event in events],
            [event.data for event in events],
            [event.print for event in events],
            [event.took for event in events],
            [row.append for row in rows],
            [row.checksum for row in rows],
            msgspec.json.encode(list(self._runs.values())).decode() if self._runs else "",
        )

    def limited_arguments(self) -> tuple[Any, ...]:
        """Return the arguments of ``write_limited_batch``."""
        nothing: tuple[list[Any], ...] = ([], [], [], [])
        blobs = self.blobs() if self.has_blobs else nothing
        return (*self.arguments(), msgspec.json.encode(self._places).decode(), *blobs)

    def markers(self) -> tuple[list[Any], ...]:
        """Return the arguments of ``find``: stream, version, append and number of the first record of each group."""
        return tuple(map(list, zip(*self._markers, strict=True)))

    def size(self) -> tuple[int, int]:
        """Return how many records it writes, and how many bytes of data they have."""
        return len(self._records), sum(len(row.event.data) for row in self._records)

    def answer(self, base: int) -> None:
        """Fill in the answers; ``base`` is the position before the first record."""
        for verdict in self.verdicts:
            append = verdict.append
            append.error, append.versions = verdict.error, verdict.versions
            append.position = base + verdict.last if verdict.last else 0


def _places(group: Group) -> list[tuple[str, int, str, int, int]]:
    assert group.run is not None, "places are a run's"
    return [(group.run.id, group.token, slot.lease, slot.most, slot.period) for slot in group.slots or ()]


def no_room(append: Append, lease: str) -> NoRoom:
    """Return the error of an append for which the server had no place."""
    slot = next(slot for group in append.groups for slot in group.slots or () if slot.lease == lease)
    return NoRoom(f"The run of append {append.id} needs a place of {slot}; all are taken.")


def names_of(appends: Sequence[Append]) -> set[str]:
    """Return the streams by whose heads appends are judged."""
    return {EPOCH, *(name for append in appends for name in streams_of(append))}


def new_streams(appends: Sequence[Append]) -> set[str]:
    """Return the streams that must not exist yet, as their appends say: these need not be looked up to be believed."""
    return {group.stream for append in appends for group in append.groups if group.expected == 0}


def _columns(heads: Mapping[str, Head]) -> tuple[list[Any], ...]:
    return (
        list(heads),
        [head.version for head in heads.values()],
        [head.token for head in heads.values()],
        [head.closed for head in heads.values()],
    )
