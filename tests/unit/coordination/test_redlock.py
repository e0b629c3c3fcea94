"""Locks of a majority, over keepers in memory that come and go, in virtual time."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from random import Random
from typing import Any

import pytest

from reprise import (
    ConfigurationError,
    LeaderElection,
    LeadershipLost,
    LockLost,
    LockManager,
    LockNotAcquired,
    StoreUnreachable,
    Term,
)
from reprise.coordination.asking import PATIENCE, Panel
from reprise.coordination.keepers import Keeper
from reprise.stores.lease import Grant, Lease
from reprise.stores.memory import MemoryStore
from reprise.testing import run


def simulated(main: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Let a test pass on a loop without time, under a few orders of events."""

    def test() -> None:
        for seed in range(5):
            run(main, seed=seed)

    test.__name__ = main.__name__
    return test


class Node(MemoryStore):
    """A keeper that may be away, slow, or hear without answering."""

    def __init__(self) -> None:
        super().__init__()
        self.real, self.lease = self.lease, _Lease(self)  # type: ignore[assignment]
        self.away = self.mute = self.late = False
        self.slow = 0.0
        self._asked: list[Callable[[], Awaitable[Any]]] = []

    async def go_on(self) -> None:
        """Do what was asked while it stood still, of which nobody hears any more."""
        self.late = False
        for call in self._asked:
            await call()

    async def answer(self, call: Callable[[], Awaitable[Any]]) -> Any:
        if self.late:
            self._asked.append(call)
            await asyncio.Event().wait()
        await asyncio.sleep(self.slow)
        if self.away:
            raise StoreUnreachable("It is away.")
        answer = await call()
        if self.mute:
            await asyncio.Event().wait()
        return answer


class _Lease:
    def __init__(self, node: Node) -> None:
        self._node = node

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._node.real, name)
        return lambda *args, **options: self._node.answer(lambda: method(*args, **options))


def town(number: int = 5, **settings: Any) -> tuple[list[Node], LockManager]:
    nodes = [Node() for _ in range(number)]
    return nodes, LockManager(nodes, settings=settings or None)


async def grants(nodes: Sequence[Node], name: str = "x") -> list[int]:
    """Return how many each node gave."""
    return [len(await node.real.holder(f"lock/{name}")) for node in nodes]


@simulated
async def test_a_majority_is_enough_and_everybody_is_told_at_the_end():
    nodes, manager = town()
    nodes[0].away, nodes[1].mute = True, True
    async with manager.lock("x") as held:
        assert await grants(nodes) == [0, 1, 1, 1, 1]
        assert held.token > 0
        nodes[0].away = nodes[1].mute = False
    assert await grants(nodes) == [0, 1, 0, 0, 0], "who was silent holds up nobody"
    await asyncio.sleep(0.2)
    assert await grants(nodes) == [0] * 5


@simulated
async def test_who_stops_tells_once_more_what_was_given_back():
    nodes, manager = town()
    nodes[0].mute = True
    async with manager, manager.lock("x"):
        nodes[0].mute = False
    assert await grants(nodes) == [0] * 5


@simulated
async def test_what_is_given_back_of_one_try_is_not_taken_from_the_next():
    """A keeper that answered the first try too late holds the lease for the second, when it is told of the first."""
    nodes, manager = town()
    others = [await node.real.take("lock/x", "somebody", 3600) for node in nodes[2:]]
    nodes[0].mute = True
    waiter = asyncio.create_task(manager.get_lock("x", 3600).acquire(timeout=None))
    await asyncio.sleep(0.21)
    for node, grant in zip(nodes[2:], others, strict=True):
        await node.real.drop([grant])
    nodes[0].mute = False
    assert await waiter
    await asyncio.sleep(10)
    assert await grants(nodes) == [1] * 5


@simulated
async def test_a_keeper_that_stood_still_gives_nothing_for_long_when_it_goes_on():
    nodes, manager = town()
    nodes[0].late = nodes[1].late = True
    async with manager.lock("x", ttl=3600):
        pass
    for node in nodes[:2]:
        await node.go_on()
    assert await grants(nodes) == [1, 1, 0, 0, 0]
    await asyncio.sleep(1)
    assert await grants(nodes) == [0] * 5


@simulated
async def test_no_majority_is_an_error_that_says_so():
    nodes, manager = town()
    for node in nodes[:3]:
        node.away = True
    with pytest.raises(StoreUnreachable, match="Of 5 keepers 3 cannot be reached"):
        await manager.lock("x").__aenter__()
    for node in nodes[:3]:
        node.away = False
    assert await grants(nodes) == [0] * 5


@simulated
async def test_who_waits_waits_for_a_majority_that_is_away():
    nodes, manager = town()
    await manager.start()
    for node in nodes[:3]:
        node.away = True
    waiter = asyncio.create_task(manager.get_lock("x").acquire(timeout=None))
    await asyncio.sleep(PATIENCE - 1)
    nodes[0].away = False
    assert await waiter


