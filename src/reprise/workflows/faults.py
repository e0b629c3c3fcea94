"""What can be wrong with a plan: its steps one by one, what they wait for, the expressions in them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, cast

from reprise.kernel.errors import ConfigurationError
from reprise.kernel.policy import Retry, seconds
from reprise.kernel.priority import Priority
from reprise.workflows.findings import Draft, Fault, Findings
from reprise.workflows.graph import Graph
from reprise.workflows.references import check_expressions
from reprise.workflows.steps import KINDS, ON_ERROR, PlanStep, is_given, undoer

_NAME = re.compile(r"\w[\w :-]{0,99}")
_FORM = ("title", "schema", "to", "timeout", "on_timeout")
_TYPES = ("string", "integer", "number", "boolean", "null", "array", "object")
_WAITS = ("task", "retry", "cache", "compensation", "irreversible")
_NEITHER = (*_WAITS, "parameters", "for_each", "timeout", "writes", "on_error", "fallback")
_USELESS: dict[str, tuple[str, ...]] = {
    "agent_type": (),
    "tool": ("task",),
    "workflow": ("task", "cache", "compensation"),
    "function": ("task",),
    "wait_for": _WAITS,
    "ask": _WAITS,
    "sleep": _NEITHER,
    "switch": _NEITHER,
}
"""Fields that mean nothing, by who does the step."""
_PLAIN: dict[str, Any] = {
    "task": "", "retry": None, "cache": None, "compensation": None, "irreversible": False, "parameters": {},
    "for_each": None, "timeout": None, "writes": (), "on_error": "fail", "fallback": "",
}  # fmt: skip
"""What these fields are when nobody gave them."""


def find_faults(draft: Draft) -> list[Fault]:
    """Return all faults of a plan, in the order of its steps."""
    findings = Findings(draft)
    numbers = {step.name: number for number, step in reversed(list(enumerate(draft.steps)))}
    _check_plan(findings)
    for number, step in enumerate(draft.steps):
        _check_doer(findings, number, step)
        _check_values(findings, number, step)
        _check_links(findings, number, step, numbers)
    _check_switches(findings)
    graph = graph_of(draft.steps)
    for cycle in (cycle for cycle in graph.cycles() if len(cycle) > 1):
        names = [draft.steps[node].name for node in (*cycle, cycle[0])]
        way = " → ".join(names if len(names) < 20 else [*names[:10], "…", *names[-9:]])
        findings.step(
            cycle[0], "dependencies", f"steps wait for each other: {way}.", "Leave one of these out."
        )
    check_expressions(findings, graph, numbers)
    return sorted(findings.faults, key=_in_order)


def graph_of(steps: Sequence[PlanStep]) -> Graph:
    """Return what comes before what: dependencies, the switch before its steps, a step before its fallback."""
    numbers = {step.name: number for number, step in enumerate(steps)}
    before = [{numbers[name] for name in step.dependencies if name in numbers} for step in steps]
    for number, step in enumerate(steps):
        for name in targets(step):
            if name in numbers:
                before[numbers[name]].add(number)
    stand_ins = _stand_ins(steps, numbers, before)
    for step, those in zip(steps, before, strict=True):
        # What stands in for a dependency is waited for, too.
        those |= {
            numbers[name]
            for one in map(numbers.get, step.dependencies)
            if one is not None and (name := steps[one].fallback) in numbers and name != step.name
        }
    for number, users in stand_ins.items():
        before[number] |= users
    return Graph([sorted(those) for those in before])


def _stand_ins(
    steps: Sequence[PlanStep], numbers: Mapping[str, int], before: Sequence[set[int]]
) -> dict[int, set[int]]:
    """Return by fallback the steps that come before it.

    Of those whose place it may take, the ones below another of them do not: if that one fails, it is done before them.
    """
    users: dict[int, set[int]] = {}
    for number, step in enumerate(steps):
        if step.fallback in numbers:
            users.setdefault(numbers[step.fallback], set()).add(number)
    if any(len(some) > 1 for some in users.values()):
        graph = Graph([sorted(those) for those in before])
        for number, some in users.items():
            users[number] = {one for one in some if not any(graph.comes_before(other, one) for other in some)}
    return users


def targets(step: PlanStep) -> list[str]:
    """Return the steps that a switch leads to."""
    return [name for case in step.switch for name in targets_of(case)]


def targets_of(case: Mapping[str, Any]) -> list[str]:
    """Return the steps that a case of a switch leads to."""
    names = case.get("then", case.get("else", ()))
    return [name for name in cast("list[Any]", names) if isinstance(name, str)] if names else []


def _in_order(fault: Fault) -> tuple[bool, int]:
    is_step = fault.place[:1] == ("steps",) and len(fault.place) > 1
    return is_step, cast("Any", fault.place)[1] if is_step else 0


# ---------------------------------------------------------------- the plan itself


def _check_plan(findings: Findings) -> None:
    draft = findings.draft
    if not isinstance(cast("object", draft.name), str) or not draft.name.strip():
        findings.plan("name", "a plan needs a name.")
    if not draft.steps:
        findings.plan("steps", "a plan needs at least one step.")
    if draft.max_concurrent is not None and not _is_count(draft.max_concurrent):
        findings.plan("max_concurrent", f"{draft.max_concurrent!r} is no whole number from 1.")
    if draft.timeout is not None and (why := _no_time(draft.timeout)):
        findings.plan("timeout", why)
    counts = Counter(step.name for step in draft.steps)
    for number, step in enumerate(draft.steps):
        if counts[step.name] > 1:
            findings.step(
                number, "name", f"{counts[step.name]} steps have this name.", "Give each one of its own."
            )
            counts[step.name] = 0  # said once
    for name, schema in draft.inputs.items():
        kind = cast("dict[str, Any]", schema).get("type", "string") if isinstance(schema, dict) else None
        if not isinstance(schema, dict):
            findings.plan(
                "inputs", f"{schema!r} is no JSON Schema.", 'Write {"type": "string"} and the like.', name
            )
        elif isinstance(kind, str) and kind not in _TYPES:
            hint = findings.near(kind, _TYPES, f"There are {', '.join(_TYPES)}.")
            findings.plan("inputs", f"there is no type {kind!r}.", hint, name, "type")


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 1


def _no_time(value: Any) -> str:
    try:
        return "" if seconds(value) > 0 else "0 seconds are not enough for anything."
    except ConfigurationError:
        return f"{value!r} is no number of seconds above 0."


# ---------------------------------------------------------------- a step by itself


def _check_doer(findings: Findings, number: int, step: PlanStep) -> None:
    if not isinstance(cast("object", step.name), str) or not _NAME.fullmatch(step.name):
        findings.step(
            number,
            "name",
            f"{step.name!r} is no name.",
            "A name has letters, digits, _ - : and spaces, at most 100 in all.",
        )
    given = [kind for kind in KINDS if is_given(getattr(step, kind))]
    if not given:
        findings.step(number, "", "nobody does it.", f"Give one of {', '.join(KINDS)}.")
        return
    if len(given) > 1 and given != ["agent_type", "tool"]:
        what = f"{' and '.join(given)} {'both' if len(given) == 2 else 'all'} say who does it."
        findings.step(number, given[1], what, "Keep one; for the rest add steps.")
    for name in _USELESS[given[0]]:
        if getattr(step, name) != _PLAIN[name]:
            findings.step(number, name, f"it means nothing for a step with {given[0]}.", "Leave it out.")
    if step.ask is not None:
        _check_form(findings, number, step.ask)
    if step.function is not None and not callable(step.function):
        findings.step(number, "function", f"{step.function!r} cannot be called.")


def _check_form(findings: Findings, number: int, form: Any) -> None:
    if not isinstance(form, Mapping) or not cast("Mapping[str, Any]", form).get("title"):
        findings.step(number, "ask", "a form needs a title.", 'Write {"title": "…", "schema": {…}}.')
        return
    parts = cast("Mapping[str, Any]", form)
    for name in parts:
        if name not in _FORM:
            hint = findings.near(name, _FORM, f"It has {', '.join(_FORM)}.")
            findings.step(number, "ask", f"a form has no {name!r}.", hint, name)
    if not isinstance(parts.get("schema", {}), Mapping):
        findings.step(number, "ask", f"{parts['schema']!r} is no JSON Schema.", "", "schema")


def _check_values(findings: Findings, number: int, step: PlanStep) -> None:
    if step.on_error not in ON_ERROR:
        hint = findings.near(str(step.on_error), ON_ERROR, f"It is one of {', '.join(ON_ERROR)}.")
        findings.step(number, "on_error", f"there is no {step.on_error!r}.", hint)
    if not isinstance(cast("object", step.priority), Priority):
        names = [member.name.lower() for member in Priority]
        hint = findings.near(str(step.priority).lower(), names, f"It is one of {', '.join(names)}.")
        findings.step(number, "priority", f"there is no {step.priority!r}.", hint)
    if step.timeout is not None and (why := _no_time(step.timeout)):
        findings.step(number, "timeout", why)
    retry: Any = step.retry  # whatever it was given
    if isinstance(retry, tuple):
        findings.step(
            number, "retry", "retry and max_retries both say how often it is tried.", "Keep one of them."
        )
    elif retry is not None and not isinstance(retry, Retry):
        findings.step(number, "retry", f"{retry!r} is no Retry.", "Write Retry(3), or max_retries=2.")
    if not _is_count(step.concurrency):
        findings.step(number, "concurrency", f"{step.concurrency!r} is no whole number from 1.")
    if step.for_each is None:
        if step.concurrency != 10:
            findings.step(number, "concurrency", "it means nothing without for_each.", "Leave it out.")
        if not step.collect:
            findings.step(number, "collect", "it means nothing without for_each.", "Leave it out.")
    if step.function is not None and step.compensation is not None and not undoer(step.compensation):
        hint = 'Write {"agent": …, "task": …} or {"tool": …, "parameters": {…}}.'
        findings.step(number, "compensation", "nobody is named who undoes what a function did.", hint)
    if step.irreversible and step.compensation is not None:
        findings.step(
            number, "irreversible", "what is irreversible has no compensation.", "Leave one of them out."
        )
    if step.cache and (step.compensation is not None or step.irreversible):
        findings.step(
            number, "cache", "what has an effect is not cached: others would go without it.", "Leave it out."
        )


# ---------------------------------------------------------------- what a step waits for and leads to


def _check_links(findings: Findings, number: int, step: PlanStep, numbers: Mapping[str, int]) -> None:
    for place, name in enumerate(step.dependencies):
        if name == step.name:
            findings.step(number, "dependencies", "it waits for itself.", "Leave it out.", place)
        elif name in numbers and findings.draft.steps[numbers[name]].fallback == step.name:
            what = f"it stands in for {name!r}, and so is done after it as it is."
            findings.step(number, "dependencies", what, "Leave it out.", place)
        elif name not in numbers:
            hint = findings.near(str(name), numbers)
            findings.step(number, "dependencies", f"there is no step {name!r}.", hint, place)
        elif name in step.dependencies[:place]:
            findings.step(number, "dependencies", f"{name!r} stands there twice.", "Leave one out.", place)
    if step.fallback:
        if step.on_error != "fallback":
            findings.step(
                number,
                "fallback",
                f"on_error is {step.on_error!r}, so that it is never done.",
                'Write on_error="fallback".',
            )
        if step.fallback == step.name:
            findings.step(
                number, "fallback", "a step cannot stand in for itself.", "Name another, or give it a retry."
            )
        elif step.fallback not in numbers:
            hint = findings.near(step.fallback, numbers)
            findings.step(number, "fallback", f"there is no step {step.fallback!r}.", hint)
    elif step.on_error == "fallback":
        findings.step(number, "on_error", "it names no step that is done in its place.", "Write fallback=….")
    for case, name in ((c, n) for c, each in enumerate(step.switch) for n in targets_of(each)):
        if name == step.name:
            findings.step(number, "switch", "it leads to itself.", "Leave it out.", case)
        elif name not in numbers:
            findings.step(number, "switch", f"there is no step {name!r}.", findings.near(name, numbers), case)


def _check_switches(findings: Findings) -> None:
    led: dict[str, str] = {}
    for number, step in enumerate(findings.draft.steps):
        _check_cases(findings, number, step)
        for name in dict.fromkeys(targets(step)):
            if name in led:
                findings.step(
                    number,
                    "switch",
                    f"{name!r} is led to by {led[name]!r} already.",
                    "A step belongs to one switch.",
                )
            led.setdefault(name, step.name)


def _check_cases(findings: Findings, number: int, step: PlanStep) -> None:
    for place, case in enumerate(step.switch):
        keys = set(case)
        if keys not in ({"when", "then"}, {"else"}):
            hint = 'Write {"when": condition, "then": [step]} or {"else": [step]}.'
            findings.step(number, "switch", f"{case!r:.80} is no case.", hint, place)
        elif not targets_of(case):
            findings.step(
                number, "switch", "this case leads to no step.", "Name one, or leave it out.", place
            )
        elif keys == {"else"} and place < len(step.switch) - 1:
            findings.step(
                number, "switch", "what stands behind else is never reached.", "Put else at the end.", place
            )
