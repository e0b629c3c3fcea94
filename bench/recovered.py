"""What is left after kill -9: of tasks that a worker had in hand, how many come back, when, and how often twice.

150 tasks of 0.5 s, one worker with 50 at a time; when 100 are done and the last are under way it is killed with all its
processes, and another starts. Then, on a fresh queue, two workers and five tasks that take three times as long as a dead
worker's tasks wait until they come back (the lease, 3 s here): each is to be done once. Ours on Redis, PostgreSQL and
SQLite, beside a control in which ours is used wrongly. Other queues are added where REPRISE_PEERS_PYTHON names their
interpreter, each with its lease at 3 s where it has one, and looked at for two minutes. Nobody keeps results.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.measure.killed import Outcome, Place, Queue
from bench.measure.report import Floors, figure, table
from bench.measure.server import postgres

LEASE = 3
TASKS, SECONDS, DONE_AT_KILL = 150, 0.5, 100
LONG_TASKS = 5
"""Of three leases each."""
TURNS = 3
"""How often ours is killed; others once."""
PATIENCE = 120.0
"""Seconds that a queue has to give everything back."""
SIDE_BY_SIDE = 3
"""Queues of others that are looked at together: they mostly wait."""
HEAD = (
    "queue",
    "in hand",
    "came back",
    "all done after",
    "done twice",
    "stranded",
    "of 3 leases: begun, done",
)


_CELERY = ("-m", "celery", "-A", "bench.recovering.celery_tasks", "worker", "-P", "threads", "-c", "50", "-l", "ERROR",
           "--without-gossip", "--without-mingle")  # fmt: skip
_TASKIQ = ("-m", "taskiq", "worker", "bench.recovering.taskiq_tasks:broker", "--workers", "1", "--max-async-tasks",
           "50", "--log-level", "ERROR")  # fmt: skip
_DRAMATIQ = ("-m", "dramatiq", "bench.recovering.dramatiq_tasks", "-p", "1", "-t", "50")
PEERS = (
    Queue("pgqueuer (heartbeat_timeout 3 s, dequeue_timeout 1 s)", "pgqueuer"),
    Queue("arq (job_timeout 3 s)", "arq", ("-m", "arq", "bench.recovering.arq_tasks.WorkerSettings"), older=True),
    Queue("SAQ (heartbeat 3 s, sweep each second)", "saq", ("-m", "saq", "bench.recovering.saq_tasks.settings"), older=True),
    Queue("Dramatiq (heartbeat_timeout 3 s)", "dramatiq", _DRAMATIQ),
    Queue("Dramatiq (the same, maintenance at each command)", "dramatiq", _DRAMATIQ, "maintained"),
    Queue("taskiq stream (idle_timeout 3 s)", "taskiq", _TASKIQ),
    Queue("taskiq stream (the same, a new task each second)", "taskiq", _TASKIQ, is_fed=True),
    Queue("rq (job_timeout 3 s, maintenance each second, 10 processes)", "rq", at_once=10),
    Queue("Celery (visibility_timeout 3 s)", "celery", _CELERY),
    Queue("Celery (the same, acks_late)", "celery", _CELERY, "late"),
    Queue("Celery (the same, sweep each second)", "celery", _CELERY, "swept"),
    Queue("huey", "huey", ("-m", "huey.bin.huey_consumer", "bench.recovering.huey_tasks.huey", "-w", "50", "-q")),
)  # fmt: skip


def main(*, once: bool) -> bool:
    """Print the tables; return whether the floors were kept."""
    floors = Floors()
    peers = "" if once else os.environ.get("REPRISE_PEERS_PYTHON", "")
    with (
        TemporaryDirectory(prefix="reprise-bench-") as name,
        nullcontext("") if once else postgres() as server,
    ):
        folder = Path(name)
        stores = ["SQLite"] if once else ["Redis", *(["PostgreSQL"] if server else []), "SQLite"]
        rows = [_ours(folder, store, floors, once) for store in stores]
        if not once:
            rows.append(_control(folder, floors))
        if peers:
            with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
                rows += pool.map(lambda queue: _peer(folder, queue, Path(peers).absolute()), PEERS)
    table(HEAD, rows)
    floors.print()
    return once or floors.kept


def _ours(folder: Path, store: str, floors: Floors, once: bool) -> tuple[str, ...]:
    """Kill workers of ours; return a row and note the floors."""
    lease = 1 if once else LEASE
    queue = Queue(f"Reprise on {store}", "reprise", tuned=store)
    outcomes: list[Outcome] = []
    for turn in range(1 if once else TURNS):
        with Place(folder / f"{store}-{turn}", sys.executable, queue, lease) as place:
            outcomes.append(place.kill(TASKS, SECONDS, DONE_AT_KILL, PATIENCE))
    with Place(folder / f"{store}-long", sys.executable, queue, lease) as place:
        begun, done = place.long(LONG_TASKS, 0.1 if once else 3 * lease)
    name, slowest = queue.name, max(one.seconds for one in outcomes)
    floors.most(f"{name}: lost", sum(one.stranded for one in outcomes), 0, 0, unit="tasks", goal=0)
    floors.most(f"{name}: all done after the kill, slowest", slowest, lease + 4, unit="s", goal=lease + 1)
    floors.most(f"{name}: done twice", sum(one.twice for one in outcomes), None, 0, unit="tasks", goal=0)
    floors.most(f"{name}: of {LONG_TASKS} tasks of three leases begun", begun, LONG_TASKS, 0, unit="times")
    floors.least(f"{name}: of these done", done, LONG_TASKS, 0, unit="times")
    return _row(f"{name} (visibility_timeout {lease} s)", outcomes, (begun, done))


def _control(folder: Path, floors: Floors) -> tuple[str, ...]:
    """Kill a worker that says too early that it is done, and let others forget to renew; return a row."""
    with Place(folder / "early", sys.executable, Queue("", "reprise", tuned="SQLite early"), LEASE) as place:
        outcome = place.kill(TASKS, SECONDS, DONE_AT_KILL, LEASE + 2)
    with Place(folder / "lazy", sys.executable, Queue("", "reprise", tuned="SQLite lazy"), LEASE) as place:
        begun, done = place.long(LONG_TASKS, 3 * LEASE)
    floors.least("control: lost when completed before the work", outcome.stranded, 1, 0, unit="tasks")
    floors.least(f"control: of {LONG_TASKS} tasks begun when not renewed", begun, LONG_TASKS + 1, 0, unit="times")  # fmt: skip
    return _row("the control: Reprise used wrongly", [outcome], (begun, done))


def _peer(folder: Path, queue: Queue, python: Path) -> tuple[str, ...]:
    """Kill a worker of another queue; return a row."""
    if queue.older:
        venv = python.parents[1]
        python = venv.with_name(f"{venv.name}-older") / "bin" / python.name
    name = f"{queue.module}-{queue.tuned or 'plain'}-{queue.is_fed}"
    try:
        with Place(folder / name, str(python), queue, LEASE) as place:
            outcome = place.kill(TASKS, SECONDS, DONE_AT_KILL, PATIENCE)
        with Place(folder / f"{name}-long", str(python), queue, LEASE) as place:
            return _row(queue.name, [outcome], place.long(LONG_TASKS, 3 * LEASE))
    except (TimeoutError, subprocess.CalledProcessError) as error:
        print(f"{queue.name} did not work: {error}", file=sys.stderr)
        return (queue.name, "did not work")


def _row(name: str, outcomes: Sequence[Outcome], long: tuple[int, int]) -> tuple[str, ...]:
    seconds = [one.seconds for one in outcomes]
    return (
        name,
        ", ".join(str(one.held) for one in outcomes),
        ", ".join(str(one.back) for one in outcomes),
        ", ".join("never" if each == inf else f"{figure(each, 1)} s" for each in seconds),
        str(sum(one.twice for one in outcomes)),
        str(sum(one.stranded for one in outcomes)),
        "{}, {}".format(*long),
    )
