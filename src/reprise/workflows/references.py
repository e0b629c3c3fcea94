"""What the expressions of a plan read: whether it is there, known by then, and can be at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, cast

from reprise.kernel.errors import ExpressionInvalid
from reprise.workflows.expressions import FUNCTIONS, Expression, Template, compile  # noqa: A004
from reprise.workflows.findings import Findings, said
from reprise.workflows.graph import Graph
from reprise.workflows.scanning import Place, Reference
from reprise.workflows.steps import PlanStep

_ROOTS = ("inputs", "steps", "context")
_OF_ITEMS = ("item", "index")
_OUTCOME = ("result", "status", "error")
_FILLED = ("task", "parameters", "compensation", "ask")
"""Fields in which ``${…}`` is filled in; for a step with ``for_each``, once per item."""
_PYTHON = {
    "True": "true",
    "False": "false",
    "None": "null",
    "len": "size",
    "str": "string",
    "float": "double",
}


class Found(NamedTuple):
    """An expression and where it stands."""

    place: Place
    """The field, and what leads to the text in it."""
    at: int
    """Where it begins in that text."""
    expression: Expression


def check_expressions(findings: Findings, graph: Graph, numbers: Mapping[str, int]) -> None:
    """Note what is wrong with the expressions of all steps and of the output."""
    needs: list[dict[int, Found]] = []
    for number, step in enumerate(findings.draft.steps):
        reader = _Reader(findings, graph, numbers, number)
        for found in _expressions_of(step, reader):
            reader.check(found)
        needs.append(reader.needs)
    _check_reach(findings, graph, numbers, needs)
    reader = _Reader(findings, graph, numbers, -1)
    for found in _in_value(findings.draft.output, ("output",), reader):
        reader.check(found)


class _Reader:
    """Checks the expressions of one step; number -1 is the plan's output."""

    def __init__(self, findings: Findings, graph: Graph, numbers: Mapping[str, int], number: int) -> None:
        self.findings, self.graph, self.numbers, self.number = findings, graph, numbers, number
        self.step = findings.draft.steps[number] if number >= 0 else None
        self.needs: dict[int, Found] = {}
        """The steps without whose results this one cannot be done."""

    def note(self, place: Place, what: str, hint: str = "", at: int = -1) -> None:
        field, *more = cast("tuple[str, ...]", place)
        if self.number < 0:
            self.findings.plan(field, what, hint, *more, at=at)
        else:
            self.findings.step(self.number, field, what, hint, *more, at=at)

    def refuse(self, place: Place, error: ExpressionInvalid) -> None:
        self.note(place, said(error), error.hint, error.start)

    def check(self, found: Found) -> None:
        expression = found.expression
        for name, at in expression.functions:
            if name not in FUNCTIONS:
                meant = _PYTHON.get(name)
                hint = f"Write {meant}." if meant else self.findings.near(name, FUNCTIONS)
                self.note(found.place, f"there is no function {name!r}.", hint, found.at + at)
        for reference in expression.references:
            if self._is_wrong(found, reference):
                return  # my-step is read as my minus step: one fault is enough

    def _is_wrong(self, found: Found, reference: Reference) -> bool:
        root = reference.path[0]
        before = len(self.findings.faults)
        if root == "steps":
            self._check_step(found, reference)
        elif root == "inputs":
            self._check_input(found, reference)
        elif root in _OF_ITEMS:
            if self.step is None or self.step.for_each is None:
                self._say(found, reference, f"{root} is known in steps with for_each only.")
            elif found.place[0] not in _FILLED:
                self._say(
                    found, reference, f"{root} is not known in {found.place[0]}, which is asked once for all."
                )
        elif root not in _ROOTS:
            meant = _PYTHON.get(str(root))
            hint = f"Write {meant}." if meant else self.findings.near(str(root), (*_ROOTS, *_OF_ITEMS))
            self._say(found, reference, f"there is no {str(root)!r}.", hint or f"Known: {', '.join(_ROOTS)}.")
        return len(self.findings.faults) > before

    def _say(self, found: Found, reference: Reference, what: str, hint: str = "") -> None:
        self.note(found.place, what, hint, found.at + reference.at)

    def _check_input(self, found: Found, reference: Reference) -> None:
        inputs = self.findings.draft.inputs
        if inputs and len(reference.path) > 1 and reference.path[1] not in inputs:
            name = str(reference.path[1])
            self._say(found, reference, f"there is no input {name!r}.", self.findings.near(name, inputs))

    def _check_step(self, found: Found, reference: Reference) -> None:
        path = reference.path
        if len(path) < 2:
            self._say(found, reference, "steps are read one by one.", "Write steps.NAME.result.")
            return
        name = str(path[1])
        other = self.numbers.get(name)
        if other is None:
            longer = next(
                (one for one in self.numbers if one.startswith((f"{name}-", f"{name} ", f"{name}:"))), ""
            )
            hint = f'Write steps["{longer}"].' if longer else self.findings.near(name, self.numbers)
            self._say(found, reference, f"there is no step {name!r}.", hint)
        elif len(path) > 2 and path[2] not in _OUTCOME:
            hint = self.findings.near(str(path[2]), _OUTCOME, "Write steps.NAME.result, .status or .error.")
            self._say(found, reference, f"a step has no {str(path[2])!r}.", hint)
        elif self.number < 0:
            return
        elif other == self.number:
            if found.place[0] != "compensation":
                self._say(found, reference, "it reads its own result, before there is one.")
        elif other in self.graph.before[self.number] or self.graph.comes_before(other, self.number):
            if name in found.expression.needs and found.place[0] != "condition":
                self.needs[other] = found
        elif not self.graph.is_stuck(self.number):
            self._say(
                found,
                reference,
                f"it reads {name!r} and does not wait for it.",
                f"Add {name!r} to its dependencies.",
            )


