"""Tools for files, on what people have: texts in any encoding, folders in folders, and what goes wrong in them."""

import os
import sys
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any

import pytest

from reprise import FileRoots, ToolError, ToolRegistry, create_builtin_tools_library
from reprise.testing import run
from reprise.tools.library.files import trees

TOOLS = create_builtin_tools_library()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return a folder with two roots, work and kept."""
    (tmp_path / "work" / "sub" / "deep").mkdir(parents=True)
    (tmp_path / "kept").mkdir()
    (tmp_path / "work/a.txt").write_text("one\ntwo\nthree\n")
    (tmp_path / "work/sub/b.csv").write_text("x,y\n1,2\n")
    (tmp_path / "work/sub/deep/c.txt").write_text("two deep\n")
    return tmp_path


@pytest.fixture
def use(home: Path):
    """Return what calls a tool."""
    roots = FileRoots({"work": home / "work", "kept": home / "kept"})
    registry = ToolRegistry(TOOLS)
    registry.provide(roots)
    warned: list[str] = []

    def use(name: str, **arguments: Any) -> Any:
        result = run(lambda: registry.call_tool(name, arguments), seed=1)
        warned[:] = result.warnings
        return result.value

    use.warned = warned
    use.roots = roots
    with roots:
        yield use


def refusal(use: Any, name: str, **arguments: Any) -> ToolError:
    with pytest.raises(ToolError) as caught:
        use(name, **arguments)
    return caught.value


def tree(folder: Path) -> dict[str, Any]:
    """Return what is in a folder, by path: content, or None of a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


@pytest.mark.parametrize("name", [each.name for each in TOOLS if each.name.startswith("file_")])
def test_without_roots_tools_say_how_to_give_them(name):
    needed = {"path": ".", "to": "a.zip", "query": "x", "content": "", "action": "create"}
    tool = next(each for each in TOOLS if each.name == name)
    arguments = {each: needed[each] for each in tool.parameters["required"]} | (
        {"to": "a.zip"} if name == "file_archive" else {}
    )
    with pytest.raises(ToolError) as caught:
        run(lambda: ToolRegistry(TOOLS).execute_tool(name, arguments), seed=1)
    assert caught.value.code == "unavailable"
    assert 'registry.provide(FileRoots({"docs": "/srv/docs"}))' in caught.value.hint


def test_ten_tools_and_what_they_do_beside():
    effects = {each.name: each.effects for each in TOOLS if each.name.startswith("file_")}
    assert len(effects) == 10
    reading = {name for name, effect in effects.items() if effect == "reads_files"}
    assert reading == {"file_read", "file_list", "file_search", "file_info", "file_hash"}
    assert set(effects.values()) == {"reads_files", "writes_files"}


# ---------------------------------------------------------------- reading


@pytest.mark.parametrize(
    ("data", "text", "encoding"),
    [
        (b"", "", "utf-8"),
        ("Grüße\r\n".encode(), "Grüße\r\n", "utf-8"),
        ("\ufeffGrüße".encode(), "Grüße", "utf-8-sig"),
        ("Grüße".encode("utf-16"), "Grüße", "utf-16"),
        ("Grüße".encode("utf-32"), "Grüße", "utf-32"),
    ],
)
def test_a_text_is_read_whatever_its_encoding(use, home, data, text, encoding):
    (home / "work/t").write_bytes(data)
    read = use("file_read", path="work/t")
    assert (read["content"], read["encoding"], read["bytes"]) == (text, encoding, len(data))
    assert use.warned == []


def test_an_encoding_that_is_guessed_is_said(use, home):
    text = "Привет, как дела? Это обычный текст на русском языке, по которому видно кодировку.\n" * 3
    (home / "work/t").write_bytes(text.encode("cp1251"))
    read = use("file_read", path="work/t")
    assert (read["content"], read["encoding"]) == (text, "cp1251")
    assert "guessed" in use.warned[0]
    assert use("file_read", path="work/t", encoding="cp1251")["content"] == text
    assert use.warned == []


def test_bytes_are_read_as_base64_in_parts(use, home):
    data = bytes(range(256)) * 300
    (home / "work/t").write_bytes(data)
    parts, at = [], 0
    while at is not None:
        read = use("file_read", path="work/t", offset=at)
        assert read["encoding"] == "base64"
        parts.append(b64decode(read["content"]))
        at = read["next"]
    assert b"".join(parts) == data
    assert len(parts) == 2
    assert (
        use("file_read", path="work/a.txt", encoding="base64", offset=4, limit=3)["content"]
        == b64encode(b"two").decode()
    )


