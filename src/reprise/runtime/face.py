"""What bodies and steps call besides asyncio and their own steps."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from asyncio import events
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, NoReturn, TypeVar, overload

from reprise.kernel.chance import Random, seeded
from reprise.kernel.clock import MICROSECONDS, to_datetime
from reprise.kernel.codec import standard
from reprise.kernel.errors import BodyError, CodecError, ConfigurationError, SignalTypeError
from reprise.kernel.events import Intended, Progress
from reprise.kernel.policy import seconds
from reprise.kernel.tags import Tag, as_tags, same_tags
from reprise.runtime.branch import BRANCH, RUN, idempotency_key
from reprise.runtime.execution import Execution
from reprise.runtime.generation import ContinueAs
from reprise.runtime.host import STEP
from reprise.runtime.intents import intent_of

T = TypeVar("T")


class CurrentRun:
    """The run whose body asks. What it derives depends on the run and the place of the call, never on the moment."""

    def __init__(self, execution: Execution) -> None:
        self._execution = execution

    @property
    def id(self) -> str:
        """The run's id."""
        return self._execution.id

    @property
    def workflow(self) -> str:
        """Name of the workflow."""
        return self._execution.started.workflow

    @property
    def generation(self) -> int:
        """How often the run has gone on by :func:`continue_as`; 0 as it was started."""
        return self._execution.generation

    @property
    def length(self) -> int:
        """How many records this generation was given so far: the same in every replay. Continue before it is 10,000."""
        return self._execution.length

    @property
    def tags(self) -> dict[str, Tag]:
        """The run's tags: those of its start, and what its body has set since."""
        return dict(self._execution.tags)

    @property
    def replaying(self) -> bool:
        """True while the history is delivered again. For logging only: a body that acts on it goes wrong."""
        return self._execution.replaying

    def now(self) -> datetime:
        """Return the time of the latest record (UTC): the same in every replay."""
        return to_datetime(round(self._execution.loop.now * MICROSECONDS))

    def _seed(self) -> bytes:
        site = f"{self._execution.seed}\0{BRANCH.get().site()}"
        return hashlib.blake2b(site.encode(), digest_size=16).digest()

    def random(self) -> Random:
        """Return a random generator of this call site; adding another call elsewhere does not change it."""
        return seeded(self._seed())

    def uuid(self) -> uuid.UUID:
        """Return a UUID of this call site (version 8: made from a hash)."""
        raw = bytearray(self._seed())
        raw[6] = raw[6] & 0x0F | 0x80
        raw[8] = raw[8] & 0x3F | 0x80
        return uuid.UUID(bytes=bytes(raw))


class CurrentStep:
    """The step that the running code belongs to."""

    def __init__(
        self,
        run: str,
        scope: str,
        key: str,
        name: str,
        attempt: int,
        intent: Intended | None = None,
        *,
        pure: bool = False,
    ) -> None:
        self.run = run
        self._scope = scope
        self._intent = intent
        self.key = key
        self.name = name
        self.attempt = attempt
        """1 for the first try."""
        self._pure = pure

    @property
    def idempotency_key(self) -> str:
        """A key for the receiver, the same over attempts, crashes and take-overs of this call, and of no other call.

        With ``@step(effect=…, key=function)`` it is what that function gives.

        Raises:
            ConfigurationError: the step is pure. It has no receiver; and after a crash the calls before it may give
                other results, so that another call may have its place.
        """
        if self._pure:
            raise ConfigurationError(
                f"Step {self.name} is pure, so there is no idempotency key for it.",
                hint="Take pure=True away: what somebody else takes note of is an effect.",
            )
        return self._intent.key if self._intent is not None else idempotency_key(self._scope, self.key)

    @property
    def until(self) -> datetime | None:
        """When the call must not act any more (UTC), as its durable intent says; None without ``effect=`` or ``undo=``.

        Hand it to a receiver that refuses later calls: a process that was suspended in just this line acts when it wakes.
        """
        intent = self._intent
        return to_datetime(intent.until) if intent is not None and intent.until else None


def current_run() -> CurrentRun:
    """Return the run whose body is running.

    Raises:
        BodyError: called outside of a body (in a step, use :func:`current_step`).
    """
    execution = RUN.get()
    if execution is None:
        raise BodyError(
            "There is no run here.", hint="Call current_run() in the body of a workflow, not in a step."
        )
    return CurrentRun(execution)


