"""What many values come to: a sum, a mean, the first of them.

Nulls are left out. Sums of integers are exact however large; those of floats are rounded once, at the end. Of no value at all
there is no sum and no mean: null.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

from reprise.kernel.errors import ToolError
from reprise.tools.library.data.rows import key_of, numbers, ordered

Measure = Literal[
    "count", "distinct", "sum", "mean", "median", "min", "max", "stdev", "variance", "first", "last", "list"
]  # fmt: skip


def checked(values: list[Any], measure: Measure, name: str) -> list[Any]:
    """Return the values of a column if they can be measured so. Raises ``ToolError`` with the row of the first that cannot."""
    if measure in _OF_NUMBERS:
        numbers(values, name)
    elif measure in ("min", "max"):
        ordered(values, name)
    return values


def measured(values: list[Any], measure: Measure, name: str) -> Any:
    """Return what checked values come to. Raises ``ToolError`` for a sum that no float can hold."""
    present = [value for value in values if value is not None]
    if measure in _COUNTS:
        return _COUNTS[measure](present)
    if not present:
        return None
    try:
        found = (_OF_NUMBERS.get(measure) or _OF_ANY[measure])(present)
    except OverflowError:
        found = math.inf
    if isinstance(found, float) and not math.isfinite(found):
        raise ToolError("invalid_input", f"The {measure} of {name!r:.100} is larger than a float can be.")
    return found


def _sum(values: list[Any]) -> Any:
    return math.fsum(values) if float in set(map(type, values)) else sum(values)


def _mean(values: list[Any]) -> float:
    return _sum(values) / len(values)


def _median(values: list[Any]) -> Any:
    """Return the middle one, or what is between the two of them."""
    put, half = sorted(values), len(values) // 2
    if len(values) % 2:
        return put[half]
    low, high = put[half - 1], put[half]
    return low if low == high else low / 2 + high / 2 if abs(high) > 1e300 else (low + high) / 2


def _variance(values: list[Any]) -> float | None:
    """Return the variance of a sample; there is none of a single value."""
    return None if len(values) < 2 else float(_statistics().variance(values))


def _stdev(values: list[Any]) -> float | None:
    return None if len(values) < 2 else _statistics().stdev(values)


def _statistics() -> Any:
    # With what it loads it would be a third of what registering these tools takes.
    import statistics  # noqa: PLC0415

    return statistics


_COUNTS: dict[str, Callable[[list[Any]], Any]] = {
    "count": len,
    "distinct": lambda values: len({key_of(value) for value in values}),
    "list": list,
}
_OF_NUMBERS: dict[str, Callable[[list[Any]], Any]] = {
    "sum": _sum,
    "mean": _mean,
    "median": _median,
    "stdev": _stdev,
    "variance": _variance,
}
_OF_ANY: dict[str, Callable[[list[Any]], Any]] = {
    "min": min,
    "max": max,
    "first": lambda values: values[0],
    "last": lambda values: values[-1],
}
