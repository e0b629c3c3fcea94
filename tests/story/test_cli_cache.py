"""Cached results as people see them, and how they let them go."""

import json

FLOW = """
import time
from reprise import step, workflow

@step(pure=True, cache="30d")
def costly(n: int) -> int:
    time.sleep(0.03)
    return n * n

@workflow
async def asks(n: int = 3) -> list[int]:
    return [await costly(n), await costly(n)]
"""


def asked(shell, *arguments, code=0):
    done = shell.inside(*arguments)
    assert done.returncode == code, (done.stdout, done.stderr)
    return done


def test_people_see_what_came_from_the_cache(shell):
    (shell.folder / "cached.py").write_text(FLOW)
    for id in ("one", "two"):
        done = shell("run", "cached.py:asks", "--id", id, "--progress", "plain")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == [9, 9]
    assert "2/2  2 from the cache" in done.stderr
    shown = asked(shell, "show", "one").stdout
    assert "costly" in shown
    assert asked(shell, "show", "two").stdout.count("from the cache, saved") == 2
    steps = json.loads(asked(shell, "show", "two", "-o", "json").stdout)["steps"]
    assert all(step["saved"] >= 0.03 for step in steps)
    assert asked(shell, "events", "two").stdout.count("from the cache, saved") == 2

    assert (
        "Cached results belong to no run" in asked(shell, "prune", "--cache", "status:failed", code=2).stderr
    )
    assert "0 cached results deleted, 0 blobs; 1 stay" in asked(shell, "prune", "--cache").stdout
    assert (
        "1 cached results would go; 0 stay" in asked(shell, "prune", "--cache", "--all", "--dry-run").stdout
    )
    told = json.loads(asked(shell, "prune", "--cache", "--older-than", "0s", "-o", "json").stdout)
    assert told == {"entries": 1, "blobs": 0, "kept": 0}
    assert asked(shell, "show", "two").stdout.count("from the cache, saved") == 2, "the history has its own"
