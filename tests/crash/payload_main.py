"""A process that writes large payloads until it is killed: ``python -m tests.crash.payload_main '{"url": …}'``.

It says on standard output what was acknowledged, a line after each answer. What it writes follows from the version, so
that whoever checks needs no second copy.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections.abc import Iterator

import msgspec
from tests.crash.helping import loosen

from reprise import KeyRing, Reprise, open_store, step, workflow
from reprise.kernel.events import Event, Kind
from reprise.kernel.ids import Counter
from reprise.stores.log import Group, append

STREAM = "run/talk"
RING = KeyRing({"k": bytes(range(32))}, "k")
TURNS = 60


def text(seed: int, size: int) -> str:
    """Return the same random text for the same seed."""
    return random.Random(seed).randbytes(size // 2).hex()


def payload(version: int) -> bytes:
    """Return the payload of a version: a list that grows, now and then another that is large from the start."""
    if version % 7 == 3:
        return msgspec.json.encode(text(version, 200_000))
    return msgspec.json.encode([text(n, 3000) for n in range(version % 90)])


async def write(url: str, *, sealed: bool, loose: bool = False) -> None:
    """Own the stream and go on where it ends; with ``loose`` as a control, see there."""
    if loose:
        loosen()
    store = open_store(url, keys=RING if sealed else None)
    await store.start()
    numbers = Counter()
    records = await store.log.read(STREAM)
    check(record.data for record in records)
    version, token = len(records), (await store.log.head(STREAM)).token + 1
    first = True
    while True:
        count = 1 + version % 3
        events = [
            Event(Kind.STEP_COMPLETED, 1, f":{n}.turn", payload(n))
            for n in range(version + 1, version + 1 + count)
        ]
        group = Group(STREAM, events, version, token, takes=first)
        await append(store.log, numbers.new(), group)
        version, first = version + count, False
        say(version)
        if version % 40 == 0:  # another stream shares a blob, goes, and takes along what only it had
            large = Event(Kind.STEP_COMPLETED, 1, "k", payload(version - version % 7 + 3))
            await append(store.log, numbers.new(), Group("run/other", [large]))
            await store.log.drop("run/other")
            await store.blobs.collect()


def say(*words: object) -> None:
    """Write a line at once."""
    os.write(1, " ".join(map(str, words)).encode() + b"\n")


def check(found: Iterator[bytes]) -> None:
    """Compare what is in the stream with what was to be written."""
    for version, data in enumerate(found, 1):
        assert data == payload(version), f"version {version} is not what was written"


@step
async def says(talk: list[str], n: int) -> list[str]:
    """Add to a conversation."""
    await asyncio.sleep(0.005)
    return [*talk, text(n, 3000)]


@workflow
async def talks() -> list[str]:
    """Grow a conversation by one text a turn."""
    talk: list[str] = []
    for n in range(TURNS):
        talk = await says(talk, n)
    return talk


async def work(url: str, *, sealed: bool) -> None:
    """Start the conversation, or go on with it, to its end."""
    async with Reprise(url, workflows=[talks], keys=RING if sealed else None, lease=1) as app:
        say("ready")
        handle = await app.start(talks, id="conversation")
        say("ended", len(await handle.result()))


if __name__ == "__main__":
    options = msgspec.json.decode(sys.argv[1])
    asyncio.run({"write": write, "work": work}[options.pop("job")](**options))
