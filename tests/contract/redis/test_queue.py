"""What is Redis's own in queues: calls that are shared, answers that get lost, servers that are full or killed."""

import asyncio
import random
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from struct import unpack_from

import pytest

from reprise.kernel.errors import StoreFull
from reprise.stores.queue import Settlement, Task
from reprise.stores.redis.turns import MUCH
from reprise.testing.suites import until
from reprise.testing.suites.keeper import soon

LONG = 3600


@pytest.fixture
def redis(killable_redis):
    return killable_redis


def tasks(count, queue="q"):
    """Return tasks with data of their own."""
    return [Task(f"{number:05}", queue, f"work {number}".encode()) for number in range(count)]


def lose_the_next_answer(store):
    """Cut the connection when the server has done what it was asked, before anybody hears of it."""
    link = store._wire._link
    link.data_received = lambda data: link.transport.abort()


def hold_answers(store):
    """Let no answer in until what is returned is called."""
    link, held = store._wire._link, []
    link.data_received = held.append

    def let_in():
        del link.data_received
        link.data_received(b"".join(held))

    return let_in


async def turns():
    for _ in range(3):
        await asyncio.sleep(0)


async def full(keeper):
    await keeper.ask("CONFIG", "SET", "maxmemory", "1")


async def roomy(keeper):
    await keeper.ask("CONFIG", "SET", "maxmemory", "0")


# ---------------------------------------------------------------- one call for many


async def test_what_is_asked_in_one_turn_is_one_call(store):
    await store.queue.offer([Task("first", "q")])
    before = store.statistics()["commands"]
    answers = await asyncio.gather(*(store.queue.offer([task, task]) for task in tasks(300)))
    assert answers == [[True, False]] * 300
    assert store.statistics()["commands"] == before + 1
    offer, [task], stats = await asyncio.gather(
        store.queue.offer([Task("last", "q", order=-1)]),
        store.queue.claim("q", "w", 1, LONG),
        store.queue.stats("q"),
    )
    assert (offer, task.id, stats.ready, stats.claimed) == ([True], "last", 301, 1)
    assert store.statistics()["commands"] == before + 2


async def test_what_is_asked_meanwhile_waits_for_the_answer_and_goes_together(store):
    await store.queue.offer([Task("first", "q")])
    before, let_in = store.statistics()["commands"], hold_answers(store)
    first = asyncio.create_task(store.queue.offer(tasks(1)))
    await turns()
    others = [asyncio.create_task(store.queue.offer([task])) for task in tasks(MUCH - 1)]
    await turns()
    assert store.statistics()["commands"] == before + 1
    let_in()
    assert await first == [True]
    assert Counter(answer for [answer] in await asyncio.gather(*others)) == {True: MUCH - 2, False: 1}
    assert store.statistics()["commands"] == before + 2


async def test_much_does_not_wait_and_two_calls_whose_answers_are_lost_are_each_done_once(store):
    await store.queue.offer(tasks(60))
    held, link = [], store._wire._link
    link.data_received = held.append
    first = asyncio.create_task(store.queue.claim("q", "w", 5, LONG))
    await turns()
    others = [asyncio.create_task(store.queue.claim("q", "w", 1, LONG)) for _ in range(MUCH)]
    await until(lambda: asyncio.sleep(0, held), "the first is answered")
    assert len(link.calls) == 2
    link.transport.abort()
    claimed = [*await first, *(task for [task] in await asyncio.gather(*others))]
    assert len({task.id for task in claimed}) == len(claimed) == 5 + MUCH
    assert (await store.queue.stats("q")).claimed == 5 + MUCH
    assert store.statistics()["connections"] == 2


async def test_many_at_once(store):
    """More than one command takes."""
    every = tasks(10_000)
    assert all(await store.queue.offer(every))
    claimed = await store.queue.claim("q", "w", 9_000, LONG)
    assert [task.id for task in claimed] == [task.id for task in every[:9_000]]
    assert all(await store.queue.extend(claimed, LONG))
    assert all(await store.queue.settle([Settlement(task, "done") for task in claimed]))
    assert len(await store.queue.find("q", "done", 9_000)) == 9_000
    assert [task.id for task in await store.queue.find("q", limit=3, skip=8_999)] == [
        "08999",
        "09000",
        "09001",
    ]
    assert await store.queue.change("q", [task.id for task in every], state="gone") == 10_000
    assert await store.queue.names() == []


async def test_a_server_that_knows_nothing_any_more_is_told_the_names_of_queues_again(keeper, store):
    """Before what was under way is asked again."""
    await store.queue.offer(tasks(1))
    await keeper.ask("DEL", f"{keeper.prefix}:1:queues", f"{keeper.prefix}:1:queue:{{q}}:task")
    lose_the_next_answer(store)
    await store.queue.offer(tasks(2))
    assert await soon(store.queue.names()) == ["q"]


