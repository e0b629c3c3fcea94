"""How pages are found in a file: by which index, in which order, whatever the order of the conditions."""

import re
import sqlite3

import pytest
from tests.contract.sqlite.test_file import START

from reprise.kernel.events import Event
from reprise.kernel.query import AnyOf, Is, Not
from reprise.kernel.query_text import parse
from reprise.stores.log import Group, RunChange, append
from reprise.stores.searching import Asking, Search, plan
from reprise.stores.searching.sources import sources
from reprise.stores.sqlite.runs import _phrase
from reprise.stores.sqlite.statements import Statements

NOW = 10**9
SEARCH = Search(Statements("search.sql"), _phrase)


@pytest.fixture
async def filled(store, path, monkeypatch):
    """200 runs: of all statuses but few failed, one with a rare tag; bounds at which 20 are many."""
    for bound, value in {"FEW": 8, "WINDOW": 8, "MANY": 60, "FIRST": 10}.items():
        monkeypatch.setattr(plan, bound, value)
    for n in range(200):
        tags = {"env": "prod", "amount": float(n)} | ({"case": "needle"} if n == 7 else {})
        status = "failed" if n % 10 == 0 else "completed"
        change = RunChange(
            f"r{n:03}", status, f"w{n % 3}", None, tags=tags, error="disk full" if n % 10 == 0 else "", at=n
        )
        await append(store.log, n + 1, Group(f"run/r{n:03}", [Event(1, n)], run=change))
    connection = sqlite3.connect(path)
    yield connection
    connection.close()


def steps(connection, query, limit=5, newest_first=True):
    """Carry out the plan of a page; return (statement, how SQLite goes about it) of each step, and the ids found."""
    asking = Asking(SEARCH.page(parse(query, NOW), limit, "", newest_first=newest_first))
    taken = []
    while (statement := asking.wants()) is not None:
        told = connection.execute("EXPLAIN QUERY PLAN " + statement.text, statement.values).fetchall()
        taken.append((statement.text, [line for *_, line in told]))
        asking.tell(connection.execute(statement.text, statement.values).fetchall())
    return taken, [row[0] for row in asking.result]


def source_of(text):
    """Return the table and the index of the candidates of the last step."""
    return re.findall(r"FROM (\w+) INDEXED BY (\w+)", text)[0]


@pytest.mark.parametrize("newest_first", [True, False])
async def test_a_rare_tag_and_a_common_status_are_found_by_the_tag_in_both_orders(filled, newest_first):
    found = []
    for query in ("case:needle status:completed", "status:completed case:needle"):
        taken, ids = steps(filled, query, newest_first=newest_first)
        assert source_of(taken[-1][0]) == ("run_tags", "run_tags_by_value")
        assert ids == ["r007"]
        found.append([how for _, how in taken][-1])
    assert found[0] == found[1]


async def test_common_conditions_are_looked_for_among_the_newest_runs(filled):
    taken, ids = steps(filled, "env:prod status:completed", limit=4)
    assert len(taken) == 3  # how common they are, how far to look, the page
    assert source_of(taken[-1][0]) == ("runs", "runs_by_age")
    assert ids == ["r199", "r198", "r197", "r196"]


async def test_what_only_old_runs_have_is_looked_for_where_it_begins(filled):
    taken, ids = steps(filled, "amount<100 env:prod", limit=4)
    assert source_of(taken[-1][0]) == ("runs", "runs_by_age")
    assert ids == ["r099", "r098", "r097", "r096"]


async def test_two_common_conditions_that_seldom_meet_go_by_the_rarer_one(filled):
    for query in ("status:failed env:prod workflow:w0", "workflow:w0 env:prod status:failed"):
        taken, ids = steps(filled, query, limit=6)
        assert source_of(taken[-1][0]) == ("runs", "runs_by_status")
        assert ids == ["r180", "r150", "r120", "r090", "r060", "r030"]


ORDERED = [
    "",
    "parent:none",
    "status:failed",
    "workflow:w1",
    "env:prod",
    "amount:7",
    "created>1970-01-01",
    "status:failed,completed",
]


@pytest.mark.parametrize("query", ORDERED)
async def test_one_condition_is_one_walk_of_one_index_in_its_order(filled, query):
    taken, ids = steps(filled, query)
    assert ids == sorted(ids, reverse=True)
    walks = [how for text, how in taken if "INDEXED BY" in text]
    assert walks
    for how in walks:
        assert any("COVERING INDEX" in line for line in how)
        assert not any(line.startswith("SCAN runs") and "COVERING" not in line for line in how)
        # The one sort is that of the page itself, which has it in order already.
        assert sum("TEMP B-TREE" in line for line in how) <= 1


async def test_one_condition_takes_one_statement_and_two_are_weighed_first(filled):
    for query in ("status:failed", "workflow:w1 created>1970-01-01"):
        taken, _ = steps(filled, query)
        assert len(taken) == 1
    taken, _ = steps(filled, "status:failed workflow:w1")
    assert len(taken) > 1


async def test_what_weighs_conditions_and_what_finds_the_page_is_executed_as_it_is_written(filled):
    """Else a server that plans by its statistics may read whole tables where few entries are to be counted."""
    asking = Asking(SEARCH.page(parse("amount<100 env:prod", NOW), 4, "", newest_first=True))
    walks = []
    while (statement := asking.wants()) is not None:
        walks.append(statement.is_walk)
        asking.tell(filled.execute(statement.text, statement.values).fetchall())
    assert len(walks) > 4
    assert all(walks)


def fragments(*parts):
    """Return what each source of the runs that meet all of these conditions walks."""
    return [[member.fragment for member in source.members] for source in sources(parts)]


def test_what_is_one_of_several_has_a_source_where_each_of_them_has_one():
    failed, paused, not_old = Is("status", "failed"), Is("status", "paused"), Not(Is("id", "old"))
    assert fragments(AnyOf((failed, paused))) == [["from_column", "from_column"]]
    assert fragments(AnyOf((failed, not_old))) == []
    assert fragments(AnyOf()) == []
    assert fragments(Not(failed)) == [["from_below", "from_above"]]


async def test_the_files_own_words_are_asked_in_one_go(filled):
    taken, ids = steps(filled, 'error:"disk fu*" workflow:w0 amount>100', limit=3)
    assert ids == ["r180", "r150", "r120"]
    assert all("MATCH" not in text or "error_words" in text for text, _ in taken)


async def test_a_run_without_tags_and_error_has_no_more_entries_than_its_row(store, path):
    change = RunChange("r", status="running", workflow="w", tags={}, error="", at=START.at)
    await append(store.log, 1, Group("run/r", [Event(1, 1)], run=change))
    connection = sqlite3.connect(path)
    for table in ("run_tags", "run_errors"):
        assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
    connection.close()
