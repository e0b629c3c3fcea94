"""Tools that find files: by name, and by what is in them."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from functools import cache
from typing import Annotated, TypedDict

from msgspec import Meta

from reprise.kernel.errors import ToolError
from reprise.tools.context import ToolContext
from reprise.tools.guards.names import segments
from reprise.tools.guards.paths import FileRoots, roots_of
from reprise.tools.guards.patterns import Pattern
from reprise.tools.library.files.reading import SAMPLE
from reprise.tools.library.files.trees import Allowance, FilePath, Found, Kind, kind_of, moment, walk
from reprise.tools.tool import Example, Tool, tool

LISTED = 10_000
SHOWN = 500
"""Characters of a line that are shown."""
Glob = Annotated[
    str,
    Meta(max_length=200),
    "Which files: *.py by name, reports/**/*.csv by path from where the search begins; '' = all.",
]


class Entry(TypedDict):
    """A name in a listing."""

    path: str
    kind: Kind
    bytes: int
    modified: str


class Listing(TypedDict):
    """What is in a folder."""

    path: str
    entries: list[Entry]
    more: bool
    """Whether there is more than ``limit``."""


@tool(
    effects="reads_files",
    tags=["file"],
    examples=[
        Example(
            {"path": "docs"},
            {
                "path": "docs",
                "entries": [
                    {"path": "docs/hello.txt", "kind": "file", "bytes": 13, "modified": "2026-11-22T09:30:00+00:00"}
                ],
                "more": False,
            },
        ),
        Example({"path": "docs", "glob": "*.txt", "recursive": True}),
    ],
)  # fmt: skip
def file_list(
    ctx: ToolContext,
    path: FilePath = ".",
    glob: Glob = "",
    recursive: Annotated[bool, "Also what is in the folders below."] = False,
    limit: Annotated[int, Meta(ge=1, le=LISTED)] = 1_000,
) -> Listing:
    """List what is in a folder, by name; '.' lists the roots, where paths begin. Links are shown and never followed."""
    roots = roots_of(ctx)
    if roots.names and not segments(path):
        return {"path": ".", "entries": list(_roots(roots)), "more": False}
    allowance, fits = Allowance(ctx, roots), _fitting(glob)
    found: list[Entry] = []
    with roots.folder(path) as folder:
        for each in walk(folder, allowance, recursive=recursive):
            if not fits(each.path):
                continue
            if len(found) == limit:
                break
            found.append(_entry(each))
        else:
            limit = len(found) + 1
    allowance.tell()
    return {"path": path, "entries": found, "more": len(found) == limit}


class Line(TypedDict):
    """A line that matches."""

    path: str
    line: int
    text: str


class Matches(TypedDict):
    """Lines that match, and where was looked."""

    matches: list[Line]
    files: int
    """Files that were looked into."""
    more: bool
    """Whether there may be more than ``limit``."""


@tool(
    effects="reads_files",
    tags=["file"],
    extra="text",
    examples=[
        Example(
            {"path": "docs", "query": "WORLD", "ignore_case": True},
            {"matches": [{"path": "docs/hello.txt", "line": 2, "text": "world"}], "files": 1, "more": False},
        ),
        Example(
            {"path": "docs", "query": "^[A-Z]\\w+", "regex": True},
            {"matches": [{"path": "docs/hello.txt", "line": 1, "text": "Hello,"}], "files": 1, "more": False},
        ),
    ],
)  # fmt: skip
def file_search(
    ctx: ToolContext,
    query: Annotated[str, Meta(min_length=1, max_length=900), "What to look for."],
    path: FilePath = ".",
    glob: Glob = "",
    regex: Annotated[bool, "The query is a regular expression (RE2), matched line by line."] = False,
    ignore_case: bool = False,
    limit: Annotated[int, Meta(ge=1, le=1_000), "Lines to return at most."] = 100,
) -> Matches:
    """Find lines in text files, in a file or in a folder and all below it. What is no text is passed over."""
    roots = roots_of(ctx)
    allowance, fits = Allowance(ctx, roots), _fitting(glob)
    find = _finder(query, regex=regex, ignore_case=ignore_case)
    matches: list[Line] = []
    files = 0
    for each in _files(roots, path, allowance):
        if not fits(each.path):
            continue
        text = _text(each, allowance)
        if text is None:
            continue
        files += 1
        room = limit - len(matches) + 1
        shown = each.folder.at(each.name)
        matches += [Line(path=shown, line=at, text=line[:SHOWN]) for at, line in find(text, room)]
        if len(matches) > limit:
            break
    allowance.tell()
    return {"matches": matches[:limit], "files": files, "more": len(matches) > limit}


# ---------------------------------------------------------------- names


def _roots(roots: FileRoots) -> Iterator[Entry]:
    for name in roots.names:
        with roots.folder(name) as folder:
            modified = moment(folder.look(".").st_mtime)
        yield {"path": name, "kind": "folder", "bytes": 0, "modified": modified}


def _entry(found: Found) -> Entry:
    return {
        "path": found.folder.at(found.name),
        "kind": found.kind,
        "bytes": found.status.st_size if found.kind == "file" else 0,
        "modified": moment(found.status.st_mtime),
    }


def _fitting(glob: str) -> Callable[[str], bool]:
    """Return what tells whether a path is meant."""
    if not glob:
        return lambda path: True
    parts = [part for part in glob.split("/") if part]
    if len(parts) == 1 and "/" not in glob and parts[0] != "**":
        return lambda path: fnmatchcase(path.rpartition("/")[2], glob)
    return lambda path: fits(path.split("/"), parts)


def fits(names: Sequence[str], parts: Sequence[str]) -> bool:
    """Tell whether names of a path fit the parts of a glob, in which ``**`` is any number of folders.

    >>> fits(["a", "b", "c.py"], ["**", "*.py"]), fits(["c.py"], ["**", "*.py"]), fits(["a", "c.py"], ["*.py"])
    (True, True, False)
    """

    @cache  # so that many ** do not take each other's turns
    def fit(at: int, part: int) -> bool:
        if part == len(parts):
            return at == len(names)
        if parts[part] == "**":
            return fit(at, part + 1) or (at < len(names) and fit(at + 1, part))
        return at < len(names) and fnmatchcase(names[at], parts[part]) and fit(at + 1, part + 1)

    return fit(0, 0)


# ---------------------------------------------------------------- content


def _files(roots: FileRoots, path: str, allowance: Allowance) -> Iterator[Found]:
    """Yield the file of a path, or those below it."""
    with roots.place(path) as (folder, name):
        status = folder.look(name)
        if kind_of(status) != "folder":
            folder.reading(name).close()  # what cannot be opened is an error where it was named
            yield Found(folder, name, name, kind_of(status), status)
            return
        with folder.enter(name) as inner:
            yield from (each for each in walk(inner, allowance) if each.kind == "file")


def _text(found: Found, allowance: Allowance) -> str | None:
    """Return what is in a file, None = it is no text."""
    try:
        file = found.folder.reading(found.name)
    except ToolError as error:
        if error.code != "not_found":
            allowance.leave_out(error.what)
        return None
    with file:
        sample = file.read(SAMPLE)
        if sample.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            encoding = "utf-16"
        elif b"\0" in sample:
            return None
        else:
            encoding = "utf-8-sig"
        data = sample + file.read(allowance.most)
    allowance.use(len(data))
    return data.decode(encoding, "replace").replace("\r\n", "\n")


def _finder(query: str, *, regex: bool, ignore_case: bool) -> Callable[[str, int], Iterator[tuple[int, str]]]:
    """Return what yields numbers and texts of lines that match, at most so many."""
    if regex:
        Pattern(query, field="$.query")  # so that what is wrong with it is said of what was written
        pattern = Pattern("(?m)" + query, ignore_case=ignore_case, field="$.query")
        return lambda text, most: _lines(
            text, (match.start for match in pattern.find(text, len(text) + 1)), most
        )
    wanted = query.casefold() if ignore_case else query

    def plain(text: str, most: int) -> Iterator[tuple[int, str]]:
        found = 0
        for at, line in enumerate(text.split("\n"), 1):
            if wanted in (line.casefold() if ignore_case else line):
                yield at, line
                found += 1
                if found == most:
                    return

    return plain


def _lines(text: str, starts: Iterator[int], most: int) -> Iterator[tuple[int, str]]:
    """Yield the lines at places of a text, each once."""
    at, passed, end, found = 1, 0, -1, 0
    for start in starts:
        if start <= end:
            continue
        at += text.count("\n", passed, start)
        passed = start
        begin = text.rfind("\n", 0, start) + 1
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        yield at, text[begin:end]
        found += 1
        if found == most:
            return


TOOLS: list[Tool] = [file_list, file_search]
