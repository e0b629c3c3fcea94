"""Fifty contend for locks while holders stand still past their time and servers are killed or stand still, too.

Every call is recorded, and every history held against a lock with fencing tokens. What is protected takes no stale write.
Beside it, in the same processes, under the same pauses: redis-py's own lock, which has no token; there it does take some.
"""

import os
import random
import select
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

import msgspec
import pytest
from tests.conftest import oldest_and_newest, start_or_skip
from tests.crash.conftest import CYCLES, SEED, again
from tests.crash.contender_main import BEGIN, ENOUGH, LOST, PLAIN, STOPS, Resource
from tests.servers import redis_installs, start_redis

from reprise.testing import FencedLock, History, check_linearizable
from reprise.testing.linearizable import Operation
from reprise.testing.sequential import Held, Locked

CONTENDERS = 50
TTL = 0.3
SLACK = 0.05
"""Seconds by which the clock of a server and of this machine may drift apart within a history."""
LONG = CYCLES > 200
PROCESSES = 10
HISTORIES = CYCLES // 5 if LONG else 2
"""Of one server, and of three masters; ``make crash`` asks for 1,000 of each."""
HOLDERS, HOLDERS_OF_MASTERS = (50, 10) if LONG else (25, 5)
"""How often a lock is taken in a history."""
STOPS_OF_HOLDERS = 0.1 if LONG else 0.25
"""Probability with which a holder stands still."""
LANES = [PLAIN, *(f"fenced{number}" for number in range(4 if LONG else 2))]
PATIENCE = 7200 if LONG else 60
MUST_OCCUR = {
    "holders that stood still": "histories",
    "stale writes tried": "histories",
    "locks that were lost": "histories",
    "kills of Redis": "histories of one server",
    "pauses of a master": "histories of three masters",
    "contrast: stale writes taken of redis-py's": "contrast: writes under redis-py's Lock",
}


@pytest.fixture(scope="module")
def masters():
    """Three servers that keep what they answered."""
    install = oldest_and_newest(redis_installs())[-1]
    if install.url:
        pytest.skip("the server of REPRISE_TEST_REDIS is one, and not ours to stop")
    options = ("--appendonly", "yes", "--appendfsync", "always")
    servers = [start_or_skip(install, *options, start=start_redis) for _ in range(3)]
    yield servers
    for server in servers:
        server.stop()


class Arena:
    """Fifty processes, what they write to, and what befalls them."""

    def __init__(self, nursery, folder: Path, urls, lanes, *, holders: int, seed: int) -> None:
        folder.mkdir()
        os.mkfifo(folder / STOPS)
        (folder / LOST).touch()
        self.folder, self.nursery, self.lanes, self.holders = folder, nursery, lanes, holders
        self.resource = Resource(folder)
        self.resource.make()
        self.stopped: dict[int, tuple[str, str, float]] = {}
        self.stops = 0
        self.overtaken = Counter[str]()
        """By lane: holders whose successor wrote while they stood still, so that all they write then is stale."""
        self._said = os.open(folder / STOPS, os.O_RDONLY | os.O_NONBLOCK)
        told = {
            "stores": urls,
            "lanes": lanes,
            "ttl": TTL,
            "holders": holders,
            "stops": STOPS_OF_HOLDERS,
            "seed": seed,
        }
        told["tasks"] = CONTENDERS // PROCESSES
        self.processes = [nursery.spawn("contender", folder, **told) for _ in range(PROCESSES)]
        ready = b""
        while ready.count(b"ready") < PROCESSES:
            ready += self._hear(60)
        (folder / BEGIN).touch()

    def histories(self) -> int:
        """Return how many histories of our lock are over."""
        return sum(not name.startswith(PLAIN) for name in self.resource.over(self.holders))

    def _hear(self, seconds: float) -> bytes:
        """Return what processes said, after a while at the latest."""
        return os.read(self._said, 65536) if select.select([self._said], [], [], seconds)[0] else b""

    def look(self, *, patience: float = 20 * TTL) -> None:
        """Take note of who stands still; let go on whose successor has written, or who waits for that too long."""
        for line in self._hear(0.005).decode().splitlines():
            pid, name, holder = line.split()
            self.stopped[int(pid)] = name, holder, time.monotonic() + patience
            self.stops += 1
        for pid, (name, holder, until) in list(self.stopped.items()):
            overtaken = self.resource.succeeded(name, holder)
            if is_stopped(pid) and (overtaken or time.monotonic() > until):
                self.overtaken[name.partition("/")[0]] += overtaken
                del self.stopped[pid]
                os.kill(pid, signal.SIGCONT)

    def end(self) -> None:
        """Say that it is enough and wait until all have written what they saw."""
        (self.folder / ENOUGH).touch()
        self.stopped = {pid: (name, holder, 0.0) for pid, (name, holder, _) in self.stopped.items()}
        until = time.monotonic() + 60
        while any(self.nursery.ended(pid) is None for pid in self.processes):
            self.look(patience=0)
            assert time.monotonic() < until, "a contender does not end"

    def close(self) -> None:
        """Leave nothing behind."""
        self.nursery.kill(*self.processes)
        self.resource.close()
        os.close(self._said)


