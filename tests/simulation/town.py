"""Workflows of all kinds, each with somebody who starts it, talks to it and knows what must come of it.

What steps return differs from execution to execution, so whoever remembers what is not in the log is found out.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from datetime import datetime
from random import Random
from typing import Any

from reprise import (
    NOT_DONE,
    Done,
    Intent,
    Limit,
    Reprise,
    Retry,
    RunEnded,
    RunNeedsAttention,
    Undo,
    continue_as,
    current_step,
    step,
    update,
    wait_for_signal,
    workflow,
)
from reprise.kernel.clock import from_datetime
from reprise.kernel.events import Kind, run_stream
from reprise.stores.runs import RunFilter
from reprise.testing import ClockSkew, World

_TOWN: list[Town] = []
"""The one of the simulation that runs now: steps have no context that could name it."""
PATIENT = Retry(30, backoff=0.05)


class Town:
    """What is outside of all runs: dice, and a receiver of effects that counts."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.dice: Random = world.chance
        self.draws = 0
        self.acts: Counter[str] = Counter()
        """By idempotency key, how often the receiver acted."""
        self.undone: Counter[str] = Counter()
        self.lent: dict[str, str] = {}
        """By idempotency key of what was lent, the run."""

    def draw(self) -> int:
        """Return a number that nobody got before."""
        self.draws += 1
        return self.draws

    async def act(self, key: str, *, once: bool = False, until: datetime | None = None) -> None:
        """Do something outside; with ``once`` nothing that was done under that key, and nothing after ``until``."""
        await self.moment()
        if until is not None and self.world.loop.clock.now() >= from_datetime(until):
            raise TimeoutError("too late")
        if not (once and self.acts[key]):
            self.acts[key] += 1
        await self.moment()

    def check_durable(self, run: str, values: list[int]) -> None:
        """Fail the simulation if a body does something with numbers that are not in the log yet."""
        data = {bytes(record.data) for record in self.world.read_now(run_stream(run))}
        missing = [value for value in values if value > 0 and not any(b"%d" % value in one for one in data)]
        if missing:
            self.world.loop.fail(AssertionError(f"{run} acts on {missing}, which the log does not have"))

    async def moment(self, most: float = 0.05) -> None:
        """Take a while."""
        await asyncio.sleep(self.dice.random() * most)


def town() -> Town:
    return _TOWN[0]


# ---------------------------------------------------------------- steps


@step
async def draw(i: int) -> int:
    if town().dice.random() < 0.5:
        await town().moment()
    return town().draw()


@step(retry=PATIENT)
async def moody(i: int) -> int:
    if town().dice.random() < 0.4:
        raise ConnectionError("not now")
    return town().draw()


@step(pure=True)
async def pure_draw(i: int) -> int:
    await town().moment(0.03)
    return town().draw()


@step
async def tell(values: list[int]) -> list[int]:
    """Be told what the body remembers: it is durable, and its fingerprint holds that against what it remembers later."""
    town().check_durable(current_step().run, values)
    await town().moment()
    return values


@step(effect="keyed", key=lambda n: f"keyed-{n}", retry=PATIENT)
async def keyed(n: int) -> str:
    await town().act(current_step().idempotency_key, once=True)
    return f"keyed {n}"


async def look(intent: Intent) -> Any:
    await town().moment()
    return Done("done before") if town().acts[intent.key] else NOT_DONE


@step(effect="reconciled", reconcile=look, timeout=1.0, retry=PATIENT)
async def reconciled(n: int) -> str:
    await town().act(current_step().idempotency_key, until=current_step().until)
    return "done now"


async def give_back(undo: Undo) -> None:
    await town().moment()
    town().undone[undo.key] += 1
    town().world.weather.counts["undone"] += 1


@step(undo=give_back, timeout=1.0, retry=PATIENT)
async def lent(n: int) -> str:
    town().lent[current_step().idempotency_key] = current_step().run
    await town().act(current_step().idempotency_key, once=True)
    if town().dice.random() < 0.2:
        raise ConnectionError("the answer was lost")
    return f"lent {n}"


# ---------------------------------------------------------------- workflows


@workflow
async def gathers(n: int) -> list[list[int]]:
    """Do things side by side, in a lock's order, by a queue, and by who comes first."""
    lock, queue, got = asyncio.Lock(), asyncio.Queue[int](), list[int]()

    async def locked(i: int) -> None:
        await asyncio.sleep(0.01 * (i % 2))
        async with lock:
            got.append(await draw(i))

    async def puts(i: int) -> None:
        await queue.put(await draw(i))

    first = list(await asyncio.gather(*(draw(i) for i in range(n)), moody(n)))
    await asyncio.gather(*(locked(i) for i in range(n)), *(puts(i) for i in range(n)))
    said = await tell(got)
    return [first, said, [queue.get_nowait() for _ in range(n)]]


