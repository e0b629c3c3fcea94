"""Finance: loans are paid back, and every rate of return is found, or its absence said."""

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import assume, given, settings, strategies as st

from reprise import ToolRegistry, create_builtin_tools_library
from reprise.testing import run
from reprise.tools.library.mathematics.finance import net_present_value, rates_of_return
from reprise.tools.library.mathematics.polynomials import positive_roots, real_roots

REGISTRY = ToolRegistry(create_builtin_tools_library())
money = st.floats(-1e6, 1e6).map(lambda each: round(each, 2))
few = settings(max_examples=25, deadline=None)


def call(name: str, **arguments: Any) -> Any:
    return run(lambda: REGISTRY.execute_tool(name, arguments), seed=1)


def finance(op: str, **arguments: Any) -> float:
    return call("math_finance", op=op, **arguments)["value"]


rates = st.floats(-0.5, 1).map(lambda each: round(each, 4))


@few
@given(rates, st.integers(1, 120), money, money, st.sampled_from(["end", "begin"]))
def test_what_a_loan_costs_pays_it_back(rate, periods, present, future, due):
    terms = {"rate": rate, "periods": periods, "due": due}
    payment = finance("pmt", present=present, future=future, **terms)
    assume(abs(payment) < 1e14)
    scale = (
        1e-7
        * max(1, abs(present), abs(future), abs(payment))
        * max(1, (1 + rate) ** periods, (1 + rate) ** -periods)
    )
    assert finance("fv", present=present, payment=payment, **terms) == pytest.approx(future, abs=scale)
    assert finance("pv", future=future, payment=payment, **terms) == pytest.approx(present, abs=scale)


@few
@given(rates.filter(lambda each: each >= 0), st.integers(1, 100), st.integers(1, 10**6))
def test_a_loan_is_paid_after_its_periods(rate, periods, present):
    payment = finance("pmt", rate=rate, periods=periods, present=present)
    assume((1 + rate) ** periods < 1e6)
    assert finance("nper", rate=rate, present=present, payment=payment) == pytest.approx(periods, rel=1e-4)


@few
@given(rates, st.lists(money, min_size=1, max_size=20))
def test_present_value_is_that_of_exact_arithmetic(rate, flows):
    exact = sum(Fraction(flow) / (1 + Fraction(rate)) ** at for at, flow in enumerate(flows))
    assert finance("npv", rate=rate, cashflows=flows) == pytest.approx(float(exact), rel=1e-9, abs=1e-3)


@few
@given(st.integers(1, 10**6), st.lists(st.integers(0, 10**6), min_size=1, max_size=40))
def test_what_is_paid_once_has_one_rate(paid, received):
    assume(any(received))
    found = call("math_finance", op="irr", cashflows=[-paid, *received])
    assert found["rates"] == [found["value"]]
    worth = net_present_value(found["value"], [-paid, *received])
    assert worth == pytest.approx(
        0, abs=1e-6 * (paid + sum(received)) * max(1, (1 + found["value"]) ** -len(received))
    )


@few
@given(st.lists(st.integers(-100, 100), min_size=1, max_size=12))
def test_there_are_as_many_rates_as_the_polynomial_has_roots(flows):
    found = rates_of_return([float(each) for each in flows])
    for rate in found:
        exact = sum(flow * Fraction(rate + 1) ** (len(flows) - 1 - at) for at, flow in enumerate(flows))
        scale = sum(abs(flow) * (rate + 1) ** (len(flows) - 1 - at) for at, flow in enumerate(flows))
        assert abs(float(exact)) <= 1e-9 * scale
    signs = [each > 0 for each in flows if each]
    changes = sum(one != other for one, other in pairwise(signs))
    assert len(found) <= changes
    if changes == 1:
        assert len(found) == 1


@few
@given(st.lists(st.fractions(-20, 20, max_denominator=50), max_size=7, unique=True), st.integers(0, 2))
def test_all_real_roots_are_found(expected, circles):
    coefficients = [Fraction(1)]
    for root in expected:
        coefficients = times(coefficients, [-root, Fraction(1)])
    for _ in range(circles):
        coefficients = times(coefficients, [Fraction(3), Fraction(1), Fraction(1)])  # no real root
    scale = math.lcm(*(each.denominator for each in coefficients))
    whole = [int(each * scale) for each in coefficients]
    assert [float(each) for each in real_roots(whole)] == pytest.approx(
        [float(each) for each in sorted(expected)]
    )
    assert len(positive_roots(whole)) == sum(each > 0 for each in expected)


def times(one: Sequence[Fraction], other: Sequence[Fraction]) -> list[Fraction]:
    product = [Fraction(0)] * (len(one) + len(other) - 1)
    for at, each in enumerate(one):
        for by, factor in enumerate(other):
            product[at + by] += each * factor
    return product


@pytest.mark.parametrize(
    ("flows", "expected"),
    [
        ([-100, 110], [0.1]),
        ([-100, 230, -132], [0.1, 0.2]),
        ([-100, 220, -121], [0.1]),  # touches zero
        ([-100, 100], [0]),
        ([-100, 50], [-0.5]),
        ([100, 100], []),
        ([0, 0], []),
        ([-100, 200, -110], []),  # turns before zero
        ([-1, 6, -11, 6], [0, 1, 2]),
    ],
)
def test_no_rate_and_several_are_said_as_they_are(flows, expected):
    found = call("math_finance", op="irr", cashflows=flows)
    assert found["rates"] == pytest.approx(expected)
    assert found["value"] == (found["rates"][0] if len(expected) == 1 else None)
    assert ("no rate" in found["text"]) == (not expected)


def test_interest_adds_up():
    begun = {"rate": 0.01, "periods": 12, "due": "begin"}
    assert finance("pmt", present=1000, **begun) == pytest.approx(-1000 / (sum(1.01**-n for n in range(12))))
    assert finance("fv", payment=-1, **begun) == pytest.approx(sum(1.01**n for n in range(1, 13)))
    assert finance("compound", present=1000, rate=0.05, periods=10, per_year=12) == pytest.approx(
        1647.00949769
    )
    assert finance("compound", present=0, payment=100, rate=0, periods=1, per_year=12) == 1200
    assert finance("effective_rate", rate=0.12, per_year=12) == pytest.approx(0.12682503)
    assert finance("cagr", present=100, future=200, periods=5) == pytest.approx(0.148698355)
    assert finance("pmt", rate=0.005, periods=360, present=200_000) == pytest.approx(-1199.1010503)
