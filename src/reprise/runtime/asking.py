"""Asking a person: a body waits for an answer that fits a type, whoever gives it, from wherever.

The question stands in ``talk/<id>`` with the JSON schema of what may be answered, so that it can be answered without the
code. The first answer that fits wins; whether it does, and whether it came in time, is decided where the run is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

import msgspec

from reprise.kernel.clock import MICROSECONDS
from reprise.kernel.codec import standard
from reprise.kernel.errors import AnswerRefused, CodecError, NonDeterminismError, QuestionClosed
from reprise.kernel.events import Answer, Closed, Event, Kind, Question, Record
from reprise.kernel.policy import seconds
from reprise.kernel.schema import misfits, schema_of
from reprise.runtime.branch import BRANCH
from reprise.runtime.ending import unreached
from reprise.runtime.talk import Talk, body, talk_of

if TYPE_CHECKING:
    from reprise.runtime.execution import Execution

T = TypeVar("T")

_NOTHING: Any = object()


class Asked:
    """An open question of a body."""

    __slots__ = ("by", "decode", "future", "text", "to")

    def __init__(
        self, future: asyncio.Future[Any], decode: Callable[[bytes], Any], text: str, to: str
    ) -> None:
        self.future = future
        self.decode = decode
        self.text = text
        self.to = to
        self.by: str | None = None
        """Who answered, None = nobody yet."""


@overload
async def ask(
    type: type[T],
    question: str = "",
    *,
    to: str = "",
    timeout: float | timedelta | None = None,
    on_timeout: T = ...,
    key: str = "",
) -> T: ...
@overload
async def ask(
    type: Any,
    question: str = "",
    *,
    to: str = "",
    timeout: float | timedelta | None = None,
    on_timeout: Any = ...,
    key: str = "",
) -> Any: ...


async def ask(
    type: Any,
    question: str = "",
    *,
    to: str = "",
    timeout: float | timedelta | None = None,
    on_timeout: Any = _NOTHING,
    key: str = "",
) -> Any:
    """Ask a person, and wait for an answer of a type.

    ``await ask(bool, "Ship it?", to="sales")``

    The question is shown by ``reprise ps`` and ``reprise show`` and answered by ``reprise answer`` or
    ``client.answer``, once: of several answers the first that fits wins, and later ones are told so. What does not fit
    is refused with the reasons and changes nothing. The wait holds no worker slot and survives restarts.

    ``type`` may be a JSON schema, as a dict: for a form that is data itself. ``to`` says whom the question is meant for; it is shown, not checked. ``timeout`` in seconds or as timedelta, None =
    for ever; when it is over, the question takes no answer any more and ``on_timeout`` is returned. ``key`` names the
    question where a refactoring must not move it.

    Raises:
        TimeoutError: nobody answered in time, and ``on_timeout`` was not given.
        BodyError: called outside of a body, or two questions have one key.
        CodecError: answers of that type cannot be read.
    """
    execution = body("ask()")
    decode, schema = _form(type)
    limit = None if timeout is None else seconds(timeout, "timeout")
    talk = talk_of(execution)
    key = _key(execution, talk, key or BRANCH.get().step("ask"))
    asked = Asked(execution.loop.create_future(), decode, question, to)
    talk.questions[key] = asked
    expires_at = 0 if limit is None else round((execution.loop.now + limit) * MICROSECONDS)
    text = execution.host.payloads.text
    data = msgspec.json.encode(Question(text(question), schema, text(to), expires_at))
    talk.say(Kind.QUESTION_ASKED, key, data)
    talk.show_questions()
    try:
        async with asyncio.timeout(limit):
            return await asked.future
    except TimeoutError:
        if on_timeout is _NOTHING:
            raise
        return on_timeout
    finally:
        talk.questions.pop(key, None)
        closed = Closed("expired") if asked.by is None else Closed("answered", asked.by)
        talk.say(Kind.QUESTION_CLOSED, key, msgspec.json.encode(closed))
        talk.show_questions()


def _form(type: Any) -> tuple[Callable[[bytes], Any], dict[str, Any]]:
    """Return how an answer is read and the schema that it must fit."""
    if not isinstance(type, dict):
        return standard.decoder(type), schema_of(type)
    schema = cast("dict[str, Any]", type)

    def decode(data: bytes) -> Any:
        value = standard.decode(data)
        if wrong := misfits(value, schema):
            raise CodecError(f"{'; '.join(wrong)}.")
        return value

    return decode, schema


def _key(execution: Execution, talk: Talk, key: str) -> str:
    """Return the key of a question, which no other question of the run has."""
    key = talk.scoped(key)
    if key in talk.asked:
        execution.loop.forbid(f"Two questions under the one key {key!r}", hint="Give each a key of its own.")
    talk.asked[key] = None
    return key


def refusal_of(execution: Execution, mail: Record) -> BaseException | None:
    """Return why an answer is not taken, None if it is."""
    answer = msgspec.json.decode(mail.data, type=Answer)
    asked = talk_of(execution).questions.get(answer.question)
    if asked is None or asked.future.done():
        return QuestionClosed(
            f"Run {execution.id} has no open question {answer.question[:60]!r}: it was answered, or has expired.",
            hint=f"Look: reprise show {execution.id}",
        )
    try:
        asked.decode(bytes(answer.value))
    except CodecError as error:
        return AnswerRefused(f"The answer does not fit. {error.what}", hint="The question stays open.")
    return None


def give_answer(execution: Execution, record: Event | Record) -> None:
    """Let a body have the answer to a question.

    Raises:
        NonDeterminismError: it did not ask that.
    """
    talk = talk_of(execution)
    answer = msgspec.json.decode(record.data, type=Answer)
    if answer.question not in talk.asked:
        raise unreached(execution, "answer to", answer.question)
    asked = talk.questions.get(answer.question)
    if asked is not None and not asked.future.done():
        try:
            value = asked.decode(bytes(answer.value))
        except CodecError as error:
            raise NonDeterminismError(
                f"Run {execution.id} recorded an answer to {answer.question!r} that is of another type now. {error.what}",
                hint="Run it with the code that started it.",
            ) from error
        asked.by = answer.by
        asked.future.set_result(value)
    talk.reply(record.key)
