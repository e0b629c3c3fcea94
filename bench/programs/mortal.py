"""A run that is killed and comes back: `mortal STORE FOLDER SHAPE AT STEPS [stop]`. Started again, it goes on where it was.

Leaves in the folder: `executed` (number of each step whose body ran to its end), `acknowledged` (numbers of the steps
that the log said were durable), `reached` when the first life shall be ended, `resumed` and `done` (monotonic clock at
the first step of the second life, and when the run's result was there). A `burst` is the fan of the job J2, whose
steps take no time: its first life ends itself when the log has said of the first AT that they are durable.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bench.engines.reprise_jobs import url
from reprise import Event, Kind, Reprise, step, workflow

store, folder, shape = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
at, count = int(sys.argv[4]), int(sys.argv[5])
reached = asyncio.Event()
told = [0]
"""How many steps the log said were durable."""
again = (folder / "reached").exists()
executed, acknowledged = (
    os.open(folder / name, os.O_CREAT | os.O_WRONLY | os.O_APPEND) for name in ("executed", "acknowledged")
)


@step
async def number(i: int) -> int:
    """Note that it ran. The step `at` of a chain holds on until the process is killed."""
    if again and not (folder / "resumed").exists():
        (folder / "resumed").write_text(str(time.monotonic()))
    if shape == "fan":
        await asyncio.sleep((5 + i * 7 % 31) / 1000)
    if shape == "burst" and i >= at and not again:
        await asyncio.sleep(3600)  # half of it is left, exactly
    elif i == at and not again:
        (folder / "reached").touch()
        reached.set()
        await asyncio.sleep(3600 if shape == "chain" else 0)
    os.write(executed, b"%d\n" % i)
    return i


@workflow
async def chain(steps: int) -> int:
    """One step after the other."""
    return sum([await number(i) for i in range(steps)])


@workflow
async def fan(steps: int) -> int:
    """All steps, 100 at a time."""
    return sum(await asyncio.gather(*(number(i) for i in range(steps))))


def trace(run: str, events: Sequence[Event]) -> None:
    """Note what is durable."""
    lines = b"".join(event.data + b"\n" for event in events if event.kind == Kind.STEP_COMPLETED)
    if lines:
        os.write(acknowledged, lines)
        told[0] += lines.count(b"\n")
        if shape == "burst" and not again and told[0] >= at:
            (folder / "reached").touch()
            os.kill(os.getpid(), signal.SIGKILL)


async def main() -> None:
    """Start the run, or find it as it was left; print its result."""
    async with Reprise(url(store, folder), observers=[trace], grace=0.1) as app:
        run = await app.start(chain if shape == "chain" else fan, count, id="mortal")
        if sys.argv[6:] == ["stop"] and not again:
            await reached.wait()
        else:
            result = await run.result()
            (folder / "done").write_text(str(time.monotonic()))
            print(result)


asyncio.run(main())
