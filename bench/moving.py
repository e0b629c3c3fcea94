"""What moving house costs: archives, backups, copies and prunes of many runs; and a renewal beside a prune.

A run has a history of six records and one letter in its inbox; payloads of 300 bytes. Each figure is of one process; the
store is on the disk that the bench runs on.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

from bench.measure.children import ROOT
from bench.measure.counters import environment
from bench.measure.report import Floors, figure, table
from reprise import back_up_store, copy_store, export_runs, import_runs, open_store, prune, restore_store
from reprise.kernel.events import Event, Kind
from reprise.stores.log import Append, Group, RunChange, enlist
from reprise.stores.store import Store

RUNS = 20_000
LETTER = b'"%s"' % (b"x" * 298)
HEAD = ("what", "seconds", "runs/s", "MB")
RENEWAL = 50
"""Milliseconds that a renewal may take beside a prune, at the 99th percentile."""


def main(*, once: bool) -> bool:
    """Print the figures; return whether the floors were kept."""
    floors = Floors()
    with TemporaryDirectory(prefix="reprise-bench-") as name:
        rows, took = asyncio.run(_measure(Path(name), 500 if once else RUNS))
    table(HEAD, rows)
    print(f"\nrenewals beside a prune: {len(took)}, the slowest {took[-1]:.1f} ms")
    floors.most("renewal beside a prune, 99th percentile", took[len(took) * 99 // 100], RENEWAL, unit="ms")
    floors.print()
    return once or floors.kept


async def _measure(folder: Path, runs: int) -> tuple[list[tuple[str, ...]], list[float]]:
    rows: list[tuple[str, ...]] = []
    store = open_store(f"sqlite:///{folder}/a.db")
    await store.start()
    await _fill(store, runs)

    async def timed(what: str, work: Callable[[], Awaitable[object]], made: str = "") -> None:
        began = perf_counter()
        await work()
        seconds = perf_counter() - began
        size = figure((folder / made).stat().st_size / 1e6) if made else ""
        rows.append((what, figure(seconds, 2), figure(runs / seconds, 0), size))

    copy, other = (open_store(f"sqlite:///{folder}/{name}.db") for name in ("copy", "other"))
    await timed("backup, a file", lambda: back_up_store(store, folder / "backup.db"), "backup.db")
    await timed("restore, a file", lambda: restore_store(other, folder / "backup.db"), "other.db")
    await other.stop()
    await timed("backup, an archive", lambda: back_up_store(store, folder / "all.jsonl"), "all.jsonl")
    await timed("events export", lambda: export_runs(store, folder / "runs.jsonl.gz"), "runs.jsonl.gz")
    await copy.start()
    await timed("copy to a file, compared", lambda: copy_store(store, copy), "copy.db")
    await timed("the same again", lambda: copy_store(store, copy))
    await copy.stop()
    fresh = open_store(f"sqlite:///{folder}/fresh.db")
    await fresh.start()
    await timed("events import", lambda: import_runs(fresh, folder / "runs.jsonl.gz"), "fresh.db")
    await timed(
        "prune, archived before", lambda: prune(fresh, archive=folder / "pruned.jsonl"), "pruned.jsonl"
    )
    await fresh.stop()
    took: list[float] = []
    with _renewing(folder / "a.db") as renewals:
        await timed("prune", lambda: prune(store))
        took = renewals()
    await store.stop()
    return rows, took


async def _fill(store: Store, runs: int) -> None:
    for first in range(0, runs, 500):
        appends: list[Append] = []
        for n in range(first, min(first + 500, runs)):
            at = 1_000_000 + n
            events = [Event(Kind.RUN_STARTED, at, data=b'{"workflow":"bench","input":[[],{}]}')]
            events += [Event(Kind.STEP_COMPLETED, at, f":{k}.step", LETTER) for k in range(4)]
            events.append(Event(Kind.RUN_FINISHED, at, data=b'{"status":"completed"}'))
            change = RunChange(f"run-{n}", "completed", "bench", at=at)
            history = Group(f"run/run-{n}", events, 0, 1, takes=True, closes=True, run=change)
            letter = Group(f"inbox/run-{n}", [Event(Kind.SIGNAL_SENT, at, "s", LETTER)])
            appends.append(Append(n + 1, (letter, history)))
        await enlist(store.log, appends)


class _renewing:  # noqa: N801 (used like a function)
    """A process that renews a lease all the time."""

    def __init__(self, path: Path) -> None:
        command = [sys.executable, "-m", "bench.moving", str(path)]
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Callable[[], list[float]]:
        assert self._process.stdout is not None
        self._process.stdout.readline()
        return self._took

    def _took(self) -> list[float]:
        out, _ = self._process.communicate("stop\n", timeout=60)
        return sorted(float(word) for word in out.split())

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


async def _renew(path: str) -> None:
    """Renew a lease until the input ends, and print the milliseconds of each time."""
    store = open_store(f"sqlite:///{path}")
    await store.start()
    grant = await store.lease.take("bench", "me", 600)
    told = asyncio.ensure_future(asyncio.to_thread(sys.stdin.readline))
    print("on", flush=True)
    took: list[float] = []
    while not told.done() or not took:
        assert grant is not None
        began = perf_counter()
        (grant,) = await store.lease.renew([grant], 600)
        took.append((perf_counter() - began) * 1000)
        await asyncio.sleep(0.005)
    await store.stop()
    print(*took)


if __name__ == "__main__":
    asyncio.run(_renew(sys.argv[1]))
