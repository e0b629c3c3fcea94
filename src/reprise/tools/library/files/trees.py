"""What tools for files share: walking through folders, what one call may use, and building a folder aside."""

from __future__ import annotations

import os
import stat
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import IO, Annotated, Literal, NamedTuple

from msgspec import Meta

from reprise.kernel.errors import ToolError
from reprise.tools.context import ToolContext
from reprise.tools.guards.folders import Folder
from reprise.tools.guards.names import segments
from reprise.tools.guards.paths import FileRoots

FilePath = Annotated[
    str, Meta(max_length=4096), "A path as file_list shows it: the name of a root, then names divided by /."
]
Kind = Literal["file", "folder", "link", "other"]

TRASH = ".trash"
"""Folder of a root in which is what was deleted; only walked through by who names it."""
NAMES = 100_000
"""Names that one call looks at."""
SECONDS = 25.0
"""How long one call works: less than its timeout, after which nobody would hear what it says."""
_BLOCK = 1 << 18
_KINDS: dict[int, Kind] = {stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "link"}


class Allowance:
    """What one call may use: bytes, names and seconds; and what it left out, which is told as a warning."""

    def __init__(self, ctx: ToolContext, roots: FileRoots) -> None:
        self._ctx = ctx
        self.most = roots.max_bytes
        self._bytes = self._names = 0
        self._until = ctx.clock.monotonic() + SECONDS
        self.left_out: list[str] = []

    def use(self, size: int = 0, names: int = 0) -> None:
        """Count bytes and names. Raises ``ToolError`` with code ``too_large`` or ``timeout``."""
        self._bytes += size
        self._names += names
        if self._bytes > self.most:
            raise ToolError("too_large", f"That is more than {self.most:,} bytes.", hint="Do less at a time.")
        if self._names > NAMES:
            raise ToolError("too_large", f"That is more than {NAMES:,} files.", hint="Do less at a time.")
        if self._ctx.clock.monotonic() > self._until:
            raise ToolError("timeout", f"That takes more than {SECONDS:g} s.", hint="Do less at a time.")

    def leave_out(self, why: str) -> None:
        """Remember what was left out, and why."""
        self.left_out.append(why)

    def tell(self) -> None:
        """Warn the caller of what was left out."""
        if out := self.left_out:
            more = f"; and {len(out) - 5} more" if len(out) > 5 else ""
            self._ctx.warn(f"Left out: {'; '.join(out[:5])}{more}")


class Found(NamedTuple):
    """A name that was come upon. Its folder is open until the next one is asked for."""

    folder: Folder
    name: str
    path: str
    """Names from where the walk began, divided by /."""
    kind: Kind
    status: os.stat_result


def kind_of(status: os.stat_result) -> Kind:
    """Return what something is."""
    return _KINDS.get(stat.S_IFMT(status.st_mode), "other")


def walk(folder: Folder, allowance: Allowance, *, recursive: bool = True, above: str = "") -> Iterator[Found]:
    """Yield what is in a folder, by name, each folder before what is in it.

    Left out are names that no path can name, folders that may not be entered, and the trash; what disappears meanwhile is
    passed over.
    """
    for name in folder.names():
        allowance.use(names=1)
        if name == TRASH and folder.depth == 0:
            continue
        if not _can_be_named(name):
            allowance.leave_out(f"{name!a}, a name that no path can have")
            continue
        try:
            status = folder.look(name)
        except ToolError:
            continue
        path = f"{above}/{name}" if above else name
        kind = kind_of(status)
        yield Found(folder, name, path, kind, status)
        if recursive and kind == "folder":
            try:
                inner = folder.enter(name)
            except ToolError as error:
                if error.code != "not_found":
                    allowance.leave_out(error.what)
                continue
            with inner:
                yield from walk(inner, allowance, above=path)


def chunks(file: IO[bytes], allowance: Allowance) -> Iterator[bytes]:
    """Yield what is in a file, counting it."""
    while block := file.read(_BLOCK):
        allowance.use(len(block))
        yield block


@contextmanager
def staged(folder: Folder, name: str) -> Generator[Folder]:
    """Build a folder aside, and give it its name when all went well. After an error nothing is left of it."""
    if folder.has(name):
        raise ToolError(
            "conflict",
            f"{folder.at(name)}: something has that name already.",
            hint="Name a folder that is not there yet.",
            field=folder.field,
        )
    draft = f".reprise-{os.urandom(8).hex()}.tmp"
    folder.make(draft)
    try:
        with folder.enter(draft) as inner:
            inner.path = folder.at(name)
            yield inner
        folder.rename(draft, folder, name)
    except BaseException:
        with suppress(ToolError):
            remove(folder, draft)
        raise


def remove(folder: Folder, name: str, allowance: Allowance | None = None) -> int:
    """Remove a name and all that is below it for good; return how many names these were. Of links, the links."""
    if allowance is not None:
        allowance.use(names=1)
    if kind_of(folder.look(name)) != "folder":
        folder.remove(name)
        return 1
    with folder.enter(name) as inner:
        removed = sum([remove(inner, each, allowance) for each in inner.names()])
    folder.remove_folder(name)
    return removed + 1


def moment(seconds: float) -> str:
    """Write a time of a file as ISO 8601, in UTC."""
    return datetime.fromtimestamp(int(seconds), UTC).isoformat()


def _can_be_named(name: str) -> bool:
    try:
        return segments(name) == [name]
    except ToolError:
        return False
