"""Arithmetic that somebody else wrote: what may stand in it, and how large anything may become.

An expression passes three gates. Its characters must be numbers, names and operators, so that Python's parser sees no
texts, brackets or keywords. Of the tree only five kinds of nodes are read. Each of them is handed to an :class:`Algebra`, which
knows the names and keeps every number within 308 digits, *before* it is computed: nothing in here takes long, whatever is written.

Own code instead of ``simpleeval``: that knows texts (``'%1000000000d' % 1`` makes one of a gigabyte), and limits powers
but not products of them, which take minutes.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Iterable, Mapping
from decimal import Context, Decimal, DivisionByZero, InvalidOperation, Overflow, localcontext
from keyword import iskeyword
from typing import Any, Protocol, TypeVar

from reprise.kernel.errors import ToolError, nearest

N = TypeVar("N")

LENGTH = 2_000
"""Characters of an expression."""
DEPTH = 200
"""How deep it may be nested; each + of a chain is one deeper."""
BITS = 1023
"""Of an integer; one more is beyond what a float can say."""
DIGITS = 400
"""Decimal places that a number can be rounded to."""

_TOKEN = re.compile(
    r"""\s+ | (?P<name>[A-Za-z_]\w*) | \*\* | // | [-+*/%(),]
    | (?: 0[xX][0-9a-fA-F]+ | 0[bB][01]+ | (?: \d[\d_]*+ (?: \.\d*+ )? | \.\d++ ) (?: [eE][-+]?\d+ )? ) (?! [\w.] )""",
    re.ASCII | re.VERBOSE,
)
_PLAIN = str.maketrans(
    {"×": "*", "·": "*", "÷": "/", "\N{MINUS SIGN}": "-", "π": " pi ", "\n": " ", "\r": " ", "\t": " "}
)
_HINTS = {
    "^": "Write ** for a power.", "!": "Write factorial(n).", "=": "Write one expression, without =.",
    "[": "Write sum(1, 2, 3), without brackets.", "<": "Numbers cannot be compared here.", "'": "There are no texts here.",
    ".": "Functions stand by themselves: sqrt(2).", ">": "Numbers cannot be compared here.", '"': "There are no texts here.",
}  # fmt: skip
_SIGNS: dict[type[ast.operator], str] = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%", ast.Pow: "**",
}  # fmt: skip


class Algebra(Protocol[N]):
    """What numbers, names and operators mean. Each method bounds what it returns."""

    def number(self, value: float, text: str) -> N:
        """Return a number that stands in the expression as ``text``."""
        ...

    def name(self, name: str) -> N:
        """Return what a name stands for; raises ``ToolError`` where it stands for nothing."""
        ...

    def negative(self, value: N) -> N:
        """Return ``-value``."""
        ...

    def binary(self, sign: str, left: N, right: N) -> N:
        """Return ``left sign right``; the sign is one of ``+ - * / // % **``."""
        ...

    def call(self, function: str, arguments: list[N]) -> N:
        """Return what a function makes of its arguments."""
        ...


def evaluate(expression: str, algebra: Algebra[N], *, field: str = "$.expression") -> N:
    """Return what an expression is in an algebra.

    >>> evaluate("2 * (3 + x) ** 2", Floats({"x": 1}))
    32

    Raises ``ToolError`` with code ``invalid_input`` or ``too_large``; ``field`` is the argument that it blames.
    """
    text = _checked(expression, field)
    try:
        tree = ast.parse(text, mode="eval").body
    except (SyntaxError, RecursionError, MemoryError, ValueError) as error:
        at = getattr(error, "offset", None)
        where = f" near character {at}" if at else ""
        raise ToolError(
            "invalid_input", f"{_short(expression)} cannot be read{where}.",
            hint="Write it as 2 * (3 + 4), with a sign between any two numbers.", field=field,
        ) from None  # fmt: skip
    try:
        return _value(tree, text, algebra, DEPTH)
    except ToolError as error:
        raise ToolError(error.code, error.what, hint=error.hint, field=error.field or field) from None
    except (ZeroDivisionError, DivisionByZero):
        raise ToolError("invalid_input", f"{_short(expression)} divides by zero.", field=field) from None
    except (OverflowError, Overflow):
        raise too_large(field=field) from None
    except (ValueError, InvalidOperation):
        raise ToolError(
            "invalid_input", f"{_short(expression)} has no value among the real numbers.", field=field
        ) from None


