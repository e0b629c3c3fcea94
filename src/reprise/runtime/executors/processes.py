"""The executor of processes: spawned interpreters, kept warm, killed when a step must stop.

Spawned and never forked: a fork would copy the locks and threads of the worker. What crosses goes through the codec, never
pickle. A process is begun when the first step needs it, and one that was killed or that has grown is followed by a fresh
one which imports what its predecessor had imported.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
from collections.abc import Coroutine, Iterable, Mapping
from contextlib import suppress
from contextvars import ContextVar
from typing import Any

from reprise.kernel.errors import ConfigurationError, StepTimeout
from reprise.kernel.events import Progress
from reprise.kernel.failures import brief
from reprise.kernel.settings import ProcessSettings
from reprise.runtime.executors.ends import died, how_it_ended, unfit
from reprise.runtime.executors.frames import (
    ROOM,
    Answer,
    GivenForUndo,
    Load,
    Logged,
    News,
    Raised,
    Returned,
    Spent,
    Wrote,
)
from reprise.runtime.executors.guard import Guard
from reprise.runtime.executors.orders import AnyStep, Orders, value_of
from reprise.runtime.executors.origins import Origin
from reprise.runtime.executors.process import BEAT, Process, ProcessGone
from reprise.runtime.host import STEP, Job
from reprise.runtime.payloads import Payloads
from reprise.runtime.streams import write_of_process

START = 60.0
"""Seconds in which a process must have begun and imported a step. They do not count towards the step's timeout."""
TRIES = 3
"""Processes that may die one after the other before a step has begun."""
QUIT = 2.0
"""Seconds that an idle process may take to end in order."""


