"""What anybody who can open the store may ask of a run, and change in it, while it goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Generic, TypeVar, overload

import msgspec

from reprise.kernel.clock import Clock
from reprise.kernel.codec import encode_as_it_is, standard
from reprise.kernel.errors import (
    AnswerRefused,
    ChunksGone,
    QuestionClosed,
    ReplyGone,
    RepriseError,
    ResultTimeout,
    RunEnded,
    RunNotFound,
    RunPaused,
    StreamClosed,
    StreamMissing,
    UnknownHandler,
)
from reprise.kernel.events import (
    Answer,
    Closed,
    Event,
    Finished,
    Kind,
    Question,
    Reply,
    Update,
    inbox_stream,
    out_stream,
    query_stream,
    run_stream,
    talk_stream,
)
from reprise.kernel.failures import decode_error
from reprise.kernel.ids import Counter, Ids
from reprise.kernel.machine import RESTING, RUN
from reprise.kernel.schema import misfits
from reprise.runtime.payloads import Payloads
from reprise.stores.log import Group, RunChange, append
from reprise.stores.runs import RunRow, find_row
from reprise.stores.store import Store

T = TypeVar("T")

LOOK_AGAIN = 0.5
"""Seconds after which whoever waits for an answer looks, and taps, again."""
PATIENCE = 10.0
"""Seconds that a query, or an answer, waits for somebody who has the run."""
PAGE = 1000
"""Chunks that are read at once."""


class OpenQuestion(msgspec.Struct, frozen=True):
    """A question of a run that waits for an answer."""

    run: str
    key: str
    text: str
    to: str
    """Whom it is meant for."""
    schema: dict[str, Any]
    """JSON schema of what may be answered."""
    asked_at: int
    """Microseconds since the epoch."""
    expires_at: int
    """Microseconds since the epoch, 0 = never."""


class Chunk(msgspec.Struct, Generic[T], frozen=True):
    """A piece of partial output, or the note that a step begins anew."""

    offset: int
    """Its place in the stream: whoever goes on after it asks for ``after=offset``."""
    value: T | None
    step: str
    """Key of the step that wrote it, '' = the body."""
    restarts: bool = False
    """True = no piece: an attempt of this step did not end, and what it wrote before is void."""


class Replies:
    """Those who wait in this process for what a run replies."""

    def __init__(self, run: str) -> None:
        self.run = run
        self.users = 0
        self.reader: asyncio.Future[None] | None = None
        self.futures: dict[str, asyncio.Future[Reply | None]] = {}
        self.sent: set[str] = set()
        """Ids of mail that was sent: if the run ends without a reply to it, there will be none."""

    def of(self, id: str) -> asyncio.Future[Reply | None]:
        """Return the future of the reply to a piece of mail; None = the run ended without one."""
        return self.futures.setdefault(id, asyncio.get_running_loop().create_future())

    def settle(self, id: str, reply: Reply | None) -> None:
        """Hand over a reply."""
        self.sent.discard(id)
        future = self.futures.pop(id, None)
        if future is not None and not future.done():
            future.set_result(reply)

    def fail(self, error: Exception) -> None:
        """Let everybody have an error."""
        for future in self.futures.values():
            if not future.done():
                future.set_exception(error)
        self.futures.clear()


class Dialogue:
    """Queries, updates, questions and streams of the runs of one store, from outside of them.

    The part of :class:`~reprise.runtime.client.Client` that is about runs which answer.
    """

    def __init__(self, store: Store, clock: Clock, payloads: Payloads) -> None:
        self._store = store
        self._clock = clock
        self._payloads = payloads
        self._ids = Ids(clock.now)
        self._numbers = Counter()
        self._waiting: dict[str, Replies] = {}
        self.near: Callable[[str, str, bytes], Awaitable[bytes | None]] | None = None
        """Answers queries about the runs in the memory of this process."""

    async def row(self, run: str) -> RunRow:
        """Return the index row of a run.

        Raises:
            RunNotFound: there is none.
        """
        row = await find_row(self._store.runs, run)
        if row is None:
            raise no_such_run(run)
        return row

    async def finished(self, run: str) -> Finished | None:
        """Return how a run ended, None while it has not."""
        head = await self._store.log.head(run_stream(run))
        if not head.closed:
            return None
        # It may be deleted meanwhile, and another run have its id.
        last = await self._store.log.read(run_stream(run), head.version - 1, 1)
        if not last or last[0].kind != Kind.RUN_FINISHED:
            return None
        return msgspec.json.decode(last[0].data, type=Finished)

    async def _mail(self, run: str, kind: Kind, id: str, data: bytes = b"", **change_of_run: Any) -> None:
        """Put mail into a run's inbox."""
        now = self._clock.now()
        change = RunChange(run, due_at=now, at=now, **change_of_run)
        group = Group(inbox_stream(run), [Event(kind, now, id, data)], guard=run_stream(run), run=change)
        try:
            await append(self._store.log, self._numbers.new(), group)
        except StreamMissing:
            raise no_such_run(run) from None
        except StreamClosed:
            raise RunEnded(f"Run {run} has ended and takes nothing more.", hint="Start a new one.") from None
        self._store.signal.wake([inbox_stream(run), "runs"])

    # ---------------------------------------------------------------- queries

    @overload
    async def query(
        self,
        run: str,
        name: str,
        /,
        *args: Any,
        type: type[T],
        kwargs: Mapping[str, Any] | None = None,
        timeout: float = PATIENCE,
    ) -> T: ...
    @overload
    async def query(
        self,
        run: str,
        name: str,
        /,
        *args: Any,
        type: Any = Any,
        kwargs: Mapping[str, Any] | None = None,
        timeout: float = PATIENCE,
    ) -> Any: ...

    async def query(
        self,
        run: str,
        name: str,
        /,
        *args: Any,
        type: Any = Any,
        kwargs: Mapping[str, Any] | None = None,
        timeout: float = PATIENCE,
    ) -> Any:
        """Ask a run that goes on about its state (see :func:`~reprise.query`) and return the answer, read as ``type``.

        A run that is in nobody's memory is loaded for it. Nothing is recorded.

        Raises:
            UnknownHandler: its body answers no such query.
            ResultTimeout: nobody who has the run answered in ``timeout`` seconds.
            RunNotFound, RunEnded, RunPaused, CodecError; what the query itself raised.
        """
        input = self._call(run, name, args, kwargs or {})
        data = await self.near(run, name, input) if self.near is not None else None
        if data is None:
            data = await self._query_elsewhere(run, name, input, timeout)
        return _value_of(msgspec.json.decode(data, type=Reply), type)

    async def _query_elsewhere(self, run: str, name: str, input: bytes, timeout: float) -> bytes:
        id, stream = self._ids.new(), query_stream(run)
        sent = msgspec.json.encode(Update(name, msgspec.Raw(input)))
        _check_awake(await self.row(run))
        try:
            event = Event(Kind.QUERY_SENT, self._clock.now(), id, sent)
            group = Group(stream, [event], guard=run_stream(run))
            asked = await append(self._store.log, self._numbers.new(), group)
        except StreamMissing:
            raise no_such_run(run) from None
        except StreamClosed:
            raise _ended(run) from None
        after, until = asked.versions[0], self._clock.monotonic() + timeout
        async with self._listening(stream, run_stream(run)) as tapped:
            while True:
                await self._call_for(run, [stream, "runs"])
                for record in await self._store.log.read(stream, after):
                    after = record.version
                    if record.kind == Kind.QUERY_ANSWERED and record.key == id:
                        return record.data
                await tapped(until)
                if self._clock.monotonic() >= until:
                    raise ResultTimeout(
                        f"Nobody who has run {run} answered the query {name!r} in {timeout:g} s.",
                        hint="Is a worker with its code running?  reprise doctor",
                    )

    async def _call_for(self, run: str, tap: Sequence[str]) -> None:
        """Let somebody load a run that nobody has, and tap them."""
        row = await self.row(run)
        _check_awake(row)
        now = self._clock.now()
        if row.owner is None and (row.due_at is None or row.due_at > now):
            await self._store.runs.mark(run, now)
        self._store.signal.wake(tap)

    # ---------------------------------------------------------------- updates

    @overload
    async def update(
        self,
        run: str,
        name: str,
        /,
        *args: Any,
        type: type[T],
        kwargs: Mapping[str, Any] | None = None,
        id: str = "",
        timeout: float | None = None,
    ) -> T: ...
    @overload
    async def update(
        self,
        run: str,
        name: str,
        /,
        *args: Any,
        type: Any = Any,
        kwargs: Mapping[str, Any] | None = None,
        id: str = "",
        timeout: float | None = None,
    ) -> Any: ...

    async def update(
        self,
        run: str,
        name: str,
        /,
        *args: Any,
        type: Any = Any,
        kwargs: Mapping[str, Any] | None = None,
        id: str = "",
        timeout: float | None = None,
    ) -> Any:
        """Change a run that goes on (see :func:`~reprise.update`) and return what came of it, read as ``type``.

        It is applied once for its ``id``; the same id again gives the same answer, also when the run has ended.

        Raises:
            UpdateRefused: the validator refused it; nothing happened.
            UnknownHandler: the body takes no such update.
            RunEnded: the run ended before the update was through.
            ResultTimeout: no reply in ``timeout`` seconds; it is kept, ask again with the same id.
            RunNotFound, CodecError, PayloadTooLarge; what the update itself raised.
        """
        data = msgspec.json.encode(Update(name, msgspec.Raw(self._call(run, name, args, kwargs or {}))))
        what = f"The update {name!r} of run {run}"
        reply = await self._sent_and_replied(run, Kind.UPDATE_SENT, id, data, what, timeout)
        return _value_of(reply, type)

    async def _sent_and_replied(
        self, run: str, kind: Kind, id: str, data: bytes, what: str, timeout: float | None
    ) -> Reply:
        """Send mail that is replied to, unless it was before, and return the reply."""
        known, id = id, id or self._ids.new()
        key = mail_key(kind, id)
        async with self._replies(run) as replies:
            future = replies.of(key)  # first: what comes while we look would be nobody's
            if known and (reply := await self._reply(run, key)) is not None:
                return reply
            await self._mail(run, kind, key, data)
            replies.sent.add(key)
            try:
                async with asyncio.timeout(timeout):
                    reply = await asyncio.shield(future)
            except TimeoutError:
                raise ResultTimeout(
                    f"{what} was sent and has no reply after {timeout} s.",
                    hint=f"It is kept; ask again with the same id: {id}",
                ) from None
        if reply is None:
            raise await self._unheard(run, key, what)
        return reply

    async def _unheard(self, run: str, key: str, what: str) -> RepriseError:
        """Return why a run that has ended said nothing: it never took the mail, or its reply was lost with its worker."""
        records = await self._store.log.read(run_stream(run))
        if any(record.key == key for record in records):
            gone = f"{what} was taken, and the run ended before it was written what came of it."
            return ReplyGone(gone, hint="Look at its result: it is not done again.")
        return RunEnded(f"{what} came too late: the run ended first.", hint="Nothing happened.")

    @asynccontextmanager
    async def _replies(self, run: str) -> AsyncGenerator[Replies]:
        """Read what a run says, once for all that wait here for its replies."""
        replies = self._waiting.get(run)
        if replies is None:
            replies = self._waiting[run] = Replies(run)
        replies.users += 1
        try:
            if replies.reader is None:
                after = (await self._store.log.head(talk_stream(run))).version
                replies.reader = replies.reader or asyncio.ensure_future(self._read(replies, after))
            yield replies
        finally:
            replies.users -= 1
            if not replies.users:
                self._waiting.pop(run, None)
                if replies.reader is not None:
                    replies.reader.cancel()

    async def _read(self, replies: Replies, after: int) -> None:
        """Hand replies to those who wait for them; a failure is theirs, too."""
        run = replies.run
        stream = talk_stream(run)
        try:
            async with self._listening(stream, run_stream(run)) as tapped:
                while True:
                    sent = set(replies.sent)
                    has_ended = await self.finished(run) is not None
                    for record in await self._store.log.read(stream, after):
                        after = record.version
                        if record.kind == Kind.REPLIED and record.key in replies.futures:
                            replies.settle(record.key, msgspec.json.decode(record.data, type=Reply))
                    for id in sent if has_ended else ():
                        replies.settle(id, None)
                    if not await tapped(None):
                        self._store.signal.wake([inbox_stream(run)])
        except Exception as error:
            self._waiting.pop(run, None)
            replies.fail(error)

    # ---------------------------------------------------------------- questions

    async def questions(self, run: str) -> list[OpenQuestion]:
        """Return what a run asks people (see :func:`~reprise.ask`) and nobody answered, oldest first."""
        if await self.finished(run) is not None:
            return []
        found: dict[str, OpenQuestion] = {}
        for record in await self._store.log.read(talk_stream(run)):
            if record.kind == Kind.QUESTION_ASKED:
                asked = msgspec.json.decode(record.data, type=Question)
                found[record.key] = OpenQuestion(
                    run, record.key, asked.text, asked.to, asked.schema, record.at, asked.expires_at
                )
            elif record.kind == Kind.QUESTION_CLOSED:
                found.pop(record.key, None)
        now = self._clock.now()
        return [one for one in found.values() if not one.expires_at or one.expires_at > now]

    async def answer(
        self,
        run: str,
        value: Any,
        *,
        question: str = "",
        by: str = "",
        id: str = "",
        timeout: float | None = PATIENCE,
    ) -> None:
        """Answer what a run asks; ``question`` is its key, needed where the run asks several.

        When this returns the answer is the one that counts. The same ``id`` again is the same answer.

        Raises:
            AnswerRefused: it does not fit; says why. The question stays open.
            QuestionClosed: another answer was first, or the question has expired.
            UnknownHandler: the run asks nothing, or several things, or nothing of that key.
            ResultTimeout: nobody who has the run took it in ``timeout`` seconds; it is kept and counts, if it is first.
            RunNotFound, RunEnded, CodecError, PayloadTooLarge.
        """
        data = self._payloads.within(encode_as_it_is(value), "The answer to run {}", run)
        reply = await self._reply(run, mail_key(Kind.ANSWER_SENT, id)) if id else None
        if reply is None:
            asked = await self._open_question(run, question)
            if reasons := misfits(msgspec.json.decode(data), asked.schema):
                raise AnswerRefused(
                    f"The answer does not fit: {'; '.join(reasons[:5])}.", hint="The question stays open."
                )
            sent = msgspec.json.encode(Answer(asked.key, msgspec.Raw(data), by))
            what = f"The answer to {asked.key!r} of run {run}"
            reply = await self._sent_and_replied(run, Kind.ANSWER_SENT, id, sent, what, timeout)
        _value_of(reply, Any)

    async def _reply(self, run: str, key: str) -> Reply | None:
        for record in await self._store.log.read(talk_stream(run)):
            if record.kind == Kind.REPLIED and record.key == key:
                return msgspec.json.decode(record.data, type=Reply)
        return None

    async def _open_question(self, run: str, key: str) -> OpenQuestion:
        await self.row(run)
        found = await self.questions(run)
        if key:
            found = [one for one in found if one.key == key]
        if len(found) == 1:
            return found[0]
        if found:
            keys = ", ".join(repr(one.key) for one in found)
            raise UnknownHandler(f"Run {run} asks {len(found)} questions.", hint=f"Say which: {keys}")
        if key:
            raise await self._closed(run, key)
        raise UnknownHandler(f"Run {run} asks nothing now.", hint=f"Look: reprise show {run}")

    async def _closed(self, run: str, key: str) -> Exception:
        """Return why a question takes no answer."""
        for record in await self._store.log.read(talk_stream(run)):
            if record.key == key and record.kind == Kind.QUESTION_CLOSED:
                closed = msgspec.json.decode(record.data, type=Closed)
                by = f" by {closed.by}" if closed.by else ""
                how = f"was answered{by}" if closed.how == "answered" else "has expired"
                return QuestionClosed(
                    f"The question {key!r} of run {run} {how}.", hint="It takes one answer."
                )
        return UnknownHandler(f"Run {run} asks no question {key!r}.", hint=f"Look: reprise show {run}")

    # ---------------------------------------------------------------- streams

    async def streams(self, run: str) -> list[str]:
        """Return the names of a run's streams of partial output, in the order in which they began.

        Raises:
            RunNotFound: there is no such run.
        """
        await self.row(run)
        records = await self._store.log.read(out_stream(run))
        return list(dict.fromkeys(record.key for record in records if record.kind == Kind.STREAM_OPENED))

    @overload
    def stream(
        self, run: str, name: str, *, type: type[T], after: int = 0, follow: bool = True
    ) -> AsyncGenerator[Chunk[T]]: ...
    @overload
    def stream(
        self, run: str, name: str, *, type: Any = Any, after: int = 0, follow: bool = True
    ) -> AsyncGenerator[Chunk[Any]]: ...

    async def stream(
        self, run: str, name: str, *, type: Any = Any, after: int = 0, follow: bool = True
    ) -> AsyncGenerator[Chunk[Any]]:
        """Yield the chunks of a stream (see :func:`~reprise.stream`), each read as ``type``, until the run has ended.

        ``after`` is the offset of the last chunk that is known already; without ``follow`` only what there is now.

        Raises:
            RunNotFound: there is no such run.
            ChunksGone: chunks after that place are no longer kept.
            CodecError: a chunk is of another type.
        """
        await self.row(run)
        stream = out_stream(run, name)
        decode = standard.decoder(type)
        async with self._listening(stream, run_stream(run)) as tapped:
            while True:
                is_last = not follow or await self.finished(run) is not None
                records = await self._store.log.read(stream, after, PAGE)
                if after and records and records[0].version != after + 1:
                    raise ChunksGone(
                        f"The chunks {after + 1} to {records[0].version - 1} of stream {name!r} are no longer kept.",
                        hint=f"Go on after {records[0].version - 1}, or keep more: stream({name!r}, keep=…)",
                    )
                for record in records:
                    after = record.version
                    restarts = record.kind == Kind.CHUNKS_VOID
                    yield Chunk(after, None if restarts else decode(record.data), record.key, restarts)
                if len(records) == PAGE:
                    continue
                if is_last:
                    return
                await tapped(None)

    # ---------------------------------------------------------------- waiting

    def _call(self, run: str, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bytes:
        """Return a call as data."""
        given = b",".join(map(encode_as_it_is, args))
        named = b",".join(
            b"%b:%b" % (encode_as_it_is(key), encode_as_it_is(value)) for key, value in kwargs.items()
        )
        return self._payloads.within(b"[[%b],{%b}]" % (given, named), "The call of {!r} of run {}", name, run)

    @asynccontextmanager
    async def _listening(self, *streams: str) -> AsyncGenerator[Callable[[float | None], Awaitable[bool]]]:
        """Listen to streams; yields a function that waits for a tap, for a while or until a moment; False = none came."""
        tap = asyncio.Event()
        unlisten = [self._store.signal.listen(stream, lambda _: tap.set()) for stream in streams]

        async def tapped(until: float | None) -> bool:
            left = LOOK_AGAIN if until is None else min(LOOK_AGAIN, until - self._clock.monotonic())
            try:
                async with asyncio.timeout(max(0.0, left)):
                    await tap.wait()
            except TimeoutError:
                return False
            tap.clear()
            return True

        try:
            yield tapped
        finally:
            for stop in unlisten:
                stop()


def mail_key(kind: Kind, id: str) -> str:
    """Return the key of mail with an id of its sender's: signals, updates and answers may have the same ids.

    >>> mail_key(Kind.UPDATE_SENT, "line-2")
    'update/line-2'
    """
    return f"{'update' if kind == Kind.UPDATE_SENT else 'answer'}/{id}"


def _check_awake(row: RunRow) -> None:
    """Raise the error of a run that has ended, or rests until a person has done something."""
    if row.status in RUN.final:
        raise _ended(row.id)
    if row.status in RESTING and row.due_at is None:
        raise RunPaused(f"Run {row.id} is {row.status} and answers nobody.", hint=f"reprise resume {row.id}")


def no_such_run(run: str) -> RunNotFound:
    """Return the error for an id, or the begin of one, that no run has."""
    return RunNotFound(f"There is no run {run!r}.", hint="List them: reprise ps")


def _ended(run: str) -> RunEnded:
    return RunEnded(f"Run {run} has ended and answers no more.", hint=f"Its result: reprise show {run}")


def _value_of(reply: Reply, type: Any) -> Any:
    """Return the value of a reply; raises its error."""
    if reply.error is not None:
        raise decode_error(reply.error)
    return standard.decode(bytes(reply.value), type)
