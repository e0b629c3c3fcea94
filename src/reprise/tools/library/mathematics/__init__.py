"""Tools for mathematics. What takes long is bounded before it begins, or done in a process that is killed."""

from __future__ import annotations

from reprise.tools.library.mathematics import calculation, chance, equations, finance, linear, samples, units
from reprise.tools.tool import Tool

TOOLS: list[Tool] = [
    *calculation.TOOLS, *units.TOOLS, *samples.TOOLS, *equations.TOOLS, *linear.TOOLS, *chance.TOOLS, *finance.TOOLS,
]  # fmt: skip
