"""A small world: machines with real ``Reprise`` apps on them, one store that outlives them all, and what goes wrong.

>>> from reprise import step, workflow
>>> from reprise.testing import Crash, Delay, simulate
>>> @step
... async def double(n: int) -> int: return 2 * n
>>> @workflow
... async def four_times(n: int) -> int: return await double(await double(n))
>>> async def scenario(world: World) -> None:
...     world.workers(2, workflows=[four_times])
...     async with world.client() as app:
...         assert await app.run(four_times, 3, id="one") == 12
>>> simulate(scenario, seeds=range(3), faults=[Delay(), Crash(0.05)]).seeds
3
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any

from reprise.app.reprise import Reprise
from reprise.kernel.chance import seeded
from reprise.kernel.errors import ConfigurationError, RepriseError
from reprise.kernel.events import Record
from reprise.kernel.machine import RUN, RunStatus
from reprise.kernel.surroundings import Surroundings
from reprise.runtime.middleware import Call, Next
from reprise.stores.runs import RunFilter, RunRow
from reprise.stores.store import Store
from reprise.testing.faults import (
    ClockSkew,
    Crash,
    Delay,
    DuplicateDelivery,
    FailingStep,
    Fault,
    LostWake,
    Profile,
    SlowStep,
    TornWrite,
)
from reprise.testing.link import Link
from reprise.testing.loop import PATIENCE, SimulatedLoop, SkewedClock
from reprise.testing.machine import SQLiteSite
from reprise.testing.node import Crashed, Node
from reprise.testing.site import KeeperName, MemorySite, Site
from reprise.testing.wire import Weather, Wire

LEASE = 2.0
"""Seconds after which the workers of a world take each other for dead."""
SETTLES = 900.0
"""Seconds within which all runs must have ended once nothing goes wrong any more."""


class RunForgotten(RepriseError):
    """Nothing goes wrong any more, and still a run does not end."""


def _site(keeper: KeeperName, weather: Weather) -> Site:
    torn = weather.profile.get(TornWrite)
    if keeper == "memory":
        if torn is not None:
            raise ConfigurationError("Nothing is torn in memory.", hint='Say keeper="sqlite".')
        return MemorySite(weather.loop)
    if torn is None:
        return SQLiteSite(weather.loop)
    try:
        power = import_module("reprise.testing.power")
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"TornWrite stands between SQLite and its disk by a package that is missing: {error.name}.",
            hint=f"Install {error.name}.",
        ) from error
    return power.PoweredSite(weather, keeper.partition("=")[2] or "FULL")


class World:
    """All there is in one simulation."""

    def __init__(
        self, loop: SimulatedLoop, faults: Sequence[Fault] = (), keeper: KeeperName = "memory"
    ) -> None:
        self.loop = loop
        self.seed = loop.seed or 0
        self.chance = seeded(b"world %d" % self.seed)
        """For whatever the scenario decides by chance."""
        self.weather = Weather(loop, seeded(b"weather %d" % self.seed), Profile(faults))
        mild = [
            Delay(),
            *(fault for fault in faults if isinstance(fault, Delay | DuplicateDelivery | LostWake)),
        ]
        self.calm = Weather(loop, seeded(b"calm %d" % self.seed), Profile(mild))
        """Of clients: nothing that they would have to deal with."""
        self.site = _site(keeper, self.weather)
        self.store: Store = self.site.store
        """For looks from outside."""
        self.books = self.site.books
        self.nodes: dict[str, Node] = {}
        self._links: list[tuple[Link, Reprise]] = []
        self._keepers: list[asyncio.Task[None]] = []
        self._sees_deaths = self.chance.random() < 0.5
        """Whether the death of a process is noticed before its lease ends, as on one machine."""
        loop.set_exception_handler(self._unhandled)

    @property
    def counts(self) -> Counter[str]:
        """How often each fault occurred."""
        return self.weather.counts + self.calm.counts

    # ---------------------------------------------------------------- who is there

    def node(self, name: str) -> Node:
        """Return the machine of a name, with a clock and chance of its own."""
        if name not in self.nodes:
            clock = self.loop.clock
            skew = self.weather.profile.get(ClockSkew)
            if skew is not None:
                by = (2 * self.chance.random() - 1) * skew.seconds
                clock = SkewedClock(clock, by, 1 + (2 * self.chance.random() - 1) * skew.drift)
                self.weather.counts["clocks wrong"] += 1
            chance = seeded(b"%b %d" % (name.encode(), self.seed))
            around = Surroundings(clock, chance.randbytes, chance.random, PATIENCE)
            self.nodes[name] = Node(self.loop, name, around)
        return self.nodes[name]

    def app(self, node: Node, *, calm: bool = False, **options: Any) -> Reprise:
        """Return an app for the process that runs on a machine now; options as of ``Reprise``."""
        link = self.link(node, self.calm if calm else self.weather)
        middleware = [*options.pop("middleware", ()), self._harm]
        settings: dict[str, Any] = {
            "lease": LEASE,
            "capture_logs": False,
            "tune_gc": False,
            "clock": node.around.clock,
        }
        app = Reprise(link, middleware=middleware, **{**settings, **options})
        self._links.append((link, app))
        return app

    def link(self, node: Node, weather: Weather) -> Link:
        """Return the store as the process that runs on a machine now sees it."""
        return self.site.link(Wire(node, weather), self._died)

    def workers(self, count: int, **options: Any) -> None:
        """Let so many machines execute what is in the store; each comes back after a crash. Options as of ``Reprise``."""
        for _ in range(count):
            node = self.node(f"worker-{len(self._keepers) + 1}")
            self._keepers.append(
                self.loop.create_task(self._keep(node, options), name=f"keeper of {node.name}")
            )

    def client(self, **options: Any) -> Reprise:
        """Return an app that only starts, looks and signals, from a machine on which nothing goes wrong."""
        return self.app(Node(self.loop, "client", self._around()), calm=True, worker=False, **options)

    async def _keep(self, node: Node, options: dict[str, Any]) -> None:
        while True:
            with suppress(Crashed, RepriseError):  # a store out of reach at the start is a start too early
                await node.run(lambda: self._serve(node, options))
            crash = self.weather.profile.get(Crash)
            await asyncio.sleep(self.chance.random() * (crash.seconds if crash is not None else 1.0))

    async def _serve(self, node: Node, options: dict[str, Any]) -> None:
        async with self.app(node, **options):
            await asyncio.Event().wait()

    def _around(self) -> Surroundings:
        return Surroundings(self.loop.clock, self.chance.randbytes, self.chance.random, PATIENCE)

    # ---------------------------------------------------------------- what happens to them

    def _died(self, workers: Collection[str]) -> set[str]:
        if not self._sees_deaths:
            return set()
        gone = {name for link, _ in self._links if link.wire.life.dead for name in link.presence.names}
        return gone.intersection(workers)

    async def _harm(self, call: Call, next: Next) -> Any:
        """Let attempts of steps be slow, and fail."""
        slow, fails = self.weather.profile.get(SlowStep), self.weather.profile.get(FailingStep)
        if slow is not None and self.weather.strikes(slow.p, "slow steps"):
            await asyncio.sleep(self.weather.chance.random() * slow.seconds)
        if fails is None or not self.weather.strikes(fails.p, "failing steps"):
            return await next(call)
        if self.weather.chance.random() < 0.5:
            await next(call)
        raise fails.error(f"the simulation lets {call.name} fail")

    def _unhandled(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self.loop.fail(error if error is not None else RepriseError(str(context.get("message"))))

    # ---------------------------------------------------------------- the end

    def calm_down(self) -> None:
        """Let nothing go wrong any more."""
        self.weather.profile.stop()
        self.calm.profile.stop()

    async def settle(self, within: float = SETTLES) -> None:
        """Let nothing go wrong any more, and wait until every run has ended.

        A run that wants the attention of a person is resumed, as a person would.

        Raises:
            RunForgotten: some did not, in so many seconds.
        """
        self.calm_down()
        until = self.loop.time() + within
        async with self.client() as app:
            while left := await self.unfinished():
                for row in left:
                    if row.status in (RunStatus.NEEDS_ATTENTION, RunStatus.STRANDED):
                        self.weather.counts[f"resumed: {row.status}"] += 1
                        with suppress(RepriseError):
                            await app.client.resume(row.id)
                if self.loop.time() > until:
                    told = ", ".join(f"{row.id} is {row.status} ({row.error})" for row in left[:5])
                    raise RunForgotten(f"{within:g} s after the last fault, {told}. {self.loop.waits()}")
                await asyncio.sleep(1.0)

    async def unfinished(self) -> list[RunRow]:
        """Return the runs that have not ended."""
        status = sorted(RUN.transitions.keys() - RUN.final)
        return await self.store.runs.find(RunFilter(status=status), limit=1000)

    async def close(self) -> None:
        """Kill every process and take out of memory what the dead left there."""
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        for node in self.nodes.values():
            node.crash()
        for link, app in self._links:
            link.signal.close()
            if link.wire.life.dead and app.is_open:
                app.engine.drop_all()

    def apps(self) -> list[Reprise]:
        """Return the apps of all processes that live."""
        return [app for link, app in self._links if not link.wire.life.dead and app.is_open]

    def read_now(self, stream: str, after: int = 0) -> list[Record]:
        """Return the records of a stream as they are in the store now."""
        return self.site.read_now(stream, after)
