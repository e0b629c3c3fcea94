"""State that several processes share: values by key, with a copy in each process that is kept up to date.

Reads are answered from the copy. Writes go to the store, and are in the copy when they return. Every change reaches
every instance, in one order; an instance that could not reach the store misses none.
"""

from __future__ import annotations

import asyncio
import fnmatch
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from types import TracebackType
from typing import Any, Self

from reprise.coordination.combining import Combiner, Decide, Decision, Present
from reprise.coordination.keepers import Keeper, Source, name_of_process
from reprise.coordination.merging import AddToSet, Increment, Operation, RemoveFromSet
from reprise.coordination.metrics import CACHE_HITS, CACHE_MISSES, CACHE_STALENESS
from reprise.coordination.replica import Known, Replica
from reprise.coordination.snapshots import StateEntry, StateSnapshot, StateWrite
from reprise.coordination.strategies import Strategy, checked_strategy, conflict_at, deciding
from reprise.coordination.sync_state import SyncState
from reprise.coordination.updates import Handler, StateUpdate, Subscription, to_update, walk_feed
from reprise.kernel.clock import MICROSECONDS
from reprise.kernel.codec import standard
from reprise.kernel.errors import CellConflict, CodecError, ConfigurationError, PayloadTooLarge, StoreError
from reprise.kernel.policy import Duration, seconds
from reprise.kernel.surroundings import SURROUNDINGS
from reprise.stores.cells import ABSENT, KEEP, Change, Changed, View
from reprise.stores.packing.envelope import SEALED
from reprise.stores.packing.keys import key_missing

PREFIX = "state/"
"""Before the namespace, in the name of its space of cells."""
LAST_WORDS = 5.0
"""Seconds that handlers are given to take what they were still to be told, at a stop."""
_PRUNED_AFTER = 10
"""Parts of the kept history by which the feed grows until it is pruned again."""

_SEALED = bytes((SEALED,))
_encode = standard.encoder(Any)
_read = standard.decoder(Any)


def _decode(data: bytes) -> Any:
    try:
        return _read(data)
    except CodecError as error:
        if data[:1] == _SEALED:
            raise key_missing(data) from error
        raise