class Processes:
    """Calls functions in spawned interpreters, one call at a time in each."""

    def __init__(
        self, settings: ProcessSettings, payloads: Payloads, variables: Mapping[str, ContextVar[Any]]
    ) -> None:
        self._settings = settings
        self._most = payloads.limit + ROOM
        self._orders = Orders(payloads, variables)
        self._all: dict[Process, None] = {}
        self._idle: list[Process] = []
        self._guard: Guard | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._watch_at = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self._warming: set[asyncio.Task[None]] = set()
        """Fresh processes that import what their predecessors had."""
        self._closing = False
        self._counts = dict.fromkeys(("started", "calls", "recycled", "killed", "died"), 0)

    @property
    def capacity(self) -> int:
        """Processes at once."""
        return self._settings.size or _processors()

    def statistics(self) -> dict[str, int]:
        """Return how many processes there are and were, and what became of them."""
        busy = sum(process.is_asked for process in self._all)
        counts = {"alive": len(self._all), "busy": busy, **self._counts}
        return {f"processes_{name}": count for name, count in counts.items()}

    # ---------------------------------------------------------------- a call

    async def execute(self, job: Job) -> Any:
        """Call the step's function in a process.

        Raises:
            ProcessDied: the process ended before the function did.
            ConfigurationError: the function cannot be found by a process.
            CodecError: an argument cannot be written as its declared type, or is too large.
        """
        step: AnyStep = job.step
        origin = self._orders.origin(step)
        order = self._orders.of(job, origin)
        for _ in range(TRIES):
            job.driver.hold()
            process = await self._prepared(step, origin)
            job.driver.release(step.timeout)
            process.job = job
            try:
                answer = await process.ask(order)
            except ProcessGone:
                self._refill(process)
                if process.began:
                    raise died(process, step) from None
                continue
            except BaseException:  # cancelled, above all
                await self._stop(process)
                raise
            finally:
                process.job = None
            self._counts["calls"] += 1
            self._give_back(process, answer)
            return value_of(step, answer)
        raise unfit(step, f"{TRIES} died before they took the order")

    # ---------------------------------------------------------------- processes

    async def _prepared(self, step: AnyStep, origin: Origin) -> Process:
        """Return a process that has imported the function, and is not idle any more."""
        fresh: list[Process] = []
        while len(fresh) < TRIES:
            while self._warming and not self._idle:
                await asyncio.wait(self._warming, return_when=asyncio.FIRST_COMPLETED)
            if self._idle:
                process = self._idle.pop()
            else:
                fresh.append(process := self._begin())
            self._look_after()
            if not process.look():
                continue
            try:
                async with asyncio.timeout(START):
                    await asyncio.shield(process.opened)
                    answer = None if origin in process.loaded else await process.ask(Load(origin))
            except ProcessGone:
                continue
            except TimeoutError:
                await self._stop(process)
                raise StepTimeout(
                    f"The process of step {step.name} had not imported {origin.module} after {START:g} s.",
                    hint="Do at import only what is quick.",
                ) from None
            except BaseException:
                await self._stop(process)
                raise
            if isinstance(answer, Raised):
                self._idle.append(process)
                raise ConfigurationError(
                    f"The process of step {step.name} cannot import {origin.module}:{origin.name}: "
                    f"{brief(answer.error)}",
                    hint="It is imported there as by `import`, with the path of this process.",
                )
            process.loaded[origin] = None
            return process
        raise unfit(step, f"{TRIES} ended before it; the last {how_it_ended(fresh[-1])}")

    def _begin(self, loaded: Iterable[Origin] = ()) -> Process:
        """Begin a process; it is there at once, and can be asked when it has opened."""
        if self._guard is None:
            self._guard = Guard()
        beat = min(BEAT, self._settings.silence / 4)
        process = Process(self._most, beat, self._news)
        self._counts["started"] += 1
        self._all[process] = None
        process.gone.add_done_callback(lambda _: self._gone(process))
        process.opened.add_done_callback(_heeded)
        self._tell_guard()
        if loaded:
            warming = self._spawn(self._warm(process, tuple(loaded)))
            self._warming.add(warming)
            warming.add_done_callback(self._warming.discard)
        return process

    async def _warm(self, process: Process, loaded: tuple[Origin, ...]) -> None:
        """Let a fresh process import what its predecessor had, then let it be used."""
        try:
            async with asyncio.timeout(START):
                await asyncio.shield(process.opened)
                for origin in loaded:
                    if not isinstance(await process.ask(Load(origin)), Raised):
                        process.loaded[origin] = None
        except (ProcessGone, TimeoutError):
            process.kill("told")
            return
        self._idle.append(process)

    def _refill(self, gone: Process) -> None:
        """Let a fresh process take the place of one that is leaving."""
        if not self._closing and len(self._all) - (gone in self._all) < self.capacity and gone.loaded:
            with suppress(OSError):  # no room for a process now: the next step tries again
                self._begin(gone.loaded)

    def _give_back(self, process: Process, answer: Answer) -> None:
        process.calls += 1
        spoilt = isinstance(answer, Raised) and answer.spoilt
        held = answer.held if isinstance(answer, Raised | Returned) else 0
        process.at_first = process.at_first or held
        settings = self._settings
        grown = held - process.at_first > settings.recycle_growth
        if spoilt or grown or process.calls >= settings.recycle_after:
            self._counts["recycled"] += 1
            self._spawn(process.quit(QUIT))
            self._refill(process)
        elif process in self._all:
            self._idle.append(process)

    async def _stop(self, process: Process) -> None:
        """End a process whose call must stop, and return when it is gone; who is cancelled meanwhile does not wait."""
        self._counts["killed"] += 1
        ending = self._spawn(process.end(self._settings.grace))
        self._refill(process)
        await asyncio.wait([ending])

    def _gone(self, process: Process) -> None:
        del self._all[process]
        if process in self._idle:
            self._idle.remove(process)
        if process.why in ("", "frame", "silence"):
            self._counts["died"] += 1
        self._tell_guard()

    def _tell_guard(self) -> None:
        if self._guard is not None:
            self._guard.tell(process.pid for process in self._all)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # ---------------------------------------------------------------- signs of life

    def _look_after(self) -> None:
        if self._watch is None:
            loop = asyncio.get_running_loop()
            every = min(BEAT, self._settings.silence / 4)
            self._watch_at = loop.time() + every
            self._watch = loop.call_later(every, self._look, context=contextvars.Context())

    def _look(self) -> None:
        """Kill what was silent for too long."""
        self._watch = None
        now = asyncio.get_running_loop().time()
        # Have we been stopped ourselves? Then what the processes said meanwhile is still to be read.
        late = now - self._watch_at > self._settings.silence / 2
        for process in self._all:
            if not process.is_asked:
                continue
            process.look()
            if late:
                process.heard = now
            elif now - process.heard > self._settings.silence:
                process.kill("silence")
        if len(self._all) > len(self._idle):
            self._look_after()  # somebody has an order, or is on the way to one

    def _news(self, job: Job | None, said: News) -> Coroutine[Any, Any, None] | None:
        """Pass on what a call says; what is returned is to be awaited before more of it is read."""
        if isinstance(said, Logged):
            contextvars.Context().run(_log, job, said)
        elif job is None:
            return None
        elif isinstance(said, Wrote):
            return write_of_process(job, said.stream, said.keep, bytes(said.chunk))
        elif isinstance(said, Spent):
            if job.execution.purse is not None:
                job.execution.purse.said(job.key, said.amounts)
        elif isinstance(said, GivenForUndo):
            job.execution.host.keep_undo(job, bytes(said.call))
        else:
            execution = job.execution
            execution.host.progress(execution.id, Progress(job.key, said.done, said.total, said.note))
        return None

    # ---------------------------------------------------------------- the end

    async def close(self) -> None:
        """Kill the busy, let the idle end in order, and return when all are gone."""
        self._closing = True
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        idle = [process for process in self._idle if process.opened.done()]
        for process in self._all:
            if process not in idle:
                process.kill("told")
        await asyncio.gather(*(process.quit(QUIT) for process in idle))
        await asyncio.gather(*(process.wait(QUIT) for process in list(self._all)))
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=QUIT)
        if self._guard is not None:
            self._guard.close()
            self._guard = None


def _heeded(opening: asyncio.Task[None]) -> None:
    """Look at what went wrong, so that it is not told to be unseen: whoever needs the process will see."""
    if not opening.cancelled():
        opening.exception()


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _log(job: Job | None, said: Logged) -> None:
    STEP.set(job)
    logger = logging.getLogger(said.name)
    if logger.isEnabledFor(said.level):
        fields = {**said.fields(), "levelname": logging.getLevelName(said.level)}
        logger.handle(logging.makeLogRecord(fields))
