"""Attacks on tools for files: each class beside a control, which shows that it works on who does not look.

A case is a call that must be refused, or do no harm. What is outside of the roots has a secret in it; after every case it is as
it was, and nobody was told of it.
"""

import codecs
import os
import shutil
import socket
import threading
import unicodedata
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from reprise import FileRoots, ToolError, ToolRegistry, create_builtin_tools_library
from reprise.testing import run
from reprise.tools.library.files.finding import fits

SECRET = "the secret of the outside"
TOOLS = create_builtin_tools_library()
PLAIN = {  # a call of each tool that has to do with a path
    "file_read": lambda path: {"path": path},
    "file_info": lambda path: {"path": path},
    "file_hash": lambda path: {"path": path},
    "file_list": lambda path: {"path": path, "recursive": True},
    "file_search": lambda path: {"path": path, "query": "secret"},
    "file_write": lambda path: {"path": path, "content": "evil", "folders": True},
    "file_overwrite": lambda path: {"path": path, "content": "evil", "mode": "overwrite"},
    "file_append": lambda path: {"path": path, "content": "evil", "mode": "append"},
    "file_copy": lambda path: {"path": path, "to": "work/stolen"},
    "file_copy to": lambda path: {"path": "work/a.txt", "to": path, "overwrite": True},
    "file_move": lambda path: {"path": path, "to": "work/stolen"},
    "file_move to": lambda path: {"path": "work/a.txt", "to": path, "overwrite": True},
    "file_delete": lambda path: {"path": path, "recursive": True},
    "file_delete it": lambda path: {"path": path, "recursive": True, "trash": False},
    "file_archive": lambda path: {"action": "create", "path": path, "to": "work/stolen.zip"},
    "file_archive to": lambda path: {"action": "create", "path": "work/a.txt", "to": path + ".zip"},
}
READING = ["file_read", "file_hash", "file_search", "file_copy", "file_archive"]
CONTENT = [*READING, "file_overwrite", "file_append", "file_copy to"]


def name_of(call: str) -> str:
    """Return the tool that is called."""
    return {"file_overwrite": "file_write", "file_append": "file_write"}.get(call, call.partition(" ")[0])


class Ground:
    """A root with a file in it, and what is outside of it."""

    def __init__(self, home: Path) -> None:
        self.home, self.root, self.outside = home, home / "work", home / "outside"
        for folder in (self.root / "sub", self.outside / "deep", home / "work-evil"):
            folder.mkdir(parents=True)
        (self.root / "a.txt").write_text("mine")
        for path in ("outside/secret.txt", "outside/deep/secret.txt", "work-evil/secret.txt", "secret.txt"):
            (home / path).write_text(SECRET)
        self.open = ExitStack()

    def attempt(self, call: str, path: str, roots: FileRoots | None = None) -> Any:
        """Call a tool; return what it returns, or the error."""
        registry = ToolRegistry(TOOLS)
        registry.provide(roots or FileRoots({"work": self.root}))
        try:
            return run(lambda: registry.execute_tool(name_of(call), PLAIN[call](path)), seed=1)
        except ToolError as error:
            return error

    def all(self) -> dict[str, Any]:
        """Return all there is, by path, with what is in the files."""
        return {
            str(path): path.read_bytes() if path.is_file() and not path.is_symlink() else path.lstat().st_ino
            for path in sorted(self.home.rglob("*"))
        }

    def harmed(self) -> list[str]:
        """Return what is not as it was outside of the root, and where the secret is inside."""
        found = []
        for path in self.home.rglob("*"):
            inside = path.is_relative_to(self.root)
            if not path.is_file() or path.is_symlink():
                continue
            text = path.read_bytes()
            if inside and SECRET.encode() in text:
                found.append(f"{path} has the secret")
            if not inside and text != SECRET.encode():
                found.append(f"{path} has {text!r}")
        missing = [
            path
            for path in ("outside/secret.txt", "outside/deep/secret.txt", "secret.txt")
            if not (self.home / path).exists()
        ]
        return found + missing


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    made = Ground(tmp_path)
    with made.open:
        yield made


# ---------------------------------------------------------------- who does not look, in the ways people do


def trusting(ground: Ground, path: str) -> bytes:
    """Read as the simplest tool does."""
    return (ground.home / path).read_bytes()


