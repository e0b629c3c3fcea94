"""kill -9 in the middle of large payloads: nothing acknowledged is lost, and nothing of a blob is left half."""

import asyncio
import json
import random
import subprocess
import sys

import msgspec
import pytest
from tests.crash.conftest import CYCLES, SEED, again
from tests.crash.nursery import ROOT
from tests.crash.payload_main import RING, STREAM, TURNS, check, text

from reprise import open_store
from reprise.kernel.events import Finished, Kind
from reprise.stores.packing.envelope import place_of

KILLS = max(8, CYCLES // 20)


def start(job, url, sealed, **options):
    command = [
        sys.executable,
        "-m",
        "tests.crash.payload_main",
        json.dumps({"job": job, "url": url, "sealed": sealed, **options}),
    ]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def kill_after(process, lines, seconds):
    """Return what a process said before it was killed, ``seconds`` after it had said so many lines."""
    said = [process.stdout.readline() for _ in range(lines)]
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
    said += process.stdout.readlines()
    process.stdout.close()
    process.wait()
    return [line for line in said if line.endswith("\n")]


async def judged(url, sealed):
    """Return the records of the stream, as they were handed in and as they are kept; check everything there is."""
    store = open_store(url, keys=RING if sealed else None)
    await store.start()
    try:
        assert await store.verify() == []
        return await store.log.read(STREAM), await store.keeper.log.read(STREAM)
    finally:
        await store.stop()


@pytest.mark.timeout(120 + 4 * KILLS)
@pytest.mark.parametrize("sealed", [False, True], ids=["packed", "sealed"])
def test_no_acknowledged_payload_is_lost(sealed, tmp_path, counts, request):
    dice = random.Random(SEED)
    url = f"sqlite:///{tmp_path}/runs.db"
    for _ in range(KILLS):
        said = kill_after(start("write", url, sealed), dice.randint(1, 30), dice.random() * 0.03)
        records, kept = asyncio.run(judged(url, sealed))
        assert len(records) >= int(said[-1]), f"acknowledged and lost; {again(request, SEED)}"
        check(record.data for record in records)
        counts["kills between large payloads"] += 1
    counts["payloads acknowledged"] += len(records)
    if not sealed:
        counts["of these differences"] += sum(place_of(record.data) is not None for record in kept)
        assert counts["of these differences"] > len(records) / 2


@pytest.mark.timeout(120)
@pytest.mark.parametrize("sealed", [False, True], ids=["packed", "sealed"])
def test_a_conversation_survives_its_workers(sealed, tmp_path, counts, request):
    dice = random.Random(SEED)
    url = f"sqlite:///{tmp_path}/runs.db"
    for _ in range(4):
        kill_after(start("work", url, sealed), 1, dice.random() * 0.3)
        counts["workers killed in a conversation"] += 1
    process = start("work", url, sealed)
    said, _ = process.communicate(timeout=60)
    assert said.split() == ["ready", "ended", str(TURNS)], again(request, SEED)

    async def read():
        store = open_store(url, keys=RING if sealed else None)
        await store.start()
        try:
            assert await store.verify() == []
            return await store.log.read("run/conversation")
        finally:
            await store.stop()

    records = asyncio.run(read())
    finished = msgspec.json.decode(records[-1].data, type=Finished)
    assert msgspec.json.decode(finished.value) == [text(n, 3000) for n in range(TURNS)]
    keys = [record.key for record in records if record.kind == Kind.STEP_COMPLETED]
    assert len(keys) == len(set(keys)) == TURNS
