"""Parquet read and written in a process of its own, which is ended when it takes too much time or memory.

A file of a kilobyte can stand for gigabytes, and says itself how many. What reads it is a library in machine code that
nobody can stop from within; so its process has a limit, and this one is as it was.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from reprise.kernel.errors import MissingExtra, ToolError
from reprise.tools.guards.documents import LIMITS, Limits

MEMORY = 1 << 30
"""Bytes of address space of the process."""
SECONDS = 20.0
_CHILD = """
import base64, io, json, os, sys
os.environ["POLARS_MAX_THREADS"] = "2"
try:
    import resource
    resource.setrlimit(resource.RLIMIT_AS, ({memory}, {memory}))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
except (ImportError, ValueError, OSError):
    pass  # elsewhere its time is limited, and what it says it holds
task, limits = json.loads(sys.stdin.readline()), {limits}
def refuse(code, what):
    json.dump({{"code": code, "what": what}}, sys.stdout)
    sys.exit(0)
try:
    import polars
except ModuleNotFoundError:
    refuse("unavailable", "")
def plain(value):
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode()
    return value.total_seconds() if hasattr(value, "total_seconds") else (
        value.isoformat() if hasattr(value, "isoformat") else str(value))
try:
    if "rows" in task:
        rows, columns = task["rows"], task["columns"]
        made, series = io.BytesIO(), []
        for name in columns:
            values = [row.get(name) for row in rows]
            if {{int, float}} <= set(map(type, values)):
                values = [float(v) if type(v) is int and float(v) == v else v for v in values]
            series.append(polars.Series(name, values, strict=True))
            if series[-1].to_list() != values or len({{type(v) is bool for v in values if v is not None}}) > 1:
                refuse("invalid_input", f"the values of {{name!r}} would not come back as they are.")
        polars.DataFrame(series).write_parquet(made)
        json.dump({{"content": base64.b64encode(made.getvalue()).decode()}}, sys.stdout)
    else:
        data = base64.b64decode(task["content"], validate=True)
        columns = polars.read_parquet_schema(io.BytesIO(data))
        if len(columns) > limits["columns"]:
            refuse("too_large", f"It has {{len(columns):,}} columns; {{limits['columns']:,}} are the most.")
        scan = polars.scan_parquet(io.BytesIO(data))
        said = scan.select(polars.len()).collect().item()
        if said > limits["rows"]:
            refuse("too_large", f"It says that it has {{said:,}} rows; {{limits['rows']:,}} are the most.")
        frame = scan.head(limits["rows"] + 1).collect()
        if frame.height > limits["rows"]:
            refuse("too_large", f"It has more than {{limits['rows']:,}} rows.")
        if frame.estimated_size() > 2 * limits["characters"]:
            refuse("too_large", f"It stands for {{frame.estimated_size():,}} bytes.")
        json.dump({{"rows": frame.to_dicts(), "columns": frame.columns}}, sys.stdout, default=plain)
except SystemExit:
    raise
except (polars.exceptions.PolarsError, TypeError, ValueError, OverflowError) as error:
    refuse("invalid_input", f"{{type(error).__name__}}: {{str(error).partition(chr(10))[0][:300]}}")
except BaseException as error:  # it panics, as it does where it gets no memory
    refuse("too_large", f"its library gave up ({{type(error).__name__}}).")
"""


def read_parquet(content: str, limits: Limits = LIMITS) -> list[dict[str, Any]]:
    """Return the rows of a Parquet file as base64: dates as ISO 8601, bytes as base64, decimals as text, durations in seconds.

    Raises ``ToolError``: it is none, or larger than it may be. ``MissingExtra``: polars is not installed.
    """
    return _done({"content": content}, "This is no Parquet", limits)["rows"]


def write_parquet(rows: list[dict[str, Any]], columns: list[str]) -> str:
    """Return rows as a Parquet file in base64. Raises ``ToolError`` for a column whose values are of several kinds."""
    return _done({"rows": rows, "columns": columns}, "This cannot be written as Parquet", LIMITS)["content"]


def _done(task: dict[str, Any], problem: str, limits: Limits) -> Any:
    code = _CHILD.format(memory=MEMORY, limits=limits._asdict())
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter, our own program
            [sys.executable, "-I", "-c", code],
            input=json.dumps(task).encode(),
            capture_output=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ToolError("too_large", f"{problem} within {SECONDS:g} s.", field="$.content") from None
    if done.returncode:
        # Out of memory, most of all: machine code does not raise, it ends.
        raise ToolError("too_large", f"{problem}: its reader took more than it may.", field="$.content")
    answer = json.loads(done.stdout)
    if answer.get("code") == "unavailable":
        raise MissingExtra("polars is not installed.", hint="Run: pip install 'reprise-agents[parquet]'")
    if "what" in answer:
        raise ToolError(answer["code"], f"{problem}: {answer['what']}", field="$.content")
    return answer
