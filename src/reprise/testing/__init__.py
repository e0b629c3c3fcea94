"""What users test with: simulations in virtual time, and the conformance suites of the stores' ports.

Every name is loaded when it is first asked for; pytest and hypothesis only by what needs them. A keeper's tests
sub-class a suite and say how to make the keeper; see :mod:`reprise.testing.suites.keeper`.
"""

from __future__ import annotations

from importlib import import_module

_EXPORTS = {
    "CrashPoint": "reprise.testing.crashes",
    "CrashPoints": "reprise.testing.crashes",
    "EffectsLedger": "reprise.testing.crashes",
    "PointDiffers": "reprise.testing.crashes",
    "crash_points": "reprise.testing.crashes",
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
    "HistoriesDiffer": "reprise.testing.histories",
    "assert_replays": "reprise.testing.histories",
    "find_misfits": "reprise.testing.histories",
    "InvariantBroken": "reprise.testing.invariants",
    "History": "reprise.testing.linearizable",
    "NotLinearizable": "reprise.testing.linearizable",
    "Operation": "reprise.testing.linearizable",
    "Undecided": "reprise.testing.linearizable",
    "check_linearizable": "reprise.testing.linearizable",
    "Deadlock": "reprise.testing.loop",
    "SimulatedLoop": "reprise.testing.loop",
    "SkewedClock": "reprise.testing.loop",
    "Standstill": "reprise.testing.loop",
    "run": "reprise.testing.loop",
    "Crashed": "reprise.testing.node",
    "Node": "reprise.testing.node",
    "NoOutside": "reprise.testing.reality",
    "RealWait": "reprise.testing.reality",
    "record_exported": "reprise.testing.recorder",
    "record_fixture": "reprise.testing.recorder",
    "scripted_from": "reprise.testing.recorder",
    "FunctionAgent": "reprise.testing.scripted",
    "ScriptedAgent": "reprise.testing.scripted",
    "ScriptedModel": "reprise.testing.scripted",
    "Turn": "reprise.testing.scripted",
    "Unscripted": "reprise.testing.scripted",
    "Cells": "reprise.testing.sequential",
    "FencedLock": "reprise.testing.sequential",
    "Register": "reprise.testing.sequential",
    "Tally": "reprise.testing.sequential",
    "WorkQueue": "reprise.testing.sequential",
    "Simulated": "reprise.testing.simulation",
    "SimulationFailed": "reprise.testing.simulation",
    "simulate": "reprise.testing.simulation",
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
    "RunForgotten": "reprise.testing.world",
    "World": "reprise.testing.world",
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
