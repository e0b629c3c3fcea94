"""How long nobody leads after the leader is killed (`kill -9`), by store and time to live.

Three candidates, each a process; the leader is killed at a random moment of its term and replaced. Time counts from the kill to
the first line of the next leader's work.
"""

from __future__ import annotations

import asyncio
import os
import selectors
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from random import Random
from statistics import median
from tempfile import TemporaryDirectory
from time import monotonic, sleep

from bench.engines.work import SERVER
from bench.measure.children import ROOT
from bench.measure.report import Floors, figure, table
from bench.measure.server import postgres, redis
from reprise import LeaderElection, LeadershipLost

CANDIDATES = 3
KILLS = 20
SHORT, TIMES_TO_LIVE = 0.3, (0.3, 1.0, 3.0)
"""Seconds; the first is the one that is chosen to have a new leader soon."""
SOON, LATE = 500, 100
"""Milliseconds until there is a new one at that time to live; and above any time to live."""
DURABLE = ("--appendonly", "yes", "--appendfsync", "always")
HEAD = ("leaders killed", "kills", "p50 ms", "longest ms", "longest above ttl ms")


def main(*, once: bool) -> bool:
    """Print the table; return whether the floors were kept."""
    floors, rows = Floors(), list[tuple[str, ...]]()
    with stores(once=once) as urls:
        for name, url in urls.items():
            for ttl in (SHORT,) if once else TIMES_TO_LIVE:
                gaps = list(_gaps(f"{name} {ttl}", url, ttl, 1 if once else KILLS))
                longest = max(gaps)
                shown = (median(gaps), longest, longest - ttl * 1000)
                label = f"{name}, ttl {ttl:g} s"
                rows.append((label, str(len(gaps)), *(figure(each, 0) for each in shown)))
                floors.most(f"{label}: above its ttl", longest - ttl * 1000, LATE, 0, unit="ms")
                if ttl == SHORT:
                    floors.most(f"{label}: nobody leads", longest, SOON, 0, unit="ms")
    table(HEAD, rows)
    floors.print()
    return once or floors.kept


@contextmanager
def stores(*, once: bool) -> Iterator[dict[str, str]]:
    """Open a store of each kind; only a file where it is tried once."""
    with ExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory(prefix="reprise-bench-"))
        urls = {"SQLite": f"sqlite:///{folder}/leaders.db"}
        if not once:
            urls["PostgreSQL"] = os.environ[SERVER] if stack.enter_context(postgres()) else ""
            urls["Redis, appendfsync always"] = stack.enter_context(redis(*DURABLE))
        yield {name: url for name, url in urls.items() if url}


def _gaps(name: str, url: str, ttl: float, kills: int) -> Iterator[float]:
    """Kill leaders; yield for how many milliseconds nobody led after each."""
    dice, selector = Random(name), selectors.DefaultSelector()  # noqa: S311 (moments that are the same each time)
    candidates = [_candidate(selector, name, url, ttl) for _ in range(CANDIDATES)]
    try:
        leader, _ = _next(selector)
        for _ in range(kills):
            sleep(1.0 + ttl * dice.random())  # all stand in line, and it is anywhere between two renewals
            while selector.select(0):  # on a machine that is busy one may lose its term by itself
                leader, _ = _next(selector)
            assert leader.stdout is not None
            selector.unregister(leader.stdout)
            at = monotonic()
            leader.kill()
            candidates.append(_candidate(selector, name, url, ttl))
            leader, began = _next(selector)
            yield (began - at) * 1000
    finally:
        for process in candidates:
            process.kill()
            process.communicate()


def _candidate(selector: selectors.BaseSelector, name: str, url: str, ttl: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "bench.leaders", name, url, str(ttl)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    selector.register(process.stdout, selectors.EVENT_READ, process)
    return process


def _next(selector: selectors.BaseSelector) -> tuple[subprocess.Popen[str], float]:
    """Wait for the next leader; return it, and when its work began."""
    [(key, _), *_] = selector.select(60)
    line = key.data.stdout.readline()
    assert line, "a candidate ended"
    return key.data, float(line)


async def stand(name: str, url: str, ttl: str) -> None:
    """Stand for election until the kill."""
    async with LeaderElection(url, name, ttl=float(ttl)) as election:
        while True:
            with suppress(LeadershipLost):
                async with election.campaign():
                    print(monotonic(), flush=True)
                    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(stand(*sys.argv[1:]))