def by_prefix(ground: Ground, path: str) -> bytes:
    """Read after comparing how the path begins."""
    full = os.path.abspath(ground.home / path)
    if not full.startswith(str(ground.root)):
        raise PermissionError
    return Path(full).read_bytes()


def by_words(ground: Ground, path: str) -> bytes:
    """Read after looking for what is bad, then making the path nicer."""
    if ".." in path.split("/") or path.startswith("/"):
        raise PermissionError
    return (ground.home / unicodedata.normalize("NFKC", unquote(unquote(path)))).read_bytes()


def by_resolving(ground: Ground, path: str) -> bytes:
    """Read after resolving all links; the best of them, and at a loss where no link is."""
    full = (ground.home / path).resolve()
    if not full.is_relative_to(ground.root):
        raise PermissionError
    return full.read_bytes()


def blocks(call: Callable[[], Any]) -> bool:
    """Tell whether a call waits for somebody."""
    began, ended = threading.Event(), threading.Event()

    def wait() -> None:
        began.set()
        call()
        ended.set()

    threading.Thread(target=wait, daemon=True).start()
    began.wait()
    return not ended.wait(0.3)


# ---------------------------------------------------------------- what is laid out


def nothing(ground: Ground) -> None:
    """Lay out nothing: the path is all there is to it."""


def links(ground: Ground) -> None:
    root, outside = ground.root, ground.outside
    (root / "file").symlink_to(outside / "secret.txt")
    (root / "up").symlink_to("../outside")
    (root / "chain").symlink_to("up")
    (root / "sub/above").symlink_to("..")
    (root / "loop").symlink_to("loop")
    (root / "machine").symlink_to("/")
    (root / "inner").symlink_to("a.txt")


def dangling(ground: Ground) -> None:
    (ground.root / "dangling").symlink_to(ground.outside / "new.txt")
    (ground.root / "far").symlink_to(ground.outside / "new")
    (ground.root / "dangling.zip").symlink_to(ground.outside / "new.zip")


def hard(ground: Ground) -> None:
    os.link(ground.outside / "secret.txt", ground.root / "hard")
    os.link(ground.outside / "secret.txt", ground.root / "sub/hard")


def special(ground: Ground) -> None:
    os.mkfifo(ground.root / "fifo")
    server = ground.open.enter_context(socket.socket(socket.AF_UNIX))
    here = os.getcwd()
    os.chdir(ground.root)  # the path of a socket is short
    try:
        server.bind("socket")
    finally:
        os.chdir(here)
    try:
        os.mknod(ground.root / "zero", 0o666 | 0o020000, os.makedev(1, 5))
    except PermissionError:  # who is not root makes none
        os.mkfifo(ground.root / "zero")


UPWARDS = [
    "..", "../outside/secret.txt", "work/..", "work/../outside/secret.txt", "work/../../", "work/sub/../../outside/secret.txt",
    "work/./../outside/secret.txt", "work//..//outside/secret.txt", "./../outside/secret.txt", "work/nope/../../outside/secret.txt",
    "work/a.txt/../../outside/secret.txt", "work/../work/../outside/secret.txt", "../work-evil/secret.txt",
]  # fmt: skip
FROM_THE_TOP = [
    "/etc/passwd", "//etc/passwd", "///etc/passwd", "/proc/self/environ", "/./etc/passwd", "/a.txt", "/dev/zero",
    "/proc/self/root/etc/passwd", "/proc/self/cwd", "/proc/self/fd/0", "/dev/stdin", "/",
]  # fmt: skip
CONTROL = [
    "work/a.txt\0.png", "work/\0", "\0", "work/a\nb", "work/a\rb", "work/\x1b[2Ja", "work/a\x7f", "work/a\x85b", "work/gpj\u202e.exe",
    "work/\u2066a\u2069", "work/a\u2028b", "work/\ufeffa", "work\\..\\outside\\secret.txt", "work/sub\\..\\..\\outside", "C:\\secret.txt",
]  # fmt: skip
DISGUISED = [
    "work/%2e%2e/outside/secret.txt", "%2e%2e/outside/secret.txt", "work/%252e%252e/outside/secret.txt", "work/..%2foutside%2fsecret.txt",
    "work/\u2024\u2024/outside/secret.txt", "work/\uff0e\uff0e/outside/secret.txt", "work/\uff0e\uff0e\uff0foutside\uff0fsecret.txt",
    "work/..;/outside/secret.txt", "work/.../outside/secret.txt", "work/.. /outside/secret.txt", "~/secret.txt", "work/~root/secret.txt",
    "$HOME/secret.txt", "${PWD}/secret.txt", "file:///etc/passwd", "work/`id`", "work/$(id)", "|id",
]  # fmt: skip
OTHER_ROOTS = [
    "work-evil/secret.txt", "work-evil", "WORK/a.txt", "Work/a.txt", "work /a.txt", " work/a.txt", "outside/secret.txt", "wor", "workx/a",
    "w\u043erk/a.txt", "\uff57ork/a.txt", "work.", "work:a.txt",
]  # fmt: skip
TOO_LONG = [
    "work/" + "a" * 256, "work/" + "é" * 128, "work/" + "a/" * 65 + "a", "work/" + "a/" * 2000, "work/" + "a" * 4090, "a" * 300 + "/b",
]  # fmt: skip

