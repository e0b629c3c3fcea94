"""Settle the ranking: the reviewers' orders are ballots of a ranked-choice vote, repeated for every place."""

from __future__ import annotations

from reprise import Ballot, ranked_choice

from .facts import Opinion, Round, Settlement

PLACES = 10


def settle(opinions: list[Opinion]) -> Settlement:
    """Find the first place by instant run-off, take it out of all ballots, and go on with the next place."""
    rankings = {opinion.reviewer: [place.path for place in opinion.ranking] for opinion in opinions}
    confidence = {opinion.reviewer: opinion.confidence for opinion in opinions}
    order: list[str] = []
    first = Settlement([], [], 0.0, "no candidates")
    while len(order) < PLACES and any(rankings.values()):
        verdict = ranked_choice(
            [
                Ballot(voter=voter, option=ranking[0], ranking=tuple(ranking), confidence=confidence[voter], weight=1.0)
                for voter, ranking in rankings.items()
            ]
        )
        if not order:
            first = Settlement([], _rounds([dict(tally) for tally in verdict.rounds]), verdict.score, verdict.reason)
        order.append(verdict.winner)
        rankings = {voter: [path for path in ranking if path != verdict.winner] for voter, ranking in rankings.items()}
    return Settlement(order, first.rounds, first.score, first.reason)


def _rounds(tallies: list[dict[str, float]]) -> list[Round]:
    """Keep the rounds in which votes moved, and name who had votes in one and stood no longer in the next.

    Candidates without any vote leave one by one; a round in which only that happens tells a reader nothing.
    """
    told = [tally for at, tally in enumerate(tallies) if not at or _voted(tally) != _voted(tallies[at - 1])]
    after = [*told[1:], *told[-1:]]
    return [
        Round(tally, sorted(path for path in _voted(tally) if path not in then))
        for tally, then in zip(told, after, strict=True)
    ]


def _voted(tally: dict[str, float]) -> dict[str, float]:
    return {path: votes for path, votes in tally.items() if votes}
