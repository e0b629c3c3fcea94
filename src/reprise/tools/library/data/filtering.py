"""Rows that meet conditions, rows in order, rows without those that stand there twice."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Annotated, Any, Literal, cast

import msgspec
from msgspec import UNSET, Meta, Struct

from reprise.kernel.errors import ToolError
from reprise.tools.library.data.rows import (
    BYTES,
    KINDS,
    Column,
    Columns,
    Kind,
    Row,
    Rows,
    column,
    key_of,
    keys_of,
    ordered,
    refuse_value,
)
from reprise.tools.tool import Example, tool

_DEEPEST, _MOST = 10, 200
"""Conditions in each other, and in all."""

Comparison = Literal[
    "==", "!=", "<", "<=", ">", ">=", "in", "not_in", "contains", "starts_with", "ends_with", "is_null", "not_null"
]  # fmt: skip


class Condition(Struct, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """``{field, op, value}``, or ``{any: […]}``, ``{all: […]}``, ``{not: {…}}`` of others."""

    field: Annotated[str, Meta(description="Name of a column.")] = ""
    op: Comparison = "=="
    value: Annotated[Any, Meta(description="What it is compared with; a list for in and not_in.")] = UNSET
    other: Annotated[str, Meta(description="Or the column that it is compared with.")] = ""
    any: list[Condition] | None = None
    all: list[Condition] | None = None
    negated: Condition | None = msgspec.field(default=None, name="not")


_PEOPLE = [{"name": "Ada", "age": 36}, {"name": "Bo", "age": None}, {"name": "Cy", "age": 61}]


@tool(
    effects="pure",
    tags=["data"],
    max_input=BYTES,
    max_output=BYTES,
    examples=[
        Example(
            {"rows": _PEOPLE, "where": [{"field": "age", "op": ">", "value": 40}]},
            [{"name": "Cy", "age": 61}],
        ),
        Example(
            {
                "rows": _PEOPLE,
                "where": [
                    {
                        "any": [
                            {"field": "age", "op": "is_null"},
                            {"field": "name", "op": "in", "value": ["Ada"]},
                        ]
                    }
                ],
            },
            [{"name": "Ada", "age": 36}, {"name": "Bo", "age": None}],
        ),
    ],
)
def data_filter(
    rows: Rows, where: Annotated[list[Condition], Meta(max_length=100), "Conditions that all must hold."]
) -> list[Row]:
    """Return the rows that meet conditions, in their order; for computed conditions see data_query.

    Null equals null only, and has no order. A number is never compared with a text: that is an error, with the row.
    """
    keep = _Tests(rows).all(where, "$.where", 0)
    return [row for row, kept in zip(rows, keep, strict=True) if kept]


_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_ENDS: dict[str, Callable[[str, Any], bool]] = {"starts_with": str.startswith, "ends_with": str.endswith}


class _Tests:
    """Which rows meet a condition: a mark for each row, column by column."""

    def __init__(self, rows: list[Row]) -> None:
        self.rows = rows
        self.left = _MOST

    def all(self, conditions: list[Condition], at: str, depth: int) -> list[bool]:
        marks = [self.one(each, f"{at}[{n}]", depth + 1) for n, each in enumerate(conditions)]
        return [all(each) for each in zip(*marks, strict=True)] if marks else [True] * len(self.rows)

    def one(self, condition: Condition, at: str, depth: int) -> list[bool]:
        self.left -= 1
        if depth > _DEEPEST or self.left < 0:
            raise ToolError("too_large", "There are too many conditions, or they are too deep.", field=at)
        parts = [condition.any, condition.all, condition.negated, condition.field or None]
        if sum(part is not None for part in parts) != 1:
            raise ToolError(
                "invalid_input", "A condition has either a field, or any, all or not.", hint=_HINT, field=at
            )
        if condition.all is not None:
            return self.all(condition.all, f"{at}.all", depth)
        if condition.any is not None:
            marks = [self.one(each, f"{at}.any[{n}]", depth + 1) for n, each in enumerate(condition.any)]
            return [any(each) for each in zip(*marks, strict=True)] if marks else [False] * len(self.rows)
        if condition.negated is not None:
            return [not mark for mark in self.one(condition.negated, f"{at}.not", depth + 1)]
        return self.compared(condition, at)

    def compared(self, condition: Condition, at: str) -> list[bool]:
        op, value, values = condition.op, condition.value, column(self.rows, condition.field, f"{at}.field")
        if op in ("is_null", "not_null"):
            return [(each is None) == (op == "is_null") for each in values]
        if condition.other:
            if value is not UNSET:
                raise ToolError("invalid_input", "Give either value or other.", hint=_HINT, field=at)
            return self._with_column(condition, values, column(self.rows, condition.other, f"{at}.other"), at)
        if value is UNSET:
            raise ToolError("invalid_input", f"{op} needs a value.", hint=_HINT, field=f"{at}.value")
        if op in ("==", "!="):
            wanted = key_of(value)
            return [(key_of(each) == wanted) == (op == "==") for each in values]
        if op in ("in", "not_in"):
            found = {key_of(each) for each in _of_kind(value, ("list",), op, at)}
            return [(key_of(each) in found) == (op == "in") for each in values]
        if op in _ORDER:
            kind = KINDS[type(_of_kind(value, ("number", "text"), op, at))]
            ordered(values, condition.field, kind=kind)
            holds = _ORDER[op]
            return [each is not None and holds(each, value) for each in values]
        return [self._within(op, each, value, n, condition.field, at) for n, each in enumerate(values)]

    def _within(self, op: str, found: Any, value: Any, row: int, name: str, at: str) -> bool:
        """Tell whether a text has a text, or a list an item."""
        if found is None:
            return False
        if isinstance(found, str):
            text = _of_kind(value, ("text",), op, at)
            return text in found if op == "contains" else _ENDS[op](found, text)
        kind = KINDS[type(found)]
        if kind != "list" or op != "contains":
            refuse_value("$.rows", row, name, f"a {kind} cannot be asked {op}")
        wanted = key_of(value)
        return any(key_of(item) == wanted for item in cast("list[Any]", found))

    def _with_column(self, condition: Condition, values: list[Any], others: list[Any], at: str) -> list[bool]:
        pairs = zip(values, others, strict=True)
        if condition.op in ("==", "!="):
            return [(key_of(one) == key_of(two)) == (condition.op == "==") for one, two in pairs]
        if condition.op not in _ORDER:
            raise ToolError("invalid_input", f"{condition.op} needs a value, not a column.", field=f"{at}.op")
        kind = ordered(values, condition.field)
        if kind is not None:
            ordered(others, condition.other, kind=kind)
        holds = _ORDER[condition.op]
        return [one is not None and two is not None and holds(one, two) for one, two in pairs]


_HINT = 'Write {"field": "age", "op": ">", "value": 40}.'


def _of_kind(value: Any, kinds: tuple[Kind, ...], op: str, at: str) -> Any:
    if KINDS[type(value)] not in kinds:
        what = f"{op} needs a {' or a '.join(kinds)}, not a {KINDS[type(value)]}"
        raise ToolError("invalid_input", f"{what}.", field=f"{at}.value")
    return value


class SortKey(Struct, forbid_unknown_fields=True, kw_only=True):
    """A column to sort by."""

    field: Column
    desc: bool = False
    nulls: Annotated[Literal["first", "last"], Meta(description="Where nulls go, whatever desc says.")] = (
        "last"
    )


@tool(
    effects="pure",
    tags=["data"],
    max_input=BYTES,
    max_output=BYTES,
    examples=[
        Example(
            {"rows": _PEOPLE, "by": [{"field": "age", "desc": True}]},
            [{"name": "Cy", "age": 61}, {"name": "Ada", "age": 36}, {"name": "Bo", "age": None}],
        )
    ],
)
def data_sort(
    rows: Rows,
    by: Annotated[list[SortKey], Meta(min_length=1, max_length=20), "What comes first, then, then."],
) -> list[Row]:
    """Sort rows by columns: numbers by size, texts by code points, false before true; equal rows keep their order."""
    order = list(range(len(rows)))
    for place, key in reversed(list(enumerate(by))):
        values = column(rows, key.field, f"$.by[{place}].field")
        ordered(values, key.field)
        present = sorted(
            (at for at in order if values[at] is not None), key=values.__getitem__, reverse=key.desc
        )
        absent = [at for at in order if values[at] is None]
        order = absent + present if key.nulls == "first" else present + absent
    return [rows[at] for at in order]


@tool(
    effects="pure",
    tags=["data"],
    max_input=BYTES,
    max_output=BYTES,
    examples=[
        Example(
            {"rows": [{"id": 1, "v": "a"}, {"id": 2, "v": "b"}, {"id": 1, "v": "c"}], "keys": ["id"]},
            [{"id": 1, "v": "a"}, {"id": 2, "v": "b"}],
        ),
        Example(
            {"rows": [{"a": 1}, {"a": 1.0}, {"a": True}, {"a": "1"}]}, [{"a": 1}, {"a": True}, {"a": "1"}]
        ),
    ],
)
def data_dedupe(
    rows: Rows,
    keys: Annotated[Columns | None, "Rows that are equal in these are the same; none = in all."] = None,
    keep: Annotated[Literal["first", "last", "none"], "Which of them stays."] = "first",
) -> list[Row]:
    """Leave out rows that stand there more than once; those that stay keep their order. Null equals null."""
    if keys == []:
        raise ToolError("invalid_input", "There is no key.", hint="Leave keys out for all.", field="$.keys")
    if keys is None:
        found = [key_of({name: value for name, value in row.items() if value is not None}) for row in rows]
    else:
        found = keys_of([column(rows, name, f"$.keys[{n}]") for n, name in enumerate(keys)], len(rows))
    last = dict(zip(found, range(len(rows)), strict=True))
    if keep == "last":
        return [row for at, (row, key) in enumerate(zip(rows, found, strict=True)) if last[key] == at]
    first = dict(zip(reversed(found), range(len(rows) - 1, -1, -1), strict=True))
    return [
        row
        for at, (row, key) in enumerate(zip(rows, found, strict=True))
        if first[key] == at and (keep == "first" or last[key] == at)
    ]
