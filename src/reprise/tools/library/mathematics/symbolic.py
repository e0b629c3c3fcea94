"""Equations by ``sympy``. Imported in a process that is killed, never in that of the caller: loading it alone takes a second.

Sympy's own readers of texts end in ``eval``; here the tree that :mod:`reprise.tools.guards.arithmetic` lets through is built of its objects.
"""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction
from functools import partial
from typing import Any

from reprise.kernel.errors import ToolError
from reprise.tools.extras import library
from reprise.tools.guards.arithmetic import BITS, evaluate, too_large, unknown
from reprise.tools.library.mathematics.polynomials import real_roots

sympy: Any = library("sympy", "math")

DEGREE = 30
POWER = 50
DIGITS = 40
NAMES = 6
FAR = 1e6
"""How far from 0 solutions are looked for where there is no formula."""
MANY = 20
"""Of them are told, those nearest to 0."""
_TEXT = 2_000


class Symbols:
    """An algebra of sympy's objects."""

    def __init__(self, *, real: bool) -> None:
        self._real = real or None
        self.names: dict[str, Any] = {}

    def number(self, value: float, text: str) -> Any:
        """Return a number as it stands there: 0.1 is a tenth."""
        exact = Decimal(value) if isinstance(value, int) else Decimal(text)
        if exact and (abs(exact.adjusted()) > DIGITS or len(exact.as_tuple().digits) > DIGITS):
            raise ToolError("too_large", f"Numbers may have {DIGITS} digits here.")
        fraction = Fraction(exact)
        return sympy.Rational(fraction.numerator, fraction.denominator)

    def name(self, name: str) -> Any:
        """Return a constant, or a symbol."""
        if name in _CONSTANTS:
            return _CONSTANTS[name]
        if name in _FUNCTIONS:
            raise unknown(name, (), functions=_FUNCTIONS)
        if name not in self.names:
            if len(self.names) == NAMES:
                raise ToolError("too_large", f"There may be {NAMES} names.")
            self.names[name] = sympy.Symbol(name, real=self._real)
        return self.names[name]

    def negative(self, value: Any) -> Any:
        """Return ``-value``."""
        return -value

    def binary(self, sign: str, left: Any, right: Any) -> Any:
        """Return ``left sign right``."""
        if sign in ("//", "%"):
            raise ToolError("invalid_input", f"There is no {sign} in equations.")
        if sign == "**":
            if right.is_Rational and max(abs(right.p), right.q) > POWER:
                raise ToolError("too_large", f"Powers go up to {POWER}.")
            return _bounded(left**right)
        if sign == "/":
            if right.is_zero:
                raise ZeroDivisionError
            return _bounded(left / right)
        return _bounded(left + right if sign == "+" else left - right if sign == "-" else left * right)

    def call(self, function: str, arguments: list[Any]) -> Any:
        """Return a function of its arguments."""
        if function not in _FUNCTIONS:
            raise unknown(function, _FUNCTIONS)
        made, most = _FUNCTIONS[function]
        if not 1 <= len(arguments) <= most:
            raise ToolError("invalid_input", f"{function} takes {most} arguments, not {len(arguments)}.")
        return _bounded(made(*arguments))


def solve(equations: list[str], names: list[str], domain: str) -> dict[str, Any]:
    """Solve equations for names; raises ``ToolError``."""
    symbols = Symbols(real=domain == "real")
    terms = [_difference(each, symbols) for each in equations]
    free = sorted({str(each) for term in terms for each in term.free_symbols})
    missing = next((each for each in names if each not in symbols.names), None)
    if missing is not None:
        error = unknown(missing, sorted(symbols.names))
        raise ToolError("invalid_input", error.what, hint=error.hint, field="$.variable")
    if not names and len(free) > len(terms):
        raise ToolError(
            "invalid_input", f"There are more names ({', '.join(free)}) than equations.",
            hint="Say which to solve for.", field="$.variable",
        )  # fmt: skip
    unknowns = [symbols.names[each] for each in names or free]
    if not unknowns:
        holds = all(term == 0 for term in terms)
        return {
            "kind": "all" if holds else "none",
            "solutions": [],
            "text": "It holds." if holds else "It does not hold.",
        }
    if len(terms) == len(unknowns) == 1 and len(free) <= 1:
        return _one(terms[0], unknowns[0], domain)
    return _several(terms, unknowns, domain)


