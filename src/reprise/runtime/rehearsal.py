"""A run rehearsed: its history delivered to a body of this code, with nothing behind it.

It is the execution that a worker would have, so what it finds is what a worker would find; only there is no worker. Steps,
timers and children are asked for and never begin, and nothing is written.
"""

from __future__ import annotations

import asyncio
import linecache
from collections.abc import Iterator, Mapping, Sequence
from contextvars import Context, ContextVar
from types import CodeType, FrameType
from typing import Any, NamedTuple

from reprise.kernel.clock import Clock
from reprise.kernel.errors import NonDeterminismError, RepriseError
from reprise.kernel.events import Finished, Record
from reprise.runtime.branch import BRANCH
from reprise.runtime.effects import check_intents
from reprise.runtime.entering import enter
from reprise.runtime.execution import Execution
from reprise.runtime.generation import ContinueAs
from reprise.runtime.handles import RunTask
from reprise.runtime.history import owned_by, read_history
from reprise.runtime.host import Observer
from reprise.runtime.payloads import Payloads
from reprise.runtime.registry import Registry
from reprise.runtime.workflow import Workflow

_OURS = ("reprise.", "asyncio.")
"""Modules whose lines say nothing about a body."""


class Line(NamedTuple):
    """A line of code."""

    file: str = ""
    number: int = 0
    function: str = ""

    @property
    def source(self) -> str:
        """What stands there, '' if that cannot be read."""
        return linecache.getline(self.file, self.number).strip()


class Rehearsal(Execution):
    """A run whose history is delivered to this code."""

    __slots__ = ("error", "finished", "line", "unmet")

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.error: RepriseError | None = None
        """Why the history could not be delivered to its end."""
        self.line = Line()
        """Where the body was then."""
        self.unmet: tuple[str, ...] = ()
        """Calls that it had made there and that nothing had come of."""
        self.finished: Finished | None = None
        """How the run would end at once, None if it would go on."""

    async def perform(self) -> None:
        """Deliver the history, as far as this code goes along."""
        settled = self.news()
        self.wake()
        await settled

    def go_live(self) -> None:
        """Take note that the history was delivered; raises ``NonDeterminismError`` for an effect that is not asked for."""
        super().go_live()
        if self.intents:
            check_intents(self)

    def go_out(self) -> None:
        """Do nothing: what the body asked for is not to happen."""

    def _look_if_stuck(self) -> None:
        if not (self.to_start or self.to_stop or self.loop.to_arm):
            super()._look_if_stuck()

    def _conclude(self, finished: Finished) -> None:
        self.finished = finished
        self.finishing = True
        error = None if self.main.cancelled() else self.main.exception()
        if error is not None:
            self.line = line_of_error(error) or self.line

    def fail(self, error: RepriseError) -> None:
        """Remember where the body is before it is unwound."""
        if self.done or self.error is not None:
            return
        self.error = error
        key = error.key if isinstance(error, NonDeterminismError) else ""
        task = self._task_at(key)
        if isinstance(error, NonDeterminismError) and error.file:
            self.line = Line(error.file, error.line)
        elif task is not None:
            self.line = where(task)
        self.unmet = tuple(key for key, future in self.waiting.items() if not future.done())
        self.evict()

    def _task_at(self, key: str) -> RunTask | None:
        """Return the task of the body that is nearest to where a call of that key would be made."""
        best, length = None, -1
        for task in (self.main, *self.loop.tasks):
            path = task.context[BRANCH].path
            if not task.done() and key.startswith(path) and len(path) > length:
                best, length = task, len(path)
        return best


class Stage:
    """What a rehearsed run takes for the engine around it: nothing that is asked of it happens."""

    def __init__(
        self,
        clock: Clock,
        build: str = "",
        payloads: Payloads | None = None,
        registry: Registry | None = None,
    ) -> None:
        self.outer: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self.registry = registry or Registry()
        """Where bodies look up what they know by name only, as plans do their child workflows."""
        self.context = Context()
        self.build = build
        self.observers: list[Observer] = []
        self.keep_generations: int | None = None
        self.payloads = payloads or Payloads()
        self.clock = clock
        self.now = clock.now

    def nothing(self, *_: Any, **__: Any) -> None:
        """Do nothing."""

    observe = start_jobs = stop_job = dirty = quiet = doubt = compensate = keep_undo = nothing
    attend = unseated = went_live = tap = keep_only = recall = warn = progress = continued = ended = nothing

    def carry_over(self, execution: Execution, wish: ContinueAs) -> None:
        """Do nothing: the next generation does not begin."""


def rehearsal(
    stage: Stage,
    workflow: Workflow[..., Any],
    run: str,
    records: Sequence[Record],
    variables: Mapping[str, ContextVar[Any]] | None = None,
) -> Rehearsal:
    """Return a run with the history in ``records``, to be delivered to the code of a workflow.

    Raises:
        NonDeterminismError: its input does not fit the workflow any more.
        StoreCorrupt: no generation begins in the records.
    """
    history = read_history(run, records)
    owned_by(history, stage.build)  # as whoever takes it over would
    return enter(Rehearsal, stage, run, 1, history, workflow, variables or {})


def where(task: asyncio.Task[Any]) -> Line:
    """Return the line of a body where a task waits: the innermost that is neither ours nor Python's."""
    found = Line()
    for frame in frames_of(task):
        found = _line(frame.f_code, frame.f_lineno)
    return found


def frames_of(task: asyncio.Task[Any]) -> Iterator[FrameType]:
    """Yield the frames of a suspended task that are neither ours nor Python's, outermost first."""
    for frame in _frames(task.get_coro()):
        if not frame.f_globals.get("__name__", "").startswith(_OURS):
            yield frame


def _frames(awaited: Any) -> Iterator[FrameType]:
    """Yield the frames of a suspended coroutine and of what it waits for, outermost first."""
    while awaited is not None:
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "gi_frame", None)
        if frame is not None:
            yield frame
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)


def line_of_error(error: BaseException) -> Line | None:
    """Return the innermost line that an error came through and that is neither ours nor Python's."""
    found, trace = None, error.__traceback__
    while trace is not None:
        frame = trace.tb_frame
        if not frame.f_globals.get("__name__", "").startswith(_OURS):
            found = _line(frame.f_code, trace.tb_lineno)
        trace = trace.tb_next
    return found


def _line(code: CodeType, number: int) -> Line:
    return Line(code.co_filename, number, code.co_name)
