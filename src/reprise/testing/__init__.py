"""What users test with: the conformance suites of the stores' ports.

A keeper's tests sub-class a suite and say how to make the keeper; see :mod:`reprise.testing.suites.keeper`. The suites
need pytest and hypothesis, which are loaded only when a suite is asked for.
"""

from __future__ import annotations

from importlib import import_module

_SUITES = (
    "BlobsSuite",
    "ConcurrentLogSuite",
    "Keeper",
    "KeeperSuite",
    "LeaseSuite",
    "LimitsSuite",
    "LogSuite",
    "QueueSuite",
    "RunsSuite",
    "SearchSuite",
    "SignalSuite",
    "TailSuite",
    "TransactionsSuite",
)


def __getattr__(name: str) -> object:
    """Import the suites when one is first asked for."""
    if name not in _SUITES:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(import_module("reprise.testing.suites"), name)


def __dir__() -> list[str]:
    """List the suites."""
    return sorted(_SUITES)
