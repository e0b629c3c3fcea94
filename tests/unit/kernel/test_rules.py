"""Rules: the same ballots always give the same verdict, however they are ordered and whatever options are called."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, strategies as st

from reprise.kernel.errors import ConfigurationError
from reprise.kernel.rules import (
    Ballot,
    Rule,
    Verdict,
    majority,
    plurality,
    ranked_choice,
    supermajority,
    unanimous,
    weighted,
)

RULES: list[Rule] = [plurality, weighted, ranked_choice]
STRICT: list[Rule] = [majority, supermajority(), supermajority(0.75), unanimous]
OPTIONS = "abcde"

rankings = st.lists(st.sampled_from(OPTIONS), unique=True, max_size=5).map(tuple)
shares = st.sampled_from([0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0])
ballots_ = st.lists(
    st.builds(
        Ballot,
        st.uuids().map(str),
        st.just(""),
        rankings,
        shares,
        st.sampled_from([0.0, 0.1, 1.0, 1.0, 2.0, 3.0]),
    ),
    max_size=12,
)


def cast(*rankings: str) -> list[Ballot]:
    """Ballots such as "3 abc": three voters who rank a before b before c."""
    votes: list[Ballot] = []
    for line in rankings:
        count, _, ranking = line.rpartition(" ")
        votes += [Ballot(f"{line}-{i}", ranking=tuple(ranking)) for i in range(int(count or 1))]
    return votes


def renamed(verdict: Verdict, names: dict[str, str]) -> dict[str, Any]:
    """What of a verdict must not depend on names."""
    return {
        "winner": names.get(verdict.winner or ""),
        "tallies": {names[o]: n for o, n in verdict.tallies.items()},
        "rounds": [{names[o]: n for o, n in tallies.items()} for tallies in verdict.rounds],
        "score": verdict.score,
        "tie": {names[o] for o in verdict.tie},
        "order": [{names[o] for o in place} for place in verdict.order],
    }


SAME = {option: option for option in OPTIONS}


@pytest.mark.parametrize("rule", RULES + STRICT)
@given(data=st.data(), ballots=ballots_)
def test_the_order_of_ballots_never_changes_the_verdict(
    rule: Rule, data: st.DataObject, ballots: list[Ballot]
) -> None:
    assert rule(data.draw(st.permutations(ballots))) == rule(ballots)


@pytest.mark.parametrize("rule", RULES + STRICT)
@given(names=st.permutations(OPTIONS), ballots=ballots_)
def test_what_options_are_called_never_changes_the_verdict(
    rule: Rule, names: list[str], ballots: list[Ballot]
) -> None:
    called = dict(zip(OPTIONS, names, strict=True))
    others = [msgspec.structs.replace(b, ranking=tuple(called[o] for o in b.ranking)) for b in ballots]
    assert renamed(rule(others), SAME) == renamed(rule(ballots), called)


@pytest.mark.parametrize("rule", RULES)
@given(ballots=ballots_)
def test_a_verdict_is_a_winner_or_a_tie_or_nobody_voted(rule: Rule, ballots: list[Ballot]) -> None:
    verdict = rule(ballots)
    assert 0 <= verdict.score <= 1
    assert len(verdict.tie) != 1
    assert verdict.reason
    if verdict.winner is not None:
        assert not verdict.tie
        assert verdict.order[0] == (verdict.winner,)
        assert next(iter(verdict.tallies)) == verdict.winner
        assert verdict.score > 0
    elif verdict.tie:
        assert verdict.order[0] == verdict.tie
    else:
        assert verdict.score == 0


@given(ballots_)
def test_an_option_that_most_put_first_wins_a_runoff(ballots: list[Ballot]) -> None:
    first = plurality([b for b in ballots if b.preferences() for _ in range(1)])
    equal = [msgspec.structs.replace(b, weight=1.0) for b in ballots]
    if first.winner is not None and first.score > 0.5:
        verdict = ranked_choice(equal)
        assert verdict.winner == first.winner
        assert len(verdict.rounds) == 1


@given(ballots_)
def test_a_runoff_orders_every_option_once(ballots: list[Ballot]) -> None:
    placed = [option for place in ranked_choice(ballots).order for option in place]
    assert sorted(placed) == sorted({option for b in ballots for option in b.preferences()})


def test_a_condorcet_loser_may_win_the_plurality_but_not_the_runoff() -> None:
    # c is put first by most, and yet loses every duel.
    votes = cast("4 c", "3 ab", "3 ba", "1 abc")
    assert plurality(votes).tie == ("a", "c")
    votes = cast("5 c", "4 ab", "3 ba")
    assert plurality(votes).winner == "c"
    verdict = ranked_choice(votes)
    assert verdict.winner == "a"
    assert verdict.rounds == ({"c": 5.0, "a": 4.0, "b": 3.0}, {"a": 7.0, "c": 5.0})
    assert verdict.order == (("a",), ("c",), ("b",))
    assert verdict.score == 7 / 12
    assert verdict.reason == "a has a majority in round 2, 58% of all votes."


def test_exhausted_ballots_count_no_more_but_lower_the_score() -> None:
    verdict = ranked_choice(cast("3 a", "2 b", "2 cb", "2 d"))
    # d and c are equal in the round; c has the same points as d, so both go; c's ballots pass to b, d's are exhausted.
    assert verdict.rounds[-1] == {"b": 4.0, "a": 3.0}
    assert verdict.winner == "b"
    assert verdict.score == 4 / 9


def test_a_tie_for_the_last_place_is_broken_by_the_round_before() -> None:
    # c falls first; its ballot brings a up to b. In the round before a had fewer, so a falls.
    votes = cast("4 d", "3 b", "2 a", "1 ca")
    verdict = ranked_choice(votes)
    assert [sorted(r) for r in verdict.rounds] == [["a", "b", "c", "d"], ["a", "b", "d"], ["b", "d"]]
    assert verdict.winner == "d"


def test_a_tie_for_the_last_place_is_broken_by_points() -> None:
    # a and b have one first choice each, but the voters for d put a second.
    verdict = ranked_choice(cast("3 da", "1 a", "1 b", "2 c"))
    assert verdict.order[-1] == ("b",)


def test_points_are_the_options_ranked_lower() -> None:
    # Once c is gone, a and b are equal in first choices, and each has five points.
    verdict = ranked_choice(cast("a", "b", "2 dcab", "db"))
    assert verdict.order == (("d",), ("a", "b"), ("c",))


@pytest.mark.parametrize(
    "votes",
    [cast("a", "b", "c"), cast("abc", "bca", "cab"), cast("2 ab", "2 ba")],
)
def test_where_nothing_separates_the_best_there_is_a_tie(votes: list[Ballot]) -> None:
    verdict = ranked_choice(votes)
    assert verdict.winner is None
    assert verdict.tie == tuple(sorted({o for b in votes for o in b.ranking}))
    assert "separates" in verdict.reason


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("votes", [[], [Ballot("a"), Ballot("b")], [Ballot("a", "x", weight=0)]])
def test_without_votes_there_is_no_winner(rule: Rule, votes: list[Ballot]) -> None:
    verdict = rule(votes)
    if rule is plurality and votes and votes[0].option:
        assert verdict.winner == "x"  # one voter, one vote: weights do not count
    else:
        assert (verdict.winner, verdict.tie, verdict.score) == (None, (), 0)


def test_confidence_and_weight_count_in_weighted_only() -> None:
    votes = [
        Ballot("a", "x", confidence=0.9),
        Ballot("b", "y", confidence=0.3),
        Ballot("c", "y", confidence=0.3),
    ]
    assert plurality(votes).winner == "y"
    verdict = weighted(votes)
    assert verdict.winner == "x"
    assert verdict.score == pytest.approx(0.6)


def test_sums_that_differ_only_by_rounding_are_tied() -> None:
    votes = [Ballot("a", "x", weight=0.1), Ballot("b", "x", weight=0.2), Ballot("c", "y", weight=0.3)]
    assert weighted(votes).tie == ("x", "y")
    assert ranked_choice(votes).tie == ("x", "y")


def test_a_ranking_counts_each_option_once() -> None:
    assert Ballot("a", ranking=("x", "y", "x")).preferences() == ("x", "y")
    assert Ballot("a", "x").preferences() == ("x",)


@pytest.mark.parametrize(
    "wrong", [{"confidence": 1.1}, {"confidence": float("nan")}, {"weight": -1}, {"weight": float("inf")}]
)
def test_impossible_ballots_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match=f"The {next(iter(wrong))} of 'ann'"):
        Ballot("ann", "x", **wrong)


@pytest.mark.parametrize(
    ("rule", "enough"),
    [
        (majority, lambda votes, cast: 2 * votes > cast),
        (supermajority(), lambda votes, cast: 3 * votes >= 2 * cast),
        (supermajority(0.75), lambda votes, cast: 4 * votes >= 3 * cast),
        (unanimous, lambda votes, cast: votes == cast),
    ],
)
@given(ballots=ballots_)
def test_a_winner_has_what_the_rule_wants_and_who_has_it_wins(rule: Rule, enough: Any, ballots: list[Ballot]):
    verdict, most = rule(ballots), plurality(ballots)
    votes, total = max(most.tallies.values(), default=0), sum(most.tallies.values())
    assert verdict.winner == (most.winner if total and enough(votes, total) else None)
    assert (verdict.tallies, verdict.score, verdict.tie) == (most.tallies, most.score, most.tie)


def test_a_verdict_without_a_winner_says_what_was_needed():
    votes = cast("3 a", "2 b")
    assert majority(votes).winner == "a"
    assert supermajority()(votes).reason == "a got 60% of the votes, 67% are needed."
    assert unanimous(votes).reason == "a got 60% of the votes, 100% are needed."
    assert majority(cast("2 a", "1 b", "1 c")).reason == "a got 50% of the votes, more than half is needed."


@pytest.mark.parametrize("share", [0.5, 0.0, 1.1, float("nan")])
def test_a_share_that_is_no_supermajority_is_refused(share: float):
    with pytest.raises(ConfigurationError, match="supermajority"):
        supermajority(share)
