"""Streams of partial output: what a step or a body has so far, for whoever watches; never part of the history.

Chunks are gathered for a moment and go to ``out/<id>/<name>`` in an append of the run itself: only its owner writes, and
what a step wrote is there when its outcome is. Of a step that begins anew a note says so. What the body wrote follows from
the history: a replayed body writes it again, and what stands there already is left out.
"""

from __future__ import annotations

import asyncio
import re
from asyncio import events
from collections.abc import Awaitable, Coroutine, Generator
from functools import partial
from typing import TYPE_CHECKING, Any

from reprise.kernel.codec import encode_as_it_is
from reprise.kernel.errors import ConfigurationError, StoreError
from reprise.kernel.events import Event, Kind, out_stream
from reprise.runtime.branch import RUN
from reprise.runtime.host import STEP
from reprise.runtime.step import TRANSACTION
from reprise.runtime.talk import Talk, body, talk_of
from reprise.stores.log import Group

if TYPE_CHECKING:
    from reprise.runtime.engine import Engine
    from reprise.runtime.execution import Execution
    from reprise.runtime.host import Job

GATHER = 0.03
"""Seconds over which chunks are gathered."""
TOGETHER = 128
"""Chunks that are not gathered any longer."""
MOST = 512
"""Chunks of one stream that may be on their way; who writes more waits."""
MOST_BYTES = 1 << 20
"""Their bytes, likewise."""
_NAME = re.compile(r"[\w\-.]{1,100}")


