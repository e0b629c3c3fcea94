"""What users test with: simulations in virtual time, and the conformance suites of the stores' ports.

Every name is loaded when it is first asked for; pytest and hypothesis only by what needs them. A keeper's tests
sub-class a suite and say how to make the keeper; see :mod:`reprise.testing.suites.keeper`.
"""

from __future__ import annotations

from importlib import import_module

_EXPORTS = {
    "ClockSkew": "reprise.testing.faults",
    "Crash": "reprise.testing.faults",
    "Delay": "reprise.testing.faults",
    "DuplicateDelivery": "reprise.testing.faults",
    "EVERYTHING": "reprise.testing.faults",
    "FailingStep": "reprise.testing.faults",
    "LateLease": "reprise.testing.faults",
    "LostAnswer": "reprise.testing.faults",
    "LostWake": "reprise.testing.faults",
    "Pause": "reprise.testing.faults",
    "Refused": "reprise.testing.faults",
    "SlowStep": "reprise.testing.faults",
    "TornWrite": "reprise.testing.faults",
    "Unreachable": "reprise.testing.faults",
    "InvariantBroken": "reprise.testing.invariants",
    "Crashed": "reprise.testing.node",
    "Node": "reprise.testing.node",
    "Simulated": "reprise.testing.simulate",
    "SimulationFailed": "reprise.testing.simulate",
    "simulate": "reprise.testing.simulate",
    "RunForgotten": "reprise.testing.world",
    "World": "reprise.testing.world",
    "Deadlock": "reprise.testing.loop",
    "SimulatedLoop": "reprise.testing.loop",
    "SkewedClock": "reprise.testing.loop",
    "Standstill": "reprise.testing.loop",
    "run": "reprise.testing.loop",
    "NoOutside": "reprise.testing.reality",
    "RealWait": "reprise.testing.reality",
    "BlobsSuite": "reprise.testing.suites",
    "ConcurrentLogSuite": "reprise.testing.suites",
    "Keeper": "reprise.testing.suites",
    "KeeperSuite": "reprise.testing.suites",
    "LeaseSuite": "reprise.testing.suites",
    "LimitsSuite": "reprise.testing.suites",
    "LinearizableSuite": "reprise.testing.suites",
    "LogSuite": "reprise.testing.suites",
    "QueueSuite": "reprise.testing.suites",
    "RunsSuite": "reprise.testing.suites",
    "SearchSuite": "reprise.testing.suites",
    "SignalSuite": "reprise.testing.suites",
    "TailSuite": "reprise.testing.suites",
    "TransactionsSuite": "reprise.testing.suites",
}


def __getattr__(name: str) -> object:
    """Import the module of a name when it is first asked for."""
    if (module := _EXPORTS.get(name)) is None:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(import_module(module), name)


def __dir__() -> list[str]:
    """List the names."""
    return sorted(_EXPORTS)
