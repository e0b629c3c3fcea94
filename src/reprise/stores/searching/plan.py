"""Plans: how a page or a count is come by. No planner's guess, no statistics, and nothing is executed here.

A page is wanted in the order of age. What few runs meet is fetched and sorted. Where every condition is met by many,
the page is mostly full of the newest runs, so those are looked at first; then those from where the last of the
conditions begins to be met (a tag that is no longer used, a workflow that was renamed); and only then the index of the
rarest condition is walked to its end. How rare a condition is, is found out by counting entries of its index up to a
bound. So a page never costs more than about what the rarest of its conditions has entries.

The SQL is the keeper's: a file ``search.sql`` of fragments. A plan is a generator that yields statements and is sent
their rows, so that keepers with and without an event loop drive it alike.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

from reprise.kernel.machine import RunStatus
from reprise.kernel.query import TAG, Is, Not, Query, all_of
from reprise.kernel.tags import Tag
from reprise.stores.runs import group_name
from reprise.stores.searching.asked import Asked
from reprise.stores.searching.sources import EVERY_RUN, Member, Source, conjuncts, sources
from reprise.stores.searching.writer import Phrase, Writer

FEW = 2_000
"""Entries of an index up to which all its runs are looked at without further ado."""
WINDOW = 2_000
"""Runs in the order of age that are looked at when no condition is rare."""
MANY = 50_000
"""Entries up to which the indexes are compared in length after that."""
FIRST = 5_000
"""Entries of an index that is not in the order of age whose runs are looked at before those of all its entries."""
BULK = 200_000
"""Entries of an index up to which runs are counted by it, if it is in the order of age, as runs mostly lie; beyond it,
reading all runs in a row is faster."""
ID, CREATED_AT = 0, 3
"""Columns of the fragment ``page`` that a plan looks at."""

Row: TypeAlias = Sequence[Any]
Result = TypeVar("Result")


class Statement(NamedTuple):
    """SQL with its named parameters."""

    text: str
    values: dict[str, Any]
    is_walk: bool = False
    """Whether it must be executed as it is written: the source first, in its order, then each run of it."""
    is_alone: bool = False
    """Whether it is the only one of its plan. Those of a longer one must be executed as of one moment."""


Plan: TypeAlias = Generator[Statement, Sequence[Row], Result]


class Asking(Generic[Result]):
    """A plan that is being carried out: execute what it wants, tell the rows, until it wants no more; then ``result``."""

    result: Result

    def __init__(self, plan: Plan[Result]) -> None:
        self._plan = plan
        self._statement: Statement | None = None
        self._go_on(None)

    def wants(self) -> Statement | None:
        """Return the statement to be executed next, None when the result is there."""
        return self._statement

    def tell(self, rows: Sequence[Row]) -> None:
        """Hand over the rows of the statement."""
        self._go_on(rows)

    def _go_on(self, rows: Any) -> None:
        try:
            self._statement = self._plan.send(rows)
        except StopIteration as end:
            self._statement, self.result = None, end.value


class Search:
    """Makes plans out of a keeper's fragments; ``tag`` reads what the fragment ``group_tag`` gives."""

    def __init__(
        self, sql: Mapping[str, str], phrase: Phrase, tag: Callable[[Any], Tag | None] = lambda value: value
    ) -> None:
        self._sql, self._phrase, self._tag = sql, phrase, tag

    def page(self, query: Query, limit: int, before: str, *, newest_first: bool) -> Plan[list[Row]]:
        """Return the plan of a page: rows of the fragment ``page``."""
        asked = Asked(conjuncts(query), limit, newest_first)
        if before:
            found = yield Statement(self._sql["edge"], {"run": before})
            if not found:
                return []
            asked.edge = (found[0][0], before)
        candidates = list(sources(asked.parts))
        walk = next((source for source in candidates if source.ordered and asked.is_met_by(source)), None)
        if walk is not None or not candidates:
            return (yield from self._fetch(asked, walk or EVERY_RUN, is_all=not before))
        size, rarest = yield from self._rarest(candidates, FEW)
        if size < FEW:
            return (yield from self._fetch(asked, rarest))
        return (yield from self._page_of_many(asked, candidates))

    def count(self, query: Query, by: str) -> Plan[dict[str, int]]:
        """Return the plan of a count."""
        parts = conjuncts(query)
        candidates = [source for source in sources(parts) if source.disjoint]
        source: Source | None = None
        if candidates:
            size, source = yield from self._rarest(candidates, BULK)
            whole = next((one for one in candidates if len(one.covers) == len(parts)), None)
            if size >= FEW and whole is not None and by == "status":
                return (yield from self._count_the_others(query, whole))
            if size >= (BULK if source.ordered else BULK // 2):
                source = None
        counts: Counter[str] = Counter()
        for statement in self._counts(parts, source, by):
            for value, number in (yield statement._replace(is_alone=not candidates)):
                counts[group_name(self._tag(value) if by.startswith(TAG) else value)] += number
        return dict(counts)

    def tags(self) -> Plan[list[str]]:
        """Return the plan of the list of all tags' names."""
        return [name for (name,) in (yield Statement(self._sql["tag_names"], {}, is_alone=True))]

    # ---------------------------------------------------------------- pages

    def _page_of_many(self, asked: Asked, candidates: Sequence[Source]) -> Plan[list[Row]]:
        """Fetch a page where every condition is met by many runs."""
        rows, horizon = yield from self._in_window(asked)
        if rows is not None:
            return rows
        size, rarest = yield from self._rarest(candidates, MANY)
        if rarest.ordered and size < MANY:
            return (yield from self._fetch(asked, rarest))
        yield from self._begin_where_all_begin(asked, candidates)
        if asked.is_beyond(horizon):
            rows, _ = yield from self._in_window(asked)
            if rows is not None:
                return rows
        # The first ones of several members do not reach equally far, so behind the shortest of them some would be missing.
        is_one = len(rarest.members) == 1
        if is_one and not rarest.ordered and not asked.is_met_by(rarest) and size > FIRST:
            rows = yield from self._fetch(asked, rarest, first=FIRST)
            if len(rows) == asked.limit:
                return rows
        return (yield from self._fetch(asked, rarest))

    def _in_window(self, asked: Asked) -> Plan[tuple[list[Row] | None, int | None]]:
        """Fetch the page if the runs that come first by age fill it, or are all there are; say how far it was looked."""
        if asked.limit > WINDOW:
            return None, None
        writer = self._writer()
        start = writer.fill(asked.way("start"), start=asked.start())
        text = self._sql["horizon"].replace("/* bounds */", start)
        found = yield self._ordered(text, asked, writer, skip=WINDOW)
        horizon: int | None = found[0][0] if found else None
        rows = yield from self._fetch(asked, EVERY_RUN, horizon=horizon)
        return rows if horizon is None or len(rows) == asked.limit else None, horizon

    def _begin_where_all_begin(self, asked: Asked, candidates: Sequence[Source]) -> Plan[None]:
        """Let the page begin where each of the conditions has begun to be met."""
        timed = [source for source in candidates if source.has_time]
        for moments in (yield from self._of_each_member(timed, asked.way("first"))):
            asked.begin([at for at in moments if at is not None])

    def _fetch(
        self,
        asked: Asked,
        source: Source,
        *,
        horizon: int | None = None,
        first: int = 0,
        is_all: bool = False,
    ) -> Plan[list[Row]]:
        """Fetch a page through a source: one from each member, merged.

        ``horizon`` bounds how far it looks, ``first`` how many of those that each member gives; ``is_all``: nothing else
        is asked.
        """
        pages: list[Sequence[Row]] = []
        left = asked.left_by(source)
        for member in source.members:
            writer = self._writer()
            conditions = writer.conditions(left)
            found = self._sql["found_in_rows" if "r." in conditions else "found"]
            found = found.replace("/* candidates */", self._candidates(writer, asked, member, horizon, first))
            found = found.replace("/* conditions */", conditions)
            text = self._sql["page"].replace("/* found */", found)
            statement = self._ordered(text, asked, writer, limit=asked.limit)
            is_alone = is_all and len(source.members) == 1
            is_walk = member.fragment != "from_id"
            pages.append((yield statement._replace(is_walk=is_walk, is_alone=is_alone)))
        if len(pages) == 1:
            return list(pages[0])
        merged = heapq.merge(*pages, key=_age, reverse=asked.newest_first)
        return list({row[ID]: row for row in merged}.values())[: asked.limit]

    def _candidates(
        self, writer: Writer, asked: Asked, member: Member, horizon: int | None, first: int
    ) -> str:
        """Write the walk of an index between the bounds of the page."""
        text = self._sql["candidates"].replace("/* source */", writer.member(member))
        bounds = [writer.conditions(asked.bounds)]
        if horizon is not None:
            bounds.append(writer.fill(asked.way("horizon"), horizon=horizon))
        if asked.begins is not None:
            bounds.append(writer.fill(asked.way("start"), start=asked.begins))
        if asked.edge is not None:
            bounds.append(writer.fill(asked.way("after"), edge=asked.edge[0], run=asked.edge[1]))
        text = text.replace("/* bounds */", " AND ".join(bounds))
        return f"{text} {writer.fill('first_of_them', first=first)}" if first else text

    def _rarest(self, candidates: Sequence[Source], most: int) -> Plan[tuple[int, Source]]:
        """Return the source with the fewest entries, counted up to ``most``; of equal ones rather an ordered one, and one
        of few members.
        """
        counted = [source for source in candidates if not source.is_vast] or [*candidates]
        entries = yield from self._of_each_member(counted, "size", most=most)
        sized = [
            (min(sum(of_members), most), not source.ordered, len(source.members), place)
            for place, (source, of_members) in enumerate(zip(counted, entries, strict=True))
        ]
        size, _, _, place = min(sized)
        return size, counted[place]

    def _of_each_member(
        self, candidates: Sequence[Source], fragment: str, **values: Any
    ) -> Plan[list[list[Any]]]:
        """Ask one thing of each member of each source, in one statement."""
        if not candidates:
            return []
        writer = self._writer()
        asked = [
            writer.fill(fragment, **values).replace("/* source */", writer.member(member))
            for source in candidates
            for member in source.members
        ]
        ((*answers,),) = yield Statement(f"SELECT {', '.join(asked)}", writer.values, is_walk=True)
        left = iter(answers)
        return [list(islice(left, len(source.members))) for source in candidates]

    # ---------------------------------------------------------------- counts

    def _count_the_others(self, query: Query, whole: Source) -> Plan[dict[str, int]]:
        """Count by status what a source gives: those that did not complete, who are few; the rest is a subtraction."""
        total = 0
        for member in whole.members:
            writer = self._writer()
            text = self._sql["total"].replace("/* source */", writer.member(member))
            ((entries,),) = yield Statement(text, writer.values)
            total += entries
        others = all_of(query, Not(Is("status", RunStatus.COMPLETED)))
        counts = yield from self.count(others, "status")
        completed = total - sum(counts.values())
        return counts | ({RunStatus.COMPLETED: completed} if completed else {})

    def _counts(self, parts: Sequence[Query], source: Source | None, by: str) -> Iterable[Statement]:
        """Return the statements whose sum is the count."""
        if source is None:
            writer = Writer(self._sql, self._phrase, candidates=False, counts=True)
            text = f"{writer.group(by)}, count(*) FROM runs r WHERE {writer.conditions(parts)}"
            return [Statement(f"SELECT {text} GROUP BY 1", writer.values)]
        left = [part for at, part in enumerate(parts) if at not in source.covers]
        statements: list[Statement] = []
        for member in source.members:
            writer = Writer(self._sql, self._phrase, counts=True)
            text = self._sql["count"].replace("/* group */", writer.group(by))
            text = text.replace("/* source */", writer.member(member))
            text = text.replace("/* conditions */", writer.conditions(left))
            statements.append(Statement(text, writer.values))
        return statements

    def _writer(self) -> Writer:
        return Writer(self._sql, self._phrase)

    def _ordered(self, text: str, asked: Asked, writer: Writer, **values: Any) -> Statement:
        return Statement(text.replace("/* order */", asked.order), writer.values | values, is_walk=True)


def _age(row: Row) -> tuple[int, str]:
    return row[CREATED_AT], row[ID]