def current_step() -> CurrentStep:
    """Return the step that the running code belongs to.

    Raises:
        BodyError: called outside of a step that a run executes.
    """
    job = STEP.get()
    if job is None:
        raise BodyError(
            "No run executes a step here.", hint="Call current_step() in a @step that a workflow awaits."
        )
    run, step = job.execution, job.step
    return CurrentStep(run.id, run.work, job.key, step.name, job.attempt, intent_of(job), pure=step.pure)


@overload
async def wait_for_signal(name: str, *, timeout: float | timedelta | None = None) -> Any: ...
@overload
async def wait_for_signal(name: str, type: type[T], timeout: float | timedelta | None = None) -> T: ...


async def wait_for_signal(name: str, type: Any = Any, timeout: float | timedelta | None = None) -> Any:
    """Wait for a signal of that name and return its value; signals that came before are kept, in order.

    The wait holds no worker slot and survives restarts. ``timeout`` in seconds or as timedelta; None = for ever.

    Raises:
        TimeoutError: no signal came in time.
        SignalTypeError: the value is not of ``type``; it is consumed.
        BodyError: called outside of a body.
    """
    execution = RUN.get()
    if execution is None:
        raise BodyError(f"A signal ({name!r}) can be awaited only in the body of a workflow.")
    if events._get_running_loop() is not execution.loop:
        raise execution.loop.elsewhere(f"wait_for_signal({name!r})")
    async with asyncio.timeout(None if timeout is None else seconds(timeout, "timeout")):
        value = await execution.mail.take(name)
    try:
        return standard.decode(value, type)
    except CodecError as error:
        raise SignalTypeError(
            f"The signal {name!r} of run {execution.id} is not what was awaited. {error.what}",
            hint="Catch this error and wait again, or send a value of the right type.",
        ) from error


def continue_as(*args: Any, **kwargs: Any) -> NoReturn:
    """End this generation of the run and begin the next one: the same workflow with these arguments.

    It has the same id, handle, deadline, tags and parent, and a history that begins anew, so a run can live for years. It
    ends the body as an exception does (``finally`` parts run and may have steps); both ends are one commit. Signals
    that nobody took, and a request to cancel that came too late for this generation, pass on to the next.

    Raises:
        BodyError: called outside of a body.
        CodecError, TypeError: the workflow cannot be called with these arguments, or they are too large; the
            generation goes on.
    """
    execution = RUN.get()
    if execution is None:
        raise BodyError(
            "There is no run to be continued here.",
            hint="Call continue_as() in the body of a workflow, not in a step.",
        )
    if events._get_running_loop() is not execution.loop:
        raise execution.loop.elsewhere("continue_as()")
    input = execution.workflow.arguments.encode(args, kwargs)
    raise ContinueAs(
        execution.host.payloads.within(input, "The input with which run {} continues", execution.id)
    )


def set_tags(values: Mapping[str, Any] | None = None, /, **more: Any) -> None:
    """Change tags of the run: ``set_tags(stage="review", amount=12.5)``; None takes a tag away.

    Values are text, numbers, true or false; a moment becomes text that sorts by time. Names that are no Python names
    come in a mapping: ``set_tags({"shop.order": 7})``. The run is found by them at once, as queries say; children that
    are started later have them too. Nothing is added to the history: a replayed body sets them again, and what the
    index has already is not written twice.

    Raises:
        BodyError: called outside of a body.
        ConfigurationError: a name or value that a tag cannot have; nothing was changed.
    """
    execution = RUN.get()
    if execution is None:
        raise BodyError(
            "There is no run here whose tags could be set.",
            hint="Call set_tags() in the body of a workflow, not in a step.",
        )
    if events._get_running_loop() is not execution.loop:
        raise execution.loop.elsewhere("set_tags()")
    given = {**(values or {}), **more}
    new = as_tags({name: value for name, value in given.items() if value is not None})
    tags = {name: value for name, value in execution.tags.items() if name not in given} | new
    if same_tags(tags, execution.tags):
        return
    execution.tags = tags
    if execution.live:
        execution.indexed_tags = tags
        execution.alter(tags=tags)


def progress(done: float, total: float | None = None, note: str = "") -> None:
    """Tell people how far a step (or the body) is. Cheap: gathered and written to a side stream, never replayed.

    Outside of a run it does nothing, so steps stay plain functions.
    """
    job = STEP.get()
    if job is not None:
        job.execution.host.progress(job.execution.id, Progress(job.key, done, total, note))
        return
    execution = RUN.get()
    if execution is not None and not execution.replaying:
        execution.host.progress(execution.id, Progress("", done, total, note))
