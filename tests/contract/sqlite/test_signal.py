"""Taps between stores that share nothing but the folder beside the file."""

import asyncio
import errno
import socket
from pathlib import Path
from typing import Any

import pytest

from reprise.stores.sqlite import SQLiteStore


async def test_a_tap_reaches_this_process_and_the_other(store: SQLiteStore, other: SQLiteStore) -> None:
    names: list[str] = []
    both = asyncio.Event()

    def note(name: str) -> None:
        names.append(name)
        if len(names) == 2:
            both.set()

    ends = [store.signal.listen("inbox/*", note), other.signal.listen("inbox/1", note)]
    store.signal.wake(["inbox/1", "else"])
    async with asyncio.timeout(5):
        await both.wait()
    assert names == ["inbox/1", "inbox/1"]
    for end in ends:
        end()
    assert await other.signal.wait("inbox/1", 0.01) is False


async def test_what_is_not_ours_is_ignored(
    store: SQLiteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (address,) = (path.parent / f"{path.name}.wake").glob("*.sock")
    monkeypatch.chdir(address.parent)  # a socket's name is short, a temporary folder's may not be
    heard = asyncio.Event()
    store.signal.listen("yes", lambda _: heard.set())
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger:
        for garbage in (b"", b"\xff\xfe", b"x" * 60_000, b"\0" * 100, b"yes"):
            stranger.sendto(garbage, address.name)
    async with asyncio.timeout(5):
        await heard.wait()


async def test_a_full_buffer_delays_and_loses_nothing(store: SQLiteStore, other: SQLiteStore) -> None:
    wanted = {f"n{i}" for i in range(5_000)}
    heard: set[str] = set()
    all_heard = asyncio.Event()

    def note(name: str) -> None:
        heard.add(name)
        if heard >= wanted:
            all_heard.set()

    for name in wanted:
        other.signal.listen(name, note)
    for name in wanted:
        store.signal.wake([name])
        store.signal._flush()
    async with asyncio.timeout(5):
        await all_heard.wait()


async def test_where_a_full_buffer_is_said_otherwise_nothing_is_lost_either(
    store: SQLiteStore, other: SQLiteStore
) -> None:
    post = store.signal._post
    assert post is not None

    class Full:
        """A socket of a system that has other words for a full buffer."""

        def __init__(self, real: socket.socket) -> None:
            self.real, self.refused = real, 0

        def sendto(self, datagram: bytes, address: str) -> None:
            if self.refused < 3:
                self.refused += 1
                raise OSError(errno.ENOBUFS, "No buffer space available")
            self.real.sendto(datagram, address)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.real, name)

    post._socket = full = Full(post._socket)  # type: ignore[assignment]
    heard = asyncio.ensure_future(other.signal.wait("x", 5))
    await asyncio.sleep(0)
    store.signal.wake(["x"])
    assert await heard
    assert full.refused == 3


async def test_a_listener_that_fails_is_told_to_the_loop_and_the_others_are_called(
    store: SQLiteStore,
) -> None:
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))

    def fails(name: str) -> None:
        raise ValueError(name)

    store.signal.listen("x", fails)
    heard = asyncio.ensure_future(store.signal.wait("x", 5))
    await asyncio.sleep(0)
    store.signal.wake(["x"])
    assert await heard
    assert [context["message"] for context in told] == ["A listener to x failed."]
    assert isinstance(told[0]["exception"], ValueError)


async def test_to_stop_twice_and_to_wake_after_it_harms_nobody(store: SQLiteStore) -> None:
    store.signal.stop()
    store.signal.stop()
    store.signal.wake(["x"])
    assert store.signal.address == ""
    assert store.signal.is_alive("anybody.sock"), "nobody knows"


async def test_the_socket_of_a_dead_process_is_removed(
    store: SQLiteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = Path(f"{path}.wake") / "dead.sock"
    monkeypatch.chdir(dead.parent)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as victim:
        victim.bind(dead.name)
    store.signal.wake(["x"])
    await store.signal.wait("never", 0.01)
    assert not dead.exists()


async def test_a_long_path_still_has_a_socket(tmp_path: Path) -> None:
    folder = tmp_path / ("d" * 120)
    folder.mkdir()
    stores = [SQLiteStore(folder / "x.db", synchronous="OFF") for _ in range(2)]
    for store in stores:
        await store.start()
    assert all(store.signal.address for store in stores)
    waiting = asyncio.ensure_future(stores[0].signal.wait("a", 5))
    await asyncio.sleep(0)
    stores[1].signal.wake(["a"])
    assert await waiting
    for store in stores:
        await store.stop()
