"""Messages, the order of queues, and the contract of services."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given, strategies as st

from reprise.kernel.codec import Codec
from reprise.kernel.errors import ConfigurationError
from reprise.kernel.message import Message
from reprise.kernel.order import NEVER, WEIGHTS, earliest_deadline, strict, weighted_fair
from reprise.kernel.priority import Priority
from reprise.kernel.service import Service


def test_a_message_comes_back_as_it_was() -> None:
    codec = Codec()
    message = Message(
        id="1", to="bob", body={"a": [1]}, headers={"h": "1"}, priority=Priority.HIGH, at=5, ttl=1.5
    )
    back = codec.decode(codec.encode(message, Message), Message)
    assert back == message
    assert type(back.priority) is Priority


def test_an_answer_goes_where_the_question_wants_it() -> None:
    ask = Message(
        id="1", sender="ann", to="bob", kind="q", priority=Priority.HIGH, reply_to="box", correlation_id="c"
    )
    answer = ask.reply("2", "yes", at=9)
    assert answer == Message(
        id="2", sender="bob", to="box", kind="q", body="yes", priority=Priority.HIGH, correlation_id="c", at=9
    )


def test_a_message_expires_after_its_time() -> None:
    message = Message(id="1", at=10, ttl=2)
    assert message.expires_at == 2_000_010
    assert [message.is_expired(now) for now in (10, 2_000_009, 2_000_010)] == [False, False, True]
    assert not Message(id="1", at=10).is_expired(2**62)


def test_strict_order_is_that_of_urgency() -> None:
    assert sorted(Priority, key=strict) == sorted(Priority, reverse=True)


@given(st.lists(st.none() | st.integers(0, 2**62)))
def test_what_is_due_first_goes_first(deadlines: list[int | None]) -> None:
    ordered = sorted(deadlines, key=earliest_deadline)
    known = [d for d in ordered if d is not None]
    # Up to the year 2255 to the microsecond; beyond 2**53 neighbours may have one key, and go as they were offered.
    assert list(map(float, known)) == sorted(map(float, known))
    near = [d for d in known if d <= 2**53]
    assert near == sorted(near)
    assert all(math.isfinite(earliest_deadline(d)) for d in deadlines)
    assert earliest_deadline(None) == NEVER > earliest_deadline(253402300799_000_000)


def serve(flows: dict[str, float], offers: int, claims: int) -> list[str]:
    """Offer ``offers`` tasks of each flow, then claim ``claims`` of them."""
    tasks: list[tuple[float, int, str]] = []
    for flow, weight in flows.items():
        last = 0.0
        for _ in range(offers):
            last = weighted_fair(weight, last=last, served=0.0)
            tasks.append((last, len(tasks), flow))
    return [flow for _, _, flow in sorted(tasks)[:claims]]


@given(st.lists(st.integers(1, 16), min_size=2, max_size=5))
def test_busy_flows_are_served_by_their_weights(weights: list[int]) -> None:
    flows = {str(at): float(weight) for at, weight in enumerate(weights)}
    rounds = 5
    served = Counter(serve(flows, offers=16 * rounds, claims=sum(weights) * rounds))
    for flow, weight in flows.items():
        assert abs(served[flow] - weight * rounds) <= 1


def test_a_silent_flow_saves_up_no_credit() -> None:
    assert weighted_fair(1, last=3, served=100) == 101
    assert weighted_fair(1, last=200, served=100) == 201


def test_a_costly_task_counts_for_more() -> None:
    assert weighted_fair(2, last=0, served=0, cost=10) == 5


@pytest.mark.parametrize(("weight", "cost"), [(0, 1), (-1, 1), (1, 0), (math.nan, 1)])
def test_impossible_shares_are_refused(weight: float, cost: float) -> None:
    with pytest.raises(ConfigurationError, match="greater than 0"):
        weighted_fair(weight, last=0, served=0, cost=cost)


def test_each_priority_has_twice_the_share_of_the_one_below() -> None:
    shares = [WEIGHTS[p] for p in sorted(Priority)]
    assert shares == [1, 2, 4, 8, 16]


def test_a_service_is_known_by_its_methods() -> None:
    class Whole:
        async def start(self) -> None: ...
        async def stop(self, timeout: float | None = None) -> None: ...
        async def ready(self) -> None: ...

    class Half:
        async def start(self) -> None: ...

    assert isinstance(Whole(), Service)
    assert not isinstance(Half(), Service)
