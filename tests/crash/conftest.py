"""A nursery for each module, seeds that are printed, and counts that are shown at the end."""

import os
from collections import Counter

import pytest
from tests.crash.nursery import nursery

CYCLES = int(os.environ.get("REPRISE_CRASH_CYCLES", "200"))
"""Kills in test_nothing_is_lost_over_kills; ``make crash`` asks for 5,000."""
SEED = int(os.environ.get("REPRISE_CRASH_SEED") or int.from_bytes(os.urandom(3), "big"))
"""What the random moments follow from; each run has another, printed at its end."""


COUNTS = pytest.StashKey[dict[str, Counter]]()


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
    kept = request.config.stash.setdefault(COUNTS, {})
    return kept.setdefault(request.module.__name__.rpartition(".")[2], Counter())


def pytest_terminal_summary(terminalreporter, config):
    for module, counted in config.stash.get(COUNTS, {}).items():
        terminalreporter.section(f"{module}, REPRISE_CRASH_SEED={SEED}")
        for name, count in counted.items():
            terminalreporter.line(f"{name:42} {count:9,}")
