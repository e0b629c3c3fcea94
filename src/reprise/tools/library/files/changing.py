"""Tools that change files: writing, copying, moving, deleting."""

from __future__ import annotations

import binascii
import errno
from base64 import b64decode
from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated, TypedDict

from msgspec import Meta

from reprise.kernel.clock import MICROSECONDS
from reprise.kernel.errors import ToolError
from reprise.tools.context import ToolContext
from reprise.tools.guards.folders import Folder, Mode
from reprise.tools.guards.names import segments
from reprise.tools.guards.paths import FileRoots, Place, roots_of
from reprise.tools.library.files.reading import text_codec
from reprise.tools.library.files.trees import (
    TRASH,
    Allowance,
    FilePath,
    Kind,
    chunks,
    kind_of,
    remove,
    staged,
    walk,
)
from reprise.tools.tool import Example, Tool, tool

LARGEST = 8 << 20
"""Bytes of arguments: what can be written at once."""
Destination = Annotated[str, Meta(max_length=4096), "The new path, with its name, not only the folder."]
Folders = Annotated[bool, "Make the folders on the way if they are not there."]
Overwrite = Annotated[bool, "Whether a file that is there may be replaced; folders never are."]


class Written(TypedDict):
    """What was written."""

    path: str
    bytes: int
    """How many were written."""
    mode: Mode


@tool(
    effects="writes_files",
    tags=["file"],
    max_input=LARGEST,
    examples=[
        Example(
            {"path": "docs/new.txt", "content": "one\n"},
            {"path": "docs/new.txt", "bytes": 4, "mode": "create"},
        ),
        Example({"path": "docs/log.txt", "content": "two\n", "mode": "append"}),
    ],
)
def file_write(
    ctx: ToolContext,
    path: FilePath,
    content: str,
    mode: Annotated[Mode, "create replaces nothing; overwrite replaces; append adds at the end."] = "create",
    encoding: Annotated[
        str, Meta(max_length=40), "utf-8, latin-1, …; base64 = content is that of bytes."
    ] = "utf-8",
    folders: Folders = False,
) -> Written:
    """Write a text or bytes to a file. Others see all of it or nothing, except while something is appended."""
    data = _encoded(content, encoding)
    with roots_of(ctx).writing(path, mode, make=folders) as file:
        file.write(data)
    return {"path": path, "bytes": len(data), "mode": mode}


class Copied(TypedDict):
    """What was copied."""

    path: str
    """Where the copy is."""
    files: int
    bytes: int


@tool(
    effects="writes_files",
    tags=["file"],
    examples=[
        Example(
            {"path": "docs/hello.txt", "to": "docs/again.txt"},
            {"path": "docs/again.txt", "files": 1, "bytes": 13},
        )
    ],
)
def file_copy(
    ctx: ToolContext, path: FilePath, to: Destination, overwrite: Overwrite = False, folders: Folders = False
) -> Copied:
    """Copy a file, or a folder with all below it. Links and what else is no regular file are left out."""
    roots = roots_of(ctx)
    allowance = Allowance(ctx, roots)
    with (
        roots.place(path) as source,
        roots.place(to, make=folders, inside=True, field="$.to") as target,
    ):
        files, size = _copy(source, target, allowance, overwrite=overwrite)
    allowance.tell()
    return {"path": to, "files": files, "bytes": size}


class Moved(TypedDict):
    """What was moved."""

    path: str
    """Where it is now."""
    kind: Kind


@tool(
    effects="writes_files",
    tags=["file"],
    examples=[
        Example(
            {"path": "docs/hello.txt", "to": "docs/2026/hello.txt", "folders": True},
            {"path": "docs/2026/hello.txt", "kind": "file"},
        )
    ],
)
def file_move(
    ctx: ToolContext, path: FilePath, to: Destination, overwrite: Overwrite = False, folders: Folders = False
) -> Moved:
    """Move or rename a file, or a folder with all below it."""
    roots = roots_of(ctx)
    with (
        roots.place(path, inside=True) as source,
        roots.place(to, make=folders, inside=True, field="$.to") as target,
    ):
        source.folder.must_be_writable(source.name)
        kind = _must_be_movable(source)
        replace = overwrite and kind == "file" and _is_file(target)
        try:
            source.folder.rename(source.name, target.folder, target.name, replace=replace)
        except ToolError as error:
            if not (isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EXDEV):
                raise
            _move_over(source, target, Allowance(ctx, roots), overwrite=overwrite)
    return {"path": to, "kind": kind}


class Deleted(TypedDict):
    """What was deleted."""

    path: str
    trash: str
    """Where it is now, to be moved back from; ``''`` = nowhere."""


