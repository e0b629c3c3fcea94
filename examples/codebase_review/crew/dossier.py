"""Put together what the agents found about each file, and nominate the candidates for the vote."""

from __future__ import annotations

from bisect import bisect_left
from itertools import chain, zip_longest

from .facts import (
    CODE,
    Clones,
    Concern,
    CoverageMap,
    Dossier,
    FileHistory,
    Findings,
    History,
    Profile,
    SourceFile,
    Ties,
)
from .reviewers import REVIEWERS

CANDIDATES = 12


def compile_dossier(
    files: list[SourceFile], findings: list[Findings], history: History, clones: Clones, coverage: CoverageMap
) -> Dossier:
    """Profile every code file and let each reviewer nominate in turn until there are :data:`CANDIDATES`."""
    code = {file.path: file for file in files if file.kind == CODE}
    past = {file.path: file for file in history.files if file.path in code}
    ties = {tie.path: tie for tie in coverage.ties}
    ladder = sorted(file.commits for file in past.values())
    profiles = [
        _profile(code[found.path], found, ties.get(found.path), past.get(found.path), ladder, clones)
        for found in findings
        if found.path in code
    ]
    concerns = sorted(map(_concern, profiles), key=lambda concern: (-concern.risk, concern.path))
    return Dossier(profiles=profiles, concerns=concerns, candidates=_nominate(profiles, concerns))


def _profile(
    file: SourceFile,
    found: Findings,
    tie: Ties | None,
    past: FileHistory | None,
    ladder: list[int],
    clones: Clones,
) -> Profile:
    return Profile(
        findings=found,
        language=file.language,
        tests=tie.tests if tie else [],
        used_by=tie.used_by if tie else 0,
        uses=tie.uses if tie else 0,
        repeated=round(min(1.0, clones.repeated.get(found.path, 0) / max(1, found.lines)), 4),
        churn=round(bisect_left(ladder, past.commits) / max(1, len(ladder) - 1), 4) if past else 0.0,
        history=past,
    )


def _concern(profile: Profile) -> Concern:
    by = {reviewer.name: round(reviewer.worry(profile), 4) for reviewer in REVIEWERS}
    return Concern(profile.findings.path, by, round(100 * sum(by.values()) / len(by)))


def _nominate(profiles: list[Profile], concerns: list[Concern]) -> list[str]:
    """Return the candidates in the order of risk, as many from each reviewer's list as from the others'."""
    measured = {p.findings.path for p in profiles if p.findings.function_count or p.findings.risks}
    eligible = [concern for concern in concerns if concern.path in measured]
    lists = [
        [c.path for c in sorted(eligible, key=lambda c: (-c.by[name], c.path))[:CANDIDATES]]
        for name in (reviewer.name for reviewer in REVIEWERS)
    ]
    in_turn = dict.fromkeys(path for path in chain.from_iterable(zip_longest(*lists)) if path)
    chosen = set(list(in_turn)[:CANDIDATES])
    return [concern.path for concern in eligible if concern.path in chosen]
