"""What a run index must prove."""

from __future__ import annotations

from typing import Any

import pytest

from reprise.kernel.errors import ConfigurationError, StaleVersion
from reprise.kernel.events import run_stream
from reprise.stores.log import Group, RunChange
from reprise.stores.runs import RunFilter, RunRow
from reprise.stores.store import Store
from reprise.testing.suites.keeper import Keeper, KeeperSuite, fact, put
from reprise.testing.suites.runs_model import RunsMachine


async def start(store: Store, id: str, at: int = 1, token: int = 1, **fields: Any) -> None:
    """Append the first record of a run and its row."""
    known: dict[str, Any] = {"status": "running", "workflow": "survey", **fields}
    change = RunChange(id, at=at, **known)
    await put(store.log, Group(run_stream(id), [fact()], 0, token=token, takes=True, run=change))


async def change(store: Store, id: str, at: int = 2, token: int = 1, **fields: Any) -> None:
    """Append a record that changes a run's row; a final status closes the stream."""
    ends = fields.get("status") in ("completed", "failed", "cancelled")
    group = Group(run_stream(id), [fact()], token=token, closes=ends, run=RunChange(id, at=at, **fields))
    await put(store.log, group)


class RunsSuite(KeeperSuite):
    """Tests of the port ``Runs``."""

    async def ids(self, store: Store, where: RunFilter | None = None, **how: Any) -> list[str]:
        """Return the ids that ``find`` gives."""
        return [row.id for row in await store.runs.find(where or RunFilter(), **how)]

    async def due(self, store: Store, now: int, owner: str = "me", **how: Any) -> list[str]:
        """Return the ids that ``due`` gives."""
        return [row.id for row in await store.runs.due(now, owner=owner, **how)]

    # ------------------------------------------------------------ rows

    async def test_a_row_has_what_its_appends_said(self, keeper: Keeper, store: Store) -> None:
        """Fields left out stay; the token is that of the stream; it all survives a restart."""
        await start(
            store, "a", 10, 77, parent="p", owner="w1", due_at=5, build="b1", tags={"team": "ü", "x": ""}
        )
        await change(store, "a", 20, 77, status="failed", owner=None, error="it broke")
        row = RunRow(
            "a", "survey", "failed", 10, 20, "p", None, 5, "b1", {"team": "ü", "x": ""}, "it broke", 77
        )
        assert await store.runs.find() == [row]
        await change_index_only(store, "a", 77, due_at=None, tags={}, parent=None, error="")
        row = RunRow("a", "survey", "failed", 10, 30, None, None, None, "b1", {}, "", 77)
        fresh = await keeper.reopen(store)
        assert await fresh.runs.find() == [row]

    async def test_a_row_tells_of_a_long_life(self, keeper: Keeper, store: Store) -> None:
        """Where the run's generation begins, which it is, and what to know of it; like all else over a restart."""
        await start(store, "a")
        (row,) = await store.runs.find()
        assert (row.since, row.generation, row.warning) == (0, 0, "")
        await change(store, "a", since=4, generation=1, warning="long")
        await change(store, "a", status="waiting")
        fresh = await keeper.reopen(store)
        (row,) = await fresh.runs.find()
        assert (row.since, row.generation, row.warning) == (4, 1, "long")

    async def test_a_row_is_written_if_and_only_if_its_events_are(self, store: Store) -> None:
        """Row and records are one commit: a refused append leaves both as they were."""
        await start(store, "a")
        ended = RunChange("a", status="completed", at=9)
        with pytest.raises(StaleVersion):
            await put(
                store.log,
                Group("run/a", [fact()], 1, token=1, run=ended),
                Group("run/new", [fact()], run=RunChange("new", status="running", workflow="w", at=9)),
                Group("run/a", [fact()], 1, token=1),
            )
        assert [(row.id, row.status, row.updated_at) for row in await store.runs.find()] == [
            ("a", "running", 1)
        ]
        assert len(await store.log.scan()) == 1

    async def test_a_group_for_another_stream_may_change_a_row(self, store: Store) -> None:
        """A letter in the inbox makes its run due."""
        await start(store, "a", owner="me", due_at=None)
        letter = Group("inbox/a", [fact()], guard="run/a", run=RunChange("a", due_at=50, at=2))
        await put(store.log, letter)
        assert await self.due(store, 50) == ["a"]
        assert [row.status for row in await store.runs.find()] == ["running"]

    async def test_the_last_of_several_changes_in_a_burst_stays(self, store: Store) -> None:
        """Changes apply in the order of the log, each to what the one before left."""
        await put(
            store.log,
            Group("run/a", [fact()], run=RunChange("a", status="pending", workflow="w", at=1)),
            Group("run/a", [fact()], run=RunChange("a", status="running", owner="w1", at=2)),
            Group("run/a", [fact()], run=RunChange("a", status="waiting", at=3)),
        )
        row = (await store.runs.find())[0]
        assert (row.status, row.owner, row.workflow, row.created_at, row.updated_at) == (
            "waiting",
            "w1",
            "w",
            1,
            3,
        )

    async def test_drop_removes_the_row(self, store: Store) -> None:
        """With the run's stream, and only with it."""
        await start(store, "a")
        await start(store, "b")
        await put(store.log, Group("inbox/b", [fact()]))
        await store.log.drop("inbox/b")
        await store.log.drop("run/a")
        assert await self.ids(store) == ["b"]

    # ------------------------------------------------------------ find and count

    async def test_find_orders_by_age_then_id_and_pages(self, store: Store) -> None:
        """Pages follow each other without overlap, in both directions."""
        for id, at in (("c", 2), ("a", 1), ("b", 2), ("e", 3), ("d", 3)):
            await start(store, id, at)
        assert await self.ids(store) == ["e", "d", "c", "b", "a"]
        assert await self.ids(store, newest_first=False) == ["a", "b", "c", "d", "e"]
        assert await self.ids(store, limit=2) == ["e", "d"]
        assert await self.ids(store, limit=2, before="d") == ["c", "b"]
        assert await self.ids(store, limit=9, before="b") == ["a"]
        assert await self.ids(store, limit=2, before="b", newest_first=False) == ["c", "d"]

    @pytest.mark.parametrize(
        ("where", "found"),
        [
            (RunFilter(), "abcd"),
            (RunFilter(prefix="a"), "a"),
            (RunFilter(prefix="%"), ""),
            (RunFilter(prefix="_"), ""),
            (RunFilter(status=["failed", "running"]), "abc"),
            (RunFilter(status=["pending"]), ""),
            (RunFilter(workflow="other"), "d"),
            (RunFilter(parent="a"), "b"),
            (RunFilter(owner="w1"), "ab"),
            (RunFilter(tags={"team": "red"}), "ac"),
            (RunFilter(tags={"team": "red", "tier": "1"}), "c"),
            (RunFilter(tags={"team": "re"}), ""),
            (RunFilter(created_after=2), "cd"),
            (RunFilter(created_before=2), "a"),
            (RunFilter(created_after=1, created_before=4, status=["failed"]), "c"),
        ],
    )
    async def test_filters(self, store: Store, where: RunFilter, found: str) -> None:
        """All that is named must hold; ``find`` and ``count`` agree."""
        await start(store, "a", 1, owner="w1", tags={"team": "red"})
        await start(store, "b", 2, owner="w1", parent="a", tags={"team": "blue", "tier": "1"})
        await start(store, "c", 3, tags={"team": "red", "tier": "1"})
        await change(store, "c", status="failed")
        await start(store, "d", 4, workflow="other")
        await change(store, "d", status="completed")
        assert await self.ids(store, where, newest_first=False) == list(found)
        assert sum((await store.runs.count(where)).values()) == len(found)

    async def test_count_by(self, store: Store) -> None:
        """By status, workflow or owner; nobody is spelled ''."""
        assert await store.runs.count() == {}
        await start(store, "a", owner="w1")
        await start(store, "b", workflow="other")
        await start(store, "c", status="waiting")
        assert await store.runs.count() == {"running": 2, "waiting": 1}
        assert await store.runs.count(by="workflow") == {"survey": 2, "other": 1}
        assert await store.runs.count(by="owner") == {"w1": 1, "": 2}
        assert await store.runs.count(RunFilter(status=["waiting"]), by="owner") == {"": 1}
        with pytest.raises(ConfigurationError):
            await store.runs.count(by="tags")

    # ------------------------------------------------------------ due

    async def test_due_runs_belong_to_nobody_or_to_the_asker(self, store: Store) -> None:
        """A run that another worker holds is that worker's business."""
        await start(store, "free", due_at=10)
        await start(store, "mine", due_at=20, owner="me")
        await start(store, "other", due_at=10, owner="w2")
        await start(store, "later", due_at=31)
        await start(store, "sleeping", due_at=None)
        await start(store, "unset")
        assert await self.due(store, 30) == ["free", "mine"]
        assert await self.due(store, 9) == []
        assert await self.due(store, 10, "w2") == ["free", "other"]

    async def test_runs_of_the_dead_are_due_whatever_they_wait_for(self, store: Store) -> None:
        """Somebody has to take them over."""
        await start(store, "a", due_at=None, owner="w2")
        await start(store, "b", due_at=99, owner="w3")
        await start(store, "c", due_at=99, owner="w4")
        assert sorted(await self.due(store, 1, dead=["w2", "w3"])) == ["a", "b"]
        assert await self.due(store, 1, dead=[]) == []

    async def test_runs_of_other_workflows_do_not_hide_the_known_ones(self, store: Store) -> None:
        """A page of what nobody here can execute must not keep a worker from what it can."""
        for n in range(3):
            await start(store, f"stranger-{n}", workflow="stranger", due_at=n)
        await start(store, "known", workflow="known", due_at=9)
        await start(store, "left", workflow="known", owner="gone")
        await start(store, "lost", workflow="stranger", owner="gone")
        assert await self.due(store, 9, workflows=["known"], limit=2) == ["known"]
        assert set(await self.due(store, 9, workflows=["known"], dead=["gone"])) == {"known", "left"}
        assert await self.due(store, 9, workflows=[]) == []

    async def test_owners_are_those_that_own_a_run_now(self, store: Store) -> None:
        """Each once, whatever the number of its runs."""
        assert await store.runs.owners() == []
        for number, owner in enumerate(["w2", "w1", "w2", None, "w3"]):
            await start(store, f"run-{number}", owner=owner)
        assert await store.runs.owners() == ["w1", "w2", "w3"]
        await change(store, "run-1", owner=None)
        await change(store, "run-4", owner="w2")
        await change(store, "run-0", status="completed", owner=None)
        assert await store.runs.owners() == ["w2"]
        await store.log.drop("run/run-2")
        await store.log.drop("run/run-4")
        assert await store.runs.owners() == []

    async def test_an_ended_run_is_never_due(self, store: Store) -> None:
        """Whatever its row still says."""
        await start(store, "a", due_at=1, owner="w2")
        await start(store, "b", due_at=1)
        await change(store, "a", status="completed")
        await change(store, "b", status="failed")
        assert await self.due(store, 50, dead=["w2"]) == []

    async def test_due_runs_come_oldest_first_and_limited(self, store: Store) -> None:
        """Oldest due first."""
        for id, due_at in (("a", 30), ("b", 10), ("c", 20)):
            await start(store, id, due_at=due_at)
        assert await self.due(store, 30) == ["b", "c", "a"]
        assert await self.due(store, 30, limit=2) == ["b", "c"]

    async def test_mark_is_a_hint_without_an_event(self, store: Store) -> None:
        """It sets the time and nothing else; an unknown id is ignored."""
        await start(store, "a", due_at=None)
        end = await store.log.end()
        await store.runs.mark("a", 7)
        await store.runs.mark("nobody", 7)
        assert await self.due(store, 7) == ["a"]
        await store.runs.mark("a", None)
        assert await self.due(store, 7) == []
        assert await store.log.end() == end
        assert await self.ids(store) == ["a"]

    async def test_what_is_due_carries_its_token(self, store: Store) -> None:
        """So that whoever takes over can check that its own is higher."""
        await start(store, "a", token=41, due_at=1)
        assert [row.token for row in await store.runs.due(1, owner="me")] == [41]

    def test_random_histories_agree_with_the_model(self) -> None:
        """Hypothesis looks for a history in which a dictionary answers otherwise."""
        self.compare(RunsMachine)


async def change_index_only(store: Store, id: str, token: int, **fields: Any) -> None:
    """Change a row by a group without events."""
    await put(store.log, Group(run_stream(id), token=token, run=RunChange(id, at=30, **fields)))