# ---------------------------------------------------------------- where expressions stand


def _expressions_of(step: PlanStep, reader: _Reader) -> Iterator[Found]:
    for field in ("condition", "for_each", "sleep"):
        text = getattr(step, field)
        if isinstance(text, str):
            yield from _one(text, (field,), reader)
        elif field == "for_each" and text is not None:
            yield from _in_value(text, (field,), reader)
    for place, case in enumerate(step.switch):
        if "when" in case:
            yield from _one(case["when"], ("switch", place, "when"), reader)
    for field in _FILLED:
        value = getattr(step, field)
        if value and not (isinstance(value, str) and "${" not in value):
            yield from _in_value(value, (field,), reader)


def _one(text: Any, place: Place, reader: _Reader) -> Iterator[Found]:
    if not isinstance(text, str):
        reader.note(place, f"{text!r:.60} is no expression.", "Write one as text.")
        return
    try:
        yield Found(place, 0, compile(text))
    except ExpressionInvalid as error:
        reader.refuse(place, error)


def _in_value(value: Any, place: Place, reader: _Reader) -> Iterator[Found]:
    """Yield the expressions of a value, of each of its parts as far as it can be read."""
    if isinstance(value, Mapping):
        for key, item in cast("Mapping[str, Any]", value).items():
            yield from _in_value(item, (*place, key), reader)
    elif isinstance(value, list | tuple):
        for number, item in enumerate(cast("list[Any]", value)):
            yield from _in_value(item, (*place, number), reader)
    elif isinstance(value, str) and "${" in value:
        try:
            template = Template(value)
        except ExpressionInvalid as error:
            reader.refuse(place, error)
            return
        for one in template.expressions:
            yield Found(place, one.at, one.expression)


# ---------------------------------------------------------------- what can never be


def _check_reach(
    findings: Findings, graph: Graph, numbers: Mapping[str, int], needs: list[dict[int, Found]]
) -> None:
    """Note the steps that need results of which a switch lets only one be."""
    steps = findings.draft.steps
    if not any(step.switch for step in steps):
        return
    cases: dict[int, dict[int, set[int]]] = {}
    for number, step in enumerate(steps):
        for place, case in enumerate(step.switch):
            for name in case.get("then", case.get("else", ())):
                if name in numbers:
                    cases.setdefault(numbers[name], {}).setdefault(number, set()).add(place)
    guards: list[dict[int, set[int]]] = [{} for _ in steps]
    """By step: of each switch, the cases in which the step can be done."""
    for number in graph.order:
        guard = {switch: set(places) for switch, places in cases.get(number, {}).items()}
        for other, found in needs[number].items():
            for switch, places in guards[other].items():
                guard[switch] = guard.get(switch, places) & places
                if not guard[switch]:
                    findings.step(
                        number,
                        *_never(found, steps[other].name, steps[switch].name),
                    )
                    guard[switch] = set(places)
        guards[number] = guard


def _never(found: Found, needed: str, switch: str) -> tuple[Any, ...]:
    field, *more = found.place
    what = f"it is never reached: it needs the result of {needed!r}, which switch {switch!r} never lets run together with the rest."
    return (field, what, "Read steps.NAME.status first, or make it two steps.", *more)
