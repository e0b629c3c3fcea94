"""Settle the ranking: the reviewers' orders are ballots of a ranked-choice vote, repeated for every place."""

from __future__ import annotations

from collections.abc import Sequence

from reprise import Ballot, ranked_choice, weighted

from .facts import Contest, Opinion, Round, Settlement

PLACES = 10


def settle(opinions: list[Opinion]) -> Settlement:
    """Find the first place by instant run-off, take it out of all ballots, and go on with the next place."""
    rankings = {opinion.reviewer: [place.path for place in opinion.ranking] for opinion in opinions}
    contests: list[Contest] = []
    while len(contests) < PLACES and any(rankings.values()):
        verdict = ranked_choice(
            [Ballot(voter=voter, ranking=tuple(ranking)) for voter, ranking in rankings.items()]
        )
        winner, reason = verdict.winner, verdict.reason
        if winner is None:
            winner = _by_confidence(verdict.tie, opinions)
            reason = f"{reason} The more confident reviewers decide for {winner}."
        contests.append(Contest(winner, _rounds(verdict.rounds), verdict.score, reason))
        rankings = {
            voter: [path for path in ranking if path != winner] for voter, ranking in rankings.items()
        }
    return Settlement(contests)


def _by_confidence(tied: Sequence[str], opinions: list[Opinion]) -> str:
    """Let the confidence of those who prefer each of the tied decide; if even that is equal, the first by name."""
    ballots = [
        Ballot(
            voter=opinion.reviewer,
            option=next((place.path for place in opinion.ranking if place.path in tied), ""),
            confidence=opinion.confidence,
        )
        for opinion in opinions
    ]
    return weighted(ballots).winner or min(tied)


def _rounds(tallies: Sequence[dict[str, float]]) -> list[Round]:
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