def _checked(expression: str, field: str) -> str:
    """Return an expression of nothing but numbers, names and operators."""
    if len(expression) > LENGTH:
        raise ToolError("too_large", f"An expression may have {LENGTH:,} characters.", field=field)
    text = expression.translate(_PLAIN).strip()
    at = 0
    while at < len(text):
        token = _TOKEN.match(text, at)
        if token is None or iskeyword(token["name"] or ""):
            what = text[at : token.end() if token else at + 1]
            raise ToolError(
                "invalid_input", f"There is no {what!r} in arithmetic, at character {at + 1}.",
                hint=_HINTS.get(what, "Numbers, names of variables, functions, and + - * / // % ** are known."),
                field=field,
            )  # fmt: skip
        at = token.end()
    return text


def _value(node: ast.expr, text: str, algebra: Algebra[N], depth: int) -> N:
    if depth == 0:
        raise ToolError(
            "too_large", f"It is nested deeper than {DEPTH}.", hint="For long sums write sum(1, 2, 3)."
        )
    match node:
        case ast.Constant(value=int() | float() as value):
            return algebra.number(value, text[node.col_offset : node.end_col_offset])
        case ast.Name(id=name):
            return algebra.name(name)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return algebra.negative(_value(operand, text, algebra, depth - 1))
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _value(operand, text, algebra, depth - 1)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _SIGNS:
            one = _value(left, text, algebra, depth - 1)
            return algebra.binary(_SIGNS[type(op)], one, _value(right, text, algebra, depth - 1))
        case ast.Call(func=ast.Name(id=function), args=args, keywords=[]):
            return algebra.call(function, [_value(each, text, algebra, depth - 1) for each in args])
        case ast.Tuple():
            raise ToolError(
                "invalid_input", "A comma stands only between arguments.", hint="Write 1000, not 1,000."
            )
        case _:
            raise ToolError("invalid_input", f"{text[node.col_offset : node.end_col_offset]!r} is no arithmetic.")  # fmt: skip


# ---------------------------------------------------------------- numbers


class Floats:
    """Python's numbers: whole ones are exact up to 308 digits, all others are floats.

    >>> evaluate("2 ** 0.5 + 10 // 3", Floats())
    4.414213562373095
    """

    def __init__(self, variables: Mapping[str, int | float] | None = None) -> None:
        self._variables = variables or {}

    def number(self, value: float, text: str) -> int | float:
        """Return a number within bounds."""
        return fitting(value)

    def name(self, name: str) -> int | float:
        """Return a variable, or a constant."""
        if name in self._variables:
            return fitting(self._variables[name])
        if name in CONSTANTS:
            return CONSTANTS[name]
        raise unknown(name, [*self._variables, *CONSTANTS], functions=FUNCTIONS)

    def negative(self, value: float) -> int | float:
        """Return ``-value``."""
        return -value

    def binary(self, sign: str, left: float, right: float) -> int | float:
        """Return ``left sign right``."""
        return fitting(_power(left, right) if sign == "**" else _BINARY[sign](left, right))

    def call(self, function: str, arguments: list[int | float]) -> int | float:
        """Call a function by its name."""
        return fitting(_function(function, FUNCTIONS, len(arguments))(*arguments))


