"""State machines: a table of transitions, folded over events; and the one table of a run's states.

>>> door = Machine("door", {"shut": {"open": "ajar", "lock": "locked"}, "ajar": {"close": "shut"}, "locked": {}})
>>> door.fold(["open", "close", "lock"])
'locked'
>>> door.step("ajar", "lock")
Traceback (most recent call last):
reprise.kernel.errors.InvalidTransition: door: nothing leads from 'ajar' by 'lock'. From there: close.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import IntEnum
from types import MappingProxyType
from typing import Final, NamedTuple

from reprise.kernel.errors import ConfigurationError, InvalidTransition


class Machine:
    """A table of transitions: state, event, next state. A state without a way out is final.

    ``initial`` is the first state of the table unless named. Raises ``ConfigurationError`` for a state that is led to
    but not in the table, and for one that cannot be reached.
    """

    def __init__(self, name: str, transitions: Mapping[str, Mapping[str, str]], *, initial: str = "") -> None:
        self.name = name
        self.transitions = MappingProxyType(
            {s: MappingProxyType(dict(ways)) for s, ways in transitions.items()}
        )
        self.initial = initial or next(iter(transitions), "")
        self.final = frozenset(state for state, ways in transitions.items() if not ways)
        self._check()

    def step(self, state: str, event: str) -> str:
        """Return the state after an event. Raises ``InvalidTransition`` naming the events that the state takes."""
        try:
            return self.transitions[state][event]
        except KeyError:
            ways = ", ".join(self.transitions.get(state, {}))
            known = (
                f"From there: {ways}."
                if ways
                else "That state is final."
                if state in self.final
                else "No such state."
            )
            raise InvalidTransition(
                f"{self.name}: nothing leads from {state!r} by {event!r}.", hint=known
            ) from None

    def fold(self, events: Iterable[str], state: str | None = None) -> str:
        """Return the state after all events, from ``state`` or the initial one. Raises ``InvalidTransition``."""
        now = self.initial if state is None else state
        for event in events:
            now = self.step(now, event)
        return now

    def allows(self, state: str, event: str) -> bool:
        """Return whether a state takes an event."""
        return event in self.transitions.get(state, ())

    def to_mermaid(self) -> str:
        """Return the table as a Mermaid state diagram.

        >>> print(Machine("lamp", {"off": {"press": "on", "burn": "broken"}, "on": {"press": "off"}, "broken": {}}).to_mermaid())
        stateDiagram-v2
            [*] --> off
            off --> on: press
            off --> broken: burn
            on --> off: press
            broken --> [*]
        """
        lines = ["stateDiagram-v2", f"    [*] --> {self.initial}"]
        for state, ways in self.transitions.items():
            for target in dict.fromkeys(ways.values()):
                events = ", ".join(event for event, to in ways.items() if to == target)
                lines.append(f"    {state} --> {target}: {events}")
            if not ways:
                lines.append(f"    {state} --> [*]")
        return "\n".join(lines)

    def _check(self) -> None:
        if self.initial not in self.transitions:
            raise ConfigurationError(f"{self.name}: the initial state {self.initial!r} is not in the table.")
        reached, unseen = {self.initial}, [self.initial]
        while unseen:
            for event, target in self.transitions[unseen.pop()].items():
                if target not in self.transitions:
                    raise ConfigurationError(
                        f"{self.name}: {event!r} leads to {target!r}, which is not in the table.",
                        hint="Give it a row; an empty one makes it final.",
                    )
                if target not in reached:
                    reached.add(target)
                    unseen.append(target)
        if lost := [state for state in self.transitions if state not in reached]:
            raise ConfigurationError(f"{self.name}: nothing leads to {', '.join(lost)}.")


# ---------------------------------------------------------------- the run


class RunStatus:
    """States of a run, as plain strings: they are written to stores and sent to others."""

    PENDING: Final = "pending"
    """Started; no worker has it."""
    RUNNING: Final = "running"
    WAITING: Final = "waiting"
    """For a timer, a signal, a person or a child; holds no worker slot."""
    PAUSED: Final = "paused"
    CANCELLING: Final = "cancelling"
    """Asked to stop; its ``finally`` blocks run."""
    COMPENSATING: Final = "compensating"
    """Undoing what was done; no longer interrupted."""
    COMPLETED: Final = "completed"
    FAILED: Final = "failed"
    CANCELLED: Final = "cancelled"
    STRANDED: Final = "stranded"
    """No worker here can execute it: unknown workflow, or its code changed."""
    NEEDS_ATTENTION: Final = "needs_attention"
    """A person has to decide: it kills its workers, or an effect's outcome is unknown."""


