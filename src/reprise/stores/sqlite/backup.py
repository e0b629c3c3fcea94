"""Copy a file as it is at one moment while processes work with it; and put a copy in its place while they do."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from reprise.kernel.errors import ConfigurationError, StoreCorrupt, StoreError, StoreUnreachable
from reprise.stores.progress import Report
from reprise.stores.sqlite import database, faults
from reprise.stores.sqlite.database import Connection
from reprise.stores.sqlite.meta import SQL
from reprise.stores.sqlite.turnstile import Turnstile
from reprise.stores.sqlite.verify import find_problems

PAGES_PER_STEP = 2000
"""Pages copied between two words about how far it is."""

UNSEEN = 15
"""Epochs left out where the store that is replaced cannot be asked how many it has seen."""


def back_up(path: Path, to: Path, report: Report) -> int:
    """Write a store's file, as it is now, to another one, check that, and return its size.

    The copy is one file without companions. It has its name only when it is whole, on the disk and found sound.

    Raises ``ConfigurationError`` when there is such a file, ``StoreCorrupt`` when what is copied is damaged.
    """
    if to.exists():
        raise ConfigurationError(f"{to} exists already.", hint="Give another name.")
    part = to.with_name(to.name + ".part")
    part.unlink(missing_ok=True)
    try:
        database.create_file(part)
        with closing(_open(path, "ro")) as source, closing(_open(part, "rw")) as copy:
            # One snapshot from the first page to the last; else each commit of another process begins it anew.
            source.execute("BEGIN")
            source.execute("SELECT count(*) FROM sqlite_master").fetchone()
            source.backup(copy, pages=PAGES_PER_STEP, progress=_telling(report, "pages"))
            source.execute("ROLLBACK")
            # Without the write-ahead log the file needs no companions, and may lie where nobody can write.
            copy.execute("PRAGMA journal_mode = DELETE")
            _check(copy, f"The copy of {path}")
        _sync(part)
        part.replace(to)
        _sync(to.parent)
    except StoreError:
        raise
    except Exception as error:
        raise faults.translate(error, path) from error
    finally:
        part.unlink(missing_ok=True)
    return to.stat().st_size


def unpack(backup: Path, folder: Path) -> Path:
    """Copy a backup into a folder, to be worked with there; return the copy."""
    if not backup.is_file():
        raise StoreUnreachable(f"There is no file {backup}.", hint="Give the path of a backup.")
    copy = folder / "restored.db"
    database.create_file(copy)
    try:
        with closing(_open(backup, "ro")) as source, closing(_open(copy, "rw")) as target:
            database.checked_version(source, backup)
            source.backup(target)
    except sqlite3.Error as error:
        raise faults.translate(error, backup) from error
    return copy


def check_free(connection: Connection, path: Path) -> None:
    """Raise ``ConfigurationError`` when a file holds what would be lost."""
    is_made = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if is_made and connection.execute(SQL["holds_data"]).fetchone()[0]:
        raise ConfigurationError(
            f"{path} holds data.", hint="Give --replace to lose it, or restore to another file."
        )


def put_in_place(
    copy: Path, path: Path, wake: Path, busy: float, report: Report, *, replace: bool = False
) -> None:
    """Make a file's content that of ``copy``, in one transaction; processes that have it open see it like any commit.

    Raises ``ConfigurationError`` when it holds something and that is not to be replaced.
    """
    wake.mkdir(mode=0o700, exist_ok=True)
    turnstile = Turnstile(wake)
    try:
        turnstile.enter(busy)
        try:
            with closing(_open(copy, "ro")) as source, closing(_open(path, "rwc")) as target:
                target.execute(f"PRAGMA busy_timeout = {round(busy * 1000)}")
                if not replace:  # looked at in our turn: nobody writes before the copy is there
                    check_free(target, path)
                source.backup(target, pages=PAGES_PER_STEP, progress=_telling(report, "pages"))
        finally:
            turnstile.leave()
    except sqlite3.Error as error:
        raise faults.translate(error, path) from error
    finally:
        turnstile.close()


class Workshop:
    """A folder beside a file, gone in the end."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> Path:
        if not self._path.parent.is_dir():
            raise StoreUnreachable(
                f"The folder {self._path.parent} does not exist.", hint="Create it, or give another path."
            )
        self._folder = Path(tempfile.mkdtemp(prefix=f".{self._path.name}.", dir=self._path.parent))
        return self._folder

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


def _open(path: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(
        database.uri_of(path, mode), uri=True, isolation_level=None, check_same_thread=False
    )


def _check(connection: sqlite3.Connection, what: str) -> None:
    problems = find_problems(connection)
    if problems:
        raise StoreCorrupt(
            f"{what} is damaged: {problems[0]}", hint="The store itself is; reprise doctor --full says more."
        )


def _telling(report: Report, what: str) -> Callable[[int, int, int], None]:
    return lambda _, remaining, total: report(what, total - remaining, total)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
