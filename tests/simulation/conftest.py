"""Counts of what simulated tests met; they are shown and judged at the end (tests/counting.py)."""

import logging
import time

import pytest
from tests import counting

from reprise.testing.plugin import met_by


@pytest.fixture(autouse=True)
def counts(request, caplog):
    """Add what a test met to the counts of its module; workers may complain of their store as they like."""
    caplog.set_level(logging.CRITICAL)
    began = time.process_time()
    counted = counting.counts_of(request.config, request.module, "--simulate-from")
    yield counted
    met = met_by(request.config).pop(request.node.nodeid, None)
    if met is not None:
        counted.update(met.counts)
        counted["seeds"] += met.seeds
        counted["commits"] += met.commits
        counted["callbacks"] += met.callbacks
        counted["simulated seconds"] += round(met.seconds)
        counted["milliseconds of a processor"] += round(1000 * (time.process_time() - began))
