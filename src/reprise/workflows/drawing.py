"""Plans as pictures, in the text that Mermaid draws."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from reprise.workflows.faults import targets_of
from reprise.workflows.steps import PlanStep

if TYPE_CHECKING:
    from reprise.workflows.plan import Plan

_SHAPES = {
    "agent_type": ("[", "]"),
    "tool": ("[", "]"),
    "function": ("[", "]"),
    "workflow": ("[[", "]]"),
    "wait_for": ("([", "])"),
    "ask": ("[/", "/]"),
    "sleep": ("([", "])"),
    "switch": ("{", "}"),
}
_LONGEST = 60


def to_mermaid(plan: Plan) -> str:
    """Return a plan as a flow chart: who does what, what waits for what, and which way is taken when."""
    ids = {step.name: f"s{number}" for number, step in enumerate(plan.steps)}
    lines = ["flowchart TD"]
    for step in plan.steps:
        left, right = _SHAPES[step.kind]
        lines.append(f'    {ids[step.name]}{left}"{_label(step)}"{right}')
    for step in plan.steps:
        lines += [f"    {edge}" for edge in _edges(step, ids)]
    return "\n".join(lines) + "\n"


def _label(step: PlanStep) -> str:
    who = getattr(step, step.kind)
    does = {
        "ask": lambda: f"asks: {who['title']}",
        "switch": lambda: "",
        "sleep": lambda: f"sleeps {who} s" if isinstance(who, int | float) else f"sleeps {who}",
        "wait_for": lambda: f"waits for {who}",
        "function": lambda: getattr(who, "__name__", "a function"),
    }.get(step.kind, lambda: who)()
    each = (
        ""
        if step.for_each is None
        else f"for each of {step.for_each if isinstance(step.for_each, str) else len(step.for_each)}"
    )
    when = (
        ""
        if step.condition is None
        else f"if {step.condition if isinstance(step.condition, str) else 'a function says so'}"
    )
    return "<br/>".join(filter(None, (_text(part) for part in (step.name, does, each, when))))


def _edges(step: PlanStep, ids: dict[str, str]) -> Iterator[str]:
    for name in step.dependencies:
        yield f"{ids[name]} --> {ids[step.name]}"
    if step.fallback:
        yield f"{ids[step.name]} -. fails .-> {ids[step.fallback]}"
    for case in step.switch:
        for name in targets_of(case):
            yield f'{ids[step.name]} -- "{_text(case.get("when", "else"))}" --> {ids[name]}'


def _text(text: str) -> str:
    """Return text that Mermaid takes for nothing else."""
    short = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
    for mark, name in (("#", "#35;"), ('"', "#quot;"), ("<", "#lt;"), (">", "#gt;"), ("\n", " ")):
        short = short.replace(mark, name)
    return short
