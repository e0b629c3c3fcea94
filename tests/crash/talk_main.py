"""Processes that talk with runs until they are killed: workers, and those who update, answer and read.

What they were told they write to a file of their own, a line at once; after a kill they begin again where that ends.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
from tests.crash.ledger import open_lines, read_lines, write_line
from tests.crash.worker_main import open_named

from reprise import (
    QuestionClosed,
    Reprise,
    RunEnded,
    UnknownHandler,
    UpdateRefused,
    ask,
    step,
    stream,
    update,
    wait_for_signal,
    workflow,
)

UPDATES = 120
RUNS = 24
STEPS, CHUNKS = 12, 60


@step
async def checks(n: int) -> int:
    """Take a moment, so that a kill finds something."""
    await asyncio.sleep(0.003)
    return n


@workflow
async def account(count: int) -> list[int]:
    """Take so many updates, and return what they were in the order in which they were applied."""
    entries: list[int] = []
    full = asyncio.Event()

    def is_positive(n: int) -> None:
        if n < 0:
            raise ValueError("negative")

    @update(validator=is_positive)
    async def pay(n: int) -> int:
        entries.append(await checks(n))
        if len(set(entries)) == count:
            full.set()
        return len(entries)

    await full.wait()
    return entries


@workflow
async def asks() -> int:
    """Ask, and return what was answered."""
    await checks(0)
    given = await ask(int, "Which?")
    return await checks(given)


@workflow
async def takes_signal() -> int:
    """Stand in for a question without its rules: the first signal is the answer, and nobody is told so."""
    return await wait_for_signal("answer", int)


@step
async def tells(number: int) -> None:
    """Write chunk by chunk."""
    out = stream("words")
    for n in range(CHUNKS):
        await out.write([number, n])
        await asyncio.sleep(0.002)


@workflow
async def speaks() -> int:
    """Let steps write, and write after each of them."""
    said = stream("said")
    for number in range(STEPS):
        await tells(number)
        await said.write(number)
    return STEPS


class Options(msgspec.Struct):
    """What a process is told."""

    folder: str
    store: str
    job: str
    name: str = ""
    number: int = 0
    careless: bool = False
    """True = the control: updates have no id of their own, and answers are signals."""


class Notes:
    """A file of lines that survive a kill."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> list[Any]:
        """Return the whole lines."""
        return read_lines(self.path, Any)[0]

    def write(self, note: Any) -> None:
        """Append a line."""
        file = open_lines(self.path)
        write_line(file, note)
        os.close(file)


async def work(app: Reprise, options: Options, notes: Notes) -> None:
    """Execute whatever is due, for ever."""
    await asyncio.Event().wait()


async def updates(app: Reprise, options: Options, notes: Notes) -> None:
    """Send each update until it is replied to; every fifth is one to be refused."""
    await app.start(account, UPDATES, id="account", detach=True)
    told = {note[0] for note in notes.read()}

    async def one(n: int) -> None:
        value = -n if n % 5 == 4 else n
        id = "" if options.careless else f"u{n}"
        try:
            notes.write([n, await app.client.update("account", "pay", value, id=id)])
        except UpdateRefused:
            notes.write([n, "refused"])

    numbers = iter([n for n in range(UPDATES * 5 // 4 + 1) if n not in told])

    async def some() -> None:
        for n in numbers:
            with suppress(RunEnded):
                await one(n)

    await asyncio.gather(*(some() for _ in range(4)))


async def answers(app: Reprise, options: Options, notes: Notes) -> None:
    """Answer every run, and note where one was told that the answer counts."""
    told = {note[0] for note in notes.read()}
    flow = takes_signal if options.careless else asks
    for n in range(RUNS):
        run = f"q{n}"
        if run in told:
            continue
        await app.start(flow, id=run, detach=True)
        notes.write([run, await _answer(app, run, options)])


async def _answer(app: Reprise, run: str, options: Options) -> str:
    value, id = options.number, f"{options.name}-{run}"
    while True:
        try:
            if options.careless:
                await app.client.signal(run, "answer", value, id=id)
            else:
                await app.client.answer(run, value, question=":2.ask", id=id, by=options.name)
        except QuestionClosed:
            return "lost"
        except RunEnded:
            return "lost"
        except UnknownHandler:
            await asyncio.sleep(0.005)
            if await app.client.finished(run) is not None:
                return "lost"
        else:
            return "won"


async def reads(app: Reprise, options: Options, notes: Notes) -> None:
    """Read a stream from where the last one was killed, to its end."""
    await app.start(speaks, id="speaks", detach=True)
    before = notes.read()
    after = before[-1][0] if before else 0
    async for chunk in app.client.stream("speaks", options.name, after=after):
        notes.write([chunk.offset, chunk.step, chunk.restarts, chunk.value])


JOBS: dict[str, Callable[[Reprise, Options, Notes], Awaitable[None]]] = {
    "work": work,
    "updates": updates,
    "answers": answers,
    "reads": reads,
}


async def act(options: Options) -> None:
    """Do a job until it is done, or until a kill."""
    works = options.job == "work"
    flows = [account, asks, takes_signal, speaks]
    async with Reprise(
        open_named(options.store), workflows=flows, worker=works, lease=2, capture_logs=False
    ) as app:
        notes = Notes(Path(options.folder) / f"{options.job}-{options.name}.jsonl")
        await JOBS[options.job](app, options, notes)


def main(options: dict[str, Any]) -> None:
    """Be one of them."""
    asyncio.run(act(msgspec.convert(options, Options)))