def test_lines_are_read_in_parts(use, home):
    (home / "work/t").write_text("".join(f"line {n}\n" for n in range(5000)))
    first = use("file_read", path="work/t")
    assert (first["content"].count("\n"), first["next"]) == (2000, 2000)
    last = use("file_read", path="work/t", offset=4998)
    assert (last["content"], last["next"]) == ("line 4998\nline 4999\n", None)
    assert use("file_read", path="work/t", offset=6000)["content"] == ""


def test_no_more_is_read_than_a_caller_can_be_given(use, home):
    (home / "work/t").write_text(("x" * 1000 + "\n") * 2000)
    read = use("file_read", path="work/t", limit=100_000)
    assert len(read["content"]) <= 1 << 20
    assert read["next"] == read["content"].count("\n")
    (home / "work/t").write_text("x" * (2 << 20))
    error = refusal(use, "file_read", path="work/t")
    assert (error.code, error.hint) == ("too_large", "Read it as base64, in parts.")


def test_what_is_not_what_it_is_said_to_be_is_refused(use, home):
    (home / "work/t").write_bytes("Grüße".encode("latin-1") + b"\x81")
    assert refusal(use, "file_read", path="work/t", encoding="utf-8").field == "$.encoding"
    (home / "work/t").write_bytes(b"a" * (1 << 17) + b"\xff")
    assert "is not all utf-8" in str(refusal(use, "file_read", path="work/t"))


@pytest.mark.parametrize("encoding", ["utf8", "latin-1", "cp1252", "ascii", "shift-jis"])
def test_what_is_written_is_read(use, encoding):
    use("file_write", path="work/t", content="plain text\n", encoding=encoding)
    assert use("file_read", path="work/t", encoding=encoding)["content"] == "plain text\n"


@pytest.mark.parametrize(
    ("data", "name", "mime", "known_by"),
    [
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "picture", "image/png", "content"),
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "page.html", "image/png", "content"),
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n\x00", "x.txt", "application/pdf", "content"),
        (b"GIF89a\x01\x00\x01\x00\x00", "x", "image/gif", "content"),
        (b"{}", "x.json", "application/json", "content"),
        (b"hello", "x", "text/plain", "content"),
        (b"hello", "x.png", "text/plain", "content"),
        (b"", "x.csv", "text/csv", "name"),
        (b"\x00\x01\x02", "x", "", ""),
    ],
)
def test_the_type_is_that_of_the_content_not_of_the_name(use, home, data, name, mime, known_by):
    (home / "work" / name).write_bytes(data)
    told = use("file_info", path=f"work/{name}")
    assert (told["mime"], told["known_by"], told["bytes"], told["kind"]) == (
        mime,
        known_by,
        len(data),
        "file",
    )


def test_without_the_extra_the_name_says_the_type_and_guessing_says_what_to_install(use, home, monkeypatch):
    monkeypatch.setitem(sys.modules, "puremagic", None)
    monkeypatch.setitem(sys.modules, "charset_normalizer", None)
    (home / "work/x.png").write_bytes(b"\x89PNG\r\n\x1a\n\x00")
    (home / "work/t").write_bytes("Grüße".encode("latin-1"))
    told = use("file_info", path="work/x.png")
    assert (told["mime"], told["known_by"]) == ("image/png", "name")
    error = refusal(use, "file_read", path="work/t")
    assert (error.code, "reprise-agents[files]" in error.hint) == ("unavailable", True)
    assert use("file_read", path="work/t", encoding="latin-1")["content"] == "Grüße"


def test_folders_and_links_are_told_too(use, home):
    assert use("file_info", path="work/sub")["kind"] == "folder"
    assert use("file_info", path="work")["kind"] == "folder"
    (home / "work/link").symlink_to("/etc/passwd")
    told = use("file_info", path="work/link")
    assert (told["kind"], told["bytes"], told["mime"]) == ("link", 0, "")


# ---------------------------------------------------------------- finding


def test_the_top_lists_the_roots(use):
    for path in ("", ".", "./"):
        assert [each["path"] for each in use("file_list", path=path)["entries"]] == ["work", "kept"]