async def test_nothing_is_left_of_a_queue_that_is_empty(keeper, store):
    """But its counts."""
    await store.queue.offer([*tasks(4), Task("later", "q", delay=LONG), Task("dead", "q")])
    for task, state in zip(
        await store.queue.claim("q", "w", 9, LONG), ("done", "gone", "ready", "back", "dead"), strict=True
    ):
        await store.queue.settle([Settlement(task, state, note="why", outcome=b"what", keep=LONG)])
    assert await store.queue.change("q", [task.id for task in await store.queue.find("q")], state="gone") == 5
    keys = {key.decode().rpartition("}")[2] for key in await keeper.ask("KEYS", f"{keeper.prefix}:1:queue:*")}
    assert {key.partition(".")[0].partition(":said:")[0] for key in keys} == {":meta", ":levels", ""}


# ---------------------------------------------------------------- lost answers


async def test_what_is_asked_again_was_done_once(store):
    await store.queue.offer([Task("first", "q")])
    lose_the_next_answer(store)
    assert await soon(store.queue.offer(tasks(3))) == [True] * 3
    lose_the_next_answer(store)
    [first] = await soon(store.queue.claim("q", "w", 1, LONG))
    assert (first.id, first.claims) == ("first", 1)
    lose_the_next_answer(store)
    assert await soon(store.queue.settle([Settlement(first, "done")])) == [True]
    lose_the_next_answer(store)
    answers = await soon(
        asyncio.gather(
            store.queue.claim("q", "w", 2, LONG), store.queue.offer(tasks(4)), store.queue.stats("q")
        )
    )
    assert ([task.id for task in answers[0]], answers[1]) == (["00000", "00001"], [False] * 3 + [True])
    assert answers[2].claimed == 2
    lose_the_next_answer(store)
    assert await soon(store.queue.change("q", ["00003"], state="gone")) == 1
    assert store.statistics()["connections"] == 6


async def test_what_comes_for_nobody_is_given_back(store):
    """Its caller was cancelled while the server did it."""
    await store.queue.offer(tasks(2))
    claiming = asyncio.create_task(store.queue.claim("q", "w", 1, LONG))
    for _ in range(3):
        await asyncio.sleep(0)
    claiming.cancel()
    with pytest.raises(asyncio.CancelledError):
        await claiming

    async def back():
        return (await store.queue.stats("q")).ready == 2

    await until(back, "it is given back")
    assert [task.claims for task in await store.queue.claim("q", "w", 2, LONG)] == [1, 1]


# ---------------------------------------------------------------- a full server


async def test_a_full_server_takes_no_more_and_lets_go_what_it_has(keeper, store):
    await store.queue.offer([*tasks(5), Task("soon", "q", delay=0.001)])
    await keeper.pass_time(0.01)
    await full(keeper)
    try:
        with pytest.raises(StoreFull):
            await store.queue.offer([Task("x", "q"), Task("x", "p")])
        claimed = await store.queue.claim("q", "w", 6, LONG)
        assert len(claimed) == 6
        assert all(await store.queue.extend(claimed, LONG))
        answers = await asyncio.gather(
            store.queue.offer([Task("y", "q")]),
            store.queue.settle([Settlement(task, "done", outcome=b"it") for task in claimed]),
            store.queue.pause("q", paused=True),
            return_exceptions=True,
        )
        assert isinstance(answers[0], StoreFull)
        assert answers[1:] == [[True] * 6, None]
    finally:
        await roomy(keeper)
    stats = await store.queue.stats("q")
    assert (stats.done, stats.ready, stats.paused) == (6, 0, True)
    assert await store.queue.names() == ["q"]


# ---------------------------------------------------------------- kill -9

WORKER = """
import asyncio, os, sys
from reprise.stores.queue import Settlement
from reprise.stores.redis import RedisStore

async def main(url, prefix, effects):
    store = RedisStore(url, prefix=prefix, patience=30)
    await store.start()
    out = os.open(effects, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    while True:
        claimed = await store.queue.claim("q", str(os.getpid()), 20, 0.5)
        for task in claimed:
            os.write(out, task.id.encode() + b"\\n")
            await store.queue.settle([Settlement(task, "done", outcome=task.data)])
        await asyncio.sleep(0.01 if not claimed else 0)

asyncio.run(main(*sys.argv[1:]))
"""


