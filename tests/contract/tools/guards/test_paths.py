"""Roots of files: what is in them is reached, whole or not at all; what is outside is not, whatever the path says."""

import os
import stat
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings, strategies as st

from reprise import ConfigurationError, FileRoots, ToolError
from reprise.tools.guards import renaming
from reprise.tools.guards.names import segments


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return a folder with a root in it, and a secret beside the root."""
    (tmp_path / "root" / "sub").mkdir(parents=True)
    (tmp_path / "root" / "a.txt").write_text("hello")
    (tmp_path / "root" / "sub" / "b.txt").write_text("below")
    (tmp_path / "secret.txt").write_text("secret")
    return tmp_path


@pytest.fixture
def roots(home: Path):
    with FileRoots({"work": home / "root"}) as roots:
        yield roots


def read(roots: FileRoots, path: str) -> bytes:
    with roots.reading(path) as file:
        return file.read()


def write(roots: FileRoots, path: str, data: bytes = b"new", **options) -> None:
    with roots.writing(path, **options) as file:
        file.write(data)


def refusal(call, *arguments, **options) -> ToolError:
    with pytest.raises(ToolError) as caught:
        call(*arguments, **options)
    return caught.value


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_files_are_read_and_written_by_the_name_of_their_root(roots, home):
    assert read(roots, "work/a.txt") == b"hello"
    assert read(roots, "./work//sub/./b.txt") == b"below"
    write(roots, "work/deep/er/c.txt", make=True)
    assert (home / "root/deep/er/c.txt").read_text() == "new"
    assert roots.names == ("work",)


def test_one_root_needs_no_name(home):
    with FileRoots(home / "root") as roots:
        assert read(roots, "a.txt") == b"hello"
        assert roots.names == ()
        with roots.folder(".") as folder:
            assert folder.names() == ["a.txt", "sub"]


def test_create_replaces_nothing_and_overwrite_keeps_permissions(roots, home):
    file = home / "root/a.txt"
    file.chmod(0o640)
    error = refusal(write, roots, "work/a.txt")
    assert error.code == "conflict"
    assert file.read_text() == "hello"
    write(roots, "work/a.txt", mode="overwrite")
    assert (file.read_text(), stat.S_IMODE(file.stat().st_mode)) == ("new", 0o640)
    write(roots, "work/a.txt", b"er", mode="append")
    write(roots, "work/new.txt", b"er", mode="append")
    assert (file.read_text(), (home / "root/new.txt").read_text()) == ("newer", "er")
    assert left(home / "root") == ["a.txt", "new.txt", "sub"]


@pytest.mark.parametrize("mode", ["create", "overwrite"])
def test_a_write_that_fails_leaves_nothing(roots, home, mode):
    def half() -> None:
        with roots.writing("work/sub/c.txt", mode) as file:
            file.write(b"half")
            raise KeyError

    with pytest.raises(KeyError):
        half()
    error = refusal(write, roots, "work/sub/c.txt", b"12345", mode=mode, limit=4)
    assert error.code == "too_large"
    assert left(home / "root/sub") == ["b.txt"]


def test_others_see_all_of_a_file_or_nothing(roots, home):
    with roots.writing("work/a.txt", "overwrite") as file:
        file.write(b"new")
        file.flush()
        assert (home / "root/a.txt").read_text() == "hello"
    assert (home / "root/a.txt").read_text() == "new"


def test_of_two_who_create_a_name_one_did(roots):
    def both() -> None:
        with roots.writing("work/one.txt") as file:
            file.write(b"first")
            write(roots, "work/one.txt", b"second")

    assert refusal(both).code == "conflict"
    assert read(roots, "work/one.txt") == b"second"


@pytest.mark.parametrize("in_one_step", [True, False])
def test_a_name_that_is_taken_is_never_replaced_by_a_rename(roots, home, monkeypatch, in_one_step):
    if not in_one_step:
        monkeypatch.setattr(renaming, "_in_one_step", lambda: None)
    with roots.folder("work") as folder:
        for old, new in (("a.txt", "sub"), ("sub", "a.txt"), ("sub", "sub")):
            assert refusal(folder.rename, old, folder, new).code == "conflict"
        folder.make("other")
        assert refusal(folder.rename, "sub", folder, "other").code == "conflict"
        folder.rename("a.txt", folder, "b.txt")
        folder.rename("sub", folder, "c")
        with folder.enter("c") as inner:
            assert refusal(folder.rename, "c", inner, "c").code == "conflict"
    assert left(home / "root") == ["b.txt", "c", "other"]
    assert left(home / "root/c") == ["b.txt"]
    assert (home / "root/b.txt").read_text() == "hello"


def test_a_file_that_is_made_for_all_to_see_replaces_nothing_either(roots, home):
    (home / "root/link").symlink_to(home / "none")

    def make(name: str) -> None:
        with roots.folder("work") as folder, folder.new(name) as file:
            file.write(b"evil")

    for name in ("a.txt", "sub", "link"):
        assert refusal(make, name).code == "conflict"
    assert (home / "root/a.txt").read_text() == "hello"
    assert not (home / "none").exists()


def test_a_root_that_is_read_only_stays_as_it_is(home):
    with FileRoots({"work": home / "root"}, read_only=["work"]) as roots, roots.folder("work") as folder:
        assert read(roots, "work/a.txt") == b"hello"
        for call in (
            lambda: write(roots, "work/c.txt"),
            lambda: write(roots, "work/a.txt", mode="append"),
            lambda: write(roots, "work/new/c.txt", make=True),
            lambda: folder.remove("a.txt"),
            lambda: folder.remove_folder("sub"),
            lambda: folder.rename("a.txt", folder, "b.txt"),
        ):
            assert refusal(call).code == "permission_denied"
    assert left(home / "root") == ["a.txt", "sub"]
    with FileRoots({"work": home / "root"}, read_only=True) as roots:
        assert refusal(write, roots, "work/c.txt").code == "permission_denied"


def test_what_is_not_there_names_what_is_meant(roots):
    error = refusal(read, roots, "work/a.txd")
    assert (error.code, error.field, error.hint) == ("not_found", "$.path", "Did you mean 'work/a.txt'?")
    assert refusal(read, roots, "work/subb/b.txt").hint == "Did you mean 'work/sub'?"
    assert refusal(read, roots, "wrok/a.txt").hint == "Did you mean 'work'?"
    assert refusal(read, roots, "").hint == "Roots: work."
    assert refusal(read, roots, "work/a.txt/b").code == "conflict"
    assert refusal(read, roots, "work/sub").code == "conflict"
    assert refusal(write, roots, "work").code == "invalid_input"


def test_errors_do_not_name_the_machines_paths(roots, home):
    (home / "root/link").symlink_to(home / "secret.txt")
    for path in ("work/none.txt", "work/link", "work/sub/none/x", "work/../secret.txt"):
        assert str(home) not in str(refusal(read, roots, path))


@pytest.mark.parametrize(
    ("folders", "options", "says"),
    [
        ({}, {}, "without a folder"),
        ({"work": "."}, {"read_only": ["wrok"]}, "'wrok', which is no root"),
        ({"work": "."}, {"max_bytes": 0}, "positive"),
        ({"a/b": "."}, {}, "name of a root"),
        ({"..": "."}, {}, "name of a root"),
        ({".": "."}, {}, "name of a root"),
        ({"": "."}, {}, "name of a root"),
        ({"work": "no such folder"}, {}, "cannot be opened"),
        ({"work": "nul\0"}, {}, "cannot be opened"),
        (__file__, {}, "cannot be opened"),
    ],
)
def test_roots_that_cannot_be_are_said_at_once(folders, options, says):
    with pytest.raises(ConfigurationError, match=says):
        FileRoots(folders, **options)


def test_a_system_without_handles_of_folders_is_refused(home, monkeypatch):
    monkeypatch.setattr(os, "supports_dir_fd", set())
    with pytest.raises(ConfigurationError, match="no handles of folders"):
        FileRoots(home)


def test_handles_are_closed(home):
    before = len(os.listdir("/dev/fd"))
    roots = FileRoots({"a": home, "b": home})
    for path in ("a/root/a.txt", "a/none/x", "b/root/a.txt/x", "b/root/sub"):
        try:
            read(roots, path)
        except ToolError:
            pass
    with pytest.raises(ToolError):
        write(roots, "a/root/a.txt")
    assert len(os.listdir("/dev/fd")) == before + 2
    roots.close()
    roots.close()
    assert len(os.listdir("/dev/fd")) == before
    assert refusal(read, roots, "a/root/a.txt").code == "unavailable"
    FileRoots(home)
    assert len(os.listdir("/dev/fd")) == before


# ---------------------------------------------------------------- whatever the path

HOME = ("root/a.txt", "root/sub/b.txt", "secret.txt", "root/inner/secret.txt", "rootless/secret.txt")
PARTS = st.sampled_from(
    ["work", "a.txt", "sub", "b.txt", "inner", "out", "up", "chain", "..", ".", "", "secret.txt", "rootless", "new", "~", "%2e%2e", "\uff0e\uff0e"]
) | st.text(max_size=4)  # fmt: skip
PATHS = st.lists(PARTS, max_size=6).map("/".join)


def lay_out(home: Path) -> None:
    for path in HOME:
        (home / path).parent.mkdir(parents=True, exist_ok=True)
        (home / path).write_text("secret" if "secret" in path else "hello")
    (home / "root/inner/secret.txt").unlink()
    (home / "root/out").symlink_to(home / "secret.txt")
    (home / "root/up").symlink_to("..")
    (home / "root/sub/chain").symlink_to("../up/rootless")


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["read", "create", "overwrite", "append", "make", "remove", "names"]), PATHS
        ),
        max_size=8,
    )
)
@settings(max_examples=80, deadline=None)
def test_no_path_leads_out_of_a_root(calls):
    with TemporaryDirectory() as name:
        home = Path(name)
        lay_out(home)
        outside = {path: (home / path).read_bytes() for path in ("secret.txt", "rootless/secret.txt")}
        with FileRoots({"work": home / "root"}) as roots:
            for verb, path in calls:
                try:
                    if verb == "read":
                        assert read(roots, path) != b"secret"
                    elif verb == "make":
                        roots.folder(path, make=True).close()
                    elif verb == "names":
                        with roots.folder(path) as folder:
                            assert "rootless" not in folder.names()
                    elif verb == "remove":
                        with roots.place(path, inside=True) as (folder, last):
                            folder.remove(last)
                    else:
                        write(roots, path, mode=verb, make=True)
                except ToolError as error:
                    assert error.code in ("invalid_input", "not_found", "permission_denied", "conflict")
        assert {path: (home / path).read_bytes() for path in outside} == outside
        assert left(home) == ["root", "rootless", "secret.txt"]
        assert left(home / "rootless") == ["secret.txt"]


def test_control_some_of_these_paths_lead_out_of_a_root_that_is_only_put_before(home):
    lay_out(home)
    paths = ("work/../secret.txt", "work/out", "work/up/secret.txt", "work/sub/chain/secret.txt")
    assert all((home / path.replace("work", "root")).read_text() == "secret" for path in paths)


@given(st.text(max_size=30))
def test_what_is_made_of_a_path_are_names(path):
    try:
        names = segments(path)
    except ToolError as error:
        assert (error.code, error.field) == ("invalid_input", "$.path")
    else:
        assert not {"", ".", ".."} & set(names)
        assert not any("/" in name or "\0" in name for name in names)
        assert segments("/".join(names)) == names