PATHS: dict[str, tuple[Callable[[Ground], None], list[tuple[str, str]]]] = {
    "dots lead upwards": (nothing, [(call, path) for path in UPWARDS for call in ("file_read", "file_write", "file_list")] + [(call, "work/../outside") for call in PLAIN]),
    "absolute paths": (nothing, [(call, path) for path in FROM_THE_TOP for call in ("file_read", "file_append")]),
    "control and backward characters": (nothing, [(call, path) for path in CONTROL for call in ("file_read", "file_write")]),
    "disguised dots and expansions": (nothing, [("file_read", path) for path in DISGUISED]),
    "other roots, and names like theirs": (nothing, [(call, path) for path in OTHER_ROOTS for call in ("file_read", "file_overwrite")]),
    "overlong and overdeep": (nothing, [(call, path) for path in TOO_LONG for call in ("file_read", "file_write")]),
    "links to files": (links, [(call, path) for path in ("work/file", "work/inner", "work/loop") for call in CONTENT]),
    "links to folders on the way": (
        links,
        [(call, f"work/{path}") for path in ("up/secret.txt", "chain/deep/secret.txt", "machine/etc/passwd", "sub/above/a.txt", "loop/a") for call in CONTENT]
        + [(call, f"work/{path}") for path in ("up", "chain", "machine", "sub/above", "loop") for call in ("file_list", "file_search", "file_copy", "file_move", "file_archive")],
    ),
    "links that lead nowhere yet": (
        dangling,
        [(call, "work/dangling") for call in ("file_write", "file_overwrite", "file_append", "file_copy to", "file_move to", "file_archive to")]
        + [(call, "work/far/new.txt") for call in ("file_write", "file_append", "file_copy to", "file_move to")],
    ),
    "hard links": (hard, [(call, path) for path in ("work/hard", "work/sub/hard") for call in (*READING, "file_append")]),
    "FIFOs, sockets and devices": (special, [(call, path) for path in ("work/fifo", "work/socket", "work/zero") for call in CONTENT]),
}  # fmt: skip
CASES = [
    pytest.param(layout, call, path, id=f"{kind}-{at}")
    for kind, (layout, calls) in PATHS.items()
    for at, (call, path) in enumerate(calls)
]


@pytest.fixture(scope="module")
def laid_out(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Any], Ground]]:
    """Return what gives the ground of a layout; it serves for all its cases, as none may change anything."""
    with ExitStack() as stack:

        @cache
        def laid_out(layout: Callable[[Ground], None]) -> Ground:
            made = Ground(tmp_path_factory.mktemp("ground"))
            stack.enter_context(made.open)
            layout(made)
            return made

        yield laid_out


@pytest.mark.parametrize(("layout", "call", "path"), CASES)
def test_an_attack_is_refused_and_changes_nothing(laid_out, layout, call, path):
    ground = laid_out(layout)
    before = ground.all()
    got = ground.attempt(call, path)
    assert isinstance(got, ToolError), got
    assert got.code in ("invalid_input", "permission_denied", "not_found", "conflict"), got
    assert SECRET not in repr(got)
    assert str(ground.home) not in str(got)
    assert ground.all() == before


# ---------------------------------------------------------------- the controls: each class works on somebody


