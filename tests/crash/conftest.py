"""A nursery for each module, seeds that are printed, and counts that are shown and judged at the end (tests/counting.py)."""

import os

import pytest
from tests import counting
from tests.crash.nursery import nursery

CYCLES = int(os.environ.get("REPRISE_CRASH_CYCLES", "200"))
"""Kills in test_nothing_is_lost_over_kills; ``make crash`` asks for 5,000."""
SEED = int(os.environ["REPRISE_CRASH_SEED"])
"""What the random moments follow from; each run has another (tests/conftest.py), printed at its end."""


@pytest.fixture(scope="module")
def opened_nursery():
    with nursery() as opened:
        yield opened


@pytest.fixture(name="nursery")
def empty_nursery(opened_nursery):
    """The nursery of the module; what a test leaves in it is killed."""
    yield opened_nursery
    opened_nursery.kill(*opened_nursery.alive)


def again(request, seed):
    """Return the command that does a failed test again with its seed."""
    test = request.node.nodeid.replace(request.node.name, request.node.originalname)
    return f"seed {seed}; again: REPRISE_CRASH_SEED={seed} python -m pytest '{test}'"


@pytest.fixture(scope="module")
def counts(request):
    """Counts of the module, printed at the end of everything."""
    return counting.counts_of(request.config, request.module, SEED)
