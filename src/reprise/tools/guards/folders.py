"""A folder that is open. What is done by names in it happens there, wherever its path leads by now."""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import IO, Any, Literal, Self, cast

from reprise.kernel.errors import ToolError, nearest
from reprise.tools.guards.names import DEEPEST, told
from reprise.tools.guards.renaming import rename_new

Mode = Literal["create", "overwrite", "append"]

_CLOSED = getattr(os, "O_CLOEXEC", 0)
_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0) | _CLOSED
_FILE = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | _CLOSED
"""A FIFO that is opened so waits for nobody, a terminal becomes nobody's."""
_KINDS = {
    stat.S_IFLNK: "a symbolic link, and links are not followed",
    stat.S_IFIFO: "a FIFO, and only regular files are opened",
    stat.S_IFSOCK: "a socket, and only regular files are opened",
    stat.S_IFBLK: "a device, and only regular files are opened",
    stat.S_IFCHR: "a device, and only regular files are opened",
}
_HERE = "."


@dataclass(frozen=True)
class Rules:
    """What holds in all folders of a root."""

    writable: bool
    hard_links: bool
    max_bytes: int
    device: int
    """Number of the root's file system."""


class Folder:
    """A folder that is open, and closed by ``with``. ``path`` and ``field`` are how callers are told of it.

    Every verb takes one name, never a path, and none follows a link. All raise ``ToolError``.
    """

    __slots__ = ("depth", "fd", "field", "path", "rules")

    def __init__(self, fd: int, path: str, rules: Rules, field: str = "$.path", depth: int = 0) -> None:
        self.fd, self.path, self.rules, self.field, self.depth = fd, path, rules, field, depth

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close it; again is no error."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def at(self, name: str) -> str:
        """Return the path of a name in it, as callers are told."""
        return self.path if name == _HERE else f"{self.path}/{name}" if self.path else name

    # ------------------------------------------------------------ looking

    def look(self, name: str) -> os.stat_result:
        """Return what has a name, a link itself and not what it leads to."""
        with self._told(name):
            return os.stat(name, dir_fd=self.fd, follow_symlinks=False)

    def has(self, name: str) -> bool:
        """Tell whether something has a name; a link that leads nowhere has one."""
        try:
            os.stat(name, dir_fd=self.fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        except OSError:
            self.look(name)
        return True

    def names(self) -> list[str]:
        """Return the names in it, sorted; such that are no UTF-8 have surrogates."""
        with told(self.path, self.field):
            return sorted(os.listdir(self.fd))  # noqa: PTH208 - by its handle

    def enter(self, name: str, *, make: bool = False) -> Folder:
        """Open a folder in it; ``make`` makes it if nothing has that name. The folder itself is ``.``."""
        if self.depth >= DEEPEST:
            raise ToolError(
                "too_large", f"{self.at(name)}: more than {DEEPEST} folders deep.", field=self.field
            )
        if make:
            self.make(name, exist_ok=True)
        try:
            fd = os.open(name, _FOLDER, dir_fd=self.fd)
        except OSError:
            self._refuse(name, stat.S_IFDIR)
            with self._told(name):
                raise
        inner = Folder(fd, self.at(name), self.rules, self.field, self.depth + (name != _HERE))
        try:
            if os.fstat(fd).st_dev != self.rules.device:
                raise ToolError(
                    "permission_denied",
                    f"{inner.path}: it is on another file system than its root.",
                    hint="Give it to FileRoots as a root of its own.",
                    field=self.field,
                )
        except BaseException:
            inner.close()
            raise
        return inner

    # ------------------------------------------------------------ files

    def reading(self, name: str) -> IO[bytes]:
        """Open a regular file for reading."""
        return os.fdopen(self._open(name, os.O_RDONLY), "rb")

    @contextmanager
    def writing(
        self,
        name: str,
        mode: Mode = "create",
        *,
        limit: int | None = None,
        permissions: int | None = None,
    ) -> Generator[IO[bytes]]:
        """Write a regular file of at most ``limit`` bytes, ``max_bytes`` of the roots if that is less.

        It is written under a name of its own, synced, and renamed when all went well: others see all of it or nothing, and
        after an error nothing is left. ``append`` writes where the file is.
        """
        self.must_be_writable(name)
        if mode == "append":
            with self._appending(name, self._most(limit)) as file:
                yield file
            return
        kept = self._to_replace(name, mode)
        draft = f".reprise-{os.urandom(8).hex()}.tmp"
        with self.new(
            draft, limit=limit, permissions=permissions if kept is None else kept, sync=True, shown=name
        ) as file:
            yield file
        try:
            self.rename(draft, self, name, replace=mode == "overwrite")
        except BaseException:
            with suppress(OSError):
                os.unlink(draft, dir_fd=self.fd)
            raise

    @contextmanager
    def new(
        self,
        name: str,
        *,
        limit: int | None = None,
        permissions: int | None = None,
        sync: bool = False,
        shown: str = "",
    ) -> Generator[IO[bytes]]:
        """Write a file that was not there, for all to see; after an error it is not there again."""
        self.must_be_writable(name)
        shown = self.at(shown or name)
        with told(shown, self.field):
            fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | _FILE, 0o666, dir_fd=self.fd)
        try:
            with _Bounded.buffered(fd, "wb+", self._most(limit), shown, self.field, sync=sync) as file:
                if permissions is not None:
                    os.fchmod(fd, permissions & 0o777)
                yield file
        except BaseException:
            with suppress(OSError):
                os.unlink(name, dir_fd=self.fd)
            raise

    def _most(self, limit: int | None) -> int:
        return self.rules.max_bytes if limit is None else min(limit, self.rules.max_bytes)

    @contextmanager
    def _appending(self, name: str, most: int) -> Generator[IO[bytes]]:
        new = not self.has(name)
        fd = self._open(name, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        with _Bounded.buffered(fd, "ab", most, self.at(name), self.field) as file:
            yield file
        if new:
            _sync(self.fd)

    def _open(self, name: str, flags: int) -> int:
        """Return a handle of a regular file. Looked at before, so that devices are not opened, and after, for certain."""
        if not flags & os.O_CREAT or self.has(name):
            self._refuse(name, stat.S_IFREG)
        with self._told(name):
            fd = os.open(name, flags | _FILE, 0o666, dir_fd=self.fd)
        try:
            self._check(name, os.fstat(fd))
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _to_replace(self, name: str, mode: Mode) -> int | None:
        """Return the permissions of the file that will be replaced, None = there is none."""
        if not self.has(name):
            return None
        if mode == "create":
            raise ToolError(
                "conflict",
                f"{self.at(name)}: something has that name already.",
                hint="Write with mode overwrite or append, or under another name.",
                field=self.field,
            )
        found = self.look(name)
        self._check(name, found, stat.S_IFREG, shared=True)  # its other names keep what they have
        return found.st_mode

    # ------------------------------------------------------------ names

    def make(self, name: str, *, exist_ok: bool = False) -> None:
        """Make a folder in it."""
        if exist_ok and self.has(name):
            return
        self.must_be_writable(name)
        try:
            with self._told(name):
                os.mkdir(name, dir_fd=self.fd)
        except ToolError as error:
            if not (exist_ok and error.code == "conflict"):
                raise

    def remove(self, name: str) -> None:
        """Remove a name that is no folder's; of a link, the link."""
        self.must_be_writable(name)
        with self._told(name):
            os.unlink(name, dir_fd=self.fd)

    def remove_folder(self, name: str) -> None:
        """Remove an empty folder."""
        self.must_be_writable(name)
        with self._told(name):
            os.rmdir(name, dir_fd=self.fd)

    def rename(self, name: str, to: Folder, new: str, *, replace: bool = False) -> None:
        """Give what has a name another one, perhaps in another folder.

        Without ``replace`` a name that is taken is ``conflict``. Between file systems it is ``upstream``, by an ``OSError``
        with ``EXDEV``.
        """
        self.must_be_writable(name)
        to.must_be_writable(new)
        with to._told(new):
            try:
                if replace:
                    os.rename(name, new, src_dir_fd=self.fd, dst_dir_fd=to.fd)
                else:
                    rename_new(name, new, self.fd, to.fd)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                what = f"{self.at(name)}: a folder cannot be moved into itself."
                raise ToolError("conflict", what, field=to.field) from error
        _sync(to.fd)

    def must_be_writable(self, name: str) -> None:
        """Raise ``permission_denied`` in a root that is read-only."""
        if not self.rules.writable:
            raise ToolError("permission_denied", f"{self.at(name)}: its root is read-only.", field=self.field)

    # ------------------------------------------------------------ refusing

    @contextmanager
    def _told(self, name: str) -> Generator[None]:
        try:
            with told(self.at(name), self.field):
                yield
        except ToolError as error:
            if error.code == "not_found" and not error.hint and isinstance(error.__cause__, OSError):
                error.hint = self._meant(name)
            raise

    def _meant(self, name: str) -> str:
        try:
            names = os.listdir(self.fd)[:1000]  # noqa: PTH208 - by its handle
        except OSError:
            return ""
        near = nearest(name, names)
        return f"Did you mean {self.at(near)!r}?" if near else ""

    def _refuse(self, name: str, wanted: int) -> None:
        """Raise when a name is of something else than is wanted."""
        self._check(name, self.look(name), wanted)

    def _check(
        self, name: str, found: os.stat_result, wanted: int = stat.S_IFREG, *, shared: bool = False
    ) -> None:
        kind = stat.S_IFMT(found.st_mode)
        where = self.at(name)
        if kind in _KINDS:
            raise ToolError("permission_denied", f"{where}: it is {_KINDS[kind]}.", field=self.field)
        if kind != wanted:
            what = "a folder" if kind == stat.S_IFDIR else "a file"
            raise ToolError("conflict", f"{where}: it is {what}.", field=self.field)
        if kind == stat.S_IFREG and found.st_nlink > 1 and not (shared or self.rules.hard_links):
            raise ToolError(
                "permission_denied",
                f"{where}: the file has {found.st_nlink} names (hard links), and the others may be outside.",
                hint="If that is meant: FileRoots(…, hard_links=True).",
                field=self.field,
            )


class _Bounded(io.FileIO):
    """A file that becomes no larger than it may."""

    def __init__(self, fd: int, mode: str, most: int, path: str, field: str) -> None:
        super().__init__(fd, mode)
        self._most, self._path, self._field = most, path, field

    @classmethod
    @contextmanager
    def buffered(
        cls, fd: int, mode: str, most: int, path: str, field: str, *, sync: bool = True
    ) -> Generator[IO[bytes]]:
        """Yield it with a buffer, and sync it at the end; after an error, what is left in the buffer is not written."""
        raw = cls(fd, mode, most, path, field)
        file = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        try:
            yield cast("IO[bytes]", file)
            with told(path, field):
                file.flush()
                if sync:
                    os.fsync(fd)
        finally:
            raw.close()

    def write(self, data: Any, /) -> int:
        if self.tell() + memoryview(data).nbytes > self._most:
            raise ToolError(
                "too_large",
                f"{self._path}: it would become larger than {self._most:,} bytes.",
                field=self._field,
            )
        with told(self._path, self._field):
            return super().write(data) or 0


def _sync(folder: int) -> None:
    """Make new names durable, where the file system can."""
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
