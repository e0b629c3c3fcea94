"""Locks of a majority, over keepers in memory that come and go, in virtual time."""

import asyncio
import time
from collections import Counter
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
from reprise.coordination.redlock import _Votes
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
        self.real, self.lease = self.lease, _Lease(self)
        self.away = self.mute = self.late = False
        self.asked = Counter[str]()
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
        self._node.asked[name] += 1
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
    nodes[0].mute = False
    await asyncio.sleep(1)
    for node, grant in zip(nodes[2:], others, strict=True):
        await node.real.drop([grant])
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
async def test_who_waits_is_given_it_at_once_and_asks_nobody_until_then():
    nodes, manager = town()
    loop = asyncio.get_running_loop()
    async with manager.lock("x", ttl=3600):
        waiter = asyncio.create_task(LockManager(nodes).get_lock("x", 3600).acquire(timeout=None))
        await asyncio.sleep(5)
        before = sum((node.asked for node in nodes), Counter[str]())
        await asyncio.sleep(60)
    began = loop.time()
    assert await waiter
    assert loop.time() - began < 0.1
    after = sum((node.asked for node in nodes), Counter[str]())
    assert after["take"] - before["take"] == len(nodes)


@simulated
async def test_who_came_first_is_first():
    """Each in a process of its own; who gives it back comes again and stands behind the others."""
    nodes, _ = town(3)
    managers, served = [LockManager(nodes) for _ in range(10)], list[int]()

    async def one(number: int) -> None:
        for _ in range(3):
            async with managers[number].lock("x", timeout=None):
                served.append(number)
                await asyncio.sleep(1)

    tasks = list[asyncio.Task[None]]()
    for number in range(10):
        tasks.append(asyncio.create_task(one(number)))
        await asyncio.sleep(0.05)
    await asyncio.gather(*tasks)
    assert served == [*range(10)] * 3
    assert await grants(nodes) == [0] * 3


@simulated
async def test_many_who_come_at_the_same_moment_all_get_it():
    """Also where there are only as many keepers left as a majority has: then each of them has a vote that somebody needs."""
    for away in ((), (0,), (2,), (0, 1), (1, 3)):
        nodes, _ = town(5 if len(away) == 2 else 3)
        for number in away:
            nodes[number].away = True
        inside, began = 0, asyncio.get_running_loop().time()

        async def one(manager: LockManager) -> None:
            nonlocal inside
            async with manager.lock("x", timeout=None):
                inside += 1
                assert inside == 1
                await asyncio.sleep(0)
                inside -= 1

        await asyncio.gather(*(one(LockManager(nodes)) for _ in range(20)))
        assert asyncio.get_running_loop().time() - began < 5


@simulated
async def test_a_keeper_that_stands_still_costs_its_time_once():
    nodes, manager = town(3)
    nodes[0].late = True
    loop = asyncio.get_running_loop()
    began = loop.time()
    for _ in range(100):
        async with manager.lock("x"):
            await asyncio.sleep(0)
    assert loop.time() - began < 0.3
    assert nodes[0].asked["take"] < 30, "nor does it find a heap of questions when it goes on"


@simulated
async def test_a_line_at_a_keeper_that_falls_silent_goes_on_at_another():
    nodes, manager = town(3)
    held = manager.get_lock("x", ttl=3600)
    assert await held.acquire()
    waiters = [
        asyncio.create_task(LockManager(nodes).get_lock("x", ttl=3600).acquire(timeout=None))
        for _ in range(3)
    ]
    await asyncio.sleep(1)
    nodes[0].mute = True
    await held.release()
    await asyncio.wait(waiters, return_when=asyncio.FIRST_COMPLETED)
    assert sum(waiter.done() for waiter in waiters) == 1
    nodes[0].mute = False
    await asyncio.sleep(0.5)
    assert await grants(nodes) == [0, 1, 1], "what it gave to one who did not hear of it is given back"
    for waiter in waiters:
        waiter.cancel()


@simulated
async def test_of_those_who_hold_each_other_up_the_first_goes_on():
    """It stands in the line of the first keeper; the others need not wait to see that they are no majority."""
    nodes, _ = town(5)
    leases: list[Any] = [await LockManager(nodes)._acquirer.start() for _ in range(3)]
    votes = [_Votes(Grant("x", name, 0, 0), name) for name in "abc"]
    for node, number in ((0, 0), (1, 1), (2, 2), (3, 0), (4, 1)):
        assert await nodes[node].real.take("x", votes[number].alias, 60)
    tries = [lease._try(votes[line], 60, line, passes=True) for line, lease in enumerate(leases)]
    began = asyncio.get_running_loop().time()
    got = await asyncio.gather(*tries)
    assert [grant is not None for grant in got] == [True, False, False]
    assert asyncio.get_running_loop().time() - began < 0.05


@simulated
async def test_a_keeper_that_is_back_is_asked_when_it_is_needed():
    """Nobody knows yet that it is, when the next falls silent."""
    nodes, manager = town(3)
    for away in (0, 1, 2, 0):
        for number, node in enumerate(nodes):
            node.away = number == away
        lock = manager.get_lock("x")
        assert await lock.acquire(timeout=0)
        await lock.release()