class StateSync:
    """One namespace of shared state, as this process sees it.

    ``source``
        A URL, a store, a ``Reprise``, or a client of redis-py.
    ``namespace``
        Instances of one namespace share its keys; others know nothing of them.
    ``origin``
        What others are told who changed a key; host, process and a number if it is not given.
    ``history``
        How many changes are kept, about: an instance that missed more loads everything anew, and says so. All who write
        should say the same, for the least holds.
    ``max_value_bytes``, ``max_keys``
        What is larger is refused with ``PayloadTooLarge``.

    >>> async def main():
    ...     async with StateSync("memory://", namespace="app") as sync:
    ...         await sync.set("users", 100)
    ...         return await sync.increment("users"), await sync.get("users"), await sync.get("nobody", 0)
    >>> asyncio.run(main())
    (101, 101, 0)
    """

    def __init__(
        self,
        source: Source,
        namespace: str = "default",
        *,
        origin: str = "",
        history: int = 10_000,
        max_value_bytes: int = 1 << 20,
        max_keys: int = 100_000,
    ) -> None:
        if not namespace or not namespace.isprintable():
            raise ConfigurationError(f"{namespace!r} cannot be the name of a namespace.", hint="Use letters.")
        if history < 1 or max_value_bytes < 1 or max_keys < 1:
            raise ConfigurationError(
                f"history={history}, max_value_bytes={max_value_bytes}, max_keys={max_keys}",
                hint="All three must be positive.",
            )
        self.namespace = namespace
        self._clock = SURROUNDINGS.get().clock
        self.origin = origin or name_of_process()
        self.starts_itself = False
        """Its manager runs, so it starts when it is first worked with."""
        self._shares = isinstance(source, Keeper)
        self._keeper = source if isinstance(source, Keeper) else Keeper(source)
        self._space = PREFIX + namespace
        self._history, self._max_value_bytes, self._max_keys = history, max_value_bytes, max_keys
        store = self._keeper.store
        self._cells = store.cells
        self._replica = Replica(
            self._cells, store.signal, self._space, self._clock, decode=_decode, heard=self._pass_on
        )
        self._known = self._replica.known
        self._combiner = Combiner(self._replica, self._apply, _decode)
        self._subscriptions: list[Subscription] = []
        self._changing = asyncio.Lock()
        self._is_started = False
        self._pruned_at: int | None = None
        """Position at which this instance pruned; None = not yet, for those before may have written little and died."""
        self._pruning: asyncio.Task[None] | None = None
        self._hits = 0
        self._unmeasured: list[Callable[[], None]] = []
        self._counts = {"misses": 0, "fresh_reads": 0, "writes": 0, "updates": 0}

    # ---------------------------------------------------------------- life

    async def start(self) -> None:
        """Load the namespace and follow it; idempotent.

        Raises ``StoreUnreachable`` and other errors of the store, ``KeyMissing`` when values are sealed with keys that it has not.
        """
        async with self._changing:
            if not self._is_started:
                await self._keeper.start()
                await self._replica.start()
                self._is_started = True
                self._measure()

    async def stop(self, timeout: float | None = LAST_WORDS) -> None:
        """Follow it no more, let handlers take what they were still to be told, and forget the copy; idempotent.

        What is not taken within ``timeout`` seconds is dropped.
        """
        async with self._changing:
            if not self._is_started:
                return
            self._is_started = False
            for end in self._unmeasured:
                end()
            await self._combiner.stop()
            await self._replica.stop()
            try:
                async with asyncio.timeout(timeout):
                    await asyncio.gather(*(each.told() for each in self._subscriptions))
            except TimeoutError:
                for each in self._subscriptions:
                    each.cancel()
            if self._pruning is not None:
                await asyncio.wait([self._pruning])
            if not self._shares:
                await self._keeper.stop()

    async def ready(self) -> None:
        """Wait until it serves; starts it if need be."""
        await self.start()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def _measure(self) -> None:
        hits, misses = self._hits, self._counts["misses"]
        self._unmeasured = [
            CACHE_HITS.ask(lambda: self._hits - hits, self.namespace),
            CACHE_MISSES.ask(lambda: self._counts["misses"] - misses, self.namespace),
            CACHE_STALENESS.ask(lambda: self._replica.staleness, self.namespace),
        ]

    # ---------------------------------------------------------------- reading

    async def get(self, key: str, default: Any = None, *, fresh: bool = False) -> Any:
        """Return the value of a key, ``default`` if there is none.

        It is answered from the copy: what this process wrote is in it, what others wrote is within moments. With
        ``fresh`` the store is asked first whether there is anything newer. A list or dict is the caller's own.
        """
        known = self._known.get(key)
        if known is not None and known.is_plain and not fresh:
            self._hits += 1
            return known.value
        found = await self._find(key, fresh=fresh)
        return default if found is None else _value_of(found)

    async def entry(self, key: str, *, fresh: bool = False) -> StateEntry | None:
        """Return a key with its version and its end, None if there is none."""
        found = await self._find(key, fresh=fresh)
        return None if found is None else _to_entry(key, found)

    async def keys(self, pattern: str = "*", *, fresh: bool = False) -> list[str]:
        """Return the keys that match a pattern (``*``, ``?``), in their order."""
        await self._look(fresh=fresh)
        matches = re.compile(fnmatch.translate(pattern)).match
        return sorted(key for key in self._known if matches(key) and self._replica.find(key) is not None)

    async def items(self, pattern: str = "*", *, fresh: bool = False) -> dict[str, Any]:
        """Return the values of the keys that match a pattern."""
        found = [(key, self._replica.find(key)) for key in await self.keys(pattern, fresh=fresh)]
        return {key: _value_of(known) for key, known in found if known is not None}

    async def _find(self, key: str, *, fresh: bool) -> Known | None:
        await self._look(fresh=fresh)
        found = self._replica.find(key)
        if found is not None and not fresh:
            self._hits += 1
        elif not fresh:
            self._counts["misses"] += 1
        return found

    async def _look(self, *, fresh: bool = False) -> None:
        if not self._is_started and self.starts_itself:
            await self.start()
        if not self._is_started:
            raise ConfigurationError(
                f"The state {self.namespace} is not started.",
                hint="Call await sync.start(), or use async with.",
            )
        if fresh:
            self._counts["fresh_reads"] += 1
            await self._replica.catch_up()

    # ---------------------------------------------------------------- writing

    async def set(
        self,
        key: str,
        value: Any,
        *,
        ttl: Duration | None = None,
        strategy: Strategy | None = None,
        expected_version: int | None = None,
    ) -> StateWrite:
        """Let a key hold a value; for ``ttl`` seconds, None = for ever.

        There is a conflict when the key lives and no version is expected, or another one than it has. Then decides the
        ``strategy``: ``last_write_wins`` (the default) overwrites, ``first_write_wins`` keeps what there is and says
        ``applied`` False, ``merge`` makes one of both (see ``merge_patch``; the time to live stays unless one is
        given), ``reject`` (the default where a version is expected) raises, and a function of both says what is to be
        kept. ``expected_version`` 0 = the key must not live.

        Raises:
            StateConflict: the strategy is ``reject``, and there is a conflict; it has the current version.
            StateTypeError: an ``Increment`` or the like does not fit to what the key holds.
            PayloadTooLarge: the value is too large, or there are too many keys.
            CodecError: plain JSON does not give the value back as it is.
        """
        chosen = checked_strategy(strategy, expected_version)
        await self._look()
        life = None if ttl is None else _life(ttl)
        if chosen == "last_write_wins" and not isinstance(value, Operation):
            view = await self._apply([self._change(key, value, life)])
            return StateWrite(key, value, view.cells[0].version)
        if isinstance(value, Operation):
            chosen = "merge"
        resolves = chosen == "merge" or callable(chosen)
        keep = KEEP if life is None and resolves else life
        decide = deciding(key, value, chosen, expected_version, keep, self._encode)
        return await self._wish(key, decide, combines=resolves and expected_version is None)

    async def delete(self, key: str, *, expected_version: int | None = None) -> bool:
        """Remove a key; return whether there was one.

        Raises ``StateConflict`` when it is not at the version expected.
        """

        def decide(present: Present) -> Decision:
            if expected_version is not None and present.exists and present.version != expected_version:
                raise conflict_at(key, present, expected_version)
            return Decision(None, None, is_written=present.exists)

        await self._look()
        return (await self._wish(key, decide)).applied

    async def increment(self, key: str, by: float = 1, *, ttl: Duration | None = None) -> Any:
        """Add to a number, which begins at 0, and return the sum; of increments at the same time none is lost.

        Raises ``StateTypeError`` when the key holds something else than a number.
        """
        return (await self.set(key, Increment(by), ttl=ttl)).value

    async def add(self, key: str, *members: Any, ttl: Duration | None = None) -> list[Any]:
        """Add members to a set, which is kept as a list in which each stands once; return it.

        Raises ``StateTypeError`` when the key holds something else than a list.
        """
        return (await self.set(key, AddToSet(*members), ttl=ttl)).value

    async def discard(self, key: str, *members: Any) -> list[Any]:
        """Remove members from a set; return what is left. Raises as :meth:`add`."""
        return (await self.set(key, RemoveFromSet(*members))).value

    async def update(
        self,
        values: Mapping[str, Any],
        *,
        delete: Iterable[str] = (),
        expected_versions: Mapping[str, int] | None = None,
        ttl: Duration | None = None,
    ) -> dict[str, int]:
        """Set and delete several keys in one commit, or none of them; return the versions of those set.

        ``expected_versions`` says which versions some of these keys must have, 0 = the key must not live.

        Raises ``StateConflict`` when one has another, and errors as :meth:`set`.
        """
        await self._look()
        expected = dict(expected_versions or {})
        life = None if ttl is None else _life(ttl)
        changes = [self._change(key, value, life, expected.pop(key, None)) for key, value in values.items()]
        changes += [Change(key, None, expected.pop(key, None)) for key in delete]
        if expected:
            raise ConfigurationError(
                f"{', '.join(expected)}: a version is expected, and nothing is to be written.",
                hint="Name them in values or delete, too.",
            )
        try:
            view = await self._apply(changes)
        except CellConflict as error:
            present = Present(error.found != ABSENT, None, error.found)
            raise conflict_at(error.name, present, error.expected) from error
        return {cell.name: cell.version for cell in view.cells}

    async def _wish(self, key: str, decide: Decide, *, combines: bool = False) -> StateWrite:
        outcome = await self._combiner.wish(key, decide, combines=combines)
        return StateWrite(key, outcome.value, outcome.version, outcome.is_written)

    def _change(
        self, key: str, value: Any, life: float | None, expected_version: int | None = None
    ) -> Change:
        return Change(key, self._encode(key, value), expected_version, life)

    def _encode(self, key: str, value: Any) -> bytes:
        if key not in self._known:
            self._check_key(key)
        data = _encode(value)
        if len(data) > self._max_value_bytes:
            raise PayloadTooLarge(
                f"The value of {key} has {len(data):,} bytes; a value of {self.namespace} may have"
                f" {self._max_value_bytes:,}.",
                hint="Keep it elsewhere and only its name here, or raise max_value_bytes.",
            )
        return data

    def _check_key(self, key: str) -> None:
        if not key or len(key) > 512 or not key.isprintable():
            raise ConfigurationError(f"{key!r} cannot be a key.", hint="Use 1 to 512 printable characters.")
        if len(self._known) >= self._max_keys:
            raise PayloadTooLarge(
                f"{self.namespace} has {len(self._known):,} keys, and {key} would be one more than it may have.",
                hint="Delete some, give them a time to live, or raise max_keys.",
            )

    async def _apply(self, changes: Sequence[Change]) -> View:
        view = await self._cells.apply(self._space, changes, origin=self.origin)
        self._replica.note(view, [change.name for change in changes])
        self._counts["writes"] += 1
        self._prune_if_due(view.position)
        return view

    def _prune_if_due(self, position: int) -> None:
        """Prune after so much growth of the feed, whoever wrote it or whatever ended."""
        before = self._pruned_at
        is_due = before is None or (position - before) * _PRUNED_AFTER >= self._history
        if is_due and (self._pruning is None or self._pruning.done()):
            self._pruned_at = position
            self._pruning = asyncio.create_task(self._prune(), name=f"reprise prune {self._space}")

    async def _prune(self) -> None:
        try:
            await self._cells.prune(self._space, self._history)
        except StoreError:
            self._pruned_at = None  # what is too long now is pruned after the next write

    # ---------------------------------------------------------------- hearing

    def on_update(self, handler: Handler, pattern: str = "*") -> Callable[[], None]:
        """Call a function, or await a coroutine function, with each update of keys that match; return how to end that.

        It is told every version in order, those of this process too, one after the other; what it raises goes to the
        handler of exceptions of the loop, and the next update comes all the same.
        """
        subscription = Subscription(handler, pattern)
        self._subscriptions.append(subscription)

        def end() -> None:
            subscription.end()
            if subscription in self._subscriptions:
                self._subscriptions.remove(subscription)

        return end

    def _pass_on(self, entry: Changed, before: Known | None, *, gap: bool) -> None:
        self._counts["updates"] += 1
        for subscription in self._subscriptions:
            if subscription.matches(entry.name):
                old = before.data if before else None
                subscription.tell(to_update(entry, old, gap=gap))

    async def history(self, key: str, *, limit: int = 100) -> list[StateUpdate]:
        """Return the newest changes of a key that are still kept, oldest first."""
        await self._look()
        changes: list[StateUpdate] = []
        old: bytes | None = None
        async for entry in walk_feed(self._cells, self._space):
            if entry.name == key:
                changes.append(to_update(entry, old, gap=False))
                old = entry.data
                del changes[:-limit]
        return changes

    # ---------------------------------------------------------------- all of it

    async def snapshot(self) -> StateSnapshot:
        """Return all that the namespace holds, as it is at one moment."""
        await self._look(fresh=True)
        replica = self._replica
        entries = [_to_entry(key, known) for key, known in sorted(replica.told.items())]
        return StateSnapshot(self.namespace, replica.position, replica.now(), tuple(entries))

    async def restore(self, snapshot: StateSnapshot, *, keep_others: bool = False) -> int:
        """Let the namespace hold what it held, in one commit; return how many keys were changed.

        Keys that are not in the snapshot are deleted, unless ``keep_others``; those whose time is over by now stay
        away. The changes are changes as others: everybody hears of them, under new versions.
        """
        await self._look(fresh=True)
        told, now = self._replica.told, self._replica.now()
        changes: list[Change] = []
        for entry in snapshot.entries:
            data = self._encode(entry.key, entry.value)
            known = told.get(entry.key)
            if not _is_same(known, data, entry) and not 0 < entry.expires_at <= now:
                life = (entry.expires_at - now) / MICROSECONDS if entry.expires_at else None
                changes.append(Change(entry.key, data, ttl=life))
        if not keep_others:
            others = told.keys() - {entry.key for entry in snapshot.entries}
            changes += [Change(key, None) for key in sorted(others)]
        if changes:
            await self._apply(changes)
        return len(changes)

    @cached_property
    def sync(self) -> SyncState:
        """The same for code without an event loop: scripts, Flask, Django. Use either this or the object itself."""
        return SyncState(self)

    def statistics(self) -> dict[str, int | float | str]:
        """Return counters: reads answered here, writes, updates heard, and how old the copy may be."""
        replica, combiner = self._replica, self._combiner
        return {
            "hits": self._hits,
            **self._counts,
            "keys": len(self._known),
            "position": replica.position,
            "connected": int(replica.is_connected),
            "staleness_seconds": replica.staleness if self._is_started else 0.0,
            "reloads": replica.reloads,
            "conflicts": combiner.conflicts,
            "combined": combiner.wishes - combiner.writes,
            "untold": sum(each.waiting for each in self._subscriptions),
        }


def _value_of(known: Known) -> Any:
    return known.value if known.is_plain or known.data is None else _decode(known.data)


def _to_entry(key: str, known: Known) -> StateEntry:
    return StateEntry(key, _value_of(known), known.version, known.expires_at)


def _is_same(known: Known | None, data: bytes, entry: StateEntry) -> bool:
    if known is None or known.data != data or bool(known.expires_at) != bool(entry.expires_at):
        return False
    return abs(known.expires_at - entry.expires_at) < MICROSECONDS


def _life(ttl: Duration) -> float:
    life = seconds(ttl, "ttl")
    if life <= 0:
        raise ConfigurationError(
            f"ttl is {ttl!r}.", hint="Give a positive number of seconds, or None for ever."
        )
    return life
