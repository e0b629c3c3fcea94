"""Tools that read files: their content, what they are, and their digests."""

from __future__ import annotations

import codecs
import hashlib
import io
import stat
from base64 import b64encode
from typing import IO, Annotated, Any, Literal, TypedDict

from msgspec import Meta

from reprise.kernel.errors import MissingExtra, ToolError, nearest
from reprise.tools.context import ToolContext
from reprise.tools.extras import library
from reprise.tools.guards.folders import Folder
from reprise.tools.guards.paths import roots_of
from reprise.tools.library.files.trees import Allowance, FilePath, Kind, chunks, kind_of, moment
from reprise.tools.tool import Example, Tool, tool

CONTENT = 1 << 20
"""Characters, or bytes, that one call returns."""
LINES = 2_000
SAMPLE = 1 << 16
"""Bytes by which is found out what is in a file."""
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_NO_TEXT = {"idna", "punycode", "undefined", "unicode_escape", "raw_unicode_escape", "mbcs", "oem"}
"""Codecs of other things than files, some of which take very long over what is made for it."""

Algorithm = Literal[
    "sha256", "sha512", "sha1", "md5", "sha224", "sha384", "sha3_256", "sha3_512", "blake2b", "blake2s"
]


class FileContent(TypedDict):
    """What is in a file, or a part of it."""

    path: str
    content: str
    encoding: str
    """How it is written; ``base64`` = content is that of bytes, which are no text."""
    bytes: int
    """Size of the whole file."""
    offset: int
    next: int | None
    """The offset of what follows; none = nothing does."""


@tool(
    effects="reads_files",
    tags=["file"],
    extra="files",
    examples=[
        Example(
            {"path": "docs/hello.txt"},
            {"path": "docs/hello.txt", "content": "Hello,\nworld\n", "encoding": "utf-8", "bytes": 13, "offset": 0, "next": None},
        ),
        Example(
            {"path": "docs/hello.txt", "limit": 1},
            {"path": "docs/hello.txt", "content": "Hello,\n", "encoding": "utf-8", "bytes": 13, "offset": 0, "next": 1},
        ),
    ],
)  # fmt: skip
def file_read(
    ctx: ToolContext,
    path: FilePath,
    encoding: Annotated[
        str,
        Meta(max_length=40),
        "auto, a name such as latin-1, or base64 for the bytes themselves.",
    ] = "auto",
    offset: Annotated[int, Meta(ge=0), "Lines of a text to pass over; of base64, bytes."] = 0,
    limit: Annotated[
        Annotated[int, Meta(ge=1, le=CONTENT)] | None,
        f"Lines to return; of base64, bytes. None = {LINES:,} lines, or {SAMPLE:,} bytes.",
    ] = None,
) -> FileContent:
    """Read a file: text as text, whatever its encoding, anything else as base64."""
    roots = roots_of(ctx)
    with roots.reading(path) as file:
        size = file.seek(0, io.SEEK_END)
        known = _encoding_of(ctx, file) if encoding == "auto" else text_codec(encoding)
        if known == "base64":
            content, following = _bytes_of(file, offset, limit or SAMPLE)
        else:
            try:
                content, following = _lines_of(
                    file, known, offset, limit or LINES, Allowance(ctx, roots), path
                )
            except UnicodeError as error:
                raise ToolError(
                    "invalid_input",
                    f"{path} is not all {known}: {error}.",
                    hint="Say its encoding, or read it as base64.",
                    field="$.encoding",
                ) from None
    return {
        "path": path,
        "content": content,
        "encoding": known,
        "bytes": size,
        "offset": offset,
        "next": following,
    }


class FileInfo(TypedDict):
    """What a file or folder is."""

    path: str
    kind: Kind
    bytes: int
    modified: str
    permissions: str
    mime: str
    """Type of what is in it, ``''`` = not known."""
    known_by: Literal["content", "name", ""]
    """How the type is known."""


@tool(
    effects="reads_files",
    tags=["file"],
    extra="files",
    examples=[
        Example(
            {"path": "docs/hello.txt"},
            {
                "path": "docs/hello.txt", "kind": "file", "bytes": 13, "modified": "2026-11-22T09:30:00+00:00",
                "permissions": "-rw-r--r--", "mime": "text/plain", "known_by": "content",
            },
        )
    ],
)  # fmt: skip
def file_info(ctx: ToolContext, path: FilePath) -> FileInfo:
    """Say what a file or folder is: kind, size, when it was changed, and the type of what is in it."""
    with roots_of(ctx).place(path) as (folder, name):
        status = folder.look(name)
        kind = kind_of(status)
        mime, known_by = _type_of(folder, name) if kind == "file" else ("", "")
    return {
        "path": path,
        "kind": kind,
        "bytes": status.st_size if kind == "file" else 0,
        "modified": moment(status.st_mtime),
        "permissions": stat.filemode(status.st_mode),
        "mime": mime,
        "known_by": known_by,
    }


class FileHash(TypedDict):
    """A digest of a file."""

    path: str
    algorithm: Algorithm
    digest: str
    bytes: int


