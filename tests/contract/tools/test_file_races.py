"""Races with tools for files: what a path leads to is changed while they work, between any two of their calls to the system.

First by design: before the n-th call that a tool makes, for every n, something else is put in the place of what it works on. Then
by chance: another thread does so as fast as it can.
"""

import os
import shutil
import tarfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import pytest

from reprise import FileRoots, ToolError, ToolRegistry, create_builtin_tools_library
from reprise.testing import run

SECRET, MINE = "the secret of the outside", "mine and nobody else's"
TOOLS = create_builtin_tools_library()
CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "read": ("file_read", {"path": "work/door/x.txt"}),
    "hash": ("file_hash", {"path": "work/door/x.txt"}),
    "search": ("file_search", {"path": "work", "query": "e"}),
    "list": ("file_list", {"path": "work", "recursive": True}),
    "create": ("file_write", {"path": "work/door/new.txt", "content": "evil"}),
    "overwrite": ("file_write", {"path": "work/door/x.txt", "content": "evil", "mode": "overwrite"}),
    "append": ("file_write", {"path": "work/door/x.txt", "content": "evil", "mode": "append"}),
    "copy": ("file_copy", {"path": "work/door", "to": "work/stolen"}),
    "copy to": ("file_copy", {"path": "work/evil.txt", "to": "work/door/x.txt", "overwrite": True}),
    "move": ("file_move", {"path": "work/door/x.txt", "to": "work/stolen"}),
    "move to": ("file_move", {"path": "work/evil.txt", "to": "work/door/x.txt", "overwrite": True}),
    "trash": ("file_delete", {"path": "work/door/x.txt"}),
    "delete": ("file_delete", {"path": "work/door", "recursive": True, "trash": False}),
    "unpack": ("file_archive", {"action": "extract", "path": "work/door/x.tar", "to": "work/door/out"}),
    "unpack to": ("file_archive", {"action": "extract", "path": "work/evil.tar", "to": "work/door/out"}),
    "pack": ("file_archive", {"action": "create", "path": "work/door", "to": "work/stolen.tar"}),
}  # fmt: skip

SWAPS = [
    "the folder becomes a link", "the folder becomes a file", "the file becomes a link", "the file becomes a hard link",
    "the file becomes a FIFO", "the file becomes a folder",
]  # fmt: skip


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """Return a folder in memory where there is one: what is asked here has nothing to do with disks."""
    with TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
        yield Path(folder)


class Place:
    """A root with a folder ``door`` in it, and outside a folder that has files of the same names."""

    def __init__(self, home: Path) -> None:
        self.root, self.outside, self.aside = home / "work", home / "outside", home / "aside"
        for folder in (self.root / "door", self.outside, self.aside):
            folder.mkdir(parents=True)
        (self.root / "door/x.txt").write_text(MINE)
        (self.root / "evil.txt").write_text("evil")
        with tarfile.open(self.root / "evil.tar", "w") as archive:
            archive.add(self.root / "evil.txt", "d/x.txt")
        shutil.copy(self.root / "evil.tar", self.root / "door/x.tar")
        (self.outside / "x.txt").write_text(SECRET)

    def swaps(self) -> dict[str, Callable[[], None]]:
        """Return what may happen meanwhile."""
        door, file, secret = self.root / "door", self.root / "door/x.txt", self.outside / "x.txt"

        def put(at: Path, what: Callable[[Path], None]) -> None:
            with suppress(FileNotFoundError):  # gone already: then something is put where nothing is
                at.rename(self.aside / at.name)
            with suppress(FileNotFoundError, FileExistsError, NotADirectoryError):
                what(at)

        return {
            "the folder becomes a link": lambda: put(door, lambda at: at.symlink_to(self.outside)),
            "the folder becomes a file": lambda: put(door, lambda at: at.touch()),
            "the file becomes a link": lambda: put(file, lambda at: at.symlink_to(secret)),
            "the file becomes a hard link": lambda: put(file, lambda at: at.hardlink_to(secret)),
            "the file becomes a FIFO": lambda: put(file, os.mkfifo),
            "the file becomes a folder": lambda: put(file, lambda at: at.mkdir()),
        }

    def told(self) -> bool:
        """Tell whether the secret is somewhere in the root, other than by the links to it."""
        files = [path for path in self.root.rglob("*") if path.is_file() and not path.is_symlink()]
        return any(SECRET.encode() in path.read_bytes() for path in files if path.stat().st_nlink == 1)

    def harmed(self) -> bool:
        """Tell whether the outside is not as it was."""
        return os.listdir(self.outside) != ["x.txt"] or (self.outside / "x.txt").read_text() != SECRET


