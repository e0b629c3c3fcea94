"""Nobody is kept from the file, however busy others are."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from reprise.kernel.errors import StoreLocked
from reprise.stores.sqlite import SQLiteStore
from reprise.stores.sqlite.turnstile import Turnstile


def test_turns_go_round(tmp_path: Path) -> None:
    """Who waits lets the others pass a few times at most: 1 to 8 were seen, and up to 470 without the gate."""
    turns = 0
    stopping = threading.Event()

    def hammer() -> None:
        nonlocal turns
        turnstile = Turnstile(tmp_path)
        while not stopping.is_set():
            turnstile.enter(10)
            turns += 1
            time.sleep(0.0005)
            turnstile.leave()
        turnstile.close()

    rivals = [threading.Thread(target=hammer) for _ in range(2)]
    mine = Turnstile(tmp_path)
    passed: list[int] = []
    for rival in rivals:
        rival.start()
    for _ in range(200):
        before = turns
        mine.enter(10)
        passed.append(turns - before)
        mine.leave()
        time.sleep(0.001)
    stopping.set()
    for rival in rivals:
        rival.join()
    mine.close()
    assert 0 < max(passed) <= 40


@pytest.fixture
def gates(tmp_path: Path) -> Iterator[list[Turnstile]]:
    """Three that want the turn at one file."""
    gates = [Turnstile(tmp_path) for _ in range(3)]
    yield gates
    for gate in gates:
        gate.close()


def test_a_free_turn_is_taken_at_once_and_by_one_only(gates: list[Turnstile]) -> None:
    first, second, _ = gates
    assert first.enter(10) is False
    with pytest.raises(StoreLocked, match=r"kept its turn at .* for 0\.01 s"):
        second.enter(0.01)
    first.leave()
    second.enter(10)  # by its wait that goes on, or anew if that was given on before
    with pytest.raises(StoreLocked):
        first.enter(0.01)
    second.leave()
    assert first.waits == 1
    assert second.waits in (1, 2)


def test_a_turn_that_comes_when_nobody_wants_it_any_more_is_given_on(gates: list[Turnstile]) -> None:
    first, second, third = gates
    first.enter(10)
    with pytest.raises(StoreLocked):
        second.enter(0.01)
    first.leave()
    third.enter(10)
    third.leave()
    first.enter(10)
    first.leave()


def test_who_tries_again_joins_its_own_wait(gates: list[Turnstile]) -> None:
    first, second, third = gates
    first.enter(10)
    for _ in range(2):
        with pytest.raises(StoreLocked):
            second.enter(0.01)
    with pytest.raises(StoreLocked):
        third.enter(0.01)
    first.leave()
    for gate in (second, third, first):
        gate.enter(10)
        gate.leave()


def test_closing_ends_the_thread_and_lets_others_in(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    first, second = Turnstile(tmp_path), Turnstile(tmp_path)
    first.enter(10)
    with pytest.raises(StoreLocked):
        second.enter(0.01)
    first.leave()
    first.close()
    second.enter(10)
    second.close()
    assert set(threading.enumerate()) <= before
    third = Turnstile(tmp_path)
    assert third.enter(10) is False, "what was closed holds nothing"
    third.close()


SATURATE = """
import asyncio, sys
from reprise.kernel.events import Event
from reprise.stores.log import Append, Group, enlist
from reprise.stores.sqlite import SQLiteStore

async def main(path):
    store = SQLiteStore(path)
    await store.start()
    async def flood(n):
        while True:
            appends = [Append(1, (Group(f"{n}", [Event(16, 1, data=bytes(300))]),)) for _ in range(300)]
            await enlist(store.log, appends)
            print("on", flush=True)
    await asyncio.gather(*(flood(n) for n in range(3)))

asyncio.run(main(sys.argv[1]))
"""


def start(command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)


async def test_a_renewal_beside_two_processes_that_saturate_the_file(path: Path) -> None:
    """The floor is 50 ms at the 99th percentile (measured by the bench); here ten times that."""
    store = SQLiteStore(path)
    await store.start()
    grant = await store.lease.take("worker", "me", 600)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", SATURATE, str(path)]
    rivals = [start(command, environment) for _ in range(2)]
    for rival in rivals:
        assert rival.stdout is not None
        assert rival.stdout.readline() == b"on\n"
    took: list[float] = []
    for _ in range(200):
        began = time.perf_counter()
        [grant] = await store.lease.renew([grant], 600)
        took.append(time.perf_counter() - began)
        assert grant is not None
    still_on = [rival.poll() is None for rival in rivals]
    for rival in rivals:
        rival.kill()
        rival.communicate()
    await store.stop()
    assert still_on == [True, True]
    assert sorted(took)[198] <= 0.5