async def test_nothing_is_lost_when_workers_and_the_server_are_killed(redis, keeper, store, tmp_path):
    """Each task is done, its outcome kept, and offered once however often an offer was asked again."""
    count, dice = 1_000, random.Random(7)
    effects = tmp_path / "effects"

    def worker():
        return subprocess.Popen([sys.executable, "-c", WORKER, redis.url, keeper.prefix, str(effects)])

    workers = [worker() for _ in range(2)]
    offering = asyncio.gather(*(store.queue.offer(tasks(count)[at : at + 10]) for at in range(0, count, 10)))
    try:
        for turn in range(4):
            await asyncio.sleep(0.4)  # let them do something
            victim = dice.randrange(2)
            workers[victim].kill()
            workers[victim].wait()
            workers[victim] = worker()
            if turn % 2:
                await asyncio.to_thread(redis.crash)
        assert await soon(offering) == [[True] * 10] * (count // 10)

        async def done():
            return (await store.queue.stats("q")).done == count

        await until(done, "all are done")
    finally:
        for each in workers:
            each.kill()
            each.wait()
        offering.cancel()
        with suppress(asyncio.CancelledError):
            await offering
    assert (await store.queue.stats("q")).finished == count
    kept = await store.queue.find("q", "done", count)
    assert {task.id: task.outcome for task in kept} == {task.id: task.data for task in tasks(count)}
    seen = Counter((await asyncio.to_thread(effects.read_text)).split())
    assert len(seen) == count
    assert sum(seen.values()) <= count + 4 * 20, "only what a killed worker had is done again"


# ---------------------------------------------------------------- what is derived


async def derived(keeper):
    """Return what the queue derives from its places, and the same counted one by one."""
    key = f"{keeper.prefix}:1:queue:{{q}}"
    ready = [place[16:] for place in await keeper.ask("ZRANGE", f"{key}:ready", 0, -1)]
    heads = [
        unpack_from(">ddddi", head) for head in (await keeper.ask("HMGET", f"{key}:task", b"", *ready))[1:]
    ]
    counted = Counter(b"%d" % max(due, offered) for _, due, offered, _, _ in heads)
    times = {time: int(count) for time, count in (await keeper.ask("HGETALL", f"{key}:since:count")).items()}
    levels = {
        int(level): int(count) for level, count in (await keeper.ask("HGETALL", f"{key}:levels")).items()
    }
    return (
        (times, sorted(times), {level: count for level, count in levels.items() if count}),
        (
            dict(counted),
            await keeper.ask("ZRANGE", f"{key}:since", 0, -1),
            dict(Counter(head[4] for head in heads)),
        ),
    )


@pytest.mark.parametrize("seed", range(4))
async def test_what_is_counted_fits_what_is_there(keeper, store, seed):
    """After whatever was done: who is ready since when and of which level, and what is kept until when."""
    dice, held, cases = random.Random(seed), [], Counter()
    for number in range(100):
        what = dice.choice(("offer", "offer", "claim", "settle", "settle", "change", "lapse", "sweep"))
        if what == "offer":
            some = [
                Task(f"{dice.randrange(40)}", "q", b"x" * dice.randrange(9), dice.random(), level=dice.randrange(3),
                     delay=dice.choice((0, 0, 0.002)))
                for _ in range(dice.randrange(1, 9))
            ]  # fmt: skip
            cases["offered"] += sum(await store.queue.offer(some))
        elif what in ("claim", "lapse"):
            held += await store.queue.claim(
                "q", "w", dice.randrange(1, 6), LONG if what == "claim" else 0.001
            )
        elif what == "settle":
            dice.shuffle(held)
            ending, held = held[:4], held[4:]
            states = [dice.choice(("done", "dead", "gone", "ready", "back")) for _ in ending]
            ends = [
                Settlement(task, state, delay=dice.choice((0, 0.002)), outcome=b"o" * dice.choice((1, 600)),
                           keep=dice.choice((None, 0.003, 0.005, LONG)))
                for task, state in zip(ending, states, strict=True)
            ]  # fmt: skip
            stood = await store.queue.settle(ends)
            cases.update(state for state, each in zip(states, stood, strict=True) if each)
        elif what == "change":
            ids = [f"{dice.randrange(40)}" for _ in range(3)]
            state, due_at = dice.choice((None, "ready", "dead", "gone")), dice.choice((None, 0))
            cases["changed"] += await store.queue.change("q", ids, due_at=due_at, state=state)
        else:
            cases["swept"] += await store.queue.sweep("q", dice.randrange(1, 5))
        found, counted = await derived(keeper)
        assert found == counted, f"after {what}, the {number}th"
        if number % 10 == 9:
            stats = await store.queue.stats("q")
            for state, count in (("done", stats.done), ("dead", stats.dead)):
                assert count == len(await store.queue.find("q", state)), (
                    f"{state} after {what}, the {number}th"
                )
    assert cases.keys() >= {"offered", "done", "dead", "gone", "ready", "back"}
    assert min(cases["changed"], cases["swept"]) > 0