@workflow
async def times(n: int) -> list[int]:
    """Wait, wait too long, and wait side by side."""
    got = [await draw(0)]
    await asyncio.sleep(0.5)
    try:
        async with asyncio.timeout(0.3):
            await asyncio.sleep(3600)
    except TimeoutError:
        got.append(await draw(1))
    try:
        got.append(await asyncio.wait_for(draw(2), 0.02))
    except TimeoutError:
        got.append(-1)

    async def naps(i: int) -> None:
        await asyncio.sleep(0.1 * i)
        got.append(i)

    await asyncio.gather(*(naps(i) for i in range(n)))
    return await tell(got)


@workflow
async def hears(n: int) -> list[int]:
    """Collect letters."""
    got: list[int] = []
    while len(got) < n:
        got.append(await wait_for_signal("letter", int))
        if len(got) % 2:
            await draw(len(got))
    return await tell(got)


@workflow
async def shop(n: int) -> list[str]:
    """Take orders until it closes."""
    basket: list[str] = []
    full = asyncio.Event()

    @update
    async def put(item: str) -> int:
        await draw(len(basket))
        basket.append(item)
        if len(basket) == n:
            full.set()
        return len(basket)

    await full.wait()
    await draw(n)
    return basket


@workflow
async def leaf(n: int) -> list[int]:
    """Be a child."""
    await asyncio.sleep(0.05 * (n % 3))
    return [await draw(n), await moody(n)]


@workflow
async def family(n: int) -> list[list[int]]:
    """Have children, one after the other and together."""
    first = await leaf(0)
    return [first, *await asyncio.gather(*(leaf(i) for i in range(1, n)))]


@workflow
async def acts(n: int, *, agree: bool) -> list[str]:
    """Act outside; where clocks do not agree, only where a key is honoured: what ended by one goes on by another."""
    return list(await asyncio.gather(keyed(n), reconciled(n) if agree else keyed(n + 2), keyed(n + 1)))


@workflow
async def lends(n: int, *, keeps: bool) -> list[str]:
    """Take things that are given back should it fail, and perhaps fail."""
    got = list(await asyncio.gather(*(lent(i) for i in range(n))))
    await asyncio.sleep(0.2)
    got.append(await lent(n))
    if not keeps:
        raise ValueError("changed its mind")
    return got


@workflow
async def pipes(n: int) -> list[int]:
    """Draw ahead of the log, and tell it."""
    got: list[int] = []
    for i in range(n):
        got += await asyncio.gather(pure_draw(i), pure_draw(-i))
    return await tell(got)


@workflow
async def generations(to: int, got: list[int] | None = None) -> list[int]:
    """Begin anew after every letter."""
    got = [*(got or []), await wait_for_signal("letter", int)]
    await draw(len(got))
    return got if len(got) == to else continue_as(to, got)


@step
async def crowded(n: int) -> int:
    await town().moment(0.2)
    return n


@workflow(limits=Limit(concurrency=2))
async def limited(n: int) -> int:
    """Be one of two at a time."""
    return await crowded(n) + await crowded(n)


@workflow
async def cancelled(n: int) -> int:
    """Be stopped, and clean up."""
    try:
        await asyncio.sleep(1000)
    finally:
        await draw(n)
    return n


@workflow
async def long(n: int) -> int:
    """Take a while."""
    for i in range(n):
        await draw(i)
        await asyncio.sleep(1.0)
    return n


ALL = [long, gathers, times, hears, shop, leaf, family, acts, lends, pipes, generations, limited, cancelled]


# ---------------------------------------------------------------- those who want something of them


async def result_of(handle: Any) -> Any:
    """Return the result; a run that met so many crashes that somebody has to look at it is told to go on."""
    while True:
        try:
            return await handle.result()
        except RunNeedsAttention:
            await _resumes(handle)


async def end_of(handle: Any) -> Any:
    """Return how a run ended, likewise."""
    while (end := await handle.finished()).status == "needs_attention":
        await _resumes(handle)
    return end


async def _resumes(handle: Any) -> None:
    """Tell a run to go on, as somebody does who looked at it."""
    town().world.weather.counts["resumed by a person"] += 1
    await handle.resume()


async def run(app: Reprise, what: Any, *args: Any, id: str) -> Any:
    return await result_of(await app.start(what, *args, id=id))


async def wants_gathers(app: Reprise, id: str, n: int) -> None:
    first, locked, queued = await run(app, gathers, n, id=id)
    assert len(set(first)) == n + 1
    assert len(set(locked)) == len(set(queued)) == n


async def wants_times(app: Reprise, id: str, n: int) -> None:
    got = await run(app, times, n, id=id)
    assert len(got) == 3 + n
    assert got[3:] == list(range(n))


async def wants_hears(app: Reprise, id: str, n: int) -> None:
    await _writes(await app.start(hears, n, id=id), n)


async def wants_generations(app: Reprise, id: str, n: int) -> None:
    await _writes(await app.start(generations, n, id=id), n)


async def _writes(handle: Any, n: int) -> None:
    """Write letters, each twice under its id."""
    for i in range(n):
        await handle.signal("letter", i, id=f"letter-{i}")
        await town().moment(0.5)
        with suppress(RunEnded):
            await handle.signal("letter", i, id=f"letter-{max(0, i - 1)}")
    assert await result_of(handle) == list(range(n))


