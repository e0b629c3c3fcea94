"""Documents from one format to another: CSV, JSON, JSON Lines, YAML, TOML, XML, Parquet, and the JSON value itself."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from math import isfinite
from typing import Annotated, Any, Literal, TypedDict, cast

from reprise.kernel.errors import ToolError
from reprise.tools.extras import library
from reprise.tools.guards.documents import (
    LIMITS,
    NotFinite,
    checked,
    no_formula,
    read_csv,
    read_json,
    read_json_lines,
    read_toml,
    read_xml,
)
from reprise.tools.guards.parquet import read_parquet, write_parquet
from reprise.tools.guards.yaml import SCALARS, read_yaml
from reprise.tools.library.data.rows import BYTES, Row, check_cells, names_of
from reprise.tools.tool import Example, tool

From = Literal["value", "csv", "json", "jsonl", "yaml", "toml", "xml", "parquet"]
To = Literal["value", "csv", "json", "jsonl", "yaml", "toml", "parquet"]
Delimiter = Literal[",", ";", "\t", "|"]

_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]*)")
_FLOAT = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]{1,4})?")


class Converted(TypedDict):
    """A document in another format."""

    content: Any
    """Text; Parquet as base64; a JSON value where that was asked for."""
    format: To
    rows: int | None
    """Rows of it, null where it is no table."""


@tool(
    effects="pure",
    tags=["data"],
    extra="data",
    max_input=BYTES,
    max_output=2 * BYTES,
    examples=[
        Example(
            {"content": "name,age\nAda,36\nBo,\n", "from_format": "csv", "to_format": "value"},
            {"content": [{"name": "Ada", "age": 36}, {"name": "Bo", "age": None}], "format": "value", "rows": 2},
        ),
        Example(
            {"content": [{"a": 1}, {"b": "=1+1"}], "from_format": "value", "to_format": "csv", "escape_formulas": True},
            {"content": "a,b\r\n1,\r\n,'=1+1\r\n", "format": "csv", "rows": 2},
        ),
        Example(
            {"content": "ports: &p [80, 443]\nsame: *p\nwhen: 2026-11-22\n", "from_format": "yaml", "to_format": "json"},
            {
                "content": '{"ports":[80,443],"same":[80,443],"when":"2026-11-22"}', "format": "json", "rows": None,
            },
        ),
    ],
)  # fmt: skip
def data_convert(
    content: Annotated[Any, "A text; Parquet as base64; or a JSON value, from the format 'value'."],
    from_format: From,
    to_format: To,
    delimiter: Annotated[Delimiter, "What is between the cells of CSV."] = ",",
    types: Annotated[
        Literal["guess", "text"],
        "Cells of CSV: a column of nothing but numbers, or of true and false, becomes those; or all stays text.",
    ] = "guess",
    not_finite: Annotated[NotFinite, "What becomes of NaN and infinity, which JSON has not."] = "refuse",
    escape_formulas: Annotated[
        bool, "Put an apostrophe before texts in CSV that a spreadsheet would take for formulas."
    ] = False,
) -> Converted:
    """Convert a document to another format. A key that stands twice, or what the other format has not, is refused.

    Empty cells of CSV are null and the other way round; lists and objects in them are JSON. 007 stays text.
    """
    value = _read(content, from_format, delimiter, types == "guess", not_finite)
    rows = len(cast("list[Any]", value)) if _is_table(value) else None
    if to_format == "csv":
        made: Any = _to_csv(_table(value), delimiter, escape_formulas=escape_formulas)
    elif to_format == "parquet":
        table = _table(value)
        names = names_of(table)
        check_cells(len(table), len(names), "$.content")
        made = write_parquet(table, names)
    else:
        made = _WRITERS[to_format](value)
    return {"content": made, "format": to_format, "rows": rows}


def _read(content: Any, kind: From, delimiter: Delimiter, guess: bool, not_finite: NotFinite) -> Any:
    if kind == "value":
        return checked(content, LIMITS, not_finite)
    if not isinstance(content, str):
        raise ToolError(
            "invalid_input",
            f"{kind} is read from a text.",
            hint='Give from_format="value" for a JSON value.',
            field="$.content",
        )
    text = content.removeprefix("\ufeff")
    if kind == "csv":
        return _from_csv(text, delimiter, guess)
    return checked(_READERS[kind](text), LIMITS, not_finite)


_READERS: dict[str, Callable[[str], Any]] = {
    "json": read_json,
    "jsonl": read_json_lines,
    "yaml": lambda text: read_yaml(library("yaml", "data"), text),
    "toml": read_toml,
    "xml": read_xml,
    "parquet": read_parquet,
}


# ---------------------------------------------------------------- CSV


def _from_csv(text: str, delimiter: Delimiter, guess: bool) -> list[Row]:
    names, rows = read_csv(text, delimiter)
    check_cells(len(rows), len(names), "$.content")
    if not rows:
        return []
    columns = [_cells(list(cells), guess) for cells in zip(*rows, strict=True)]
    return checked([dict(zip(names, cells, strict=True)) for cells in zip(*columns, strict=True)])


def _cells(cells: list[str], guess: bool) -> list[Any]:
    """Return the cells of a column as the kind of values that all of them are."""
    present = {cell for cell in cells if cell}
    read: Callable[[str], Any] = str
    if guess and present:
        if all(map(_FLOAT.fullmatch, present)) and all(isfinite(float(cell)) for cell in present):
            read = _number
        elif present <= {"true", "false"}:
            read = "true".__eq__
    known = {cell: read(cell) for cell in present}
    return [known.get(cell) for cell in cells]


def _number(cell: str) -> int | float:
    """Return a number; integers stay exact, also among others."""
    return int(cell) if _INTEGER.fullmatch(cell) and cell != "-0" else float(cell)


def _to_csv(rows: list[Row], delimiter: Delimiter, *, escape_formulas: bool) -> str:
    names = names_of(rows)
    check_cells(len(rows), len(names), "$.content")
    made = io.StringIO(newline="")
    writer = csv.writer(made, delimiter=delimiter)
    safe: Callable[[str], str] = no_formula if escape_formulas else str
    if not names and rows:
        raise ToolError("invalid_input", "The rows have no columns.", field="$.content")
    if names:
        writer.writerow([safe(name) for name in names])
    for row in rows:
        writer.writerow([_cell(row.get(name), safe) for name in names])
    return made.getvalue()


def _cell(value: Any, safe: Callable[[str], str]) -> str:
    if isinstance(value, str):
        return safe(value)
    if value is None:
        return ""
    return repr(value) if type(value) in (int, float) else safe(_json(value))


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(row, dict) for row in cast("list[Any]", value))


def _table(value: Any) -> list[Row]:
    if not _is_table(value):
        raise ToolError(
            "invalid_input",
            "This is no table: a list of objects is.",
            hint="Take the list out of it with data_query.",
            field="$.content",
        )
    return value


# ---------------------------------------------------------------- writing


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _to_lines(value: Any) -> str:
    if not isinstance(value, list):
        raise ToolError("invalid_input", "JSON Lines are made of a list.", field="$.content")
    return "".join(f"{_json(each)}\n" for each in cast("list[Any]", value))


def _to_yaml(value: Any) -> str:
    yaml: Any = library("yaml", "data")
    return yaml.dump(value, Dumper=_dumper(yaml), allow_unicode=True, sort_keys=False, width=1_000_000)


def _dumper(yaml: Any) -> Any:
    """Return what writes YAML without references, and in quotes what a reader by any version would take for no text."""

    def never(dumper: Any, data: Any) -> bool:
        return True

    made: Any = type("Dumper", (getattr(yaml, "CSafeDumper", yaml.SafeDumper),), {"ignore_aliases": never})
    for name, pattern in SCALARS.items():
        made.add_implicit_resolver(f"tag:yaml.org,2002:{name}", pattern, None)
    return made


def _to_toml(value: Any) -> str:
    if not isinstance(value, dict):
        raise ToolError("invalid_input", "A TOML document is an object.", field="$.content")
    _refuse_null(value, "$")
    return library("tomli_w", "data").dumps(value)


def _refuse_null(value: Any, at: str) -> None:
    if value is None:
        raise ToolError(
            "invalid_input", f"{at} is null, which TOML has not.", hint="Leave it out.", field="$.content"
        )
    if isinstance(value, dict):
        for key, item in cast("Row", value).items():
            _refuse_null(item, f"{at}.{key}")
    elif isinstance(value, list):
        for place, item in enumerate(cast("list[Any]", value)):
            _refuse_null(item, f"{at}[{place}]")


def _same(value: Any) -> Any:
    return value


_WRITERS: dict[str, Callable[[Any], Any]] = {
    "value": _same,
    "json": _json,
    "jsonl": _to_lines,
    "yaml": _to_yaml,
    "toml": _to_toml,
}
