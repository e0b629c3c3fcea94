"""What is simulated: each a scenario and the faults it meets."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NamedTuple

from tests.simulation import crowd, ports, restores, town

from reprise.testing import (
    EVERYTHING,
    ClockSkew,
    Crash,
    Delay,
    DuplicateDelivery,
    LateLease,
    LostWake,
    Pause,
    TornWrite,
    World,
)
from reprise.testing.faults import Fault
from reprise.testing.site import KeeperName

HARSH = (
    Delay(0.1),
    Crash(0.02),
    Pause(0.02, 4.0),
    LateLease(0.2, 3.0),
    DuplicateDelivery(0.3),
    LostWake(0.3),
)
CALM = (Delay(), ClockSkew(2.0, 0.001), DuplicateDelivery(0.3))


class Scenario(NamedTuple):
    """One of the suite."""

    name: str
    play: Callable[[World], Coroutine[Any, Any, Any]]
    faults: Sequence[Fault]
    keeper: KeeperName = "memory"


SCENARIOS = [
    Scenario("town", town.lives, EVERYTHING),
    Scenario("harsh town", town.lives, HARSH),
    Scenario("calm town", town.lives_calmly, CALM),
    Scenario("ports", ports.uses_ports, (*EVERYTHING, Pause(0.01, 4.0))),
    Scenario("restores", restores.restores, (Delay(), Pause(0.02, 4.0), LostWake())),
]
ON_SQLITE = [
    *(
        Scenario(f"{one.name} on SQLite", *one[1:3], "sqlite")
        for one in SCENARIOS
        if one.play != restores.restores
    ),
    Scenario(
        "town whose power fails", town.lives, (Delay(), Crash(0.005), LostWake(), TornWrite(0.005)), "sqlite"
    ),
    Scenario("crowd on SQLite", crowd.crowds, (Pause(0.001, 1.0), Crash(0.001, 0.1)), "sqlite"),
]
"""Those that need no keeper in memory, and one of processes that want to write all the time."""
