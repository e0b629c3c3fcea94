"""Folders that tools may use, by name, and nothing outside of them."""

from __future__ import annotations

import os
from collections.abc import Collection, Generator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import IO, NamedTuple, Self
from weakref import finalize

from reprise.kernel.errors import ConfigurationError, ToolError, nearest
from reprise.tools.context import ToolContext
from reprise.tools.guards.folders import Folder, Mode, Rules
from reprise.tools.guards.names import segments

MAX_BYTES = 100 << 20
"""Bytes that a file may have which is written, and that one call may read."""
HINT = 'Say which folders it may use: registry.provide(FileRoots({"docs": "/srv/docs"})).'

Location = str | os.PathLike[str]


class Place(NamedTuple):
    """A name in a folder that is open; ``.`` is the folder itself, a root."""

    folder: Folder
    name: str

    @property
    def path(self) -> str:
        """The path, as callers are told."""
        return self.folder.at(self.name)


class FileRoots:
    """Folders that tools may use: ``registry.provide(FileRoots({"docs": "/srv/docs"}))``. Without one they use none.

    The path ``docs/a.txt`` is then the file ``a.txt`` there; of a single folder without a name, ``FileRoots("/srv/docs")``,
    it is ``a.txt``.

    ``read_only``
        True, or the names of roots in which nothing is written.
    ``max_bytes``
        How large a file may be that is written, and how much one call may read or write.
    ``hard_links``
        Whether files are opened that have several names. One of these may be outside of the root, and nobody can tell.

    Each root is opened once; from there every part of a path is opened in the folder before it, and a symbolic link is
    followed nowhere. So nothing that happens to the path meanwhile leads out. Only regular files are opened, on the file
    system of their root. Methods raise ``ToolError``.

    >>> import tempfile
    >>> roots = FileRoots({"work": tempfile.mkdtemp()})
    >>> with roots.writing("work/a.txt") as file:
    ...     _ = file.write(b"hello")
    >>> with roots.reading("work/a.txt") as file:
    ...     file.read()
    b'hello'
    >>> with roots.reading("work/../../etc/passwd"):
    ...     pass
    Traceback (most recent call last):
        ...
    reprise.kernel.errors.ToolError: 'work/../../etc/passwd': '..' leads out of a folder. Write the path from the root.
    >>> roots.close()

    Raises ``ConfigurationError`` for folders that cannot be opened, and on systems without handles of folders (Windows).
    """

    def __init__(
        self,
        folders: Location | Mapping[str, Location],
        *,
        read_only: bool | Collection[str] = False,
        max_bytes: int = MAX_BYTES,
        hard_links: bool = False,
    ) -> None:
        if os.open not in os.supports_dir_fd or not hasattr(os, "O_NOFOLLOW"):
            raise ConfigurationError(
                "This system has no handles of folders, without which tools could be led out of their roots.",
                hint="Use Linux or macOS; on Windows, its subsystem for Linux.",
            )
        self._named = isinstance(folders, Mapping)
        given = folders if isinstance(folders, Mapping) else {"": folders}
        fixed = set(given) if read_only is True else set(read_only or ())
        _check(given, fixed, max_bytes, named=self._named)
        self.max_bytes = max_bytes
        self._roots: dict[str, Folder] = {}
        self._close = finalize(self, _close, self._roots)
        for name, location in given.items():
            try:
                fd = os.open(location, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except (OSError, ValueError) as error:
                self.close()
                why = error.strerror if isinstance(error, OSError) else error
                raise ConfigurationError(
                    f"The folder {os.fspath(location)!r} cannot be opened: {why}.",
                    hint="Make it, or name another.",
                ) from error
            rules = Rules(name not in fixed, hard_links, max_bytes, os.fstat(fd).st_dev)
            self._roots[name] = Folder(fd, name, rules)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the roots; none if there is one without a name."""
        return tuple(self._roots) if self._named else ()

    def close(self) -> None:
        """Close the roots; done by itself when nobody has this any more."""
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ------------------------------------------------------------ what tools use

    @contextmanager
    def place(
        self, path: str, *, make: bool = False, inside: bool = False, field: str = "$.path"
    ) -> Generator[Place]:
        """Open the folder that a path's last name is in; ``make`` makes the folders on the way.

        ``inside``: the path must not be a root itself.
        """
        root, names = self._split(path, field)
        if inside and not names:
            raise ToolError("invalid_input", f"{path!r} is a root itself.", field=field)
        with self._open(root, names[:-1], make=make, field=field) as folder:
            yield Place(folder, names[-1] if names else ".")

    def folder(self, path: str, *, make: bool = False, field: str = "$.path") -> Folder:
        """Open a folder, to be closed by ``with``; ``make`` makes it, and those on the way, if it is not there."""
        return self._open(*self._split(path, field), make=make, field=field)

    @contextmanager
    def reading(self, path: str, *, field: str = "$.path") -> Generator[IO[bytes]]:
        """Open a regular file for reading."""
        with self.place(path, field=field) as (folder, name), folder.reading(name) as file:
            yield file

    @contextmanager
    def writing(
        self,
        path: str,
        mode: Mode = "create",
        *,
        limit: int | None = None,
        make: bool = False,
        field: str = "$.path",
    ) -> Generator[IO[bytes]]:
        """Write a regular file of at most ``limit`` bytes (``max_bytes`` if that is less); see :meth:`Folder.writing`.

        Others see all of it or nothing, and after an error nothing is left. ``create`` replaces nothing, ``append`` writes
        where the file is.
        """
        with (
            self.place(path, make=make, inside=True, field=field) as (folder, name),
            folder.writing(name, mode, limit=limit) as file,
        ):
            yield file

    # ------------------------------------------------------------ on the way

    def _split(self, path: str, field: str) -> tuple[Folder, list[str]]:
        names = segments(path, field)
        if not self._roots:
            raise ToolError("unavailable", "These roots were closed.")
        if not self._named:
            return self._roots[""], names
        if names and names[0] in self._roots:
            return self._roots[names[0]], names[1:]
        first = names[0] if names else ""
        near = nearest(first, self._roots)
        known = ", ".join(self._roots)
        raise ToolError(
            "not_found",
            f"{path[:200]!r} does not begin with a root.",
            hint=f"Did you mean {near!r}?" if near else f"Roots: {known}.",
            field=field,
        )

    @staticmethod
    def _open(root: Folder, names: list[str], *, make: bool, field: str) -> Folder:
        folder = root.enter(".")  # a handle of its own: where a listing stands belongs to the handle
        folder.field = field
        for name in names:
            with folder:
                folder = folder.enter(name, make=make)
        return folder


def roots_of(ctx: ToolContext) -> FileRoots:
    """Return the roots that were provided. Raises ``ToolError`` with code ``unavailable``, saying how."""
    return ctx.need(FileRoots, HINT)


def _check(given: Mapping[str, Location], fixed: set[str], max_bytes: int, *, named: bool) -> None:
    if not given:
        raise ConfigurationError("FileRoots without a folder.", hint='FileRoots({"docs": "/srv/docs"})')
    for name in given if named else ():
        try:
            whole = segments(name) == [name]
        except ToolError:
            whole = False
        if not whole:
            raise ConfigurationError(f"{name!r} cannot be the name of a root.", hint="Use a plain word.")
    if unknown := fixed - set(given):
        raise ConfigurationError(
            f"read_only names {min(unknown)!r}, which is no root.", hint=f"Roots: {', '.join(given)}."
        )
    if max_bytes < 1:
        raise ConfigurationError(f"max_bytes={max_bytes}", hint="It must be positive.")


def _close(roots: dict[str, Folder]) -> None:
    for root in roots.values():
        root.close()
    roots.clear()