@pytest.mark.parametrize(
    ("options", "paths"),
    [
        ({}, ["work/a.txt", "work/sub"]),
        ({"recursive": True}, ["work/a.txt", "work/sub", "work/sub/b.csv", "work/sub/deep", "work/sub/deep/c.txt"]),
        ({"recursive": True, "glob": "*.txt"}, ["work/a.txt", "work/sub/deep/c.txt"]),
        ({"recursive": True, "glob": "sub/*"}, ["work/sub/b.csv", "work/sub/deep"]),
        ({"recursive": True, "glob": "sub/**/*.txt"}, ["work/sub/deep/c.txt"]),
        ({"recursive": True, "glob": "**/*.txt"}, ["work/a.txt", "work/sub/deep/c.txt"]),
        ({"recursive": True, "glob": "/*.txt"}, ["work/a.txt"]),
        ({"glob": "[ab]*"}, ["work/a.txt"]),
        ({"glob": "*.pdf"}, []),
    ],
)  # fmt: skip
def test_files_are_listed_by_glob(use, options, paths):
    listed = use("file_list", path="work", **options)
    assert [each["path"] for each in listed["entries"]] == paths
    assert listed["more"] is False


def test_a_listing_says_whether_there_is_more(use):
    for limit, more in ((1, True), (2, False), (3, False)):
        listed = use("file_list", path="work", limit=limit)
        assert (len(listed["entries"]), listed["more"]) == (min(limit, 2), more)


def test_names_that_no_path_can_have_are_left_out_and_said(use, home):
    for name in (b"\xff.txt", b"a\nb", "a\u202etxt".encode(), b"a\\b", b"\x1b[31m"):
        with open(os.fsencode(home / "work/sub/deep") + b"/" + name, "w"):
            pass
    listed = use("file_list", path="work/sub/deep")
    assert [each["path"] for each in listed["entries"]] == ["work/sub/deep/c.txt"]
    assert use.warned[0].count("a name that no path can have") == 5


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"query": "two"}, [("work/a.txt", 2, "two"), ("work/sub/deep/c.txt", 1, "two deep")]),
        ({"query": "TWO"}, []),
        ({"query": "TWO", "ignore_case": True, "glob": "a.*"}, [("work/a.txt", 2, "two")]),
        ({"query": "^t.*e$", "regex": True}, [("work/a.txt", 3, "three")]),
        ({"query": "^T", "regex": True, "ignore_case": True, "glob": "a*"}, [("work/a.txt", 2, "two"), ("work/a.txt", 3, "three")]),
        ({"query": "o", "path": "work/a.txt"}, [("work/a.txt", 1, "one"), ("work/a.txt", 2, "two")]),
        ({"query": "e", "regex": True, "path": "work/a.txt"}, [("work/a.txt", 1, "one"), ("work/a.txt", 3, "three")]),
        ({"query": "(", "path": "work"}, []),
    ],
)  # fmt: skip
def test_lines_are_found(use, options, found):
    told = use("file_search", **{"path": "work", **options})
    assert [(each["path"], each["line"], each["text"]) for each in told["matches"]] == found
    assert told["more"] is False


def test_a_search_says_whether_there_is_more_and_passes_over_what_is_no_text(use, home):
    (home / "work/binary").write_bytes(b"two\0two")
    (home / "work/sub/sixteen").write_text("two\r\n" * 3, encoding="utf-16")
    told = use("file_search", query="two", path="work", limit=4)
    assert (len(told["matches"]), told["more"], told["files"]) == (4, True, 4)
    assert use("file_search", query="two$", regex=True, path="work", limit=5)["more"] is False
    assert refusal(use, "file_search", query="(a", regex=True, path="work").field == "$.query"
    assert "at character 1" in str(refusal(use, "file_search", query="(a", regex=True, path="work"))


def test_a_line_of_a_search_is_a_line_to_read_from(use, home):
    (home / "work/t").write_bytes(b"a\rb\x0cc\x1cd\n" + "e\u2028f\n".encode() + b"needle\n")
    line = use("file_search", query="needle", path="work/t")["matches"][0]["line"]
    assert use("file_search", query="needle", path="work/t", regex=True)["matches"][0]["line"] == line
    assert use("file_read", path="work/t", offset=line - 1)["content"] == "needle\n"


# ---------------------------------------------------------------- changing


def test_a_file_is_written_in_three_ways(use, home):
    assert use("file_write", path="work/n/e/w.txt", content="a", folders=True)["bytes"] == 1
    assert refusal(use, "file_write", path="work/n/e/w.txt", content="b").code == "conflict"
    use("file_write", path="work/n/e/w.txt", content="c", mode="overwrite")
    use("file_write", path="work/n/e/w.txt", content="é", mode="append")
    assert (home / "work/n/e/w.txt").read_text() == "cé"
    use("file_write", path="work/bytes", content=b64encode(b"\0\xff").decode(), encoding="base64")
    assert (home / "work/bytes").read_bytes() == b"\0\xff"
    assert refusal(use, "file_write", path="work/no/w.txt", content="a").code == "not_found"