RUN = Machine(
    "run",
    {
        "pending": {
            "own": "running", "pause": "paused", "cancel": "cancelling", "strand": "stranded",
            "attend": "needs_attention",
        },
        "running": {
            "own": "running", "wait": "waiting", "release": "pending", "pause": "paused", "cancel": "cancelling",
            "compensate": "compensating", "complete": "completed", "fail": "failed", "strand": "stranded",
            "attend": "needs_attention",
        },
        "waiting": {
            "own": "running", "wake": "running", "release": "waiting", "pause": "paused", "cancel": "cancelling",
            "strand": "stranded", "attend": "needs_attention",
        },
        "paused": {"own": "running", "resume": "pending", "cancel": "cancelling"},
        "cancelling": {
            "own": "cancelling", "wait": "cancelling", "wake": "cancelling", "release": "cancelling",
            "cancel": "cancelling", "compensate": "compensating", "complete": "completed", "fail": "failed",
            "stop": "cancelled", "strand": "stranded", "attend": "needs_attention",
        },
        "compensating": {
            "own": "compensating", "wait": "compensating", "wake": "compensating", "release": "compensating",
            "cancel": "compensating", "complete": "completed", "fail": "failed", "stop": "cancelled",
            "strand": "stranded", "attend": "needs_attention",
        },
        "completed": {},
        "failed": {},
        "cancelled": {},
        "stranded": {"own": "running", "cancel": "cancelling", "strand": "stranded", "attend": "needs_attention"},
        "needs_attention": {"own": "running", "resume": "pending", "cancel": "cancelling", "fail": "failed"},
    },
)  # fmt: skip
"""Every state of a run and what leads out of it.

``own``: a worker took it (also over from a dead one); ``release``: a worker gave it back; ``stop``: it ended because it
was cancelled. A run that is cancelling may still complete (its body may swallow the request), and one that compensates
notes a further cancel without being interrupted by it.
"""

RESTING = frozenset({RunStatus.PAUSED, RunStatus.STRANDED, RunStatus.NEEDS_ATTENTION})
"""States without an end in which nothing happens, and nobody answers, until a person has done something."""
SETTLED = RUN.final | RESTING
"""States in which waiting any longer is pointless without somebody's doing."""


class ExitCode(IntEnum):
    """What a command's exit says."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    UNREACHABLE = 4
    TIMEOUT = 5
    CANCELLED = 6
    CONFLICT = 7
    INTERRUPTED = 130


class Face(NamedTuple):
    """How the doors show a run that is asked for its result while in some state."""

    exit: ExitCode
    """Of a command that no longer waits; that of a run still under way means that its time was up."""
    http: int
    mcp: str
    """Task status of MCP's tasks extension (SEP-2663), in which ``failed`` means a fault of the protocol: a run that
    failed is a *completed* task whose result has ``isError``."""
    a2a: str
    """Task state of A2A 1.0."""
    is_error: bool = False
    """The result, where there is one, is an error."""


_UNDER_WAY = Face(ExitCode.TIMEOUT, 202, "working", "TASK_STATE_WORKING")

FACES: Mapping[str, Face] = MappingProxyType(
    {
        RunStatus.PENDING: _UNDER_WAY._replace(a2a="TASK_STATE_SUBMITTED"),
        RunStatus.RUNNING: _UNDER_WAY,
        RunStatus.WAITING: _UNDER_WAY,
        RunStatus.PAUSED: _UNDER_WAY._replace(exit=ExitCode.INTERRUPTED),
        RunStatus.CANCELLING: _UNDER_WAY,
        RunStatus.COMPENSATING: _UNDER_WAY,
        RunStatus.COMPLETED: Face(ExitCode.OK, 200, "completed", "TASK_STATE_COMPLETED"),
        RunStatus.FAILED: Face(ExitCode.FAILED, 500, "completed", "TASK_STATE_FAILED", is_error=True),
        RunStatus.CANCELLED: Face(ExitCode.CANCELLED, 410, "cancelled", "TASK_STATE_CANCELED", is_error=True),
        RunStatus.STRANDED: Face(ExitCode.FAILED, 503, "working", "TASK_STATE_SUBMITTED"),
        RunStatus.NEEDS_ATTENTION: Face(ExitCode.FAILED, 409, "input_required", "TASK_STATE_INPUT_REQUIRED"),
    }
)
"""How each state of a run is shown. ``waiting`` is ``working`` to others unless a door knows that a person is asked."""
