"""Rules: pure functions that turn ballots into a verdict.

No rule depends on the order of the ballots or on how options are called. Where nothing in the ballots separates the
best options there is no winner: :attr:`Verdict.tie` names them, and whoever asked decides what to do (ask a
supervisor, ask again). Nor is there one where the best option has too little; :attr:`Verdict.score` says how much.

What branches of one piece of work came to is judged by :mod:`reprise.kernel.claims`, what several want to write in one
place by :mod:`reprise.kernel.writes`.

>>> verdict = plurality([Ballot("ann", "tea"), Ballot("bob", "tea"), Ballot("cem", "milk")])
>>> verdict.winner, verdict.tallies
('tea', {'tea': 2.0, 'milk': 1.0})
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from math import fsum, isclose, isfinite

import msgspec

from reprise.kernel.errors import ConfigurationError

TWO_THIRDS = 2 / 3


class Ballot(msgspec.Struct, frozen=True):
    """What one voter says. One ballot for each voter is the caller's business.

    A ballot without ``option`` and ``ranking`` abstains. Raises ``ConfigurationError`` for a confidence outside 0..1
    and a weight that is negative or no finite number.
    """

    voter: str
    option: str = ""
    """The first choice."""
    ranking: tuple[str, ...] = ()
    """Best first, not necessarily all; without it only ``option`` is ranked."""
    confidence: float = 1.0
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.confidence <= 1:
            raise ConfigurationError(
                f"The confidence of {self.voter!r} is {self.confidence}; it lies between 0 and 1."
            )
        if not (self.weight >= 0 and isfinite(self.weight)):
            raise ConfigurationError(
                f"The weight of {self.voter!r} is {self.weight}; it is a number from 0 up."
            )

    def preferences(self) -> tuple[str, ...]:
        """Return the options from best to worst, each once."""
        ranked = self.ranking or ((self.option,) if self.option else ())
        return tuple(dict.fromkeys(ranked))


class Verdict(msgspec.Struct, frozen=True):
    """What a rule made of the ballots."""

    winner: str | None
    tallies: dict[str, float]
    """What each option got, best first; of several rounds, in the one that decided."""
    rounds: tuple[dict[str, float], ...]
    """Tallies of each round up to the one that decided."""
    score: float
    """Share of the best option (or of each that is tied) in all that was cast, 0..1."""
    reason: str
    """Why, in one sentence."""
    tie: tuple[str, ...] = ()
    """The options that nothing separates, by name, where there is no winner."""
    order: tuple[tuple[str, ...], ...] = ()
    """All options from best to worst; those that nothing separates share a place."""


Rule = Callable[[Sequence[Ballot]], Verdict]

_UNDECIDED = "No vote that counts was cast."


def plurality(ballots: Sequence[Ballot]) -> Verdict:
    """Give the victory to the option that most voters chose, a majority or not; one voter, one vote.

    >>> plurality([Ballot("ann", "tea"), Ballot("bob", "milk")]).tie
    ('milk', 'tea')
    """
    return _most((b.preferences()[:1], 1.0) for b in ballots)


def weighted(ballots: Sequence[Ballot]) -> Verdict:
    """Give the victory to the option with the greatest sum of confidence times weight.

    >>> weighted([Ballot("ann", "tea", confidence=0.9), Ballot("bob", "milk", confidence=0.5, weight=2)]).winner
    'milk'
    """
    return _most((b.preferences()[:1], b.confidence * b.weight) for b in ballots)


def majority(ballots: Sequence[Ballot]) -> Verdict:
    """Give the victory to the option that more than half of the voters chose; who abstains is not counted.

    >>> majority([Ballot("ann", "tea"), Ballot("bob", "tea"), Ballot("cem", "milk")]).winner
    'tea'
    >>> majority([Ballot("ann", "tea"), Ballot("bob", "milk")]).reason
    'milk and tea are tied.'
    """
    return _enough(ballots, 0.5, beyond=True)


def supermajority(share: float = TWO_THIRDS) -> Rule:
    """Return the rule that gives the victory to the option with at least that share of the votes; one voter, one vote.

    Raises:
        ConfigurationError: the share is not above one half, or above 1.

    >>> votes = [Ballot("ann", "tea"), Ballot("bob", "tea"), Ballot("cem", "milk")]
    >>> supermajority()(votes).winner, supermajority(3 / 4)(votes).reason
    ('tea', 'tea got 67% of the votes, 75% are needed.')
    """
    if not 0.5 < share <= 1:
        raise ConfigurationError(
            f"The share of a supermajority is {share!r}.",
            hint="Give more than 0.5 and at most 1, such as 2/3.",
        )
    return partial(_enough, share=share)


def unanimous(ballots: Sequence[Ballot]) -> Verdict:
    """Give the victory to the option that everybody who voted chose.

    >>> unanimous([Ballot("ann", "tea"), Ballot("bob", "tea"), Ballot("cem")]).winner
    'tea'
    """
    return _enough(ballots, 1.0)


def ranked_choice(ballots: Sequence[Ballot]) -> Verdict:
    """Decide by instant runoff: the weakest option is eliminated and its ballots pass on, until one has a majority.

    A ballot counts its ``weight`` for the first of its options that is still there; one with none left is exhausted and
    counts no more. A majority is more than half of what still counts. This is the method of W. R. Ware (1871).

    Ties for the last place are broken, in this order, by
        1. fewer votes in the round before, and so back to the first round;
        2. fewer points when each ballot gives an option one for every option that it ranks lower (those it does not
           rank are lower than all it ranks, and equal);
        3. nothing: the options that are equal in all this are eliminated together. If these are all that is left,
           there is no winner but a tie.

    >>> ballots = [Ballot(str(i), ranking=r) for i, r in enumerate(["ab", "ab", "cb", "cb", "ba"])]
    >>> verdict = ranked_choice([Ballot(b.voter, ranking=tuple(b.ranking)) for b in ballots])
    >>> verdict.winner, verdict.rounds
    ('a', ({'a': 2.0, 'c': 2.0, 'b': 1.0}, {'a': 3.0, 'c': 2.0}))
    """
    votes = [(ballot.preferences(), ballot.weight) for ballot in ballots]
    options = {option for ranking, _ in votes for option in ranking}
    points = _points(votes, options)
    rounds: list[dict[str, float]] = []
    places: list[tuple[str, ...]] = []
    while options:
        rounds.append(_first_choices(votes, options))
        last = _weakest(rounds, points)
        places.append(tuple(sorted(last)))
        options -= last
    return _runoff_verdict(rounds, places[::-1])


# ---------------------------------------------------------------- one round


def _sums(votes: Iterable[tuple[str, float]], options: Iterable[str] = ()) -> dict[str, float]:
    # fsum rounds once, so that the order of the ballots cannot show in the last digit.
    shares: dict[str, list[float]] = defaultdict(list, {option: [] for option in options})
    for option, share in votes:
        shares[option].append(share)
    sums = {option: fsum(each) for option, each in shares.items()}
    return dict(sorted(sums.items(), key=lambda item: (-item[1], item[0])))


def _equal(left: float, right: float) -> bool:
    return isclose(left, right, rel_tol=1e-9, abs_tol=1e-12)


def _most(votes: Iterable[tuple[Sequence[str], float]]) -> Verdict:
    tallies = _sums((choice[0], share) for choice, share in votes if choice)
    total = fsum(tallies.values())
    if not total:
        return Verdict(None, tallies, (tallies,), 0.0, _UNDECIDED)
    best = next(iter(tallies.values()))
    winner, *others = [option for option, sum_ in tallies.items() if _equal(sum_, best)]
    share = min(1.0, best / total)
    order = _places(tallies)
    if others:
        tie = tuple(sorted([winner, *others]))
        return Verdict(None, tallies, (tallies,), share, f"{' and '.join(tie)} are tied.", tie, order)
    return Verdict(winner, tallies, (tallies,), share, f"{winner} got {share:.0%} of the votes.", (), order)


def _enough(ballots: Sequence[Ballot], share: float, *, beyond: bool = False) -> Verdict:
    """Return the verdict of a plurality whose winner has that share of the votes, or more than it."""
    verdict = plurality(ballots)
    if verdict.winner is None or (verdict.score > share if beyond else verdict.score >= share - 1e-9):
        return verdict
    needed = "more than half is" if beyond else f"{share:.0%} are"
    reason = f"{verdict.winner} got {verdict.score:.0%} of the votes, {needed} needed."
    return msgspec.structs.replace(verdict, winner=None, reason=reason)


def _places(tallies: Mapping[str, float]) -> tuple[tuple[str, ...], ...]:
    places: list[list[str]] = []
    before: float | None = None
    for option, sum_ in tallies.items():
        if before is not None and _equal(before, sum_):
            places[-1].append(option)
        else:
            places.append([option])
        before = sum_
    return tuple(tuple(sorted(place)) for place in places)


# ---------------------------------------------------------------- instant runoff


def _first_choices(votes: Sequence[tuple[tuple[str, ...], float]], options: set[str]) -> dict[str, float]:
    tops = (
        (next((option for option in ranking if option in options), None), weight) for ranking, weight in votes
    )
    return _sums(((option, weight) for option, weight in tops if option is not None), options)


def _points(votes: Sequence[tuple[tuple[str, ...], float]], options: set[str]) -> dict[str, float]:
    given = (
        (option, weight * (len(options) - 1 - at))
        for ranking, weight in votes
        for at, option in enumerate(ranking)
    )
    return _sums(given, options)


def _weakest(rounds: Sequence[Mapping[str, float]], points: Mapping[str, float]) -> set[str]:
    last = set(rounds[-1])
    for tallies in (*reversed(rounds), points):
        least = min(tallies[option] for option in last)
        last = {option for option in last if _equal(tallies[option], least)}
        if len(last) == 1:
            break
    return last


def _runoff_verdict(rounds: Sequence[dict[str, float]], places: Sequence[tuple[str, ...]]) -> Verdict:
    cast = fsum(rounds[0].values()) if rounds else 0.0
    if not cast:
        return Verdict(None, {}, tuple(rounds[:1]), 0.0, _UNDECIDED, (), tuple(places))
    winner, *others = places[0]
    if others:
        tie, final = places[0], rounds[-1]
        share = min(1.0, final[winner] / cast)
        reason = f"Nothing in the ballots separates {' and '.join(tie)}."
        return Verdict(None, final, tuple(rounds), share, reason, tie, tuple(places))
    decided = next(at for at, tallies in enumerate(rounds) if _majority(tallies, winner))
    tallies, share = rounds[decided], min(1.0, rounds[decided][winner] / cast)
    reason = f"{winner} has a majority in round {decided + 1}, {share:.0%} of all votes."
    return Verdict(winner, tallies, tuple(rounds[: decided + 1]), share, reason, (), tuple(places))


def _majority(tallies: Mapping[str, float], option: str) -> bool:
    half = fsum(tallies.values()) / 2
    return len(tallies) == 1 or (tallies[option] > half and not _equal(tallies[option], half))
