"""One machine with one SQLite file: each simulated process opens it for itself, with connections and threads of its own.

Everything of the keeper is real but time, the threads' order, and what the kernel does among processes: file locks and
sockets. A process that is killed loses its open transaction; what it has committed is there.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence
from contextvars import copy_context
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

from reprise.kernel.events import Record
from reprise.stores.log import Append
from reprise.stores.sqlite import database
from reprise.stores.sqlite.database import Connection
from reprise.stores.sqlite.log import SQLiteLog
from reprise.stores.sqlite.signal import Post
from reprise.stores.sqlite.store import SQLiteStore
from reprise.stores.sqlite.writer import Item, Job, Writer
from reprise.stores.store import Schema
from reprise.testing.invariants import Books, InvariantBroken
from reprise.testing.link import Link
from reprise.testing.lockstep import Locks, Lockstep
from reprise.testing.loop import EVERYWHERE, PLACE, SimulatedLoop
from reprise.testing.session import Session
from reprise.testing.site import Died
from reprise.testing.wire import Wire

Result = TypeVar("Result")

CHECKPOINT_PAGES = 64
"""Pages after which the write-ahead log is moved into the file: soon, so that it happens often."""
MOST_OVERTAKEN = 10
"""How often a process may be overtaken by the same other one while it waits for its turn to write."""
TAP = 0.002
"""Seconds that a tap takes at most."""


class SQLiteSite:
    """A file, and the processes that have it open."""

    def __init__(self, loop: SimulatedLoop, synchronous: str = "OFF") -> None:
        self.loop, self.synchronous = loop, synchronous
        self.locks = Locks()
        self.posts: dict[str, SimulatedPost] = {}
        self.processes: list[Process] = []
        self.booked: set[int] = set()
        """Ids of appends that were committed."""
        self.acting: Process | None = None
        """The process of which a thread runs now."""
        self.is_dark = False
        """Whether the machine has no power."""
        memory = Path("/dev/shm")  # noqa: S108  a folder in it, of our own
        self.wishes = 0
        """How often somebody has wanted to write."""
        self.most_overtaken = 0
        self._folder = Path(tempfile.mkdtemp(prefix="reprise-", dir=memory if memory.is_dir() else None))
        self.path = self._folder / "simulated.db"
        self.path.write_bytes(_empty())
        self.watching: Any = self.raw(database.uri_of(self.path, "rw"))
        """A connection of nobody, to look at once; it also keeps whoever closes the file from being the last."""
        self.log = SQLiteLog(cast("Any", None), cast("Any", _AtOnce(self)))
        self.books = Books(self.read_now)
        self.store: SQLiteStore = self._process(None).store

    async def open(self) -> None:
        """Open the store of whoever looks from outside."""
        await self.store.start()

    def link(self, wire: Wire, died: Died) -> Link:
        """Return the store that a process opens for itself."""
        return _OwnLink(self._process(wire).store, wire, Told(self), died)

    def read_now(self, stream: str, after: int = 0) -> list[Record]:
        """Return the records of a stream as they are now."""
        return at_once(self.log.read(stream, after))

    def close(self) -> None:
        """Kill what is left, and remove the file."""
        for process in self.processes:
            process.kill()
        self.watching.close()
        shutil.rmtree(self._folder)

    def _process(self, wire: Wire | None) -> Process:
        for process in self.processes:
            before = process.wire
            if wire and before and before.node is wire.node and before.life is not wire.life:
                process.kill()
        self.processes = [process for process in self.processes if not process.is_dead]
        made = Process(self, wire)
        self.processes.append(made)
        return made

    def raw(self, uri: str) -> Any:
        """Open a connection that never waits, neither for locks nor for the disk."""
        connection = database.connect(uri)
        connection.execute("PRAGMA busy_timeout = 0")
        return connection

    def after(self, process: Process) -> None:
        """Look at what a thread of a process has done."""

    def committed(self, append: Append, by: str) -> None:
        """Note what was committed."""
        self.booked.add(append.id)
        try:
            self.books.committed(append, by)
        except InvariantBroken as broken:
            self.loop.fail(broken)


class Process(Lockstep):
    """A process that has the file open: its threads, its connections, its socket, its locks."""

    def __init__(self, site: SQLiteSite, wire: Wire | None) -> None:
        context = copy_context() if wire is None else wire.context
        super().__init__(site.loop, context, site.locks)
        self.site, self.wire = site, wire
        self.staged: list[Append] = []
        """What is in the open transaction."""
        self.waits_since: int | None = None
        """Number of the wish to write; None = it has none, or its turn."""
        self.overtaken: dict[Process, int] = {}
        self.open_post = self._open_post
        self._sessions: list[Session] = []
        self._post: SimulatedPost | None = None
        self.store = WatchedStore(self)
        if wire is not None:
            wire.node.on_crash.append(self.kill)

    @property
    def name(self) -> str:
        """Name of the machine's process."""
        return "outside" if self.wire is None else self.wire.node.name

    def connect(self, uri: str) -> Connection:
        """Open a connection."""
        session = Session(self, lambda: self.site.raw(uri), self)
        self._sessions.append(session)
        return session

    def _open_post(self, folder: Path, clock: object, loop: object, receive: Receive) -> Post:
        self._post = SimulatedPost(self, receive)
        return self._post

    @property
    def is_gone(self) -> bool:
        """Tell whether the process is dead, or its machine has no power."""
        return self.is_dead or self.site.is_dark

    @property
    def is_outside(self) -> bool:
        """Tell whether it is one to which nothing happens."""
        return self.context.get(PLACE) is EVERYWHERE

    def lose_connections(self) -> None:
        """Live on over a file that is another one."""
        self.store.lose_connection()
        for session in self._sessions:
            session.lose()

    def _run(self, thread: Any) -> None:
        before, self.site.acting = self.site.acting, self
        super()._run(thread)
        self.site.acting = before
        self.site.after(self)

    def kill(self) -> None:
        """Be gone, as by kill -9: the open transaction, the locks, the socket."""
        if self.is_dead:
            return
        self.is_dead = True
        for session in self._sessions:
            session.cut()
        if self._post is not None:
            self._post.abandon()
        self.store.presence.abandon()
        super().kill()

    # ---------------------------------------------------------------- what its transactions tell

    def began(self) -> None:
        """Note that it has its turn; whoever has waited for longer was overtaken."""
        since, self.waits_since = self.waits_since, None
        self.overtaken.clear()
        if since is None:
            return  # it opens the file
        for other in self.site.processes:
            if other.waits_since is None or other.waits_since > since or other.is_dead or other.is_paused:
                continue
            other.overtaken[self] = times = other.overtaken.get(self, 0) + 1
            self.site.most_overtaken = max(self.site.most_overtaken, times)
            if times > MOST_OVERTAKEN:
                told = f"{self.name} has written {times} times while {other.name} waited for its turn."
                self.loop.fail(InvariantBroken(told))

    def waits(self) -> None:
        """Note that it wants to write."""
        self.site.wishes += 1
        self.waits_since = self.site.wishes

    @property
    def is_paused(self) -> bool:
        """Tell whether it stands still, and may be overtaken."""
        return self.wire is not None and self.wire.life.is_paused

    def commits(self) -> None:
        """Let happen to the process what happens to processes, in the middle of a transaction."""
        if self.wire is not None:
            self.loop.call_soon(self.wire.befall, context=self.wire.beyond)

    def committed(self) -> None:
        """Note what was committed, at this moment."""
        staged, self.staged = self.staged, []
        for append in staged:
            self.site.committed(append, self.name)


