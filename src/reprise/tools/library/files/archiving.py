"""A tool for archives: packing, unpacking, and looking into them."""
# ruff: noqa: PLC0415 - modules for archives are loaded where one is written: they take longer than all tools together

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime
from functools import partial
from typing import IO, TYPE_CHECKING, Annotated, Literal, TypedDict, cast

from msgspec import Meta

from reprise.kernel.errors import ToolError
from reprise.tools.context import ToolContext
from reprise.tools.guards.archives import Entry, Format, entries, format_of
from reprise.tools.guards.folders import Folder
from reprise.tools.guards.paths import FileRoots, roots_of
from reprise.tools.library.files.trees import Allowance, FilePath, Found, kind_of, staged, walk
from reprise.tools.tool import Example, Tool, tool

if TYPE_CHECKING:
    import tarfile
    import zipfile

LISTED = 10_000
_BLOCK = 1 << 18
_SUFFIXES: tuple[tuple[str, Format], ...] = (
    (".zip", "zip"),
    (".tar", "tar"),
    (".tar.gz", "tar.gz"),
    (".tgz", "tar.gz"),
    (".tar.bz2", "tar.bz2"),
    (".tbz2", "tar.bz2"),
    (".tar.xz", "tar.xz"),
    (".txz", "tar.xz"),
)
_DOS = 315532800
"""1980, the first moment that a zip can name."""


class Packed(TypedDict):
    """A file or folder in an archive."""

    path: str
    kind: Literal["file", "folder"]
    bytes: int


class Archive(TypedDict):
    """What was done with an archive, and what is in it."""

    path: str
    """The archive, or the folder that was unpacked."""
    format: Format
    files: int
    bytes: int
    """Of the files, unpacked."""
    entries: list[Packed]
    """The first of them, up to ``limit``."""
    more: bool


@tool(
    effects="writes_files",
    tags=["file"],
    examples=[
        Example(
            {"action": "create", "path": "docs", "to": "work/docs.tar.gz"},
            {
                "path": "work/docs.tar.gz", "format": "tar.gz", "files": 1, "bytes": 13,
                "entries": [{"path": "hello.txt", "kind": "file", "bytes": 13}], "more": False,
            },
        ),
        Example(
            {"action": "extract", "path": "work/hello.zip", "to": "work/unpacked", "limit": 0},
            {"path": "work/unpacked", "format": "zip", "files": 1, "bytes": 13, "entries": [], "more": True},
        ),
        Example({"action": "list", "path": "work/hello.zip"}),
    ],
)  # fmt: skip
def file_archive(
    ctx: ToolContext,
    action: Annotated[
        Literal["create", "extract", "list"], "Pack path into to, unpack path into to, or look into path."
    ],
    path: Annotated[FilePath, "The file or folder to pack, or the archive."],
    to: Annotated[
        str,
        Meta(max_length=4096),
        "The archive to write (.zip, .tar, .tar.gz, .tar.bz2, .tar.xz), or a folder that is not there yet.",
    ] = "",
    limit: Annotated[int, Meta(ge=0, le=LISTED), "Entries to name in the result."] = 100,
) -> Archive:
    """Pack files into an archive, unpack one, or list what is in one: zip, tar, tar.gz, tar.bz2, tar.xz.

    An archive that is not what it should be, with links, names that lead out, or far too much in it, is refused whole.
    """
    roots = roots_of(ctx)
    allowance = Allowance(ctx, roots)
    if (action == "list") != (to == ""):
        what = "list writes nothing" if to else f"{action} needs a place to write to"
        raise ToolError("invalid_input", f"{what}.", field="$.to")
    if action == "create":
        return _create(roots, allowance, path, to, limit)
    with roots.reading(path) as file:
        form = format_of(file)
        contents = entries(file, path, roots.max_bytes, allowance.use)
        if action == "list":
            return _result(path, form, map(_listed, contents), limit)
        with roots.place(to, make=False, inside=True, field="$.to") as place, staged(*place) as stage:
            return _result(to, form, (_extracted(stage, entry) for entry in contents), limit)


def _result(path: str, form: Format, packed: Iterator[Packed], limit: int) -> Archive:
    result: Archive = {"path": path, "format": form, "files": 0, "bytes": 0, "entries": [], "more": False}
    for each in packed:
        result["files"] += each["kind"] == "file"
        result["bytes"] += each["bytes"]
        if len(result["entries"]) < limit:
            result["entries"].append(each)
        else:
            result["more"] = True
    return result


# ---------------------------------------------------------------- unpacking


def _listed(entry: Entry) -> Packed:
    size = sum(len(block) for block in entry.data)  # what it really is: what an archive says may be wrong
    return {"path": entry.path, "kind": "folder" if entry.is_folder else "file", "bytes": size}


def _extracted(stage: Folder, entry: Entry) -> Packed:
    """Write an entry below a folder; return what was written."""
    *above, name = entry.names or (".",)
    folder = stage.enter(".")
    for each in above:
        with folder:
            folder = folder.enter(each, make=True)
    size = 0
    with folder:
        if entry.is_folder:
            folder.make(name, exist_ok=True)
        else:
            with folder.new(name, permissions=0o755 if entry.executable else 0o644) as file:
                size = sum(file.write(block) for block in entry.data)
    return {"path": entry.path, "kind": "folder" if entry.is_folder else "file", "bytes": size}


