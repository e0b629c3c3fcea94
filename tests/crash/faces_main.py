"""A process that executes chains and parallel executors by their ids, forked by the nursery.

Each call of an agent is written to a file, as somebody outside would remember it.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
from tests.crash.ledger import open_lines, write_line

from reprise import AgentChain, ParallelExecutor, Reprise, RunEnded, current_step

CALLED = "called.jsonl"
ABREAST = 4
"""Runs at a time."""
EXPECTED: dict[str, tuple[str, Any]] = {
    "chain": ("partial", "last(value(2))"),
    "parallel": ("partial", [0, 1, None, 3, 4, 5, 6, 7]),
}
"""How runs end, by the first word of their id."""


class Options(msgspec.Struct):
    """What a process is told."""

    folder: str
    store: str
    runs: int
    life: int
    durable: bool = True
    """False = the control: each life begins everything anew, under ids of its own."""


class Called(msgspec.Struct, frozen=True):
    """An agent was called."""

    name: str
    """Of the work; the run's id where runs go on."""
    key: str


class Agents:
    """Agents whose answers follow from what they are asked; they take a moment."""

    def __init__(self, file: int) -> None:
        self._file = file
        self._dice = random.SystemRandom()

    async def __call__(self, agent: str, task: Any, context: dict[str, Any]) -> Any:
        times = context.get("refused", {}).get("times", 0)
        key = f"{context['step']}.{times + 1}" if times else context["step"]
        name = current_step().run.partition(".")[0]
        write_line(self._file, Called(name, key))
        await asyncio.sleep(self._dice.random() * 0.003)
        if agent == "fails":
            raise ValueError(task)
        if agent == "learns":
            return times
        return task if agent == "same" else f"{agent}({task})"


def face(name: str) -> AgentChain | ParallelExecutor:
    """Return what is to be executed under a name."""
    if name.startswith("chain"):
        chain = AgentChain("chain", "x").then("same").then("learns", validate=lambda times: times == 2)
        chain.then("fails", on_error="skip").then("same", name="again")
        chain.then("value").then("last")
        return chain
    ex = ParallelExecutor(3)
    for n in range(8):
        ex.create_task("fails" if n == 2 else "same", n, priority=n % 5)
    return ex


async def work(options: Options) -> None:
    """Execute everything to its end."""
    file = open_lines(Path(options.folder) / CALLED)
    async with Reprise(options.store, capture_logs=False) as app:
        agents = Agents(file)
        names = iter([f"{kind}-{n}" for n in range(options.runs) for kind in EXPECTED])

        async def see_to_some() -> None:
            for name in names:
                await see_to(app, name, agents, "" if options.durable else f".{options.life}")

        await asyncio.gather(*(see_to_some() for _ in range(ABREAST)))


async def see_to(app: Reprise, name: str, agents: Agents, suffix: str) -> None:
    """Execute until it has ended as it must; what was killed too often is helped on."""
    status, value = EXPECTED[name.partition("-")[0]]
    while True:
        result: Any = await face(name).execute(agents, id=name + suffix, app=app)
        if result.status != "needs_attention":
            got = result.output if name.startswith("chain") else result.value
            assert (result.status, got) == (status, value), (name, result)
            return
        with suppress(RunEnded):
            await app.client.resume(name + suffix)


def main(options: dict[str, Any]) -> None:
    """Be a process until all is done."""
    asyncio.run(work(msgspec.convert(options, Options)))
