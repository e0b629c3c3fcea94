"""Archives: what is packed is what is unpacked, in every format; what is broken is an error, whatever is broken in it."""

import gzip
import io
import os
import stat
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from reprise import FileRoots, ToolError, ToolRegistry, create_builtin_tools_library
from reprise.testing import run
from reprise.tools.guards import archives

TOOLS = create_builtin_tools_library()
SUFFIXES = [".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz"]
MOST = 8 << 20


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return a root with a tree in it."""
    (tmp_path / "tree/sub/empty").mkdir(parents=True)
    (tmp_path / "tree/a.txt").write_text("a" * 1000)
    (tmp_path / "tree/sub/Grüße.txt").write_text("hello")
    (tmp_path / "tree/sub/run").write_bytes(b"#!/bin/sh\n")
    (tmp_path / "tree/sub/run").chmod(0o4755)
    return tmp_path


def use(home: Path, action: str, path: str, to: str = "", **options: Any) -> Any:
    registry = ToolRegistry(TOOLS)
    with FileRoots(home, max_bytes=MOST) as roots:
        registry.provide(roots)
        arguments = {"action": action, "path": path, "to": to, **options}
        return run(lambda: registry.execute_tool("file_archive", arguments), seed=1)


def refusal(*arguments: Any, **options: Any) -> ToolError:
    with pytest.raises(ToolError) as caught:
        use(*arguments, **options)
    return caught.value


def tree(folder: Path) -> dict[str, Any]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_packed_is_what_is_unpacked(home, suffix):
    packed = use(home, "create", "tree", f"x{suffix}")
    assert (packed["files"], packed["bytes"], packed["more"]) == (3, 1015, False)
    listed = use(home, "list", f"x{suffix}")
    unpacked = use(home, "extract", f"x{suffix}", "again")
    assert packed["entries"] == listed["entries"] == unpacked["entries"]
    assert packed["format"] == listed["format"] == unpacked["format"]
    assert tree(home / "again") == tree(home / "tree")
    modes = [stat.S_IMODE((home / "again" / path).stat().st_mode) for path in ("a.txt", "sub/run")]
    assert [mode & 0o7700 for mode in modes] == [0o600, 0o700]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_others_can_read_it_and_it_is_the_same_each_time(home, suffix):
    use(home, "create", "tree", f"x{suffix}")
    use(home, "create", "tree", f"y{suffix}")
    assert (home / f"x{suffix}").read_bytes() == (home / f"y{suffix}").read_bytes()
    if suffix == ".zip":
        with zipfile.ZipFile(home / "x.zip") as archive:
            assert archive.testzip() is None
            archive.extractall(home / "others")
    else:
        with tarfile.open(home / f"x{suffix}") as archive:
            archive.extractall(home / "others", filter="data")
    assert tree(home / "others") == tree(home / "tree")


def test_a_file_alone_and_the_whole_root_are_packed_too(home):
    assert use(home, "create", "tree/a.txt", "a.zip")["entries"] == [
        {"path": "a.txt", "kind": "file", "bytes": 1000}
    ]
    packed = use(home, "create", ".", "all.tar")
    assert [each["path"] for each in packed["entries"] if "/" not in each["path"]] == ["a.zip", "tree"]


def test_what_is_no_regular_file_is_left_out(home):
    (home / "tree/link").symlink_to("/etc/passwd")
    os.mkfifo(home / "tree/fifo")
    assert use(home, "create", "tree", "x.tar")["files"] == 3
    assert refusal(home, "create", "tree/link", "y.tar").code == "permission_denied"


def test_permissions_that_give_rights_are_taken_away(home):
    with tarfile.open(home / "x.tar", "w") as archive:
        for name, mode in (("a", 0o6777), ("b", 0o1666), ("c", 0)):
            info = tarfile.TarInfo(name)
            info.mode, info.uid, info.uname = mode, 12345, "root"
            archive.addfile(info)
        folder = tarfile.TarInfo("d")
        folder.type, folder.mode = tarfile.DIRTYPE, 0o7000
        archive.addfile(folder)
    use(home, "extract", "x.tar", "out")
    found = {name: (home / "out" / name).stat() for name in "abcd"}
    assert [stat.S_IMODE(found[name].st_mode) & ~0o022 for name in "abc"] == [0o755, 0o644, 0o644]
    assert all(not each.st_mode & 0o7022 and each.st_uid == os.getuid() for each in found.values())
    assert found["d"].st_mode & 0o700 == 0o700


def test_an_archive_in_an_archive_is_a_file(home):
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(MOST * 4))
    with zipfile.ZipFile(home / "x.zip", "w") as archive:
        archive.writestr("inner.zip", inner.getvalue())
    assert use(home, "extract", "x.zip", "out")["files"] == 1
    assert os.listdir(home / "out") == ["inner.zip"]


def test_what_it_is_says_how_it_begins_not_its_name(home):
    use(home, "create", "tree", "x.tar.gz")
    (home / "x.tar.gz").rename(home / "x.zip")
    assert use(home, "list", "x.zip")["format"] == "tar.gz"


def test_only_the_first_entries_are_named(home):
    packed = use(home, "create", "tree", "x.zip", limit=2)
    assert (len(packed["entries"]), packed["files"], packed["more"]) == (2, 3, True)


@pytest.mark.parametrize(
    ("action", "path", "to", "code", "field"),
    [
        ("create", "tree", "x.rar", "invalid_input", "$.to"),
        ("create", "tree", "", "invalid_input", "$.to"),
        ("create", "none", "x.zip", "not_found", "$.path"),
        ("create", "tree", "none/x.zip", "not_found", "$.to"),
        ("create", "tree", "tree/a.txt", "invalid_input", "$.to"),
        ("create", "tree", "old.zip", "conflict", "$.to"),
        ("extract", "old.zip", "", "invalid_input", "$.to"),
        ("extract", "old.zip", "tree", "conflict", "$.to"),
        ("extract", "old.zip", "tree/a.txt", "conflict", "$.to"),
        ("extract", "old.zip", "none/x", "not_found", "$.to"),
        ("extract", "old.zip", "../x", "invalid_input", "$.to"),
        ("list", "old.zip", "x", "invalid_input", "$.to"),
        ("list", "tree", "", "conflict", "$.path"),
    ],
)
def test_what_cannot_be_done_is_said_with_its_field(home, action, path, to, code, field):
    use(home, "create", "tree", "old.zip")
    before = tree(home)
    error = refusal(home, action, path, to)
    assert (error.code, error.field) == (code, field)
    assert tree(home) == before


def made(form: str) -> bytes:
    out = io.BytesIO()
    if form == "zip":
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a/b.txt", b"hello " * 50)
            archive.writestr("c.txt", b"")
    else:
        with tarfile.open(fileobj=out, mode="w") as archive:
            for name in ("a/" + "long" * 30, "c"):
                info = tarfile.TarInfo(name)
                info.size = 5
                archive.addfile(info, io.BytesIO(b"hello"))
    return gzip.compress(out.getvalue(), mtime=0) if form == "gz" else out.getvalue()


@pytest.mark.parametrize("form", ["zip", "tar", "gz"])
@given(st.data())
@settings(max_examples=150, deadline=None)
def test_whatever_is_broken_in_an_archive_it_is_an_error_or_what_it_says(form, data):
    whole = bytearray(made(form))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(whole) - 1))
        whole[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.one_of(st.just(len(whole)), st.integers(0, len(whole))))
    try:
        found = [
            (entry.path, b"".join(entry.data))
            for entry in archives.entries(io.BytesIO(whole[:cut]), "x", MOST)
        ]
    except ToolError as error:
        assert error.code in ("invalid_input", "permission_denied", "too_large")
    else:
        assert sum(len(content) for _, content in found) <= MOST
        assert all(".." not in path.split("/") and not path.startswith("/") for path, _ in found)


NAMES = st.text("ab.é ~%", min_size=1, max_size=6).filter(lambda name: name.strip(".") != "")


@given(
    st.dictionaries(st.lists(NAMES, min_size=1, max_size=3).map("/".join), st.binary(max_size=50), max_size=6)
)
@settings(max_examples=20, deadline=None)
def test_files_of_any_names_come_back(files):
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as home:
        for path, data in files.items():
            try:
                Path(home, "tree", path).parent.mkdir(parents=True, exist_ok=True)
                Path(home, "tree", path).write_bytes(data)
            except OSError:  # a file where another has a folder
                continue
        Path(home, "tree").mkdir(exist_ok=True)
        for suffix in (".zip", ".tar.gz"):
            use(Path(home), "create", "tree", f"x{suffix}")
            use(Path(home), "extract", f"x{suffix}", f"out{suffix}")
            assert tree(Path(home, f"out{suffix}")) == tree(Path(home, "tree"))
