"""Calculating, rounding, and percentages."""

from __future__ import annotations

import decimal
from decimal import Context, Decimal, InvalidOperation
from fractions import Fraction
from math import isinf
from typing import Annotated, Literal, TypedDict

from msgspec import Meta

from reprise.kernel.errors import ToolError
from reprise.tools.guards.arithmetic import (
    CONSTANTS,
    DIGITS,
    FUNCTIONS,
    LENGTH,
    Decimals,
    Floats,
    evaluate,
    too_large,
)
from reprise.tools.tool import Example, Tool, tool

EXACT = 2**53
"""Integers up to here are the same in every program that reads JSON."""


class Number(TypedDict):
    """A number."""

    value: int | float
    text: str
    """All its digits; of a large whole number ``value`` has the first 16."""


@tool(
    effects="pure",
    tags=["math"],
    examples=[
        Example({"expression": "2 * (3 + 4) ** 2"}, {"value": 98, "text": "98"}),
        Example(
            {"expression": "price * 1.19 * count", "variables": {"price": 0.1, "count": 3}, "digits": 20},
            {"value": 0.357, "text": "0.357"},
        ),
        Example({"expression": "2**64"}, {"value": 1.8446744073709552e19, "text": "18446744073709551616"}),
    ],
)
def math_calculate(
    expression: Annotated[
        str,
        Meta(min_length=1, max_length=LENGTH),
        "Numbers, variables, functions and + - * / // % **, as in Python.",
    ],
    variables: Annotated[dict[str, int | float], Meta(max_length=100), "Numbers by name."] | None = None,
    digits: Annotated[
        Annotated[int, Meta(ge=1, le=100)] | None,
        "Calculate in decimals of so many digits, as for money; none = whole numbers are exact, others floats.",
    ] = None,
) -> Number:
    """Calculate an expression such as sqrt(2) * x + 10 % 3.

    Knows pi, e, tau, and abs, round, floor, ceil, min, max, sum, mean, sqrt, cbrt, exp, ln, log, log2, log10, sin, cos, tan,
    asin, acos, atan, atan2, sinh, cosh, tanh, degrees, radians, hypot, factorial, comb, perm, gcd, lcm, gamma, erf.
    """
    for name in variables or ():
        if not name.isidentifier() or not name.isascii() or name in CONSTANTS or name in FUNCTIONS:
            raise ToolError(
                "invalid_input", f"{name!r} cannot be the name of a variable.",
                hint="Use letters, digits and _, and no name that stands for something else.", field="$.variables",
            )  # fmt: skip
    if digits is None:
        return _number(evaluate(expression, Floats(variables)))
    found = evaluate(expression, Decimals(digits, variables))
    return {"value": float(found), "text": _written(found)}


Rounding = Literal["half_even", "half_up", "half_down", "up", "down", "ceiling", "floor"]
_MODES: dict[Rounding, str] = {
    "half_even": decimal.ROUND_HALF_EVEN, "half_up": decimal.ROUND_HALF_UP, "half_down": decimal.ROUND_HALF_DOWN,
    "up": decimal.ROUND_UP, "down": decimal.ROUND_DOWN, "ceiling": decimal.ROUND_CEILING, "floor": decimal.ROUND_FLOOR,
}  # fmt: skip


@tool(
    effects="pure",
    where="inline",
    tags=["math"],
    examples=[
        Example({"value": 2.675, "digits": 2}, {"value": 2.68, "text": "2.68"}),
        Example({"value": "2.5", "mode": "half_even"}, {"value": 2, "text": "2"}),
        Example({"value": 1234, "digits": -2}, {"value": 1200, "text": "1200"}),
    ],
)
def math_round(
    value: Annotated[
        int | float | Annotated[str, Meta(min_length=1, max_length=400)],
        "A number; as a text it may have more digits.",
    ],
    digits: Annotated[int, Meta(ge=-DIGITS, le=DIGITS), "After the point; -2 rounds to hundreds."] = 0,
    mode: Annotated[
        Rounding, "Where .5 goes (half_even, half_up, half_down), or always away from 0, to 0, up or down."
    ] = "half_up",
) -> Number:
    """Round a number by its decimal digits: 2.675 becomes 2.68, whatever the float in between is."""
    try:
        exact = Decimal(repr(value) if isinstance(value, float) else value)
        if not exact.is_finite():
            raise InvalidOperation
        if isinf(float(exact)):
            raise too_large("$.value")
        rounded = exact.quantize(
            Decimal((0, (1,), -digits)), context=Context(prec=3 * DIGITS, rounding=_MODES[mode])
        )
    except InvalidOperation:
        raise ToolError(
            "invalid_input", f"{value!r} is no number.", hint="Write 1234.5.", field="$.value"
        ) from None
    if isinf(float(rounded)):
        raise too_large("$.digits")
    if digits <= 0:
        return _number(int(rounded))
    return {"value": float(rounded), "text": f"{rounded:f}"}


