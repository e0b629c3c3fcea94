"""What a tool has around it while it is called: time, chance, who calls, and what was provided to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from reprise.kernel.clock import Clock
from reprise.kernel.errors import ToolError
from reprise.runtime.face import current_step
from reprise.runtime.host import STEP

P = TypeVar("P")


class ToolContext:
    """Around one call. A tool that wants it has a parameter annotated so, which no caller passes.

    Tools take time and chance from here, so that a simulation decides both.
    """

    __slots__ = ("_job", "_provided", "caller", "clock", "randomness", "tool", "warnings")

    def __init__(
        self,
        tool: str,
        clock: Clock,
        randomness: Callable[[int], bytes],
        *,
        caller: str = "",
        provided: Iterable[object] = (),
    ) -> None:
        self.tool = tool
        """Name of the tool that is called."""
        self.clock = clock
        self.randomness = randomness
        """Gives n random bytes."""
        self.caller = caller
        """Name of the agent or person who calls, '' = nobody said."""
        self._job = STEP.get()
        self.warnings: list[str] = []
        self._provided = provided

    @property
    def run(self) -> str:
        """Id of the run in whose step it is called, '' = in none."""
        return "" if self._job is None else self._job.execution.id

    @property
    def idempotency_key(self) -> str:
        """A key for the receiver: the same over attempts, crashes and take-overs of this step, '' outside of runs.

        Raises ``ConfigurationError`` in a pure step, which has no receiver.
        """
        return "" if self._job is None else current_step().idempotency_key

    def warn(self, what: str) -> None:
        """Tell the caller something beside the result, such as that it was cut."""
        self.warnings.append(what)

    def need(self, kind: type[P], hint: str = "") -> P:
        """Return what was provided of a kind: an adapter of a service, roots of files, credentials.

        Raises ``ToolError`` with code ``unavailable`` when nobody provided it; ``hint`` says how that is done.
        """
        found = self.find(kind)
        if found is None:
            raise ToolError(
                "unavailable",
                f"{self.tool} needs a {kind.__name__}, and none is configured.",
                hint=hint or f"Give one to the registry: registry.provide({kind.__name__}…).",
            )
        return found

    def find(self, kind: type[P]) -> P | None:
        """Return what was provided of a kind, the newest first, or None."""
        provided: tuple[Any, ...] = tuple(self._provided)
        return next((each for each in reversed(provided) if isinstance(each, kind)), None)