class WatchedWriter(Writer):
    """The writer of a process; says what is in its transactions."""

    _crew: Process

    def lose_connection(self) -> None:
        """Open another one before the next transaction."""
        self._is_broken = True

    def _turn(self, batch: list[Item]) -> list[Item]:
        self._crew.waits()
        return super()._turn(batch)

    def _stage(self, batch: list[Item]) -> int:
        taken = super()._stage(batch)
        self._crew.staged = [append for item in batch[:taken] if (append := _append_of(item)) is not None]
        return taken


class WatchedStore(SQLiteStore):
    """The store of a process."""

    writer_type = WatchedWriter

    def __init__(self, process: Process) -> None:
        site = process.site
        super().__init__(
            site.path,
            synchronous=site.synchronous,
            unsafe_fs=True,
            clock=site.loop.clock,
            connect=process.connect,
            crew=process,
        )

    def lose_connection(self) -> None:
        """Have lost what it was connected to."""
        writer: Any = self._writer
        writer.lose_connection()

    async def schema(self) -> Schema:
        """Return of what version the tables are: they are new."""
        newest = database.migrations()[-1][0]
        return Schema(newest, newest)

    def _open_upgraded(self) -> Connection:
        connection = self._open_writer()
        connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        database.upgrade(connection, self.path)
        return connection