def is_stopped(pid: int) -> bool:
    """Tell whether a process stands still, not only said that it is about to."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def stale(writes, tokens) -> int:
    """Return how many writes were taken of a holder after one of its successors wrote."""
    highest, found = Counter(), 0
    for write in writes:
        name, token = write[0], tokens(write)
        found += bool(write[3]) and token < highest[name]
        highest[name] = max(highest[name], token if write[3] else 0)
    return found


def live(arena: Arena, histories: int, disturb) -> None:
    """Let all contend until there are so many histories, and in each lane holders that were overtaken."""
    until = time.monotonic() + PATIENCE
    while (done := arena.histories()) < histories or not all(arena.overtaken[lane] for lane in arena.lanes):
        arena.look()
        disturb()
        assert time.monotonic() < until, f"{done} histories: {(arena.folder / 'stderr').read_text()[-2000:]}"
    arena.end()


def judge(arena: Arena, counts: Counter[str], hint: str, *, voted: bool = False) -> None:
    """Hold every history, and what was written, against the promise; ``voted`` where several keepers gave the lock."""
    by_name = defaultdict(list)
    for operation in History.load(*arena.folder.glob("history.*")).operations:
        # To whom others are in line before says nothing; nor does who was cancelled, and so uses no token.
        if operation.name != "take" or is_grant(operation):
            by_name[operation.key].append(operation)
    for operations in by_name.values():
        check_linearizable([narrowed(each, voted=voted) for each in operations], HeardLate(operations))
    writes = arena.resource.all()
    fenced = [write for write in writes if write[1]]
    counts["histories"] += arena.histories()
    counts["calls recorded"] += sum(map(len, by_name.values()))
    counts["holders that stood still"] += arena.stops
    counts["of these overtaken"] += arena.overtaken.total()
    counts["locks that were lost"] += (arena.folder / LOST).read_text().count("LockLost")
    counts["writes"] += len(fenced)
    counts["stale writes tried"] += sum(not taken for *_, taken in fenced)
    assert stale(fenced, lambda write: write[1]) == 0, hint


def narrowed(operation: Operation, *, voted: bool) -> Operation:
    """Let a lock be asked for just before it was given and answered just after: its keeper said when that was.

    Whoever waits or stands still has calls open for long; what is explained between closer bounds is between wider ones.
    Where keepers vote, that is when the first of the majority gave it; the last of them may have done so any time later.
    """
    if not isinstance(operation.result, tuple):
        return operation
    result, given_at = operation.result
    began = max(operation.began, given_at - SLACK / 10)
    ended = operation.ended if voted else min(operation.ended, given_at + SLACK / 10)
    assert began <= ended, f"a grant that was given at another time than it was asked for: {operation}"
    return msgspec.structs.replace(operation, result=result, began=began, ended=ended)


class HeardLate(FencedLock):
    """A lock whose grants last from when they were given until after they were heard of: who waits asks again meanwhile.

    ``lift(holder, token, least) -> token or None`` gives a grant a higher token: those of one process hand it on below that.
    """

    def __init__(self, operations: Iterable[Operation]) -> None:
        super().__init__(slack=SLACK, fair=True)
        self._heard = {each.result[0]: each.ended for each in operations if is_grant(each)}

    def _apply(self, now: Locked, operation: Operation) -> Iterable[Locked]:
        if operation.name != "lift":
            return super()._apply(now, operation)
        holder, token, least = operation.args
        mine = next((each for each in now.held if (each.holder, each.token) == (holder, token)), None)
        if mine is None or operation.result is None:
            return (now,) if mine is None and (operation.result is None or not operation.known) else ()
        lifted = operation.result if operation.known else least
        if lifted < least or token < lifted <= now.highest != token:
            return ()
        held = now.held - {mine} | {mine._replace(token=lifted)}
        return (now._replace(highest=max(now.highest, lifted), held=held),)

    def _grant(self, operation: Operation, holder: str, token: int, ttl: float) -> Held:
        grant = super()._grant(operation, holder, token, ttl)
        heard = self._heard.get(token, 0.0) if operation.name == "take" else 0.0
        return grant._replace(latest=max(grant.latest, heard + ttl + SLACK))


def is_grant(operation: Operation) -> bool:
    """Tell whether somebody got a lock."""
    return operation.name == "take" and isinstance(operation.result, tuple)


@pytest.mark.timeout(PATIENCE + 120)
def test_one_server_that_is_killed(nursery, tmp_path, counts, request, killable_redis):
    arena = Arena(nursery, tmp_path / "s", [killable_redis.url], LANES, holders=HOLDERS, seed=SEED)
    dice, moment, before = random.Random(SEED), [time.monotonic() + 1], [0]

    def disturb():
        # Only one that is up again: a long file of commands takes a while to read.
        if time.monotonic() > moment[0] and (now := arena.resource.last()) > before[0]:
            killable_redis.crash()
            counts["kills of Redis"] += 1
            moment[0], before[0] = time.monotonic() + dice.uniform(1, 3), now + 100

    try:
        live(arena, HISTORIES, disturb)
        judge(arena, counts, again(request, SEED))
        counts["histories of one server"] += arena.histories()
        judge_contrast(arena, counts)
    finally:
        arena.close()


def judge_contrast(arena: Arena, counts: Counter[str]) -> None:
    """Count what was written under a lock without tokens by holders that had been succeeded."""
    plain = [write for write in arena.resource.all() if not write[1]]
    order: dict[str, int] = {}
    for _, _, holder, _ in plain:
        order.setdefault(holder, len(order) + 1)
    found = stale(plain, lambda write: order[write[2]])
    counts["contrast: writes under redis-py's Lock"] += len(plain)
    counts["contrast: stale writes taken of redis-py's"] += found
    assert found, "nothing stale was taken where it must be: the zero beside it means nothing"


@pytest.mark.timeout(PATIENCE + 120)
def test_three_masters_of_which_one_stands_still(nursery, tmp_path, counts, request, masters):
    urls = [server.url for server in masters]
    arena = Arena(nursery, tmp_path / "s", urls, [PLAIN, "fenced"], holders=HOLDERS_OF_MASTERS, seed=SEED)
    dice, paused = random.Random(SEED), []

    def disturb():
        if paused and time.monotonic() > paused[1]:
            os.kill(paused[0], signal.SIGCONT)
            paused.clear()
        if not paused:
            paused.extend((dice.choice(masters).pid(), time.monotonic() + dice.uniform(0.3, 1)))
            os.kill(paused[0], signal.SIGSTOP)
            counts["pauses of a master"] += 1

    try:
        live(arena, HISTORIES, disturb)
        judge(arena, counts, again(request, SEED), voted=True)
        counts["histories of three masters"] += arena.histories()
        judge_contrast(arena, counts)
    finally:
        if paused:
            os.kill(paused[0], signal.SIGCONT)
        arena.close()
