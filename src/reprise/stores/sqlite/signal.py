"""Taps between the processes that use one file: a datagram socket for each in a folder beside it.

A Unix datagram socket tells its sender when the receiver is gone (the sender then removes it) or when its buffer is
full (the sender tries again), which UDP on the loopback address does not; only who may enter the folder can send; and
it works between containers that share nothing but the folder. A datagram is a list of names and nothing else: whoever
is tapped looks in the file.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from reprise.kernel.clock import Clock
from reprise.kernel.ids import Ids
from reprise.stores.listeners import EVERYTHING, Listeners

MOST_BYTES = 8192
"""Length of a datagram; a longer one is not ours."""
MOST_NAMES_HELD = 256
"""Names kept for a process whose buffer is full, before they become EVERYTHING."""
TRY_AGAIN = 0.005
"""Seconds until a full buffer is tried again."""
_LONGEST_ADDRESS = 100
_JUST_CHANGED = 100_000_000
"""Nanoseconds in which a folder may change again without a new time stamp."""


class SQLiteSignal:
    """Wake others who wait, here and in other processes. Use it on the loop on which the store was started."""

    def __init__(self, folder: Path, clock: Clock, open_post: Callable[..., Post]) -> None:
        self._folder, self._clock, self._open_post = folder, clock, open_post
        self._listeners = Listeners()
        self._pending: dict[str, None] = {}
        self._post: Post | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Open this process's socket."""
        self._post = self._open_post(self._folder, self._clock, loop, self._listeners.tap)

    @property
    def address(self) -> str:
        """Name of this process's socket, '' without one."""
        return self._post.name if self._post and self._post.is_open else ""

    def is_alive(self, address: str) -> bool:
        """Return whether the process of a socket lives; '' is taken to live. From any thread."""
        return not address or self._post is None or self._post.is_alive(address)

    def wake(self, names: Sequence[str]) -> None:
        """Tap everybody who listens to one of these names; never waits, never raises."""
        if self._post is None:
            return
        if not self._pending:
            self._post.loop.call_soon(self._flush)
        for name in names:
            self._pending[name] = None

    def listen(self, name: str, callback: Callable[[str], None]) -> Callable[[], None]:
        """Call back on the loop with the name at each tap; ``name`` ending in ``*`` listens to all that start so."""
        return self._listeners.add(name, callback)

    async def wait(self, name: str, timeout: float) -> bool:
        """Wait for one tap; False when ``timeout`` seconds passed without one."""
        return await self._listeners.wait(name, timeout)

    def tap_all(self) -> None:
        """Let everybody in this process look."""
        self._listeners.tap((EVERYTHING,))

    def stop(self) -> None:
        """Send what is pending and close the socket."""
        self._flush()
        if self._post is not None:
            self._post.close()
            self._post = None

    def abandon(self) -> None:
        """Close the socket only, as a forked child must: its copy would keep a dead parent's alive."""
        if self._post is not None:
            self._post.abandon()
            self._post = None

    def _flush(self) -> None:
        names, self._pending = list(self._pending), {}
        if names and self._post is not None:
            self._listeners.tap(names)
            self._post.send(names)


class Post:
    """This process's socket and those of the others in the folder."""

    def __init__(
        self,
        folder: Path,
        clock: Clock,
        loop: asyncio.AbstractEventLoop,
        receive: Callable[[Iterable[str]], None],
    ) -> None:
        self._folder, self._clock, self.loop, self._receive = folder, clock, loop, receive
        self.name = f"{Ids(clock.now).new()}.sock"
        self._held: dict[str, dict[str, None]] = {}
        self._others: list[str] = []
        self._listed_at = -1
        self._directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self.is_open = False
        # Where the path is too long for an address and there is no /proc, or the file system has no sockets, taps
        # stay in this process and the store looks at the file once a second instead.
        with suppress(OSError):
            self._socket.bind(self._address(self.name))
            (folder / self.name).chmod(0o600)
            loop.add_reader(self._socket, self._read)
            self.is_open = True

    def is_alive(self, address: str) -> bool:
        """Return whether somebody has the socket of that name open."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect(self._address(address))
            except OSError:
                return False
        return True

    def send(self, names: Sequence[str]) -> None:
        """Send names to all other processes."""
        if not self.is_open:
            return
        datagrams = _datagrams(names)
        for other in self._list_others():
            if other in self._held:
                self._hold(other, names)
                continue
            for datagram in datagrams:
                if not self._send_one(other, datagram):
                    self._hold(other, names)
                    break

    def close(self) -> None:
        """Close the socket and remove it from the folder."""
        if self.is_open:
            self.loop.remove_reader(self._socket)
            with suppress(OSError):
                os.unlink(self.name, dir_fd=self._directory)
        self.abandon()

    def abandon(self) -> None:
        """Close the file descriptors only."""
        self.is_open = False
        self._socket.close()
        os.close(self._directory)

    def _address(self, name: str) -> str:
        path = str(self._folder / name)
        return path if len(path.encode()) <= _LONGEST_ADDRESS else f"/proc/self/fd/{self._directory}/{name}"

    def _list_others(self) -> list[str]:
        try:
            changed_at = self._folder.stat().st_mtime_ns
        except FileNotFoundError:
            return []  # somebody removed the folder, and with it everybody's address
        if changed_at != self._listed_at:
            names = [path.name for path in self._folder.glob("*.sock")]
            self._others = [name for name in names if name != self.name]
            fresh = self._clock.now() * 1000 - changed_at < _JUST_CHANGED
            self._listed_at = -1 if fresh else changed_at
        return self._others

    def _send_one(self, other: str, datagram: bytes) -> bool:
        """Send to one process; False when its buffer is full."""
        try:
            self._socket.sendto(datagram, self._address(other))
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                return False
            if error.errno == errno.ECONNREFUSED:
                # Nobody has it open: its process died without removing it.
                with suppress(OSError):
                    os.unlink(other, dir_fd=self._directory)
        return True

    def _hold(self, other: str, names: Sequence[str]) -> None:
        if not self._held:
            self.loop.call_later(TRY_AGAIN, self._send_held)
        held = self._held.setdefault(other, {})
        held.update(dict.fromkeys(names))
        if len(held) > MOST_NAMES_HELD:
            self._held[other] = {EVERYTHING: None}

    def _send_held(self) -> None:
        held, self._held = self._held, {}
        if not self.is_open:
            return
        for other, names in held.items():
            for datagram in _datagrams(list(names)):
                if not self._send_one(other, datagram):
                    self._hold(other, list(names))
                    break

    def _read(self) -> None:
        names: dict[str, None] = {}
        for _ in range(64):  # then let others on the loop go on
            try:
                datagram = self._socket.recv(MOST_BYTES + 1)
            except (BlockingIOError, InterruptedError):
                break
            if len(datagram) <= MOST_BYTES:
                with suppress(UnicodeDecodeError):
                    names.update(dict.fromkeys(datagram.decode().split("\0")))
        self._receive(names)


def _datagrams(names: Sequence[str]) -> list[bytes]:
    """Pack names into as few datagrams as hold them; EVERYTHING if one name is too long."""
    datagrams: list[bytes] = []
    pending = b""
    for name in names:
        encoded = name.encode("utf-8", "replace")
        if len(encoded) > MOST_BYTES:
            return [EVERYTHING.encode()]
        joined = pending + b"\0" + encoded if pending else encoded
        if len(joined) > MOST_BYTES:
            datagrams.append(pending)
            joined = encoded
        pending = joined
    return [*datagrams, pending]
