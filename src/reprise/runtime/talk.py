"""What is said to a run, and by it, while it goes on: the state of its queries, updates, questions and streams in memory.

What a run says to others stands in ``talk/<id>``. It follows from the history, so a body that is replayed says it again;
what stands there already is not written twice.
"""

from __future__ import annotations

from asyncio import events
from collections.abc import Callable, Mapping
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any

import msgspec

from reprise.kernel.arguments import Arguments
from reprise.kernel.codec import standard
from reprise.kernel.errors import BodyError, ConfigurationError, RepriseError, StoreError, UnknownHandler
from reprise.kernel.events import Event, Kind, Reply, talk_stream
from reprise.runtime.branch import BRANCH, RUN, Branch
from reprise.stores.log import Group, Log

if TYPE_CHECKING:
    from reprise.runtime.asking import Asked
    from reprise.runtime.engine import Engine
    from reprise.runtime.execution import Execution
    from reprise.runtime.streams import Outlet


LONGEST_WARNING = 200
"""Characters of the questions of a run that the index shows."""
KEPT = 1000
"""Records in ``talk/<id>`` that are never trimmed while the run goes on, the latest."""


class Handler:
    """A function of a body that others may call by its name."""

    __slots__ = ("arguments", "context", "function", "name", "validator")

    def __init__(
        self, function: Callable[..., Any], name: str, validator: Callable[..., None] | None = None
    ) -> None:
        self.function = function
        self.name = name
        self.arguments = Arguments(function)
        self.validator = validator
        self.context = copy_context()

    def call_of(self, input: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments of a call that came as data; raises ``CodecError`` or ``TypeError`` if they do not fit."""
        args, kwargs = self.arguments.decode(input)
        self.arguments.check_call(args, kwargs)
        return args, kwargs

    def encode(self, value: Any) -> bytes:
        """Encode what the function returned by its declared type."""
        return standard.encode(value, self.arguments.returns)


class Talk:
    """What one run in memory listens to and has to say."""

    __slots__ = "asked branch execution heard held opened outlets queries questions running said shown trimmed unsaid updates".split()

    def __init__(self, execution: Execution) -> None:
        self.execution = execution
        self.queries: dict[str, Handler] = {}
        self.updates: dict[str, Handler] = {}
        self.running: dict[str, None] = {}
        """Updates that were admitted and not answered."""
        self.questions: dict[str, Asked] = {}
        """Open ones by key."""
        self.asked: dict[str, None] = {}
        """Keys of all questions of this generation."""
        self.outlets: dict[str, Outlet] = {}
        """Streams of partial output by name."""
        self.opened: set[str] = set()
        """Names of those that have been written to here."""
        self.branch = Branch("/update")
        self.held = False
        """Nothing is appended for a moment, so that the state of the body is that of the end of the log."""
        self.heard = self.trimmed = 0
        """Versions of ``query/<id>``: up to which it was read, and trimmed."""
        self.said: set[tuple[int, str]] | None = None
        """What stands in ``talk/<id>``, None = not read yet."""
        self.shown = "" if execution.fresh else None
        """What the index says of the questions, None = not known."""
        self.unsaid: dict[tuple[int, str], Event] = {}

    @property
    def listens(self) -> bool:
        """Whether something from outside may wake the body."""
        return bool(self.updates or self.questions)

    @property
    def busy(self) -> bool:
        """Whether something is to be said or written, and was not handed to the log yet."""
        return bool(self.unsaid) or self.is_unsure or any(one.gathered for one in self.outlets.values())

    @property
    def is_unsure(self) -> bool:
        """Whether a replayed body wrote what may stand in its streams already."""
        return any(one.pending for one in self.outlets.values())

    def scoped(self, key: str) -> str:
        """Return a key of this generation as no other generation of the run has it."""
        if not (generation := self.execution.generation):
            return key
        return f"~{generation}{key if not key or key[0] in ':/' else ':' + key}"

    def flush(self) -> None:
        """Let all chunks that were gathered go with the next append."""
        for outlet in self.outlets.values():
            outlet.flush()

    def say(self, kind: Kind, key: str, data: bytes) -> None:
        """Say something to others, with the next append, unless it was said."""
        execution = self.execution
        if execution.done or (self.said is not None and (kind, key) in self.said):
            return
        self.unsaid[kind, key] = Event(kind, execution.host.now(), key, data)
        if execution.live:
            self.speak()

    def speak(self) -> None:
        """Append what is to be said and does not stand there already; if that is not known, look first."""
        execution = self.execution
        if not self.unsaid or execution.done or execution.finishing:
            return
        if self.said is None:
            execution.host.recall(self)
            return
        if fresh := self.last_words():
            stream = talk_stream(execution.id)
            host = execution.host
            execution.send(Group(stream, fresh), lambda written: host.tap([stream]) if written else None)

    def last_words(self) -> list[Event]:
        """Return what is to be said and was not; from now on it counts as said."""
        said = self.said or set[tuple[int, str]]()
        fresh = [event for place, event in self.unsaid.items() if place not in said]
        if self.said is not None:
            self.said.update(self.unsaid)
        self.unsaid.clear()
        return fresh

    def show_questions(self) -> None:
        """Let the index say what the run asks."""
        execution = self.execution
        if not self.asked or not execution.live or execution.done or execution.finishing:
            return
        texts = [f"{one.to}: {one.text}" if one.to else one.text for one in self.questions.values()]
        warning = f"asks {'; '.join(text or 'a question' for text in texts)}" if texts else ""
        if warning != self.shown:
            self.shown = warning
            execution.alter(warning=execution.host.payloads.text(warning)[:LONGEST_WARNING])

    def reply(self, id: str, value: bytes = b"null", error: BaseException | None = None) -> None:
        """Say what came of an update, or of an answer to a question."""
        self.running.pop(id, None)
        self.say(Kind.REPLIED, id, reply(self.execution, value, error))


def reply(execution: Execution, value: bytes = b"null", error: BaseException | None = None) -> bytes:
    """Return a reply as it is written."""
    payloads = execution.host.payloads
    try:
        payloads.within(value, "An answer of run {}", execution.id)
    except RepriseError as too_large:
        error = too_large
    if error is not None:
        return msgspec.json.encode(Reply(error=payloads.failure(error)))
    return msgspec.json.encode(Reply(msgspec.Raw(value)))


def talk_of(execution: Execution) -> Talk:
    """Return the talk of a run, made when it is first asked for."""
    if execution.talk is None:
        execution.talk = Talk(execution)
    return execution.talk


async def recall(engine: Engine, talk: Talk) -> None:
    """Read what a run has said so far, and say the rest."""
    execution = talk.execution
    if talk.said is None:
        try:
            records = await engine.store.log.read(talk_stream(execution.id))
        except StoreError as error:
            execution.lose(error)
            raise
        if talk.said is None:
            talk.said = {(record.kind, record.key) for record in records}
    talk.speak()


async def trim_talk(log: Log, run: str, position: int) -> None:
    """Trim away what a run said before a position of the log, but for the latest.

    All of it is of generations that ended, so no question among it is open and no update under way.
    """
    stream = talk_stream(run)
    last, through = (await log.head(stream)).version - KEPT, 0
    while last > 0 and (said := await log.read(stream, through, KEPT)):
        old = [record.version for record in said if record.position < position and record.version <= last]
        through = max(old, default=through)
        if len(old) < len(said):
            break
    if through:
        await log.trim(stream, through)


def go_live(execution: Execution) -> None:
    """Say what a replayed body has to say and what is not known to stand there already."""
    if execution.talk is not None and not execution.done:
        if execution.talk.is_unsure:
            execution.host.recall(execution.talk)
        execution.talk.speak()
        execution.talk.show_questions()


def body(what: str) -> Execution:
    """Return the run whose body is running and calls ``what``.

    Raises:
        BodyError: called outside of a body.
    """
    execution = RUN.get()
    if execution is None:
        raise BodyError(
            f"There is no run here for {what}.", hint="Use it in the body of a workflow, not in a step."
        )
    if events._get_running_loop() is not execution.loop:
        raise execution.loop.elsewhere(what)
    return execution


def register(handlers: dict[str, Handler], handler: Handler, what: str) -> None:
    """Let others call a handler.

    Raises:
        ConfigurationError: the run has one of that name.
    """
    if handler.name in handlers:
        raise ConfigurationError(
            f"The body has two handlers for the {what} {handler.name!r}.", hint="Give one another name=."
        )
    handlers[handler.name] = handler


def pick(execution: Execution, handlers: Mapping[str, Handler], name: str, what: str) -> Handler:
    """Return the handler of a name.

    Raises:
        UnknownHandler: the body has none.
    """
    if name in handlers:
        return handlers[name]
    known = ", ".join(sorted(handlers))
    raise UnknownHandler(
        f"Run {execution.id} has no {what} {name[:60]!r}.",
        hint=f"It has: {known}." if known else f"Its body registers no {what} so far.",
    )


def context_of(handler: Handler, branch: Branch, run: Execution | None) -> Context:
    """Return the context that a handler was registered in, for a call of it on a branch of its own."""
    context = handler.context.copy()
    context.run(BRANCH.set, branch)
    context.run(RUN.set, run)
    return context
