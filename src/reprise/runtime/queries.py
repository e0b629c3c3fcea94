"""Queries: what others may ask of the state of a running body. They only read, and nothing of them is recorded.

A query of a run in this process is a call. One of a run elsewhere is written to ``query/<id>``, a side stream that is
kept for a moment, and answered by whoever has the run; a run that nobody has in memory is loaded for it.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

import msgspec

from reprise.kernel.clock import MICROSECONDS
from reprise.kernel.errors import AppendRefused, BodyError, ConfigurationError, RunEnded
from reprise.kernel.events import Event, Kind, Update, query_stream
from reprise.runtime.branch import Branch
from reprise.runtime.loop import ReadingLoop
from reprise.runtime.talk import Handler, body, context_of, pick, register, reply, talk_of
from reprise.stores.log import Group, append, enlist

if TYPE_CHECKING:
    from reprise.runtime.engine import Engine
    from reprise.runtime.execution import Execution

P = ParamSpec("P")
R = TypeVar("R")

STALE = 60.0
"""Seconds after which nobody waits for the answer to a query any more."""
KEPT = 500
"""Records of ``query/<id>`` that are kept at least, for those who have not read their answer."""
QUIET = 0.005
"""Seconds after which a body that was busy is looked at again."""


@overload
def query(function: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def query(*, name: str = "") -> Callable[[Callable[P, R]], Callable[P, R]]: ...


def query(function: Callable[..., Any] | None = None, /, *, name: str = "") -> Any:
    """Let others ask a function of the body's state, while the run goes on: ``await handle.query("total")``.

    It decorates a plain function in the body of a workflow, which is what it stays. Arguments and result go by their
    declared types. It only reads: what it calls of asyncio, of steps or of the run is an error of whoever asks. Nothing
    of it is recorded, and a body that is replayed registers it again; so register before the first ``await``.

    Raises:
        BodyError: used outside of a body.
        ConfigurationError: the function is async, or the body has another query of that name.
    """
    if function is None:
        return partial(query_of, name=name)
    return query_of(function, name)


def query_of(function: Callable[..., Any], name: str = "") -> Callable[..., Any]:
    """Register a query; see :func:`query`."""
    execution = body("@query")
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise ConfigurationError(
            f"@query needs a plain function, {function.__qualname__} is async.",
            hint="A query only reads; what has to wait is an @update.",
        )
    handler = Handler(function, name or function.__name__)
    register(talk_of(execution).queries, handler, "query")
    return function


def peek(execution: Execution, handler: Handler, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """Call a function that only reads the state of a quiet body, and return what it returned.

    Raises whatever it raises; ``BodyError`` when it did more than read, see :func:`is_unsound`.
    """
    loop = execution.loop
    context = context_of(handler, Branch("?"), None)
    before, kind, collects = loop.enter(), loop.__class__, gc.isenabled()
    gc.disable()  # or a collection in between would finalize what others left behind, on this loop
    loop.__class__ = ReadingLoop
    try:
        value = context.run(function, *args, **kwargs)
        if inspect.isawaitable(value):
            if isinstance(value, Coroutine):
                value.close()
            raise BodyError(
                f"{handler.name!r} of run {execution.id} has to wait for something.",
                hint="A query or validator only reads what is in memory; what has to wait is an @update.",
            )
    finally:
        loop.__class__ = kind
        loop.leave(before)
        if collects:
            gc.enable()
    if is_unsound(execution):
        raise BodyError(
            f"{handler.name!r} of run {execution.id} changed what its body waits for.",
            hint="A query or validator only reads.",
        )
    return value


def is_unsound(execution: Execution) -> bool:
    """Tell whether somebody who was to read only has changed a body: what is in memory is no longer what the log says."""
    return execution.loop.touched


async def leave_unsound(engine: Engine, execution: Execution) -> None:
    """Let a body that was changed from outside go from memory; it comes back by replay as the log has it."""
    final = execution.take(engine.numbers.new())
    execution.evict()
    engine.ended_quietly(execution)
    engine.orphans.add(execution.id)
    if final is not None:
        with suppress(AppendRefused):
            await enlist(engine.store.log, [final])


class Desk:
    """Answers queries about the runs of one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.keep = KEPT
        self._reading: dict[str, bool] = {}
        """Runs whose queries are being read; True = somebody tapped meanwhile."""

    async def near(self, run: str, name: str, input: bytes) -> bytes | None:
        """Answer a query about a run that is in memory here, as an encoded ``Reply``; None if it is not."""
        execution = self._engine.executions.get(run)
        if execution is None:
            return None
        while not _is_quiet(execution):
            if execution.done or execution.finishing:
                return None
            await asyncio.sleep(QUIET if execution.live else 0)
        data = self._answer(execution, name, input)
        if is_unsound(execution):
            await leave_unsound(self._engine, execution)
        elif not await self._engine.past_is_durable(execution):
            return None  # what it told may never have happened
        return data

    def _answer(self, execution: Execution, name: str, input: bytes) -> bytes:
        try:
            if execution.loop.is_closed():
                raise RunEnded(
                    f"The body of run {execution.id} has ended.", hint=f"reprise show {execution.id}"
                )
            handler = pick(execution, talk_of(execution).queries, name, "query")
            args, kwargs = handler.call_of(input)
            value = handler.encode(peek(execution, handler, handler.function, args, kwargs))
        except Exception as error:
            return reply(execution, error=error)
        return reply(execution, value)

    def tap(self, stream: str) -> None:
        """Notice that somebody may have asked something about a run."""
        self.bring(stream.removeprefix("query/"))

    def bring(self, run: str) -> None:
        """Read and answer the queries about a run, if it is in memory here."""
        if run in self._reading:
            self._reading[run] = True
        elif (execution := self._engine.executions.get(run)) is not None and execution.live:
            self._reading[run] = False
            self._engine.spawn(self._bring(execution))

    async def _bring(self, execution: Execution) -> None:
        run = execution.id
        try:
            await self._read(execution)
        finally:
            if self._reading.pop(run):
                self.bring(run)

    async def _read(self, execution: Execution) -> None:
        log, stream, talk = self._engine.store.log, query_stream(execution.id), talk_of(execution)
        records = await log.read(stream, talk.heard)
        answered = {record.key for record in records if record.kind == Kind.QUERY_ANSWERED}
        young = self._engine.now() - round(STALE * MICROSECONDS)
        answers: list[Event] = []
        for record in records:
            talk.heard = record.version
            if record.kind == Kind.QUERY_SENT and record.key not in answered and record.at > young:
                asked = msgspec.json.decode(record.data, type=Update)
                if (data := await self.near(execution.id, asked.name, bytes(asked.input))) is None:
                    break  # it left memory: whoever has it next is asked again
                answers.append(Event(Kind.QUERY_ANSWERED, self._engine.now(), record.key, data))
        if not answers:
            return
        # Only its owner answers: one that was paused and succeeded would tell of a state long past.
        owner = Group(execution.stream, token=execution.token)
        with suppress(AppendRefused):
            await append(log, self._engine.numbers.new(), owner, Group(stream, answers))
            self._engine.store.signal.wake([stream])
        if talk.heard - talk.trimmed > 2 * self.keep:
            talk.trimmed = talk.heard - self.keep
            await log.trim(stream, talk.trimmed)


def _is_quiet(execution: Execution) -> bool:
    """Tell whether a body is between two records: nothing of it is half done."""
    return execution.live and not execution.loop.ready and not execution.done and not execution.finishing