# ---------------------------------------------------------------- packing


def _create(roots: FileRoots, allowance: Allowance, path: str, to: str, limit: int) -> Archive:
    form = _form(to)
    with roots.place(path) as (folder, name), roots.writing(to, field="$.to") as out:
        own = os.fstat(out.fileno())
        with _packer(form, out) as pack:
            packed = (
                _packed(pack, each, allowance)
                for each in _sources(folder, name, allowance)
                if not os.path.samestat(each.status, own)
            )
            result = _result(to, form, (each for each in packed if each is not None), limit)
    allowance.tell()
    return result


def _form(to: str) -> Format:
    for suffix, form in _SUFFIXES:
        if to.lower().endswith(suffix):
            return form
    raise ToolError(
        "invalid_input",
        f"{to!r} does not say what archive it is to be.",
        hint=f"End it with {', '.join(suffix for suffix, _ in _SUFFIXES)}.",
        field="$.to",
    )


def _sources(folder: Folder, name: str, allowance: Allowance) -> Iterator[Found]:
    """Yield a file, or what is in a folder."""
    status = folder.look(name)
    if kind_of(status) != "folder":
        folder.reading(name).close()  # what cannot be opened is an error where it was named
        yield Found(folder, name, name, kind_of(status), status)
        return
    with folder.enter(name) as inner:
        yield from walk(inner, allowance)


def _packed(pack: _Pack, found: Found, allowance: Allowance) -> Packed | None:
    """Add what was found to an archive; return None for what is left out."""
    if found.kind == "folder":
        pack(found, None)
        return {"path": found.path, "kind": "folder", "bytes": 0}
    try:
        file = found.folder.reading(found.name)
    except ToolError as error:
        allowance.leave_out(error.what)
        return None
    with file:
        size = os.fstat(file.fileno()).st_size
        pack(found, _Counted(file, size, allowance))
    return {"path": found.path, "kind": "file", "bytes": size}


class _Counted:
    """A file that is read as far as it went when it was opened, and counted."""

    def __init__(self, file: IO[bytes], size: int, allowance: Allowance) -> None:
        self._file, self.size, self._allowance = file, size, allowance
        self._left = size

    def read(self, size: int) -> bytes:
        """Return the next bytes; raises ``ToolError`` with code ``conflict`` where the file has become shorter."""
        data = self._file.read(min(size, self._left))
        if len(data) < min(size, self._left):
            raise ToolError("conflict", "A file became shorter while it was packed.", field="$.path")
        self._left -= len(data)
        self._allowance.use(len(data))
        return data


_Pack = Callable[[Found, _Counted | None], None]
"""Adds a file, or a folder, to an archive."""


@contextmanager
def _packer(form: Format, out: IO[bytes]) -> Generator[_Pack]:
    """Yield what adds to an archive. The same files make the same bytes: owners are left out, and when it was packed."""
    if form == "zip":
        import zipfile

        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as zip:
            yield partial(_into_zip, zip)
        return
    import tarfile

    with _compressed(form, out) as stream, tarfile.open(fileobj=stream, mode="w") as tar:
        yield partial(_into_tar, tar)


def _compressed(form: Format, out: IO[bytes]) -> AbstractContextManager[IO[bytes]]:
    match form:
        case "tar.gz":
            from gzip import GzipFile

            return cast("IO[bytes]", GzipFile("", "wb", fileobj=out, mtime=0))
        case "tar.bz2":
            from bz2 import BZ2File

            return cast("IO[bytes]", BZ2File(out, "wb"))
        case "tar.xz":
            from lzma import LZMAFile

            return cast("IO[bytes]", LZMAFile(out, "wb"))
        case _:
            return nullcontext(out)


def _into_zip(archive: zipfile.ZipFile, found: Found, data: _Counted | None) -> None:
    import zipfile

    at = datetime.fromtimestamp(max(found.status.st_mtime, _DOS), UTC)
    info = zipfile.ZipInfo(
        found.path if data else f"{found.path}/", (at.year, at.month, at.day, at.hour, at.minute, at.second)
    )
    info.create_system = 3  # as on Unix: permissions stand in the upper half
    info.external_attr = (stat.S_IFMT(found.status.st_mode) | _permissions(found)) << 16
    info.compress_type = zipfile.ZIP_DEFLATED if data else zipfile.ZIP_STORED
    info.file_size = data.size if data else 0
    with archive.open(info, "w") as entry:
        while data and (block := data.read(_BLOCK)):
            entry.write(block)


def _into_tar(archive: tarfile.TarFile, found: Found, data: _Counted | None) -> None:
    import tarfile

    info = tarfile.TarInfo(found.path)
    info.mode = _permissions(found)
    info.mtime = max(0, int(found.status.st_mtime))
    if data is None:
        info.type = tarfile.DIRTYPE
        archive.addfile(info)
    else:
        info.size = data.size
        archive.addfile(info, cast("IO[bytes]", data))


def _permissions(found: Found) -> int:
    return 0o755 if found.kind == "folder" or found.status.st_mode & stat.S_IXUSR else 0o644


TOOLS: list[Tool] = [file_archive]
