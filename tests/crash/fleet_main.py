"""A worker of one version of the code: it serves the workflows of a module file until SIGTERM."""

from __future__ import annotations

import asyncio
import fcntl
import importlib.util
import os
import signal
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
from tests.crash.helping import help_some
from tests.crash.ledger import Began, Crowd, Ledger
from tests.crash.places import PATIENCE
from tests.crash.worker_main import open_named

from reprise import Reprise
from reprise.runtime.pool import STEP
from reprise.runtime.workflow import Workflow

EXECUTED = "executed.jsonl"
IDLE = 0.05
"""Seconds after which a waiting run leaves memory: any worker may then go on with it."""

_ledger: list[Ledger] = []


class Options(msgspec.Struct):
    """What a worker is told."""

    folder: str
    store: str
    module: str
    build: str = ""
    accepts: list[str] | None = None
    lease: float = 2.0


def load(path: str) -> ModuleType:
    """Return a module file as a module of its own."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def workflows_of(module: ModuleType) -> list[Workflow[..., Any]]:
    """Return the workflows of a module."""
    return [thing for thing in vars(module).values() if isinstance(thing, Workflow)]


async def start_some(app: Reprise, module: ModuleType, begun: Counter[str], each: dict[str, int]) -> None:
    """Start more runs of a module's workflows, numbered on; ``begun`` says how many there are."""
    for name, number in each.items():
        for _ in range(number):
            n = begun[name]
            begun[name] += 1
            await app.start(getattr(module, name), n, id=f"{name}-{n:04}")


async def until_ended(app: Reprise) -> None:
    """Wait until no run is left; let those go on that were killed so often that they need attention."""
    until = time.monotonic() + PATIENCE
    while left := {k: v for k, v in (await app.store.runs.count()).items() if k != "completed"}:
        await help_some(app)
        assert time.monotonic() < until, (left, await app.store.runs.lines())
        await asyncio.sleep(0.05)


def executed() -> None:
    """Write that the step that calls this began; called by the steps of the modules."""
    job = STEP.get()
    _ledger[0].write(Began(job.execution.id, job.key, job.attempt, job.execution.token, os.getpid()))


@contextmanager
def seat(group: str) -> Iterator[None]:
    """Be one of those who execute, and write how many there are.

    Who executes holds the lock of a file of its own, which the kernel frees when the process dies; so whoever holds one
    is alive and in between. Nothing of this knows about limits.
    """
    folder = _ledger[0].path.with_name(group)
    folder.mkdir(exist_ok=True)
    name = uuid.uuid4().hex
    mine, unlocked = folder / name, folder.with_name(name)
    file = os.open(unlocked, os.O_CREAT | os.O_RDWR, 0o600)
    fcntl.flock(file, fcntl.LOCK_EX)
    unlocked.rename(mine)  # nobody sees it while it has no lock
    others = sum(_is_held(path) for path in folder.iterdir() if path != mine)
    _ledger[0].write(Crowd(group, others + 1, os.getpid()))
    try:
        yield
    finally:
        mine.unlink()
        os.close(file)


def _is_held(path: Path) -> bool:
    try:
        file = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    path.unlink(missing_ok=True)  # of a process that died
    return False


def ready_file(folder: Path, pid: int) -> Path:
    """Return the file that is there as soon as a worker heeds SIGTERM."""
    return folder / f"ready-{pid}"


async def work(options: Options) -> None:
    """Execute runs until SIGTERM."""
    _ledger[:] = [Ledger(Path(options.folder) / EXECUTED)]
    app = Reprise(
        open_named(options.store),
        workflows=workflows_of(load(options.module)),
        build=options.build,
        accepts=options.accepts,
        lease=options.lease,
        capture_logs=False,
    )
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    ready_file(Path(options.folder), os.getpid()).touch()
    async with app:
        assert app._worker is not None
        app._worker._idle = IDLE
        await ended.wait()


def main(options: dict[str, Any]) -> None:
    """Be a worker."""
    asyncio.run(work(msgspec.convert(options, Options)))


if __name__ == "__main__":
    main(msgspec.json.decode(sys.argv[1]))