async def wants_shop(app: Reprise, id: str, n: int) -> None:
    handle = await app.start(shop, n, id=id)
    basket = asyncio.create_task(result_of(handle))
    said = await asyncio.gather(
        *(handle.update("put", f"item {i}", type=int, id=f"put-{i}", timeout=None) for i in range(n))
    )
    assert sorted(said) == list(range(1, n + 1))
    bought = await basket
    assert [bought[count - 1] for count in said] == [f"item {i}" for i in range(n)]


async def wants_family(app: Reprise, id: str, n: int) -> None:
    """Have a family; its children, too, may meet so many crashes that somebody has to look at them."""
    wanted = asyncio.create_task(run(app, family, n, id=id))
    while not (await asyncio.wait([wanted], timeout=60.0))[0]:
        for row in await app.store.runs.find(RunFilter(parent=id, status=["needs_attention"])):
            await _resumes(app.handle(row.id))
    got = await wanted
    assert len({number for pair in got for number in pair}) == 2 * n


async def wants_acts(app: Reprise, id: str, n: int) -> None:
    agree = town().world.weather.profile.get(ClockSkew) is None
    handle = await app.start(acts, 10 * n, kwargs={"agree": agree}, id=id)
    assert [word[:4] for word in await result_of(handle)] == ["keye", "done" if agree else "keye", "keye"]


async def wants_lends(app: Reprise, id: str, n: int) -> None:
    keeps = n % 2 == 0
    handle = await app.start(lends, n, kwargs={"keeps": keeps}, id=id)
    if town().dice.random() < 0.4:
        await town().moment(0.6)
        with suppress(RunEnded):
            await handle.cancel("changed its mind")
        # It may have ended before; and a step that fails while it is asked to stop lets the run fail.
        assert (await end_of(handle)).status in ("cancelled", "failed", "completed" if keeps else "failed")
        return
    assert (await end_of(handle)).status == ("completed" if keeps else "failed")


async def wants_pipes(app: Reprise, id: str, n: int) -> None:
    got = await run(app, pipes, n, id=id)
    assert len(set(got)) == 2 * n


async def wants_limited(app: Reprise, id: str, n: int) -> None:
    handles = [await app.start(limited, i, id=f"{id}-{i}") for i in range(n + 3)]
    assert [await result_of(handle) for handle in handles] == [2 * i for i in range(n + 3)]


async def wants_cancelled(app: Reprise, id: str, n: int) -> None:
    handle = await app.start(cancelled, n, id=id)
    await town().moment(1.0)
    await handle.cancel("enough")
    assert (await end_of(handle)).status == "cancelled"


WANTS = [value for name, value in sorted(globals().items()) if name.startswith("wants_")]


async def check_receiver(town: Town, app: Reprise) -> None:
    """Every effect happened once, and what was lent was given back if the run did not complete, and only then."""
    twice = {key: count for key, count in town.acts.items() if count != 1}
    assert not twice, f"acted more than once: {twice}"
    for key, run in town.lent.items():
        status = await app.handle(run).status()
        if town.acts[key] and (status == "completed") == bool(town.undone[key]):
            raise AssertionError(f"{run} is {status}, and what it lent was undone {town.undone[key]} times")


async def check_replays(app: Reprise) -> None:
    """Every history, replayed by the code that wrote it, comes to the end that it recorded."""
    for row in await app.find("", limit=1000):
        replay = await app.replay(row.id)
        owners = [record for record in await app.client.history(row.id) if record.kind == Kind.RUN_OWNED]
        town().world.weather.counts["take-overs"] += max(0, len(owners) - 1)
        assert replay.verdict == "reached", f"{row.id} is replayed otherwise: {replay.reason}"


def check_nobody_lost(world: World) -> None:
    """Where nothing goes wrong, nobody takes a run from another."""
    lost = sum(app.engine.counters["lost"] for app in world.apps())
    assert not lost, f"{lost} runs were taken from workers that were well"


async def lives(world: World, *, wants: int = 3) -> None:
    """Let some of all this happen at once."""
    made = Town(world)
    _TOWN[:] = [made]
    world.workers(2, workflows=ALL)
    async with world.client(workflows=ALL) as app, asyncio.TaskGroup() as group:
        for number, want in enumerate(world.chance.sample(WANTS, wants)):
            n = world.chance.randint(1, 3)
            group.create_task(want(app, f"{want.__name__[6:]}-{number}", n), name=want.__name__)
    await world.settle()
    async with world.client(workflows=ALL) as app:
        await check_receiver(made, app)
        await check_replays(app)


async def lives_calmly(world: World) -> None:
    """The same where nobody dies: nothing is lost to another, and a run that takes longer than a lease is let alone."""
    made = Town(world)
    _TOWN[:] = [made]
    world.workers(2, workflows=ALL)
    async with world.client(workflows=ALL) as app:
        handle = await app.start(long, 5, id="long")
        assert await result_of(handle) == 5
        check_nobody_lost(world)
