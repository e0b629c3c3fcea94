"""A store as a simulated process sees it: all ports of a keeper, at the other end of a wire."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from typing import Any, cast

from reprise.kernel.errors import OutcomeUnknown, StoreUnreachable
from reprise.kernel.events import Record
from reprise.stores.blobs import Blobs
from reprise.stores.cells import Cells
from reprise.stores.lease import Lease
from reprise.stores.listeners import next_tap
from reprise.stores.log import ANY, Append, Head, answer
from reprise.stores.queue import Queue
from reprise.stores.runs import Runs
from reprise.stores.store import Schema, Store
from reprise.stores.transactions import Transactions
from reprise.testing.faults import DuplicateDelivery, LostAnswer, LostWake
from reprise.testing.invariants import Books, InvariantBroken
from reprise.testing.wire import Wire


class Link:
    """The store of one life of a node.

    ``died`` says of workers which are known to be gone; ``books`` see every commit at the moment of its answer.
    """

    def __init__(
        self, keeper: Store, wire: Wire, books: Books, died: Callable[[Collection[str]], set[str]]
    ) -> None:
        self.keeper = keeper
        self.wire = wire
        self.log = LinkedLog(keeper, wire, books)
        self.signal = LinkedSignal(keeper, wire)
        self.presence = LinkedPresence(keeper, wire, died)
        self.runs = cast("Runs", Port(wire, keeper.runs, "runs"))
        self.blobs = cast("Blobs", Port(wire, keeper.blobs, "blobs"))
        self.lease = cast("Lease", Port(wire, keeper.lease, "lease"))
        self.queue = cast("Queue", Port(wire, keeper.queue, "queue"))
        self.cells = cast("Cells", Port(wire, keeper.cells, "cells"))

    @property
    def url(self) -> str:
        """The URL."""
        return self.keeper.url

    @property
    def transactions(self) -> Transactions:
        """The keeper's."""
        return self.keeper.transactions

    @property
    def epoch(self) -> int:
        """How many epochs began before the one we are in."""
        return self.keeper.epoch

    async def schema(self) -> Schema:
        """Return of what version the tables are."""
        return await self.wire.call(self.keeper.schema, "schema")

    async def begin_epoch(self, above: int = 0) -> int:
        """Begin an epoch."""
        return await self.wire.call(partial(self.keeper.begin_epoch, above), "begin_epoch")

    async def start(self) -> None:
        """Do nothing: the keeper is there."""

    async def stop(self) -> None:
        """Listen no more; the keeper stays."""
        self.signal.close()

    def statistics(self) -> dict[str, int | float | str]:
        """Return the keeper's counters."""
        return self.keeper.statistics()


class Port:
    """Any port whose methods are all awaited."""

    def __init__(self, wire: Wire, port: object, name: str) -> None:
        self._wire = wire
        self._port = port
        self._name = name

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        """Return a method that goes by the wire; what is no method is known on both sides."""
        if not callable(known := getattr(self._port, name)):
            return known

        def call(*args: Any, **kwargs: Any) -> Awaitable[Any]:
            method = getattr(self._port, name)
            return self._wire.call(partial(method, *args, **kwargs), f"{self._name}.{name}")

        return call


