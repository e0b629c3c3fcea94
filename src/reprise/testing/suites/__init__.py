"""Conformance suites: what every keeper of a port has to prove.

A keeper's test module sub-classes the suites and says how its stores are made::

    class TestLog(LogSuite):
        def make_keeper(self) -> Keeper:
            return SqliteKeeper(self.folder)

A guarantee that a keeper does not give is a tag in ``exceptions``, with the reason in the keeper's docs; the tests of
that tag are skipped and say so. Needs pytest, pytest-asyncio (``asyncio_mode = "auto"``) and hypothesis.
"""

import pytest

# ruff: noqa: E402 - asked for before the imports, else a failing test would not show the values it compared
pytest.register_assert_rewrite(
    *(
        f"{__name__}.{suite}{model}"
        for suite in ("cells", "log", "lease", "limits", "queue", "runs")
        for model in ("", "_model")
    ),
    *(
        f"{__name__}.{suite}"
        for suite in (
            "blobs",
            "epoch",
            "linearizable",
            "log_concurrent",
            "runs",
            "search",
            "signal",
            "tail",
            "transactions",
        )
    ),
)

from reprise.testing.suites.blobs import BlobsSuite
from reprise.testing.suites.cells import CellsSuite
from reprise.testing.suites.epoch import EpochSuite
from reprise.testing.suites.keeper import Keeper, KeeperSuite, until
from reprise.testing.suites.lease import LeaseSuite
from reprise.testing.suites.limits import LimitsSuite
from reprise.testing.suites.linearizable import LinearizableSuite
from reprise.testing.suites.log import LogSuite
from reprise.testing.suites.log_concurrent import ConcurrentLogSuite
from reprise.testing.suites.queue import QueueSuite
from reprise.testing.suites.runs import RunsSuite
from reprise.testing.suites.search import SearchSuite
from reprise.testing.suites.signal import SignalSuite
from reprise.testing.suites.tail import TailSuite
from reprise.testing.suites.transactions import TransactionsSuite

__all__ = [
    "BlobsSuite",
    "CellsSuite",
    "ConcurrentLogSuite",
    "EpochSuite",
    "Keeper",
    "KeeperSuite",
    "LeaseSuite",
    "LimitsSuite",
    "LinearizableSuite",
    "LogSuite",
    "QueueSuite",
    "RunsSuite",
    "SearchSuite",
    "SignalSuite",
    "TailSuite",
    "TransactionsSuite",
    "until",
]
