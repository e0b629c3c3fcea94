"""The SQLite keeper alone: appends by number in flight, a renewal beside two busy processes, taps, idle cost.

The appends come one record each, `in flight` of them, the next one submitted from the answer to the one before. Busy
processes have 1,000 appends in flight each, so that there is always more than fits in a turn.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time

from bench.measure.children import ROOT, run
from bench.measure.counters import counters, environment
from bench.measure.disk import sync_us
from bench.measure.report import Floors, figure, table
from reprise.kernel.events import Event
from reprise.kernel.ids import Counter
from reprise.stores.log import Append, Group
from reprise.stores.sqlite import SQLiteStore

IN_FLIGHT = {1: 2_000, 10: 20_000, 100: 100_000, 1_000: 100_000}
PAYLOAD = 300
HEAD = ("in flight", "records/s", "us each", "CPU us", "sync each", "B written", "B over", "bare sync us")


def main(*, once: bool) -> bool:
    """Print the figures; return whether the floors were kept."""
    floors = Floors()
    with TemporaryDirectory(prefix="reprise-bench-") as name:
        folder = Path(name)
        rows = [_appends(folder, number, 200 if once else count) for number, count in IN_FLIGHT.items()]
        table(HEAD, rows)
        renewals = _beside_busy(folder, 0.3 if once else 8.0)
        print(f"\nrenewal beside two busy processes, ms: {_described(renewals)}")
        floors.most("renewal, 99th percentile", _percentile(renewals, 99), 50, unit="ms")
        taps, idle = asyncio.run(_taps(folder, 50 if once else 3_000, 0.2 if once else 5.0))
        print(f"tap to another process and back, ms: {_described(taps)}")
        print(f"CPU of an idle store, ms per second: {idle * 1000:.2f}")
        floors.most("idle store, CPU per second", idle * 1000, 1, unit="ms")
    floors.print()
    return once or floors.kept


def _percentile(values: list[float], percent: int) -> float:
    return sorted(values)[min(len(values) * percent // 100, len(values) - 1)]


def _described(values: list[float]) -> str:
    figures = [f"p{percent} {_percentile(values, percent):.2f}" for percent in (50, 99)]
    return f"{', '.join(figures)}, most {max(values):.2f} ({len(values)} times)"


# ---------------------------------------------------------------- appends


def _appends(folder: Path, number: int, count: int) -> tuple[str, ...]:
    before = sync_us(folder)
    path = folder / f"appends-{number}.db"
    printed = run("bench.keeper", "append", str(path), str(number), str(count), env=environment())
    seconds, cpu, syncs, written = (float(part) for part in printed.split())
    over = path.stat().st_size / count - PAYLOAD
    return (
        f"{number:,}",
        figure(count / seconds, 0),
        figure(seconds / count * 1e6),
        figure(cpu / count * 1e6),
        figure(syncs / count, 4),
        figure(written / count, 0),
        figure(over, 0),
        f"{before:.0f}, {sync_us(folder):.0f}",
    )


async def append(path: str, number: str, count: str) -> None:
    """Append ``count`` records to one stream and print seconds, CPU, syncs and bytes (NaN = not counted)."""
    store = SQLiteStore(path)
    await store.start()
    counted, began, cpu = counters(), perf_counter(), process_time()
    await _flood(store, int(number), int(count))
    seconds, cpu = perf_counter() - began, process_time() - cpu
    syncs, written = counters()
    await store.stop()
    print(seconds, cpu, syncs - counted[0], written - counted[1])


async def _flood(store: SQLiteStore, in_flight: int, count: int) -> None:
    """Append ``count`` records with exact versions; the answer to one submits the next."""
    ids, data = Counter(), os.urandom(PAYLOAD)
    stream = f"run/{os.getpid()}"
    all_done = asyncio.get_running_loop().create_future()
    submitted = answered = 0

    def submit() -> None:
        nonlocal submitted
        event = Event(16, 1_700_000_000_000_000, ":1.fetch", data, 2**62 + submitted, 1_200)
        store.log.submit((Append(ids.new(), (Group(stream, (event,), expected=submitted),), done),))
        submitted += 1

    def done(answer: Append) -> None:
        nonlocal answered
        answered += 1
        if answer.error is not None:
            all_done.set_exception(answer.error)
        elif submitted < count:
            submit()
        elif answered == count:
            all_done.set_result(None)

    for _ in range(min(in_flight, count)):
        submit()
    await all_done


# ---------------------------------------------------------------- a third process


def _beside_busy(folder: Path, seconds: float) -> list[float]:
    path = folder / "busy.db"
    busy = [_start("busy", path) for _ in range(2)]
    try:
        return asyncio.run(_renewals(path, seconds))
    finally:
        for process in busy:
            process.kill()
            process.communicate()


def _start(job: str, path: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "bench.keeper", job, str(path)]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


async def busy(path: str) -> None:
    """Append without end."""
    store = SQLiteStore(path)
    await store.start()
    print("ready", flush=True)
    await _flood(store, 1_000, sys.maxsize)


async def _renewals(path: Path, seconds: float) -> list[float]:
    store = SQLiteStore(path)
    await store.start()
    grant = await store.lease.take("worker", "bench", 600)
    taken: list[float] = []
    ends = perf_counter() + seconds
    while perf_counter() < ends:
        assert grant is not None
        began = perf_counter()
        [grant] = await store.lease.renew([grant], 600)
        taken.append((perf_counter() - began) * 1000)
        await asyncio.sleep(0.002)
    await store.stop()
    return taken


# ---------------------------------------------------------------- taps and idling


async def echo(path: str) -> None:
    """Answer each tap until the standard input ends."""
    store = SQLiteStore(path)
    await store.start()
    store.signal.listen("there", lambda _: store.signal.wake(["back"]))
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await store.stop()


async def _taps(folder: Path, times: int, idle: float) -> tuple[list[float], float]:
    path = folder / "taps.db"
    other = await asyncio.to_thread(_start, "echo", path)
    store = SQLiteStore(path)
    await store.start()
    back = asyncio.Event()
    store.signal.listen("back", lambda _: back.set())
    taken: list[float] = []
    for _ in range(times):
        back.clear()
        began = perf_counter()
        store.signal.wake(["there"])
        await asyncio.wait_for(back.wait(), 10)
        taken.append((perf_counter() - began) * 1000)
    cpu = process_time()
    await asyncio.sleep(idle)
    cpu = process_time() - cpu
    await asyncio.to_thread(other.communicate)
    await store.stop()
    return taken, cpu / idle


if __name__ == "__main__":
    asyncio.run({"append": append, "busy": busy, "echo": echo}[sys.argv[1]](*sys.argv[2:]))
