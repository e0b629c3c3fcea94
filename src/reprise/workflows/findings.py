"""Faults of a plan: where, what, and what to do; and the plan as it is while nobody knows whether it is one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

from reprise.kernel.errors import ExpressionInvalid, PlanInvalid, nearest
from reprise.workflows.scanning import Place
from reprise.workflows.steps import PlanStep

MOST_SHOWN = 100
"""Faults that a message lists."""
_HINTS = 25
"""Names for which the nearest one is looked for: among many that takes a while."""


class Fault(NamedTuple):
    """One thing that is wrong."""

    place: Place
    """Where in the definition: ``("steps", 3, "condition")``."""
    step: str
    """Name of the step, '' = the plan itself."""
    what: str
    hint: str = ""
    at: int = -1
    """Place in the text that stands there, -1 = all of it."""

    @property
    def line(self) -> str:
        """What people read."""
        whose = [f"step {self.step!r}"] if self.step else []
        within = self.place[2:] if self.step else self.place
        where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in within)[1:]
        if where and self.at >= 0:
            where += f", column {self.at + 1}"
        return " ".join(filter(None, (": ".join([*whose, *filter(None, [where]), self.what]), self.hint)))


@dataclass
class Draft:
    """A plan that may have faults; fields as of ``Plan``."""

    name: str
    steps: Sequence[PlanStep] = ()
    max_concurrent: int | None = None
    timeout: Any = None
    inputs: Mapping[str, Any] = field(default_factory=dict[str, Any])
    output: Any = None
    description: str = ""
    version: str = ""

    def fields(self) -> dict[str, Any]:
        """Return them by name."""
        return dict(vars(self))


class Findings:
    """Collects faults."""

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self.faults: list[Fault] = []
        self._hints = _HINTS

    def plan(self, name: str, what: str, hint: str = "", *more: str | int, at: int = -1) -> None:
        """Note what is wrong with a field of the plan."""
        self.faults.append(Fault((name, *more) if name else (), "", what, hint, at))

    def step(self, number: int, name: str, what: str, hint: str = "", *more: str | int, at: int = -1) -> None:
        """Note what is wrong with a field of a step."""
        place: Place = ("steps", number, *((name, *more) if name else ()))
        self.faults.append(Fault(place, self.draft.steps[number].name or "?", what, hint, at))

    def near(self, name: str, valid: Iterable[str], otherwise: str = "") -> str:
        """Return the hint that names what was probably meant."""
        self._hints -= 1
        found = nearest(name, islice(valid, 20_000)) if self._hints >= 0 else ""
        return f"Did you mean {found!r}?" if found else otherwise


def said(error: ExpressionInvalid) -> str:
    """Return what is wrong with an expression, as part of a fault."""
    return error.what[:1].lower() + error.what[1:]


def invalid(name: str, faults: Sequence[Fault], lines: Sequence[str] = ()) -> PlanInvalid:
    """Return the error for these faults; ``lines`` say more of each than its own line."""
    lines = lines or [fault.line for fault in faults]
    count = "a fault" if len(faults) == 1 else f"{len(faults):,} faults"
    more = [f"… and {len(lines) - MOST_SHOWN:,} more"] if len(lines) > MOST_SHOWN else []
    return PlanInvalid(
        f"Plan {name!r} has {count}." if name else f"A plan has {count}.", faults=[*lines[:MOST_SHOWN], *more]
    )