@simulated
async def test_a_majority_that_stays_away_is_an_error_after_a_while():
    nodes, manager = town()
    await manager.start()
    for node in nodes[:3]:
        node.away = True
    began = asyncio.get_running_loop().time()
    for timeout, least, most in ((0, 0, 0.5), (2, 2, 2.5), (None, PATIENCE, PATIENCE + 0.5)):
        began = asyncio.get_running_loop().time()
        with pytest.raises(StoreUnreachable, match="Of 5 keepers 3 cannot be reached"):
            await manager.get_lock("x").acquire(timeout=timeout)
        assert least <= asyncio.get_running_loop().time() - began < most


@simulated
async def test_a_keeper_that_takes_long_to_open_is_opened_all_the_same():
    """Longer than an answer may take: TLS, a long way. Were it given up each time, it would never be open."""

    class Far(MemoryStore):
        async def start(self) -> None:
            await asyncio.sleep(1)
            await super().start()

    panel = Panel([keeper_to_open(Far()) for _ in range(3)], node_timeout=0.2)
    began = asyncio.get_running_loop().time()
    await panel.reach()
    assert 1 <= asyncio.get_running_loop().time() - began < 1.5
    await panel.settle()


@simulated
async def test_who_stops_opens_no_more():
    class Gone(MemoryStore):
        async def start(self) -> None:
            await asyncio.Event().wait()

    panel = Panel([keeper_to_open(Gone()) for _ in range(3)], node_timeout=0.2)
    with pytest.raises(StoreUnreachable):
        await panel.reach()
    await panel.settle()
    assert asyncio.all_tasks() == {asyncio.current_task()}


def keeper_to_open(store: MemoryStore) -> Keeper:
    """Return a keeper that is not open yet."""
    keeper = Keeper(store)
    keeper.is_open, keeper.owned = False, True
    return keeper


