"""Solving equations: what is asked here is done by :mod:`.symbolic`, in a process that is killed when it takes too long."""

from __future__ import annotations

from typing import Annotated, Literal, TypedDict

from msgspec import Meta

from reprise.kernel.errors import ToolError
from reprise.tools.context import ToolContext
from reprise.tools.guards.process import PROCESSES, Limits, Processes
from reprise.tools.tool import Example, Tool, tool

LENGTH = 500
"""Characters of an equation."""
MANY = 6
"""Equations, and names in them."""
LIMITS = Limits(seconds=10, memory=512 << 20, most=256 << 10)
_SYMBOLIC = "reprise.tools.library.mathematics.symbolic:solve"

Equation = Annotated[str, Meta(min_length=1, max_length=LENGTH)]
Name = Annotated[str, Meta(min_length=1, max_length=32)]


class Root(TypedDict):
    """A number, exactly and nearly."""

    exact: str
    real: float | None
    """None where it depends on other names."""
    imaginary: float | None


class Solved(TypedDict):
    """The solutions, and whether they are all."""

    kind: Literal["finite", "none", "all", "infinite", "numeric"]
    """finite = these are all; infinite, numeric = those near 0, others there are or may be."""
    solutions: list[dict[str, Root]]
    text: str


@tool(
    effects="pure",
    tags=["math"],
    extra="math",
    timeout=60,
    examples=[
        Example(
            {"equation": "x**2 = 2 * x + 3"},
            {
                "kind": "finite",
                "solutions": [
                    {"x": {"exact": "-1", "real": -1.0, "imaginary": 0.0}},
                    {"x": {"exact": "3", "real": 3.0, "imaginary": 0.0}},
                ],
                "text": "x = -1 or x = 3",
            },
        ),
        Example({"equation": ["x + y = 10", "x - y = 4"]}),
        Example({"equation": "cos(x) = x"}),
    ],
)
async def math_solve(
    ctx: ToolContext,
    equation: Annotated[
        Equation | Annotated[list[Equation], Meta(min_length=1, max_length=MANY)],
        "Such as x**2 = 2 * x + 3, with + - * / ** and functions; without = it is to be 0. Several are solved together.",
    ],
    variable: Annotated[
        Name | Annotated[list[Name], Meta(min_length=1, max_length=MANY)] | None,
        "What to solve for; none = all names.",
    ] = None,
    domain: Annotated[Literal["real", "complex"], "Where to look for solutions."] = "real",
) -> Solved:
    """Solve an equation or several: exactly where that can be done, else numerically.

    Knows sqrt, exp, ln, log, log2, log10, sin, cos, tan, asin, acos, atan, sinh, cosh, tanh, abs, pi and e.
    """
    equations = [equation] if isinstance(equation, str) else equation
    names = [] if variable is None else [variable] if isinstance(variable, str) else variable
    for name in names:
        if not name.isidentifier() or not name.isascii():
            raise ToolError("invalid_input", f"{name!r} is no name.", hint="Write x.", field="$.variable")
    processes = ctx.find(Processes) or PROCESSES
    return await processes.call(_SYMBOLIC, equations, names, domain, limits=LIMITS)


TOOLS: list[Tool] = [math_solve]
