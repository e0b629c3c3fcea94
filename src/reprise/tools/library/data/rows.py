"""Rows, which are JSON objects: their columns, and what their values are.

What a row has not is null. Values are equal as JSON has it: ``1`` is ``1.0``, and neither is ``true`` or ``"1"``. Order is
there among numbers and among texts (by code points); where a column has both, nothing is put in order behind anybody's
back: the first value of another kind is refused, with its row and column.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from math import isfinite
from typing import Annotated, Any, Literal, NoReturn, TypeAlias, cast

from msgspec import Meta

from reprise.kernel.errors import ToolError, nearest
from reprise.tools.guards.schemas import key_of

MANY = 100_000
"""Rows of a table at most."""
CELLS = 3_000_000
"""Cells of a table that is made at most."""
BYTES = 32 << 20
"""Bytes of a table as JSON."""

Row: TypeAlias = dict[str, Any]
Rows = Annotated[list[Row], Meta(max_length=MANY), "Objects; what one of them has not is null."]
Column = Annotated[str, "Name of a column."]
Columns = Annotated[list[str], Meta(max_length=100), "Names of columns."]

Kind = Literal["null", "boolean", "number", "text", "list", "object"]
KINDS: dict[type[Any], Kind] = {
    type(None): "null",
    bool: "boolean",
    int: "number",
    float: "number",
    str: "text",
    list: "list",
    dict: "object",
}


def names_of(rows: Iterable[Row]) -> list[str]:
    """Return the names of all columns, in the order in which they come.

    >>> names_of([{"a": 1}, {"b": 2, "a": 3}])
    ['a', 'b']
    """
    return list(dict.fromkeys(chain.from_iterable(rows)))


def column(rows: list[Row], name: str, asked: str, given: str = "$.rows") -> list[Any]:
    """Return the values of a column, null where a row has none.

    ``asked`` is the argument that names it, ``given`` the one that has the rows. Raises ``ToolError``: no row has it, or a number of it is
    none (NaN, infinity).
    """
    values = [row.get(name) for row in rows]
    if rows and not any(name in row for row in rows):
        near = nearest(name, names_of(rows)[:1_000])
        raise ToolError(
            "invalid_input",
            f"No row has {name!r:.100}.",
            hint=f"Did you mean {near!r}?"
            if near
            else f"Columns: {', '.join(names_of(rows)[:20]) or 'none'}.",
            field=asked,
        )
    if float in set(map(type, values)):
        for at, value in enumerate(values):
            if type(value) is float and not isfinite(value):
                refuse_value(given, at, name, f"{value} is no number that JSON has")
    return values


def ordered(values: list[Any], name: str, given: str = "$.rows", kind: Kind | None = None) -> Kind | None:
    """Return the kind that has an order and that all values are of, None = all are null.

    Raises ``ToolError`` for the first value that is of none, of another than those before it, or of another than ``kind``.
    """
    kinds: set[Kind] = {KINDS[each] for each in set(map(type, values)) if each is not type(None)}
    if len(kinds) <= 1 and (kind is None or kinds <= {kind}) and kinds <= {"number", "text", "boolean"}:
        return cast("Kind | None", min(kinds, default=kind))
    for at, value in enumerate(values):
        found = KINDS[type(value)]
        if found == "null":
            continue
        if found in ("list", "object"):
            refuse_value(given, at, name, f"a {found} has no order")
        kind = kind or found
        if found != kind:
            refuse_value(given, at, name, f"this is a {found} among values that are {kind}s")
    raise AssertionError("one of them is of another kind")


def numbers(values: list[Any], name: str, given: str = "$.rows") -> list[Any]:
    """Return the values that are not null, all numbers. Raises ``ToolError`` for the first that is none."""
    if not {int, float, type(None)}.issuperset(map(type, values)):
        at = next(at for at, value in enumerate(values) if KINDS[type(value)] not in ("number", "null"))
        refuse_value(given, at, name, f"this is a {KINDS[type(values[at])]}, not a number")
    return [value for value in values if value is not None]


def refuse_value(given: str, at: int, name: str, what: str) -> NoReturn:
    """Raise the error for a value in a row."""
    place = f"{given}[{at}].{name:.100}"
    raise ToolError("invalid_input", f"{place}: {what}.", field=place)


def keys_of(columns: list[list[Any]], count: int) -> list[Any]:
    """Return for each row what is the same for rows that are equal in these columns."""
    keyed = [values if _simple(values) else [key_of(value) for value in values] for values in columns]
    if len(keyed) == 1:
        return keyed[0]
    return list(zip(*keyed, strict=True)) if keyed else [()] * count


def _simple(values: list[Any]) -> bool:
    return {str, int, float, type(None)}.issuperset(map(type, values))


def check_cells(rows: int, columns: int, field: str) -> None:
    """Refuse a table before it is made. Raises ``ToolError``."""
    if rows > MANY:
        raise ToolError(
            "too_large",
            f"That makes {rows:,} rows; {MANY:,} are the most.",
            hint="Ask for less.",
            field=field,
        )
    if rows * columns > CELLS:
        raise ToolError(
            "too_large",
            f"That makes {rows:,} rows of {columns:,} columns; {CELLS:,} cells are the most.",
            hint="Ask for less.",
            field=field,
        )