def _difference(equation: str, symbols: Symbols) -> Any:
    sides = equation.replace("==", "=").split("=")
    if len(sides) > 2:
        raise ToolError("invalid_input", f"{equation!r} has more than one =.", field="$.equation")
    left, right = (evaluate(each, symbols, field="$.equation") for each in (*sides, "0")[:2])
    return left - right


def _one(term: Any, x: Any, domain: str) -> dict[str, Any]:
    top, bottom = sympy.fraction(sympy.together(term))
    if top.is_polynomial(x) and bottom.is_polynomial(x):
        _check([top, bottom], [x])
        polynomial = sympy.Poly(top, x)
        if polynomial.domain.is_ZZ or polynomial.domain.is_QQ:
            return _told([{str(x): each} for each in _roots(polynomial, bottom, x, domain)], domain)
    where: Any = sympy.S.Reals if domain == "real" else sympy.S.Complexes
    found: Any = None
    try:
        found = sympy.solveset(term, x, domain=where)
    except (NotImplementedError, ValueError):
        pass  # then it is tried with numbers
    if found == where:
        return {"kind": "all", "solutions": [], "text": f"Every {domain} number solves it."}
    if found is sympy.S.EmptySet or isinstance(found, sympy.FiniteSet):
        return _told([{str(x): _root(each)} for each in found], domain)
    near = [{str(x): _number(each)} for each in _near(term, x)]
    if found is None or found.has(sympy.ConditionSet):
        if not near:
            raise ToolError(
                "invalid_input", f"No formula solves it, and no real solution was found between -{FAR:g} and {FAR:g}.",
                field="$.equation",
            )  # fmt: skip
        text = f"Found where the sign changes between -{FAR:g} and {FAR:g}; there may be others."
        return {"kind": "numeric", "solutions": near, "text": text}
    return {"kind": "infinite", "solutions": near, "text": str(found)[:_TEXT]}


def _roots(polynomial: Any, bottom: Any, x: Any, domain: str) -> list[dict[str, Any]]:
    """Return the roots of a polynomial that are none of what it is divided by: as radicals where these are short."""
    found: list[dict[str, Any]] = []
    for factor, _ in polynomial.factor_list()[1]:
        degree = factor.degree()
        if sympy.Poly(bottom, x).rem(factor).is_zero:
            continue
        if degree <= 2 or len(factor.terms()) <= 2:
            found += [_root(each) for each in sympy.roots(factor) if domain == "complex" or each.is_real]
        elif domain == "real":
            coefficients = [int(each) for each in reversed(factor.clear_denoms()[1].all_coeffs())]
            found += [_number(float(each)) for each in real_roots(coefficients)]
        else:
            found += [_number(complex(each)) for each in factor.nroots(n=17, maxsteps=200)]
    return found


def _check(terms: list[Any], unknowns: list[Any]) -> None:
    for term in terms:
        if term.is_polynomial(*unknowns) and sympy.total_degree(term, *unknowns) > DEGREE:
            raise ToolError("too_large", f"Polynomials may have degree {DEGREE}.", field="$.equation")


def _told(solutions: list[dict[str, Any]], domain: str) -> dict[str, Any]:
    if not solutions:
        return {"kind": "none", "solutions": [], "text": f"No {domain} number solves it."}
    solutions = _sorted(solutions)
    return {"kind": "finite", "solutions": solutions, "text": _text(solutions)}


def _several(terms: list[Any], unknowns: list[Any], domain: str) -> dict[str, Any]:
    _check([sympy.fraction(sympy.together(each))[0] for each in terms], unknowns)
    try:
        found = sympy.solve(terms, unknowns, dict=True)
    except NotImplementedError:
        raise ToolError("invalid_input", "No method is known that solves them.", field="$.equation") from None
    solutions = [{str(name): _root(value) for name, value in each.items()} for each in found]
    if domain == "real":
        solutions = [each for each in solutions if not any(root["imaginary"] for root in each.values())]
    if not solutions:
        if all(sympy.simplify(term) == 0 for term in terms):
            return {"kind": "all", "solutions": [], "text": "Whatever the numbers are, they solve it."}
        return {"kind": "none", "solutions": [], "text": f"No {domain} numbers solve them."}
    solutions = _sorted(solutions)
    whole = all(len(each) == len(unknowns) for each in solutions)
    return {"kind": "finite" if whole else "infinite", "solutions": solutions, "text": _text(solutions)}