def test_answers_that_came_while_our_own_loop_stood_still_count():
    """Both moments have passed when it looks: the answer's, and that at which the keeper would count as away."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        panel = Panel([Keeper(MemoryStore()) for _ in range(3)], node_timeout=0.05)

        async def call(node: int, lease: Lease) -> None:
            await asyncio.gather(asyncio.sleep(0.03), asyncio.sleep(0.03))

        loop.call_later(0.02, time.sleep, 0.1)
        assert not await panel.ask(panel.everybody, call)

    asyncio.run(main())


@simulated
async def test_who_gets_no_majority_gives_back_what_it_got():
    nodes, manager = town()
    for node in nodes[:3]:
        assert await node.real.take("lock/x", "somebody", 3600)
    assert not await manager.get_lock("x").acquire(timeout=2)
    assert await grants(nodes) == [1, 1, 1, 0, 0]
    with pytest.raises(LockNotAcquired, match="held by somebody"):
        await manager.lock("x").__aenter__()


@simulated
async def test_a_vote_that_took_longer_than_the_lease_is_none():
    nodes, manager = town()
    for node in nodes:
        node.slow = 0.15
    assert not await manager.get_lock("x", ttl=0.15).acquire(timeout=0)
    assert await manager.get_lock("x", ttl=1).acquire(timeout=0)


@simulated
async def test_whoever_waits_is_tapped():
    _, manager = town(retry_delay=1000.0, retry_count=1)
    loop = asyncio.get_running_loop()
    async with manager.lock("x"):
        waiter = asyncio.create_task(manager.get_lock("x").acquire(timeout=None))
        await asyncio.sleep(5)
    began = loop.time()
    assert await waiter
    assert loop.time() - began < 0.1


@simulated
async def test_tokens_grow_although_each_keeper_counts_for_itself():
    nodes, manager = town()
    for number, node in enumerate(nodes):
        for _ in range(7 * number):  # they are not in step
            grant = await node.real.take("other", "o", 1)
            await node.real.drop([grant])
    last, random = 0, Random(7)
    for _ in range(200):
        for node in nodes:
            node.away = False
        for node in random.sample(nodes, 2):
            node.away = True
        async with manager.lock("x") as held:
            assert held.token > last
            last = held.token


@simulated
async def test_a_holder_outlives_the_majority_that_elected_it():
    nodes, manager = town()
    async with manager.lock("x", ttl=3):
        for away in ((0, 1), (2, 3), (4, 0), (1, 2)) * 3:
            for node in nodes:
                node.away = False
            await asyncio.sleep(3)  # each has it again
            for number, node in enumerate(nodes):
                node.away = number in away
            await asyncio.sleep(10)
            assert sum(await grants([node for node in nodes if not node.away])) == 3


@simulated
async def test_a_holder_whose_majority_is_gone_is_cancelled():
    nodes, manager = town()

    async def work() -> None:
        async with manager.lock("x", ttl=3):
            await asyncio.sleep(3600)

    working = asyncio.create_task(work())
    await asyncio.sleep(10)
    for node in nodes[:3]:
        node.away = True
    began = asyncio.get_running_loop().time()
    with pytest.raises(LockLost, match="not renewed"):
        await working
    assert asyncio.get_running_loop().time() - began < 3


@simulated
async def test_a_broken_lock_is_broken_everywhere():
    nodes, manager = town()
    other = LockManager(nodes)

    async def work() -> None:
        async with manager.lock("x", ttl=600):
            await asyncio.sleep(3600)

    working = asyncio.create_task(work())
    await asyncio.sleep(1)
    assert len(await other.break_lock("x")) == 1
    assert await grants(nodes) == [0] * 5
    with pytest.raises(LockLost):
        await working


@simulated
async def test_a_resource_that_checks_tokens_takes_no_stale_write_under_shifting_majorities():
    """Two of five are always away, others each time; holders stand still past their time. Without the check, stale ones pass."""
    nodes, _ = town()
    highest = stale = refused = written = 0
    random = Random(11)

    async def client(manager: LockManager) -> None:
        nonlocal highest, stale, refused, written
        lock = manager.get_lock("x", ttl=2)
        for _ in range(6):
            try:
                if not await lock.acquire(timeout=60):
                    continue
                token = lock.token
                await asyncio.sleep(random.choice((0.1, 0.5, 5.0)))  # 5 s: a process that stood still
            except (LockLost, StoreUnreachable):
                continue
            if token >= highest:
                highest = token
                written += 1
            else:
                refused += 1
            stale += token < highest
            try:
                await lock.release()
            except (LockLost, StoreUnreachable):
                pass

    async def weather() -> None:
        while True:
            for node in nodes:
                node.away = False
            for node in random.sample(nodes, 2):
                node.away = True
            await asyncio.sleep(random.uniform(0.5, 2))

    changing = asyncio.create_task(weather())
    await asyncio.gather(*(client(LockManager(nodes, settings={"retry_delay": 1.0})) for _ in range(3)))
    changing.cancel()
    assert written > 10
    assert stale == refused > 0


def test_one_keeper_does_not_vote_and_a_semaphore_has_one_keeper():
    with pytest.raises(ConfigurationError, match="cannot vote"):
        LockManager([MemoryStore()])
    with pytest.raises(ConfigurationError, match="more in all"):
        LockManager([MemoryStore(), MemoryStore(), MemoryStore()]).semaphore("x", 2)


@simulated
async def test_readers_and_a_writer_of_a_majority():
    nodes, manager = town()
    async with manager.lock("x", shared=True), manager.lock("y"):
        assert await asyncio.create_task(_shared(manager))
        assert not await asyncio.create_task(manager.get_lock("x").acquire(timeout=1))
    assert await grants(nodes) == [0] * 5


async def _shared(manager: LockManager) -> bool:
    async with manager.lock("x", shared=True) as held:
        return isinstance(held.token, int)


def test_grants_say_when_the_first_of_a_majority_may_end():
    async def main() -> None:
        nodes, manager = town(3)
        lease: Any = manager._acquirer
        store = await lease.start()
        await nodes[0].real.take("lock/x", "me", 50)
        grant = await store.take("lock/x", "me", 10)
        assert isinstance(grant, Grant)
        ends = [(await node.real.holder("lock/x"))[0].expires_at for node in nodes]
        assert grant.expires_at == sorted(ends)[1]

    run(main)


@simulated
async def test_a_leader_is_elected_by_a_majority():
    """Whichever minority is away, one leads at a time, under growing tokens; without a majority nobody does."""
    nodes, _ = town()
    candidates = [LeaderElection(nodes, "x", ttl=3, candidate_id=name) for name in "abc"]
    terms = list[Term]()
    inside = 0

    async def lead(term: Term) -> None:
        nonlocal inside
        inside += 1
        assert inside == 1
        terms.append(term)
        try:
            await asyncio.sleep(14)  # handed on while nobody is away
        finally:
            inside -= 1

    tasks = [asyncio.create_task(election.lead(lead)) for election in candidates]
    for away in ((0, 1), (1, 2), (3, 4)):
        for number, node in enumerate(nodes):
            node.away = number in away
        await asyncio.sleep(4)
        leader = await candidates[0].leader()
        assert leader is not None
        assert leader.candidate_id == terms[-1].candidate_id
        for node in nodes:
            node.away = False
        await asyncio.sleep(4)
    await asyncio.gather(*tasks)
    assert sorted(term.candidate_id for term in terms) == ["a", "b", "c"]
    assert [term.token for term in terms] == sorted({term.token for term in terms})
    assert [await node.real.holder("leader/x") for node in nodes] == [[]] * 5
    for election in candidates:
        await election.stop()


@simulated
async def test_a_leader_whose_majority_is_gone_leads_no_more():
    nodes, _ = town()
    election, other = (LeaderElection(nodes, "x", ttl=3, candidate_id=name) for name in "ab")

    async def work() -> None:
        async with election.campaign():
            await asyncio.sleep(3600)

    working = asyncio.create_task(work())
    await asyncio.sleep(5)
    for node in nodes[:3]:
        node.away = True
    with pytest.raises(LeadershipLost, match="not renewed"):
        await working
    with pytest.raises(StoreUnreachable, match="Of 5 keepers 3"):
        await other.leader()
    for node in nodes[:3]:
        node.away = False
    async with other.campaign(timeout=10) as term:
        assert (await election.leader()).token == term.token  # type: ignore[union-attr]
    assert await other.leader() is None
    await election.stop()
    await other.stop()