@tool(
    effects="writes_files",
    tags=["file"],
    examples=[
        Example({"path": "docs/hello.txt"}),
        Example({"path": "docs/hello.txt", "trash": False}, {"path": "docs/hello.txt", "trash": ""}),
    ],
)
def file_delete(
    ctx: ToolContext,
    path: FilePath,
    recursive: Annotated[bool, "Also a folder in which something is."] = False,
    trash: Annotated[bool, f"Move it to {TRASH} in its root, instead of deleting it for good."] = True,
) -> Deleted:
    """Delete a file, a link (not what it leads to), or a folder."""
    roots = roots_of(ctx)
    with roots.place(path, inside=True) as (folder, name):
        folder.must_be_writable(name)
        if not recursive and kind_of(folder.look(name)) == "folder":
            with folder.enter(name) as inner:
                names = inner.names()
            if names:
                raise ToolError(
                    "conflict",
                    f"{path}: the folder is not empty.",
                    hint="Say recursive to delete what is in it.",
                    field="$.recursive",
                )
        if trash:
            return {"path": path, "trash": _to_trash(ctx, roots, path, Place(folder, name))}
        remove(folder, name, Allowance(ctx, roots))
        return {"path": path, "trash": ""}


# ---------------------------------------------------------------- writing


def _encoded(content: str, encoding: str) -> bytes:
    try:
        if encoding == "base64":
            return b64decode(content, validate=True)
        return content.encode(text_codec(encoding))
    except (binascii.Error, UnicodeError) as error:
        raise ToolError(
            "invalid_input", f"The content cannot be written as {encoding}: {error}.", field="$.content"
        ) from None


# ---------------------------------------------------------------- copying and moving


def _copy(source: Place, target: Place, allowance: Allowance, *, overwrite: bool) -> tuple[int, int]:
    """Copy a file or a tree; return how many files and bytes these were."""
    if kind_of(source.folder.look(source.name)) != "folder":
        return 1, _copy_file(source, target, allowance, overwrite=overwrite)
    with source.folder.enter(source.name) as folder, staged(target.folder, target.name) as stage:
        made = stage.look(".")
        return _copy_tree(folder, stage, allowance, (made.st_dev, made.st_ino))


def _copy_file(source: Place, target: Place, allowance: Allowance, *, overwrite: bool) -> int:
    permissions = source.folder.look(source.name).st_mode
    with (
        source.folder.reading(source.name) as file,
        target.folder.writing(
            target.name, "overwrite" if overwrite else "create", permissions=permissions
        ) as copy,
    ):
        return sum(copy.write(block) for block in chunks(file, allowance))


def _copy_tree(
    source: Folder, target: Folder, allowance: Allowance, made: tuple[int, int]
) -> tuple[int, int]:
    """Copy what is in a folder. ``made`` is the folder that all is copied to: come upon, it would be copied for ever."""
    files = size = 0
    for _, name, _, kind, status in walk(source, allowance, recursive=False):
        if kind == "folder":
            if (status.st_dev, status.st_ino) == made:
                raise ToolError("conflict", "A folder cannot be copied into itself.", field="$.to")
            try:
                inner = source.enter(name)
            except ToolError as error:
                allowance.leave_out(error.what)
                continue
            with inner, target.enter(name, make=True) as below:
                more, bytes_more = _copy_tree(inner, below, allowance, made)
                files, size = files + more, size + bytes_more
            continue
        try:
            file = source.reading(name)
        except ToolError as error:
            allowance.leave_out(error.what)
            continue
        with file, target.new(name, permissions=status.st_mode) as copy:
            size += sum(copy.write(block) for block in chunks(file, allowance))
            files += 1
    return files, size


def _move_over(source: Place, target: Place, allowance: Allowance, *, overwrite: bool) -> None:
    """Move to another file system: copy all of it, then remove it."""
    _copy(source, target, allowance, overwrite=overwrite)
    if allowance.left_out:
        remove(target.folder, target.name)
        raise ToolError(
            "conflict",
            f"{source.path} cannot be moved to another file system whole: {allowance.left_out[0]}",
            hint="Copy it, which leaves such things out.",
            field="$.to",
        )
    remove(source.folder, source.name, allowance)


def _must_be_movable(source: Place) -> Kind:
    kind = kind_of(source.folder.look(source.name))
    if kind not in ("file", "folder"):
        raise ToolError(
            "permission_denied",
            f"{source.path}: it is neither a regular file nor a folder.",
            field="$.path",
        )
    return kind


def _is_file(target: Place) -> bool:
    return target.folder.has(target.name) and kind_of(target.folder.look(target.name)) == "file"


def _to_trash(ctx: ToolContext, roots: FileRoots, path: str, place: Place) -> str:
    names = segments(path)
    top = names.pop(0) if roots.names else ""
    if names[0] == TRASH:
        raise ToolError(
            "conflict",
            f"{path}: it is in the trash already.",
            hint="Say trash=false to delete it for good.",
            field="$.trash",
        )
    at = datetime.fromtimestamp(ctx.clock.now() / MICROSECONDS, UTC)
    with roots.folder(top) as root, root.enter(TRASH, make=True) as bin:
        slot = f"{at:%Y%m%dT%H%M%SZ}"
        number = 1
        while bin.has(slot):
            number += 1
            slot = f"{at:%Y%m%dT%H%M%SZ}-{number}"
        bin.make(slot)
        with bin.enter(slot) as inner:
            try:
                place.folder.rename(place.name, inner, place.name)
            except BaseException:
                with suppress(ToolError):
                    bin.remove_folder(slot)
                raise
            return inner.at(place.name)


TOOLS: list[Tool] = [file_write, file_copy, file_move, file_delete]
