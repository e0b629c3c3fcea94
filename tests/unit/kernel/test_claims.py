"""Judges: what is decided early is what is decided when everything is known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from fractions import Fraction
from math import ceil

import pytest
from hypothesis import given, strategies as st

from reprise.kernel.claims import (
    Claim,
    Decision,
    Judge,
    all_of,
    decide,
    first_success,
    majority,
    quorum,
    threshold,
)
from reprise.kernel.errors import ConfigurationError

Known = tuple[bool, set[str]]
"""Whether a rule is met, and by which branches, when all of them have ended."""


def whole(number: int) -> Callable[[int], Judge]:
    return lambda branches: threshold(branches, number)


def share(part: float) -> Callable[[int], Judge]:
    return lambda branches: threshold(branches, part)


def succeeded(claims: Sequence[Claim]) -> list[str]:
    return [claim.by for claim in claims if not claim.failed]


def when_all_is_known(rule: str, claims: Sequence[Claim], number: int) -> Known:
    """The rules told straightforwardly, by looking at everything."""
    good = succeeded(claims)
    if rule == "all":
        return bool(good) or not claims, set(good)
    if rule == "majority":
        votes = Counter(claim.option for claim in claims if not claim.failed)
        winner = next((option for option, count in votes.items() if 2 * count > len(claims)), None)
        agree = [claim.by for claim in claims if not claim.failed and claim.option == winner]
        return winner is not None, set(agree[: len(claims) // 2 + 1])
    return len(good) >= number, set(good[:number]) if len(good) >= number else set()


claims_ = st.lists(st.tuples(st.sampled_from("xyz"), st.booleans()), max_size=9).map(
    lambda drawn: [Claim(str(n), option, failed) for n, (option, failed) in enumerate(drawn)]
)


@pytest.mark.parametrize("rule", ["all", "majority", "first", "threshold"])
@given(claims=claims_, number=st.integers(1, 10))
def test_what_is_decided_early_is_what_is_decided_when_all_is_known(rule, claims, number):
    number = 1 if rule == "first" else number
    judges = {"all": all_of, "majority": majority, "first": first_success, "threshold": whole(number)}
    judge = judges[rule](len(claims))
    decisions = [judge.decision, *(judge.hear(claim) for claim in claims)]
    last = decisions[-1]
    assert last is not None
    assert (last.met, set(last.members)) == when_all_is_known(rule, claims, number)
    first = next(at for at, decision in enumerate(decisions) if decision is not None)
    assert all(decision == last for decision in decisions[first:])


@pytest.mark.parametrize("rule", ["all", "majority", "first", "threshold"])
@given(claims=claims_, number=st.integers(1, 10), data=st.data())
def test_while_it_is_open_the_outcome_may_still_change(rule, claims, number, data):
    """A judge does not wait longer than it must: one who is undecided could be told either."""
    number = 1 if rule == "first" else number
    judges = {"all": all_of, "majority": majority, "first": first_success, "threshold": whole(number)}
    heard = claims[: data.draw(st.integers(0, len(claims)))]
    rest = claims[len(heard) :]
    if decide(judges[rule](len(claims)), heard) is None:
        ends: set[tuple[bool, frozenset[str]]] = set()
        for option in "xyz":
            for failed in (True, False):
                others = [Claim(claim.by, option, failed) for claim in rest]
                met, members = when_all_is_known(rule, [*heard, *others], number)
                ends.add((met, frozenset(members)))
        assert len(ends) > 1


@given(st.integers(1, 1000), st.integers(1, 100))
def test_a_share_is_rounded_up_and_never_by_what_floats_cannot_hold(branches, percent):
    assert quorum(branches, percent / 100) == ceil(Fraction(branches * percent, 100))


@pytest.mark.parametrize("wrong", [0, -1, 0.0, 1.5, True, float("nan")])
def test_a_threshold_that_means_nothing_is_refused(wrong):
    with pytest.raises(ConfigurationError, match="threshold"):
        threshold(3, wrong)


def test_one_branch_or_all_of_them():
    assert decide(share(1.0)(2), [Claim("a")]) is None
    assert decide(whole(1)(2), [Claim("a")]) == Decision(True, ("a",), "1 of 2 succeeded.")


@pytest.mark.parametrize(
    ("judge", "met"), [(all_of, True), (majority, False), (first_success, False), (whole(2), False)]
)
def test_without_branches_everything_is_decided_at_once(judge, met):
    decision = judge(0).decision
    assert decision is not None
    assert decision.met is met
    assert decision.members == ()


def test_more_are_wanted_than_there_are():
    assert whole(3)(2).decision == Decision(False, (), "Fewer than 3 of 2 can succeed.")