class LinkedLog:
    """The log; appends keep their order, and their outcome may stay unknown."""

    def __init__(self, keeper: Store, wire: Wire, books: Books) -> None:
        self._log = keeper.log
        self._wire = wire
        self._books = books
        self._sent: deque[Sequence[Append]] = deque()
        self._answers: deque[Sequence[Append]] = deque()
        self._arrives_at = self._answers_at = 0.0
        self._copies = 0
        self._cut_off = False

    def submit(self, appends: Sequence[Append]) -> None:
        """Send appends."""
        wire = self._wire
        wire.befall()
        if wire.life.dead:
            return
        self._sent.append(appends)
        self._arrives_at = max(self._arrives_at, wire.loop.time() + wire.weather.delay())
        wire.loop.call_at(self._arrives_at, self._arrive, context=wire.beyond)

    def _arrive(self) -> None:
        appends, wire = self._sent.popleft(), self._wire
        # What a dead process had sent arrives up to somewhere: a connection loses nothing from its middle.
        self._cut_off |= wire.life.dead and wire.weather.strikes(0.5, "appends lost in a crash")
        if self._cut_off:
            return
        if wire.is_cut():
            self._refuse(appends)
            return
        left = [len(appends)]
        sent: list[Append] = []
        for append in appends:
            done = partial(self._committed, append, left, appends)
            sent.append(Append(append.id, append.groups, done))
        self._log.submit(sent)
        again = wire.weather.profile.get(DuplicateDelivery)
        for append in sent:
            if (
                again is not None
                and _is_mail(append)
                and wire.weather.strikes(again.p, "mail delivered twice")
            ):
                self._copies += 1
                copied = Append(append.id ^ self._copies << 50, append.groups, self._copied)
                wire.loop.call_later(
                    2 * wire.weather.delay(), self._log.submit, [copied], context=wire.beyond
                )

    def _refuse(self, appends: Sequence[Append]) -> None:
        for append in appends:
            append.error = StoreUnreachable(f"{self._wire.node.name} cannot reach the store to append.")
        self._answer(appends)

    def _copied(self, append: Append) -> None:
        if append.error is None:
            self._commit(append, "a copy")

    def _committed(self, asked: Append, left: list[int], appends: Sequence[Append], done: Append) -> None:
        if done.error is None:
            self._commit(done, self._wire.node.name)
        asked.error, asked.versions, asked.position = done.error, done.versions, done.position
        left[0] -= 1
        if left[0]:
            return
        self._wire.befall()
        lost = self._wire.weather.profile.get(LostAnswer)
        if lost is not None and self._wire.weather.strikes(lost.p, "outcomes unknown"):
            for append in appends:
                append.error = OutcomeUnknown(f"Nobody told {self._wire.node.name} what came of an append.")
        self._answer(appends)

    def _commit(self, append: Append, by: str) -> None:
        try:
            self._books.committed(append, by)
        except InvariantBroken as broken:
            self._wire.loop.fail(broken)

    def _answer(self, appends: Sequence[Append]) -> None:
        wire = self._wire
        self._answers.append(appends)
        self._answers_at = max(self._answers_at, wire.loop.time() + wire.weather.delay())
        wire.loop.call_at(self._answers_at, self._deliver, context=wire.context)

    def _deliver(self) -> None:
        answer(self._answers.popleft())

    async def read(self, stream: str, after: int = 0, limit: int | None = None) -> list[Record]:
        """Return a stream's records with version > ``after``, in order."""
        return await self._wire.call(partial(self._log.read, stream, after, limit), "log.read")

    async def scan(self, after: int = 0, limit: int = 1000, prefix: str = "") -> list[Record]:
        """Return records of all streams with position > ``after``, in order."""
        return await self._wire.call(partial(self._log.scan, after, limit, prefix), "log.scan")

    async def head(self, stream: str) -> Head:
        """Return the end of a stream."""
        return await self._wire.call(partial(self._log.head, stream), "log.head")

    async def end(self) -> int:
        """Return the highest position given so far."""
        return await self._wire.call(self._log.end, "log.end")

    async def lookup(self, stream: str, append: int) -> int | None:
        """Return the version of the first record that append wrote in that stream."""
        return await self._wire.call(partial(self._log.lookup, stream, append), "log.lookup")

    async def trim(self, stream: str, through: int) -> int:
        """Delete a stream's oldest records."""
        return await self._wire.call(partial(self._trim, stream, through), "log.trim")

    async def drop(self, *streams: str) -> int:
        """Delete streams."""
        return await self._wire.call(partial(self._drop, *streams), "log.drop")

    async def _trim(self, stream: str, through: int) -> int:
        self._books.trimmed(stream, through)
        return await self._log.trim(stream, through)

    async def _drop(self, *streams: str) -> int:
        self._books.dropped(*streams)
        return await self._log.drop(*streams)


def _is_mail(append: Append) -> bool:
    return all(
        group.stream.startswith("inbox/") and group.expected == ANY and not group.token
        for group in append.groups
    )


class LinkedSignal:
    """Taps, which may be lost, late and doubled."""

    def __init__(self, keeper: Store, wire: Wire) -> None:
        self._signal = keeper.signal
        self._wire = wire
        self._ends: list[Callable[[], None]] = []
        wire.node.on_crash.append(self.close)

    def wake(self, names: Sequence[str]) -> None:
        """Tap everybody who listens to one of these names."""
        wire, weather = self._wire, self._wire.weather
        if wire.life.dead:
            return
        lost, again = weather.profile.get(LostWake), weather.profile.get(DuplicateDelivery)
        for name in names:
            if lost is not None and weather.strikes(lost.p, "taps lost"):
                continue
            times = 2 if again is not None and weather.strikes(again.p, "taps twice") else 1
            for _ in range(times):
                wire.loop.call_later(weather.delay(), self._signal.wake, [name], context=wire.beyond)

    def listen(self, name: str, callback: Callable[[str], None]) -> Callable[[], None]:
        """Call back at each tap."""
        loop, context = self._wire.loop, self._wire.context

        def tapped(tapped: str) -> None:
            loop.call_soon(callback, tapped, context=context)

        end = self._wire.beyond.run(self._signal.listen, name, tapped)
        self._ends.append(end)
        return end

    async def wait(self, name: str, timeout: float) -> bool:
        """Wait for one tap."""
        return await next_tap(self.listen, name, timeout)

    def close(self) -> None:
        """Listen no more."""
        for end in self._ends:
            end()
        self._ends.clear()


class LinkedPresence:
    """Who is there, as far as it can be seen."""

    def __init__(self, keeper: Store, wire: Wire, died: Callable[[Collection[str]], set[str]]) -> None:
        self._presence = keeper.presence
        self._died = died
        self.names: list[str] = []

    async def enter(self, worker: str) -> None:
        """Be seen."""
        self.names.append(worker)

    async def leave(self, worker: str) -> None:
        """Be seen no more."""
        self.names.remove(worker)

    async def died(self, workers: Collection[str]) -> set[str]:
        """Return those that were here and are no more, as far as that is known."""
        return self._died(workers)

    async def forget(self, worker: str) -> None:
        """Do nothing."""

    async def seen(self) -> Sequence[str]:
        """Return nobody."""
        return ()
