"""The researcher: what is there. Takes the inventory of a folder without leaving it and without reading it all."""

from __future__ import annotations

import codecs
import os
import re
import stat
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path, PurePosixPath

from .facts import BINARY, CODE, TEST, TEXT, Inventory, Places, SourceFile
from .git import ask
from .names import is_test, language_of, spell

MAX_FILES = 20_000
SNIFFED_BYTES = 65_536
_LEFT_OUT = frozenset(
    [
        "__pycache__",
        "node_modules",
        "site-packages",
        "venv",
        "env",
        ".venv",
        ".tox",
        ".nox",
        "dist",
        "build",
        "target",
        "vendor",
        "third_party",
    ]
)
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_COOKIE = re.compile(rb"^[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)", re.MULTILINE)

Tell = Callable[[int, int | None, str], object]
"""Hears how far a long job is: done, total (None when not known), note."""


def locate(path: Path, out: Path, tests: Path | None, now: datetime) -> Places:
    """Pin down where to read and write; raise ``NotADirectoryError`` for a folder that is not there."""
    for folder in (path, tests):
        if folder is not None and not folder.is_dir():
            raise NotADirectoryError(f"{folder} is not a folder; give the folder to review as path=…")
    root = path.resolve()
    beside = tests.resolve() if tests else None
    if beside and beside.is_relative_to(root):
        beside = None  # the inventory meets it anyway
    return Places(root=root, out=out.absolute(), tests=beside, opened=now)


def take_inventory(places: Places, tell: Tell = lambda *_: None) -> Inventory:
    """List the files of the reviewed folder, and of the tests beside it, in the order of their paths."""
    notes: list[str] = []
    files: list[SourceFile] = []
    folders = [places.root, *([places.tests] if places.tests else [])]
    for folder in folders:
        prefix = (
            "" if folder == places.root else os.path.relpath(folder, places.root).replace(os.sep, "/") + "/"
        )
        for name in _names(folder, notes):
            if len(files) == MAX_FILES:
                notes.append(f"Only the first {MAX_FILES:,} files were looked at.")
                break
            if found := _look_at(folder / name, prefix + PurePosixPath(name).as_posix()):
                files.append(found)
            if len(files) % 500 == 0:
                tell(len(files), None, "files found")
    tell(len(files), len(files), "files found")
    files.sort(key=lambda file: file.path)
    return Inventory(files=files, notes=notes)


def _names(folder: Path, notes: list[str]) -> list[str]:
    """Relative names of the regular files: what git would keep, or else all but the folders of tools."""
    listed = ask(folder, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    names = [os.fsdecode(name) for name in listed.out.split(b"\0") if name]
    if not names:  # no repository, or a folder that the repository ignores
        names = list(_walk(folder))
    inside = _Inside(folder)
    kept = sorted({name for name in names if inside.holds(name)})
    if links := sum(inside.is_link(name) for name in set(names)):
        notes.append(f"{links:,} symbolic link{'s were' if links > 1 else ' was'} not followed.")
    return kept


class _Inside:
    """Tell which names are regular files reached without passing a symbolic link."""

    def __init__(self, folder: Path) -> None:
        self._root = folder
        self._known = {PurePosixPath("."): True}

    def holds(self, name: str) -> bool:
        mode = self._mode(name)
        return stat.S_ISREG(mode) and self._reaches(PurePosixPath(name).parent)

    def is_link(self, name: str) -> bool:
        return stat.S_ISLNK(self._mode(name))

    def _reaches(self, parent: PurePosixPath) -> bool:
        if parent not in self._known:
            here = stat.S_ISDIR(self._mode(str(parent)))
            self._known[parent] = here and self._reaches(parent.parent)
        return self._known[parent]

    def _mode(self, name: str) -> int:
        try:
            return os.lstat(self._root / name).st_mode
        except OSError:  # listed by git but gone, or not for us to see
            return 0


def _walk(folder: Path) -> Iterator[str]:
    waiting = [""]
    while waiting:
        here = waiting.pop()
        try:
            entries = list(os.scandir(folder / here))
        except OSError:  # a folder that we may not list
            continue
        for entry in entries:
            name = here + entry.name
            if not entry.is_dir(follow_symlinks=False):
                yield name
            elif entry.name not in _LEFT_OUT and not entry.name.startswith("."):
                waiting.append(name + "/")


def _look_at(place: Path, name: str) -> SourceFile | None:
    path = spell(name)
    language, is_code = language_of(name)
    try:
        with place.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            encoding = sniff(file.read(SNIFFED_BYTES), whole=size <= SNIFFED_BYTES)
    except OSError:
        return None
    if not encoding:
        return SourceFile(path, size, language or "binary", BINARY, "")
    kind = (TEST if is_test(name) else CODE) if is_code else TEXT
    return SourceFile(path, size, language or "other text", kind, encoding)


def sniff(head: bytes, *, whole: bool) -> str:
    """Return the encoding that the first bytes speak for, or an empty text for binary data.

    A byte order mark wins, then a coding cookie in the first two lines (PEP 263), then UTF-8, then Latin-1, in which
    every byte means something. ``whole`` says that ``head`` is all there is, so that a character cut in two counts.
    """
    for mark, encoding in _BOMS:
        if head.startswith(mark):
            return encoding
    if b"\0" in head:
        return ""
    if cookie := _COOKIE.search(b"\n".join(head.split(b"\n", 2)[:2])):
        name = cookie[1].decode("ascii")
        try:
            b"x".decode(
                name
            )  # refuses names that Python does not know, and codecs that are no text encodings
        except (LookupError, UnicodeError):
            pass  # guess as if nothing were said
        else:
            return codecs.lookup(name).name
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head, final=whole)
    except UnicodeDecodeError:
        return "latin-1"
    return "utf-8"
