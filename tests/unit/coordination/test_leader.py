"""Elections over the memory keeper, in virtual time."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import aclosing, suppress
from typing import Any

import pytest

from reprise import ConfigurationError, Leader, LeaderElection, LeadershipLost, LockNotAcquired, Term
from reprise.stores.memory import MemoryStore
from reprise.testing import run


def simulated(main: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Let a test pass on a loop without time, under a few orders of events."""

    def test() -> None:
        for seed in range(5):
            run(main, seed=seed)

    test.__name__ = main.__name__
    return test


def elections(*names: str, **options: Any) -> list[LeaderElection]:
    store = MemoryStore()
    return [LeaderElection(store, "x", candidate_id=name, **options) for name in names]


async def _leads(election: LeaderElection, seen: list[str]) -> str:
    async with election.campaign() as term:
        seen.append(f"+{term.candidate_id}")
        try:
            await asyncio.sleep(3600)
        finally:
            seen.append(f"-{term.candidate_id}")
    return "resigned"


@simulated
async def test_one_leads_at_a_time_in_the_order_of_coming_under_growing_tokens():
    inside, terms = 0, list[Term]()

    async def stand(election: LeaderElection) -> None:
        nonlocal inside
        async with election.campaign() as term:
            inside += 1
            assert inside == 1
            terms.append(term)
            await asyncio.sleep(100)
            inside -= 1

    tasks = []
    for election in elections("a", "b", "c"):
        tasks.append(asyncio.create_task(stand(election)))
        await asyncio.sleep(1)
    await asyncio.gather(*tasks)
    assert [term.candidate_id for term in terms] == ["a", "b", "c"]
    assert [term.token for term in terms] == sorted({term.token for term in terms})


@simulated
async def test_work_is_cancelled_when_its_term_is_lost():
    seen, (a, b) = list[str](), elections("a", "b", ttl=30)
    leading = asyncio.create_task(_leads(a, seen))
    await asyncio.sleep(1)
    next_one = asyncio.create_task(_leads(b, seen))
    await asyncio.sleep(1)
    assert (await b.depose()).candidate_id == "a"
    with pytest.raises(LeadershipLost, match=r"a leads 'x' no more \(token \d+\): it ended, passed"):
        await leading
    assert sorted(seen) == ["+a", "+b", "-a"]
    assert a.statistics()["lost"] == 1
    assert (await a.leader()).candidate_id == "b"
    await b.stop()
    assert await next_one == "resigned"
    assert await b.depose() is None


@simulated
async def test_resigning_ends_the_work_without_an_error_and_the_next_one_leads():
    seen, (a, b) = list[str](), elections("a", "b")
    leading = asyncio.create_task(_leads(a, seen))
    await asyncio.sleep(1)
    next_one = asyncio.create_task(_leads(b, seen))
    await asyncio.sleep(1)
    assert await a.resign()
    assert await leading == "resigned"
    assert not await a.resign()
    await asyncio.sleep(0.1)
    assert seen == ["+a", "-a", "+b"]
    await b.stop()
    assert await next_one == "resigned"


@simulated
async def test_work_may_resign_itself():
    [election] = elections("a")
    after = list[str]()

    async def work() -> None:
        async with election.campaign() as term:
            assert await election.resign()
            assert term.lost == "it was given up"
            with pytest.raises(LeadershipLost):
                term.check()
            await asyncio.sleep(1)
            after.append("never")

    await work()
    assert after == []
    assert await election.leader() is None
    await asyncio.sleep(1)


@simulated
async def test_somebody_elses_cancellation_goes_on():
    [election] = elections("a")
    leading = asyncio.create_task(_leads(election, []))
    await asyncio.sleep(1)
    leading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leading
    assert await election.leader() is None


@simulated
async def test_whoever_waits_too_long_is_told():
    a, b = elections("a", "b")
    async with a.campaign():
        with pytest.raises(LockNotAcquired, match="b was not elected leader of 'x' within 5 s"):
            await b.campaign(timeout=5).__aenter__()


@simulated
async def test_work_is_led_again_in_a_later_term_until_it_returns():
    [election] = elections("a")
    tokens = list[int]()

    async def work(term: Term) -> str:
        tokens.append(term.token)
        if len(tokens) < 3:
            asyncio.get_running_loop().call_later(
                1, lambda: deposing.append(asyncio.create_task(election.depose()))
            )
            await asyncio.sleep(3600)
        return "done"

    deposing = list[asyncio.Task[Any]]()
    assert await election.lead(work) == "done"
    assert tokens == sorted(set(tokens))
    assert len(tokens) == 3


@simulated
async def test_leading_ends_with_the_election():
    [election] = elections("a")

    async def work(term: Term) -> str:
        await asyncio.sleep(3600)
        return "never"

    leading = asyncio.create_task(election.lead(work))
    await asyncio.sleep(1)
    await election.stop()
    assert await leading is None
    await election.stop()


@simulated
async def test_changes_are_observed():
    a, b = elections("a", "b")
    seen = list[Leader | None]()

    async def watch() -> None:
        async with aclosing(b.observe()) as changes:
            async for leader in changes:
                seen.append(leader)

    watching = asyncio.create_task(watch())
    await asyncio.sleep(1)
    for election in (a, b):
        async with election.campaign():
            await asyncio.sleep(100)
        await asyncio.sleep(1)
    assert [leader and leader.candidate_id for leader in seen] == [None, "a", None, "b", None]
    watching.cancel()
    with suppress(asyncio.CancelledError):
        await watching


@simulated
async def test_that_a_leader_died_is_observed_without_a_tap():
    store = MemoryStore()
    election = LeaderElection(store, "x", ttl=3)
    await store.lease.take("leader/x", "dead~1", 3)
    loop, seen = asyncio.get_running_loop(), list[tuple[str, float]]()
    async with aclosing(election.observe()) as changes:
        async for leader in changes:
            seen.append((leader.candidate_id if leader else "", loop.time()))
            if leader is None:
                break
    assert [name for name, _ in seen] == ["dead", ""]
    assert seen[1][1] - seen[0][1] < 4.1


@simulated
async def test_callbacks_are_told_and_cannot_break_the_election():
    told = list[str]()

    async def gained(term: Term) -> None:
        await asyncio.sleep(1)
        told.append(f"+{term.token} {term.lost}")

    def lost(term: Term) -> None:
        told.append(f"-{term.token} {term.lost}")
        raise ValueError("mine")

    [election] = elections("a", on_gain=gained, on_loss=lost)
    async with election.campaign():
        await asyncio.sleep(2)
    leading = asyncio.create_task(_leads(election, []))
    await asyncio.sleep(2)
    await election.depose()
    with pytest.raises(LeadershipLost):
        await leading
    await asyncio.sleep(0)
    assert told[:3] == ["+1 ", "-1 it was given up", "+2 "]
    assert told[3].startswith("-2 it ended")
    assert len(told) == 4


@simulated
async def test_two_processes_under_one_name_do_not_share_a_term():
    one, other = elections("twin", "twin")
    async with one.campaign():
        with pytest.raises(LockNotAcquired):
            await other.campaign(timeout=1).__aenter__()


@pytest.mark.parametrize("wrong", [{"name": ""}, {"ttl": 0}, {"ttl": -1}], ids=str)
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any]):
    with pytest.raises(ConfigurationError):
        LeaderElection(MemoryStore(), **{"name": "x", **wrong})