@tool(
    effects="reads_files",
    tags=["file"],
    examples=[
        Example(
            {"path": "docs/hello.txt", "algorithm": "md5"},
            {"path": "docs/hello.txt", "algorithm": "md5", "digest": "0e55662384b53e4873dd5447d95e5bc8", "bytes": 13},
        )
    ],
)  # fmt: skip
def file_hash(ctx: ToolContext, path: FilePath, algorithm: Algorithm = "sha256") -> FileHash:
    """Return the digest of a file, in hexadecimal."""
    roots = roots_of(ctx)
    allowance, size = Allowance(ctx, roots), 0
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with roots.reading(path) as file:
        for block in chunks(file, allowance):
            digest.update(block)
            size += len(block)
    return {"path": path, "algorithm": algorithm, "digest": digest.hexdigest(), "bytes": size}


# ---------------------------------------------------------------- what it is


def is_text(sample: bytes) -> bool:
    """Tell whether the beginning of a file is UTF-8 without NUL."""
    if b"\0" in sample:
        return False
    try:
        codecs.getincrementaldecoder("utf-8")().decode(sample)
    except UnicodeDecodeError:
        return False
    return True


def _encoding_of(ctx: ToolContext, file: IO[bytes]) -> str:
    """Return how a file is written, ``base64`` = it is no text."""
    file.seek(0)
    sample = file.read(SAMPLE)
    for bom, name in _BOMS:
        if sample.startswith(bom):
            return name
    if b"\0" in sample:
        return "base64"
    if is_text(sample):
        return "utf-8"
    best: Any = library("charset_normalizer", "files").from_bytes(sample).best()
    if best is None:
        return "base64"
    ctx.warn(f"It is not UTF-8; its encoding, {best.encoding}, was guessed.")
    return str(best.encoding)


def text_codec(name: str) -> str:
    """Return the name of a codec for texts, or ``base64``. Raises ``ToolError`` with code ``invalid_input``."""
    if name == "base64":
        return name
    try:
        found: Any = codecs.lookup(name)
    except (LookupError, ValueError):
        found = None
    if found is None or not found._is_text_encoding or found.name.replace("-", "_") in _NO_TEXT:
        near = nearest(name.lower(), ("utf-8", "utf-16", "latin-1", "cp1252", "ascii", "base64", "shift-jis"))
        raise ToolError(
            "invalid_input",
            f"{name!r} is no encoding of text.",
            hint=f"Did you mean {near!r}?" if near else "Such as utf-8, latin-1, or base64 for bytes.",
            field="$.encoding",
        )
    return str(found.name)


def _type_of(folder: Folder, name: str) -> tuple[str, Literal["content", "name", ""]]:
    """Return the type of a file, and how it is known."""
    from mimetypes import guess_type  # noqa: PLC0415 - it takes longer to load than the tools

    named = guess_type(name)[0] or ""
    with folder.reading(name) as file:
        sample = file.read(SAMPLE)
        file.seek(0)
        if sample and is_text(sample):
            fits = named.startswith("text/") or named in ("application/json", "application/xml")
            return (named if fits else "text/plain"), "content"
        mime = _by_content(file, name) if sample else ""
    if mime:
        return mime, "content"
    return named, "name" if named else ""


def _by_content(file: IO[bytes], name: str) -> str:
    try:
        magic: Any = library("puremagic", "files")
    except MissingExtra:
        return ""
    try:
        matches: list[Any] = magic.magic_stream(file, name)
    except (magic.PureError, ValueError):
        return ""
    return next((str(match.mime_type) for match in matches if match.mime_type), "")


# ---------------------------------------------------------------- what is in it


def _bytes_of(file: IO[bytes], offset: int, limit: int) -> tuple[str, int | None]:
    file.seek(offset)
    data = file.read(limit)
    more = bool(file.read(1))
    return b64encode(data).decode(), offset + len(data) if more else None


def _lines_of(
    file: IO[bytes], encoding: str, offset: int, limit: int, allowance: Allowance, path: str
) -> tuple[str, int | None]:
    """Return lines, and the number of the one that follows."""
    file.seek(0)
    text = io.TextIOWrapper(file, encoding, newline="\n")
    try:
        lines: list[str] = []
        at = length = 0
        while line := text.readline(CONTENT + 1):
            allowance.use(len(line))
            length += len(line) if at >= offset else 0
            if len(line) > CONTENT:
                raise ToolError(
                    "too_large",
                    f"{path}: line {at + 1:,} has more than {CONTENT:,} characters.",
                    hint="Read it as base64, in parts.",
                )
            if len(lines) == limit or length > CONTENT:
                return _whole(lines), at
            if at >= offset:
                lines.append(line)
            at += 1
        return _whole(lines), None
    finally:
        text.detach()


def _whole(lines: list[str]) -> str:
    """Return lines as a text that is UTF-8: some codecs give half characters."""
    return "".join(lines).encode("utf-8", "replace").decode()


TOOLS: list[Tool] = [file_read, file_info, file_hash]