def at_once(reading: Coroutine[Any, Any, Result]) -> Result:
    """Return what a coroutine returns that never waits."""
    try:
        reading.send(None)
    except StopIteration as stop:
        return stop.value
    raise InvariantBroken("A reader that does all at once has waited.")


class _OwnLink(Link):
    """The store of one life of a node, in the process itself."""

    def __init__(self, keeper: SQLiteStore, wire: Wire, told: Told, died: Died) -> None:
        super().__init__(keeper, wire, cast("Books", told), died)
        self.presence = cast("Any", keeper.presence)

    async def start(self) -> None:
        """Open it."""
        await self.keeper.start()

    async def stop(self) -> None:
        """Close it."""
        await super().stop()
        await self.keeper.stop()


class Told:
    """Holds what processes are told against what was committed."""

    def __init__(self, site: SQLiteSite) -> None:
        self._site = site
        self.trimmed, self.dropped = site.books.trimmed, site.books.dropped

    def committed(self, append: Append, by: str) -> None:
        """Look at an append at the moment of its answer.

        Raises:
            InvariantBroken: it is not in the file.
        """
        if append.id not in self._site.booked:
            raise InvariantBroken(f"An append of {by} was acknowledged before it was written.")


Receive = Callable[[Iterable[str]], None]


class SimulatedPost(Post):
    """A socket to which the other processes of the machine send taps."""

    def __init__(self, process: Process, receive: Receive) -> None:
        self._process, self._take = process, receive
        self.loop = process.loop
        posts = process.site.posts
        self.name = f"{len(posts)}.sock"
        self.is_open = True
        posts[self.name] = self

    def is_alive(self, address: str) -> bool:
        """Return whether somebody has the socket of that name open."""
        post = self._process.site.posts.get(address)
        return post is not None and post.is_open

    def send(self, names: Sequence[str]) -> None:
        """Send names to all other processes."""
        if not self.is_open:
            return
        loop = self._process.loop
        for other in self._process.site.posts.values():
            if other.is_open and other is not self:
                loop.call_later(
                    loop.chance() * TAP, other.arrive, tuple(names), context=other._process.context
                )

    def arrive(self, names: Collection[str]) -> None:
        """Receive names."""
        if self.is_open:
            self._take(names)

    def close(self) -> None:
        """Close the socket."""
        self.is_open = False

    abandon = close


class _AtOnce:
    """Reads at once, on the loop."""

    def __init__(self, site: SQLiteSite) -> None:
        self._site = site

    async def read(self, work: Callable[[Any], Any]) -> Any:
        return work(self._site.watching)


def _append_of(item: Item) -> Append | None:
    """Return what an item of the writer has appended."""
    append: Any = item.result if isinstance(item, Job) else item
    return append if isinstance(append, Append) and item.error is None else None


@cache
def _empty() -> bytes:
    """Return a file with all tables and nothing in them."""
    with tempfile.TemporaryDirectory(prefix="reprise-") as folder:
        path = Path(folder) / "empty.db"
        path.touch()
        connection = database.connect(database.uri_of(path, "rw"))
        database.upgrade(connection, path)
        connection.close()
        return path.read_bytes()
