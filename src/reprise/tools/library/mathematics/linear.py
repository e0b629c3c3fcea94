"""Matrices, by ``numpy``."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, TypedDict

from msgspec import Meta

from reprise.kernel.errors import ToolError
from reprise.tools.context import ToolContext
from reprise.tools.extras import library
from reprise.tools.guards.arithmetic import BITS, too_large
from reprise.tools.tool import Example, Tool, tool

SIZE = 100
"""Rows and columns at most: an eigenvalue takes time by the cube of them, and no thread can be stopped."""
EXACT = 30
"""Rows of a matrix of whole numbers whose determinant is calculated in whole numbers."""
_ILL = 1e12
Row = Annotated[list[Annotated[float, Meta(ge=-1e100, le=1e100)]], Meta(min_length=1, max_length=SIZE)]
Matrix = Annotated[list[Row], Meta(min_length=1, max_length=SIZE)]
Operation = Literal[
    "add", "subtract", "multiply", "transpose", "determinant", "inverse", "solve", "rank", "trace", "norm", "eigenvalues",
]  # fmt: skip
_WITH_TWO = ("add", "subtract", "multiply", "solve")
_SQUARE = ("determinant", "inverse", "solve", "trace", "eigenvalues")


class Complex(TypedDict):
    """A complex number."""

    real: float
    imaginary: float


class Result(TypedDict, total=False):
    """A matrix, a number, or eigenvalues, as asked for."""

    matrix: list[list[float]]
    number: float
    eigenvalues: list[Complex]


@tool(
    effects="pure",
    tags=["math"],
    extra="math",
    examples=[
        Example({"op": "multiply", "a": [[1, 2], [3, 4]], "b": [[5], [6]]}, {"matrix": [[17.0], [39.0]]}),
        Example({"op": "determinant", "a": [[1, 2], [3, 4]]}, {"number": -2.0}),
        Example({"op": "solve", "a": [[2, 0], [0, 4]], "b": [[2], [2]]}, {"matrix": [[1.0], [0.5]]}),
    ],
)
def math_matrix(
    ctx: ToolContext,
    op: Annotated[Operation, "solve finds x of a @ x = b; norm is that of Frobenius."],
    a: Annotated[Matrix, "Rows of numbers."],
    b: Annotated[Matrix, "The second matrix of add, subtract, multiply and solve."] | None = None,
) -> Result:
    """Calculate with matrices of up to 100 rows and columns."""
    numpy = library("numpy", "math")
    one = _matrix(numpy, a, "$.a")
    if (b is not None) != (op in _WITH_TWO):
        raise ToolError(
            "invalid_input", f"{op} takes {'two matrices' if b is None else 'one matrix'}.", field="$.b"
        )
    if op in _SQUARE and one.shape[0] != one.shape[1]:
        raise ToolError(
            "invalid_input", f"{op} needs as many rows as columns, not {_shape(one)}.", field="$.a"
        )
    with numpy.errstate(all="ignore"):
        try:
            found = _two(op, one, _matrix(numpy, b, "$.b"), numpy) if b is not None else _one(op, one, numpy)
            if op in ("inverse", "solve") and not numpy.linalg.cond(one) < _ILL:
                ctx.warn("The matrix is nearly singular: of the result few digits are right.")
        except numpy.linalg.LinAlgError:
            raise ToolError("invalid_input", "The matrix is singular.", field="$.a") from None
    return _told(op, found, numpy)


def _matrix(numpy: Any, rows: list[list[float]], field: str) -> Any:
    if len({len(row) for row in rows}) != 1:
        raise ToolError("invalid_input", "The rows have different lengths.", field=field)
    return numpy.array(rows, dtype=float)


def _shape(matrix: Any) -> str:
    return f"{matrix.shape[0]}×{matrix.shape[1]}"


def _two(op: Operation, a: Any, b: Any, numpy: Any) -> Any:
    fits = {"multiply": a.shape[1] == b.shape[0], "solve": a.shape[0] == b.shape[0]}
    if not fits.get(op, a.shape == b.shape):
        raise ToolError("invalid_input", f"{op} of {_shape(a)} and {_shape(b)} is not defined.", field="$.b")
    match op:
        case "add":
            return a + b
        case "subtract":
            return a - b
        case "multiply":
            return a @ b
        case _:
            return numpy.linalg.solve(a, b)


def _one(op: Operation, a: Any, numpy: Any) -> Any:
    match op:
        case "transpose":
            return a.T
        case "inverse":
            return numpy.linalg.inv(a)
        case "determinant":
            if len(a) <= EXACT and bool((a == numpy.rint(a)).all()) and bool((abs(a) <= 2**53).all()):
                return exact_determinant([[int(each) for each in row] for row in a])
            return numpy.linalg.det(a)
        case "rank":
            return numpy.linalg.matrix_rank(a)
        case "trace":
            return numpy.trace(a)
        case "norm":
            return numpy.linalg.norm(a)
        case _:
            return numpy.linalg.eigvals(a)


def exact_determinant(rows: list[list[int]]) -> int:
    """Return a determinant by Bareiss' elimination, in which every division leaves no rest.

    >>> exact_determinant([[1, 2], [3, 4]])
    -2
    """
    last, sign = 1, 1
    for at in range(len(rows) - 1):
        pivot = next((row for row in range(at, len(rows)) if rows[row][at]), None)
        if pivot is None:
            return 0
        if pivot != at:
            rows[at], rows[pivot], sign = rows[pivot], rows[at], -sign
        for row in range(at + 1, len(rows)):
            for column in range(at + 1, len(rows)):
                cross = rows[row][column] * rows[at][at] - rows[row][at] * rows[at][column]
                rows[row][column] = cross // last
        last = rows[at][at]
    return sign * rows[-1][-1]


def _told(op: Operation, found: Any, numpy: Any) -> Result:
    if isinstance(found, int):
        if found.bit_length() > BITS:
            raise too_large("$.a")
        return {"number": float(found)}
    if not bool(numpy.isfinite(found).all()):
        raise too_large("$.a")
    if op == "eigenvalues":
        values = sorted((complex(each) for each in found), key=lambda each: (each.real, each.imag))
        return {"eigenvalues": [{"real": each.real, "imaginary": each.imag} for each in values]}
    if getattr(found, "ndim", 0) == 2:
        return {"matrix": found.tolist()}
    number = float(found)
    assert math.isfinite(number)
    return {"number": number}


TOOLS: list[Tool] = [math_matrix]
