"""The main job as a durable run: what it returns, and that a kill in the middle costs no finished step."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import flow
from crew import coder
from reprise import Reprise
from reprise.kernel.events import Kind

FILES = 24
DRIVER = """
import asyncio, sys
from pathlib import Path
sys.path[:0] = sys.argv[1].split(":")
import flow
from crew import coder
from reprise import Reprise

code, out, store = map(Path, sys.argv[2:5])
ledger, stop_at = open(sys.argv[5], "a", buffering=1), int(sys.argv[6])
measure = coder.measure

def counted(root, file):
    if sum(1 for _ in open(sys.argv[5])) >= stop_at:
        print("waiting to be killed", flush=True)
        sys.stdin.read()
    ledger.write(file.path + "\\n")
    return measure(root, file)

coder.measure = counted

async def main():
    async with Reprise(f"sqlite:///{store}") as app:
        await (await app.start(flow.review, code, out, id="review")).result()

asyncio.run(main())
"""


def write(folder):
    folder.mkdir()
    for number in range(FILES):
        (folder / f"m{number:02}.py").write_text(f"def f(a):\n    if a > {number}:\n        return eval(a)\n")
    return folder


async def records(store):
    async with Reprise(f"sqlite:///{store}") as app:
        return await app.store.log.read("run/review")


async def test_the_review_is_a_run(tmp_path):
    code = write(tmp_path / "code")
    async with Reprise("memory://") as app:
        run = await app.start(flow.review, code, tmp_path / "out", id="review")
        summary = await run.result()
        again = await app.start(flow.review, code, tmp_path / "out", id="review")
        assert await again.result() == summary
    assert (summary.files, summary.functions, summary.risky) == (FILES, FILES, FILES)
    assert len(summary.top) == 10
    assert json.loads(summary.data.read_text())["inventory"]["files"][0]["path"] == "m00.py"
    assert "m00.py" in summary.report.read_text()


async def test_a_step_is_a_plain_call_outside_of_a_run(tmp_path):
    code = write(tmp_path / "code")
    places = await flow.locate(code, tmp_path, None)
    inventory = await flow.take_inventory(places)
    measured = await flow.measure(code, inventory.files[0])
    assert measured == coder.measure(code, inventory.files[0])


async def test_a_kill_in_the_middle_repeats_no_finished_step(tmp_path):
    code, ledger = write(tmp_path / "code"), tmp_path / "ledger"
    ledger.touch()

    def start(stop_at):
        path = ":".join([str(Path(flow.__file__).parent), *(p for p in sys.path if p.endswith("src"))])
        arguments = [path, code, tmp_path / "out", tmp_path / "run.db", ledger, stop_at]
        return subprocess.Popen(
            [sys.executable, "-c", DRIVER, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    with start(stop_at=FILES // 2) as first:
        await asyncio.to_thread(first.stdout.readline)
        first.kill()
    before = [record for record in await records(tmp_path / "run.db") if record.kind == Kind.STEP_COMPLETED]
    with start(stop_at=10 * FILES) as second:
        assert await asyncio.to_thread(second.wait) == 0
    done = [record for record in await records(tmp_path / "run.db") if record.kind == Kind.STEP_COMPLETED]
    assert [record.key for record in done[: len(before)]] == [record.key for record in before]
    assert len({record.key for record in done}) == len(done) == 3 + FILES + 3 + 5 + 2
    measured_twice = len(ledger.read_text().split()) - FILES
    assert 0 <= measured_twice <= flow.CODERS, "only what was in flight at the kill may be measured again"
    assert len(before) >= FILES // 2 - flow.CODERS
    assert (tmp_path / "out" / "report.html").exists()
