"""The promise of the log: what happened, in one order, never changed.

An :class:`Append` is a value: groups of events, each for one stream, each with the condition under which it may be
written. It commits as a whole or not at all. Many appends travel in one commit (group commit); one whose condition
fails is refused alone. ``submit`` hands appends over without waiting; ``done`` is called on the event loop of the
keeper once per append, in the order of the log, after the commit is durable. Cancelling whoever waits does not cancel
the append.

Guarantees (proved by ``reprise.testing.LogSuite`` over every keeper)
    - atomic over all groups of an append; conditions are checked in the commit's own transaction
    - versions of a stream are 1, 2, 3 … without a hole; ``trim`` takes away the oldest and nothing else
    - positions only grow, are never re-used (also not after ``drop`` of the newest), and become visible in order: a
      reader that has seen position p never later finds a new record below p
    - a fenced stream accepts only the token of its current holder
    - durable when ``done`` is called with no error (as far as the keeper's URL says)
    - ``lookup`` finds an append of unknown outcome by its id
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import msgspec

from reprise.kernel.errors import RepriseError
from reprise.kernel.events import Event, Record
from reprise.kernel.limit import Slot
from reprise.kernel.tags import Tag
from reprise.stores.blobs import Blob

ANY = -1
"""Expected version: wherever the stream is; created when missing."""
EXISTS = -2
"""Expected version: wherever the stream is, but it must exist."""


class RunChange(msgspec.Struct, gc=False, omit_defaults=True):
    """What a group changes in the run index, in the same transaction. Fields left ``UNSET`` stay as they are."""

    id: str
    status: str | msgspec.UnsetType = msgspec.UNSET
    workflow: str | msgspec.UnsetType = msgspec.UNSET
    parent: str | msgspec.UnsetType | None = msgspec.UNSET
    owner: str | msgspec.UnsetType | None = msgspec.UNSET
    """Worker that holds the run, None when nobody does."""
    due_at: int | msgspec.UnsetType | None = msgspec.UNSET
    """When somebody should look at the run (microseconds), None = not until mail arrives."""
    build: str | msgspec.UnsetType = msgspec.UNSET
    tags: dict[str, Tag] | msgspec.UnsetType = msgspec.UNSET
    error: str | msgspec.UnsetType = msgspec.UNSET
    """Short text of why it failed or is stranded."""
    since: int | msgspec.UnsetType = msgspec.UNSET
    """Version of ``run/<id>`` after which replay reads: where its generation begins."""
    generation: int | msgspec.UnsetType = msgspec.UNSET
    warning: str | msgspec.UnsetType = msgspec.UNSET
    """What somebody should know about a run that goes on, '' = nothing."""
    slots: tuple[Slot, ...] | msgspec.UnsetType = msgspec.UNSET
    """Places that the run needs to execute steps; those that a take-over must have, see ``Group.slots``."""
    in_line: bool | msgspec.UnsetType = msgspec.UNSET
    """Whether it waits for those places. A run that is owned or has ended never does, whatever this says."""
    refused: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    """Builds whose code could not replay it."""
    pinned: str | msgspec.UnsetType = msgspec.UNSET
    """Build whose workers alone may take it, '' = those of any."""
    at: int = 0
    """Time of the change; becomes ``created_at`` when the row is new, ``updated_at`` always."""


class Group(msgspec.Struct, gc=False):
    """Events for one stream and the condition under which they may be written.

    A group without events is a pure condition (or a pure change of the run index).
    """

    stream: str
    events: Sequence[Event] = ()
    expected: int = ANY
    """Version the stream must be at (0 = it must not exist yet), or ANY, or EXISTS."""
    token: int = 0
    """Fencing token of the writer; must equal the stream's. 0 only where the stream has no token."""
    takes: bool = False
    """Make ``token`` the stream's current one. On an existing stream it must be higher than the one before."""
    closes: bool = False
    """After this group the stream takes nothing more."""
    guard: str = ""
    """A stream that must exist and not be closed (the run to which an inbox belongs)."""
    run: RunChange | None = None
    blobs: Sequence[Blob] = ()
    """Large payloads that the events refer to, written in the same transaction; see ``stores.blobs``."""
    slots: tuple[Slot, ...] | None = None
    """Places that the run of ``run`` takes with this commit, all or none; () = it gives back those that it has.

    Refused with ``NoRoom`` when others have all places of a lane. A place that it has already is no other's. Places
    with a period end by themselves; the rest are given back by a change of ``run`` after which nobody owns it.
    """


class Append(msgspec.Struct):
    """Groups that commit together. ``error``, ``versions`` and ``position`` are filled in by the keeper."""

    id: int
    """63-bit number, unique for ever; by it an unknown outcome is found. See ``kernel.ids.Counter``."""
    groups: tuple[Group, ...]
    done: Callable[[Append], None] | None = None
    error: RepriseError | None = None
    versions: tuple[int, ...] = ()
    """Version of each group's stream after the commit."""
    position: int = 0
    """Position of the last record written, 0 if none was."""


