"""Interest, loans, and what money later is worth today."""

from __future__ import annotations

from fractions import Fraction
from math import exp, expm1, fsum, isfinite, lcm, log, log1p
from typing import Annotated, Literal, TypedDict, get_args

from msgspec import Meta

from reprise.kernel.errors import ToolError
from reprise.tools.guards.arithmetic import too_large
from reprise.tools.library.mathematics.polynomials import positive_roots, sign_changes
from reprise.tools.tool import Example, Tool, tool

MANY = 1_000
SEVERAL = 100
"""Cash flows whose sign changes more than once: finding each of several rates takes time by the cube."""

Operation = Literal["npv", "irr", "pmt", "pv", "fv", "nper", "compound", "cagr", "effective_rate"]
Money = Annotated[float, Meta(ge=-1e15, le=1e15)]
Flows = Annotated[list[Money], Meta(min_length=1, max_length=MANY)]


class Finance(TypedDict):
    """What comes of it."""

    value: float | None
    """Money, a rate (0.05 = 5 %) or a number of periods; None where irr has no rate, or several."""
    rates: list[float]
    """All rates of return (irr)."""
    text: str


@tool(
    effects="pure",
    tags=["math"],
    examples=[
        Example({"op": "pmt", "rate": 0.005, "periods": 360, "present": 200000}),
        Example(
            {"op": "npv", "rate": 0.1, "cashflows": [-100, 60, 60.5]},
            {
                "value": 4.5454545454545325,
                "rates": [],
                "text": "The flows are worth 4.54545 at 10% a period.",
            },
        ),
        Example(
            {"op": "irr", "cashflows": [-100, 230, -132]},
            {"value": None, "rates": [0.1, 0.2], "text": "There are 2 rates of return: 10%, 20%."},
        ),
        Example({"op": "compound", "present": 1000, "rate": 0.05, "periods": 10, "per_year": 12}),
    ],
)
def math_finance(
    op: Annotated[
        Operation,
        "npv, irr of cashflows; pmt, pv, fv, nper of loans and savings; compound (what present grows to in periods years); "
        "cagr (yearly growth from present to future); effective_rate (of a nominal one).",
    ],
    cashflows: Annotated[Flows, "npv, irr: one a period, the first today; paid is negative."] | None = None,
    rate: Annotated[
        Annotated[float, Meta(gt=-1, le=100)] | None,
        "Per period (npv, pmt, pv, fv, nper) or year (compound, effective_rate): 0.05 = 5%.",
    ] = None,
    periods: Annotated[
        Annotated[float, Meta(gt=0, le=100_000)] | None, "How many, or years (compound, cagr)."
    ] = None,
    present: Annotated[Money, "Today; what is received is positive, what is paid negative (a loan: +)."] = 0,
    future: Annotated[Money, "At the end; likewise."] = 0,
    payment: Annotated[Money, "Each period; likewise. compound: what is added."] = 0,
    due: Annotated[Literal["end", "begin"], "When in a period payments are made."] = "end",
    per_year: Annotated[
        int, Meta(ge=1, le=366), "How often interest is added (compound, effective_rate)."
    ] = 1,
) -> Finance:
    """Calculate loans, savings and investments: payment, present and future value, net present value, rate of return."""
    given = {"cashflows": cashflows, "rate": rate, "periods": periods}
    missing = [name for name in _NEEDS[op] if given[name] is None]
    if missing:
        raise ToolError("invalid_input", f"{op} needs {' and '.join(missing)}.", field=f"$.{missing[0]}")
    try:
        if op == "irr":
            return _irr(cashflows or [])
        value = _value(
            op, cashflows or [], rate or 0.0, periods or 1.0, (present, payment, future), due, per_year
        )
    except (OverflowError, ZeroDivisionError):
        raise too_large("$.periods") from None
    if not isfinite(value):
        raise too_large("$.periods")
    return {
        "value": value,
        "rates": [],
        "text": _TEXTS[op].format(f"{value:,.6g}", _percent(value), _percent(rate or 0)),
    }


