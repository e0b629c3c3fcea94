"""A dictionary that behaves like cells, and random histories to compare with it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from reprise.kernel.errors import CellConflict, FeedGone
from reprise.stores.cells import ABSENT, KEEP, Change, Changed, View
from reprise.stores.conditions import floor_of
from reprise.testing.suites.keeper import LONG, Keeper

NAMES = ("a", "a/1", "a/2", "b", "ä", "\U0001f331")
_names = st.sampled_from(NAMES)
_data = st.sampled_from((b"", b"\0\xff", b"1", b"22"))
_wishes = st.sampled_from(("any", "any", "absent", "right", "right", "wrong"))
_lives = st.sampled_from(("ever", "ever", "long", "short", "keep"))


class Held(msgspec.Struct):
    """What the model knows of one cell; ``ends``: "" = it does not, "long" = not within the test, "short"."""

    data: bytes
    version: int
    ends: str = ""


class Entry(msgspec.Struct, frozen=True):
    """What the model knows of one entry of the feed."""

    position: int
    name: str
    data: bytes | None
    origin: str


class CellsMachine(RuleBasedStateMachine):
    """Random changes, looks, restarts and passing of time on one space."""

    def __init__(self, make_keeper: Callable[[], Keeper]) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.keeper = make_keeper()
        self.store = self.runner.run(self.keeper.open())
        self.held: dict[str, Held] = {}
        self.entries: list[Entry] = []
        self.head = 0
        self.kept_after = 0
        self.floor = floor_of(self.store.epoch)

    def _enter(self, name: str, data: bytes | None, origin: str) -> int:
        self.head = max(self.head, self.floor) + 1
        self.entries.append(Entry(self.head, name, data, origin))
        return self.head

    def _expected(self, name: str, wish: str) -> int | None:
        held = self.held.get(name)
        match wish:
            case "any":
                return None
            case "absent":
                return ABSENT
            case "right":
                return held.version if held else ABSENT
            case _:
                return held.version + 1 if held else 1

    @rule(
        some=st.lists(
            st.tuples(_names, st.none() | _data, _wishes, _lives),
            min_size=1,
            max_size=3,
            unique_by=lambda each: each[0],
        ),
        origin=st.sampled_from(("", "me")),
    )
    def apply(self, some: Sequence[tuple[str, bytes | None, str, str]], origin: str) -> None:
        """Make changes, or none of them."""
        lives = {"ever": None, "long": LONG, "short": self._short(), "keep": KEEP}
        changes = [
            Change(name, data, self._expected(name, wish), lives[life]) for name, data, wish, life in some
        ]
        bad = [c for c in changes if c.expected is not None and c.expected != self._version(c.name)]
        try:
            view = self.runner.run(self.store.cells.apply("s", changes, origin=origin))
        except CellConflict as refused:
            assert (refused.name, refused.expected, refused.found) in [
                (c.name, c.expected, self._version(c.name)) for c in bad
            ]
            return
        assert not bad
        for name, data, _, life in some:
            known = self.held.pop(name, None)
            if data is None:
                if known:
                    self._enter(name, None, origin)
                continue
            ends = {"ever": "", "long": "long", "short": "short" if self.keeper.exact_time else "long"}
            kept = known.ends if known else ""
            self.held[name] = Held(data, self._enter(name, data, origin), ends.get(life, kept))
        self._is_like(view, [name for name, data, _, _ in some if data is not None])

    def _short(self) -> float:
        return self.keeper.short if self.keeper.exact_time else LONG

    def _version(self, name: str) -> int:
        return self.held[name].version if name in self.held else ABSENT

    def _is_like(self, view: View, names: Sequence[str]) -> None:
        """Compare a view with what is held of these names."""
        there = [(name, self.held[name]) for name in names if name in self.held]
        found = [(cell.name, cell.data, cell.version, cell.expires_at > view.at) for cell in view.cells]
        assert found == [(name, held.data, held.version, bool(held.ends)) for name, held in there]
        assert all(cell.expires_at > view.at or not cell.expires_at for cell in view.cells)
        assert view.position == self.head

    @rule(names=st.lists(_names, max_size=3, unique=True))
    def get(self, names: list[str]) -> None:
        """Look at some."""
        self._is_like(self.runner.run(self.store.cells.get("s", names)), names)

    @rule(
        prefix=st.sampled_from(("", "", "a", "a/", "b", "ä", "x")),
        after=st.sampled_from(("", *NAMES)),
        limit=st.integers(1, 4),
    )
    def scan(self, prefix: str, after: str, limit: int) -> None:
        """Look at a page."""
        view = self.runner.run(self.store.cells.scan("s", prefix, after=after, limit=limit))
        names = [name for name in sorted(self.held) if name.startswith(prefix) and name > after]
        self._is_like(view, names[:limit])

    @rule(data=st.data(), limit=st.sampled_from((1, 2, 1000)))
    def feed(self, data: st.DataObject, limit: int) -> None:
        """Read on behind a position, also such as is not kept or never was."""
        kept = [self.kept_after, *(e.position for e in self.entries if e.position > self.kept_after)]
        other = {0, self.kept_after - 1, self.head + 1, self.floor} - {-1}
        after = data.draw(st.sampled_from(sorted({*kept, *other})))
        try:
            changed = self.runner.run(self.store.cells.feed("s", after, limit))
        except FeedGone as gone:
            assert after not in kept
            assert gone.kept_after == self.kept_after
            return
        assert after in kept
        self._are_like(changed, [e for e in self.entries if e.position > after][:limit])

    def _are_like(self, changed: Sequence[Changed], entries: Sequence[Entry]) -> None:
        assert [Entry(c.position, c.name, c.data, c.origin) for c in changed] == list(entries)
        assert [c.at for c in changed] == sorted(c.at for c in changed)
        assert all(c.expires_at == 0 or c.expires_at > c.at for c in changed)

    @rule(keep=st.integers(0, 3))
    def prune(self, keep: int) -> None:
        """Forget old entries."""
        kept = [e.position for e in self.entries if e.position > self.kept_after]
        gone = kept[: max(len(kept) - keep, 0)]
        assert self.runner.run(self.store.cells.prune("s", keep)) == len(gone)
        self.kept_after = gone[-1] if gone else self.kept_after

    @precondition(lambda self: self.keeper.exact_time)
    @rule()
    def pass_time(self) -> None:
        """Let every short cell end: in what order they go is nobody's business, but all at once."""
        self.runner.run(self.keeper.pass_time(self.keeper.short))
        ended = {name for name, held in self.held.items() if held.ends == "short"}
        seen = self.runner.run(self.store.cells.get("s", NAMES))
        assert {cell.name for cell in seen.cells} == self.held.keys() - ended
        self.runner.run(self.store.cells.scan("s"))
        if ended:
            last = self.entries[-1].position
            gone = self.runner.run(self.store.cells.feed("s", last))
            assert {c.name for c in gone} == ended
            assert len(gone) == len(ended)
            for each in gone:
                self._enter(each.name, None, "")
                del self.held[each.name]
            self._are_like(gone, self.entries[-len(gone) :])

    @rule()
    def restart(self) -> None:
        """Close and open."""
        self.store = self.runner.run(self.keeper.reopen(self.store))

    @rule()
    def begin_epoch(self) -> None:
        """Begin an epoch: cells stay, positions go on above all that were given."""
        self.floor = floor_of(self.runner.run(self.store.begin_epoch()))

    def teardown(self) -> None:
        """Compare once more and close."""
        self.scan("", "", 1000)
        self._are_like(
            self.runner.run(self.store.cells.feed("s", self.kept_after)),
            [e for e in self.entries if e.position > self.kept_after],
        )
        assert self.runner.run(self.store.cells.spaces()) == (["s"] if self.held else [])
        self.runner.run(self.keeper.close())
        self.runner.close()