class Interrupted:
    """Makes something happen before the n-th call to the system that has to do with an open folder."""

    CALLS = ("open", "stat", "mkdir", "rename", "unlink", "rmdir", "listdir", "fstat")

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int, then: Callable[[], None]) -> None:
        self.seen, self.done = 0, False
        busy = threading.local()

        def wrapped(call: Callable[..., Any]) -> Callable[..., Any]:
            def wrapper(*arguments: Any, **options: Any) -> Any:
                of_a_folder = "dir_fd" in options or "src_dir_fd" in options or isinstance(arguments[0], int)
                if of_a_folder and not getattr(busy, "now", False):
                    self.seen += 1
                    if self.seen == at:
                        busy.now = self.done = True
                        then()
                        busy.now = False
                return call(*arguments, **options)

            return wrapper

        for name in self.CALLS:
            monkeypatch.setattr(os, name, wrapped(getattr(os, name)))


@pytest.mark.parametrize("swap", SWAPS)
@pytest.mark.parametrize("call", CALLS)
def test_whatever_happens_between_two_calls_to_the_system_nothing_leads_out(tmp_path, call, swap):
    name, arguments = CALLS[call]
    happened = 0
    for at in range(1, 200):
        place = Place(tmp_path / str(at))
        registry = ToolRegistry(TOOLS)
        with FileRoots({"work": place.root}) as roots, pytest.MonkeyPatch.context() as patch:
            registry.provide(roots)
            interrupted = Interrupted(patch, at, place.swaps()[swap])
            try:
                got = run(lambda registry=registry: registry.execute_tool(name, arguments), seed=1)
            except ToolError as error:
                got = error
        assert SECRET not in str(got), (at, got)
        assert not place.told(), at
        assert not place.harmed(), at
        if not interrupted.done:
            break
        happened += 1
    assert happened >= 5


def test_control_who_looks_before_opening_is_led_out_by_one_of_these_moments(tmp_path):
    led = Counter[bool]()
    for swap in ("the folder becomes a link", "the file becomes a link", "the file becomes a hard link"):
        for at in (1, 2, 3):
            place = Place(tmp_path / swap / str(at))
            moments = iter(range(1, 4))

            def step(place: Place = place, swap: str = swap, at: int = at, moments: Any = moments) -> None:
                if next(moments) == at:
                    place.swaps()[swap]()

            step()
            full = (place.root / "door/x.txt").resolve()
            inside = full.is_relative_to(place.root) and full.stat().st_nlink == 1
            step()
            led[inside and (place.root / "door/x.txt").read_text() == SECRET] += 1
            step()
    assert led == {True: 3, False: 6}


class Swapper(threading.Thread):
    """Makes a folder a link to the outside and back, as fast as it can."""

    def __init__(self, place: Place) -> None:
        super().__init__(daemon=True)
        self.place, self.stopped, self.rounds = place, threading.Event(), 0

    def run(self) -> None:
        door, real, link = self.place.root / "door", self.place.aside / "real", self.place.aside / "link"
        os.symlink(self.place.outside, link)
        while not self.stopped.is_set():
            os.rename(door, real)
            os.rename(link, door)
            os.rename(door, link)
            os.rename(real, door)
            self.rounds += 1

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stopped.set()
        self.join()


def test_another_thread_that_swaps_leads_nobody_out(tmp_path):
    place, seen = Place(tmp_path), Counter[str]()
    with FileRoots({"work": place.root}) as roots, Swapper(place):
        while min(seen["mine"], seen["a link"]) < 30 and seen.total() < 100_000:
            try:
                with roots.reading("work/door/x.txt") as file:
                    seen[{MINE: "mine", SECRET: "secret"}[file.read().decode()]] += 1
                with roots.writing("work/door/y.txt", "overwrite") as file:
                    file.write(b"evil")
            except ToolError as error:
                seen["a link" if "symbolic link" in str(error) else "nothing"] += 1
    assert seen["secret"] == 0
    assert min(seen["mine"], seen["a link"]) >= 30, seen
    assert not place.harmed()


def test_control_another_thread_that_swaps_leads_out_who_looks_first(tmp_path):
    place, seen = Place(tmp_path), Counter[str]()
    path = place.root / "door/x.txt"
    with Swapper(place):
        while not seen["secret"] and seen.total() < 500_000:
            try:
                if not path.resolve().is_relative_to(place.root):
                    seen["a link"] += 1
                    continue
                seen[{MINE: "mine", SECRET: "secret"}[path.read_text()]] += 1
            except OSError:
                seen["nothing"] += 1
    assert seen["secret"], seen