class Decimals:
    """Decimal numbers of so many digits, as money wants them: 0.1 + 0.2 is 0.3.

    >>> evaluate("0.1 + 0.2", Decimals(20)), evaluate("2 ** 0.5", Decimals(20))
    (Decimal('0.3'), Decimal('1.4142135623730950488'))
    """

    def __init__(self, digits: int, variables: Mapping[str, int | float] | None = None) -> None:
        # The exponents are those of floats: what is larger cannot be said as a JSON number, and takes long.
        self._context = Context(
            prec=digits, Emax=307, Emin=-307, traps=[InvalidOperation, DivisionByZero, Overflow]
        )
        self._variables = variables or {}

    def number(self, value: float, text: str) -> Decimal:
        """Return a number by its digits, not by the float that they would be."""
        return self._context.plus(Decimal(value if isinstance(value, int) else text))

    def name(self, name: str) -> Decimal:
        """Return a variable; constants are floats, and no more exact."""
        if name in self._variables:
            return self._context.plus(Decimal(repr(fitting(self._variables[name]))))
        if name in CONSTANTS:
            raise ToolError(
                "invalid_input", f"{name} is not known to so many digits.", hint="Calculate without digits."
            )
        raise unknown(name, self._variables, functions=DECIMAL_FUNCTIONS)

    def negative(self, value: Decimal) -> Decimal:
        """Return ``-value``."""
        return self._context.minus(value)

    def binary(self, sign: str, left: Decimal, right: Decimal) -> Decimal:
        """Return ``left sign right``; remainders have the sign of ``right``, as Python's have."""
        with localcontext(self._context):
            if sign in ("//", "%"):
                quotient, rest = divmod(left, right)
                if rest and (rest < 0) != (right < 0):
                    quotient, rest = quotient - 1, rest + right
                return quotient if sign == "//" else rest
            if sign == "**":
                return left**right if right else Decimal(1)
            return _BINARY[sign](left, right)

    def call(self, function: str, arguments: list[Decimal]) -> Decimal:
        """Call a function by its name."""
        called = _function(function, DECIMAL_FUNCTIONS, len(arguments))
        with localcontext(self._context) as finer:
            finer.prec += 6  # log(8, 2) is a quotient of two that are rounded; it is to be 3
            value = Decimal(called(*arguments))
        return self._context.plus(value)


def fitting(value: Any) -> Any:
    """Return a number if it is real and within bounds; raises ``ToolError``."""
    if isinstance(value, int):
        if value.bit_length() > BITS:
            raise too_large()
    elif isinstance(value, complex):
        raise ValueError("a complex number")  # noqa: TRY004 - as of sqrt(-1)
    elif math.isinf(value):
        raise too_large()
    elif math.isnan(value):
        raise ValueError("not a number")
    return value


def too_large(field: str = "") -> ToolError:
    """Return the error for a number beyond the bounds."""
    return ToolError("too_large", "A number of more than 308 digits comes of it.", field=field)


def unknown(name: str, valid: Iterable[str], *, functions: Iterable[str] = ()) -> ToolError:
    """Return the error for a name that stands for nothing; it says which was probably meant."""
    valid = list(valid)
    if name in functions:
        return ToolError("invalid_input", f"{name} is a function.", hint=f"Write {name}(…).")
    near = nearest(name, valid)
    known = f"Known: {', '.join(valid)[:300]}." if valid else "Give it as a variable."
    return ToolError(
        "invalid_input", f"There is no {name!r}.", hint=f"Did you mean {near!r}?" if near else known
    )


# ---------------------------------------------------------------- operators and functions


def _power(base: float, exponent: float) -> int | float:
    if isinstance(base, int) and isinstance(exponent, int) and abs(base) > 1:
        _bound(exponent * (abs(base).bit_length() - 1))
    return base**exponent


def _bound(bits: float) -> None:
    """Refuse what would have at least so many bits."""
    if bits > BITS:
        raise too_large()


def _whole(value: Any) -> int:
    if value != int(value):
        raise ToolError("invalid_input", f"{value} is no whole number.")
    return int(value)


def _factorial(n: Any) -> int:
    _bound((whole := _whole(n)) * 6)  # 170! has 1020 bits
    return math.factorial(whole)


def _comb(n: Any, k: Any) -> int:
    n, k = _whole(n), _whole(k)
    k = min(k, n - k) if 0 <= k <= n else k
    if 0 < k <= n:
        _bound(k * (math.log2(n) - math.log2(k)))  # (n / k) ** k is not more than it is
    return math.comb(n, k)


def _perm(n: Any, k: Any) -> int:
    n, k = _whole(n), _whole(k)
    if 0 < k <= n:
        _bound(
            max(k - 1, k * math.log2(n - k + 1))
        )  # so many factors of at least 2, or of at least n - k + 1
    return math.perm(n, k)


