"""A dictionary that behaves like the index of runs, and random histories to compare with it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule
from msgspec.structs import replace

from reprise.stores.log import Group, RunChange
from reprise.stores.runs import GROUPS, RunFilter, RunRow, group_name, turn
from reprise.testing.suites.keeper import Keeper, fact, put

_ids = st.sampled_from("abcdef")
_workflows = st.sampled_from(("flow", "other"))
_workers = st.sampled_from(("w1", "w2", "w3"))
_builds = st.sampled_from(("", "b1", "b2"))
_statuses = st.sampled_from(("pending", "running", "waiting", "paused"))
_tags = st.dictionaries(st.sampled_from(("env", "n")), st.sampled_from(("prod", 3, 3.5, True)), max_size=2)
_times = st.integers(1, 20)
_changes = st.fixed_dictionaries(
    {},
    optional={
        "status": _statuses,
        "owner": st.none() | _workers,
        "due_at": st.none() | _times,
        "build": _builds,
        "tags": _tags,
        "error": st.sampled_from(("", "broken")),
        "refused": st.sampled_from(((), ("b1",))),
        "pinned": _builds,
        "generation": st.integers(0, 3),
    },
)


class RunsMachine(RuleBasedStateMachine):
    """Random starts, changes, ends and drops of runs, and all questions about them."""

    def __init__(self, make_keeper: Callable[[], Keeper]) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.keeper = make_keeper()
        self.store = self.runner.run(self.keeper.open())
        self.rows: dict[str, RunRow] = {}
        self.ended: set[str] = set()
        self.now = 0

    def _put(self, group: Group) -> None:
        self.runner.run(put(self.store.log, group))

    @rule(id=_ids, workflow=_workflows, parent=st.none() | _ids, tags=_tags, due=st.none() | _times)
    def start(
        self, id: str, workflow: str, parent: str | None, tags: dict[str, Any], due: int | None
    ) -> None:
        """Make a run, unless there is one."""
        if id in self.rows:
            return
        self.now += 1
        fields: dict[str, Any] = {
            "workflow": workflow,
            "status": "pending",
            "parent": parent,
            "tags": tags,
            "due_at": due,
        }
        self._put(Group(f"run/{id}", [fact()], expected=0, run=RunChange(id, at=self.now, **fields)))
        self.rows[id] = RunRow(id, created_at=self.now, updated_at=self.now, **fields)

    @rule(id=_ids, changes=_changes)
    def change(self, id: str, changes: dict[str, Any]) -> None:
        """Change what the index says of a run that has not ended."""
        if id not in self.rows or id in self.ended:
            return
        self.now += 1
        self._put(Group(f"run/{id}", run=RunChange(id, at=self.now, **changes)))
        self.rows[id] = replace(self.rows[id], updated_at=self.now, **changes)

    @rule(id=_ids)
    def end(self, id: str) -> None:
        """End a run: nobody will take it, whatever else the index says of it."""
        if id not in self.rows or id in self.ended:
            return
        self.now += 1
        change = RunChange(id, at=self.now, status="completed", owner=None)
        self._put(Group(f"run/{id}", [fact()], closes=True, run=change))
        ended: dict[str, Any] = {"status": "completed", "owner": None, "refused": (), "pinned": ""}
        self.rows[id] = replace(self.rows[id], updated_at=self.now, **ended)
        self.ended.add(id)

    @rule(id=_ids)
    def drop(self, id: str) -> None:
        """Delete a run's history, and with it what the index says."""
        self.runner.run(self.store.log.drop(f"run/{id}"))
        self.rows.pop(id, None)
        self.ended.discard(id)

    @rule(id=_ids, due=st.none() | _times)
    def mark(self, id: str, due: int | None) -> None:
        """Say when somebody should look."""
        self.runner.run(self.store.runs.mark(id, due))
        if id in self.rows:
            self.rows[id] = replace(self.rows[id], due_at=due)

    @rule(
        status=st.lists(_statuses | st.just("completed"), max_size=2),
        workflow=st.just("") | _workflows,
        owner=st.just("") | _workers,
        tags=_tags,
        limit=st.integers(1, 6),
        newest=st.booleans(),
        before=st.just("") | _ids,
    )
    def find(
        self,
        status: list[str],
        workflow: str,
        owner: str,
        tags: dict[str, Any],
        limit: int,
        newest: bool,
        before: str,
    ) -> None:
        """Ask for a page of runs."""
        wanted = RunFilter(status=status, workflow=workflow, owner=owner, tags=tags)
        found = self.runner.run(self.store.runs.find(wanted, limit=limit, before=before, newest_first=newest))
        rows = sorted(self.rows.values(), key=_age, reverse=newest)
        if before:
            edge = self.rows.get(before)
            rows = [row for row in rows if edge and ((_age(row) < _age(edge)) is newest) and row is not edge]
        fits = [
            row
            for row in rows
            if (not status or row.status in status)
            and workflow in ("", row.workflow)
            and owner in ("", row.owner)
            and all(_same(row.tags.get(name), value) for name, value in tags.items())
        ]
        assert found == fits[:limit]

    @rule(by=st.sampled_from((*GROUPS, "tag.env", "tag.n")))
    def count(self, by: str) -> None:
        """Count runs."""
        name = by.removeprefix("tag.")
        values = [row.tags.get(name) if by != name else getattr(row, name) for row in self.rows.values()]
        assert self.runner.run(self.store.runs.count(by=by)) == dict(Counter(map(group_name, values)))

    @rule()
    def names(self) -> None:
        """Ask who owns runs, and which tags there are."""
        owners = {row.owner for row in self.rows.values() if row.owner is not None}
        assert self.runner.run(self.store.runs.owners()) == sorted(owners)
        tags = {name for row in self.rows.values() for name in row.tags}
        assert self.runner.run(self.store.runs.tags()) == sorted(tags)

    @rule(
        now=_times,
        owner=_workers,
        dead=st.lists(_workers, max_size=2, unique=True),
        workflows=st.none() | st.lists(_workflows, max_size=2),
        build=st.none() | _builds,
        shunned=st.sampled_from(((), ("b2",))),
        limit=st.integers(1, 6),
    )
    def due(
        self,
        now: int,
        owner: str,
        dead: list[str],
        workflows: list[str] | None,
        build: str | None,
        shunned: tuple[str, ...],
        limit: int,
    ) -> None:
        """Ask which runs a worker may act on."""
        dead = [worker for worker in dead if worker != owner]
        asked: dict[str, Any] = {
            "dead": dead,
            "workflows": workflows,
            "build": build,
            "shunned": shunned,
            "limit": limit,
        }
        found = self.runner.run(self.store.runs.due(now, owner=owner, **asked))
        mine: list[RunRow] = []
        for row in self.rows.values():
            is_due = row.due_at is not None and row.due_at <= now and row.owner in (None, owner)
            others = (bool(row.pinned) and (build is not None or bool(shunned)) and row.pinned != build) or (
                build in row.refused or row.build in shunned
            )
            known = workflows is None or row.workflow in workflows
            if row.id not in self.ended and (is_due or row.owner in dead) and known:
                mine += [] if others and row.owner != owner else [row]
        assert found == sorted(mine, key=turn)[:limit]

    @rule()
    def restart(self) -> None:
        """Close and open."""
        self.store = self.runner.run(self.keeper.reopen(self.store))

    def teardown(self) -> None:
        """Compare everything once more and close."""
        rows = sorted(self.rows.values(), key=_age, reverse=True)
        assert self.runner.run(self.store.runs.find(limit=100)) == rows
        self.runner.run(self.keeper.close())
        self.runner.close()


def _age(row: RunRow) -> tuple[int, str]:
    return row.created_at, row.id


def _same(one: Any, other: Any) -> bool:
    return one == other and isinstance(one, bool) == isinstance(other, bool)
