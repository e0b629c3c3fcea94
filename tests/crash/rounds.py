"""A round: processes work on one store, are killed and paused at random moments, and in the end all must be well."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

import msgspec
from tests.crash import client_main, flows, ledger
from tests.crash.checker import Verdict, check
from tests.crash.nursery import Nursery
from tests.crash.places import PATIENCE, FilePlace, Place

from reprise import Reprise
from reprise.kernel.events import Kind, Owned
from reprise.runtime.history import STEP_KINDS

LEASE = 1.0
SOMEBODY_AT_WORK = "a worker to be outside of a commit with steps in flight"
"""What a pause waits for."""


class Round:
    """Worker processes and a client on one store; what they say is in ``folder``, and so is the store if it is a file."""

    def __init__(self, nursery: Nursery, folder: Path, seed: int, place: Place | None = None) -> None:
        self.folder = folder
        self.place = place or FilePlace(folder)
        self.counts: Counter[str] = Counter()
        self.workers: list[int] = []
        self.client = 0
        self._nursery = nursery
        self._dice = random.Random(seed)
        self._executed = ledger.Reader(folder / flows.EXECUTED)
        self._open: defaultdict[int, set[tuple[str, str, int]]] = defaultdict(set)
        self._begun: defaultdict[int, set[tuple[str, str]]] = defaultdict(set)
        self._began = 0

    # ---------------------------------------------------------------- processes

    def start_worker(self, **options: object) -> int:
        """Start one more worker."""
        options = {"name": f"worker{len(self.workers)}", "lease": LEASE, **options}
        self.workers.append(self._nursery.spawn("worker", self.folder, store=self.place.url, **options))
        return self.workers[-1]

    def start_client(self) -> None:
        """Start the client, or the one that goes on where the last was killed."""
        self.client = self._nursery.spawn("client", self.folder, store=self.place.url)

    def cycle(self) -> None:
        """Let the processes come to a random moment, kill some, and start others in their place."""
        self.wait_until_began(self._dice.randint(1, 50))
        until = time.perf_counter() + self._dice.random() * 0.01
        while time.perf_counter() < until:
            pass
        what = self._dice.random()
        victims = [self._dice.choice(self.workers)]
        if what < 0.2:
            victims = list(self.workers)
        if 0.15 < what < 0.3:
            victims = [self.client]
        elif what < 0.05:
            victims.append(self.client)
        self.kill(victims)

    def kill(self, victims: list[int], **options: object) -> None:
        """``kill -9``, note what was going on in the victims, start successors with these options."""
        for victim in victims:
            self._check_alive(victim)
        if self._dice.random() < 0.5:
            # Stopping first lets us see where the victim was; it dies of the same signal and never runs again.
            for victim in victims:
                os.kill(victim, signal.SIGSTOP)
                self._wait_for_state(victim, "T")
            self.counts["kills inside a commit"] += sum(map(self.place.commits, victims))
        self._nursery.kill(*victims)
        self._read()
        self.counts["cycles"] += 1
        self.counts["kills"] += len(victims)
        for victim in victims:
            self.counts["kills with steps in flight"] += bool(self._open[victim])
            self.counts["steps in flight at kills"] += len(self._open[victim])
            if victim == self.client:
                self.start_client()
            else:
                self.workers.remove(victim)
                self.start_worker(**options)

    def pause(self) -> int:
        """Stop a worker outside of a commit for longer than its lease, let others take its runs, let it go on.

        Returns its process.
        """
        worker = self._stop_outside_of_a_commit()
        held = {run for run, _, _ in self._open[worker]}
        before = {run: self._token(run) for run in held}
        try:
            self.wait_until(lambda: any(self._token(run) > before[run] for run in held), "a take-over")
        finally:
            os.kill(worker, signal.SIGCONT)
        self.counts["pauses past the lease"] += 1
        return worker

    def _stop_outside_of_a_commit(self) -> int:
        """Stop a worker with steps in flight. One stopped inside a commit may keep everybody from writing, and then there
        is no take-over to be seen; one that others took all runs from may never have steps again.
        """
        worker = 0

        def stopped() -> bool:
            nonlocal worker
            worker = self.executing()
            os.kill(worker, signal.SIGSTOP)
            self._wait_for_state(worker, "T")
            if not self.place.is_in_the_way(worker) and self.in_flight(worker):
                return True
            os.kill(worker, signal.SIGCONT)
            return False

        self.wait_until(stopped, SOMEBODY_AT_WORK)
        return worker

    def _wait_for_state(self, pid: int, state: str) -> None:
        def reached() -> bool:
            # Each thread stops by itself: while the first already rests, the writer may still take the file's lock.
            threads = Path(f"/proc/{pid}/task").glob("*/stat")
            return all(text.read_text().rpartition(")")[2].split()[0] == state for text in threads)

        self.wait_until(reached, f"all threads of process {pid} to be in state {state}")

    def _check_alive(self, pid: int) -> None:
        status = self._nursery.ended(pid)
        assert status is None, f"process {pid} ended by itself with {status}:\n{self.said()}"

    def said(self) -> str:
        """Return the end of what the processes wrote to stderr."""
        stderr = self.folder / "stderr"
        return stderr.read_text()[-4000:] if stderr.exists() else "(nothing on stderr)"

    # ---------------------------------------------------------------- runs that the test starts itself

    def start_run(self, workflow: str, n: int) -> str:
        """Start a run for whatever worker; return its id."""
        return asyncio.run(_start(self.place.url, workflow, n))

    def wait_for_end(self, run: str) -> None:
        """Wait until the log holds the end of a run."""
        self.wait_until(lambda: bool(self.place.records(run, Kind.RUN_FINISHED)), f"{run} to end")

    def executing(self) -> int:
        """Return the process with the most steps in flight."""
        self._read()
        return max(self.workers, key=lambda pid: len(self._open[pid]))

    def unrecorded(self, pid: int) -> int:
        """Return how many steps a process has begun whose outcome the log does not have."""
        self._read()
        recorded: dict[str, set[str]] = {}
        for run in {run for run, _ in self._begun[pid]}:
            recorded[run] = {key for kind in STEP_KINDS for key, _ in self.place.records(run, kind)}
        return sum(key not in recorded[run] for run, key in self._begun[pid])

    # ---------------------------------------------------------------- watching

    def _read(self) -> None:
        for line in self._executed.new():
            if isinstance(line, ledger.Began):
                self._began += 1
                self._begun[line.pid].add((line.run, line.key))
                self._open[line.pid].add((line.run, line.key, line.attempt))
            elif isinstance(line, ledger.Ended):
                self._open[line.pid].discard((line.run, line.key, line.attempt))

    def in_flight(self, pid: int) -> int:
        """Return how many steps a process has begun and not ended."""
        self._read()
        return len(self._open[pid])

    def began(self) -> int:
        """Return how many executions began so far."""
        self._read()
        return self._began

    def wait_until_began(self, more: int) -> None:
        """Wait for so many more executions."""
        goal = self.began() + more
        self.wait_until(lambda: self.began() >= goal, f"{more} more steps to begin")

    def _token(self, run: str) -> int:
        """Return the token under which a run is owned now."""
        owned = self.place.records(run, Kind.RUN_OWNED)
        return max(msgspec.json.decode(data, type=Owned).token for _, data in owned)

    def wait_until(self, holds: Callable[[], bool], what: str) -> None:
        """Look until it holds; what is looked at are files that other processes write."""
        until = time.monotonic() + PATIENCE
        while not holds():
            assert time.monotonic() < until, (
                f"waited {PATIENCE} s for {what}:\n{self.said()}\n{self.place.unfinished()}"
            )
            time.sleep(0.002)

    # ---------------------------------------------------------------- the end

    def finish(self) -> Verdict:
        """Let everything that was started come to its end, stop the workers politely, and judge."""
        (self.folder / client_main.ENOUGH).touch()
        if self.client:
            self.wait_until(
                lambda: self._nursery.ended(self.client) is not None, "the client to see all ends"
            )
            assert (self.folder / "stderr").read_text() == "", self.said()
        return self.judge()

    def judge(self) -> Verdict:
        """Stop the workers politely and compare everything."""
        for worker in self.workers:
            os.kill(worker, signal.SIGTERM)
        for worker in self.workers:
            self.wait_until(
                lambda pid=worker: self._nursery.ended(pid) is not None, f"worker {worker} to drain"
            )
        verdict = asyncio.run(check(self.folder, self.place))
        verdict.counts.update(self.counts)
        return verdict


async def _start(store: str, workflow: str, n: int) -> str:
    async with Reprise(store, worker=False, capture_logs=False) as app:
        return (await app.start(flows.BY_NAME[workflow], n, id=f"{workflow}-{n}", detach=True)).id
