"""Shared state: instances are killed and stopped again and again; all agree, nothing is lost, all hear everything."""

import asyncio
import os
import random
import signal
import time
from collections import Counter
from contextlib import suppress
from itertools import count, pairwise

import msgspec
import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError
from tests.crash.conftest import CYCLES, SEED, again
from tests.crash.places import PATIENCE
from tests.crash.state_main import ACKED, STOP, TRIED

from reprise.stores import open_store

INSTANCES, KILLS = 8, max(5, CYCLES // 20)
BETWEEN = 50
"""Bytes of the list of what was tried, two words a time or so, from one kill to the next."""
SPACE = "state/app"
CHANNEL = "control"
MUST_OCCUR = {
    "combined or contended": "increments",
    "lost by the control": "kills of the control",
    "connections cut": "kills",
    "kills of redis": "kills",
    "control: messages missed by plain pub/sub": "control: messages told by plain pub/sub",
}
pytestmark = pytest.mark.timeout(120 + 3 * KILLS)


class Round:
    """Eight instances of one namespace."""

    def __init__(self, nursery, folder, url, seed, **how):
        self.nursery, self.folder, self.url, self.how = nursery, folder, url, how
        self.dice = random.Random(seed)
        self.lives = {}
        self.killed = 0

    async def run(self, kills):
        """Kill and stop instances, then let all come to rest; keep what the store says in the end."""
        store = open_store(self.url)
        await store.start()
        for n in range(INSTANCES):
            (self.folder / f"slot.{n}").touch()
            self.start(f"{n}")
        try:
            for _ in range(kills):
                await self.work_goes_on()
                await asyncio.sleep(self.dice.uniform(0.0, 0.1))
                await self.disturb()
            await self.work_goes_on()
            (self.folder / STOP).touch()
            until = time.monotonic() + PATIENCE
            while len(list(self.folder.glob("final.*"))) < INSTANCES:
                assert time.monotonic() < until, await self.explained()
                await asyncio.sleep(0.05)
            self.feed = await self.read_feed(store)
            values = {
                cell.name: msgspec.json.decode(cell.data) for cell in (await store.cells.scan(SPACE)).cells
            }
            self.values = msgspec.json.encode(values, order="sorted").decode()
            self.state = values
        finally:
            self.nursery.kill(*self.lives.values())
            await store.stop()

    async def work_goes_on(self):
        """Wait until more was counted: what nobody disturbs shows nothing."""
        tried, until = self.folder / TRIED, time.monotonic() + PATIENCE
        enough = (tried.stat().st_size if tried.exists() else 0) + BETWEEN
        while not tried.exists() or tried.stat().st_size < enough:
            assert time.monotonic() < until, await self.explained()
            await asyncio.sleep(0.01)

    async def explained(self):
        """Return what those say who have not ended, and which these are."""
        for pid in self.lives.values():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGUSR1)
        await asyncio.sleep(1)
        ended = sorted(each.name for each in self.folder.glob("final.*"))
        return f"{ended}, {(self.folder / 'stderr').read_text()}"

    def start(self, name):
        self.lives[name] = self.nursery.spawn("state", self.folder, store=self.url, name=name, **self.how)

    async def disturb(self):
        name = self.dice.choice(sorted(self.lives))
        if self.dice.random() < 0.3:
            os.kill(self.lives[name], signal.SIGSTOP)
            await asyncio.sleep(self.dice.uniform(0.05, 0.2))
            os.kill(self.lives[name], signal.SIGCONT)
        else:
            self.nursery.kill(self.lives[name])
            self.killed += 1
            self.start(name)

    async def read_feed(self, store):
        feed, position = [], 0
        while page := await store.cells.feed(SPACE, position):
            feed += page
            position = page[-1].position
        return feed

    def lines(self, file):
        return [line.split() for line in (self.folder / file).read_text().splitlines()]

    def judge(self, counts, told):
        tried = Counter(what for (what,) in self.lines(TRIED))
        acked = {what: [int(n) for w, n in self.lines(ACKED) if w == what] for what in ("n", "visits")}
        total = {"n": self.state["n"], "visits": self.state["page"]["visits"]}
        for what, numbers in acked.items():
            # Of those on their way at a kill nobody knows; no other is lost, and none is counted twice.
            assert len(numbers) <= total[what] <= tried[what], told
            assert len(set(numbers)) == len(numbers), told
        counts["increments"] += total["n"]
        counts["combined or contended"] += total["n"] - sum(entry.name == "n" for entry in self.feed)
        steps = [msgspec.json.decode(entry.data) for entry in self.feed if entry.name == "n"]
        assert all(before < after for before, after in pairwise(steps)), told
        for final in self.folder.glob("final.*"):
            assert final.read_text().strip() == self.values, told
        positions = [entry.position for entry in self.feed]
        logs = list(self.folder.glob("heard.*"))
        assert len(logs) > 1, told
        for log in logs:
            heard = [int(version) for version, _, _ in self.lines(log.name)]
            first = positions.index(heard[0])
            assert heard == positions[first : first + len(heard)], told
            counts["updates heard"] += len(heard)
        assert not any(gap == "1" for log in logs for _, _, gap in self.lines(log.name)), told


