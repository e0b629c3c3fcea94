"""Samples: what they are like, and the curve through them."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, TypedDict

from msgspec import Meta

from reprise.kernel.errors import ToolError
from reprise.tools.context import ToolContext
from reprise.tools.extras import library
from reprise.tools.guards.arithmetic import too_large
from reprise.tools.tool import Example, Tool, tool

MANY = 100_000
MODES = 10
"""Modes that are told at most."""
Values = Annotated[list[float], Meta(min_length=1, max_length=MANY)]


class Statistics(TypedDict):
    """What a sample is like. Spread is that of a sample (n - 1); of a single value there is none."""

    count: int
    sum: float
    mean: float
    median: float
    modes: list[float]
    """The most frequent values, the smallest first, at most ten; none where all are equally frequent."""
    min: float
    max: float
    range: float
    variance: float | None
    stdev: float | None
    stderr: float | None
    """Standard error of the mean."""
    percentiles: dict[str, float]


@tool(
    effects="pure",
    tags=["math"],
    examples=[
        Example(
            {"values": [2, 4, 4, 4, 5, 5, 7, 9], "percentiles": [25, 90]},
            {
                "count": 8, "sum": 40.0, "mean": 5.0, "median": 4.5, "modes": [4.0], "min": 2.0, "max": 9.0, "range": 7.0,
                "variance": 4.571428571428571, "stdev": 2.138089935299395, "stderr": 0.7559289460184544,
                "percentiles": {"25": 4.0, "90": 7.6},
            },
        )
    ],
)  # fmt: skip
def math_statistics(
    values: Values,
    percentiles: Annotated[
        list[Annotated[float, Meta(ge=0, le=100)]],
        Meta(max_length=100),
        "Which to tell; between two values it is interpolated.",
    ]
    | None = None,
) -> Statistics:
    """Describe a sample: count, sum, mean, median, modes, spread and percentiles."""
    ordered = sorted(values)
    count = len(values)
    try:
        total, mean = math.fsum(values), statistics.mean(values)
        median = statistics.median(ordered)
        spread = statistics.variance(values, mean) if count > 1 else None
        width = ordered[-1] - ordered[0]
    except OverflowError:
        raise too_large("$.values") from None
    told = {
        f"{each:g}": _percentile(ordered, each) for each in ([25, 75] if percentiles is None else percentiles)
    }
    if not all(map(math.isfinite, (width, median, *told.values()))):
        raise too_large("$.values")
    stdev = None if spread is None else math.sqrt(spread)
    return {
        "count": count, "sum": total, "mean": mean, "median": median, "modes": _modes(ordered), "min": ordered[0],
        "max": ordered[-1], "range": width, "variance": spread, "stdev": stdev,
        "stderr": None if stdev is None else stdev / math.sqrt(count), "percentiles": told,
    }  # fmt: skip


def _modes(ordered: Sequence[float]) -> list[float]:
    counts = Counter(ordered)
    most = max(counts.values())
    found = [value for value, count in counts.items() if count == most]
    return found[:MODES] if len(found) < len(counts) or len(counts) == 1 else []


def _percentile(ordered: Sequence[float], percent: float) -> float:
    at = (len(ordered) - 1) * percent / 100
    low = math.floor(at)
    above = ordered[min(low + 1, len(ordered) - 1)]
    return ordered[low] + (above - ordered[low]) * (at - low)


class Regression(TypedDict):
    """A polynomial through points."""

    coefficients: list[float]
    """The constant first, then that of x, of x**2 …"""
    formula: str
    r2: float | None
    """Share of the spread that it explains, 1 = all; None where all y are the same."""
    rmse: float
    """Root of the mean squared error, in units of y."""
    predictions: list[float]


Points = Annotated[list[Annotated[float, Meta(ge=-1e100, le=1e100)]], Meta(min_length=2, max_length=10_000)]


@tool(
    effects="pure",
    tags=["math"],
    extra="math",
    examples=[Example({"x": [1, 2, 3, 4], "y": [3.1, 4.9, 7.2, 8.8], "predict": [5]})],
)
def math_regression(
    ctx: ToolContext,
    x: Points,
    y: Points,
    degree: Annotated[int, Meta(ge=1, le=10), "1 = a line, 2 = a parabola."] = 1,
    predict: Annotated[
        list[Annotated[float, Meta(ge=-1e100, le=1e100)]], Meta(max_length=1_000), "Values of x to say y for."
    ]
    | None = None,
) -> Regression:
    """Fit a line or polynomial to points by least squares, and say y for other x."""
    if len(x) != len(y):
        raise ToolError("invalid_input", f"There are {len(x)} x and {len(y)} y.", field="$.y")
    if len(set(x)) <= degree:
        raise ToolError(
            "invalid_input", f"A degree of {degree} needs {degree + 1} different x, not {len(set(x))}.",
            hint="Give more points, or a lower degree.", field="$.degree",
        )  # fmt: skip
    numpy = library("numpy", "math")
    xs, ys = numpy.array(x), numpy.array(y)
    with numpy.errstate(all="ignore"):
        curve, (_, rank, _, _) = numpy.polynomial.Polynomial.fit(xs, ys, degree, full=True)
        errors = ys - curve(xs)
        rmse = float(numpy.sqrt(numpy.mean(errors**2)))
        spread = float(numpy.sum((ys - ys.mean()) ** 2))
        predictions = [float(each) for each in curve(numpy.array(predict or [], dtype=float))]
        coefficients = [float(each) for each in curve.convert(domain=[-1, 1], window=[-1, 1]).coef]
        coefficients += [0.0] * (degree + 1 - len(coefficients))
    if not all(map(math.isfinite, (*coefficients, *predictions, rmse, spread))):
        raise too_large("$.x")
    if rank <= degree:
        ctx.warn("The points lie so close together that the coefficients mean little; take a lower degree.")
    if predict and (min(predict) < min(x) or max(predict) > max(x)):
        ctx.warn("Some predictions lie outside of the points.")
    return {
        "coefficients": coefficients, "formula": _formula(coefficients),
        "r2": 1 - float(numpy.sum(errors**2)) / spread if spread else None, "rmse": rmse, "predictions": predictions,
    }  # fmt: skip


def _formula(coefficients: Sequence[float]) -> str:
    powers = ["", " * x", *(f" * x**{n}" for n in range(2, len(coefficients)))]
    terms = [f"{value:.6g}{power}" for value, power in zip(coefficients, powers, strict=True)]
    return "y = " + " + ".join(reversed(terms)).replace("+ -", "- ")


TOOLS: list[Tool] = [math_statistics, math_regression]
