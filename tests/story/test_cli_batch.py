"""``reprise pause|resume|retry|cancel``: one, several, or what a query finds; looked at before, told why after."""

import json
import os
import pty
import select
import subprocess
import sys

import pytest

FLOW = """
from pathlib import Path
from reprise import Retry, step, wait_for_signal, workflow

@step(retry=Retry(1))
async def charge(n: int) -> int:
    with Path("marks").open("a") as file:
        file.write(f"charge {n}\\n")
    if not Path("bank").exists():
        raise ConnectionError("the bank is closed")
    return n

@step
async def reserve(n: int) -> int:
    with Path("marks").open("a") as file:
        file.write(f"reserve {n}\\n")
    return n

@workflow
async def order(n: int) -> int:
    return await reserve(n) + await charge(n)

@workflow
async def asks(n: int = 0) -> str:
    return await wait_for_signal("name", str)
"""


START = """
import asyncio, sys
from shop import asks, order
from reprise import Reprise

async def main(workflow, count, worker):
    async with Reprise(worker=worker) as app:
        tags = {"reprise.file": "shop.py", "reprise.workflow": workflow.name}
        runs = [await app.start(workflow, n, id=f"{workflow.name[0]}{n}", tags=tags) for n in range(count)]
        for run in runs if worker else ():
            await run.finished()

workflow = {"order": order, "asks": asks}[sys.argv[1]]
asyncio.run(main(workflow, int(sys.argv[2]), workflow is order))
"""


@pytest.fixture
def shop(shell):
    (shell.folder / "shop.py").write_text(FLOW)
    (shell.folder / "start.py").write_text(START)
    (shell.folder / ".reprise").mkdir()
    return shell


def started(shop, workflow, count):
    command = [sys.executable, "start.py", workflow, str(count)]
    subprocess.run(command, cwd=shop.folder, env=shop.environment, check=True)


def worker_says(worker, text, times):
    for _ in range(times):
        worker.wait_for(text)


def status(shop):
    rows = json.loads(shop.inside("ps", "-o", "json").stdout)
    return {row["id"]: row["status"] for row in rows}


def test_one_run_is_tried_again_here_and_does_nothing_twice(shop):
    started(shop, "order", 1)
    assert "reprise retry o0" in shop.inside("show", "o0").stderr
    (shop.folder / "bank").touch()
    done = shop("retry", "o0")
    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr
    assert "Tried again as o0~2." in done.stderr
    assert shop.marks() == ["reserve 0", "charge 0", "charge 0"]
    assert "retry of o0" in " ".join(shop.inside("show", "o0~2").stdout.split())
    twice = shop.inside("retry", "o0", "-d")
    assert (twice.returncode, "tried again already, as o0~2" in twice.stderr) == (7, True)


def test_many_are_looked_at_then_tried_again_and_left_to_a_worker(shop):
    started(shop, "order", 3)
    looked = shop.inside("retry", "-q", "status:failed error:bank", "--dry-run", "-o", "json")
    facts = json.loads(looked.stdout)
    assert [(fact["run"], fact["would"]) for fact in facts] == [
        (f"o{n}", f"go on as o{n}~2 with 1 steps kept, again: charge") for n in range(3)
    ]
    assert "This would retry 3 runs" in shop.inside("retry", "-q", "status:failed", "--dry-run").stderr
    assert set(status(shop)) == {"o0", "o1", "o2"}
    refused = shop.inside("retry", "-q", "status:failed")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "This would retry 3 runs." in refused.stderr
    (shop.folder / "bank").touch()
    done = shop.inside("retry", "-q", "status:failed", "--yes")
    assert (done.returncode, done.stdout.split()) == (0, ["o0~2", "o1~2", "o2~2"])
    worker = shop.start("worker", "shop.py")
    worker_says(worker, "completed o", 3)
    worker.signal(15)
    assert worker.ended() == 0
    assert sorted(shop.marks()) == sorted(
        f"{what} {n}" for n in range(3) for what in ("reserve", "charge", "charge")
    )
    assert (
        "not o0: Run o0 was tried again already" in shop.inside("retry", "-q", "status:failed", "-y").stderr
    )


def test_fresh_keeps_only_the_input(shop):
    started(shop, "order", 1)
    (shop.folder / "bank").touch()
    assert shop("retry", "o0", "--fresh").stdout == "0\n"
    assert shop.marks() == ["reserve 0", "charge 0"] * 2


def test_waiting_runs_are_paused_resumed_and_cancelled_by_a_query(shop):
    started(shop, "asks", 3)
    worker = shop.start("worker", "shop.py")
    worker_says(worker, "took a", 3)
    assert shop.inside("pause", "-q", "workflow:asks", "-y").returncode == 0
    worker_says(worker, "paused a", 3)
    assert set(status(shop).values()) == {"paused"}
    assert shop.inside("resume", "a0", "a1", "-y").returncode == 0
    worker_says(worker, "took a", 2)
    facts = json.loads(shop.inside("resume", "-q", "workflow:asks", "--dry-run", "-o", "json").stdout)
    assert [(fact["run"], fact["would"]) for fact in facts] == [("a2", "resume")]
    done = shop.inside("cancel", "-q", "workflow:asks", "-y", "--reason", "enough", "-o", "json")
    assert [fact["error"] for fact in json.loads(done.stdout)] == [""] * 3
    worker_says(worker, "cancelled a", 3)
    worker.signal(15)
    assert worker.ended() == 0
    assert set(status(shop).values()) == {"cancelled"}
    some = shop.inside("cancel", "a0", "nobody", "-y")
    assert some.returncode == 1
    assert "not a0: Run a0 has ended (cancelled)" in some.stderr
    assert "not nobody: There is no run 'nobody'." in some.stderr


WRONG = [
    (["cancel"], 2, "Which runs?"),
    (["cancel", "o0", "-q", "status:open"], 2, "not both"),
    (["pause", "-q", "stauts:open"], 2, "Did you mean 'status'?"),
    (["cancel", "nobody"], 3, "There is no run 'nobody'."),
    (["retry", "nobody", "-d"], 3, "There is no run 'nobody'."),
    (["cancel", "o0"], 7, "has ended (failed)"),
    (["cancel", "-q", "workflow:nothing"], 0, "No run is meant."),
]


def test_what_cannot_be_is_said(shop):
    started(shop, "order", 1)
    for arguments, code, said in WRONG:
        done = shop.inside(*arguments)
        assert (done.returncode, said in done.stderr) == (code, True), (arguments, done.stderr)


@pytest.mark.parametrize("typed", ["y", "n"])
def test_a_person_is_asked(shop, typed):
    started(shop, "asks", 2)
    parent, child = pty.openpty()
    process = subprocess.Popen(
        shop.command("cancel", "-q", "workflow:asks"),
        cwd=shop.folder,
        env=shop.environment,
        stdin=child,
        stdout=child,
        stderr=child,
        start_new_session=True,
    )
    os.close(child)
    said = b""
    while b"Cancel 2 runs? [y/N]" not in said:
        assert select.select([parent], [], [], 30)[0], said
        said += os.read(parent, 1000)
    os.write(parent, typed.encode() + b"\n")
    assert process.wait(30) == (0 if typed == "y" else 1)
    os.close(parent)
    assert shop("resume", "a0", "--timeout", "0.5").returncode == (6 if typed == "y" else 5)