class Outlet:
    """One stream of one run in memory."""

    __slots__ = "attempts bytes chunks count full gathered keep known name pending since talk timer".split()

    def __init__(self, talk: Talk, name: str, keep: int | None) -> None:
        self.talk = talk
        self.name = name
        self.keep = keep
        self.gathered: list[Event] = []
        self.chunks = self.bytes = 0
        """How much is gathered or on its way, and not known to be durable."""
        self.attempts: dict[str, int] = {}
        """Which attempt of a step wrote last, by its key."""
        self.count = 0
        """How many chunks the body wrote."""
        self.known = talk.execution.fresh
        """Whether it is known which of those stand in the stream."""
        self.pending: list[Event] = []
        """What the body wrote while that was not known."""
        self.full: asyncio.Future[None] | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.since = keep or 0
        """Chunks written since the stream was trimmed; at first it may be as long as one left it."""

    # ---------------------------------------------------------------- writing

    def add_of_step(self, job: Job, data: bytes) -> None:
        """Take a chunk of a step; if an attempt before wrote too, say first that what it wrote is void."""
        execution = self.talk.execution
        key, now = self.talk.scoped(job.key), execution.host.now()
        if self.attempts.get(key) != job.attempt:
            if key in self.attempts or not execution.fresh:
                self._add(Event(Kind.CHUNKS_VOID, now, key))
            self.attempts[key] = job.attempt
        self._add(Event(Kind.CHUNK, now, key, data))

    def add_of_body(self, data: bytes) -> None:
        """Take a chunk of the body, which may be replayed."""
        self.count += 1
        event = Event(Kind.CHUNK, self.talk.execution.host.now(), self.talk.scoped(""), data, self.count)
        if self.known:
            self._add(event)
        else:
            self.pending.append(event)
            if self.talk.execution.live:
                self.talk.execution.host.recall(self.talk)

    def _add(self, event: Event) -> None:
        execution = self.talk.execution
        if execution.done or execution.finishing:
            return
        self.gathered.append(event)
        self.chunks += 1
        self.bytes += len(event.data)
        if len(self.gathered) >= TOGETHER or self.is_full:
            self.flush()
        elif self.timer is None:
            host = execution.host
            self.timer = host.outer.call_later(GATHER, self.flush, context=host.context)

    def flush(self) -> None:
        """Let what was gathered go with the next append of the run."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        size = (len(self.gathered), sum([len(event.data) for event in self.gathered]))
        groups = self.groups()
        for group in groups:
            self.talk.execution.send(
                group, partial(self._settled, *size) if group is groups[-1] else _nothing
            )

    def groups(self) -> list[Group]:
        """Hand over what was gathered; the first time together with the stream's name."""
        execution = self.talk.execution
        events, self.gathered = self.gathered, []
        if not events or execution.done:
            return []
        stream = Group(out_stream(execution.id, self.name), events)
        if self.name in self.talk.opened:
            return [stream]
        self.talk.opened.add(self.name)
        name = Event(Kind.STREAM_OPENED, execution.host.now(), self.name)
        return [Group(out_stream(execution.id), [name]), stream]

    @property
    def is_full(self) -> bool:
        """Whether who writes has to wait."""
        return self.chunks >= MOST or self.bytes >= MOST_BYTES

    async def room(self) -> None:
        """Wait while too much is on its way."""
        while self.is_full and not self.talk.execution.done:
            if self.full is None:
                self.full = self.talk.execution.host.outer.create_future()
            await asyncio.shield(self.full)

    def _settled(self, chunks: int, size: int, written: bool) -> None:
        execution = self.talk.execution
        self.since += chunks
        self.chunks -= chunks
        self.bytes -= size
        if self.full is not None:
            self.full.set_result(None)
            self.full = None
        if not written:
            return
        stream = out_stream(execution.id, self.name)
        execution.host.tap([stream])
        if self.keep is not None and self.since > self.keep + max(64, self.keep // 4):
            self.since = self.keep
            execution.host.keep_only(stream, self.keep)

    # ---------------------------------------------------------------- replay

    def learn(self, written: int) -> None:
        """Learn how many chunks of the body stand in the stream, and write the rest."""
        pending, self.pending, self.known = self.pending, [], True
        for event in pending:
            if event.print > written:
                self._add(event)


def _nothing(written: bool) -> None:
    pass


class Stream:
    """A stream of partial output of a run. Made by :func:`stream`."""

    def __init__(self, name: str, keep: int | None, job: Job | None, outlet: Outlet | None) -> None:
        self.name = name
        self._keep = keep
        self._job = job
        self._outlet = outlet
        self._sent = self._taken = 0
        """How many chunks a thread wrote, and how many of these the loop has."""

    def write(self, chunk: Any, /) -> Awaitable[None]:
        """Write a chunk; await it, so that who writes faster than the store does not fill the memory.

        In a synchronous step, which is a thread, it waits by itself and there is nothing to await.

        Raises:
            CodecError: the chunk cannot be written, or is too large.
        """
        outlet, job = self._outlet, self._job
        if outlet is None:
            if job is not None and job.wrote is not None:
                job.wrote(self.name, self._keep, encode_as_it_is(chunk))
            return _AT_ONCE
        host = outlet.talk.execution.host
        data = host.payloads.within(encode_as_it_is(chunk), "A chunk of stream {!r}", self.name)
        if job is None:
            body(f"writing to the stream {self.name!r}")
            outlet.add_of_body(data)
            return _AT_ONCE
        if events._get_running_loop() is host.outer:
            outlet.add_of_step(job, data)
            return outlet.room() if outlet.is_full else _AT_ONCE
        self._sent += 1
        host.outer.call_soon_threadsafe(self._take, outlet, job, data)
        if outlet.is_full or self._sent - self._taken >= TOGETHER:
            asyncio.run_coroutine_threadsafe(outlet.room(), host.outer).result()
        return _AT_ONCE

    def _take(self, outlet: Outlet, job: Job, data: bytes) -> None:
        self._taken += 1
        outlet.add_of_step(job, data)

    def __repr__(self) -> str:
        return f"<stream {self.name}>"


class _AtOnce:
    """An awaitable that does not wait."""

    def __await__(self) -> Generator[Any, Any, None]:
        return
        yield


_AT_ONCE = _AtOnce()


def stream(name: str, *, keep: int | None = None) -> Stream:
    """Return a stream of partial output of the run, to be written to in a step or in the body.

    ``await stream("tokens").write(text)``

    Readers follow it with ``handle.stream("tokens")`` and ``reprise stream``, from any place
    on, and miss nothing. When a step that wrote is executed again, after an error or a crash, they are told that what it
    wrote before is void. Nothing of it is in the history; it goes with the run. ``keep`` is how many chunks stay, about;
    None = all. Outside of a run nothing is written, so steps stay plain functions.

    Raises:
        ConfigurationError: the name has other characters than letters, digits and ``- _ .``, ``keep`` is below 1, or the
            step is in the log's transaction.
    """
    if not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"The name {name[:60]!r} is not usable for a stream.", hint="Use letters, digits and - _ ."
        )
    if keep is not None and keep < 1:
        raise ConfigurationError(f"keep of the stream {name!r} is {keep}; it may be 1 or more, or None.")
    job = STEP.get()
    execution = job.execution if job is not None else RUN.get()
    if execution is None:
        return Stream(name, keep, None, None)
    if job is not None and job.wrote is not None:
        return Stream(name, keep, job, None)
    if job is not None and job.step.executor == TRANSACTION:
        raise ConfigurationError(
            f"Step {job.step.name} writes to the stream {name!r} in the transaction that records it.",
            hint="Write to streams in a step without transaction=True.",
        )
    return Stream(name, keep, job, _outlet(execution, name, keep))


def _outlet(execution: Execution, name: str, keep: int | None) -> Outlet:
    talk = talk_of(execution)
    outlet = talk.outlets.get(name)
    if outlet is None:
        outlet = talk.outlets.setdefault(name, Outlet(talk, name, keep))
    elif keep is not None:
        outlet.keep = keep
    return outlet


def write_of_process(job: Job, name: str, keep: int | None, data: bytes) -> Coroutine[Any, Any, None] | None:
    """Write a chunk for a step in another process; what is returned waits until there is room for more."""
    outlet = _outlet(job.execution, name, keep)
    outlet.add_of_step(job, data)
    return outlet.room() if outlet.is_full else None


async def recall_outlets(engine: Engine, talk: Talk) -> None:
    """Read which chunks of a replayed body stand in its streams, and write the rest."""
    execution = talk.execution
    for outlet in list(talk.outlets.values()):
        if outlet.known or not outlet.pending:
            continue
        try:
            records = await engine.store.log.read(out_stream(execution.id, outlet.name))
        except StoreError as error:
            execution.lose(error)
            raise
        own = talk.scoped("")
        written = [record.print for record in records if record.kind == Kind.CHUNK and record.key == own]
        if not outlet.known:
            outlet.learn(max(written, default=0))
    execution.wake()
