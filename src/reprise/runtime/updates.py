"""Updates: what others may change in a running body, by a function of the body that may have steps.

An update waits in the inbox until the body has heard all that is in the log. Then its validator looks at it: accepted, it
is recorded as the next event and its handler begins just there, so what the validator saw is what the handler meets;
refused, it never enters the history. Either way the caller is told in ``talk/<id>``.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

import msgspec

from reprise.kernel.errors import (
    CodecError,
    NonDeterminismError,
    ReplyGone,
    RepriseError,
    RunEnded,
    UpdateRefused,
)
from reprise.kernel.events import Event, Kind, Record, Update
from reprise.runtime.asking import refusal_of
from reprise.runtime.queries import is_unsound, leave_unsound, peek
from reprise.runtime.talk import Handler, Talk, body, context_of, pick, recall, register, talk_of

if TYPE_CHECKING:
    from reprise.runtime.engine import Engine
    from reprise.runtime.execution import Execution

P = ParamSpec("P")
R = TypeVar("R")


@overload
def update(function: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def update(
    *, validator: Callable[P, None] | None = None, name: str = ""
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...


def update(
    function: Callable[..., Any] | None = None,
    /,
    *,
    validator: Callable[..., None] | None = None,
    name: str = "",
) -> Any:
    """Let others call a function of the body while the run goes on: ``await handle.update("add", item)``.

    It decorates a function in the body of a workflow, async or plain, which is what it stays. An update is applied once
    for its id, in the order of the log, as a task of the body: an async one may have steps, and what it returns or
    raises is the caller's. ``validator`` is a plain function of the same arguments that only reads: what it raises
    refuses the update, of which nothing is recorded then. Register before the first ``await``.

    An update that is under way when the body ends is cancelled, and its caller told so.

    Raises:
        BodyError: used outside of a body.
        ConfigurationError: the body has another update of that name.
    """
    if function is None:
        return partial(update_of, validator=validator, name=name)
    return update_of(function)


def update_of(
    function: Callable[..., Any], validator: Callable[..., None] | None = None, name: str = ""
) -> Callable[..., Any]:
    """Register an update; see :func:`update`."""
    execution = body("@update")
    handler = Handler(function, name or function.__name__, validator)
    register(talk_of(execution).updates, handler, "update")
    return function


# ---------------------------------------------------------------- admission


async def admit(engine: Engine, execution: Execution, mail: Record) -> bool:
    """Take an update, or an answer to a question, into the history, or refuse it.

    False = it stays in the inbox: the run leaves memory, or its next generation is to hear it.
    """
    talk = talk_of(execution)
    if talk.said is None:
        await recall(engine, talk)
    if (Kind.REPLIED, mail.key) in (talk.said or ()) or (Kind.REPLIED, mail.key) in talk.unsaid:
        return not execution.done  # it was refused before, maybe by an owner before
    # What is recorded meanwhile is kept back for a moment: it will stand behind.
    talk.held = True
    try:
        while not _is_at_end(execution):
            if execution.done or execution.finishing:
                return False
            if execution.alone is not None:
                await asyncio.shield(execution.alone)
                continue
            await execution.news()
        if execution.done or execution.finishing or execution.wish is not None:
            return False
        refusal = _refusal(execution, mail)
        recorded = None
        if refusal is None:
            recorded = _accept(execution, mail)
        else:
            talk.reply(mail.key, error=refusal)
    finally:
        talk.held = False
        if execution.marked and not execution.done:
            engine.dirty(execution)
    if is_unsound(execution):
        await leave_unsound(engine, execution)
        return False
    return recorded is None or await recorded


async def repeat(engine: Engine, execution: Execution, mail: Record) -> None:
    """Tell who sent again what an earlier generation took that nobody knows any more what came of it, if that is so."""
    if execution.continued is None or mail.key not in execution.continued.seen:
        return  # it is replied to by this generation, or was
    talk = talk_of(execution)
    if talk.said is None:
        await recall(engine, talk)
    if (Kind.REPLIED, mail.key) not in (talk.said or ()):
        what, _, id = mail.key.partition("/")
        gone = f"Run {execution.id} took the {what} {id!r} long ago; what came of it is no longer kept."
        talk.reply(mail.key, error=ReplyGone(gone, hint="Look at its state: it is not done again."))


def _is_at_end(execution: Execution) -> bool:
    """Tell whether a body has heard all that is in the log, and is quiet."""
    return not (execution.acks or execution.pending or execution.scheduled or execution.loop.ready)


def _refusal(execution: Execution, mail: Record) -> BaseException | None:
    """Return why an update or an answer is not taken, None if it is."""
    if execution.ending or execution.failing is not None:
        return RunEnded(f"Run {execution.id} is ending and takes nothing more.", hint="Start a new one.")
    try:
        if mail.kind == Kind.ANSWER_SENT:
            return refusal_of(execution, mail)
        sent = msgspec.json.decode(mail.data, type=Update)
        handler = pick(execution, talk_of(execution).updates, sent.name, "update")
        args, kwargs = handler.call_of(bytes(sent.input))
    except (RepriseError, TypeError, msgspec.MsgspecError) as error:
        return error if isinstance(error, RepriseError) else CodecError(f"{error}.")
    if handler.validator is None:
        return None
    try:
        peek(execution, handler, handler.validator, args, kwargs)
    except Exception as error:
        return UpdateRefused(
            f"Run {execution.id} refused the update {sent.name!r}: {error or type(error).__name__}",
            hint="Nothing happened.",
        )
    return None


def _accept(execution: Execution, mail: Record) -> asyncio.Future[bool]:
    """Record mail as the very next event that the body is given; the future says whether that was done."""
    kind = Kind.UPDATE_RECEIVED if mail.kind == Kind.UPDATE_SENT else Kind.ANSWER_RECEIVED
    at = execution.out[0].at if execution.out else max(execution.host.now(), execution.last_at)
    execution.last_at = max(execution.last_at, at)
    event = Event(kind, at, mail.key, mail.data)
    if execution.pipeline is None:
        execution.out.insert(0, event)
    else:
        execution.pipeline.insert(execution.out, event)
    execution.mark()
    return execution.written()


# ---------------------------------------------------------------- the handler


def begin_update(execution: Execution, record: Event | Record) -> None:
    """Let the handler of an update begin, as a task of the body.

    Raises:
        NonDeterminismError: this code has no such handler, or it takes other arguments.
    """
    talk = talk_of(execution)
    sent = msgspec.json.decode(record.data, type=Update)
    try:
        handler = pick(execution, talk.updates, sent.name, "update")
        args, kwargs = handler.call_of(bytes(sent.input))
    except (RepriseError, TypeError) as error:
        raise NonDeterminismError(
            f"Run {execution.id} recorded the update {sent.name!r} ({record.key}), which this code does not take. {error}",
            hint="Run it with the code that started it.",
        ) from error
    talk.running[record.key] = None
    coroutine = _apply(handler, args, kwargs)
    coroutine.__qualname__ = handler.name
    context = context_of(handler, talk.branch, execution)
    task = context.run(execution.loop.create_task, coroutine)
    task.add_done_callback(partial(_applied, talk, handler, record.key), context=context)


async def _apply(handler: Handler, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    value = handler.function(*args, **kwargs)
    return await value if inspect.isawaitable(value) else value


def _applied(talk: Talk, handler: Handler, id: str, task: asyncio.Task[Any]) -> None:
    """Say what came of an update."""
    if task.cancelled():
        run = talk.execution.id
        what = f"Run {run} ended, or cancelled the update {handler.name!r}, before it was through."
        talk.reply(id, error=RunEnded(what, hint=f"Look: reprise show {run}"))
    elif (error := task.exception()) is not None:
        talk.reply(id, error=error)
    else:
        try:
            talk.reply(id, handler.encode(task.result()))
        except RepriseError as unwritable:
            talk.reply(id, error=unwritable)
