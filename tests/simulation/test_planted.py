"""The suite finds bugs: each that is planted is found within a few seeds, which were not chosen for it."""

import gc

import pytest
from tests.simulation.planted import PLANTS, planted, seeds_to_catch

MOST = 150
"""Seeds that a bug may take. The table in docs/guide/testing.md says what each took."""
# A simulation that a bug has broken may leave coroutines and a loop behind that nobody can end any more.
pytestmark = [
    pytest.mark.timeout(0),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(autouse=True)
def _nothing_is_left_to_others():
    yield
    gc.collect()


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.name)
def test_it_is_found(plant, counts):
    seeds, how = seeds_to_catch(plant, MOST)
    assert seeds, f"{plant.name}: not found under {MOST} seeds"
    counts[f"most seeds: {plant.name}"] = seeds
    counts[f"seeds for {len(PLANTS)} planted bugs"] += seeds
    assert how


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.name)
def test_it_is_gone_afterwards(plant):
    with planted(plant):
        pass
    with planted(plant):
        pass