def test_control_dots_and_absolute_paths_lead_out(ground):
    assert trusting(ground, "work/../outside/secret.txt") == SECRET.encode()
    assert b"root" in trusting(ground, "/etc/passwd")


def test_control_a_name_with_a_line_break_is_two_in_a_listing(ground):
    (ground.root / "a\nwork/innocent.txt").parent.mkdir()
    (ground.root / "a\nwork/innocent.txt").touch()
    listing = "\n".join(str(path.relative_to(ground.root)) for path in ground.root.rglob("*"))
    assert "work/innocent.txt" in listing.split("\n")


def test_control_decoding_after_looking_makes_dots(ground):
    for path in (each for each in DISGUISED[:6] if each.startswith("work/")):
        assert by_words(ground, path) == SECRET.encode(), path


def test_control_a_root_is_the_beginning_of_another_name(ground):
    assert by_prefix(ground, "work-evil/secret.txt") == SECRET.encode()


def test_control_deep_folders_are_made_that_are_hard_to_be_rid_of(ground):
    (ground.root / ("a/" * 300)).mkdir(parents=True)
    assert sum(1 for _ in ground.root.rglob("a")) == 300


@pytest.mark.parametrize("path", ["work/file", "work/up/secret.txt", "work/chain/secret.txt"])
def test_control_links_are_followed(ground, path):
    links(ground)
    assert trusting(ground, path) == by_prefix(ground, path) == SECRET.encode()


def test_control_writing_through_a_link_that_leads_nowhere_makes_a_file_outside(ground):
    dangling(ground)
    assert not (ground.root / "dangling").exists()
    (ground.root / "dangling").write_text("evil")
    assert (ground.outside / "new.txt").read_text() == "evil"


def test_control_a_hard_link_cannot_be_seen_in_a_path(ground):
    hard(ground)
    assert by_resolving(ground, "work/hard") == SECRET.encode()


def test_control_a_fifo_makes_whoever_opens_it_wait(ground):
    special(ground)
    assert blocks(lambda: by_resolving(ground, "work/fifo"))
    os.close(os.open(ground.root / "fifo", os.O_WRONLY | os.O_NONBLOCK))  # the one who waits may go


# ---------------------------------------------------------------- classes of another shape

WRITES = [call for call in PLAIN if call not in READING and call not in ("file_info", "file_list")] + [
    "file_copy",
    "file_archive",
]


@pytest.mark.parametrize("call", WRITES)
def test_a_root_that_is_read_only_is_not_written(ground, call):
    before = sorted(ground.home.rglob("*"))
    with FileRoots({"work": ground.root}, read_only=True) as roots:
        got = ground.attempt(
            call, "work/sub/b.txt" if call in ("file_write", "file_append") else "work/a.txt", roots
        )
    assert isinstance(got, ToolError)
    assert sorted(ground.home.rglob("*")) == before
    assert (ground.root / "a.txt").read_text() == "mine"


def test_control_the_same_root_is_written_where_it_may_be(ground):
    for call in ("file_write", "file_append", "file_copy", "file_delete"):
        path = "work/sub/b.txt" if call in ("file_write", "file_append") else "work/a.txt"
        assert not isinstance(ground.attempt(call, path), ToolError)


MACHINE = [
    "proc/self/environ",
    "proc/1/environ",
    "proc/self/root/etc/passwd",
    "proc/self/cwd",
    "proc/thread-self/environ",
    "proc/cpuinfo",
    "sys/kernel",
    "dev/null",
    "dev/shm",
]


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="it has no /proc")
@pytest.mark.parametrize("call", ["file_read", "file_list", "file_copy"])
@pytest.mark.parametrize("path", MACHINE)
def test_what_the_system_shows_of_itself_is_not_in_a_root_even_if_that_is_all_of_it(ground, call, path):
    with FileRoots({"machine": "/", "work": ground.root}) as roots:
        got = ground.attempt(call, f"machine/{path}", roots)
    assert isinstance(got, ToolError), got
    assert got.code in ("permission_denied", "conflict", "not_found")
    assert "stolen" not in os.listdir(ground.root)


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="it has no /proc")
def test_control_the_environment_is_a_file():
    assert b"PATH=" in Path("/proc/self/environ").read_bytes()


