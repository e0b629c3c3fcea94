"""Plans as data: from what JSON holds to a plan and back, and the schema of it.

One table per level says which fields there are; reading, the published schema and the nearest name of a typo come from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, cast

from reprise.kernel.errors import CodecError, ConfigurationError
from reprise.kernel.policy import Retry, seconds_in
from reprise.kernel.priority import Priority
from reprise.kernel.schema import misfits
from reprise.kernel.shape import Misfit, check_plain
from reprise.workflows.faults import find_faults
from reprise.workflows.findings import Draft, Fault, Findings
from reprise.workflows.steps import KINDS, ON_ERROR, PlanStep, as_lists

if TYPE_CHECKING:
    from reprise.workflows.plan import Plan

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_OBJECT: Schema = {"type": "object"}
_FLAG: Schema = {"type": "boolean"}
_COUNT: Schema = {"type": "integer", "minimum": 1}
_NAMES: Schema = {"type": ["array", "string"], "items": _TEXT}
_LENGTH: Schema = {"type": ["number", "string"]}
_TRIES: Schema = {"type": "integer", "minimum": 0}
_RETRY: dict[str, Schema] = {
    "attempts": _COUNT,
    "backoff": {"type": "number", "minimum": 0},
    "factor": {"type": "number", "minimum": 1},
    "max_delay": {"type": "number", "minimum": 0},
    "jitter": {"enum": ["full", "none"]},
}


def _table(said: Mapping[str, tuple[Schema, str]]) -> dict[str, Schema]:
    return {name: {"description": text, **schema} for name, (schema, text) in said.items()}


_STEP = _table(
    {
        "name": (_TEXT, "Its key in the history; unique in the plan."),
        "description": (_TEXT, "For people."),
        "agent_type": (_TEXT, "Name of the agent that does it."),
        "tool": (_TEXT, "Name of the tool that does it; beside agent_type, what the agent is asked to use."),
        "workflow": (_TEXT, "Name of a workflow, which becomes a child run; parameters are its inputs."),
        "wait_for": (_TEXT, "Name of a signal; its value is the result."),
        "ask": (_OBJECT, "A person's form: title, schema, to, timeout, on_timeout."),
        "sleep": (_LENGTH, "Seconds, a length such as 90m, or an expression that gives seconds."),
        "switch": (
            {"type": "array", "items": _OBJECT},
            'Cases {"when": CEL, "then": [step]}, the last may be {"else": [step]}.',
        ),
        "task": ({}, "What the agent is to do; ${…} is filled in."),
        "parameters": (_OBJECT, "What a tool or workflow is given; ${…} is filled in."),
        "dependencies": (_NAMES, "Names of the steps that come before it."),
        "condition": (_TEXT, "CEL; false = the step is skipped."),
        "for_each": ({"type": ["array", "string"]}, "A list, or CEL that gives one: done for each item."),
        "concurrency": (_COUNT, "Items of for_each done at once."),
        "collect": (_FLAG, "Whether the result of for_each is the list of results, or only their number."),
        "retry": (
            {"type": "object", "properties": _RETRY, "additionalProperties": False},
            "How often it is tried; attempts includes the first.",
        ),
        "timeout": (_LENGTH, "Seconds of one attempt, or a length such as 90s."),
        "priority": (
            {"enum": [member.name.lower() for member in reversed(Priority)]},
            "Which of several that could start does so first.",
        ),
        "on_error": ({"enum": list(ON_ERROR)}, "What becomes of the rest when it fails."),
        "fallback": (_TEXT, "The step that is done in its place when it fails."),
        "compensation": ({}, "What undoes it."),
        "irreversible": (_FLAG, "Once it is done the plan is not compensated any more."),
        "cache": (
            {"type": ["number", "string", "boolean"]},
            "How long its result serves all who ask the same.",
        ),
        "reads": (_NAMES, "Keys of the shared context that it uses."),
        "writes": (_NAMES, "Keys of its result that enter the shared context."),
        "resources": (
            {"type": "object", "additionalProperties": {"type": "number"}},
            "What it takes of what.",
        ),
    }
)
_PLAN = _table(
    {
        "name": (_TEXT, "Name of the workflow."),
        "description": (_TEXT, "For people."),
        "version": ({"type": ["string", "number"]}, "Of this definition."),
        "inputs": (_OBJECT, "Names of inputs with their JSON Schemas, or the name of a type."),
        "max_concurrent": (_COUNT, "Steps at work at once."),
        "timeout": (_LENGTH, "Seconds that the whole may take, or a length such as 2h."),
        "output": ({}, "What the run returns; ${…} is filled in."),
        "steps": ({"type": "array", "items": _OBJECT}, "In any order."),
    }
)
_WORDS = {
    "agent_name": "agent_type", "agent": "agent_type", "service": "agent_type", "tool_name": "tool", "task_id": "name",
    "step": "name", "depends_on": "dependencies",
}  # fmt: skip
"""Other words for the fields of a step."""
_RETRIES = ("max_attempts", "max_retries", "retries", "retry_count")
_PLAN_WORDS = {"workflow_id": "name", "id": "name", "tasks": "steps"}
SPELLINGS: dict[str, tuple[str, ...]] = {
    name: tuple(word for word, meant in (_WORDS | _PLAN_WORDS).items() if meant == name)
    for name in {*_WORDS.values(), *_PLAN_WORDS.values()}
} | {"retry": _RETRIES}
"""By field: the other words for it."""


# ---------------------------------------------------------------- reading


def read_definition(data: Any) -> tuple[Draft, list[Fault]]:
    """Return the plan of a definition as far as it can be read, and what cannot."""
    reader = _Reading()
    if not isinstance(data, Mapping):
        reader.findings.plan("", f"{data!r:.60} is no plan.", 'Write {"name": …, "steps": [{"name": …}]}.')
        return reader.draft, reader.findings.faults
    reader.read_plan(cast("Mapping[str, Any]", data))
    return reader.draft, reader.findings.faults


def faults_of(draft: Draft, faults: Sequence[Fault]) -> list[Fault]:
    """Return the faults of reading with all others, but for those that only follow from them."""
    if any(not fault.place for fault in faults):
        return list(faults)
    fields = {fault.place[:3] for fault in faults}
    steps = {fault.place[:2] for fault in faults}
    others = [
        fault
        for fault in find_faults(draft)
        if fault.place[:3] not in fields and not (len(fault.place) == 2 and fault.place in steps)
    ]
    return sorted([*faults, *others], key=lambda fault: _number(fault.place))


def _number(place: Sequence[Any]) -> int:
    return place[1] if place[:1] == ("steps",) and len(place) > 1 else -1


class _Reading:
    """Reads one definition."""

    def __init__(self) -> None:
        self.draft = Draft("")
        self.findings = Findings(self.draft)

    def read_plan(self, data: Mapping[str, Any]) -> None:
        draft = self.draft
        data = {key: value for key, value in data.items() if key != "$schema"}
        if "workflow_id" in data and "name" in data:
            # The service's words: the id names the definition, the name is for people.
            title, data["name"] = data["name"], data.pop("workflow_id")
            data["description"] = ": ".join(filter(None, [str(title), data.get("description")]))
        found = self._fields(data, _PLAN, _PLAN_WORDS, self.findings.plan)
        for name, value in found.items():
            if name == "inputs":
                draft.inputs = {
                    key: {"type": one} if isinstance(one, str) else one for key, one in value.items()
                }
            elif name == "version":
                draft.version = str(value)
            elif name != "steps":
                setattr(draft, name, value)
        steps = found.get("steps", [])
        draft.steps = [PlanStep(name=f"step {number + 1}") for number in range(len(steps))]
        draft.steps = [self._step(number, each) for number, each in enumerate(steps)]

    def _step(self, number: int, data: Mapping[str, Any]) -> PlanStep:
        def note(name: str, what: str, hint: str = "", *more: str | int) -> None:
            self.findings.step(number, name, what, hint, *more)

        steps = cast("list[PlanStep]", self.draft.steps)
        called = next((data[word] for word in ("name", "task_id", "step") if word in data), None)
        if isinstance(called, str):
            steps[number] = PlanStep(name=called)
        retries = {key: value for key, value in data.items() if key in _RETRIES}
        rest = {key: value for key, value in data.items() if key not in _RETRIES}
        found = self._fields(rest, _STEP, _WORDS, note)
        if called is None:
            note("name", "a step needs a name.")
        found.setdefault("name", steps[number].name)
        try:
            if "retry" in found or retries:
                found["retry"] = Retry(**found.get("retry", {}), **retries)
        except (ConfigurationError, TypeError) as error:
            note("retry" if "retry" in found else next(iter(retries)), str(error))
            found.pop("retry", None)
        return PlanStep(**found)

    def _fields(
        self,
        data: Mapping[str, Any],
        table: Mapping[str, Schema],
        words: Mapping[str, str],
        note: Callable[..., None],
    ) -> dict[str, Any]:
        found: dict[str, Any] = {}
        spelled: dict[str, str] = {}
        for key, value in data.items():
            name = words.get(key, key)
            if name == "function":
                note(key, "a definition as data holds no function.", "Name an agent, a tool or a workflow.")
            elif name not in table:
                hint = self.findings.near(str(key), [*table, *words, *_RETRIES])
                note(key, f"there is no field {key!r}.", hint or f"There are {', '.join(table)}.")
            elif name in spelled:
                note(key, f"{spelled[name]} and {key} say the same.", "Keep one of them.")
            else:
                spelled[name] = key
                self._field(key, name, value, table[name], found, note)
        return found

    def _field(
        self,
        key: str,
        name: str,
        value: Any,
        schema: Schema,
        found: dict[str, Any],
        note: Callable[..., None],
    ) -> None:
        if name == "priority" and isinstance(value, str):
            value = value.lower()
        # Most are texts; a schema takes twenty times as long as a look.
        if not (type(value) is str and schema.get("type") == "string") and (wrong := misfits(value, schema)):
            where, _, what = wrong[0].partition(": ")
            hint = self.findings.near(str(value), schema["enum"]) if "enum" in schema else ""
            note(key, f"{where[1:].lstrip('.')}: {what}." if where != "$" else f"{what}.", hint)
            return
        if name == "timeout" and isinstance(value, str):
            try:
                value = seconds_in(value)
            except ConfigurationError as error:
                note(key, error.what, error.hint)
                return
        found[name] = value


# ---------------------------------------------------------------- writing


def write_definition(plan: Plan) -> dict[str, Any]:
    """Return a plan as JSON has it, without what is as by default.

    Raises:
        CodecError: it holds what JSON cannot; names all of it.
    """
    wrong: list[str] = []
    data: dict[str, Any] = {"name": plan.name}
    whole: dict[str, Any] = {
        "max_concurrent": None,
        "timeout": None,
        "inputs": {},
        "output": None,
        "description": "",
        "version": "",
    }
    for name, plain in whole.items():
        value = getattr(plan, name)
        if value != plain:
            data[name] = _plain(value, name, wrong)
    data["steps"] = [_write_step(step, wrong) for step in plan.steps]
    if wrong:
        raise CodecError(
            f"Plan {plan.name!r} cannot be written as data: {'; '.join(wrong)}.",
            hint="Name agents, tools and workflows, and write conditions in CEL.",
        )
    return data


def _write_step(step: PlanStep, wrong: list[str]) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for name, plain in _DEFAULTS.items():
        value = getattr(step, name)
        if value == plain and type(value) is type(plain):
            continue
        where = f"step {step.name!r}: {name}"
        if name == "retry":
            data[name] = _write_retry(value, where, wrong)
        elif name == "priority":
            data[name] = value.name.lower()
        elif callable(value):
            wrong.append(f"{where} is a function")
        else:
            data[name] = _plain(as_lists(value), where, wrong)
    return data


def _plain(value: Any, where: str, wrong: list[str]) -> Any:
    try:
        check_plain(value)
    except Misfit as misfit:
        wrong.append(f"{where}{misfit.where()[1:]}: {misfit.why}")
    return value


def _write_retry(retry: Retry, where: str, wrong: list[str]) -> dict[str, Any]:
    if retry.retry_on is not None or retry.give_up_on is not None or retry.classifier is not None:
        wrong.append(f"{where} names classes or functions")
    plain = Retry()
    found = {name: getattr(retry, name) for name in _RETRY if getattr(retry, name) != getattr(plain, name)}
    return found or {"attempts": retry.attempts}


_DEFAULTS: dict[str, Any] = {
    one.name: {} if one.name in ("parameters", "resources") else one.default for one in fields(PlanStep)
}


# ---------------------------------------------------------------- the schema


def plan_schema() -> dict[str, Any]:
    """Return the JSON Schema of definitions, for editors and for services that take them."""
    case = {
        "oneOf": [
            {
                "type": "object",
                "properties": {"when": _TEXT, "then": _NAMES},
                "required": ["when", "then"],
                "additionalProperties": False,
            },
            {
                "type": "object",
                "properties": {"else": _NAMES},
                "required": ["else"],
                "additionalProperties": False,
            },
        ]
    }
    step = dict(_STEP) | {word: _same(_STEP, name) for word, name in _WORDS.items()}
    step["switch"] = step["switch"] | {"items": case}
    step |= {word: {"description": "Makes the retry.", **_TRIES} for word in _RETRIES}
    plan = dict(_PLAN) | {word: _same(_PLAN, name) for word, name in _PLAN_WORDS.items()}
    plan["$schema"] = _TEXT
    for table in (plan["steps"], plan["tasks"]):
        table["items"] = {"$ref": "#/$defs/step"}
    who = [kind for kind in KINDS if kind != "function"]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A plan of Reprise",
        "type": "object",
        "properties": plan,
        "additionalProperties": False,
        "$defs": {
            "step": {
                "description": f"Who does it is one of {', '.join(who)}.",
                "type": "object",
                "properties": step,
                "additionalProperties": False,
            }
        },
    }


def _same(table: Mapping[str, Schema], name: str) -> Schema:
    return table[name] | {"description": f"Another word for {name}."}
