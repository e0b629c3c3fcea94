"""What a call of a tool costs over the function itself, what registering the built-in ones takes, and each on its examples.

Registering is timed in a process of its own, which then says what it has loaded. Calls go through a scope with a policy,
a rate and an observer; arguments are checked before and results after, as always.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from statistics import median
from time import perf_counter

import msgspec

from bench.measure.report import Floors, figure, table
from reprise import Example, Tool, ToolPolicy, ToolRegistry, ToolScope, create_builtin_tools_library, tool

REGISTER = """
import sys
from time import perf_counter
from reprise import ToolRegistry
before, began = set(sys.modules), perf_counter()
from reprise import create_builtin_tools_library
registry = ToolRegistry(create_builtin_tools_library())
took = perf_counter() - began
roots = {name.partition(".")[0] for name in set(sys.modules) - before}
libraries = {root for root in roots - set(sys.stdlib_module_names) - {"reprise"} if not root.startswith("_")}
print(1000 * took, len(registry), *sorted(libraries))
"""
KNOWN = {"cronsim"}
"""Libraries that Reprise itself needs: they may be loaded."""
OVERHEAD_US, REGISTER_MS, MEDIAN_MS = 100.0, 20.0, 1.0


@tool(effects="pure", where="inline")
def nothing(text: str, times: int = 1) -> str:
    """Return what is given."""
    return text


def main(*, once: bool) -> bool:
    """Print the tables; return whether the floors were kept."""
    floors = Floors()
    calls, tries = (50, 1) if once else (5_000, 7)
    direct, called = asyncio.run(_overhead(calls, tries))
    table(("a call", "us"), [("of the function", figure(direct)), ("of the tool", figure(called))])
    floors.most("a call of a tool over its function", called - direct, OVERHEAD_US, 1, unit="us")
    registered = [_registered() for _ in range(1 if once else 5)]
    took, count, loaded = median(each[0] for each in registered), registered[0][1], registered[0][2]
    print(f"\n{count} built-in tools; libraries that registering them loads: {', '.join(loaded) or 'none'}")
    floors.most("registering the built-in tools", took, REGISTER_MS, 1, unit="ms")
    floors.most("libraries that registering them loads", len(loaded - KNOWN), 0, 0)
    times = asyncio.run(_examples(1 if once else 20))
    rows = [(name, figure(ms, 3)) for name, ms in sorted(times.items(), key=lambda item: -item[1])]
    print()
    table(("pure built-in tool, on its slowest example", "ms"), rows)
    floors.most("pure built-in tools, the median", median(times.values()), MEDIAN_MS, 3, unit="ms")
    floors.print()
    return once or floors.kept


async def _overhead(calls: int, tries: int) -> tuple[float, float]:
    """Return the microseconds of a call of a function, and of the tool that it is."""
    registry = ToolRegistry([nothing], observers=[lambda event: None])
    policy = ToolPolicy(allow=["effect:pure"], rate={"*": (10 * calls * tries, 3600)})
    scope = registry.scope("bench", policy=policy)
    direct, called = list[float](), list[float]()
    for _ in range(tries):
        began = perf_counter()
        for _ in range(calls):
            nothing("hello", times=2)
        direct.append(perf_counter() - began)
        began = perf_counter()
        for _ in range(calls):
            await scope.execute_tool("nothing", {"text": "hello", "times": 2})
        called.append(perf_counter() - began)
    return min(direct) / calls * 1e6, min(called) / calls * 1e6


def _registered() -> tuple[float, int, set[str]]:
    told = subprocess.run(
        [sys.executable, "-c", REGISTER], capture_output=True, text=True, check=True
    ).stdout.split()
    return float(told[0]), int(told[1]), set(told[2:])


async def _examples(times: int) -> dict[str, float]:
    """Return how many milliseconds each pure tool takes for the slowest of its examples, the first call apart."""
    registry = ToolRegistry(create_builtin_tools_library())
    scope = registry.scope("bench")
    return {
        each.name: max([await _slowest(scope, each, example, times) for example in each.examples])
        for each in registry.list("effect:pure")
    }


async def _slowest(scope: ToolScope, each: Tool, example: Example, times: int) -> float:
    value = await scope.execute_tool(each.name, example.arguments)
    if example.returns is not msgspec.UNSET and value != example.returns:
        raise AssertionError(f"{each.name} returned {value!r}")
    took = list[float]()
    for _ in range(times):
        began = perf_counter()
        await scope.execute_tool(each.name, example.arguments)
        took.append(perf_counter() - began)
    return median(took) * 1000