# ---------------------------------------------------------------- numbers


def _bounded(value: Any) -> Any:
    if value.has(sympy.nan, sympy.zoo, sympy.oo, -sympy.oo):
        raise ValueError("not a number")
    if value.is_Rational and max(abs(value.p).bit_length(), value.q.bit_length()) > BITS:
        raise too_large()
    return value


def _root(value: Any) -> dict[str, Any]:
    if value.free_symbols:
        return {"exact": str(value)[:_TEXT], "real": None, "imaginary": None}
    return _number(complex(value.evalf(20, chop=True)), str(value)[:_TEXT])


def _number(value: complex, exact: str = "") -> dict[str, Any]:
    value = complex(value)
    return {"exact": exact, "real": value.real, "imaginary": value.imag}


def _sorted(solutions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(
        solutions,
        key=lambda each: [
            (root["real"] or 0, root["imaginary"] or 0, root["exact"]) for root in each.values()
        ],
    )


def _text(solutions: list[dict[str, Any]]) -> str:
    each = [
        ", ".join(f"{name} = {root['exact'] or _nearly(root)}" for name, root in one.items())
        for one in solutions
    ]
    return " or ".join(each)[:_TEXT]


def _nearly(root: dict[str, Any]) -> str:
    return (
        f"{root['real']:.9g}" if not root["imaginary"] else f"{complex(root['real'], root['imaginary']):.9g}"
    )


def _near(term: Any, x: Any) -> list[float]:
    """Return real solutions near 0: where the sign changes, and not by leaping over a pole."""
    function = sympy.lambdify(x, term, "math")

    def at(place: float) -> float:
        try:
            value = function(place)
        except (ArithmeticError, ValueError, TypeError):
            return math.nan
        return value if isinstance(value, int | float) else math.nan

    far = [100 * (FAR / 100) ** (n / 400) for n in range(1, 401)]
    places = [-each for each in reversed(far)] + [n / 20 for n in range(-2_000, 2_001)] + far
    values = [at(place) for place in places]
    found = [place for place, value in zip(places, values, strict=True) if value == 0]
    for low, high, one, other in zip(places, places[1:], values, values[1:], strict=False):
        if one * other < 0:
            root = _halved(at, low, high)
            if abs(at(root)) <= 1e-6 * max(abs(one), abs(other)):
                found.append(root)
    return sorted(sorted(found, key=abs)[:MANY])


def _halved(at: Any, low: float, high: float) -> float:
    rising = at(high) > 0
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (low, middle) if (at(middle) > 0) == rising else (middle, high)
    return min(low, high, key=lambda each: abs(at(each)))


def _logarithm(base: int, value: Any) -> Any:
    return sympy.log(value, base)


_CONSTANTS: dict[str, Any] = {"pi": sympy.pi, "e": sympy.E}
_FUNCTIONS: dict[str, tuple[Any, int]] = {
    "sqrt": (sympy.sqrt, 1), "exp": (sympy.exp, 1), "ln": (sympy.log, 1), "log": (sympy.log, 2),
    "log2": (partial(_logarithm, 2), 1), "log10": (partial(_logarithm, 10), 1),
    "sin": (sympy.sin, 1), "cos": (sympy.cos, 1), "tan": (sympy.tan, 1), "asin": (sympy.asin, 1),
    "acos": (sympy.acos, 1), "atan": (sympy.atan, 1), "sinh": (sympy.sinh, 1), "cosh": (sympy.cosh, 1),
    "tanh": (sympy.tanh, 1), "abs": (sympy.Abs, 1),
}  # fmt: skip

for _each in (["x**2 = 4"], ["cos(x) = x"], ["x + y = 1", "x - y = 2"]):
    solve(
        _each, [], "real"
    )  # sympy loads and remembers much when it is first used; its forks need not do so again
