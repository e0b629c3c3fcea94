"""Virtual time: a week in no time, the same again for the same seed, and everything real is refused."""

import asyncio
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from tests.simulation import week

from reprise.kernel.surroundings import SURROUNDINGS
from reprise.testing import Deadlock, NoOutside, RealWait, SimulatedLoop, SkewedClock, Standstill, run
from reprise.testing.loop import START, run_on


def test_a_week_passes():
    result, runs, days = run(week.main)
    assert result == [1, 2, 3, 4, 9]
    assert runs >= 8
    assert 7 <= days < 7.1


def test_a_week_costs_few_looks_at_nothing():
    loop = SimulatedLoop()
    run_on(loop, week.main, patience=0.1)
    assert loop.ran < 8_000  # with looks once a second, over five million


def test_the_same_seed_is_the_same_week_in_every_process():
    here = [week.trace(seed) for seed in (1, 2)]
    assert here[0] != here[1]
    for hash_seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-m", "tests.simulation.week", "1", "2"],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(["src", "."])},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.splitlines() == here


async def _order() -> list[int]:
    seen: list[int] = []

    async def note(number: int) -> None:
        seen.append(number)

    await asyncio.gather(*(note(number) for number in range(8)))
    return seen


def test_the_seed_decides_the_order():
    assert run(_order, seed=None) == list(range(8))
    assert len({tuple(run(_order, seed=seed)) for seed in range(20)}) > 15
    assert run(_order, seed=7) == run(_order, seed=7)


def test_the_clock_jumps():
    async def main() -> tuple[int, float]:
        async with asyncio.timeout(3600):
            await asyncio.sleep(1800.000_001)
        return SURROUNDINGS.get().clock.now(), asyncio.get_running_loop().time()

    assert run(main) == (START + 1_800_000_001, 1800.000_001)


def test_nobody_left_to_go_on():
    async def wait_for_ever() -> None:
        await asyncio.get_running_loop().create_future()

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(wait_for_ever(), name="sleeper")

    with pytest.raises(Deadlock, match=r"sleeper at .*test_loop\.py:\d+"):
        run(main)


def test_time_that_stands_still():
    async def main() -> None:
        while True:  # noqa: ASYNC110
            await asyncio.sleep(0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("reprise.testing.loop.STANDSTILL", 1000)
        with pytest.raises(Standstill, match=r"main at .*test_loop\.py"):
            run(main)


def test_real_sleep_is_said_and_not_slept():
    async def main() -> float:
        time.sleep(3600)  # noqa: ASYNC251
        return asyncio.get_running_loop().time()

    with pytest.raises(RealWait, match=r"test_loop\.py:\d+ \(3600 s\)"):
        run(main)
    time.sleep(0)  # and it is itself again


def test_sleep_in_a_thread_is_virtual():
    async def main() -> float:
        await asyncio.gather(asyncio.to_thread(time.sleep, 60), asyncio.to_thread(time.sleep, 90))
        return asyncio.get_running_loop().time()

    assert 90 <= run(main) < 91


def test_what_a_thread_raises():
    async def main() -> None:
        await asyncio.to_thread(int, "x")

    with pytest.raises(ValueError, match="invalid literal"):
        run(main)


def test_waiting_for_a_real_thread():
    async def main() -> None:
        threading.Event().wait(5)

    with pytest.raises(RealWait, match=r"test_loop\.py:\d+ waits for another thread"):
        run(main)


def test_sockets_and_processes_are_refused():
    async def connect() -> None:
        await asyncio.open_connection("127.0.0.1", 1)

    async def execute() -> None:
        await asyncio.create_subprocess_exec("true")

    async def listen() -> None:
        with socket.socket() as one:
            await asyncio.get_running_loop().sock_accept(one)

    for main in (connect, execute, listen):
        with pytest.raises(NoOutside):
            run(main)


def test_tasks_that_outlive_main_are_cancelled():
    ended: list[str] = []

    async def stay() -> None:
        try:
            await asyncio.sleep(1e9)
        finally:
            ended.append("stayed")

    async def main() -> None:
        main.task = asyncio.create_task(stay())  # type: ignore[attr-defined]
        await asyncio.sleep(1)

    run(main)
    assert ended == ["stayed"]


def test_a_skewed_clock():
    async def main() -> tuple[float, float]:
        clock = SURROUNDINGS.get().clock
        skewed = SkewedClock(clock, by=-5.0, rate=1.1)
        before = skewed.now() - clock.now()
        await asyncio.sleep(100)
        return before / 1e6, (skewed.now() - clock.now()) / 1e6

    assert run(main) == (-5.0, 5.0)


def test_nothing_of_it_stays():
    before = Path(__file__), time.sleep, threading.Condition.wait
    with pytest.raises(ZeroDivisionError):
        run(_fail)
    assert before == (Path(__file__), time.sleep, threading.Condition.wait)


async def _fail() -> None:
    raise ZeroDivisionError