@simulated
async def test_what_some_still_have_of_a_lost_lease_is_given_back():
    nodes, manager = town(3)
    lock = manager.get_lock("x", ttl=3600)
    assert await lock.acquire()
    for node in nodes[:2]:
        await node.real.drop(await node.real.holder("lock/x"))
    with pytest.raises(LockLost):
        await lock.extend()
    await asyncio.sleep(0.01)
    assert await grants(nodes) == [0] * 3


@simulated
async def test_a_lease_that_cannot_be_lifted_is_given_back():
    """A majority gave it, and one of that falls silent before it can have another token."""
    nodes, manager = town(3)
    lease: Any = await manager._acquirer.start()
    nodes[2].away = True
    grant = await lease.take("lock/x", "me", 3600)
    nodes[1].mute = True
    with pytest.raises(StoreUnreachable, match="Of 3 keepers"):
        await lease.lift(grant, grant.token + 5)
    nodes[1].mute = nodes[2].away = False
    await lease.drop([grant])
    await asyncio.sleep(1)
    assert await grants(nodes) == [0] * 3
    grant = await lease.take("lock/x", "me", 3600)
    for node in nodes[:2]:
        await node.real.drop(await node.real.holder("lock/x"))
    assert await lease.lift(grant, grant.token + 5) is None
    await asyncio.sleep(1)
    assert await grants(nodes) == [0] * 3


@simulated
async def test_a_keeper_that_refuses_alone_holds_up_nobody():
    """It gave the lease to somebody who is gone, and to whom no other gave it."""
    nodes, manager = town(3)
    assert await nodes[0].real.take("lock/x", "somebody", 3600)
    began = asyncio.get_running_loop().time()
    for timeout in (0, 5, None):
        lock = manager.get_lock("x")
        assert await lock.acquire(timeout=timeout)
        await lock.release()
    assert asyncio.get_running_loop().time() - began < 1
    assert await grants(nodes) == [1, 0, 0]


@simulated
async def test_a_keeper_that_hears_late_that_one_waits_no_more_takes_nothing_from_the_next_try():
    """It fell silent and gave what it was asked for in the end; who has left the line meanwhile takes that back, and no more."""
    nodes, manager = town(3)

    class Late(_Lease):
        async def take(self, name: str, holder: str, ttl: float, **options: Any) -> Grant | None:
            try:
                return await self._node.answer(lambda: self._node.real.take(name, holder, ttl, **options))
            except asyncio.CancelledError:
                leaving.append(asyncio.create_task(self._leave(name, holder)))
                raise

        async def _leave(self, name: str, holder: str) -> None:
            await asyncio.sleep(3)
            await self._node.real.drop([g for g in await self._node.real.holder(name) if g.holder == holder])

    leaving = list[asyncio.Task[None]]()
    nodes[0].lease = Late(nodes[0])
    held = LockManager(nodes).get_lock("x", ttl=3600)
    assert await held.acquire()
    waiter = asyncio.create_task(manager.get_lock("x", ttl=3600).acquire(timeout=None))
    await asyncio.sleep(1)
    nodes[0].mute = True
    await asyncio.sleep(1)
    nodes[0].mute = False
    await asyncio.sleep(1)
    await held.release()
    assert await waiter
    assert leaving, "it did not leave the line: the test shows nothing"
    await asyncio.gather(*leaving)
    assert await grants(nodes) == [1] * 3


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
async def test_what_a_minority_still_has_of_a_lock_whose_time_is_over_is_given_back():
    nodes, manager = town()
    lost = manager.get_lock("x", ttl=10)
    assert await lost.acquire()
    await asyncio.sleep(5)
    for node in nodes[:3]:
        node.away = True
    held = [await node.real.renew(await node.real.holder("lock/x"), 3600) for node in nodes[3:]]
    assert all(held)
    await asyncio.sleep(15)
    for node in nodes[:3]:
        node.away = False
    await asyncio.sleep(2)
    assert await grants(nodes) == [0] * 5


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


@simulated
async def test_one_is_inside_whatever_keepers_do():
    """One of three always stands still, is away or slow, and does late what it was asked; nobody is inside with another."""
    nodes, _ = town(3)
    random, inside, entered, tokens = Random(3), 0, 0, list[int]()

    async def client(manager: LockManager) -> None:
        nonlocal inside, entered
        for _ in range(10):
            try:
                async with manager.lock("x", ttl=2, timeout=60) as held:
                    assert not inside
                    inside += 1
                    entered += 1
                    tokens.append(held.token)
                    try:
                        await asyncio.sleep(random.choice((0, 0.01, 0.5)))
                    finally:
                        inside -= 1
            except (LockLost, StoreUnreachable):
                await asyncio.sleep(random.uniform(0, 1))

    async def weather() -> None:
        while True:
            node = random.choice(nodes)
            how = random.choice(("away", "mute", "late", "slow"))
            setattr(node, how, 0.15 if how == "slow" else True)
            await asyncio.sleep(random.uniform(0.05, 1))
            setattr(node, how, False)
            if how == "late":
                await node.go_on()

    changing = asyncio.create_task(weather())
    await asyncio.gather(*(client(LockManager(nodes)) for _ in range(6)))
    changing.cancel()
    await asyncio.sleep(5)
    assert entered > 50
    assert tokens == sorted(set(tokens))
    assert await grants(nodes) == [0] * 3


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
