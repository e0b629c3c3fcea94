"""The reviewers: five readers of the same facts with different priorities.

Each turns a profile into a few *terms*, a share of worry and the words for it. The worry about a file is the sum of
the shares (0 to 1), the reason is the words of the two largest. Values level off (:func:`_rises`) instead of being
compared with the rest of the project, so that a clean project does not look as red as a bad one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median

from .facts import Function, Opinion, Place, Profile

Term = tuple[float, str]
_WEIGHT = {3: 4.0, 2: 1.5, 1: 0.1}
_NO_FUNCTION = Function("", 0, 0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Reviewer:
    """A name, the question that this reviewer asks of every file, and how a file answers it."""

    name: str
    asks: str
    terms: Callable[[Profile], Iterator[Term]]

    def worry(self, profile: Profile) -> float:
        """Return how much this reviewer worries about a file, 0 to 1."""
        return min(1.0, sum(share for share, _ in self.terms(profile)))

    def reason(self, profile: Profile) -> str:
        """Return the two things that count most, in words."""
        terms = sorted(self.terms(profile), key=lambda term: -term[0])
        return "; ".join(words for share, words in terms[:2] if share >= 0.02) or "nothing stands out"


def rank(name: str, candidates: list[Profile]) -> Opinion:
    """Let one reviewer put all candidates in order, the worst first; ties go by path."""
    reviewer = next(reviewer for reviewer in REVIEWERS if reviewer.name == name)
    worries = {profile.findings.path: reviewer.worry(profile) for profile in candidates}
    profiles = sorted(candidates, key=lambda p: (-worries[p.findings.path], p.findings.path))
    places = [
        Place(p.findings.path, round(worries[p.findings.path], 4), reviewer.reason(p)) for p in profiles
    ]
    return Opinion(name, _confidence(list(worries.values())), places)


def _confidence(worries: list[float]) -> float:
    """Tell how far the worst stands out: a reviewer to whom all files look alike should not pretend to know."""
    if not worries or not max(worries):
        return 0.5
    return round(0.5 + 0.5 * (1 - median(worries) / max(worries)), 3)


def _rises(value: float, half: float) -> float:
    """Level off: 0 for nothing, one half at ``half``, towards 1 beyond."""
    return value / (value + half)


def _most(count: int, one: str, many: str = "") -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def _hardest(profile: Profile) -> Function:
    return profile.findings.functions[0] if profile.findings.functions else _NO_FUNCTION


def _paths(profile: Profile) -> str:
    found = profile.findings
    return f"{_most(found.complexity, 'path')} through {_most(found.function_count, 'function')}"


def _nesting(profile: Profile) -> int:
    return max((function.nesting for function in profile.findings.functions), default=0)


def _maintainability(profile: Profile) -> Iterator[Term]:
    found, hardest, longest = profile.findings, _hardest(profile), profile.findings.longest or _NO_FUNCTION
    yield 0.32 * _rises(hardest.complexity, 20), f"{hardest.name} has {_most(hardest.complexity, 'path')}"
    yield 0.22 * _rises(longest.lines, 100), f"{longest.name} is {_most(longest.lines, 'line')} long"
    yield 0.14 * _rises(_nesting(profile), 5), f"blocks nest {_nesting(profile)} deep"
    yield 0.16 * _rises(found.complexity, 200), _paths(profile)
    yield 0.16 * min(1.0, 3 * profile.repeated), f"{profile.repeated:.0%} of its lines stand elsewhere too"


def _security(profile: Profile) -> Iterator[Term]:
    found = profile.findings
    risks = [risk for risk in found.risks if risk.severity > 1]
    points = sum(_WEIGHT[risk.severity] for risk in found.risks)
    if risks:
        words = f"{risks[0].rule} in line {risks[0].line}" + (
            f" and {len(risks) - 1} more" if risks[1:] else ""
        )
    else:
        words = _most(len(found.risks), "minor finding")
    yield 0.64 * _rises(points, 8), words
    yield 0.14 * _rises(found.complexity, 200), _paths(profile)
    yield 0.12 * _rises(profile.used_by, 8), f"{_most(profile.used_by, 'file')} depend on it"
    if not profile.tests and found.function_count:
        yield 0.10, "no test is tied to it"


def _change_risk(profile: Profile) -> Iterator[Term]:
    found, past = profile.findings, profile.history
    yield 0.26 * _rises(profile.used_by, 8), f"{_most(profile.used_by, 'file')} import it"
    if past:
        hot = profile.churn * _rises(found.complexity, 100)
        yield 0.42 * hot, f"changed {_most(past.commits, 'time')} with {_paths(profile)}"
        yield 0.18 * _rises(past.recent, 6), f"{_most(past.recent, 'commit')} in the last 90 days"
        yield 0.14 * _rises(past.authors - 1, 6), f"{_most(past.authors, 'author')}"
    else:
        yield 0.30 * _rises(found.complexity, 200), _paths(profile)
        yield 0.18 * _rises(profile.uses, 10), f"leans on {_most(profile.uses, 'file')} of the project"
        yield 0.16 * _rises(found.code, 600), f"{_most(found.code, 'line')} of code"


def _testability(profile: Profile) -> Iterator[Term]:
    found, hardest = profile.findings, _hardest(profile)
    if not profile.tests and found.function_count:
        yield 0.36 * _rises(found.complexity, 25), f"no test is tied to its {_most(found.complexity, 'path')}"
    else:
        per_test = found.complexity / max(1, len(profile.tests))
        yield 0.24 * _rises(per_test, 120), f"{_paths(profile)}, {_most(len(profile.tests), 'test file')}"
    yield 0.26 * _rises(hardest.complexity, 20), f"{hardest.name} has {_most(hardest.complexity, 'path')}"
    parameters = max(found.functions, key=lambda f: f.parameters, default=_NO_FUNCTION)
    yield (
        0.16 * _rises(parameters.parameters, 10),
        f"{parameters.name} takes {parameters.parameters} parameters",
    )
    yield (
        0.14 * _rises(found.global_names, 3),
        f"{_most(found.global_names, 'global name')} written by functions",
    )


def _onboarding(profile: Profile) -> Iterator[Term]:
    found, past = profile.findings, profile.history
    yield 0.30 * _rises(found.code, 600), f"{_most(found.code, 'line')} of code to read"
    silent = found.public - found.documented
    if silent > 1:
        words = f"{silent} of {found.public} public names without a docstring"
        yield 0.26 * (silent / found.public) * _rises(silent, 6), words
    yield 0.14 * _rises(_nesting(profile), 5), f"blocks nest {_nesting(profile)} deep"
    yield 0.16 * _rises(profile.uses, 10), f"needs {_most(profile.uses, 'other file')} to be understood"
    yield 0.08 * _rises(found.todos, 5), f"{_most(found.todos, 'open note')} (TODO and the like)"
    if past and past.authors == 1 and past.commits > 4:
        yield 0.06, "one author knows it"


REVIEWERS = (
    Reviewer("maintainability", "What will be hard to change without breaking it?", _maintainability),
    Reviewer("security", "Where could somebody get in, or data get out?", _security),
    Reviewer("change risk", "Where does the next change hurt most?", _change_risk),
    Reviewer("testability", "What is untested, and hard to test?", _testability),
    Reviewer("onboarding", "Where would a newcomer get lost?", _onboarding),
)
