"""What is said in a saga that nobody coordinates: the stream ``saga/<id>``, and those who follow it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import msgspec

from reprise.kernel.errors import StaleVersion
from reprise.kernel.events import Event, Kind, Record, Said, saga_stream
from reprise.kernel.ids import Counter
from reprise.stores.log import Group, append
from reprise.stores.store import Store


class SagaEvent(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something that happened in a saga."""

    saga: str
    """Id of the saga: what belongs together."""
    version: int
    """Its place in the saga: 1, 2, 3 …"""
    name: str
    data: Any = None
    by: str = ""
    """Service and reaction that said it, '' = somebody outside."""
    cause: int = 0
    """Version of the event that it follows from, 0 = of none."""
    ends: bool = False
    """With it the saga is complete."""
    fails: bool = False
    """With it the saga has failed, and what was done is compensated."""
    at: int = 0
    """Microseconds since the epoch."""


class Writer(Protocol):
    """Who may write to the log of a store."""

    store: Store
    numbers: Counter

    def now(self) -> int:
        """Return the time in microseconds."""
        ...


def event_of(record: Record) -> SagaEvent:
    """Return the event that a record of a saga's stream holds."""
    said = msgspec.json.decode(record.data, type=Said)
    saga = record.stream.partition("/")[2]
    return SagaEvent(
        saga, record.version, said.name, said.data, said.by, said.cause, said.ends, said.fails, record.at
    )


async def read_events(store: Store, saga: str) -> list[SagaEvent]:
    """Return what was said in a saga."""
    return [event_of(record) for record in await store.log.read(saga_stream(saga))]


def is_over(events: Iterable[SagaEvent]) -> bool:
    """Tell whether a saga has ended or failed."""
    return any(event.ends or event.fails for event in events)


async def say(writer: Writer, saga: str, id: str, said: Sequence[Said], *, always: bool = False) -> int:
    """Append what is said under an id, unless that was done already; return the version of the last one.

    When the saga is over nothing new is said in it, and 0 is returned; with ``always`` it is said none the less.
    """
    stream = saga_stream(saga)
    keys = [f"{id}/{number}" for number in range(len(said))]
    while True:
        records = await writer.store.log.read(stream)
        known = {record.key: record.version for record in records}
        if keys[-1] in known:
            return known[keys[-1]]
        if not always and is_over(map(event_of, records)):
            return 0
        now = writer.now()
        events = [
            Event(Kind.SAGA_EVENT, now, key, msgspec.json.encode(one))
            for key, one in zip(keys, said, strict=True)
        ]
        expected = records[-1].version if records else 0
        try:
            await append(writer.store.log, writer.numbers.new(), Group(stream, events, expected))
        except StaleVersion:
            continue  # somebody else said something meanwhile
        writer.store.signal.wake([stream])
        return expected + len(events)
