"""``reprise queue``: from a task that is put in to dead letters that get another chance."""

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path

from reprise import Task, TaskQueue

HANDLERS = """
from pathlib import Path

async def greet(task):
    return f"hello {task.payload}"

def fetch(task):
    if not Path("server").exists():
        raise OSError("connection \\x1b[2Jrefused")
    return "fetched"
"""


def asked(shell, *arguments, code=0):
    done = shell.inside("queue", *arguments)
    assert done.returncode == code, (done.stdout, done.stderr)
    return done


def lines(done):
    return [json.loads(text) for text in done.stdout.splitlines()]


def test_tasks_are_done_given_up_and_get_another_chance(shell):
    (shell.folder / "handlers.py").write_text(HANDLERS)
    store = f"sqlite:///{shell.folder}/queue.db"

    async def fill():
        async with TaskQueue(store, "mail") as queue:
            tasks = [Task(task_id=f"g{n}", task_type="greet", payload=n) for n in range(3)]
            await queue.enqueue([*tasks, Task(task_id="f", task_type="fetch", max_retries=0)])

    async def result(id):
        async with TaskQueue(store, "mail") as queue:
            return await queue.result(id, timeout=30)

    asyncio.run(fill())
    at = ("--store", store)
    assert [task["task_id"] for task in lines(asked(shell, "peek", "mail", "-o", "jsonl", *at))] == [
        "g0",
        "g1",
        "g2",
        "f",
    ]
    assert "rests" in asked(shell, "pause", "mail", *at).stderr
    assert "paused" in asked(shell, "stats", *at).stdout
    asked(shell, "resume", "mail", *at)
    worker = shell.start("queue", "worker", "mail", "handlers.py", *at)
    worker.wait_for("ready: queue mail (greet, fetch)")
    assert asyncio.run(result("g2")) == "hello 2"
    while not (letters := lines(asked(shell, "dead", "mail", "-o", "jsonl", *at))):
        pass
    assert (letters[0]["task_id"], letters[0]["attempts"][0]["number"]) == ("f", 1)
    told = asked(shell, "dead", "mail", "--reason", "refused", *at)
    assert "OSError: connection refused" in told.stdout
    assert "reprise queue requeue mail f" in told.stderr
    (shell.folder / "server").touch()
    assert "1 of queue mail" in asked(shell, "requeue", "mail", "--type", "fetch", *at).stderr
    assert asyncio.run(result("f")) == "fetched"
    worker.signal(signal.SIGTERM)
    assert worker.ended() == 0
    [counts] = lines(asked(shell, "stats", "mail", "-o", "jsonl", *at))
    assert (counts["completed"], counts["failed"], counts["dead"], counts["workers"]) == (4, 1, 0, 0)
    assert "not clear" in asked(shell, "requeue", "mail", *at, code=2).stderr
    assert "no pending tasks" in asked(shell, "peek", "mail", *at).stderr
    assert "peek" in asked(shell, "peek", "mail", "--state", "ready", *at, code=2).stderr


def test_the_example_loses_nothing_when_a_worker_is_killed():
    example = Path(__file__).parents[2] / "examples" / "task_queue.py"
    done = subprocess.run([sys.executable, example], capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "killed one of three workers",
        "80 done, 0 given up, 40 of 40 charged",
    ]
