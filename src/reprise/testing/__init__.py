"""What users test with: the conformance suites of the stores' ports.

A keeper's tests sub-class a suite and say how to make the keeper; see :mod:`reprise.testing.suites.keeper`. The suites
need pytest and hypothesis, which are loaded only when a suite is asked for.
"""

from __future__ import annotations

from importlib import import_module

_SUITES = {
    "ConcurrentLogSuite": "reprise.testing.suites.log",
    "Keeper": "reprise.testing.suites.keeper",
    "KeeperSuite": "reprise.testing.suites.keeper",
    "LeaseSuite": "reprise.testing.suites.lease",
    "LogSuite": "reprise.testing.suites.log",
    "QueueSuite": "reprise.testing.suites.queue",
    "RunsSuite": "reprise.testing.suites.runs",
    "SignalSuite": "reprise.testing.suites.signal",
}


def __getattr__(name: str) -> object:
    """Import the module of a suite when it is first asked for."""
    if name not in _SUITES:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(import_module(_SUITES[name]), name)


def __dir__() -> list[str]:
    """List the suites."""
    return sorted(_SUITES)
