"""What users test with: virtual time, crash points, simulations, scripted agents, checkers, and the conformance suites.

Every name is loaded when it is first asked for; pytest and hypothesis only by what needs them. A keeper's tests
sub-class a suite and say how to make the keeper; see :mod:`reprise.testing.suites.keeper`.
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False
"""True to type checkers, which know the name."""

_EXPORTS: dict[str, str] = {
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
    "FencedLock": "reprise.testing.sequential",
    "Register": "reprise.testing.sequential",
    "Tally": "reprise.testing.sequential",
    "WorkQueue": "reprise.testing.sequential",
    "Cells": "reprise.testing.sequential_cells",
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


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(_EXPORTS)


if TYPE_CHECKING:
    # fmt: off
    # isort: off
    from reprise.testing.crashes import (
        CrashPoint as CrashPoint, CrashPoints as CrashPoints, EffectsLedger as EffectsLedger,
        PointDiffers as PointDiffers, crash_points as crash_points,
    )
    from reprise.testing.faults import (
        ClockSkew as ClockSkew, Crash as Crash, Delay as Delay, DuplicateDelivery as DuplicateDelivery,
        EVERYTHING as EVERYTHING, FailingStep as FailingStep, LateLease as LateLease,
        LostAnswer as LostAnswer, LostWake as LostWake, Pause as Pause, Refused as Refused,
        SlowStep as SlowStep, TornWrite as TornWrite, Unreachable as Unreachable,
    )
    from reprise.testing.histories import (
        HistoriesDiffer as HistoriesDiffer, assert_replays as assert_replays, find_misfits as find_misfits,
    )
    from reprise.testing.invariants import InvariantBroken as InvariantBroken
    from reprise.testing.linearizable import (
        History as History, NotLinearizable as NotLinearizable, Operation as Operation,
        Undecided as Undecided, check_linearizable as check_linearizable,
    )
    from reprise.testing.loop import (
        Deadlock as Deadlock, SimulatedLoop as SimulatedLoop, SkewedClock as SkewedClock,
        Standstill as Standstill, run as run,
    )
    from reprise.testing.node import Crashed as Crashed, Node as Node
    from reprise.testing.reality import NoOutside as NoOutside, RealWait as RealWait
    from reprise.testing.recorder import (
        record_exported as record_exported, record_fixture as record_fixture, scripted_from as scripted_from,
    )
    from reprise.testing.scripted import (
        FunctionAgent as FunctionAgent, ScriptedAgent as ScriptedAgent, ScriptedModel as ScriptedModel,
        Turn as Turn, Unscripted as Unscripted,
    )
    from reprise.testing.sequential import (
        FencedLock as FencedLock, Register as Register, Tally as Tally, WorkQueue as WorkQueue,
    )
    from reprise.testing.sequential_cells import Cells as Cells
    from reprise.testing.simulation import (
        Simulated as Simulated, SimulationFailed as SimulationFailed, simulate as simulate,
    )
    from reprise.testing.suites import (
        BlobsSuite as BlobsSuite, ConcurrentLogSuite as ConcurrentLogSuite, Keeper as Keeper,
        KeeperSuite as KeeperSuite, LeaseSuite as LeaseSuite, LimitsSuite as LimitsSuite,
        LinearizableSuite as LinearizableSuite, LogSuite as LogSuite, QueueSuite as QueueSuite,
        RunsSuite as RunsSuite, SearchSuite as SearchSuite, SignalSuite as SignalSuite,
        TailSuite as TailSuite, TransactionsSuite as TransactionsSuite,
    )
    from reprise.testing.world import RunForgotten as RunForgotten, World as World
    # isort: on
    # fmt: on

else:  # out of a type checker's sight: to it, any name would exist

    def __getattr__(name: str) -> object:
        """Import the module of a name when it is first asked for."""
        if (module := _EXPORTS.get(name)) is None:
            message = f"module {__name__!r} has no attribute {name!r}"
            raise AttributeError(message)
        return getattr(import_module(module), name)
