"""What the agents hand to each other: frozen values of plain types, so that each survives a crash as JSON.

Paths inside the reviewed folder are text as :func:`crew.names.spell` writes it, relative to the folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

CODE = "code"
TEST = "test"
TEXT = "text"
BINARY = "binary"


# -- the researcher's ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Places:
    """Where the review reads and writes: absolute, so that a resumed run does not depend on where it resumes."""

    root: Path
    out: Path
    tests: Path | None
    """A folder of tests outside ``root``."""
    opened: datetime


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of the inventory. ``kind`` is code, test, text or binary; ``encoding`` is empty for binary."""

    path: str
    size: int
    language: str
    kind: str
    encoding: str


@dataclass(frozen=True, slots=True)
class Inventory:
    """Every file that the review knows of, in the order of their paths, and what was left out."""

    files: list[SourceFile]
    notes: list[str]


@dataclass(frozen=True, slots=True)
class FileHistory:
    """What the commits say about one file; ``recent`` counts those of the last 90 days of the history."""

    path: str
    commits: int
    recent: int
    authors: int
    first: datetime
    last: datetime


@dataclass(frozen=True, slots=True)
class Period:
    """One bar of the timeline."""

    start: datetime
    commits: int
    changes: int
    """Files changed, counted once per commit."""


@dataclass(frozen=True, slots=True)
class History:
    """The git history below the reviewed folder; ``commits`` is 0 when there is none, ``note`` says why."""

    commits: int
    authors: int
    first: datetime | None
    last: datetime | None
    period_days: int
    periods: list[Period]
    files: list[FileHistory]
    note: str


# -- the coders' --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Function:
    """One function: ``complexity`` is McCabe's number of paths, ``nesting`` the deepest block in it."""

    name: str
    line: int
    lines: int
    complexity: int
    nesting: int
    parameters: int


@dataclass(frozen=True, slots=True)
class Risk:
    """One construct that deserves a look; ``severity`` is 3 (high), 2 (medium) or 1 (low)."""

    rule: str
    severity: int
    line: int
    says: str
    code: str


@dataclass(frozen=True, slots=True)
class Findings:
    """What a coder measured in one file.

    ``functions`` holds the hardest twelve; ``complexity`` and ``function_count`` are over all of them.
    ``problem`` says what kept the coder from measuring everything.
    """

    path: str
    lines: int
    code: int
    function_count: int
    hard: int
    """Functions with fifteen paths or more."""
    complexity: int
    functions: list[Function]
    longest: Function | None
    risks: list[Risk]
    todos: int
    public: int
    documented: int
    global_names: int
    problem: str


@dataclass(frozen=True, slots=True)
class Traces:
    """What means something only beside the other files.

    ``imports`` are the dotted names that a file imports or uses of its imports, ``defines`` the names of its top
    level, ``prints`` its winnowed fingerprints: ``[hash, ordinal of the first line, first line, last line]``.
    """

    path: str
    imports: list[str]
    defines: list[str]
    prints: list[list[int]]


@dataclass(frozen=True, slots=True)
class Measured:
    """All that a coder hands back for one file."""

    findings: Findings
    traces: Traces


@dataclass(frozen=True, slots=True)
class Clone:
    """The same lines in two places."""

    path: str
    line: int
    lines: int
    other: str
    other_line: int


@dataclass(frozen=True, slots=True)
class Clones:
    """The longest clones, and for each file how many of its lines stand elsewhere too."""

    clones: list[Clone]
    repeated: dict[str, int]


# -- the tester's -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ties:
    """How one code file hangs together with the rest."""

    path: str
    tests: list[str]
    """Test files that import it, use a name that it defines, or are named after it."""
    used_by: int
    uses: int


@dataclass(frozen=True, slots=True)
class CoverageMap:
    """Which tests belong to which code, and who imports whom."""

    ties: list[Ties]
    test_files: int
    adrift: list[str]
    """Test files that lead to no code file."""


# -- the reviewers' and the publicist's ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Profile:
    """All that is known about one code file: what the reviewers judge by."""

    findings: Findings
    language: str
    tests: list[str]
    used_by: int
    uses: int
    repeated: float
    """Share of its lines that stand elsewhere too."""
    churn: float
    """Place among the files by number of commits: 1 the most changed, 0 without history."""
    history: FileHistory | None


@dataclass(frozen=True, slots=True)
class Concern:
    """How much each reviewer worries about one file (0 to 1, by reviewer), and the mean of it as 0 to 100."""

    path: str
    by: dict[str, float]
    risk: int


@dataclass(frozen=True, slots=True)
class Dossier:
    """The case files: profiles of all code, concerns in the order of risk, and the candidates for the vote."""

    profiles: list[Profile]
    concerns: list[Concern]
    candidates: list[str]


@dataclass(frozen=True, slots=True)
class Place:
    """One place of a reviewer's ranking."""

    path: str
    worry: float
    reason: str


@dataclass(frozen=True, slots=True)
class Opinion:
    """A reviewer's full ranking of the candidates, the worst first."""

    reviewer: str
    confidence: float
    ranking: list[Place]


@dataclass(frozen=True, slots=True)
class Round:
    """One round of the run-off: the votes of each candidate that still stood, and who left after it."""

    number: int
    votes: dict[str, float]
    left: list[str]


@dataclass(frozen=True, slots=True)
class Contest:
    """How one place of the order was decided, round by round; ``score`` is the winner's share in the last one."""

    winner: str
    rounds: list[Round]
    score: float
    reason: str


@dataclass(frozen=True, slots=True)
class Settlement:
    """What the vote decided: one contest for each place, the first place first."""

    contests: list[Contest]

    @property
    def order(self) -> list[str]:
        """The winners, the worst hotspot first."""
        return [contest.winner for contest in self.contests]


@dataclass(frozen=True, slots=True)
class Review:
    """Everything that the report shows."""

    places: Places
    inventory: Inventory
    history: History
    findings: list[Findings]
    clones: Clones
    coverage: CoverageMap
    dossier: Dossier
    opinions: list[Opinion]
    settlement: Settlement


@dataclass(frozen=True, slots=True)
class Summary:
    """What the run returns."""

    report: Path
    data: Path
    files: int
    lines: int
    functions: int
    risky: int
    untested: int
    top: list[str]
    notes: list[str]
