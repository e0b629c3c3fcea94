"""Units of measure, by ``pint``."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from functools import cache
from typing import Annotated, Any, TypedDict

from msgspec import Meta

from reprise.kernel.errors import ToolError, nearest
from reprise.tools.extras import library
from reprise.tools.guards.arithmetic import too_large
from reprise.tools.tool import Example, Tool, tool

Unit = Annotated[str, Meta(min_length=1, max_length=64), "km/h, degC, kg*m**2/s**2, cubic_meter, GiB."]

_FACTOR = re.compile(r"(?:[^\W\d_]|[°%µμΩ])\w*(?:(?:\*\*|\^)-?\d|[²³])?")
_BETWEEN = re.compile(r"\s*(?:(?<!\*)\*(?!\*)|/|·)\s*|\s+per\s+|\s+")
_TEMPERATURES = {"C": "degC", "F": "degF", "K": "kelvin", "R": "degR"}


class Quantity(TypedDict):
    """A number of units."""

    value: float
    unit: str
    text: str


@tool(
    effects="pure",
    tags=["math"],
    extra="math",
    examples=[
        Example(
            {"value": 100, "from_unit": "km/h", "to_unit": "mph"},
            {"value": 62.1371192237334, "unit": "mile_per_hour", "text": "100 kilometer / hour = 62.1371 mile_per_hour"},
        ),
        Example(
            {"value": 20, "from_unit": "degC", "to_unit": "degF"},
            {"value": 68.0, "unit": "degree_Fahrenheit", "text": "20 degree_Celsius = 68 degree_Fahrenheit"},
        ),
        Example({"value": 1, "from_unit": "GiB", "to_unit": "MB"}),
    ],
)  # fmt: skip
def math_convert_units(
    value: Annotated[float, Meta(ge=-1e300, le=1e300)], from_unit: Unit, to_unit: Unit
) -> Quantity:
    """Convert a quantity to another unit: length, mass, time, temperature, speed, energy, pressure, data, and many more."""
    pint = library("pint", "math")
    source, target = _unit(pint, from_unit, "$.from_unit"), _unit(pint, to_unit, "$.to_unit")
    try:
        converted = _converted(pint, value, source, target)
    except pint.DimensionalityError as error:
        meant = [_TEMPERATURES[each] for each in (from_unit, to_unit) if each in _TEMPERATURES]
        raise ToolError(
            "invalid_input",
            f"{source} is {error.dim1 or source.dimensionality}, {target} is {error.dim2 or target.dimensionality}: "
            "one does not become the other.",
            hint=f"Temperatures are {' and '.join(meant)}." if meant else "", field="$.to_unit",
        ) from None  # fmt: skip
    except (ArithmeticError, ValueError):
        converted = math.inf
    except (pint.PintError, AssertionError) as error:  # such as of decibels times something
        raise ToolError(
            "invalid_input",
            f"{source} does not become {target}: {error or 'that is not defined'}.",
            field="$.to_unit",
        ) from None
    if not math.isfinite(converted):
        raise too_large("$.value")
    return {"value": converted, "unit": str(target), "text": f"{value:g} {source} = {converted:g} {target}"}


def _converted(pint: Any, value: float, source: Any, target: Any) -> float:
    try:
        return float(_registry(pint, Decimal).Quantity(Decimal(repr(value)), source).to(target).magnitude)
    except TypeError:  # decibels and such are no decimals
        units = _registry(pint, float)
        with library("numpy", "math").errstate(all="raise"):  # pint takes its logarithm
            return float(units.Quantity(value, str(source)).to(str(target)).magnitude)


@cache
def _registry(pint: Any, kind: type) -> Any:
    """Return all units. Decimals keep what floats lose: 20 degC are 68 degF, and not 67.99999999999993."""
    return pint.UnitRegistry(non_int_type=kind)


def _unit(pint: Any, text: str, field: str) -> Any:
    """Return a unit. Pint calculates what stands in a text, so that names and small powers are all it is given."""
    units = _registry(pint, Decimal)
    plain = text.strip()
    name = plain.replace(" ", "_")
    factors = [each for each in _BETWEEN.split(plain.removeprefix("1/")) if each]
    if not factors or not all(map(_FACTOR.fullmatch, factors)):
        raise ToolError(
            "invalid_input",
            f"{text!r} is no unit.",
            hint="Write km/h, m**2, kg*m/s**2, or cubic_meter.",
            field=field,
        )
    try:
        return units.parse_units(name if _FACTOR.fullmatch(name) and name in units else plain)
    except pint.UndefinedUnitError as error:
        unknown = error.unit_names if isinstance(error.unit_names, str) else next(iter(error.unit_names))
        known = sorted(set(dir(units)).difference(dir(pint.UnitRegistry)))
        near = nearest(unknown, known) or nearest(unknown.lower(), known)
        raise ToolError(
            "invalid_input", f"There is no unit {unknown!r}.",
            hint=f"Did you mean {near!r}?" if near else "Write its English name.", field=field,
        ) from None  # fmt: skip
    except Exception as error:  # noqa: BLE001 - what pint's parser raises is of many kinds
        raise ToolError("invalid_input", f"{text!r} is no unit: {error}", field=field) from None


TOOLS: list[Tool] = [math_convert_units]
