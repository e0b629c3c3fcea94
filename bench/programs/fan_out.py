"""Do a map step over so many items, so many at once, and print what it took: seconds, memory before and at most, MB."""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

from reprise import Reprise, WorkflowOrchestrator, WorkflowStep

AT_ONCE = 50


def _memory() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def _most_memory() -> float:
    # Not ru_maxrss: that begins with what the process had that started this one.
    line = next(each for each in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in each)
    return int(line.split()[1]) * 1024 / 1e6


async def main(count: int, store: str, *, collect: bool) -> None:
    """Do it once for 100 items, so that all is loaded, then for ``count``."""
    working = most = 0

    async def agent(agent_type: str, task: Any, context: dict[str, Any]) -> Any:
        nonlocal working, most
        working += 1
        most = max(most, working)
        await asyncio.sleep(0)
        working -= 1
        return task

    step = WorkflowStep(
        name="each",
        agent_type="any",
        task="${item}",
        for_each="inputs.items",
        concurrency=AT_ONCE,
        collect=collect,
    )
    plan = WorkflowOrchestrator("fan_out").add_step(step)
    async with Reprise(store, capture_logs=False) as app:
        await plan.execute(agent, app=app, inputs={"items": list(range(100))})
        before, began = _memory(), perf_counter()
        result = await plan.execute(agent, app=app, inputs={"items": list(range(count))})
        took = perf_counter() - began
    done = result.results["each"]
    assert (len(done) if collect else done) == count
    peak = _most_memory()
    print(json.dumps({"seconds": took, "before": before, "peak": peak, "at_once": most}))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2], collect=sys.argv[3] == "collect"))
