"""Simulated machines, the wire between them and their store, and the books that judge what comes over it."""

import asyncio
from dataclasses import dataclass

import pytest
from msgspec.structs import replace

from reprise import step, workflow
from reprise.kernel.errors import ConfigurationError, OutcomeUnknown, StoreUnreachable
from reprise.kernel.events import Event, Kind
from reprise.kernel.surroundings import SURROUNDINGS, Surroundings
from reprise.stores.log import ANY, Append, Group, append, enlist
from reprise.testing import (
    ClockSkew,
    Crash,
    Crashed,
    DuplicateDelivery,
    InvariantBroken,
    LostAnswer,
    Node,
    Pause,
    Refused,
    RunForgotten,
    SimulationFailed,
    World,
    run,
    simulate,
)
from reprise.testing.invariants import Books
from reprise.testing.loop import SimulatedLoop

# ---------------------------------------------------------------- machines


def machine() -> Node:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SimulatedLoop)
    return Node(loop, "one", SURROUNDINGS.get())


def test_a_killed_process_does_nothing_more():
    seen: list[str] = []

    async def lives() -> None:
        try:
            while True:
                await asyncio.sleep(1)
                seen.append("beat")
        finally:
            seen.append("closed")

    async def main() -> None:
        node = machine()
        asyncio.get_running_loop().call_later(3.5, node.crash)
        with pytest.raises(Crashed, match="one was killed"):
            await node.run(lives)
        assert not node.is_up
        await asyncio.sleep(10)
        assert seen == ["beat"] * 3

    run(main)


def test_a_paused_process_goes_on_later_and_its_clock_went_on():
    beats: list[float] = []

    async def lives() -> str:
        for _ in range(3):
            await asyncio.sleep(1)
            beats.append(asyncio.get_running_loop().time())
        return "done"

    async def main() -> None:
        node = machine()
        asyncio.get_running_loop().call_later(1.5, node.pause, 10)
        assert await node.run(lives) == "done"

    run(main)
    assert beats == [1.0, 11.5, 12.5]


def test_a_machine_starts_again():
    lives: list[int] = []

    async def live() -> int:
        lives.append(len(lives))
        if len(lives) < 3:
            await asyncio.sleep(100)
        return len(lives)

    async def main() -> int:
        node = machine()
        while True:
            asyncio.get_running_loop().call_later(1, node.crash)
            try:
                return await node.run(live)
            except Crashed:
                continue

    assert run(main) == 3


def test_what_a_process_raises():
    async def main() -> None:
        async def fails() -> None:
            raise LookupError

        with pytest.raises(LookupError):
            await machine().run(fails)

    run(main)


def test_others_wake_a_process_in_its_own_place():
    """A future that is settled from elsewhere wakes its waiter where that runs: a dead one stays dead."""
    woken: list[str] = []

    async def main() -> None:
        node = machine()
        future = asyncio.get_running_loop().create_future()

        async def waits() -> None:
            await future
            woken.append("it")

        asyncio.get_running_loop().call_later(1, node.crash)
        with pytest.raises(Crashed):
            await node.run(waits)
        future.set_result(None)
        await asyncio.sleep(1)

    run(main)
    assert not woken


# ---------------------------------------------------------------- the wire


def in_a_world(scenario, *faults, seed=1):
    met = simulate(scenario, [seed], faults)
    return met.counts


def note(text: str) -> Event:
    return Event(Kind.LOG_LINE, 0, text)


async def over_the_wire(world: World, main) -> None:
    node = world.node("one")
    await node.run(lambda: main(world.link(node, world.weather)))


@pytest.mark.parametrize(
    ("fault", "error", "written"), [(Refused(1.0), StoreUnreachable, 0), (LostAnswer(1.0), OutcomeUnknown, 1)]
)
def test_an_append_that_is_not_answered(fault, error, written):
    async def scenario(world: World) -> None:
        async def main(store) -> None:
            with pytest.raises(error):
                await append(store.log, 7, Group("log/a", [note("x")], ANY))
            with pytest.raises(StoreUnreachable):
                await store.log.read("log/a")

        await over_the_wire(world, main)
        assert len(await world.store.log.read("log/a")) == written

    in_a_world(scenario, fault)


def test_appends_keep_their_order_and_reads_do_not_wait_for_them():
    async def scenario(world: World) -> None:
        async def main(store) -> None:
            appends = [Append(n, (Group("log/a", [note(str(n))], ANY),)) for n in range(1, 20)]
            for one in appends[:-1]:
                store.log.submit([one])
            await enlist(store.log, appends[-1:])

        await over_the_wire(world, main)
        records = await world.store.log.read("log/a")
        assert [record.append for record in records] == list(range(1, 20))

    in_a_world(scenario)


def test_mail_arrives_twice():
    async def scenario(world: World) -> None:
        async def main(store) -> None:
            await append(store.log, 1, Group("inbox/a", [note("x")], ANY))
            await asyncio.sleep(1)

        await over_the_wire(world, main)
        assert len(await world.store.log.read("inbox/a")) == 2

    assert in_a_world(scenario, DuplicateDelivery(1.0))["mail delivered twice"] == 1


def test_clocks_differ_and_the_keepers_does_not():
    async def scenario(world: World) -> None:
        clocks = [world.node(name).around.clock.now() - world.loop.clock.now() for name in "abcdef"]
        assert len(set(clocks)) == 6
        assert all(abs(by) <= 5_000_000 for by in clocks)

    in_a_world(scenario, ClockSkew(5.0, 0.0))


