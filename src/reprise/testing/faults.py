"""Faults as values: what may go wrong in a simulation, each by name, with its chance.

A set of them is the profile of a simulation. ``p`` is a chance from 0 to 1, each time that it could happen; times are
in seconds of the simulation.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf
from typing import TypeVar

from reprise.kernel.errors import ConfigurationError


@dataclass(frozen=True)
class Delay:
    """A call of the store takes up to so many seconds, each way; so calls overtake each other."""

    seconds: float = 0.02


@dataclass(frozen=True)
class Refused:
    """A call of the store fails before it did anything."""

    p: float = 0.01


@dataclass(frozen=True)
class LostAnswer:
    """A call of the store does what it should, and the caller is not told: the outcome is unknown."""

    p: float = 0.01


@dataclass(frozen=True)
class Unreachable:
    """A worker cannot reach the store for so many seconds."""

    p: float = 0.003
    seconds: float = 2.0


@dataclass(frozen=True)
class DuplicateDelivery:
    """Mail to a run is delivered twice, as by a sender that did not hear that it arrived; taps come twice, too."""

    p: float = 0.05


@dataclass(frozen=True)
class LostWake:
    """A tap on the shoulder is lost."""

    p: float = 0.1


@dataclass(frozen=True)
class LateLease:
    """A lease is renewed so late that others may have it by then."""

    p: float = 0.02
    seconds: float = 3.0


@dataclass(frozen=True)
class Pause:
    """A worker stands still, believing all the while that it holds what it held; its clock goes on."""

    p: float = 0.003
    seconds: float = 4.0


@dataclass(frozen=True)
class Crash:
    """A worker is gone with all its memory, before or after a call of the store; another comes ``seconds`` later."""

    p: float = 0.01
    seconds: float = 1.0


@dataclass(frozen=True)
class ClockSkew:
    """A worker's clock is wrong by up to ``seconds``, and too fast or too slow by up to ``drift`` (0.01 = 1 %)."""

    seconds: float = 5.0
    drift: float = 0.01


@dataclass(frozen=True)
class SlowStep:
    """An attempt of a step takes up to so many seconds longer."""

    p: float = 0.1
    seconds: float = 1.0


@dataclass(frozen=True)
class FailingStep:
    """An attempt of a step fails before or after it was executed; only what is tried again survives that."""

    p: float = 0.05
    error: type[Exception] = ConnectionError


@dataclass(frozen=True)
class TornWrite:
    """The machine loses its power in the middle of a write of a worker: all workers are gone, and of what no sync has
    covered some is on the disk and some is not, torn at sectors. Only where SQLite keeps the data; each write may do it.
    """

    p: float = 0.002


Fault = (
    Delay
    | Refused
    | LostAnswer
    | Unreachable
    | DuplicateDelivery
    | LostWake
    | LateLease
    | Pause
    | Crash
    | ClockSkew
    | SlowStep
    | FailingStep
    | TornWrite
)
AnyFault = TypeVar("AnyFault", bound=Fault)

EVERYTHING: tuple[Fault, ...] = (
    Delay(),
    Refused(),
    LostAnswer(),
    Unreachable(),
    DuplicateDelivery(),
    LostWake(),
    LateLease(),
    Pause(),
    Crash(),
    ClockSkew(),
    SlowStep(),
)
"""What workflows survive without doing anything for it, whatever keeps the data; failing steps are the workflow's own
business, and torn writes that of a keeper with a disk (:class:`TornWrite`)."""


class Profile:
    """The faults of one simulation; of several of a kind the last counts, so ``[*EVERYTHING, Crash(0.1)]`` changes one.

    Raises:
        ConfigurationError: a chance is none, or a time is less than none.
    """

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self._faults: dict[type, Fault] = {type(fault): _checked(fault) for fault in faults}

    def get(self, kind: type[AnyFault]) -> AnyFault | None:
        """Return the fault of a kind, None if there is none."""
        return self._faults.get(kind)  # type: ignore[return-value]

    def stop(self) -> None:
        """Let nothing go wrong any more."""
        self._faults.clear()


def _checked(fault: Fault) -> Fault:
    for name, least, most in (("p", 0.0, 1.0), ("seconds", 0.0, inf)):
        value = getattr(fault, name, least)
        if not least <= value <= most:
            known = "a chance from 0 to 1" if name == "p" else "a time of 0 or more seconds"
            raise ConfigurationError(f"{fault} has {name}={value!r}.", hint=f"It is {known}.")
    return fault
