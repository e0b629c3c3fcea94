"""Random numbers, choices and orders."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypedDict
from uuid import UUID

from msgspec import Meta

from reprise.kernel.chance import Random, seeded
from reprise.kernel.errors import ToolError
from reprise.tools.context import ToolContext
from reprise.tools.tool import Example, Tool, tool

Bound = Annotated[float, Meta(ge=-1e15, le=1e15)]


class Chosen(TypedDict):
    """What chance chose."""

    values: list[Any]
    seed: str
    """With it the same comes again."""


@tool(
    effects="pure",
    tags=["math"],
    examples=[
        Example(
            {"kind": "int", "low": 1, "high": 6, "count": 5, "seed": "dice"},
            {"values": [3, 4, 3, 4, 5], "seed": "dice"},
        ),
        Example({"kind": "sample", "items": ["ada", "ben", "cleo"], "count": 2}),
        Example({"kind": "uuid"}),
    ],
)  # fmt: skip
def math_random(
    ctx: ToolContext,
    kind: Annotated[
        Literal["int", "float", "normal", "choice", "sample", "shuffle", "uuid"],
        "choice may take an item twice, sample does not; shuffle returns all items in another order.",
    ],
    count: Annotated[int, Meta(ge=1, le=10_000)] = 1,
    low: Annotated[Bound, "The least (int, float); of float up to but without high."] = 0,
    high: Annotated[Bound | None, "The most (int, float); none = 100 of int, 1 of float."] = None,
    mean: Bound = 0,
    stdev: Annotated[float, Meta(ge=0, le=1e15)] = 1,
    items: Annotated[list[Any], Meta(max_length=10_000), "What to choose from."] | None = None,
    seed: Annotated[
        Annotated[str, Meta(max_length=100)] | None, "The same seed gives the same again; none = chance."
    ] = None,
) -> Chosen:
    """Leave it to chance: numbers, a choice of items, a sample, another order, or UUIDs. Not for passwords or keys."""
    if kind in ("choice", "sample", "shuffle") and not items:
        raise ToolError("invalid_input", f"There are no items to {kind} from.", field="$.items")
    if kind == "sample" and count > len(items or ()):
        raise ToolError(
            "invalid_input", f"{count} of {len(items or ())} items cannot be taken.",
            hint="Take fewer, or kind='choice', which may take one twice.", field="$.count",
        )  # fmt: skip
    low, high = float(low), float({"int": 100}.get(kind, 1) if high is None else high)
    if kind in ("int", "float") and low > high:
        raise ToolError("invalid_input", f"low is {low:g}, and high only {high:g}.", field="$.low")
    if kind == "int" and not (low.is_integer() and high.is_integer()):
        raise ToolError(
            "invalid_input", "Whole numbers have whole bounds.", hint="Take kind='float'.", field="$.low"
        )
    seed = seed if seed is not None else ctx.randomness(16).hex()
    values = _values(seeded(seed.encode()), kind, count, (low, high), (mean, stdev), items or [])
    return {"values": values, "seed": seed}


def _values(
    chance: Random,
    kind: str,
    count: int,
    bounds: tuple[float, float],
    bell: tuple[float, float],
    items: list[Any],
) -> list[Any]:
    low, high = bounds
    match kind:
        case "int":
            return [chance.randint(int(low), int(high)) for _ in range(count)]
        case "float":
            return [chance.uniform(low, high) for _ in range(count)]
        case "normal":
            return [chance.gauss(*bell) for _ in range(count)]
        case "choice":
            return chance.choices(items, k=count)
        case "uuid":
            return [str(UUID(bytes=chance.randbytes(16), version=4)) for _ in range(count)]
        case _:
            return chance.sample(items, count if kind == "sample" else len(items))


TOOLS: list[Tool] = [math_random]