# ---------------------------------------------------------------- the books


@dataclass
class Case:
    """Two appends of which the second must not have been possible."""

    first: Group
    second: Group
    says: str


CASES = [
    Case(
        Group("run/a", [note("x")], 0, 5, takes=True), Group("run/a", [note("y")], 1, 4), "belongs to token 5"
    ),
    Case(
        Group("run/a", [note("x")], 0, 5, takes=True), Group("run/a", [], 1, 5, takes=True), "had 5 already"
    ),
    Case(
        Group("run/a", [note("x")], 0, 5, takes=True, closes=True), Group("run/a", [note("y")], 1, 5), "ended"
    ),
    Case(Group("run/a", [note("x")], 0), Group("run/a", [note("y")], 0), "was at version 1, and 0"),
    Case(
        Group("run/a", [Event(Kind.TIMER_FIRED, 0, "@1")]),
        Group("run/a", [Event(Kind.TIMER_FIRED, 0, "@1")]),
        "two records of TIMER_FIRED @1",
    ),
    Case(
        Group("run/a", [Event(Kind.STEP_FAILED, 0, ":1.x")]),
        Group("run/a", [Event(Kind.STEP_COMPLETED, 0, ":1.x")]),
        "two records of STEP_COMPLETED",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.says)
def test_the_books_refuse(case):
    books = Books()
    books.committed(Append(1, (case.first,), versions=(1,), position=1), "me")
    with pytest.raises(InvariantBroken, match=case.says):
        books.committed(Append(2, (case.second,), versions=(2,), position=2), "me")


def test_the_books_refuse_a_position_that_was_given():
    books = Books()
    books.committed(Append(1, (Group("a", [note("x")]),), versions=(1,), position=3), "me")
    with pytest.raises(InvariantBroken, match="Position 3 was given after 3"):
        books.committed(Append(2, (Group("b", [note("x")]),), versions=(1,), position=3), "me")


def test_the_books_find_a_record_that_is_gone_and_one_that_was_rewritten():
    async def scenario(world: World) -> None:
        async def main(store) -> None:
            await append(store.log, 1, Group("log/a", [note("x")], ANY))
            await append(store.log, 2, Group("log/a", [note("y")], ANY))

        await over_the_wire(world, main)
        await world.books.check(world.store)
        there = world.store.log._all
        last = there.pop()
        with pytest.raises(InvariantBroken, match="acknowledged up to 2; 1 is there"):
            await world.books.check(world.store)
        there.append(replace(last, key="z"))
        with pytest.raises(InvariantBroken, match="Version 2 of log/a was acknowledged"):
            await world.books.check(world.store)
        there[-1] = last

    in_a_world(scenario)


# ---------------------------------------------------------------- scenarios


@step
async def double(n: int) -> int:
    return 2 * n


@workflow
async def twice(n: int) -> int:
    return await double(n) + await double(n)


@workflow
async def for_ever() -> None:
    await asyncio.sleep(1e9)


async def doubles(world: World) -> None:
    world.workers(2, workflows=[twice])
    async with world.client() as app:
        assert await app.run(twice, 3, id="one") == 12


def test_a_scenario_survives_what_goes_wrong():
    met = simulate(doubles, range(20), [Crash(0.1), Pause(0.05)])
    assert met.seeds == 20
    assert met.counts["crashes"]
    assert met.counts["pauses"]


@pytest.mark.parametrize("fault", [Crash(1.5), Crash(-0.1), Crash(float("nan")), Pause(0.1, seconds=-1)])
def test_a_chance_that_is_none_is_refused(fault):
    with pytest.raises(ConfigurationError, match=r"has (p|seconds)="):
        simulate(doubles, range(20), [fault])


def test_of_several_faults_of_a_kind_the_last_counts():
    assert not simulate(doubles, range(5), [Crash(0.3), Crash(0.0)]).counts["crashes"]


def test_a_failure_names_its_seed():
    async def fails(world: World) -> None:
        await asyncio.sleep(world.chance.random())
        assert world.seed != 13

    with pytest.raises(SimulationFailed, match=r"(?s)seed 13.*seeds=\[13\]") as caught:
        simulate(fails, range(20))
    assert caught.value.seed == 13


def test_a_run_that_nobody_takes_is_forgotten():
    async def scenario(world: World) -> None:
        async with world.client() as app:
            await app.start(twice, 1, id="nobodys")

    with pytest.raises(SimulationFailed, match="nobodys is pending") as caught:
        simulate(scenario, [1])
    assert isinstance(caught.value.__cause__, RunForgotten)


def test_a_scenario_that_waits_in_vain():
    async def scenario(world: World) -> None:
        world.workers(1, workflows=[for_ever])
        async with world.client() as app:
            await app.run(for_ever, id="sleeper")

    with pytest.raises(SimulationFailed, match="still waits after 100 s; of its runs, sleeper is waiting"):
        simulate(scenario, [1], within=100)


def test_what_a_background_task_raises_fails_the_simulation():
    async def scenario(world: World) -> None:
        world.loop.call_soon(lambda: 1 // 0)
        await asyncio.sleep(1)

    with pytest.raises(SimulationFailed, match="ZeroDivisionError"):
        simulate(scenario, [1])


def test_surroundings_are_those_of_the_machine():
    async def scenario(world: World) -> None:
        async def main(store) -> Surroundings:
            return SURROUNDINGS.get()

        node = world.node("one")
        assert await node.run(lambda: main(None)) is node.around
        assert SURROUNDINGS.get() is not node.around

    in_a_world(scenario)
