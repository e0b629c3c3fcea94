"""What an execution and the engine around it know of each other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextvars import Context, ContextVar
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from reprise.kernel.clock import Clock
from reprise.kernel.errors import RepriseError
from reprise.kernel.events import Event, Finished, Intended, Progress
from reprise.runtime.payloads import Payloads

if TYPE_CHECKING:
    from reprise.runtime.execution import Execution
    from reprise.runtime.generation import ContinueAs
    from reprise.runtime.talk import Talk


Observer = Callable[[str, Sequence[Event]], None]
"""Called with a run's id and events after they became durable; must not block."""


class Job(msgspec.Struct, eq=False):
    """A step that is to be executed, or is executing, for a run."""

    execution: Execution
    key: str
    step: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    print: int
    context: Context | None
    attempt: int = 0
    driver: Any = None
    asked: bool = False
    intent: Intended | None = None
    """Of a step that declares something: its durable intent."""
    doubt: str = ""
    """Of such a step: why its outcome is unknown."""
    wrote: Callable[[str, int | None, bytes], None] | None = None
    """Of a step in a process of its own: hands a chunk of a stream to the worker."""


STEP: ContextVar[Job | None] = ContextVar("reprise_step", default=None)
"""The step that the running code belongs to."""


class Host(Protocol):
    """What an execution needs of the engine around it. All calls come from the outer loop, outside of drains."""

    outer: asyncio.AbstractEventLoop
    clock: Clock

    build: str
    """Name of this version of the code, '' = it has none."""

    context: Context
    """Empty: for timers of the outer loop, so that they keep nothing in memory that their maker's context holds."""

    observers: list[Observer]

    keep_generations: int | None
    """Earlier generations of a run whose history is kept; None = all."""
    payloads: Payloads

    def observe(self, run: str, events: Sequence[Event]) -> None:
        """Show observers what became durable."""
        ...

    def now(self) -> int:
        """Return the time in microseconds."""
        ...

    def start_jobs(self, jobs: Iterable[Job]) -> None:
        """Execute steps and start child runs."""
        ...

    def stop_job(self, job: Job) -> None:
        """Ask a step or a child run to stop."""
        ...

    def dirty(self, execution: Execution) -> None:
        """Take what the execution wants to append, soon."""
        ...

    def quiet(self, execution: Execution) -> None:
        """Notice that the body waits and nothing of it executes."""
        ...

    def doubt(self, job: Job, error: BaseException, took: int) -> None:
        """Find out what became of a call that failed in a way that does not tell whether it happened."""
        ...

    def compensate(self, execution: Execution, finished: Finished) -> None:
        """Undo what the run did, then let it end so."""
        ...

    def carry_over(self, execution: Execution, wish: ContinueAs) -> None:
        """Let the next generation of a run begin, which undoes what this one did should it fail."""
        ...

    def keep_undo(self, job: Job, call: bytes) -> None:
        """Record what the undo of an executing step is to be given; may be called from any thread.

        Raises:
            PayloadTooLarge: it is.
        """
        ...

    def attend(self, execution: Execution) -> None:
        """Notice that nothing of the run can go on until a person says what became of a call."""
        ...

    def unseated(self, execution: Execution) -> None:
        """Notice that the body asked for steps and the run has not the places that it needs to execute them."""
        ...

    def went_live(self, execution: Execution) -> None:
        """Notice that the history was delivered."""
        ...

    def tap(self, streams: Sequence[str]) -> None:
        """Tap those who listen to streams."""
        ...

    def keep_only(self, stream: str, count: int) -> None:
        """Trim a stream to its latest records, soon."""
        ...

    def recall(self, talk: Talk) -> None:
        """Read what a run has said so far, and let it say the rest; may be called inside of a drain."""
        ...

    def warn(self, execution: Execution, text: str) -> None:
        """Tell people what they should know about a run that goes on."""
        ...

    def progress(self, run: str, progress: Progress) -> None:
        """Tell people how far a step is; may be called from any thread."""
        ...

    def continued(self, execution: Execution, events: Sequence[Event]) -> None:
        """Notice that a generation ended, and that the next has begun with these events, durably."""
        ...

    def ended(self, execution: Execution, finished: Finished | None, error: RepriseError | None) -> None:
        """Notice the end in memory: finished (and durable), stranded, or lost to another owner."""
        ...
