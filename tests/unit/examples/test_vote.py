from hypothesis import given, strategies as st

from crew.facts import Opinion, Place
from crew.vote import PLACES, settle

rankings = st.lists(st.permutations("abcdefghijkl"), min_size=1, max_size=7)


def opinions(orders, confidence=0.7):
    return [
        Opinion(f"r{number}", confidence, [Place(path, 0.5, "why") for path in order])
        for number, order in enumerate(orders)
    ]


@given(rankings)
def test_every_place_has_a_winner_of_its_own(orders):
    contests = settle(opinions(orders)).contests
    winners = [contest.winner for contest in contests]
    assert len(winners) == len(set(winners)) == PLACES
    for contest in contests:
        assert contest.winner in contest.rounds[-1].votes
        assert not set(contest.rounds[0].votes) & set(winners[: winners.index(contest.winner)])
        assert all(sum(each.votes.values()) == len(orders) for each in contest.rounds)


@given(st.permutations("abcdefghijkl"), st.integers(1, 5))
def test_voters_of_one_mind_get_what_they_want(order, voters):
    assert settle(opinions([order] * voters)).order == list(order)[:PLACES]


def test_votes_pass_on_and_rounds_without_movement_are_not_told():
    first = settle(opinions(["abcd", "abcd", "bacd", "bacd", "cbad"])).contests[0]
    assert (first.winner, first.score) == ("b", 0.6)
    assert [(each.number, each.votes, each.left) for each in first.rounds] == [
        (1, {"a": 2, "b": 2, "c": 1}, ["c"]),
        (3, {"b": 3, "a": 2}, []),
    ]


def test_a_tie_goes_to_the_more_confident_then_by_name():
    for sure, order in ((0, ["b", "a"]), (1, ["a", "b"])):
        split = opinions(["ba", "ab"], 0.2)
        split[sure] = opinions(["ba", "ab"], 0.9)[sure]
        assert settle(split).order == order
    even = settle(opinions(["ba", "ab"])).contests[0]
    assert even.winner == "a"
    assert "more confident" in even.reason


def test_nobody_to_rank_is_no_error():
    assert settle(opinions([[], []])).order == []
