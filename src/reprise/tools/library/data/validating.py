"""JSON Schema: whether data fits a schema that somebody else wrote, with a bound on what that may cost.

The rules are those of a library; what it leaves to regular expressions, to comparing everything with everything, or to
addresses elsewhere is done here, and every rule that is tried is paid for. Nothing is fetched, whatever a schema refers to.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from functools import cache, lru_cache
from time import perf_counter
from typing import Annotated, Any, NamedTuple, TypedDict, cast

from msgspec import Meta

from reprise.kernel.errors import ToolError, nearest
from reprise.tools.context import ToolContext
from reprise.tools.library.data.formats import FORMATS
from reprise.tools.library.data.rows import BYTES, key_of
from reprise.tools.library.extras import library
from reprise.tools.tool import Example, tool

COST = 500_000
"""Rules that are tried at most; what they say in errors counts by its length."""
SECONDS = 2.0
"""For all regular expressions of a call."""
_PATTERN = 2_000
"""Characters of a regular expression."""
_DEEPEST = 100
_SHOWN = 200
"""Characters of a message."""
_DIALECTS = {
    "2020-12": "Draft202012Validator",
    "2019-09": "Draft201909Validator",
    "draft-07": "Draft7Validator",
}
_META = re.compile(r"https?://json-schema\.org/(?:draft/)?(2020-12|2019-09|draft-07)/schema#?")


class Fault(TypedDict):
    """What of the data does not fit, where, and by which rule of the schema."""

    path: str
    message: str
    rule: str


class Validated(TypedDict):
    """Whether data fits a schema."""

    valid: bool
    errors: list[Fault]


_SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name"],
}


@tool(
    effects="pure",
    tags=["data"],
    extra="data",
    max_input=BYTES,
    examples=[
        Example({"data": {"name": "Ada", "age": 36}, "schema": _SCHEMA}, {"valid": True, "errors": []}),
        Example(
            {"data": {"name": "Ada", "age": -1}, "schema": _SCHEMA},
            {
                "valid": False,
                "errors": [
                    {
                        "path": "$.age",
                        "message": "-1 is less than the minimum of 0",
                        "rule": "properties.age.minimum",
                    }
                ],
            },
        ),
    ],
)
def data_validate(
    ctx: ToolContext,
    data: Annotated[Any, "Anything that is JSON."],
    schema: Annotated[
        dict[str, Any] | bool, "JSON Schema: 2020-12, or what $schema says of 2019-09 and draft-07."
    ],
    limit: Annotated[int, Meta(ge=1, le=1_000), "How many errors are told at most."] = 100,
) -> Validated:
    """Say whether data fits a JSON Schema, and where it does not. References lead into the schema only."""
    rules = _Rules.load()
    account = _Account(rules)
    token = _ACCOUNT.set(account)
    try:
        plain, dialect = _prepared(schema)
        validator = rules.validator(plain, dialect)
        errors: list[Fault] = []
        for error in validator.iter_errors(data):
            if len(errors) == limit:
                ctx.warn(f"There are more than {limit} errors.")
                break
            errors.append(_fault(error))
    except RecursionError:
        raise ToolError(
            "invalid_input",
            "The schema refers to itself without end, or is nested too deep.",
            field="$.schema",
        ) from None
    except rules.unresolvable as error:
        what = str(getattr(error, "ref", "") or error)
        raise ToolError(
            "invalid_input",
            f"The schema refers to {what!r:.200}, which is not in it.",
            hint="Put it into $defs: nothing is fetched.",
            field="$.schema",
        ) from None
    except (ArithmeticError, LookupError, TypeError, ValueError, AttributeError) as error:
        # A schema that the rules about schemas let through, and the library stumbles over.
        raise ToolError(
            "invalid_input",
            f"The schema cannot be used: {type(error).__name__}: {error!s:.200}.",
            field="$.schema",
        ) from None
    finally:
        _ACCOUNT.reset(token)
    if account.formats:
        ctx.warn(f"Formats that are not checked: {', '.join(sorted(account.formats)[:20])}.")
    return {"valid": not errors, "errors": errors}


def _fault(error: Any) -> Fault:
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path)
    rule = ".".join(str(part) for part in error.absolute_schema_path)
    return {"path": f"${path}", "message": _short(error.message), "rule": rule[-_SHOWN:]}


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN // 2]} … {text[-_SHOWN // 2 + 3 :]}"


# ---------------------------------------------------------------- the schema


def _prepared(schema: Any) -> tuple[Any, str]:
    """Return a schema without its ``$schema``, and the dialect that it says it is in.

    The library goes over to rules of its own at a ``$schema`` that it knows, so none may stand anywhere else.
    """
    if isinstance(schema, bool):
        return schema, "2020-12"
    said: Any = schema.get("$schema", "https://json-schema.org/draft/2020-12/schema")
    found = _META.fullmatch(said) if isinstance(said, str) else None
    if found is None:
        near = nearest(
            str(said), [f"https://json-schema.org/draft/{year}/schema" for year in ("2020-12", "2019-09")]
        )
        raise ToolError(
            "invalid_input",
            f"The dialect {said!r:.200} is not known.",
            hint=f"Did you mean {near!r}?" if near else "Leave $schema out for 2020-12.",
            field="$.schema",
        )
    plain = {key: value for key, value in schema.items() if key != "$schema"}
    _look(plain)
    return plain, found[1]


def _look(schema: Any) -> None:
    """Refuse what cannot be bounded later."""
    heap: list[tuple[Any, int]] = [(schema, 0)]
    keywords = set[str]()
    while heap:
        each, depth = heap.pop()
        if depth > _DEEPEST:
            raise ToolError("too_large", f"The schema is nested more than {_DEEPEST} deep.", field="$.schema")
        if isinstance(each, list):
            heap += [(item, depth + 1) for item in cast("list[Any]", each)]
        elif isinstance(each, dict):
            for key, value in cast("dict[str, Any]", each).items():
                if key == "$schema" and isinstance(value, str):
                    raise ToolError(
                        "invalid_input",
                        "$schema stands within the schema.",
                        hint="Take it out.",
                        field="$.schema",
                    )
                keywords.add(key)
                heap.append((value, depth + 1))
    if "patternProperties" in keywords and {"unevaluatedProperties", "unevaluatedItems"} & keywords:
        raise ToolError(
            "invalid_input",
            "patternProperties beside unevaluatedProperties or unevaluatedItems is not supported.",
            hint="Use additionalProperties.",
            field="$.schema",
        )


# ---------------------------------------------------------------- what a call may cost


class _Account:
    """What is left of a call."""

    def __init__(self, rules: _Rules) -> None:
        self.rules = rules
        self.left = COST
        self.seconds = SECONDS
        self.formats = set[str]()
        """Those that the schema names and nobody checks."""

    def spend(self, cost: int) -> None:
        self.left -= cost
        if self.left < 0:
            raise ToolError(
                "too_large",
                "The schema asks for too much.",
                hint="Validate less at a time.",
                field="$.schema",
            )

    def found(self, pattern: Any, text: str) -> bool:
        """Tell whether a regular expression is found in a text, within the time."""
        if not isinstance(pattern, str) or len(pattern) > _PATTERN:
            raise ToolError(
                "too_large", f"A pattern has more than {_PATTERN:,} characters.", field="$.schema"
            )
        began = perf_counter()
        try:
            found = self.rules.pattern(pattern).search(text, timeout=max(self.seconds, 0.001))
        except TimeoutError:
            found, self.seconds = None, -1.0
        except self.rules.unreadable as error:
            raise ToolError(
                "invalid_input", f"{pattern!r:.200} is no regular expression: {error}.", field="$.schema"
            ) from None
        self.seconds -= perf_counter() - began
        if self.seconds < 0:
            raise ToolError(
                "too_large",
                f"The regular expressions of the schema take more than {SECONDS:g} s, such as {pattern!r:.200}.",
                field="$.schema",
            )
        return found is not None


_ACCOUNT: ContextVar[_Account] = ContextVar("account of a validation")


# ---------------------------------------------------------------- the rules

_Rule = Callable[[Any, Any, Any, Any], Any]


class _Rules(NamedTuple):
    """The library's rules by dialect, each paid for."""

    classes: dict[str, Any]
    meta: dict[str, Any]
    registry: Any
    unresolvable: type[Exception]
    unreadable: type[Exception]
    pattern: Callable[[str], Any]

    @staticmethod
    @cache
    def load() -> _Rules:
        """Load the libraries. Raises ``MissingExtra``."""
        validators: Any = library("jsonschema.validators", "data")
        exceptions: Any = library("jsonschema.exceptions", "data")
        regex: Any = library("regex", "data")
        own = _own(exceptions.ValidationError)
        classes: dict[str, Any] = {}
        for dialect, name in _DIALECTS.items():
            base: Any = getattr(validators, name)
            rules: dict[str, _Rule] = {**base.VALIDATORS, **own}
            classes[dialect] = validators.extend(base, {key: _paid(rule) for key, rule in rules.items()})

        @lru_cache(512)
        def pattern(text: str) -> Any:
            return regex.compile(_to_the_end(text), regex.ASCII)

        return _Rules(
            classes,
            {dialect: _without_dialect(kind.META_SCHEMA) for dialect, kind in classes.items()},
            _meta_schemas(),
            exceptions._WrappedReferencingError,
            regex.error,
            pattern,
        )

    def validator(self, schema: Any, dialect: str) -> Any:
        """Return what validates by a schema. Raises ``ToolError``: it is none."""
        kind = self.classes[dialect]
        for error in kind(self.meta[dialect], registry=self.registry).iter_errors(schema):
            where = _fault(error)
            raise ToolError(
                "invalid_input",
                f"This is no JSON Schema: {where['path']}: {where['message']}.",
                field=where["path"].replace("$", "$.schema", 1),
            )
        _ACCOUNT.get().formats.clear()
        return kind(schema, registry=self.registry)