def _round(value: Any, digits: Any = 0) -> Any:
    if abs(digits) > DIGITS:
        raise too_large()
    return round(value, _whole(digits)) if digits else round(value)


def _mean(*values: Any) -> Any:
    return sum(values) / len(values)


def _sum(*values: Any) -> Any:
    return sum(values) if all(isinstance(each, int | Decimal) for each in values) else math.fsum(values)


def _ints(function: Callable[..., int]) -> Callable[..., int]:
    return lambda *values: function(*map(_whole, values))


def _log(value: Any, base: Any = math.e) -> float:
    return math.log(value) if base == math.e else math.log(value, base)


def _decimal_log(value: Decimal, base: Decimal | None = None) -> Decimal:
    return value.ln() if base is None else value.ln() / base.ln()


_BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b, "/": lambda a, b: a / b,
    "//": lambda a, b: a // b, "%": lambda a, b: a % b,
}  # fmt: skip
CONSTANTS = {"pi": math.pi, "e": math.e, "tau": math.tau}
MANY = 1_000
"""Arguments that a function of any number of them takes."""
Functions = Mapping[str, tuple[Callable[..., Any], int, int]]
"""Name to function, with the fewest and the most arguments it takes."""
_BOTH: Functions = {
    "abs": (abs, 1, 1), "round": (_round, 1, 2), "floor": (math.floor, 1, 1), "ceil": (math.ceil, 1, 1),
    "trunc": (math.trunc, 1, 1), "min": (lambda *of: min(of), 1, MANY), "max": (lambda *of: max(of), 1, MANY),
    "sum": (_sum, 1, MANY), "mean": (_mean, 1, MANY), "gcd": (_ints(math.gcd), 1, MANY),
    "lcm": (_ints(math.lcm), 1, 100), "factorial": (_factorial, 1, 1), "comb": (_comb, 2, 2), "perm": (_perm, 2, 2),
}  # fmt: skip
FUNCTIONS: Functions = _BOTH | {
    "sqrt": (math.sqrt, 1, 1), "cbrt": (math.cbrt, 1, 1), "exp": (math.exp, 1, 1), "ln": (math.log, 1, 1),
    "log": (_log, 1, 2), "log2": (math.log2, 1, 1), "log10": (math.log10, 1, 1), "hypot": (math.hypot, 1, MANY),
    "sin": (math.sin, 1, 1), "cos": (math.cos, 1, 1), "tan": (math.tan, 1, 1), "asin": (math.asin, 1, 1),
    "acos": (math.acos, 1, 1), "atan": (math.atan, 1, 1), "atan2": (math.atan2, 2, 2), "sinh": (math.sinh, 1, 1),
    "cosh": (math.cosh, 1, 1), "tanh": (math.tanh, 1, 1), "degrees": (math.degrees, 1, 1),
    "radians": (math.radians, 1, 1), "gamma": (math.gamma, 1, 1), "erf": (math.erf, 1, 1),
}  # fmt: skip
DECIMAL_FUNCTIONS: Functions = _BOTH | {
    "sqrt": (Decimal.sqrt, 1, 1), "exp": (Decimal.exp, 1, 1), "ln": (Decimal.ln, 1, 1),
    "log": (_decimal_log, 1, 2), "log10": (Decimal.log10, 1, 1),
}  # fmt: skip


def _function(name: str, known: Functions, count: int) -> Callable[..., Any]:
    if name not in known:
        if name in FUNCTIONS:
            raise ToolError(
                "invalid_input", f"{name} is not known to so many digits.", hint="Calculate without digits."
            )
        error = unknown(name, known)
        raise ToolError("invalid_input", f"There is no function {name!r}.", hint=error.hint)
    function, least, most = known[name]
    if not least <= count <= most:
        takes = f"{least}" if least == most else f"{least} to {most:,}"
        raise ToolError(
            "invalid_input", f"{name} takes {takes} argument{'' if takes == '1' else 's'}, not {count}."
        )
    return function


def _short(expression: str) -> str:
    return repr(expression if len(expression) <= 80 else expression[:79] + "…")
