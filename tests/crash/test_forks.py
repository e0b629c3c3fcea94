"""Many runs are forked by a process that is killed in the middle, twice, and once more; then those who execute the forks are.

Each run has one fork, whole: with its edited result, with what was kept not done again, and its own steps done. The control
gives each fork an id of its own, as one would by hand: killed and repeated, it makes some twice.
"""

import asyncio
import signal
import subprocess
import sys
from collections import Counter

import pytest

from reprise import Reprise
from reprise.kernel.events import Kind, run_stream
from reprise.runtime.forking import FORK_OF
from reprise.stores import open_store

RUNS = 300
FLOW = """
from pathlib import Path
from reprise import step, workflow

def mark(text):
    with Path("done").open("a") as file:
        file.write(text + "\\n")

@step
async def reserve(n: int) -> int:
    mark(f"reserve {n}")
    return n

@step
async def price(n: int) -> int:
    mark(f"price {n}")
    return 100

@step
async def charge(n: int, cents: int) -> int:
    mark(f"charge {n} {cents}")
    return cents

@workflow
async def order(n: int) -> int:
    await reserve(n)
    return await charge(n, await price(n))
"""
PROGRAM = """
import asyncio, sys, uuid
from reprise import Reprise
from reprise.runtime.forking import FORK_OF

async def main():
    async with Reprise("sqlite:///shop.db", worker=False) as app:
        rows = await app.find("", limit=10_000, newest_first=False)
        for number, row in enumerate(row for row in rows if FORK_OF not in row.tags):
            id = f"own-{uuid.uuid4()}" if sys.argv[1] == "control" else ""
            await app.client.fork(row.id, edit={"price": 7}, id=id)
            if number % 50 == 49:
                print(number, flush=True)

asyncio.run(main())
"""
WORKER = """
import asyncio
from shop import order
from reprise import Reprise

async def main():
    async with Reprise("sqlite:///shop.db", workflows=[order]) as app:
        print("up", flush=True)
        while await app.find("status:open", limit=1):
            await asyncio.sleep(0.01)

asyncio.run(main())
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "shop.py").write_text(FLOW)
    (tmp_path / "forks.py").write_text(PROGRAM)
    (tmp_path / "serve.py").write_text(WORKER)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("shop", None)
    return tmp_path


async def complete_all():
    from shop import order

    async with Reprise("sqlite:///shop.db") as app:
        for run in [await app.start(order, n, id=f"o{n}") for n in range(RUNS)]:
            assert await run.result() == 100


def started(folder, *command):
    return subprocess.Popen(
        [sys.executable, *command], cwd=folder, stdout=subprocess.PIPE, start_new_session=True
    )


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.wait(30)
    process.stdout.close()


def killed_after(folder, lines, *command):
    process = started(folder, *command)
    for _ in range(lines):
        assert process.stdout.readline()
    kill(process)


def killed_while(folder, *, charges):
    """Kill a worker once so many more forks were charged."""
    process = started(folder, "serve.py")
    assert process.stdout.readline()
    done = folder / "done"
    wanted = done.read_text().count(" 7\n") + charges
    while done.read_text().count(" 7\n") < wanted:
        assert process.poll() is None
    kill(process)


async def look():
    store = open_store("sqlite:///shop.db")
    await store.start()
    try:
        rows = [row for row in await store.runs.find(limit=10_000) if FORK_OF in row.tags]
        return {row.id: (row, await store.log.read(run_stream(row.id))) for row in rows}
    finally:
        await store.stop()


@pytest.mark.parametrize("way", ["fork", "control"])
def test_each_run_has_one_fork(folder, way):
    asyncio.run(complete_all())
    for lines in (1, 3):
        killed_after(folder, lines, "forks.py", way)
    subprocess.run([sys.executable, "forks.py", way], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    if way == "control":
        forks = asyncio.run(look())
        assert len(forks) > RUNS, "without the mechanism some are made twice"
        return
    for _ in range(2):
        killed_while(folder, charges=30)
    subprocess.run(
        [sys.executable, "serve.py"], cwd=folder, check=True, stdout=subprocess.DEVNULL, timeout=120
    )
    forks = asyncio.run(look())
    assert Counter(str(row.tags[FORK_OF]) for row, _ in forks.values()) == {f"o{n}": 1 for n in range(RUNS)}
    for row, records in forks.values():
        ends = [(record.key, record.data) for record in records if record.kind == Kind.STEP_COMPLETED]
        number = str(row.tags[FORK_OF]).removeprefix("o").encode()
        assert ends == [(":1.reserve", number), (":2.price", b"7"), (":3.charge", b"7")]
        assert row.status == "completed"
    done = Counter((folder / "done").read_text().split("\n")[:-1])
    kept = {text: count for text, count in done.items() if text.startswith(("reserve", "price"))}
    assert kept == {f"{what} {n}": 1 for n in range(RUNS) for what in ("reserve", "price")}
    assert all(done[f"charge {n} 7"] >= 1 for n in range(RUNS)), "at least once, as any step"
