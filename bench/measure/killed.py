"""Workers of queues that are killed with all their processes, and what their tasks wrote down before and after."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from math import inf
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from tests.servers import free_port, redis_installs, start_redis

from bench.measure.children import ROOT
from bench.recovering import ledger

BEFORE = 60.0
"""Seconds in which the first worker must have done some tasks."""
MOMENT = 0.1
"""Seconds from then to the kill."""


class Queue(NamedTuple):
    """A queue, and how it is set."""

    name: str
    module: str
    worker: tuple[str, ...] = ()
    """Arguments of the interpreter that make a worker; by default it is one of `bench.recovering`."""
    tuned: str = ""
    older: bool = False
    """Whether it lives in the environment of queues that need an older redis-py."""
    at_once: int = 50
    is_fed: bool = False
    """Whether a new task is put in each second, after the kill, and while long ones are done."""

    def arguments(self) -> tuple[str, ...]:
        """Return what a worker is started with."""
        return self.worker or ("-m", "bench.recovering", "work", self.module)


class Outcome(NamedTuple):
    """What became of the tasks."""

    held: int
    """Begun and not ended at the kill."""
    back: int
    """Of these, how many ended later."""
    seconds: float
    """From the kill until all was done; infinite when that was not seen."""
    twice: int
    stranded: int
    """Of all tasks, how many were never done."""


class Place:
    """A queue on a fresh Redis, or in a fresh part of PostgreSQL, or in a fresh file."""

    def __init__(self, folder: Path, python: str, queue: Queue, lease: int) -> None:
        folder.mkdir()
        self.folder, self.lease = folder, lease
        self._python, self._queue = python, queue
        self._ledger = folder / "ledger"
        self._ledger.touch()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        port = free_port()
        redis = start_redis(redis_installs()[-1], "--port", str(port), "--bind", "127.0.0.1")
        self._stack.callback(redis.stop)
        self.environment = {
            **os.environ,
            ledger.LEDGER: str(self._ledger),
            ledger.REDIS: f"redis://127.0.0.1:{port}/0",
            ledger.PORT: str(port),
            ledger.SCHEMA: f"place_{self.folder.name.lower().replace('-', '_')}",
            ledger.LEASE: str(self.lease),
            ledger.TUNED: self._queue.tuned,
        }
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def kill(self, tasks: int, seconds: float, done: int, patience: float) -> Outcome:
        """Kill a worker with its hands full when ``done`` of all tasks are done; start another and look on."""
        self._put(tasks, seconds)
        first = self._start(*self._queue.arguments())
        until = time.monotonic() + BEFORE
        self._wait(lambda: self._is_full(done, tasks), until, self._first_words)
        time.sleep(MOMENT)
        self._end(first)
        at, held = time.monotonic(), self._held()
        self._start(*self._queue.arguments())
        self._feed(tasks)
        with suppress(TimeoutError):
            self._wait(lambda: len(self._ended(below=tasks)) == tasks, at + patience)
            time.sleep(self.lease + 1)  # who has one that is done already does it by then
        ended = self._ended(below=tasks)
        last = max(min(times) for times in ended.values())
        twice = sum(len(times) - 1 for times in ended.values())
        seconds = last - at if len(ended) == tasks else inf
        return Outcome(len(held), len(held & ended.keys()), seconds, twice, tasks - len(ended))

    def long(self, tasks: int, seconds: float) -> tuple[int, int]:
        """Let two workers do tasks that take longer than the lease; return how often they were begun and done."""
        self._put(tasks, seconds)
        for _ in range(2):
            self._start(*self._queue.arguments())
        self._feed(tasks)
        until = time.monotonic() + seconds + BEFORE / 3
        with suppress(TimeoutError):
            self._wait(lambda: len(self._ended(below=tasks)) == tasks, until)
        counted = Counter(what for what, number, _ in self._lines() if number < tasks)
        return counted["began"], counted["ended"]

    # ---------------------------------------------------------------- processes

    def _put(self, tasks: int, seconds: float) -> None:
        subprocess.run(
            [self._python, "-m", "bench.recovering", "put", self._queue.module, str(tasks), str(seconds)],
            cwd=ROOT,
            env=self.environment,
            check=True,
        )

    def _start(self, *arguments: str) -> subprocess.Popen[bytes]:
        with (self.folder / "said").open("ab") as said:
            process = subprocess.Popen(
                [self._python, *arguments],
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )
        self._stack.callback(self._end, process)
        return process

    def _feed(self, first: int) -> None:
        """Let new tasks come, where the queue is looked at so."""
        if self._queue.is_fed:
            self._start("-m", "bench.recovering", "feed", self._queue.module, str(first))

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        """``kill -9`` a process and all that it started; they are of one session."""
        while members := _session(process.pid):
            for pid in members:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.poll()
        process.wait()

    def _first_words(self) -> str:
        return (self.folder / "said").read_text(errors="replace")[-2000:]

    # ---------------------------------------------------------------- what tasks wrote

    def _wait(self, holds: Callable[[], bool], until: float, why: Callable[[], str] = str) -> None:
        while not holds():
            if time.monotonic() > until:
                raise TimeoutError(f"{self._queue.name or self._queue.module}: {why()}")
            time.sleep(0.01)

    def _lines(self) -> list[tuple[str, int, float]]:
        whole = self._ledger.read_text().rpartition("\n")[0]
        split = (line.split() for line in whole.splitlines())
        return [(what, int(number), float(at)) for what, number, at in split]

    def _ended(self, below: float = inf) -> dict[int, list[float]]:
        """Return when each task of a number below was done."""
        found: dict[int, list[float]] = {}
        for what, number, at in self._lines():
            if what == "ended" and number < below:
                found.setdefault(number, []).append(at)
        return found

    def _held(self) -> set[int]:
        lines = self._lines()
        begun, ended = ({number for what, number, _ in lines if what == one} for one in ("began", "ended"))
        return begun - ended

    def _is_full(self, done: int, tasks: int) -> bool:
        """Whether so many are done, and as many are in hand as the worker takes, or as there are."""
        ended, held = len(self._ended()), len(self._held())
        return ended >= done and (held >= self._queue.at_once or ended + held == tasks)


def _session(leader: int) -> list[int]:
    """Return the processes of a session that live."""
    found: list[int] = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, session, *_ = path.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        if int(session) == leader and state != "Z":
            found.append(int(path.parent.name))
    return found