class RedisRound(Round):
    """The same over a Redis that is killed, too, and cuts connections; beside it somebody relies on pub/sub alone."""

    def __init__(self, nursery, folder, server, seed, **how):
        super().__init__(nursery, folder, f"{server.url}?prefix=state{seed}&patience=60", seed, **how)
        self.server = server
        self.cut = self.crashes = 0
        self.told, self.heard = set(), set()
        self.is_over = False
        self.deck = []
        """What is to happen next: all of it, also in a short run."""

    async def run(self, kills):
        async with asyncio.TaskGroup() as beside:
            beside.create_task(self.publish())
            beside.create_task(self.listen())
            try:
                await super().run(kills)
            finally:
                self.is_over = True

    async def disturb(self):
        if not self.deck:
            self.deck = self.dice.sample(("process", "cut", "cut", "server"), 4)
        match self.deck.pop():
            case "process":
                await super().disturb()
            case "cut":
                await self.cut_some()
            case "server":
                await asyncio.to_thread(self.server.crash)
                self.crashes += 1

    async def cut_some(self):
        """Cut half of all connections, at random."""
        async with Redis.from_url(self.server.url) as client:
            me = await client.client_id()
            others = [each["id"] for each in await client.client_list() if int(each["id"]) != me]
            for one in self.dice.sample(others, len(others) // 2):
                self.cut += await client.client_kill_filter(_id=one)

    async def publish(self):
        async with Redis.from_url(self.server.url) as client:
            for number in count():
                if self.is_over:
                    return
                with suppress(RedisError, OSError):
                    await client.publish(CHANNEL, number)
                    self.told.add(number)
                await asyncio.sleep(0.002)

    async def listen(self):
        """Listen, and again a moment after the connection was lost."""
        while not self.is_over:
            with suppress(RedisError, OSError):
                async with Redis.from_url(self.server.url) as client, client.pubsub() as channel:
                    await channel.subscribe(CHANNEL)
                    while not self.is_over:
                        message = await channel.get_message(ignore_subscribe_messages=True, timeout=0.1)
                        if message:
                            self.heard.add(int(message["data"]))
            await asyncio.sleep(0.02)


def judge(round, counts, told):
    asyncio.run(round.run(KILLS))
    counts["kills"] += KILLS
    round.judge(counts, told)


def test_all_agree_over_kills_in_a_file(nursery, tmp_path, counts, request):
    judge(Round(nursery, tmp_path, f"sqlite:///{tmp_path}/state.db", SEED), counts, again(request, SEED))


def test_all_agree_over_kills_on_a_server(nursery, tmp_path, killable_postgres, counts, request):
    url = f"{killable_postgres.url}&schema=crash_state"
    judge(Round(nursery, tmp_path, url, SEED), counts, again(request, SEED))


def test_all_agree_over_kills_of_instances_connections_and_redis(
    nursery, tmp_path, killable_redis, counts, request
):
    """What it answered is on its disk (``appendfsync always``); who is cut off hears later what it missed."""
    round = RedisRound(nursery, tmp_path, killable_redis, SEED)
    judge(round, counts, again(request, SEED))
    counts["connections cut"] += round.cut
    counts["kills of redis"] += round.crashes
    counts["control: messages told by plain pub/sub"] += len(round.told)
    counts["control: messages missed by plain pub/sub"] += len(round.told - round.heard)


@pytest.mark.parametrize("keeper", ["file", "redis"])
def test_who_reads_and_writes_what_was_read_loses_some(nursery, tmp_path, counts, keeper, request):
    """The control: what is lost is noticed."""
    if keeper == "redis":
        round = RedisRound(nursery, tmp_path, request.getfixturevalue("killable_redis"), SEED + 1, bare=True)
    else:
        round = Round(nursery, tmp_path, f"sqlite:///{tmp_path}/state.db", SEED, bare=True)
    asyncio.run(round.run(KILLS))
    tried = sum(what == "n" for (what,) in round.lines(TRIED))
    counts["kills of the control"] += KILLS
    counts["lost by the control"] += max(0, tried - round.state["n"] - round.killed * 3)
