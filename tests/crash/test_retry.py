"""Many runs are tried again by a process that is killed in the middle, and once more: each has one next try, whole.

The control starts each run anew under an id of its own, as one would by hand: killed and repeated, it starts some twice.
"""

import asyncio
import json
import signal
import subprocess
import sys

import pytest

from reprise import Reprise
from reprise.kernel.events import run_stream
from reprise.stores import open_store

RUNS = 300
FLOW = """
from pathlib import Path
from reprise import Retry, step, workflow

@step
async def reserve(n: int) -> int:
    return n

@step(retry=Retry(1))
async def charge(n: int) -> int:
    if not Path("bank").exists():
        raise ConnectionError("the bank is closed")
    with Path("charged").open("a") as file:
        file.write(f"{n}\\n")
    return n

@workflow
async def order(n: int) -> int:
    return await reserve(n) + await charge(n)
"""
PROGRAM = """
import asyncio, sys
from shop import order
from reprise import Reprise
from reprise.runtime.batch import Verb, tell

async def main():
    async with Reprise("sqlite:///shop.db", worker=False) as app:
        failed = await app.find("status:failed", limit=10_000, newest_first=False)
        if sys.argv[1] == "control":
            for number, row in enumerate(failed):
                await app.start(order, int(row.id.removeprefix("o")), detach=True)
                if number % 50 == 49:
                    print(number, flush=True)
            return
        async for some in tell(app.client, Verb.RETRY, [row.id for row in failed]):
            print(len(some), flush=True)

asyncio.run(main())
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "shop.py").write_text(FLOW)
    (tmp_path / "again.py").write_text(PROGRAM)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("shop", None)
    return tmp_path


async def fail_all():
    from shop import order

    async with Reprise("sqlite:///shop.db") as app:
        runs = [await app.start(order, n, id=f"o{n}") for n in range(RUNS)]
        for run in runs:
            assert (await run.finished()).status == "failed"


def killed(folder, way, *, after):
    process = subprocess.Popen(
        [sys.executable, "again.py", way], cwd=folder, stdout=subprocess.PIPE, start_new_session=True
    )
    for _ in range(after):
        assert process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait(30)
    process.stdout.close()


async def work():
    from shop import order

    async with Reprise("sqlite:///shop.db", workflows=[order]) as app:
        for row in await app.find("status:open", limit=10_000):
            await app.client.wait(row.id)
        return await app.find("", limit=10_000)


@pytest.mark.parametrize("way", ["retry", "control"])
def test_each_run_has_one_next_try(folder, way):
    asyncio.run(fail_all())
    for after in (1, 3):
        killed(folder, way, after=after)
    subprocess.run([sys.executable, "again.py", way], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    (folder / "bank").touch()
    rows = asyncio.run(work())
    charged = (folder / "charged").read_text().split()
    if way == "control":
        assert len(charged) > RUNS, "without the mechanism some are done twice"
        return
    assert sorted(row.id for row in rows) == sorted(f"o{n}{more}" for n in range(RUNS) for more in ("", "~2"))
    assert sorted(charged, key=int) == [str(n) for n in range(RUNS)]

    async def reserved():
        store = open_store("sqlite:///shop.db")
        await store.start()
        try:
            return [await store.log.read(run_stream(f"o{n}~2")) for n in range(RUNS)]
        finally:
            await store.stop()

    for records in asyncio.run(reserved()):
        steps = [record.key for record in records if record.kind == 16]
        assert steps == [":1.reserve", ":2.charge"]
        assert json.loads(records[-1].data)["status"] == "completed"
