"""The way between a simulated process and the keeper of its store, where everything can go wrong.

Calls take time and so overtake each other; they are refused, or their answer is lost; the process is killed or stands
still before or after any of them. Appends of one process keep their order, as they do on a connection.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, copy_context
from typing import Any, TypeVar

from reprise.kernel.chance import Random
from reprise.kernel.errors import StoreUnreachable
from reprise.testing.faults import (
    Crash,
    Delay,
    LateLease,
    LostAnswer,
    Pause,
    Profile,
    Refused,
    Unreachable,
)
from reprise.testing.loop import EVERYWHERE, PLACE, SimulatedLoop
from reprise.testing.node import Life, Node

T = TypeVar("T")


class Weather:
    """What goes wrong in one simulation: the profile, the chance that decides, and how often each thing occurred."""

    def __init__(self, loop: SimulatedLoop, chance: Random, profile: Profile) -> None:
        self.loop = loop
        self.chance = chance
        self.profile = profile
        self.counts: Counter[str] = Counter()

    def strikes(self, p: float, name: str) -> bool:
        """Decide whether something happens, and count it."""
        if not p or self.chance.random() >= p:
            return False
        self.counts[name] += 1
        return True

    def delay(self) -> float:
        """Return how long something is on its way."""
        fault = self.profile.get(Delay)
        return self.chance.random() * fault.seconds if fault is not None else 0.0


class Wire:
    """The connection of one life of a node."""

    def __init__(self, node: Node, weather: Weather) -> None:
        self.node = node
        self.life: Life = node.life
        self.weather = weather
        self.loop = weather.loop
        self.context: Context = copy_context()
        """Of the process, for what comes back to it."""
        self.beyond: Context = copy_context()
        """Of the keeper, for what is done there."""
        self.beyond.run(PLACE.set, EVERYWHERE)
        self.cut_until = 0.0

    # ---------------------------------------------------------------- calls with an answer

    async def call(self, work: Callable[[], Coroutine[Any, Any, T]], name: str) -> T:
        """Do something at the keeper and return its answer.

        Raises:
            StoreUnreachable: it was not done, or nobody said that it was.
        """
        weather = self.weather
        self.befall()
        await self.still_here()
        late = weather.profile.get(LateLease) if name == "lease.renew" else None
        if late is not None and weather.strikes(late.p, "late leases"):
            await asyncio.sleep(late.seconds)
        await asyncio.sleep(weather.delay())
        if self.is_cut():
            raise StoreUnreachable(f"{self.node.name} cannot reach the store for {name}.")
        answer = await Beyond(self, work())
        self.befall()
        await self.still_here()
        await asyncio.sleep(weather.delay())
        lost = weather.profile.get(LostAnswer)
        if lost is not None and weather.strikes(lost.p, "lost answers"):
            raise StoreUnreachable(f"Nobody told {self.node.name} what came of {name}.")
        return answer

    def is_cut(self) -> bool:
        """Tell whether a call does not reach the keeper."""
        weather, profile = self.weather, self.weather.profile
        cut = profile.get(Unreachable)
        if cut is not None and weather.strikes(cut.p, "connections cut"):
            self.cut_until = self.loop.time() + cut.seconds
        if cut is not None and self.loop.time() < self.cut_until:
            return True
        refused = profile.get(Refused)
        return refused is not None and weather.strikes(refused.p, "calls refused")

    def befall(self) -> None:
        """Let happen to the process what happens to processes."""
        profile, weather = self.weather.profile, self.weather
        if self.life.dead:
            return
        crash, pause = profile.get(Crash), profile.get(Pause)
        if crash is not None and weather.strikes(crash.p, "crashes"):
            self.node.crash()
        elif pause is not None and weather.strikes(pause.p, "pauses"):
            self.node.pause(weather.chance.random() * pause.seconds)

    async def still_here(self) -> None:
        """Never return, if the process is dead or stands still for now."""
        if self.life.dead:
            await self.loop.create_future()
        await asyncio.sleep(0)


class Beyond:
    """Awaits a coroutine of the keeper, whose own callbacks do not belong to the process that asked."""

    def __init__(self, wire: Wire, work: Coroutine[Any, Any, Any]) -> None:
        self._wire = wire
        self._work = work

    def __await__(self) -> Generator[Any, Any, Any]:
        """Hand on what the coroutine waits for, and what it is told."""
        loop, work = self._wire.loop, self._work
        step, given = work.send, None
        while True:
            place, loop.place = loop.place, EVERYWHERE
            try:
                waits_for = self._wire.beyond.run(step, given)
            except StopIteration as stop:
                return stop.value
            finally:
                loop.place = place
            try:
                step, given = work.send, (yield waits_for)
            except BaseException as error:  # noqa: BLE001  it is for the coroutine
                step, given = work.throw, error
