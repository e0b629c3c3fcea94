"""Rules for branches of one piece of work: each comes to something or fails, and a rule says what that makes of the whole.

A judge hears what the branches come to, one after the other, and decides as soon as nothing that the others could still
say would change the outcome. What it hears later changes nothing: who asks early and who asks at last are told the same.

>>> judge = majority(3)
>>> judge.hear(Claim("a", "yes"))
>>> judge.hear(Claim("b", "yes"))
Decision(met=True, members=('a', 'b'), reason='2 of 3 say the same.')
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from math import ceil

import msgspec

from reprise.kernel.errors import ConfigurationError


class Claim(msgspec.Struct, frozen=True):
    """What one branch came to."""

    by: str
    """Name of the branch."""
    option: str = ""
    """What it says, so that equal answers are equal texts; of no matter to rules that only count."""
    failed: bool = False


class Decision(msgspec.Struct, frozen=True):
    """What the branches come to together."""

    met: bool
    """Whether there is a result."""
    members: tuple[str, ...]
    """The branches whose results make it up, in the order in which they ended."""
    reason: str
    """Why, in one sentence."""


class Judge:
    """A rule that is being applied to so many branches; ``decision`` is None while the outcome may still change."""

    def __init__(self, branches: int) -> None:
        self.branches = branches
        self.heard = 0
        self.decision = self._decide()

    def hear(self, claim: Claim) -> Decision | None:
        """Take in what the next branch came to, and return the decision if there is one."""
        if self.decision is None:
            self.heard += 1
            if not claim.failed:
                self._count(claim)
            self.decision = self._decide()
        return self.decision

    def _count(self, claim: Claim) -> None:
        raise NotImplementedError

    def _decide(self) -> Decision | None:
        raise NotImplementedError


def decide(judge: Judge, claims: Iterable[Claim]) -> Decision | None:
    """Let a judge hear several claims, and return the decision if there is one.

    >>> decide(threshold(3, 2), [Claim("a"), Claim("b", failed=True), Claim("c")]).members
    ('a', 'c')
    """
    for claim in claims:
        judge.hear(claim)
    return judge.decision


def first_success(branches: int) -> Judge:
    """Return the rule that takes the first of so many branches that does not fail.

    >>> decide(first_success(3), [Claim("a", failed=True), Claim("b")]).members
    ('b',)
    """
    return _Count(branches, 1)


def threshold(branches: int, needed: float) -> Judge:
    """Return the rule that wants ``needed`` of the branches to succeed, whatever they say.

    A whole number is how many, a float from 0 to 1 a share of them, rounded up: 1 is one branch, 1.0 all of them.

    Raises:
        ConfigurationError: it is neither.

    >>> decide(threshold(4, 0.5), [Claim("a"), Claim("b", failed=True), Claim("c")]).reason
    '2 of 4 succeeded.'
    >>> decide(threshold(3, 2), [Claim("a", failed=True), Claim("b", failed=True)]).reason
    'Fewer than 2 of 3 can succeed.'
    """
    return _Count(branches, quorum(branches, needed))


def all_of(branches: int) -> Judge:
    """Return the rule that waits for every branch and takes all that succeeded; it is met unless all of them failed.

    >>> decide(all_of(2), [Claim("a"), Claim("b", failed=True)])
    Decision(met=True, members=('a',), reason='1 of 2 succeeded.')
    """
    return _All(branches)


def majority(branches: int) -> Judge:
    """Return the rule that wants more than half of all branches to say the same; one that fails says nothing.

    >>> decide(majority(4), [Claim("a", "x"), Claim("b", "y"), Claim("c", failed=True)]).reason
    'No answer can be that of more than half of 4.'
    """
    return _Majority(branches)


def quorum(branches: int, needed: float) -> int:
    """Return how many branches are meant by a number or a share of them.

    Raises:
        ConfigurationError: it is neither a whole number from 1 nor a float above 0 and up to 1.

    >>> quorum(10, 3), quorum(10, 0.25), quorum(3, 2 / 3), quorum(3, 1.0)
    (3, 3, 2, 3)
    """
    is_share = isinstance(needed, float)
    if isinstance(needed, bool) or not (0 < needed <= 1 if is_share else needed >= 1):
        raise ConfigurationError(
            f"The threshold is {needed!r}.",
            hint="Give how many must succeed (2), or which share of them (0.5); 1.0 means all.",
        )
    # 0.07 * 100 is a little more than 7, and 7 is meant.
    return ceil(branches * needed - 1e-9) if is_share else int(needed)


class _Count(Judge):
    def __init__(self, branches: int, needed: int) -> None:
        self._needed = needed
        self._members: list[str] = []
        super().__init__(branches)

    def _count(self, claim: Claim) -> None:
        self._members.append(claim.by)

    def _decide(self) -> Decision | None:
        needed, branches, count = self._needed, self.branches, len(self._members)
        if count >= needed:
            return Decision(True, tuple(self._members), f"{needed} of {branches} succeeded.")
        if count + branches - self.heard < needed:
            return Decision(False, (), f"Fewer than {needed} of {branches} can succeed.")
        return None


class _All(Judge):
    def __init__(self, branches: int) -> None:
        self._members: list[str] = []
        super().__init__(branches)

    def _count(self, claim: Claim) -> None:
        self._members.append(claim.by)

    def _decide(self) -> Decision | None:
        if self.heard < self.branches:
            return None
        members = tuple(self._members)
        met = bool(members) or not self.branches
        return Decision(met, members, f"{len(members)} of {self.branches} succeeded.")


class _Majority(Judge):
    def __init__(self, branches: int) -> None:
        self._said: dict[str, list[str]] = defaultdict(list)
        self._best: list[str] = []
        super().__init__(branches)

    def _count(self, claim: Claim) -> None:
        same = self._said[claim.option]
        same.append(claim.by)
        if len(same) > len(self._best):
            self._best = same

    def _decide(self) -> Decision | None:
        branches, best = self.branches, self._best
        needed = branches // 2 + 1
        if len(best) >= needed:
            return Decision(True, tuple(best), f"{needed} of {branches} say the same.")
        if len(best) + branches - self.heard < needed:
            return Decision(False, (), f"No answer can be that of more than half of {branches}.")
        return None