@pytest.mark.parametrize(
    ("content", "encoding", "field"),
    [("é", "ascii", "$.content"), ("!", "base64", "$.content"), ("a", "utf-9", "$.encoding"), ("a", "rot13", "$.encoding")],
)  # fmt: skip
def test_what_cannot_be_written_so_is_not_written(use, home, content, encoding, field):
    error = refusal(use, "file_write", path="work/new", content=content, encoding=encoding)
    assert (error.code, error.field) == ("invalid_input", field)
    assert not (home / "work/new").exists()


def test_files_and_folders_are_copied_with_their_permissions(use, home):
    (home / "work/sub/b.csv").chmod(0o755)
    assert use("file_copy", path="work/sub", to="kept/copy") == {"path": "kept/copy", "files": 2, "bytes": 17}
    assert tree(home / "kept/copy") == tree(home / "work/sub")
    assert os.access(home / "kept/copy/b.csv", os.X_OK)
    assert use("file_copy", path="work", to="kept/all")["files"] == 3
    use("file_copy", path="work/a.txt", to="kept/x/y.txt", folders=True)
    assert refusal(use, "file_copy", path="work/a.txt", to="kept/x/y.txt").code == "conflict"
    use("file_copy", path="work/sub/b.csv", to="kept/x/y.txt", overwrite=True)
    assert (home / "kept/x/y.txt").read_text() == "x,y\n1,2\n"
    for to in ("kept/copy", "work/a.txt"):
        assert refusal(use, "file_copy", path="work/sub", to=to, overwrite=True).code == "conflict"


def test_a_folder_is_not_copied_or_moved_into_itself(use, home):
    before = tree(home)
    for to in ("work/sub/copy", "work/sub/deep/copy"):
        error = refusal(use, "file_copy", path="work/sub", to=to)
        assert (error.code, "into itself" in str(error)) == ("conflict", True)
        assert "into itself" in str(refusal(use, "file_move", path="work/sub", to=to))
    assert tree(home) == before


def test_what_is_no_regular_file_is_left_out_of_a_copy(use, home):
    (home / "work/sub/link").symlink_to(home / "work/a.txt")
    os.mkfifo(home / "work/sub/fifo")
    os.link(home / "work/a.txt", home / "work/sub/hard")
    assert use("file_copy", path="work/sub", to="kept/copy")["files"] == 2
    assert sorted(tree(home / "kept/copy")) == ["b.csv", "deep", "deep/c.txt"]
    assert [word in use.warned[0] for word in ("link", "FIFO", "hard links")] == [True] * 3


def test_files_and_folders_are_moved(use, home):
    assert use("file_move", path="work/sub", to="kept/sub") == {"path": "kept/sub", "kind": "folder"}
    assert refusal(use, "file_move", path="work/a.txt", to="kept/sub").code == "conflict"
    assert refusal(use, "file_move", path="work/a.txt", to="kept/sub", overwrite=True).code == "conflict"
    assert refusal(use, "file_move", path="work/a.txt", to="kept/sub/b.csv").code == "conflict"
    use("file_move", path="work/a.txt", to="kept/sub/b.csv", overwrite=True)
    assert tree(home / "work") == {}
    assert (home / "kept/sub/b.csv").read_text().startswith("one")


def other_file_system() -> Path | None:
    shared = Path("/dev/shm")
    return shared if shared.is_dir() and os.access(shared, os.W_OK) else None


@pytest.mark.skipif(other_file_system() is None, reason="no second file system to write to")
def test_a_move_to_another_file_system_copies_and_removes_or_does_nothing(use, home, tmp_path_factory):
    from tempfile import TemporaryDirectory

    registry = ToolRegistry(TOOLS)
    with TemporaryDirectory(dir=other_file_system()) as far:
        if os.stat(far).st_dev == os.stat(home).st_dev:
            pytest.skip("it is the same file system")
        with FileRoots({"work": home / "work", "far": far}) as roots:
            registry.provide(roots)
            before = tree(home / "work/sub")
            (home / "work/sub/link").symlink_to("b.csv")
            with pytest.raises(ToolError, match="cannot be moved to another file system whole"):
                run(lambda: registry.execute_tool("file_move", {"path": "work/sub", "to": "far/sub"}), seed=1)
            assert os.listdir(far) == []
            assert (home / "work/sub/deep/c.txt").exists()
            (home / "work/sub/link").unlink()
            run(lambda: registry.execute_tool("file_move", {"path": "work/sub", "to": "far/sub"}), seed=1)
            run(lambda: registry.execute_tool("file_move", {"path": "work/a.txt", "to": "far/a.txt"}), seed=1)
            assert tree(Path(far, "sub")) == before
            assert tree(home / "work") == {}


