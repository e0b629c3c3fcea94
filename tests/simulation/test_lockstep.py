"""Threads of the SQLite keeper under simulation, and what is on the machine around them."""

import asyncio
import sys
from contextvars import copy_context
from pathlib import Path

import pytest

from reprise.kernel.errors import ConfigurationError, RepriseError
from reprise.testing import Crash, SimulatedLoop, TornWrite, World, run, simulate
from reprise.testing.lockstep import Locks, Lockstep
from reprise.testing.loop import run_on

GATE = Path("gate")


def in_threads(main, seed=0):
    """Run a coroutine function of a crew and its locks in virtual time."""
    loop, locks = SimulatedLoop(seed), Locks()
    return run_on(loop, lambda: main(loop, locks, Lockstep(loop, copy_context(), locks)))


def test_a_thread_sleeps_in_virtual_time_and_hands_on_what_it_returns_or_raises():
    async def main(loop, locks, crew):
        def work():
            crew.sleep(3600)
            return crew.perf_counter()

        assert await crew.call(work) >= 3600
        with pytest.raises(ZeroDivisionError):
            await crew.call(lambda: 1 / 0)

    in_threads(main)


def test_queues_and_semaphores_wait_for_others():
    async def main(loop, locks, crew):
        queue, ready, got = crew.queue(), crew.semaphore(), []

        def takes():
            got.extend([queue.get(), queue.get()])
            ready.release()

        thread = crew.begin(takes, name="takes")
        assert not await crew.call(lambda: ready.acquire(timeout=5.0))
        assert loop.time() >= 5.0
        queue.put(1)
        queue.put(2)
        assert await crew.call(lambda: ready.acquire(timeout=5.0))
        assert loop.time() < 6.0
        await crew.call(thread.join)
        assert got == [1, 2]
        assert not thread.is_alive()

    in_threads(main)


def test_a_lock_is_free_when_its_process_is_killed():
    async def main(loop, locks, crew):
        other, log = Lockstep(loop, copy_context(), locks), []
        mine, theirs = crew.lock(GATE), other.lock(GATE)

        def holds():
            theirs.take()
            try:
                other.sleep(1000)
            finally:
                log.append("unwound")
            log.append("never")

        other.begin(holds, name="holds")
        await asyncio.sleep(1)
        assert not await crew.call(mine.try_take)
        waiting = asyncio.create_task(crew.call(mine.take))
        await asyncio.sleep(1)
        assert not waiting.done()
        other.kill()
        await waiting
        assert log == ["unwound"]
        assert loop.time() < 10

    in_threads(main)


def test_what_a_thread_raises_that_nobody_awaits_ends_the_simulation():
    async def main(loop, locks, crew):
        crew.begin({}.popitem, name="breaks")
        await asyncio.sleep(1)

    with pytest.raises(KeyError):
        in_threads(main)


def test_the_loop_itself_may_not_wait_for_a_thread():
    async def main(loop, locks, crew):
        crew.queue().get()

    with pytest.raises(RepriseError, match="loop itself waits"):
        in_threads(main)


async def commits(world: World) -> None:
    async with world.client() as app:
        assert await app.find("", limit=1) == []


def test_nothing_is_left_of_a_machine():
    memory = Path("/dev/shm")
    before = set(memory.glob("reprise-*")) if memory.is_dir() else set()
    simulate(commits, seeds=range(3), faults=[Crash()], keeper="sqlite")
    after = set(memory.glob("reprise-*")) if memory.is_dir() else set()
    assert len(after - before) < 3  # others may simulate beside us


def test_nothing_is_torn_in_memory():
    with pytest.raises(Exception, match="torn in memory") as caught:
        simulate(commits, seeds=[0], faults=[TornWrite()])
    assert isinstance(caught.value.__cause__, ConfigurationError)


def test_without_apsw_it_is_said_what_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "apsw", None)
    monkeypatch.delitem(sys.modules, "reprise.testing.disk", raising=False)
    monkeypatch.delitem(sys.modules, "reprise.testing.power", raising=False)
    with pytest.raises(Exception, match="missing: apsw"):
        simulate(commits, seeds=[0], faults=[TornWrite()], keeper="sqlite")


def test_a_plain_world_needs_no_file():
    async def main():
        return World(asyncio.get_running_loop()).store.url

    assert run(main) == "memory://"
