"""What became of a specification: which operations are tools, which are not, and why."""

from __future__ import annotations

from collections import Counter
from typing import Literal

import msgspec

Outcome = Literal["tool", "skipped", "held", "failed"]


class OperationReport(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one operation.

    ``tool``: it can be called. ``skipped``: it was left out as wanted. ``held``: what models are told of it has changed, and
    nobody has agreed to that. ``failed``: it cannot be called; ``notes`` say why, or else what of it was left out.
    """

    method: str
    path: str
    outcome: Outcome
    name: str = ""
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        about = f"{self.outcome} {self.method.upper()} {self.path}"
        return f"{about}{f' ({self.name})' if self.name else ''}{': ' if self.notes else ''}{' '.join(self.notes)}"


class OpenAPIReport(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a specification.

    ``servers`` are those that calls go to, and nowhere else; ``notes`` are on the whole of it.

    >>> report = OpenAPIReport(title="Pets", version="3.1.0", operations=(
    ...     OperationReport(method="get", path="/pets", outcome="tool", name="list_pets"),
    ...     OperationReport(method="get", path="/old", outcome="skipped", notes=("deprecated",))))
    >>> report.counts
    {'tool': 1, 'skipped': 1, 'held': 0, 'failed': 0}
    >>> print(report)
    Pets, OpenAPI 3.1.0: 1 tool, 1 skipped, 0 held, 0 failed
      skipped GET /old: deprecated
    """

    title: str = ""
    version: str = ""
    operations: tuple[OperationReport, ...] = ()
    servers: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """How many operations came to what."""
        found = Counter(each.outcome for each in self.operations)
        return {outcome: found[outcome] for outcome in ("tool", "skipped", "held", "failed")}

    def __str__(self) -> str:
        counts = ", ".join(f"{number} {outcome}" for outcome, number in self.counts.items())
        kind = "Swagger" if self.version.startswith("2") else "OpenAPI"
        notable = [str(each) for each in self.operations if each.outcome != "tool" or each.notes]
        return "\n  ".join([f"{self.title}, {kind} {self.version}: {counts}", *self.notes, *notable])