def test_what_is_deleted_can_be_moved_back(use, home):
    before = tree(home / "work")
    gone = [
        use("file_delete", path=path, recursive=True)
        for path in ("work/sub/deep/c.txt", "work/sub", "work/a.txt")
    ]
    assert use("file_list", path="work", recursive=True)["entries"] == []
    assert len({each["trash"] for each in gone}) == 3
    for each in reversed(gone):
        use("file_move", path=each["trash"], to=each["path"])
    assert {
        path: data for path, data in tree(home / "work").items() if not path.startswith(".trash")
    } == before


def test_a_folder_is_deleted_only_by_who_says_so(use, home):
    error = refusal(use, "file_delete", path="work/sub", trash=False)
    assert (error.code, error.field) == ("conflict", "$.recursive")
    (home / "work/sub/link").symlink_to(home / "kept")
    (home / "kept/safe").write_text("")
    use("file_delete", path="work/sub", trash=False, recursive=True)
    assert sorted(tree(home / "work")) == ["a.txt"]
    assert (home / "kept/safe").exists()
    (home / "work/empty").mkdir()
    use("file_delete", path="work/empty", trash=False)
    assert refusal(use, "file_delete", path="work", recursive=True).code == "invalid_input"


def test_the_trash_is_emptied_for_good(use, home):
    gone = use("file_delete", path="work/a.txt")["trash"]
    assert refusal(use, "file_delete", path=gone).field == "$.trash"
    assert refusal(use, "file_delete", path="work/.trash", recursive=True).code == "conflict"
    use("file_delete", path="work/.trash", recursive=True, trash=False)
    assert sorted(tree(home / "work")) == ["sub", "sub/b.csv", "sub/deep", "sub/deep/c.txt"]


def test_a_link_is_deleted_and_not_what_it_leads_to(use, home):
    (home / "work/link").symlink_to(home / "kept")
    use("file_delete", path="work/link", trash=False)
    assert (home / "kept").is_dir()
    assert not (home / "work/link").is_symlink()


# ---------------------------------------------------------------- limits


def test_one_call_reads_only_so_much(home):
    registry = ToolRegistry(TOOLS)
    with FileRoots(home / "work", max_bytes=20) as roots:
        registry.provide(roots)
        (home / "work/t").write_text("x" * 21)
        for name, arguments in (
            ("file_hash", {"path": "t"}),
            ("file_copy", {"path": "t", "to": "u"}),
            ("file_copy", {"path": "sub", "to": "v"}),
            ("file_search", {"query": "y"}),
            ("file_write", {"path": "u", "content": "x" * 21}),
            ("file_archive", {"action": "create", "path": "t", "to": "u.zip"}),
        ):
            (home / "work/sub/deep/c.txt").write_text("x" * 20)
            with pytest.raises(ToolError) as caught:
                run(lambda name=name, arguments=arguments: registry.execute_tool(name, arguments), seed=1)
            assert caught.value.code == "too_large", name
    assert sorted(path.name for path in (home / "work").iterdir()) == ["a.txt", "sub", "t"]


def test_one_call_looks_at_only_so_many_names(use, monkeypatch):
    monkeypatch.setattr(trees, "NAMES", 3)
    assert refusal(use, "file_list", path="work", recursive=True).code == "too_large"
    assert len(use("file_list", path="work")["entries"]) == 2


def test_one_call_takes_only_so_long(use, home, monkeypatch):
    monkeypatch.setattr(trees, "SECONDS", -1.0)
    before = tree(home)
    for name, arguments in (
        ("file_hash", {"path": "work/a.txt"}),
        ("file_list", {"path": "work"}),
        ("file_copy", {"path": "work/sub", "to": "kept/sub"}),
        ("file_archive", {"action": "create", "path": "work", "to": "kept/x.tar.xz"}),
    ):
        assert refusal(use, name, **arguments).code == "timeout", name
    assert tree(home) == before


def test_folders_deeper_than_can_be_open_at_once_are_an_error(use, home):
    handle = os.open(home / "work", os.O_RDONLY)
    for _ in range(70):
        os.mkdir("d", dir_fd=handle)
        inner = os.open("d", os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = inner
    os.close(handle)
    assert refusal(use, "file_delete", path="work/d", recursive=True, trash=False).code == "too_large"
    use("file_list", path="work", recursive=True)
    assert "more than 64 folders deep" in use.warned[0]
    assert refusal(use, "file_list", path="work/" + "d/" * 66).code == "invalid_input"
