"""A glance into a file for the completion of a command line: what is found in time, and never an error."""

from pathlib import Path

from reprise.kernel.events import Event
from reprise.stores.log import Group, RunChange, append
from reprise.stores.sqlite import SQLiteStore, glance


async def test_names_that_begin_so_are_found(store: SQLiteStore, path: Path) -> None:
    for n, (id, status) in enumerate([("a1", "failed"), ("b1", "failed"), ("a2", "running")]):
        change = RunChange(id, status, f"flow-{id[0]}", None, tags={"env": f"e{n}", "n": float(n)}, at=n)
        await append(store.log, n + 1, Group(f"run/{id}", [Event(1, n)], run=change))
    child = RunChange("a1:1.c", "failed", "flow-a", "a1", at=9)
    await append(store.log, 9, Group("run/a1:1.c", [Event(1, 9)], run=child))
    assert glance.runs(path) == ["a2", "b1", "a1"], "the newest first"
    assert glance.runs(path, "a") == ["a1", "a2"]
    assert sorted(glance.runs(path, "", ["failed"])) == ["a1", "b1"]
    assert sorted(glance.runs(path, "a", ["failed", "running"])) == ["a1", "a2"]
    assert glance.workflows(path, "flow-") == ["flow-a", "flow-b"]
    assert glance.workflows(path, "flow-b") == ["flow-b"]
    assert glance.tags(path) == ["env", "n"]
    assert glance.tag_values(path, "env") == ["e0", "e1", "e2"]
    assert glance.tag_values(path, "env", "e1") == ["e1"]


async def test_what_cannot_be_read_is_nothing(store: SQLiteStore, path: Path, tmp_path: Path) -> None:
    assert glance.runs(path) == []
    assert glance.runs(tmp_path / "none.db") == []
    (tmp_path / "text.db").write_text("no database", "utf-8")
    assert glance.tags(tmp_path / "text.db") == []
