"""An instance of shared state, forked by the nursery: it counts, collects and merges, and writes down what it hears."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

import msgspec
from tests.crash.worker_main import open_named

from reprise import Increment, StateSync, StateUpdate
from reprise.kernel.chance import seeded

TRIED, ACKED, STOP = "tried", "acked", "stop"
ENOUGH = 1_000_000
"""Changes that are kept: all, to be compared."""


class Options(msgspec.Struct):
    """What an instance is told."""

    folder: str
    store: str
    name: str
    bare: bool = False
    """The control: reads, adds one and writes."""


class Instance:
    """One life of one instance; what it writes down is in the file when the next line of code begins."""

    def __init__(self, folder: Path, name: str, sync: StateSync) -> None:
        self.folder, self.name, self.sync = folder, name, sync
        # Who began late may never hear of anything: all that there is was loaded.
        self.position = int(sync.statistics()["position"])
        self._files: dict[str, int] = {}
        self._dice = seeded(b"%d" % os.getpid())

    def write(self, file: str, *words: Any) -> None:
        if file not in self._files:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._files[file] = os.open(self.folder / file, flags, 0o600)
        os.write(self._files[file], f"{' '.join(map(str, words))}\n".encode())

    def hear(self, update: StateUpdate) -> None:
        self.position = update.version
        self.write(f"heard.{self.name}.{os.getpid()}", update.version, update.key, int(update.gap))

    def explain(self) -> None:
        """Say on stderr what it does: somebody has waited too long for it."""
        sys.stderr.write(f"{self.name} {self.position} {self.sync.statistics()}\n")
        for task in asyncio.all_tasks():
            task.print_stack(file=sys.stderr)
        sys.stderr.flush()

    async def count(self, *, bare: bool) -> None:
        self.write(TRIED, "n")
        if bare:
            number = await self.sync.get("n", 0)
            await self.sync.set("n", number + 1)
        else:
            self.write(ACKED, "n", await self.sync.increment("n"))

    async def work(self, *, bare: bool) -> None:
        number = 0
        while not (self.folder / STOP).exists():
            number += 1
            await asyncio.gather(*(self.count(bare=bare) for _ in range(self._dice.choice((1, 1, 3)))))
            await self.sync.add("members", f"{self.name}-{number % 50}")
            self.write(TRIED, "visits")
            patch = {"visits": Increment(), "last": self.name, self.name: number}
            done = await self.sync.set("page", patch, strategy="merge")
            self.write(ACKED, "visits", done.value["visits"])
            await self.sync.set(f"own:{self.name}", number, ttl=self._dice.choice((None, 0.05)))
            await asyncio.sleep(self._dice.uniform(0, 0.01))

    async def last_words(self) -> None:
        """Say what is there when all have stopped, and hear of all of it."""
        self.write(f"quiet.{self.name}")
        while len(list(self.folder.glob("quiet.*"))) < len(list(self.folder.glob("slot.*"))):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)  # what still lives only for a moment has ended
        snapshot = await self.sync.snapshot()
        while self.position < snapshot.position:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        self.write(f"final.{self.name}", msgspec.json.encode(snapshot.values, order="sorted").decode())


async def serve(options: Options) -> None:
    """Work until the kill, or until all is to stop."""
    store = open_named(options.store)
    await store.start()
    async with StateSync(store, "app", origin=options.name, history=ENOUGH) as sync:
        instance = Instance(Path(options.folder), options.name, sync)
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, instance.explain)
        sync.on_update(instance.hear)
        await instance.work(bare=options.bare)
        await instance.last_words()
    await store.stop()


def main(options: dict[str, Any]) -> None:
    """Be an instance."""
    asyncio.run(serve(msgspec.convert(options, Options)))