def _meta_schemas() -> Any:
    """Return the schemas of schemas without their ``$schema``: at one the library would go over to its own rules."""
    referencing: Any = library("referencing", "data")
    dialects: Any = library("referencing.jsonschema", "data")
    known: Any = library("jsonschema_specifications", "data").REGISTRY
    return referencing.Registry().with_resources(
        (uri, referencing.Resource(_without_dialect(contents), dialects.specification_with(contents["$schema"])))
        for uri in known
        for contents in [known.contents(uri)]
        if "$schema" in contents
    ).crawl()  # fmt: skip


def _without_dialect(schema: Any) -> Any:
    return {key: value for key, value in schema.items() if key != "$schema"}


def _paid(rule: _Rule) -> _Rule:
    """Return a rule that is paid for, and whose errors keep their messages short."""

    def paid(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
        account = _ACCOUNT.get()
        account.spend(1)
        for error in rule(validator, value, instance, schema) or ():
            account.spend(1 + len(error.message) // 500)
            error.message = _short(error.message)
            yield error

    return paid


def _own(fault: Callable[[str], Any]) -> dict[str, _Rule]:
    """Return the rules that the library leaves to backtracking, to comparing each with each, or to what is installed."""

    def pattern(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
        if isinstance(instance, str) and not _ACCOUNT.get().found(value, instance):
            yield fault(f"{_short(instance)!r} does not match {value!r}")

    def pattern_properties(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
        if isinstance(instance, dict):
            for text, under in value.items():
                for name, item in cast("dict[str, Any]", instance).items():
                    _ACCOUNT.get().spend(1)
                    if _ACCOUNT.get().found(text, name):
                        yield from validator.descend(item, under, path=name, schema_path=text)

    def additional_properties(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
        if not isinstance(instance, dict):
            return
        known, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
        for name, item in cast("dict[str, Any]", instance).items():
            if name in known or any(_ACCOUNT.get().found(text, name) for text in patterns):
                continue
            if value is False:
                near = nearest(name, [each for each in known if each not in instance][:100])
                yield fault(f"there is no {name!r:.100}" + (f"; did you mean {near!r:.60}?" if near else ""))
            else:
                yield from validator.descend(item, value, path=name)

    def unique_items(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
        if not value or not isinstance(instance, list):
            return
        seen: dict[Any, int] = {}
        for at, item in enumerate(cast("list[Any]", instance)):
            first = seen.setdefault(key_of(item), at)
            if first != at:
                yield fault(f"items {first} and {at} are equal")
                return

    def check_format(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
        if value not in FORMATS:
            _ACCOUNT.get().formats.add(str(value))
        elif isinstance(instance, str) and not FORMATS[value](instance):
            yield fault(f"{_short(instance)!r} is no {value}")

    return {
        "pattern": pattern,
        "patternProperties": pattern_properties,
        "additionalProperties": additional_properties,
        "uniqueItems": unique_items,
        "format": check_format,
    }


def _to_the_end(pattern: str) -> str:
    r"""Return a pattern whose ``$`` is the end of the text, as schemas mean it, and not also before a last line feed.

    >>> _to_the_end(r"^a[$]\$$")
    '^a[$]\\$\\Z'
    """
    return _END.sub(lambda found: r"\Z" if found[0] == "$" else found[0], pattern)


_END = re.compile(r"\\.|\[(?:\\.|[^\]\\])*\]|\$", re.DOTALL)
