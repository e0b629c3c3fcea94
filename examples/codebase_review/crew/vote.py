"""Settle the ranking: the reviewers' orders are ballots of a ranked-choice vote, repeated for every place."""

from __future__ import annotations

from reprise import Ballot, ranked_choice

from .facts import Contest, Opinion, Round, Settlement

PLACES = 10


def settle(opinions: list[Opinion]) -> Settlement:
    """Find the first place by instant run-off, take it out of all ballots, and go on with the next place."""
    rankings = {opinion.reviewer: [place.path for place in opinion.ranking] for opinion in opinions}
    confidence = {opinion.reviewer: opinion.confidence for opinion in opinions}
    contests: list[Contest] = []
    while len(contests) < PLACES and any(rankings.values()):
        ballots = [
            Ballot(
                voter=voter,
                option=ranking[0],
                ranking=tuple(ranking),
                confidence=confidence[voter],
                weight=1.0,
            )
            for voter, ranking in rankings.items()
        ]
        verdict = ranked_choice(ballots)
        rounds = _rounds([dict(tally) for tally in verdict.rounds])
        contests.append(Contest(verdict.winner, rounds, verdict.score, verdict.reason))
        rankings = {
            voter: [path for path in ranking if path != verdict.winner] for voter, ranking in rankings.items()
        }
    return Settlement(contests)


def _rounds(tallies: list[dict[str, float]]) -> list[Round]:
    """Keep the rounds in which votes moved, and name who lost all votes after each.

    Candidates without any vote leave one by one; a round in which only that happens tells a reader nothing.
    """
    told = [
        (number, votes)
        for number, votes in enumerate(map(_voted, tallies), 1)
        if number == 1 or votes != _voted(tallies[number - 2])
    ]
    after = [*told[1:], *told[-1:]]
    return [
        Round(number, votes, sorted(path for path in votes if path not in then))
        for (number, votes), (_, then) in zip(told, after, strict=True)
    ]


def _voted(tally: dict[str, float]) -> dict[str, float]:
    return {path: votes for path, votes in tally.items() if votes}
