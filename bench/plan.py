"""What plans cost: a layered graph of 10,000 steps made, validated, written and read."""

from __future__ import annotations

import gc
from collections.abc import Callable
from statistics import median
from time import process_time

from bench.measure.report import Floors, figure, table
from reprise import Plan, PlanStep

STEPS, WIDTH = 10_000, 100
LIMIT = 0.3
"""Seconds in which such a plan is validated: of this process, whatever else the machine does."""


def main(*, once: bool) -> bool:
    """Print the table; return whether the floors were kept."""
    floors = Floors()
    took = validate(200 if once else STEPS, 1 if once else 7)
    table(("a plan of 10,000 steps", "ms"), [(name, figure(each * 1000)) for name, each in took.items()])
    floors.most("to validate", took["validated"], LIMIT, unit="s")
    floors.print()
    return once or floors.kept


def validate(count: int, rounds: int) -> dict[str, float]:
    """Return the median seconds of each way of a plan."""
    steps = layered(count)
    plan = Plan(name="layered", steps=steps)
    data = plan.to_dict()
    ways: dict[str, Callable[[], object]] = {
        "steps made": lambda: layered(count),
        "validated": lambda: Plan(name="layered", steps=steps),
        "levels": lambda: Plan.levels(Plan(name="layered", steps=steps)),
        "to_dict": plan.to_dict,
        "from_dict": lambda: Plan.from_dict(data),
        "to_mermaid": plan.to_mermaid,
    }
    return {name: _timed(way, rounds) for name, way in ways.items()}


def layered(count: int, width: int = WIDTH) -> list[PlanStep]:
    """Return steps in layers: each waits for three of the layer above, a tenth reads results, a tenth has a condition."""
    steps: list[PlanStep] = []
    for number in range(count):
        layer, place = divmod(number, width)
        above = [f"s{(layer - 1) * width + (place + shift) % width}" for shift in (0, 1, 7)] if layer else []
        steps.append(
            PlanStep(
                name=f"s{number}",
                agent_type="worker",
                task=f"use ${{steps.{above[0]}.result}}" if above and place % 10 == 0 else "work",
                dependencies=above,
                condition=f"steps.{above[1]}.result != {number}" if above and place % 10 == 1 else None,
            )
        )
    return steps


def _timed(way: Callable[[], object], rounds: int) -> float:
    times: list[float] = []
    for _ in range(rounds):
        gc.collect()
        began = process_time()
        way()
        times.append(process_time() - began)
    return median(times)
