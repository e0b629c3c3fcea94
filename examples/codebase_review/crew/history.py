"""The researcher's second question: how the code came to be, from the commits."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from .facts import FileHistory, History, Period
from .git import ask
from .names import spell

MAX_COMMITS = 10_000
RECENT = timedelta(days=90)
_BARS = 72
_HEADER = re.compile(rb"\x01([0-9a-f]{40,64})\x02(-?\d+)\x02(.*)", re.DOTALL)
_EARLIEST, _LATEST = 0, 4_102_444_800  # 1970 and 2100: a commit may carry any time


@dataclass(frozen=True, slots=True)
class _Commit:
    at: datetime
    author: bytes
    files: list[str]


def read_history(root: Path) -> History:
    """Read churn, authors and age of the files below ``root``; never raises, says in ``note`` what was missing."""
    state = ask(root, "rev-parse", "--is-inside-work-tree", "--is-shallow-repository")
    if state.problem:
        return _none(state.problem)
    log = ask(
        root, "log", f"--max-count={MAX_COMMITS}", "-z", "--name-only", "--no-renames", "--relative",
        "--format=%x01%H%x02%ct%x02%aN", "--", ".", seconds=120,
    )  # fmt: skip
    if log.problem:
        return _none(log.problem)
    commits = sorted(_parse(log.out), key=lambda commit: commit.at)
    if not commits:
        return _none("no commit touches this folder")
    notes: list[str] = []
    if state.out.split()[-1:] == [b"true"]:
        notes.append("The clone is shallow: older commits are missing.")
    if len(commits) >= MAX_COMMITS:
        notes.append(f"Only the last {MAX_COMMITS:,} commits were read.")
    return _fold(commits, root, " ".join(notes))


def _none(why: str) -> History:
    return History(0, 0, None, None, 0, [], [], f"No history: {why}.")


def _parse(out: bytes) -> Iterator[_Commit]:
    """Read ``log -z --name-only``: a header, a line feed, names; each ended by NUL."""
    commit: _Commit | None = None
    for token in out.split(b"\0"):
        if header := _HEADER.fullmatch(token):
            if commit:
                yield commit
            seconds = min(max(int(header[2]), _EARLIEST), _LATEST)
            commit = _Commit(datetime.fromtimestamp(seconds, UTC), header[3], [])
        elif commit and token:
            name = token.removeprefix(b"\n") if not commit.files else token
            commit.files.append(os.fsdecode(name))
    if commit:
        yield commit


def _fold(commits: list[_Commit], root: Path, note: str) -> History:
    first, last = commits[0].at, commits[-1].at
    touched: defaultdict[str, list[_Commit]] = defaultdict(list)
    for commit in commits:
        for name in commit.files:
            touched[name].append(commit)
    present = sorted(name for name in touched if os.path.lexists(root / name))
    days = max(1, -(-(last - first).days // _BARS))
    return History(
        commits=len(commits),
        authors=len({commit.author for commit in commits}),
        first=first,
        last=last,
        period_days=days,
        periods=_periods(commits, days),
        files=[_file(spell(name), touched[name], last - RECENT) for name in present],
        note=note,
    )


def _file(name: str, commits: list[_Commit], since: datetime) -> FileHistory:
    return FileHistory(
        path=name,
        commits=len(commits),
        recent=sum(commit.at > since for commit in commits),
        authors=len({commit.author for commit in commits}),
        first=commits[0].at,
        last=commits[-1].at,
    )


def _periods(commits: list[_Commit], days: int) -> list[Period]:
    start = commits[0].at.replace(hour=0, minute=0, second=0, microsecond=0)
    made: Counter[int] = Counter()
    changed: Counter[int] = Counter()
    for commit in commits:
        slot = (commit.at - start).days // days
        made[slot] += 1
        changed[slot] += len(commit.files)
    return [
        Period(start + timedelta(days=days * slot), made[slot], changed[slot])
        for slot in range(max(made) + 1)
    ]
