"""Parquet read and written in a process that is ended when it takes too much time or memory.

A file of a kilobyte can stand for gigabytes, and says itself how many. What reads it is a library in machine code that
nobody can stop from within. It has threads, which no fork survives, so each call imports it anew, in the fork.
"""

from __future__ import annotations

import base64
import io
import json
import os
from typing import Any, cast

from reprise.kernel.errors import MissingExtra, ToolError
from reprise.tools.extras import library
from reprise.tools.guards.documents import LIMITS, Limits
from reprise.tools.guards.process import PROCESSES, Limits as Taken

MEMORY = 1 << 30
"""Bytes that the process may take."""
SECONDS = 20.0
_MOST = 128 << 20
"""Bytes of rows as JSON: what stands in a file once may be said in each of them."""


def read_parquet(content: str, limits: Limits = LIMITS) -> list[dict[str, Any]]:
    """Return the rows of a Parquet file as base64: dates as ISO 8601, bytes as base64, decimals as text, durations in seconds.

    Raises ``ToolError``: it is none, or larger than it may be. ``MissingExtra``: polars is not installed.
    """
    return _done("rows_of", "This is no Parquet", content, limits.rows, limits.columns, limits.characters)


def write_parquet(rows: list[dict[str, Any]], columns: list[str]) -> str:
    """Return rows as a Parquet file in base64. Raises ``ToolError`` for a column whose values are of several kinds."""
    return _done("file_of", "This cannot be written as Parquet", rows, columns)


def _done(function: str, problem: str, *arguments: Any) -> Any:
    taken = Taken(seconds=SECONDS, memory=MEMORY, most=_MOST, threads=True)
    try:
        # As text: what JSON has not, such as NaN, is told apart from null by whoever asked.
        return json.loads(PROCESSES.run(f"{__name__}:{function}", json.dumps(arguments), limits=taken))
    except ToolError as error:
        if error.code == "unavailable" and error.hint:
            raise MissingExtra(error.what, hint=error.hint) from None
        what = f": {error.what}"
        if error.code == "timeout":
            what = f" within {SECONDS:g} s."
        elif (
            error.code == "upstream"
        ):  # machine code does not raise where it gets no memory, it ends or panics
            what = ": its reader took more than it may."
        code = error.code if error.code in ("invalid_input", "unavailable") else "too_large"
        raise ToolError(code, problem + what, field="$.content") from None


# ---------------------------------------------------------------- in the process


def rows_of(task: str) -> str:
    """Return the rows of a file, as JSON."""
    content, most_rows, most_columns, most_characters = json.loads(task)
    polars = _polars()
    try:
        data = base64.b64decode(content, validate=True)
        columns = polars.read_parquet_schema(io.BytesIO(data))
        if len(columns) > most_columns:
            raise _too_large(f"It has {len(columns):,} columns; {most_columns:,} are the most.")
        scan = polars.scan_parquet(io.BytesIO(data))
        said = scan.select(polars.len()).collect().item()
        if said > most_rows:
            raise _too_large(f"It says that it has {said:,} rows; {most_rows:,} are the most.")
        frame = scan.head(most_rows + 1).collect()
        if frame.height > most_rows:
            raise _too_large(f"It has more than {most_rows:,} rows.")
        if frame.estimated_size() > 2 * most_characters:
            raise _too_large(f"It stands for {frame.estimated_size():,} bytes.")
        return json.dumps(frame.to_dicts(), default=_plain)
    except (polars.exceptions.PolarsError, TypeError, ValueError, OverflowError) as error:
        raise _wrong(error) from None


def file_of(task: str) -> str:
    """Return rows as a file in base64, as JSON."""
    rows, columns = json.loads(task)
    polars = _polars()
    series: list[Any] = []
    try:
        for name in columns:
            values = [row.get(name) for row in rows]
            if {int, float} <= set(map(type, values)):
                values = [
                    float(each) if type(each) is int and float(each) == each else each for each in values
                ]
            made = polars.Series(name, values, strict=True)
            kinds = {type(each) is bool for each in values if each is not None}
            if made.to_list() != values or len(kinds) > 1:
                raise ToolError("invalid_input", f"the values of {name!r} would not come back as they are.")
            series.append(made)
        file = io.BytesIO()
        polars.DataFrame(series).write_parquet(file)
    except (polars.exceptions.PolarsError, TypeError, ValueError, OverflowError) as error:
        raise _wrong(error) from None
    return json.dumps(base64.b64encode(file.getvalue()).decode())


def _polars() -> Any:
    os.environ["POLARS_MAX_THREADS"] = "2"
    return library("polars", "parquet")


def _too_large(what: str) -> ToolError:
    return ToolError("too_large", what)


def _wrong(error: Exception) -> ToolError:
    return ToolError("invalid_input", f"{type(error).__name__}: {str(error).partition(chr(10))[0][:300]}")


def _plain(value: Any) -> Any:
    if isinstance(value, bytes | bytearray):
        return base64.b64encode(value).decode()
    if hasattr(value, "total_seconds"):
        return value.total_seconds()
    return value.isoformat() if hasattr(value, "isoformat") else str(cast("object", value))
