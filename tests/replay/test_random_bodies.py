"""Bodies made up by chance from a small grammar, cut after every record, like the patterns that people wrote.

``REPRISE_BODIES`` sets how many; a failure prints the body and the seed of its timing.
"""

from __future__ import annotations

import asyncio
import os
import random
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, note, settings, strategies as st
from tests.replay.harness import trial
from tests.replay.loops import loop_factory
from tests.replay.patterns import (
    CORPUS,
    KIDS,
    TICK,
    Pattern,
    abandoned,
    echo,
    fails,
    stubborn,
    threaded,
    tidy,
)
from tests.replay.pure import abandoned_draw, draw, slow_draw, threaded_draw

from reprise import wait_for_signal, workflow

BODIES = int(os.environ.get("REPRISE_BODIES", "25"))

pytestmark = pytest.mark.replay

STEPS = {
    "echo": echo,
    "tidy": tidy,
    "stubborn": stubborn,
    "abandoned": abandoned,
    "fails": fails,
    "threaded": threaded,
    "draw": draw,
    "slow_draw": slow_draw,
    "abandoned_draw": abandoned_draw,
    "threaded_draw": threaded_draw,
}


class Node(msgspec.Struct, frozen=True):
    """One construct: ``what``, a number that it uses, and what it is made of."""

    what: str
    n: int = 0
    parts: tuple[Node, ...] = ()

    def __repr__(self) -> str:
        inner = ", ".join([*([str(self.n)] if self.n else []), *map(repr, self.parts)])
        return f"{self.what}({inner})"


def leaf() -> st.SearchStrategy[Node]:
    return st.builds(Node, st.sampled_from([*STEPS, "echo", "sleep", "signal", "child"]), st.integers(0, 3))


def grown(parts: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    some = st.lists(parts, min_size=1, max_size=3).map(tuple)
    many = st.sampled_from(
        [
            "chain",
            "gather",
            "group",
            "race",
            "timeout",
            "wait_for",
            "locks",
            "queue",
            "ending",
            "cancel",
            "shield",
        ]
        + ["leave", "as_completed"]
    )
    return st.builds(Node, many, st.integers(0, 3), some)


PROGRAMS = st.recursive(leaf(), grown, max_leaves=7)


class Interpreter:
    """Run a program as a body would; ``out`` is what came of it, in order."""

    def __init__(self) -> None:
        self.out: list[str] = []
        self.lock = asyncio.Lock()

    async def run(self, node: Node) -> None:
        try:
            self.out.append(f"{node.what} {await self.do(node)}")
        except (ValueError, TimeoutError) as error:
            self.out.append(f"{node.what} {type(error).__name__}")

    async def do(self, node: Node) -> Any:
        if node.what in STEPS:
            return await STEPS[node.what](node.n)
        return await getattr(self, node.what)(node)

    async def each(self, node: Node) -> None:
        for part in node.parts:
            await self.run(part)

    def tasks(self, node: Node) -> list[asyncio.Task[None]]:
        return [asyncio.create_task(self.run(part)) for part in node.parts]

    chain = each

    async def sleep(self, node: Node) -> None:
        await asyncio.sleep(TICK * node.n / 2)

    async def signal(self, node: Node) -> str:
        return await wait_for_signal("ab"[node.n % 2], str, timeout=TICK * (node.n + 1))

    async def child(self, node: Node) -> int:
        return await random_child(node.n)

    async def gather(self, node: Node) -> int:
        return len(
            await asyncio.gather(*(self.run(part) for part in node.parts), return_exceptions=node.n % 2 == 0)
        )

    async def group(self, node: Node) -> None:
        async with asyncio.TaskGroup() as group:
            for part in node.parts:
                group.create_task(self.run(part))
            await echo(node.n)

    async def race(self, node: Node) -> int:
        done, pending = await asyncio.wait(self.tasks(node), return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        if pending and node.n % 2:
            await asyncio.wait(pending)
        return len(done)

    async def as_completed(self, node: Node) -> None:
        for first in asyncio.as_completed(self.tasks(node)):
            await first
            await echo(node.n)

    async def timeout(self, node: Node) -> None:
        async with asyncio.timeout(TICK * (node.n + 1) / 2):
            await self.each(node)

    async def wait_for(self, node: Node) -> None:
        await asyncio.wait_for(self.each(node), TICK * (node.n + 1) / 2)

    async def holding(self, node: Node) -> None:
        async with self.lock:
            await echo(node.n)

    async def locks(self, node: Node) -> None:
        await asyncio.gather(self.each(node), self.holding(node), self.holding(node))

    async def queue(self, node: Node) -> None:
        queue: asyncio.Queue[Node] = asyncio.Queue()
        for part in node.parts:
            queue.put_nowait(part)

        async def worker() -> None:
            while not queue.empty():
                await self.run(queue.get_nowait())

        await asyncio.gather(worker(), worker())

    async def ending(self, node: Node) -> None:
        try:
            await self.each(node)
        finally:
            self.out.append(f"finally {await echo(node.n)}")

    async def cancel(self, node: Node) -> int:
        tasks = self.tasks(node)
        await echo(node.n)
        for task in tasks:
            task.cancel()
        return len(await asyncio.gather(*tasks, return_exceptions=True))

    async def shield(self, node: Node) -> None:
        inner = asyncio.ensure_future(self.each(node))
        try:
            await asyncio.wait_for(asyncio.shield(inner), TICK / 2)
        finally:
            await inner

    async def leave(self, node: Node) -> int:
        left = self.tasks(node)
        await echo(node.n)
        return len(left)


@workflow
async def random_child(n: int) -> int:
    await asyncio.gather(*(echo(i) for i in range(n)))
    return n


KIDS["random_child"] = random_child


async def disturb(client, run: str) -> None:
    """Send signals, and to some runs a cancel, at random moments."""
    dice = random.Random(run)
    for n in range(4):
        await asyncio.sleep(dice.random() * TICK * 2)
        await client.signal(run, "ab"[n % 2], f"s{n}")
    if dice.random() < 0.3:
        await client.cancel(run, "by chance")


@settings(
    max_examples=BODIES,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],
)
@given(PROGRAMS, st.integers(0, 10_000))
def test_every_prefix_of_a_random_body_resumes(program: Node, seed: int) -> None:
    note(f"seed {seed}: {program!r}")

    @workflow(name="random")
    async def body() -> list[str]:
        interpreter = Interpreter()
        await interpreter.run(program)
        return interpreter.out

    CORPUS["random"] = Pattern(body, lambda status, value: status in ("completed", "cancelled"), disturb)
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(trial("random", seed))
    finally:
        del CORPUS["random"]
