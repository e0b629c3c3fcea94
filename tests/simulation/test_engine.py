"""The engine under simulation; ``make simulate SEEDS=…`` runs as many seeds as one has time for."""

import os
import subprocess
import sys

import pytest
from tests.simulation import crowd, ports, restores, suite, town
from tests.simulation.traces import traces

from reprise.kernel.errors import StoreCorrupt
from reprise.testing import InvariantBroken, RunForgotten, Simulated
from reprise.testing.simulation import simulate_once

FAULTS = {scenario.name: scenario.faults for scenario in suite.SCENARIOS + suite.ON_SQLITE}
MUST_OCCUR = dict.fromkeys(
    [
        "crashes",
        "pauses",
        "appends lost in a crash",
        "calls refused",
        "connections cut",
        "lost answers",
        "outcomes unknown",
        "late leases",
        "taps lost",
        "taps twice",
        "mail delivered twice",
        "slow steps",
        "clocks wrong",
        "take-overs",
        "resumed by a person",
        "undone",
        "power cuts",
        "power cuts that lost writes",
    ],
    "seeds",
)
pytestmark = pytest.mark.timeout(0)


@pytest.mark.simulate(seeds=800, faults=FAULTS["town"])
async def test_a_town(world):
    await town.lives(world)


@pytest.mark.simulate(seeds=350, faults=FAULTS["harsh town"])
async def test_a_town_where_much_goes_wrong(world):
    await town.lives(world)


@pytest.mark.simulate(seeds=150, faults=FAULTS["calm town"])
async def test_a_town_where_nothing_goes_wrong(world):
    await town.lives_calmly(world)


@pytest.mark.simulate(seeds=350, faults=FAULTS["ports"])
async def test_processes_that_use_the_ports(world):
    await ports.uses_ports(world)


@pytest.mark.simulate(seeds=350, faults=FAULTS["restores"])
async def test_a_store_that_is_restored(world):
    await restores.restores(world)


@pytest.mark.simulate(seeds=60, faults=FAULTS["town"], keeper="sqlite")
async def test_a_town_on_sqlite(world):
    await town.lives(world)


@pytest.mark.simulate(seeds=40, faults=FAULTS["harsh town"], keeper="sqlite")
async def test_a_town_on_sqlite_where_much_goes_wrong(world):
    await town.lives(world)


@pytest.mark.simulate(seeds=20, faults=FAULTS["calm town"], keeper="sqlite")
async def test_a_town_on_sqlite_where_nothing_goes_wrong(world):
    await town.lives_calmly(world)


@pytest.mark.simulate(seeds=40, faults=FAULTS["ports"], keeper="sqlite")
async def test_processes_that_use_the_ports_of_sqlite(world):
    await ports.uses_ports(world)


@pytest.mark.simulate(seeds=60, faults=FAULTS["town whose power fails"], keeper="sqlite")
async def test_a_town_on_sqlite_whose_power_fails(world):
    await town.lives(world)


@pytest.mark.parametrize("synchronous", ["OFF", "NORMAL"])
def test_control_without_syncs_what_was_acknowledged_is_lost(synchronous, counts):
    lost = 0
    for seed in range(8):
        try:
            simulate_once(
                town.lives,
                seed,
                FAULTS["town whose power fails"],
                Simulated(),
                keeper=f"sqlite?synchronous={synchronous}",
            )
        except (InvariantBroken, RunForgotten, StoreCorrupt):  # the run, or who would have gone on with it
            lost += 1
    counts[f"control {synchronous}: seeds that lost, of 8"] += lost
    assert lost, "the disk loses nothing: it proves nothing"


@pytest.mark.simulate(seeds=40, faults=FAULTS["crowd on SQLite"], keeper="sqlite")
async def test_processes_that_want_to_write_to_sqlite_all_the_time(world):
    await crowd.crowds(world)


def test_the_same_seed_is_the_same_simulation_in_every_process():
    here = traces(3)
    assert len(set(here)) == len(suite.SCENARIOS + suite.ON_SQLITE)
    done = subprocess.run(
        [sys.executable, "-m", "tests.simulation.traces", "3"],
        env={**os.environ, "PYTHONHASHSEED": "77", "PYTHONPATH": os.pathsep.join(["src", "."])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == here
