"""Trying again, over random trees of sequences, gathers and task groups in which some steps fail at first."""

import asyncio
from collections import Counter
from random import Random

import pytest
from tests.unit.runtime.scenes import opened

from reprise import Retry, step, workflow
from reprise.kernel.events import Kind, run_stream

TRIED: Counter[str] = Counter()
BROKEN: set[str] = set()


@step(retry=Retry(1))
async def leaf(name: str, turns: int) -> str:
    TRIED[name] += 1
    for _ in range(turns):
        await asyncio.sleep(0)
    if name in BROKEN:
        raise ConnectionError("down")
    return name


async def branch(node: list) -> list:
    kind, *parts = node
    if kind == "leaf":
        return [await leaf(*parts)]
    if kind == "then":
        return [name for part in parts for name in await branch(part)]
    if kind == "gather":
        return [name for found in await asyncio.gather(*map(branch, parts)) for name in found]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(branch(part)) for part in parts]
    return [name for task in tasks for name in task.result()]


@workflow
async def tree(node: list) -> list:
    return await branch(node)


def grown(random: Random, names: list[str], depth: int = 0) -> list:
    if depth == 3 or (depth and random.random() < 0.3):
        names.append(f"n{len(names)}")
        return ["leaf", names[-1], random.randrange(6)]
    kind = random.choice(["then", "gather", "group"])
    return [kind, *(grown(random, names, depth + 1) for _ in range(random.randint(1, 4)))]


@pytest.mark.parametrize("seed", range(60))
async def test_a_fork_ends_as_if_nothing_had_failed_and_repeats_nothing_that_succeeded(seed):
    random = Random(seed)
    names: list[str] = []
    node = grown(random, names)
    TRIED.clear()
    BROKEN.clear()
    BROKEN.update(random.sample(names, min(len(names), random.randint(1, 3))))
    async with opened() as app:
        handle = await app.start(tree, node, id="r")
        assert (await handle.finished()).status == "failed"
        while (await handle.finished()).status == "failed":
            records = await app.store.log.read(run_stream(handle.id))
            done = sum(record.kind == Kind.STEP_COMPLETED for record in records)
            BROKEN.discard(random.choice(sorted(BROKEN)))  # mended one after the other
            handle = await app.retry(handle.id)
            await handle.finished()
            kept = await app.store.log.read(run_stream(handle.id))
            assert sum(record.kind == Kind.STEP_COMPLETED for record in kept) >= done
        assert await handle.result() == names
        first = await app.store.log.read(run_stream("r"))
        succeeded = sum(record.kind == Kind.STEP_COMPLETED for record in first)
        assert sum(count == 1 for count in TRIED.values()) >= succeeded
