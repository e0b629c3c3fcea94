"""The client process: starts runs, sends signals, waits for results, and promises each to its own file."""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
from tests.crash import flows
from tests.crash.ledger import Finished, Helped, Ledger, Sent, Started, lines
from tests.crash.worker_main import open_named

from reprise import Reprise, ResultTimeout, RunEnded
from reprise.kernel import events as ended

PROMISED = "promised.jsonl"
ENOUGH = "enough"
"""While this file is missing, new runs are started."""


class Options(msgspec.Struct):
    """What the client is told."""

    folder: str
    store: str
    open: int = 8
    """Runs at a time."""
    first: int = 0
    """Number of the run to begin with."""
    early: bool = False
    """True = the control: it promises before it asks."""
    loose: bool = False
    """True = another control: the server acknowledges before it has written to the disk."""


class Client:
    """Starts the runs of a round in their order; one that was killed is followed by one that goes on."""

    def __init__(self, app: Reprise, options: Options) -> None:
        self._app = app
        self._folder = Path(options.folder)
        self._early = options.early
        self._finished = {line.run for line in lines(self._folder / PROMISED) if isinstance(line, Finished)}
        self._promised = Ledger(self._folder / PROMISED, fsync=not options.early)

    async def work(self, indices: Iterator[int]) -> None:
        """See to one run after the other until there are enough."""
        for index in indices:
            run = flows.id_of(index)
            if run in self._finished:
                continue
            if (self._folder / ENOUGH).exists() and not await self._is_there(run):
                return
            await self._see_to(run, index)

    async def _is_there(self, run: str) -> bool:
        return (await self._app.store.log.head(f"run/{run}")).version > 0

    async def _see_to(self, run: str, index: int) -> None:
        flow = flows.BY_NAME[flows.shape_of(run)]
        letters = flow is flows.letters
        line = Started(run, flow.name, flow.arguments.encode((index,), {}))
        if self._early:
            self._promised.write(line)
        await self._app.start(flow, index, id=run, detach=True, signal=("go", index) if letters else None)
        if self._early:
            return
        self._promised.write(line)
        if letters:
            for n in range(1, flows.LETTERS):
                await self._send(run, f"{run}-letter-{n}", index + n)
        await self._wait(run)

    async def _send(self, run: str, id: str, value: int) -> None:
        try:
            await self._app.client.signal(run, "go", value, id=id, type=int)
        except RunEnded:
            return  # one that was killed before it could promise had sent it
        self._promised.write(Sent(run, id, value))

    async def _wait(self, run: str) -> None:
        while True:
            finished = await self._end_or_rest(run)
            if finished.status in ("completed", "failed", "cancelled"):
                self._promised.write(Finished(run, finished.status, bytes(finished.value)))
                return
            self._promised.write(Helped(run, finished.status))
            with suppress(RunEnded):  # one that was killed before had told it already
                await self._app.client.resume(run)
            await asyncio.sleep(0.05)

    async def _end_or_rest(self, run: str) -> ended.Finished:
        """Wait until a run has ended or rests, or waits for a child that rests: one killed too often needs attention."""
        client = self._app.client
        while True:
            try:
                return await client.wait(run, 1, settled=True)
            except ResultTimeout:
                for resting in await client.resting(run):
                    return ended.Finished(resting.status)


async def act(options: Options) -> None:
    """Be the client until there are enough runs and all have ended."""
    store = open_named(options.store, loose=options.loose)
    async with Reprise(store, worker=False, capture_logs=False) as app:
        client = Client(app, options)
        indices = itertools.count(options.first)
        await asyncio.gather(*(client.work(indices) for _ in range(options.open)))


def main(options: dict[str, Any]) -> None:
    """Be the client."""
    asyncio.run(act(msgspec.convert(options, Options)))


if __name__ == "__main__":
    main(msgspec.json.decode(sys.argv[1]))
