"""What must hold of a log whatever happens, looked at after every commit and once more in the end.

The judge keeps books of its own, from what was acknowledged, and believes nothing that the log says of itself:

- what was acknowledged is there, and stays as it was
- versions have no holes, positions only grow
- one writer at a time: a run's records are written under its latest token, tokens grow, a closed stream is closed
- a step, a timer, a letter is recorded once in a generation
- a limit's places are not taken by more runs than it lets
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from reprise.kernel.errors import RepriseError
from reprise.kernel.events import Event, Kind, Record, run_stream
from reprise.runtime.history import STEP_KINDS
from reprise.stores.log import Append, Group
from reprise.stores.store import Store

ONCE = STEP_KINDS | {
    Kind.TIMER_FIRED,
    Kind.SIGNAL_RECEIVED,
    Kind.CANCEL_REQUESTED,
    Kind.UPDATE_RECEIVED,
    Kind.ANSWER_RECEIVED,
    Kind.UNDO_DONE,
}
"""Kinds of which a generation of a run holds one record for each key."""


class InvariantBroken(RepriseError):
    """Something was seen that must never be."""


class _Stream(msgspec.Struct):
    """What is known of a stream from what was acknowledged."""

    version: int = 0
    """Of its last record."""
    token: int = 0
    closed: bool = False
    events: dict[int, tuple[int, Event]] = {}
    """Position and event by version."""
    trimmed: int = 0
    once: set[tuple[int, str]] = set()


class Books:
    """What was acknowledged of one store.

    ``read`` returns the records of a stream after a version, at once: the truth to hold acknowledgements against.
    """

    def __init__(self, read: Callable[[str, int], list[Record]] | None = None) -> None:
        self._read = read
        self._streams: dict[str, _Stream] = {}
        self._position = 0
        self._seats: dict[str, set[str]] = {}
        self.commits = 0

    def committed(self, append: Append, by: str) -> None:
        """Look at an append at the moment at which its writer is told that it is durable.

        Raises:
            InvariantBroken: it must not have been possible.
        """
        self.commits += 1
        written = 0
        if len(append.versions) != len(append.groups):
            raise InvariantBroken(f"An append of {by} was acknowledged before it was written.")
        for group, version in zip(append.groups, append.versions, strict=True):
            known = self._streams.setdefault(group.stream, _Stream())
            try:
                self._conditions(known, group)
                written += self._events(known, group, version, append, written)
                self._seat(group)
            except InvariantBroken as broken:
                raise InvariantBroken(f"{broken.what} (an append of {by})", hint="") from None
        if written:
            if append.position <= self._position:
                raise InvariantBroken(f"Position {append.position} was given after {self._position}.")
            self._position = append.position

    def _conditions(self, known: _Stream, group: Group) -> None:
        writes = group.events or group.takes or group.closes
        if writes and known.closed:
            raise InvariantBroken(f"{group.stream} has ended, and was written to.")
        if group.takes:
            if known.version and group.token <= known.token:
                raise InvariantBroken(
                    f"{group.stream} was taken with token {group.token}, and had {known.token} already."
                )
            known.token = group.token
        elif group.token != known.token:
            raise InvariantBroken(
                f"{group.stream} belongs to token {known.token}, and was written with {group.token}."
            )
        if group.expected >= 0 and group.expected != known.version:
            raise InvariantBroken(
                f"{group.stream} was at version {known.version}, and {group.expected} was expected."
            )
        known.closed = known.closed or group.closes

    def _events(self, known: _Stream, group: Group, version: int, append: Append, before: int) -> int:
        """Note the events of a group and compare them with what can be read; return how many there are."""
        first = known.version
        known.version += len(group.events)
        last_of_group = sum(len(one.events) for one in append.groups)
        position = append.position - last_of_group + before
        for number, event in enumerate(group.events, 1):
            known.events[first + number] = (position + number, event)
            self._once(known, group.stream, event)
        if self._read is None or not group.events:
            return len(group.events)
        there = {record.version: record for record in self._read(group.stream, first)}
        for number, event in enumerate(group.events, 1):
            record = there.get(first + number)
            if record is None and there and min(there) > first + number:
                continue  # trimmed away between its commit and the answer
            if record is None or not _is(record, event):
                raise InvariantBroken(
                    f"Version {first + number} of {group.stream} was acknowledged as {_short(event)} "
                    f"and is {_short(record)}."
                )
        return len(group.events)

    def _once(self, known: _Stream, stream: str, event: Event) -> None:
        if not stream.startswith(run_stream("")):
            return
        if event.kind == Kind.RUN_CONTINUED:
            known.once = set()
        elif event.kind in ONCE:
            what = (0 if event.kind in STEP_KINDS else event.kind, event.key)
            if what in known.once:
                raise InvariantBroken(f"{stream} has two records of {Kind(event.kind).name} {event.key}.")
            known.once.add(what)

    def _seat(self, group: Group) -> None:
        run = group.run
        if run is None:
            return
        if run.owner is None or group.closes:
            for runs in self._seats.values():
                runs.discard(run.id)
        for slot in group.slots or ():
            if slot.period:
                continue
            runs = self._seats.setdefault(slot.lease, set())
            runs.add(run.id)
            if len(runs) > slot.most:
                raise InvariantBroken(f"{len(runs)} runs have places of {slot}: {sorted(runs)}.")

    def pages(self) -> dict[str, _Stream]:
        """Return what is known of each stream; see :meth:`turn_back`."""
        return self._streams

    def turn_back(self, pages: dict[str, _Stream]) -> None:
        """Note that the store was taken back to a backup; ``pages`` are a copy of then."""
        self._streams = pages

    def dropped(self, *streams: str) -> None:
        """Note that streams were deleted on purpose."""
        for stream in streams:
            self._streams.pop(stream, None)

    def trimmed(self, stream: str, through: int) -> None:
        """Note that the oldest records of a stream were deleted on purpose."""
        known = self._streams.get(stream)
        if known is not None:
            known.trimmed = max(known.trimmed, min(through, known.version - 1))

    async def check(self, store: Store) -> None:
        """Read the whole store and compare it with the books.

        Raises:
            InvariantBroken: something that was acknowledged is not there as it was, or something is there that never was.
        """
        position, found = 0, dict[str, int]()
        while records := await store.log.scan(position, 1000):
            for record in records:
                if record.position <= position:
                    raise InvariantBroken(f"Position {record.position} is read after {position}.")
                position = record.position
                self._compare(record, found)
        for name, known in self._streams.items():
            head = await store.log.head(name)
            expected = (known.version, known.token, known.closed)
            if known.version and (head.version, head.token, head.closed) != expected:
                raise InvariantBroken(f"{name} ends with {head} and was acknowledged as {expected}.")
            if found.get(name, known.version) != known.version:
                raise InvariantBroken(
                    f"{name} was acknowledged up to {known.version}; {found.get(name)} is there."
                )
            if known.version and name not in found:
                raise InvariantBroken(f"{name} was acknowledged and cannot be found.")

    def _compare(self, record: Record, found: dict[str, int]) -> None:
        known = self._streams.get(record.stream)
        if known is None or record.version not in known.events:
            raise InvariantBroken(f"{_short(record)} was never acknowledged.")
        position, event = known.events[record.version]
        if position != record.position or not _is(record, event):
            raise InvariantBroken(
                f"Version {record.version} of {record.stream} was acknowledged at {position} as {_short(event)} "
                f"and is read at {record.position} as {_short(record)}."
            )
        before = found.get(record.stream)
        if record.version != (before + 1 if before is not None else record.version) or (
            before is None and record.version > known.trimmed + 1
        ):
            raise InvariantBroken(f"{record.stream} has version {record.version} after {before}.")
        found[record.stream] = record.version


def _is(record: Record, event: Event) -> bool:
    mine = (record.kind, record.at, record.key, record.data, record.print, record.took)
    return mine == (event.kind, event.at, event.key, event.data, event.print, event.took)


def _short(what: Any) -> str:
    if what is None:
        return "nothing"
    return f"{Kind(what.kind).name} {what.key!r} {bytes(what.data)[:80]!r}"