_NEEDS: dict[Operation, tuple[str, ...]] = {
    "npv": ("rate", "cashflows"), "irr": ("cashflows",), "pmt": ("rate", "periods"), "pv": ("rate", "periods"),
    "fv": ("rate", "periods"), "nper": ("rate",), "compound": ("rate", "periods"), "cagr": ("periods",),
    "effective_rate": ("rate",),
}  # fmt: skip
_TEXTS: dict[Operation, str] = {
    "npv": "The flows are worth {0} at {2} a period.", "pmt": "Each period {0}.", "pv": "Today {0}.", "fv": "At the end {0}.",
    "nper": "{0} periods.", "compound": "It grows to {0}.", "cagr": "{1} a year.", "effective_rate": "{1} a year.",
}  # fmt: skip
assert {*_TEXTS, "irr"} == {*_NEEDS} == {*get_args(Operation)}


def _value(
    op: Operation, flows: list[float], rate: float, periods: float, money: tuple[float, float, float],
    due: str, per_year: int,
) -> float:  # fmt: skip
    present, payment, future = money
    match op:
        case "npv":
            return net_present_value(rate, flows)
        case "compound":
            return _future(rate / per_year, periods * per_year, -present, -payment, due)
        case "cagr":
            if present * future <= 0:
                raise ToolError(
                    "invalid_input", "Growth is from one positive sum to another.", field="$.future"
                )
            return expm1(log(future / present) / periods)
        case "effective_rate":
            return expm1(per_year * log1p(rate / per_year))
        case "nper":
            return _periods(rate, present, payment * _early(rate, due), future)
        case "fv":
            return _future(rate, periods, present, payment, due)
        case "pv":
            return -(future + payment * _annuity(rate, periods) * _early(rate, due)) / _growth(rate, periods)
        case _:
            return -(future + present * _growth(rate, periods)) / (
                _annuity(rate, periods) * _early(rate, due)
            )


def net_present_value(rate: float, flows: list[float]) -> float:
    """Return what flows are worth today; the first is paid today.

    >>> net_present_value(0.25, [-100, 125])
    0.0
    """
    return fsum(flow / (1 + rate) ** at for at, flow in enumerate(flows))


def rates_of_return(flows: list[float]) -> list[float]:
    """Return all rates above -1 at which flows are worth nothing, the smallest first.

    With v = 1 / (1 + rate), what they are worth is a polynomial in v.

    >>> rates_of_return([-100, 110]), rates_of_return([-100, 230, -132]), rates_of_return([-100, 0, -10])
    ([0.1], [0.1, 0.2], [])
    """
    exact = [Fraction(repr(each)) for each in flows]
    scale = lcm(*(each.denominator for each in exact))
    return [float(1 / v - 1) for v in reversed(positive_roots([int(each * scale) for each in exact]))]


def _growth(rate: float, periods: float) -> float:
    return exp(periods * log1p(rate))


def _annuity(rate: float, periods: float) -> float:
    """Return what paying 1 each period becomes."""
    return expm1(periods * log1p(rate)) / rate if rate else periods


def _early(rate: float, due: str) -> float:
    return 1 + rate if due == "begin" else 1.0


def _future(rate: float, periods: float, present: float, payment: float, due: str) -> float:
    return -(present * _growth(rate, periods) + payment * _annuity(rate, periods) * _early(rate, due))


def _periods(rate: float, present: float, payment: float, future: float) -> float:
    if rate == 0:
        count = -(present + future) / payment if payment else -1.0
    else:
        level = payment / rate
        ratio = (level - future) / (level + present) if level + present else -1.0
        count = log(ratio) / log1p(rate) if ratio > 0 else -1.0
    if count < 0:
        raise ToolError(
            "invalid_input", "It never comes to that.",
            hint="What is received is positive, what is paid negative; payments must exceed the interest.",
            field="$.payment",
        )  # fmt: skip
    return count


def _irr(flows: list[float]) -> Finance:
    if sign_changes(flows) > 1 and len(flows) > SEVERAL:
        raise ToolError(
            "too_large", f"The sign of the flows changes more than once; then there may be {SEVERAL} of them.",
            hint="Add them up by year.", field="$.cashflows",
        )  # fmt: skip
    rates = rates_of_return(flows)
    if not rates:
        return {"value": None, "rates": [], "text": "There is no rate at which the flows are worth nothing."}
    if len(rates) == 1:
        return {"value": rates[0], "rates": rates, "text": f"The rate of return is {_percent(rates[0])}."}
    text = f"There are {len(rates)} rates of return: {', '.join(map(_percent, rates))}."
    return {"value": None, "rates": rates, "text": text}


def _percent(rate: float) -> str:
    return f"{rate * 100:.6g}%"


TOOLS: list[Tool] = [math_finance]
