"""A worker that fires schedules every 50 to 100 ms and executes what they start, forked by the nursery."""

from __future__ import annotations

import asyncio
import itertools
import os
from pathlib import Path
from typing import Any

import msgspec

from reprise import Reprise, step, workflow
from reprise.kernel.errors import AppendRefused
from reprise.stores.log import ANY, Append, Group, Log
from reprise.workflows import scheduler

NOTES = "refused.jsonl"
SCHEDULES: dict[str, dict[str, Any]] = {
    "brisk": {"every": 0.05, "overlap": "allow"},
    "blurred": {"every": 0.08, "overlap": "allow", "jitter": 0.04},
    "queued": {"every": 0.1, "overlap": "queue"},
}


class Options(msgspec.Struct):
    """What a worker is told."""

    folder: str
    store: str
    fenced: bool = True
    """False = the control: states are written at any version, and the same fire time is another run each time."""


@step
async def work() -> None:
    """Take a moment."""
    await asyncio.sleep(0.01)


@workflow
async def tick() -> None:
    """Do a little."""
    await work()


def take_the_fence_away() -> None:
    """Let the scheduler write whatever the version, and give a run another id each time."""
    numbers, id, group = itertools.count(), scheduler.fire_id, scheduler.state_group
    scheduler.fire_id = lambda name, at: f"{id(name, at)}.{os.getpid()}.{next(numbers)}"
    scheduler.state_group = lambda *args: msgspec.structs.replace(group(*args), expected=ANY)


def note_refusals(folder: Path) -> None:
    """Write down how often a commit of the scheduler was refused: others were faster."""
    file = os.open(folder / NOTES, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    append = scheduler.append

    async def noted(log: Log, id: int, *groups: Group) -> Append:
        try:
            return await append(log, id, *groups)
        except AppendRefused:
            os.write(file, b"1\n")
            raise

    scheduler.append = noted


async def serve(options: Options) -> None:
    """Fire and execute until the kill."""
    note_refusals(Path(options.folder))
    if not options.fenced:
        take_the_fence_away()
    async with Reprise(options.store, workflows=[tick], lease=2, capture_logs=False):
        await asyncio.Event().wait()


def main(options: dict[str, Any]) -> None:
    """Be a worker."""
    asyncio.run(serve(msgspec.convert(options, Options)))