CODECS = [
    "zlib", "zip", "bz2", "base64_codec", "hex", "uu", "quopri", "rot13", "idna", "punycode", "undefined", "unicode_escape", "raw-unicode-escape",
    "mbcs", "oem", "../utf_8", "utf_8.evil", "os", "__init__", "aliases", "utf-8\0", "", " ", "unicode-escape",
]  # fmt: skip


@pytest.mark.parametrize("codec", CODECS)
def test_what_is_no_encoding_of_text_is_none(ground, codec):
    (ground.root / "a.txt").write_bytes(zlib.compress(b"a" * 10_000_000))
    registry = ToolRegistry(TOOLS)
    registry.provide(FileRoots({"work": ground.root}))
    for name, arguments in (
        ("file_read", {"path": "work/a.txt"}),
        ("file_write", {"path": "work/b", "content": "a"}),
    ):
        with pytest.raises(ToolError) as caught:
            run(
                lambda name=name, arguments=arguments: registry.execute_tool(
                    name, {**arguments, "encoding": codec}
                ),
                seed=1,
            )
        assert (caught.value.code, caught.value.field) == ("invalid_input", "$.encoding")


def test_control_a_codec_unpacks_what_was_small():
    assert len(codecs.decode(zlib.compress(b"a" * 10_000_000), "zlib")) == 10_000_000


GLOBS = [
    "**/" * 60 + "x",
    "*a" * 90 + "b",
    "[" * 200,
    "[!" * 50,
    "?" * 200,
    "**/*" * 40,
    "{a,b}" * 30,
    "../**",
    "/../*",
    "[]-a]" * 20,
]


@pytest.mark.parametrize("glob", GLOBS)
def test_a_glob_takes_no_more_than_what_it_is_long(ground, glob):
    (ground.root / "/".join("d" * 40)).mkdir(parents=True)
    (ground.root / ("a" * 200)).touch()
    registry = ToolRegistry(TOOLS)
    registry.provide(FileRoots({"work": ground.root}))
    listed = run(
        lambda: registry.execute_tool("file_list", {"path": "work", "recursive": True, "glob": glob}), seed=1
    )
    assert all(each["path"].startswith("work/") for each in listed["entries"])


def test_control_a_glob_without_a_memory_tries_all_ways():
    tried = 0

    def fit(names: list[str], parts: list[str]) -> bool:
        nonlocal tried
        tried += 1
        if tried > 200_000:
            raise OverflowError
        if not parts:
            return not names
        if parts[0] == "**":
            return fit(names, parts[1:]) or (bool(names) and fit(names[1:], parts))
        return bool(names) and fnmatchcase(names[0], parts[0]) and fit(names[1:], parts[1:])

    names, parts = ["d"] * 40, ["**"] * 20 + ["x"]
    with pytest.raises(OverflowError):
        fit(names, parts)
    assert not fits(names, parts)


@pytest.mark.parametrize("trash", ["folder", "file", "nowhere"])
def test_a_trash_that_leads_out_takes_nothing(ground, trash):
    target = {
        "folder": ground.outside,
        "file": ground.outside / "secret.txt",
        "nowhere": ground.outside / "no",
    }[trash]
    (ground.root / ".trash").symlink_to(target)
    got = ground.attempt("file_delete", "work/a.txt")
    assert isinstance(got, ToolError)
    assert (ground.root / "a.txt").read_text() == "mine"
    assert ground.harmed() == []


def test_control_a_trash_that_is_a_link_takes_files_out(ground):
    (ground.root / ".trash").symlink_to(ground.outside)
    shutil.move(ground.root / "a.txt", ground.root / ".trash" / "a.txt")
    assert (ground.outside / "a.txt").exists()


def test_control_a_copy_into_itself_has_no_end(ground):
    (ground.root / "sub/deep").mkdir()
    rounds = 0

    def ignore(folder: str, names: list[str]) -> list[str]:
        nonlocal rounds
        rounds += 1
        if rounds > 50:
            raise RecursionError
        return []

    with pytest.raises(RecursionError):
        shutil.copytree(ground.root / "sub", ground.root / "sub/deep/copy", ignore=ignore)


def test_the_table_is_as_large_as_it_says():
    others = len(WRITES) + 3 * len(MACHINE) + 2 * len(CODECS) + len(GLOBS) + 3
    assert len(PATHS) + 5 >= 12
    assert len(CASES) + others >= 350
