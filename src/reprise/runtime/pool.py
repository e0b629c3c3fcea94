"""Execute steps: a bounded number at once, each with its timeout and its retries.

Drivers are tasks of the outer loop that execute one step after another; a task per step would cost more than the step's
whole way through the log. A driver is retired when a step left something in its context, or was cancelled, so no step
ever meets what belongs to its predecessor. Recording never waits for a free driver.
"""

from __future__ import annotations

import asyncio
import contextvars
from asyncio.tasks import _enter_task, _leave_task  # pyright: ignore[reportPrivateUsage]
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from reprise.kernel.clock import Clock
from reprise.kernel.errors import OutcomeUnknownStep, PayloadTooLarge, StepFailed, StepTimeout
from reprise.kernel.events import Kind, Retrying
from reprise.kernel.policy import Fault
from reprise.runtime.executors.executor import Executor, not_configured
from reprise.runtime.host import STEP, Job
from reprise.runtime.intents import intend, is_unknown, was_called
from reprise.runtime.middleware import Call, Middleware, compose
from reprise.runtime.outward import again
from reprise.runtime.payloads import Payloads

FLUSH_EVERY = 128
"""Steps after which results are handed to the log although more steps are ready."""
WAKES = 4
"""Drivers that are woken at a time: each that comes wakes another if there is more to do. Steps that never wait are
executed by a few, and to wake the others for nothing would cost as much as a tenth of the steps."""
SLOW = 0.02
"""Seconds after which a running step gets a STEP_STARTED note of its own."""

NEVER = float("inf")
"""Later than any time of the loop."""


class Driver:
    """A task that executes steps, one at a time."""

    __slots__ = ("began", "deadline", "idle", "job", "noted", "pool", "task", "timed_out")

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.task: asyncio.Task[None]
        self.job: Job | None = None
        self.idle: asyncio.Future[None] | None = None
        self.timed_out = False
        self.began = 0.0
        self.deadline = NEVER
        self.noted = False

    def hold(self) -> None:
        """Let the timeout of the step not run: its executor is only getting ready for it."""
        self.deadline = NEVER

    def release(self, timeout: float | None) -> None:
        """Let the timeout begin now."""
        if timeout is not None:
            self.pool.limit(self, timeout)


