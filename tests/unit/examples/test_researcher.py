import os

import pytest
from hypothesis import given, strategies as st

from crew import researcher
from crew.facts import BINARY, CODE, TEST, TEXT
from crew.history import read_history
from crew.names import spell, unspell
from crew.researcher import sniff, take_inventory

WEIRD = [
    b"line\nfeed.py",
    b"b\xff\xfe.py",
    b"back\\slash.py",
    b"quote\"'<b>.py",
    " ünï.py".encode(),
    b"-rf.py",
]


def kinds(inventory):
    return {file.path: file.kind for file in inventory.files}


@given(st.binary(min_size=1, max_size=30))
def test_any_name_comes_back_from_its_spelling(raw):
    name = os.fsdecode(raw)
    spelled = spell(name)
    assert spelled.encode("utf-8")
    assert os.fsencode(unspell(spelled)) == raw


@pytest.mark.parametrize("under_git", [True, False])
def test_weird_names_are_listed_and_found_again(made, places, tmp_path, under_git):
    made.commit({os.fsdecode(name): "x = 1\n" for name in WEIRD})
    if not under_git:
        (made.root / ".git").rename(tmp_path / "gone")
    found = take_inventory(places(made.root)).files
    assert {os.fsencode(unspell(file.path)) for file in found} == set(WEIRD)
    if under_git:
        assert {os.fsencode(unspell(file.path)) for file in read_history(made.root).files} == set(WEIRD)


def test_kinds_languages_and_encodings(made, places):
    made.commit(
        {
            "a.py": "x = 1",
            "tests/test_a.py": "",
            "README.md": "# x",
            "logo.png": b"\x89PNG\0\1",
            "old.py": b"# -*- coding: koi8-r -*-\n" + b"\xc1",
            "odd.py": b"# coding: rot13\nx = '\xe9'\n",
            "dos.py": b"\xff\xfex\0",
            "cut.txt": b"a" * 65535 + "é".encode(),
        }
    )
    files = {file.path: (file.kind, file.encoding) for file in take_inventory(places(made.root)).files}
    assert files == {
        "a.py": (CODE, "utf-8"),
        "tests/test_a.py": (TEST, "utf-8"),
        "README.md": (TEXT, "utf-8"),
        "logo.png": (BINARY, ""),
        "old.py": (CODE, "koi8-r"),
        "odd.py": (CODE, "latin-1"),
        "dos.py": (CODE, "utf-16"),
        "cut.txt": (TEXT, "utf-8"),
    }


def test_a_character_cut_by_the_sniffing_is_no_error_but_a_broken_end_is():
    assert sniff("é".encode()[:1], whole=False) == "utf-8"
    assert sniff("é".encode()[:1], whole=True) == "latin-1"


def test_links_lead_nowhere_and_pipes_are_not_opened(made, places, tmp_path):
    (tmp_path / "secret.py").write_text("x = 1")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "deep.py").write_text("x = 1")
    made.write({"a.py": "x = 1", "inner/b.py": "x = 1"})
    (made.root / "out.py").symlink_to(tmp_path / "secret.py")
    (made.root / "inner" / "cycle").symlink_to(made.root)
    os.mkfifo(made.root / "pipe.py")
    inventory = take_inventory(places(made.root))
    assert kinds(inventory) == {"a.py": CODE, "inner/b.py": CODE}
    assert inventory.notes == ["2 symbolic links were not followed."]
    made.commit({"inner/deep.py": "x = 1"})
    (made.root / "inner").rename(tmp_path / "was-inner")
    (made.root / "inner").symlink_to(tmp_path / "outside")  # git still lists inner/deep.py, beyond a link now
    assert kinds(take_inventory(places(made.root))) == {"a.py": CODE}


def test_what_git_ignores_is_left_out_and_without_git_the_folders_of_tools_are(made, places, tmp_path):
    made.write({".gitignore": "gen/\n", "a.py": "", "gen/b.py": "", "node_modules/c.js": ""})
    assert set(kinds(take_inventory(places(made.root)))) == {".gitignore", "a.py", "node_modules/c.js"}
    (made.root / ".git").rename(tmp_path / "gone")
    assert set(kinds(take_inventory(places(made.root)))) == {".gitignore", "a.py", "gen/b.py"}


def test_tests_beside_the_folder_belong_to_the_inventory(made, places):
    made.write({"pkg/a.py": "", "test/pkg/test_a.py": ""})
    inside = places(made.root / "pkg", made.root / "test" / "pkg")
    assert kinds(take_inventory(inside)) == {"a.py": CODE, "../test/pkg/test_a.py": TEST}
    assert places(made.root, made.root / "test").tests is None


def test_an_empty_folder_is_fine_and_a_missing_one_is_named(made, places):
    assert take_inventory(places(made.root)).files == []
    with pytest.raises(NotADirectoryError, match="nowhere is not a folder"):
        places(made.root / "nowhere")


def test_too_many_files_are_cut_and_said(made, places, monkeypatch):
    made.write({f"f{number}.py": "" for number in range(5)})
    monkeypatch.setattr(researcher, "MAX_FILES", 3)
    inventory = take_inventory(places(made.root))
    assert [file.path for file in inventory.files] == ["f0.py", "f1.py", "f2.py"]
    assert inventory.notes == ["Only the first 3 files were looked at."]