class Percentage(TypedDict, total=False):
    """A part of a whole, or a change."""

    percent: float
    part: float
    whole: float
    difference: float
    factor: float
    """New for each one of the old."""
    text: str


Amount = Annotated[
    Annotated[float, Meta(ge=-1e100, le=1e100)] | None, "Give two of part, whole and percent …"
]


@tool(
    effects="pure",
    where="inline",
    tags=["math"],
    examples=[
        Example({"part": 30, "whole": 120}, {"part": 30.0, "whole": 120.0, "percent": 25.0, "text": "30 is 25% of 120"}),
        Example({"percent": 19, "whole": 50}, {"part": 9.5, "whole": 50.0, "percent": 19.0, "text": "9.5 is 19% of 50"}),
        Example(
            {"old": 80, "new": 100},
            {"percent": 25.0, "difference": 20.0, "factor": 1.25, "text": "from 80 to 100 is +25%"},
        ),
    ],
)  # fmt: skip
def math_percentage(
    part: Amount = None,
    whole: Amount = None,
    percent: Amount = None,
    old: Annotated[
        Annotated[float, Meta(ge=-1e100, le=1e100)] | None, "… or old and new, for the change."
    ] = None,
    new: Annotated[float, Meta(ge=-1e100, le=1e100)] | None = None,
) -> Percentage:
    """Find the third of part, whole and percent; or by how many percent something changed."""
    shares = [each for each in (part, whole, percent) if each is not None]
    if old is not None and new is not None and not shares:
        return _change(_fraction(old), _fraction(new))
    if len(shares) != 2 or old is not None or new is not None:
        raise ToolError("invalid_input", "Give two of part, whole and percent; or old and new.")
    if whole == 0 and percent is None:
        raise ToolError("invalid_input", "Nothing is a percentage of 0.", field="$.whole")
    if percent == 0 and whole is None:
        raise ToolError("invalid_input", "Of 0% nobody knows the whole.", field="$.percent")
    if percent is None:
        assert part is not None
        assert whole is not None
        of, rate = _fraction(whole), _fraction(part) / _fraction(whole) * 100
    else:
        rate = _fraction(percent)
        of = _fraction(whole) if whole is not None else _fraction(part or 0) / rate * 100
    share = of * rate / 100
    text = f"{_plain(share)} is {_plain(rate)}% of {_plain(of)}"
    return {"part": _float(share), "whole": _float(of), "percent": _float(rate), "text": text}


def _change(old: Fraction, new: Fraction) -> Percentage:
    if old == 0:
        raise ToolError("invalid_input", "From 0 there is no change in percent.", field="$.old")
    rate = (new - old) / abs(old) * 100
    sign = "+" if rate > 0 else ""
    return {
        "percent": _float(rate), "difference": _float(new - old), "factor": _float(new / old),
        "text": f"from {_plain(old)} to {_plain(new)} is {sign}{_plain(rate)}%",
    }  # fmt: skip


def _fraction(value: float) -> Fraction:
    """Return what the digits of a float say: 0.1 is a tenth."""
    return Fraction(repr(value))


def _float(value: Fraction) -> float:
    try:
        return float(value)
    except OverflowError:
        raise too_large() from None


def _plain(value: Fraction) -> str:
    return f"{_float(value):.12g}"


def _number(value: float) -> Number:
    if isinstance(value, int):
        return {"value": value if abs(value) <= EXACT else float(value), "text": str(value)}
    return {"value": value, "text": repr(value)}


def _written(value: Decimal) -> str:
    """Return a decimal without the zeros that only say how it came about, and without an exponent where that is short."""
    if value == 0:
        return "0"
    value = value.normalize(Context(prec=DIGITS))
    return f"{value:f}" if -20 < value.adjusted() < 100 else f"{value:e}"


TOOLS: list[Tool] = [math_calculate, math_round, math_percentage]
