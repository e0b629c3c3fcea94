"""What a run index must prove about queries: it gives the runs that the evaluator gives, on any query."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings, strategies as st

from reprise.kernel.chance import Random, seeded
from reprise.kernel.errors import ConfigurationError
from reprise.kernel.events import run_stream
from reprise.kernel.machine import RUN
from reprise.kernel.query import (
    EVERY,
    TAG,
    Compare,
    Is,
    Query,
    Says,
    Starts,
    all_of,
    any_of,
    matcher,
    negated,
    reader,
    words,
)
from reprise.kernel.tags import Tag
from reprise.stores.log import Group, RunChange
from reprise.stores.memory import MemoryStore
from reprise.stores.runs import RunFilter, RunRow, group_name
from reprise.stores.store import Store
from reprise.testing.suites.keeper import Keeper, KeeperSuite, fact, put
from reprise.testing.suites.runs import change, change_index_only, start

RUNS = 120
TEXTS = (
    "",
    "a",
    "ab",
    "abc",
    "b",
    "B",
    "ä",
    "ab c",
    "a'b",
    'a"b',
    "a%",
    "a_",
    "1",
    "10",
    "true",
    "none",
    "\U0001f600x",
)
NUMBERS = (0, 1, 2, 10, -1, 2**53, 2**53 + 1, -(2**63), 2**63 - 1, 0.5, 1.0, 0.1, -1e300, 1e300, 5e-324)
ERRORS = (
    "",
    "",
    "connection reset by peer",
    "reset: connection, reset the connection",
    "KeyError: 'user_id'",
    "Straße STRASSE — naïve ﬁle",
    "Timeout after 10 s",
    "a b a b c",
    "-- %s ''",
)
WORDS = tuple(dict.fromkeys(word for text in ERRORS for word in words(text)))
NAMES = ("env", "amount", "flag", "reprise.x")
WORKFLOWS = ("survey", "survey-2", "order", "")
OWNERS = (None, "w1", "w2", "")
IDS = tuple(f"{'abc'[n % 3]}{n // 3:02}" for n in range(RUNS))


def population() -> Iterator[RunChange]:
    """Yield first what starts the runs, then what changes some of them."""
    dice = seeded(b"population")
    for n, id in enumerate(IDS):
        fields: dict[str, Any] = {
            "tags": _tags(dice),
            "error": dice.choice(ERRORS),
            "build": dice.choice(("", "v1", "v2")),
        }
        parent = dice.choice((None, None, IDS[n // 2] if n else None))
        status, workflow = dice.choice(tuple(RUN.transitions)), dice.choice(WORKFLOWS)
        yield RunChange(id, status, workflow, parent, dice.choice(OWNERS), at=1 + n // 4, **fields)
    for id in dice.sample(IDS, RUNS // 2):
        fields = {
            "status": dice.choice(tuple(RUN.transitions)),
            "owner": dice.choice(OWNERS),
            "due_at": dice.choice((None, 5, 40)),
            "error": dice.choice(ERRORS),
            "tags": _tags(dice),
            "warning": dice.choice(("", "long")),
        }
        kept = dice.sample(sorted(fields), dice.randrange(1, len(fields)))
        yield RunChange(id, at=dice.randrange(30, 60), **{name: fields[name] for name in kept})


def _tags(dice: Random) -> dict[str, Tag]:
    values: tuple[Tag, ...] = (*TEXTS, *NUMBERS, True, False)
    return {name: dice.choice(values) for name in dice.sample(NAMES, dice.randrange(len(NAMES)))}


# ---------------------------------------------------------------- random queries

_tags_of = st.sampled_from([TAG + name for name in (*NAMES, "absent")])
_text = st.sampled_from(TEXTS)
_moments = st.integers(-1, 62)
_ops = st.sampled_from(("<", "<=", ">", ">="))
_value = st.one_of(_text, st.sampled_from(NUMBERS))
_columns: dict[str, tuple[str | None, ...]] = {
    "id": IDS,
    "status": tuple(RUN.transitions),
    "workflow": WORKFLOWS,
    "parent": (None, *IDS[:20]),
    "owner": OWNERS,
    "build": ("", "v1", "v2"),
}
_on_columns = [st.builds(Is, st.just(field), st.sampled_from(values)) for field, values in _columns.items()]
conditions = st.one_of(
    *_on_columns,
    st.builds(
        Starts,
        st.sampled_from(["id", "workflow", "parent", "owner"]),
        st.sampled_from(["", "a", "s", "su", "w"]),
    ),
    st.builds(Compare, st.sampled_from(["created", "updated", "due"]), _ops, _moments),
    st.builds(Is, st.just("due"), st.sampled_from([None, 5, 40])),
    st.builds(Is, st.sampled_from(["error", "warning"]), st.just("")),
    st.builds(Is, _tags_of, st.one_of(st.none(), _value)),
    st.builds(Starts, _tags_of, _text),
    st.builds(Compare, _tags_of, _ops, _value),
    st.builds(Says, st.lists(st.sampled_from(WORDS), min_size=1, max_size=3).map(tuple), st.booleans()),
    st.builds(Says, st.sampled_from(WORDS).map(lambda word: (word[:2],)), st.just(True)),
)
queries: st.SearchStrategy[Query] = st.recursive(
    conditions,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map(lambda parts: all_of(*parts)),
        st.lists(inner, max_size=3).map(lambda parts: any_of(*parts)),
        inner.map(negated),
    ),
    max_leaves=6,
)
groups = st.sampled_from(("status", "workflow", "owner", "parent", "build", *(TAG + name for name in NAMES)))


class Searched:
    """A keeper and a memory that were told the same."""

    def __init__(self, keeper: Keeper) -> None:
        self.keeper = keeper
        self.rows: list[RunRow] = []

    async def fill(self) -> None:
        """Make the runs, and see that they are there."""
        self.store, memory = await self.keeper.open(), MemoryStore()
        for told in population():
            for log in (self.store.log, memory.log):
                await put(log, Group(run_stream(told.id), [fact()], run=msgspec.structs.replace(told)))
        for log in (self.store.log, memory.log):
            await log.drop(run_stream(IDS[17]))
        self.rows = await memory.runs.find(limit=RUNS)
        assert await self.store.runs.find(limit=RUNS) == self.rows
        assert await self.store.runs.tags() == await memory.runs.tags() == sorted(NAMES)

    async def check(self, query: Query, by: str, newest_first: bool, limit: int) -> None:
        """Ask page by page, count, and compare with the evaluator."""
        matches = matcher(query)
        wanted = [row for row in self.rows if matches(row)]
        if not newest_first:
            wanted.reverse()
        found: list[RunRow] = []
        before = ""
        while page := await self.store.runs.find(
            query, limit=limit, before=before, newest_first=newest_first
        ):
            assert len(page) == min(limit, len(wanted) - len(found))
            found += page
            before = page[-1].id
        assert [row.id for row in found] == [row.id for row in wanted]
        read = reader(by)
        assert await self.store.runs.count(query, by=by) == Counter(group_name(read(row)) for row in wanted)


class SearchSuite(KeeperSuite):
    """Tests of queries; a part of the port ``Runs``."""

    queries_tried = 300
    """Random queries that are tried."""

    def test_any_query_gives_what_the_evaluator_gives(self) -> None:
        """In both directions, page by page, and counted."""
        with asyncio.Runner() as runner:
            searched = Searched(self.make_keeper())
            try:
                runner.run(searched.fill())

                @settings(max_examples=self.queries_tried, deadline=None)
                @given(queries, groups, st.booleans(), st.sampled_from((3, 50, 3000)))
                def ask(query: Query, by: str, newest_first: bool, limit: int) -> None:
                    runner.run(searched.check(query, by, newest_first, limit))

                ask()
            finally:
                runner.run(searched.keeper.close())

    def test_what_comes_from_several_walks_is_whole(self) -> None:
        """What is behind the first ones of one walk may come before the first ones of another."""
        unlike = [
            negated(Is(field, value)) for field, value in (("workflow", "survey"), ("status", "running"))
        ]
        with asyncio.Runner() as runner:
            searched = Searched(self.make_keeper())
            try:
                runner.run(searched.fill())
                for query in (all_of(unlike[0], negated(Is("parent", None))), all_of(*unlike)):
                    for newest_first in (True, False):
                        runner.run(searched.check(query, "status", newest_first, 3))
            finally:
                runner.run(searched.keeper.close())

    async def test_tags_keep_their_types(self, keeper: Keeper, store: Store) -> None:
        """Also after a restart; what was 1.0 does not become 1, nor true."""
        tags: dict[str, Tag] = {"a": "1", "b": 1, "c": 1.0, "d": True, "e": 2**63 - 1, "f": ""}
        await start(store, "r", tags=tags)
        fresh = await keeper.reopen(store)
        (row,) = await fresh.runs.find()
        assert row.tags == tags
        assert [type(value) for value in row.tags.values()] == [type(tags[name]) for name in row.tags]

    async def test_changed_tags_are_found_by_what_they_are_now(self, store: Store) -> None:
        """And no longer by what they were; also when they change in one commit with the start, and when they go."""
        opening = RunChange("r", "running", "w", tags={"n": 1, "env": "a"}, at=1)
        begin = Group("run/r", [fact()], 0, run=opening)
        await put(store.log, begin, Group("run/r", [fact()], run=RunChange("r", tags={"n": 2}, at=2)))
        assert [await store.runs.count(Is("tag.n", n)) for n in (1, 2)] == [{}, {"running": 1}]
        await put(store.log, Group("run/r", run=RunChange("r", tags={"env": "b"}, at=3)))
        assert await store.runs.count(by="tag.env") == {"b": 1}
        assert await store.runs.tags() == ["env"]
        await put(store.log, Group("run/r", run=RunChange("r", tags={}, at=4)))
        assert await store.runs.find(Is("tag.env", None)) == await store.runs.find()
        assert await store.runs.tags() == []

    async def test_errors_are_found_by_what_they_are_now(self, store: Store) -> None:
        """A run that goes on has none, and a dropped one is not found."""
        await start(store, "a")
        await start(store, "b")
        for error in ("disk full", "disk full, again", "", "disk broken"):
            await change_index_only(store, "a", 1, error=error)
            found = await store.runs.find(Says(("disk",)))
            assert [row.error for row in found] == ([error] if error else [])
        assert await store.runs.find(Says(("full",))) == []
        await change(store, "b", status="failed", error="disk full")
        await store.log.drop("run/a")
        assert [row.id for row in await store.runs.find(Says(("dis",), prefix=True))] == ["b"]

    async def test_a_filter_and_its_query_give_the_same(self, store: Store) -> None:
        """A filter of code is a query like any other, and carries one."""
        await start(store, "a", tags={"env": "prod", "n": 1})
        await start(store, "ab", 2, tags={"env": "prod", "n": 2})
        where = RunFilter(tags={"env": "prod"}, query=Compare("tag.n", ">", 1))
        assert [row.id for row in await store.runs.find(where)] == ["ab"]
        assert [row.id for row in await store.runs.find(RunFilter(id="a"))] == ["a"]
        assert await store.runs.find(RunFilter(id="a", prefix="b")) == []
        assert len(await store.runs.find(EVERY)) == 2

    async def test_a_page_after_an_unknown_run_is_empty(self, store: Store) -> None:
        """It may have been dropped."""
        await start(store, "a")
        assert await store.runs.find(before="gone") == []

    async def test_what_cannot_be_counted_by_is_said(self, store: Store) -> None:
        """Before anything is asked."""
        for by in ("tags", "id", "created"):
            with pytest.raises(ConfigurationError, match="Runs cannot be counted by"):
                await store.runs.count(by=by)

    async def test_long_and_strange_errors_are_searched(self, store: Store) -> None:
        """Words beyond a length are cut, and words beyond a number left out, alike when written and when asked."""
        error = " ".join(["x" * 3000, "ß\N{COMBINING ACUTE ACCENT}", *(f"w{n}" for n in range(2000))])
        await start(store, "a", error=error)
        for text, is_there in (
            ("x" * 3000, True),
            ("x" * 59, False),
            ("SS", True),
            ("w200", True),
            ("w1999", False),
        ):
            assert bool(await store.runs.find(Says(tuple(words(text))))) is is_there
