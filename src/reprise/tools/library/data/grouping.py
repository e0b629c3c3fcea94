"""Rows in groups: what each comes to, as rows and as a table of two sides; and what is in the columns of rows."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any, Literal, TypedDict

import msgspec
from msgspec import Meta, Struct

from reprise.kernel.errors import ToolError
from reprise.tools.library.data.measures import Measure, checked, measured
from reprise.tools.library.data.rows import (
    BYTES,
    KINDS,
    Columns,
    Row,
    Rows,
    check_cells,
    column,
    key_of,
    keys_of,
    names_of,
)
from reprise.tools.tool import Example, tool

_WIDEST = 1_000
"""Columns of a pivot."""
_NAME = 200
"""Characters of a value that becomes a column."""

_SALES = [
    {"city": "Rome", "year": 2025, "sold": 3},
    {"city": "Oslo", "year": 2025, "sold": 5},
    {"city": "Rome", "year": 2026, "sold": 4},
]


class Metric(Struct, forbid_unknown_fields=True, kw_only=True):
    """What is made of a column in each group."""

    fn: Measure
    field: Annotated[str, Meta(description="Name of a column; count goes without: it counts rows.")] = ""
    name: Annotated[str, Meta(description="What it is called in the result; field_fn otherwise.")] = (
        msgspec.field(default="", name="as")
    )


@tool(
    effects="pure",
    tags=["data"],
    max_input=BYTES,
    max_output=BYTES,
    examples=[
        Example(
            {
                "rows": _SALES,
                "group_by": ["city"],
                "metrics": [{"fn": "sum", "field": "sold"}, {"fn": "count", "as": "times"}],
            },
            [{"city": "Rome", "sold_sum": 7, "times": 2}, {"city": "Oslo", "sold_sum": 5, "times": 1}],
        ),
        Example(
            {"rows": _SALES, "metrics": [{"fn": "mean", "field": "sold"}, {"fn": "max", "field": "year"}]},
            [{"sold_mean": 4.0, "year_max": 2026}],
        ),
    ],
)
def data_aggregate(
    rows: Rows,
    metrics: Annotated[list[Metric], Meta(min_length=1, max_length=100)],
    group_by: Annotated[Columns | None, "One row for each combination of these; none = one for all."] = None,
) -> list[Row]:
    """Group rows and say what each group comes to: groups come in the order of their first rows, null is a group.

    Nulls are left out of every metric; of nothing the sum is null and the count 0.
    """
    names = group_by or []
    called = [each.name or f"{each.field}_{each.fn}".strip("_") for each in metrics]
    if twice := [name for name, count in Counter([*names, *called]).items() if count > 1]:
        raise ToolError(
            "conflict",
            f"Two columns of the result are called {twice[0]!r:.100}.",
            hint='Name one with "as".',
            field="$.metrics",
        )
    if twice := [
        pair for pair, count in Counter((each.field, each.fn) for each in metrics).items() if count > 1
    ]:
        raise ToolError(
            "conflict", f"{twice[0][1]} of {twice[0][0]!r:.100} is asked twice.", field="$.metrics"
        )
    groups, firsts = _groups(rows, names)
    columns = [_values(rows, each, f"$.metrics[{n}].field") for n, each in enumerate(metrics)]
    found: list[Row] = []
    for members, first in zip(groups, firsts, strict=True):
        row: Row = {name: rows[first].get(name) for name in names}
        for name, metric, values in zip(called, metrics, columns, strict=True):
            row[name] = measured([values[at] for at in members], metric.fn, metric.field)
        found.append(row)
    return found


def _groups(rows: list[Row], names: list[str]) -> tuple[list[list[int]], list[int]]:
    """Return the places of the rows of each group, and the first of each; without names there is one, even of no rows."""
    if not names:
        return [list(range(len(rows)))], [0]
    groups: dict[Any, list[int]] = {}
    keys = keys_of([column(rows, name, f"$.group_by[{n}]") for n, name in enumerate(names)], len(rows))
    for at, key in enumerate(keys):
        groups.setdefault(key, []).append(at)
    return list(groups.values()), [members[0] for members in groups.values()]


def _values(rows: list[Row], metric: Metric, asked: str) -> list[Any]:
    if metric.field:
        return checked(column(rows, metric.field, asked), metric.fn, metric.field)
    if metric.fn != "count":
        raise ToolError("invalid_input", f"{metric.fn} needs a field.", field=asked)
    return [True] * len(rows)


@tool(
    effects="pure",
    tags=["data"],
    max_input=BYTES,
    max_output=BYTES,
    examples=[
        Example(
            {"rows": _SALES, "index": ["city"], "columns": "year", "values": "sold"},
            [{"city": "Rome", "2025": 3, "2026": 4}, {"city": "Oslo", "2025": 5, "2026": None}],
        )
    ],
)
def data_pivot(
    rows: Rows,
    index: Annotated[Columns, "A row of the result for each combination of these."],
    columns: Annotated[str, "The column whose values become columns."],
    values: Annotated[str, "The column whose values fill them."],
    fn: Annotated[
        Measure | None, "What several values of one cell come to; none = there may be one only."
    ] = None,
) -> list[Row]:
    """Turn the values of a column into columns, in the order of their first rows; cells without a value are null."""
    if not index:
        raise ToolError("invalid_input", "The index has no column.", field="$.index")
    filled = column(rows, values, "$.values")
    if fn is not None:
        checked(filled, fn, values)
    names: dict[Any, str] = {}
    headings = column(rows, columns, "$.columns")
    for at, value in enumerate(headings):
        key = key_of(value)
        if key not in names:
            names[key] = _heading(value, at, columns)
    _check_headings(names, index)
    keys = keys_of([column(rows, name, f"$.index[{n}]") for n, name in enumerate(index)], len(rows))
    cells: dict[Any, dict[str, list[Any]]] = {}
    firsts: dict[Any, int] = {}
    for at, key in enumerate(keys):
        firsts.setdefault(key, at)
        cells.setdefault(key, {}).setdefault(names[key_of(headings[at])], []).append(filled[at])
    check_cells(len(cells), len(names), "$.columns")
    if len(cells) * sum(map(len, names.values())) > BYTES:
        raise ToolError(
            "too_large", "The names of the columns are too long for so many rows.", field="$.columns"
        )
    found: list[Row] = []
    for key, first in firsts.items():
        row = {name: rows[first].get(name) for name in index}
        for name in names.values():
            row[name] = _cell(cells[key].get(name, []), fn, values, name)
        found.append(row)
    return found


def _heading(value: Any, at: int, name: str) -> str:
    kind = KINDS[type(value)]
    if kind in ("list", "object"):
        place = f"$.rows[{at}].{name:.100}"
        raise ToolError("invalid_input", f"{place}: a {kind} cannot be a column.", field=place)
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    if len(text) > _NAME:
        raise ToolError(
            "too_large", f"A column would have a name of {len(text):,} characters.", field="$.columns"
        )
    return text


def _check_headings(names: dict[Any, str], index: list[str]) -> None:
    if len(names) > _WIDEST:
        raise ToolError(
            "too_large",
            f"That makes {len(names):,} columns; {_WIDEST:,} are the most.",
            hint="Filter the rows first, or take another column.",
            field="$.columns",
        )
    if twice := [name for name, count in Counter([*index, *names.values()]).items() if count > 1]:
        raise ToolError("conflict", f"Two columns would be called {twice[0]!r}.", field="$.columns")


def _cell(found: list[Any], fn: Measure | None, values: str, name: str) -> Any:
    if fn is not None:
        return measured(found, fn, values)
    if len(found) > 1:
        raise ToolError(
            "conflict",
            f"There are {len(found):,} values for one cell of the column {name!r}.",
            hint="Say with fn what they come to: sum, mean, first, list.",
            field="$.fn",
        )
    return found[0] if found else None


class Top(TypedDict):
    """A value that stands there often."""

    value: Any
    count: int


class Profile(TypedDict):
    """What is in a column."""

    name: str
    type: Literal["integer", "number", "text", "boolean", "list", "object", "null", "mixed"]
    kinds: dict[str, int]
    """How many values are of each kind."""
    nulls: int
    """Values that are null or missing."""
    distinct: int
    min: Any
    """Smallest number or text; null where kinds are mixed or have no order."""
    max: Any
    mean: float | None
    top: list[Top]
    """The most frequent values, the first of those that stand there as often first."""


@tool(
    effects="pure",
    tags=["data"],
    max_input=BYTES,
    max_output=BYTES,
    examples=[
        Example(
            {"rows": [{"age": 3}, {"age": 5}, {"age": 5}, {}], "top": 1},
            [
                {
                    "name": "age", "type": "integer", "kinds": {"number": 3, "null": 1}, "nulls": 1, "distinct": 2,
                    "min": 3, "max": 5, "mean": 13 / 3, "top": [{"value": 5, "count": 2}],
                }
            ],
        )
    ],
)  # fmt: skip
def data_profile(
    rows: Rows, top: Annotated[int, Meta(ge=0, le=100), "How many of the most frequent values."] = 5
) -> list[Profile]:
    """Say of each column what is in it: kinds of values, nulls, distinct values, range, mean, the most frequent."""
    names = names_of(rows)
    check_cells(len(rows), len(names), "$.rows")
    return [_profile(name, column(rows, name, "$.rows"), top) for name in names]


def _profile(name: str, values: list[Any], top: int) -> Profile:
    kinds = Counter(map(KINDS.__getitem__, map(type, values)))
    present = [value for value in values if value is not None]
    keys = [key_of(value) for value in present]
    firsts = dict(zip(reversed(keys), reversed(present), strict=True))
    counts = Counter(keys)
    only = next(iter(kinds.keys() - {"null"})) if len(kinds.keys() - {"null"}) == 1 else None
    in_order = only in ("number", "text")
    return {
        "name": name,
        "type": _type(only, present),
        "kinds": dict(kinds),
        "nulls": len(values) - len(present),
        "distinct": len(counts),
        "min": min(present) if in_order else None,
        "max": max(present) if in_order else None,
        "mean": measured(present, "mean", name) if only == "number" else None,
        "top": [{"value": firsts[key], "count": count} for key, count in counts.most_common(top)],
    }


def _type(only: Any, present: list[Any]) -> Any:
    if only is None:
        return "mixed" if present else "null"
    return "integer" if only == "number" and set(map(type, present)) == {int} else only
