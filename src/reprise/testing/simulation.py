"""Simulations: one scenario under many seeds."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any

import msgspec

from reprise.kernel.errors import RepriseError
from reprise.testing.faults import EVERYTHING, Fault, Profile
from reprise.testing.loop import PATIENCE, SimulatedLoop, run_on
from reprise.testing.site import KeeperName
from reprise.testing.world import RunForgotten, World

Scenario = Callable[[World], Coroutine[Any, Any, Any]]


WITHIN = 3600.0
"""Seconds of its own time within which a scenario must return."""


class SimulationFailed(RepriseError):
    """A scenario failed under a seed; the cause is the error that it failed with."""

    def __init__(self, what: str = "", *, hint: str = "", seed: int = 0) -> None:
        super().__init__(what, hint=hint)
        self.seed = seed


class Simulated(msgspec.Struct):
    """What came of simulations."""

    seeds: int = 0
    counts: Counter[str] = msgspec.field(default_factory=Counter[str])
    """How often each fault occurred."""
    commits: int = 0
    callbacks: int = 0
    seconds: float = 0.0
    """Of virtual time."""
    trace: str = ""
    """Of the last seed: the same for the same seed and code."""


def simulate(
    scenario: Scenario,
    seeds: Iterable[int] = range(100),
    faults: Iterable[Fault] = EVERYTHING,
    *,
    keeper: KeeperName = "memory",
    within: float = WITHIN,
) -> Simulated:
    """Run a scenario once for each seed, with these faults, and return what was met.

    A scenario must return ``within`` so many seconds of its own time. Then the faults stop, and all runs must end. The
    invariants of the log are looked at after every commit and in the end.

    Raises:
        ConfigurationError: a fault has a chance that is none.
        SimulationFailed: under one seed something failed; says which, and how to see it again.
    """
    met, profile = Simulated(), tuple(faults)
    Profile(profile)
    for seed in seeds:
        try:
            simulate_once(scenario, seed, profile, met, keeper=keeper, within=within)
        except Exception as error:
            name = getattr(scenario, "__qualname__", repr(scenario))
            raise SimulationFailed(
                f"{name} failed under seed {seed}: {type(error).__name__}: {error}",
                hint=f"The same again: simulate({name}, seeds=[{seed}], keeper={keeper!r})",
                seed=seed,
            ) from error
    return met


def simulate_once(
    scenario: Scenario,
    seed: int,
    faults: Sequence[Fault],
    met: Simulated,
    *,
    keeper: KeeperName = "memory",
    within: float = WITHIN,
) -> None:
    """Run a scenario under one seed and add what was met; raises whatever goes wrong."""
    loop = SimulatedLoop(seed)
    worlds: list[World] = []

    async def main() -> None:
        world = World(loop, faults, keeper)
        worlds.append(world)
        try:
            await world.site.open()
            await _within(within, scenario, world)
            await world.settle()
        finally:
            await world.close()
        await world.books.check(world.store)

    try:
        run_on(loop, main, patience=PATIENCE)
    finally:
        met.seeds += 1
        met.callbacks += loop.ran
        met.seconds += loop.time()
        met.trace = loop.trace()
        for world in worlds:
            met.counts.update(world.counts)
            met.commits += world.books.commits
            world.site.close()


async def _within(seconds: float, scenario: Scenario, world: World) -> None:
    try:
        async with asyncio.timeout(seconds):
            await scenario(world)
    except TimeoutError:
        if world.loop.time() < seconds:
            raise
        left = [f"{row.id} is {row.status}" for row in await world.unfinished()]
        raise RunForgotten(
            f"The scenario still waits after {seconds:g} s; of its runs, {', '.join(left) or 'all have ended'}."
        ) from None