class Head(msgspec.Struct, frozen=True, gc=False):
    """The end of a stream: ``version`` 0 = it does not exist."""

    version: int = 0
    token: int = 0
    closed: bool = False


class Log(Protocol):
    """One append-only log of many streams."""

    def submit(self, appends: Sequence[Append]) -> None:
        """Hand appends over; ``done`` of each is called on the loop when it is durable or refused."""
        ...

    async def read(self, stream: str, after: int = 0, limit: int | None = None) -> list[Record]:
        """Return a stream's records with version > ``after``, in order.

        Raises ``StoreCorrupt`` when a row's checksum or the stream's count of rows is wrong.
        """
        ...

    async def scan(self, after: int = 0, limit: int = 1000, prefix: str = "") -> list[Record]:
        """Return records of all streams (whose name starts with ``prefix``) with position > ``after``, in order."""
        ...

    async def head(self, stream: str) -> Head:
        """Return the end of a stream."""
        ...

    async def end(self) -> int:
        """Return the highest position given so far, 0 in an empty log; also after ``drop``."""
        ...

    async def lookup(self, stream: str, append: int) -> int | None:
        """Return the version of the first record that append wrote in that stream, None if it wrote none."""
        ...

    async def trim(self, stream: str, through: int) -> int:
        """Delete a stream's records up to version ``through``, but never its newest; return how many went.

        What is left keeps its versions: they begin after the last one deleted, reading from before that begins there,
        and that none is missing is checked from there on.
        """
        ...

    async def drop(self, *streams: str) -> int:
        """Delete streams, their entries in the run index and references to blobs; return how many records went.

        Positions stay used up. Nobody ever sees some of the streams gone and others not, also after a crash.
        """
        ...


def outcome(
    loop: asyncio.AbstractEventLoop | None = None,
) -> tuple[asyncio.Future[Append], Callable[[Append], None]]:
    """Return a future of an append's outcome and the ``done`` that settles it, by default of the running loop.

    Who knows the loop says so: asking asyncio for it costs a system call before Python 3.12.
    """
    future: asyncio.Future[Append] = (loop or asyncio.get_running_loop()).create_future()

    def done(append: Append) -> None:
        append.done = None  # else it and its future would hold each other, and no collector sees an Append
        if future.done():
            return
        if append.error is not None:
            future.set_exception(append.error)
        else:
            future.set_result(append)

    return future, done


def enlist(log: Log, appends: Sequence[Append]) -> asyncio.Future[Append]:
    """Submit and return a future of the last append; cancelling the future cancels nothing else."""
    future, appends[-1].done = outcome()
    log.submit(appends)
    return future


async def written(log: Log, appends: Sequence[Append]) -> None:
    """Submit and wait until all are durable or refused; what became of each is its ``error``."""
    answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    appends[-1].done = lambda _: None if answered.done() else answered.set_result(None)
    log.submit(appends)
    await answered


def answer(appends: Iterable[Append]) -> None:
    """Call ``done`` of each, in order; for keepers.

    One caller's broken callback must not keep the others from their answers, so its error goes to the loop's handler.
    """
    for append in appends:
        if append.done is None:
            continue
        try:
            append.done(append)
        except Exception as error:  # noqa: BLE001  whatever it is, the others are still to be told
            asyncio.get_running_loop().call_exception_handler(
                {"message": f"done of append {append.id} failed", "exception": error}
            )


Settle = Callable[[Sequence[Append], Callable[[], bool]], None]
"""Hand appends over, for a caller that is ready for its answers before that returns; and that says, when it is asked,
whether nothing else could be done meanwhile."""


def settle_of(log: Log) -> Settle:
    """Return what hands appends to a log that may answer at once; where it cannot, its ``submit``.

    Memory has nothing to wait for, so nobody need wait for the next turn of the loop. A commit to a fast disk takes about
    as long as the way to another thread and back.
    """
    return getattr(log, "settle", None) or (lambda appends, _alone: log.submit(appends))


async def last_record(log: Log, stream: str) -> Record | None:
    """Return the newest record of a stream; None if there is none, or none any more."""
    head = await log.head(stream)
    records = await log.read(stream, head.version - 1) if head.version else ()
    return records[-1] if records else None


async def append(log: Log, id: int, *groups: Group) -> Append:
    """Append groups as one commit and wait until it is durable.

    Raises ``StaleVersion``, ``StaleToken``, ``StreamMissing``, ``StreamClosed``, ``NoRoom`` (nothing was written), or
    another ``StoreError``; after ``OutcomeUnknown`` ask ``lookup``.
    """
    return await enlist(log, [Append(id, groups)])
