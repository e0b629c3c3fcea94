"""JSON Schema: whether data fits a schema that somebody else wrote, with a bound on what that may cost.

The rules are those of a library; what it leaves to regular expressions, to comparing everything with everything, or to
addresses elsewhere is done here, and every rule that is tried is paid for. Nothing is fetched, whatever a schema refers to.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, TypedDict, cast

from msgspec import Meta

from reprise.kernel.errors import ToolError, nearest
from reprise.tools.context import ToolContext
from reprise.tools.library.data.rows import BYTES
from reprise.tools.library.data.schema_rules import ACCOUNT, Account, Fault, Rules, fault_of
from reprise.tools.tool import Example, tool

_DEEPEST = 100
_META = re.compile(r"https?://json-schema\.org/(?:draft/)?(2020-12|2019-09|draft-07)/schema#?")


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
    rules = Rules.load()
    account = Account(rules)
    token = ACCOUNT.set(account)
    try:
        plain, dialect = _prepared(schema)
        validator = rules.validator(plain, dialect)
        errors: list[Fault] = []
        for error in validator.iter_errors(data):
            if len(errors) == limit:
                ctx.warn(f"There are more than {limit} errors.")
                break
            errors.append(fault_of(error))
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
        ACCOUNT.reset(token)
    if account.formats:
        ctx.warn(f"Formats that are not checked: {', '.join(sorted(account.formats)[:20])}.")
    return {"valid": not errors, "errors": errors}


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
