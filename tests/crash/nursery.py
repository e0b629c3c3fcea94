"""Processes that start fast, and never outlive the test.

The nursery is a process that has imported everything and forks on demand: a child is a true process of its own, with
a store it opens itself, and starts in milliseconds. The nursery is the parent of all: until it has reaped a child,
that child's id belongs to nobody else, so a kill by id hits the right one. When the nursery ends, in whatever way, a
pipe that only it holds closes, and its children end themselves; those that are stopped it kills.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import msgspec
from tests.crash import (
    client_main,
    contender_main,
    faces_main,
    fleet_main,
    holder_main,
    mover_main,
    pure_main,
    queue_main,
    receiver_main,
    schedule_main,
    state_main,
    talk_main,
    worker_main,
)

ROOT = Path(__file__).parents[2]
ROLES: dict[str, Callable[[dict[str, Any]], None]] = {
    "worker": worker_main.main,
    "client": client_main.main,
    "contender": contender_main.main,
    "mover": mover_main.main,
    "fleet": fleet_main.main,
    "pure": pure_main.main,
    "queue": queue_main.main,
    "receiver": receiver_main.main,
    "talk": talk_main.main,
    "schedule": schedule_main.main,
    "state": state_main.main,
    "faces": faces_main.main,
    "holder": holder_main.main,
}
KILLED = -signal.SIGKILL


class Nursery:
    """The test's end of the nursery's pipes."""

    def __init__(self) -> None:
        source = os.pathsep.join([str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", "")])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.nursery"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": source},
        )
        self.alive: set[int] = set()

    def _ask(self, *question: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(msgspec.json.encode(question) + b"\n")
        self._process.stdin.flush()
        return msgspec.json.decode(self._process.stdout.readline())

    def spawn(self, role: str, folder: Path, **options: Any) -> int:
        """Start a process; return its id. What it says on stderr goes to ``<folder>/stderr``."""
        pid = self._ask("spawn", role, str(folder / "stderr"), {"folder": str(folder), **options})
        self.alive.add(pid)
        return pid

    def ended(self, pid: int, *, wait: bool = False) -> int | None:
        """Return how a process ended (negative: by that signal), None while it has not."""
        if pid not in self.alive:
            return KILLED
        status = self._ask("reap", pid, wait)
        if status is not None:
            self.alive.discard(pid)
        return status

    def kill(self, *pids: int) -> None:
        """``kill -9`` all of them, then wait until they are gone."""
        for pid in pids:
            if pid in self.alive:
                os.kill(pid, signal.SIGKILL)
        for pid in pids:
            self.ended(pid, wait=True)

    def close(self) -> None:
        """Kill what is left and end the nursery."""
        try:
            self.kill(*self.alive)
        finally:
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.wait(10)
            assert self._process.stdout is not None
            self._process.stdout.close()


@contextmanager
def nursery() -> Iterator[Nursery]:
    """Open a nursery and leave nothing behind."""
    opened = Nursery()
    try:
        yield opened
    finally:
        opened.close()


def _serve() -> None:
    lifeline, held = os.pipe()
    children: set[int] = set()
    for text in sys.stdin.buffer:
        what, *rest = msgspec.json.decode(text)
        if what == "spawn":
            answer = os.fork()
            if not answer:
                os.close(held)
                _live(lifeline, *rest)
            children.add(answer)
        else:
            answer = _reap(*rest)
            if answer is not None:
                children.discard(rest[0])
        sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
        sys.stdout.buffer.flush()
    for child in children:
        os.kill(child, signal.SIGKILL)


def _reap(pid: int, wait: bool) -> int | None:
    found, status = os.waitpid(pid, 0 if wait else os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


def _live(lifeline: int, role: str, stderr: str, options: dict[str, Any]) -> NoReturn:
    """Be the child."""
    code = 1
    try:
        nothing = os.open(os.devnull, os.O_RDWR)
        said = os.open(stderr, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for source, target in ((nothing, 0), (said, 1), (said, 2)):
            os.dup2(source, target)
        threading.Thread(target=_end_with, args=(lifeline,), daemon=True).start()
        ROLES[role](options)
        code = 0
    except BaseException:  # noqa: BLE001 - a child must never run on into the nursery's own code
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _end_with(lifeline: int) -> None:
    os.read(lifeline, 1)
    os._exit(1)


if __name__ == "__main__":
    _serve()