class Pool:
    """Executes the steps of all runs of one engine.

    ``flush`` is called when results should go to the log; ``settle`` when there is nothing more to execute, and the log
    may answer at once. ``uniform`` gives random floats in [0, 1) for the jitter of retries.
    """

    def __init__(
        self,
        outer: asyncio.AbstractEventLoop,
        clock: Clock,
        flush: Callable[[], None],
        settle: Callable[[], None],
        later: Callable[[], None],
        uniform: Callable[[], float],
        payloads: Payloads,
        executors: Mapping[str, Executor],
        concurrency: int = 100,
        middleware: Sequence[Middleware] = (),
    ) -> None:
        self.concurrency = concurrency
        self.executed = 0
        self.retried = 0
        self.recording = False
        """A driver records what came of a step and will see to the flush itself."""
        self._outer = outer
        self._time = outer.time
        self._clock = clock
        self._flush = flush
        self._settle = settle
        self._settling = False
        self._uniform = uniform
        self._payloads = payloads
        self._jobs: deque[Job] = deque()
        self._idle: list[Driver] = []
        self._drivers: dict[Driver, None] = {}
        """In the order in which they were made: a set goes by addresses, and no seed decides those."""
        self._coming = 0
        """Drivers that were woken, or made, and did not yet look for a job."""
        self._backing_off: dict[Job, asyncio.TimerHandle] = {}
        self._executors = executors
        self._invoke = compose(middleware, self._innermost) if middleware else None
        self._later = later
        self._context = contextvars.Context()
        self._watch: asyncio.TimerHandle | None = None
        self._watch_at = NEVER
        self._closing = False

    @property
    def executing(self) -> int:
        """How many drivers execute steps, or are about to."""
        return len(self._drivers) - len(self._idle) - self._settling

    # ---------------------------------------------------------------- work in

    def start(self, job: Job) -> None:
        """Execute a job as soon as a driver is free, after those that were started before."""
        self._jobs.append(job)
        if self._settling:
            self._settling = False  # the driver that let the log answer takes it
        elif self._coming < WAKES:
            self._wake()

    def _wake(self) -> None:
        """Let one more driver come, if one is free."""
        if self._idle:
            driver = self._idle.pop()
            if driver.idle is not None and not driver.idle.done():
                self._coming += 1
                driver.idle.set_result(None)
        elif len(self._drivers) < self.concurrency:
            self._spawn()

    def _spawn(self) -> None:
        self._coming += 1
        driver = Driver(self)
        self._drivers[driver] = None
        driver.task = self._outer.create_task(self._drive(driver), context=contextvars.Context())

    def stop(self, job: Job) -> None:
        """Ask a job to stop. One that waits for a driver or a retry ends at once."""
        job.asked = True
        if job.driver is not None:
            job.driver.task.cancel()
            return
        timer = self._backing_off.pop(job, None)
        if timer is not None:
            timer.cancel()
        job.execution.job_ended(job, Kind.STEP_CANCELLED, b"", 0)

    async def close(self, grace: float) -> None:
        """Let running steps end within ``grace`` seconds and cancel the others."""
        self._closing = True
        self._jobs.clear()
        for timer in self._backing_off.values():
            timer.cancel()
        self._backing_off.clear()
        for driver in self._idle:
            if driver.idle is not None and not driver.idle.done():
                driver.idle.set_result(None)
        tasks = [driver.task for driver in self._drivers]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=grace)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=1)

    # ---------------------------------------------------------------- drivers

    async def _drive(self, driver: Driver) -> None:
        jobs = self._jobs
        task = asyncio.current_task()
        assert task is not None
        driver.task = task  # with an eager task factory we run before create_task has returned
        self._coming -= 1
        count = 0
        try:
            while not self._closing:
                if not jobs:
                    # The run of the last step may be gone by now, and we would keep it in memory.
                    STEP.set(None)
                    driver.idle = self._outer.create_future()
                    self._idle.append(driver)
                    await driver.idle
                    driver.idle = None
                    self._coming -= 1
                    continue
                if self._coming < WAKES and len(jobs) > 1:
                    self._wake()
                await self._perform(driver, jobs.popleft())
                count += 1
                if not jobs:
                    self._hear(task)
                elif count % FLUSH_EVERY == 0:
                    self._flush()
                else:
                    self._later()
                if task.cancelling() or len(contextvars.copy_context()) > 1:
                    break
                if count % 32 == 0:
                    await asyncio.sleep(0)
        finally:
            self._drivers.pop(driver, None)
        if jobs and not self._closing:
            self._spawn()

    def _hear(self, task: asyncio.Task[Any]) -> None:
        """Let the log answer at once and bodies go on: the step that follows is executed without a turn of the loop.

        No task is the current one meanwhile, as in a callback of the loop.
        """
        _leave_task(self._outer, task)
        self._settling = True
        try:
            self._settle()
        finally:
            self._settling = False
            _enter_task(self._outer, task)

    async def _perform(self, driver: Driver, job: Job) -> None:
        """Execute one attempt of a step and record what came of it."""
        execution = job.execution
        if job.asked or execution.done:
            execution.job_ended(job, Kind.STEP_CANCELLED, b"", 0)
            return
        step = job.step
        STEP.set(job)
        job.attempt += 1
        job.driver = driver
        driver.job = job
        driver.noted = driver.timed_out = False
        began = driver.began = self._time()
        timeout = step.timeout
        driver.deadline = NEVER if timeout is None else began + timeout
        soon = began + SLOW if timeout is None or timeout > SLOW else driver.deadline
        if soon < self._watch_at:
            self._look_at(soon, began)
        error: BaseException | None = None
        data = b""
        kind = Kind.STEP_COMPLETED
        try:
            if self._invoke is not None:
                value = await self._invoke(Call(step.name, execution.id, job.key, job.attempt, job))
            elif not step.plain or job.context is not None:
                value = await self._innermost_job(job)
            else:
                value = await step.function(*job.args, **job.kwargs)
            data = step.encode(value)
            if len(data) > self._payloads.limit:
                raise self._payloads.too_large(len(data), "The result of step {} ({})", step.name, job.key)
        except asyncio.CancelledError:
            if driver.timed_out:
                error = _timed_out(job)
            elif self._closing and not job.asked:
                raise
            kind = Kind.STEP_CANCELLED
        except SystemExit as exit:
            error = StepFailed(
                f"Step {step.name} called sys.exit({exit.code!r}).", hint="Raise an exception instead."
            )
        except Exception as raised:
            error = raised
        finally:
            job.driver = driver.job = None
        self.executed += 1
        took = int((self._time() - began) * 1_000_000)
        self.recording = True
        try:
            if error is None:
                execution.job_ended(job, kind, data, took)
            else:
                self._failed(job, error, took)
        finally:
            self.recording = False

    async def _innermost(self, call: Call) -> Any:
        return await self._innermost_job(call.job)

    async def _innermost_job(self, job: Job) -> Any:
        """Call the step's function where it belongs."""
        if job.step.intends:
            await intend(job)
        name = job.step.executor
        executor = self._executors.get(name)
        if executor is None:
            raise not_configured(name, job.step.name, list(self._executors))
        return await executor.execute(job)

    # ---------------------------------------------------------------- timeouts, retries, notes

    def _failed(self, job: Job, error: BaseException, took: int) -> None:
        """Try again later, or record the failure."""
        if job.execution.in_flight.get(job.key) is not job:
            return  # it is recorded: what failed only stood around it
        step = job.step
        fault = step.retry.classify(error)
        if step.intends and is_unknown(job, fault):
            job.execution.host.doubt(job, error, took)
            return
        again = fault is Fault.TRANSIENT or (fault is Fault.UNKNOWN and step.repeatable)
        value = self._payloads.failure(error)
        if not again or isinstance(error, PayloadTooLarge) or job.asked or job.attempt >= step.retry.attempts:
            if fault in step.attended and not job.asked:
                job.execution.host.doubt(job, error, took)
                return
            job.execution.job_ended(job, Kind.STEP_FAILED, msgspec.json.encode(value), took)
            return
        delay = step.retry.delay(job.attempt, self._uniform(), error)
        if job.execution.purse is not None:
            job.execution.purse.settle(job, took)
        note = Retrying(job.attempt, value, self._clock.now() + int(delay * 1_000_000))
        job.execution.record(Kind.STEP_RETRYING, job.key, msgspec.json.encode(note), job.print, took)
        self.retried += 1
        self._backing_off[job] = self._outer.call_later(delay, self._again, job)

    def _again(self, job: Job) -> None:
        self._backing_off.pop(job, None)
        if job.execution.purse is None:
            self.start(job)
        else:
            again(job.execution, job)

    def limit(self, driver: Driver, timeout: float) -> None:
        """Give a driver's step so many seconds from now."""
        now = self._time()
        driver.deadline = now + timeout
        if driver.deadline < self._watch_at:
            self._look_at(driver.deadline, now)

    def _look_at(self, when: float, now: float) -> None:
        if self._watch is not None:
            self._watch.cancel()
        self._watch_at = when
        self._watch = self._outer.call_later(when - now, self._look, context=self._context)

    def _look(self) -> None:
        """Cancel steps whose time is over; note those that run for a while, so that others can see them.

        One look at all drivers, when the first of them needs it, costs less than a timer for each step.
        """
        now = self._time()
        soonest = NEVER
        for driver in self._drivers:
            job = driver.job
            if job is None:
                continue
            if not driver.noted:
                if driver.began + SLOW <= now:
                    driver.noted = True
                    job.execution.record(
                        Kind.STEP_STARTED, job.key, msgspec.json.encode(job.step.name), job.print
                    )
                else:
                    soonest = min(soonest, driver.began + SLOW)
            if driver.deadline <= now:
                driver.deadline = NEVER
                driver.timed_out = True
                driver.task.cancel()
            else:
                soonest = min(soonest, driver.deadline)
        self._watch, self._watch_at = None, NEVER
        if soonest < NEVER:
            self._look_at(soonest, now)


def _timed_out(job: Job) -> BaseException:
    step = job.step
    if step.intends and not was_called(job):
        return StepTimeout(
            f"Step {step.name} was not called: its intent was not durable after {step.timeout} s.",
            hint="Is the store slow?  reprise doctor",
        )
    if step.executor == "thread":
        return OutcomeUnknownStep(
            f"Step {step.name} ran longer than {step.timeout} s in a thread, which cannot be stopped: whether it "
            "happened is unknown.",
            hint="Declare it idempotent=True if doing it twice is harmless, or give it a longer timeout.",
        )
    return StepTimeout(
        f"Step {step.name} ran longer than {step.timeout} s.", hint="Give it a longer timeout=."
    )
