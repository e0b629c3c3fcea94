"""Open the file: check where it lies, whose it is and how old it is; bring it up to date."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

from reprise.kernel.errors import (
    ConfigurationError,
    SchemaTooNew,
    StoreCorrupt,
    StoreReadOnly,
    StoreUnreachable,
    UnsupportedFileSystem,
)
from reprise.stores.sqlite.rows import checksum, joined_words

APPLICATION_ID = 0x52505253
"""``RPRS``: marks a database file as ours."""

OLDEST_SQLITE = (3, 35, 0)

WAL_BYTES = 4 << 20
"""The write-ahead log is grown to this size at opening: writing over a file costs a third less than growing it."""

_WAL_HEADER = 32
"""Bytes of a write-ahead log that holds nothing."""

_CHECKPOINT_PAGES = WAL_BYTES // 4096 - 16
"""Checkpoint when the log has about filled what was grown."""

_NETWORK = frozenset({
    "nfs", "nfs4", "cifs", "smb", "smbfs", "smb2", "smb3", "afs", "ncpfs", "ceph", "glusterfs", "lustre", "beegfs",
    "davfs", "fuse.sshfs", "fuse.s3fs", "fuse.gcsfuse", "fuse.rclone", "fuse.glusterfs", "fuse.davfs",
})  # fmt: skip


class Cursor(Protocol):
    """What ``execute`` returns, as far as we use it."""

    def fetchone(self) -> Any:
        """Return the next row, or None."""
        ...

    def fetchall(self) -> list[Any]:
        """Return the rows that are left."""
        ...


class Connection(Protocol):
    """An SQLite connection as far as we use it: that of ``sqlite3`` in autocommit, or a stand-in of a test."""

    @property
    def in_transaction(self) -> bool:
        """Return whether a transaction is open."""
        ...

    def execute(self, sql: str, parameters: Sequence[Any] | dict[str, Any] = (), /) -> Cursor:
        """Execute one statement."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


FUNCTIONS: dict[str, Callable[..., Any]] = {"seal": lambda *row: checksum(row), "words": joined_words}
"""What migrations call: ``seal(…)``, the checksum of a row's columns, and ``words(text)``, the words of an error. Whoever
brings a ``connect`` of his own adds them.
"""

Connect = Callable[[str], Connection]
"""Open a connection to an SQLite URI, in autocommit, usable from any thread."""


def connect(uri: str) -> Connection:
    """Open a connection with Python's own ``sqlite3``.

    It has the functions of :data:`FUNCTIONS`.
    """
    connection = sqlite3.connect(
        uri, uri=True, isolation_level=None, check_same_thread=False, cached_statements=256
    )
    for name, function in FUNCTIONS.items():
        connection.create_function(name, -1, function, deterministic=True)
    return connection


def open_writer(path: Path, connect: Connect, synchronous: str, busy: float) -> Connection:
    """Open the connection that writes; the schema must be there."""
    connection = connect(uri_of(path, "rw"))
    try:
        connection.execute(f"PRAGMA busy_timeout = {round(busy * 1000)}")
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        connection.execute("PRAGMA cache_size = -8192")
        connection.execute("PRAGMA temp_store = MEMORY")
    except BaseException:
        connection.close()
        raise
    return connection


def open_reader(path: Path, connect: Connect, busy: float) -> Connection:
    """Open a connection that cannot write."""
    connection = connect(uri_of(path, "ro"))
    connection.execute(f"PRAGMA busy_timeout = {round(busy * 1000)}")
    return connection


def create_file(path: Path) -> None:
    """Make the file if it is missing, readable by its owner alone; SQLite gives its companions the same rights.

    Raises ``StoreUnreachable`` when the folder is missing, ``StoreReadOnly`` when file or folder may not be written,
    ``StoreCorrupt`` when it is empty and its write-ahead log is not: SQLite would take it for new, and remove the log.
    """
    if not path.parent.is_dir():
        raise StoreUnreachable(
            f"The folder {path.parent} does not exist.", hint="Create it, or give another path."
        )
    real = path.resolve()
    try:
        os.close(os.open(real, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        # Not opened even to look: to close it would free the locks of all other stores that this process has on the
        # file (POSIX), and whoever closes it elsewhere would take itself for the last one and remove the log under them.
        if real.is_dir():
            raise StoreUnreachable(f"{path} is a folder.", hint="Give the path of a file.") from None
        if not os.access(real, os.R_OK | os.W_OK):
            raise _read_only(path, PermissionError("no right to write it")) from None
        wal = wal_of(real)
        # SQLite takes a file of one byte for one of none: on some systems it makes such files itself.
        if real.stat().st_size <= 1 and wal.exists() and wal.stat().st_size > _WAL_HEADER:
            raise StoreCorrupt(
                f"{path} is empty, but its write-ahead log is not.",
                hint=f"Restore a backup; or remove {wal.name}, too, to begin anew.",
            ) from None
    except OSError as error:
        raise _read_only(path, error) from error
    if not os.access(path.parent, os.W_OK | os.X_OK):
        # SQLite keeps its write-ahead log beside the file.
        raise _read_only(path.parent, PermissionError("no right to write the folder"))


def _read_only(path: Path, error: OSError) -> StoreReadOnly:
    return StoreReadOnly(
        f"{path} cannot be written ({error.strerror or error}).",
        hint="Give this user the right to write the file and its folder, or give another path.",
    )


def check_file_system(path: Path, mounts: str = "/proc/self/mountinfo") -> None:
    """Raise ``UnsupportedFileSystem`` where locks and shared memory cannot be trusted between processes.

    Known only where the system lists its mounts (Linux); elsewhere nothing is said.
    """
    try:
        lines = Path(mounts).read_text("utf-8", "replace").splitlines()
    except OSError:
        return
    place, kind, options = _mount_of(path.resolve(), lines)
    # 9p between a virtual machine and its own host is sound enough; Windows drives in WSL and servers are not.
    far = kind == "9p" and ("drvfs" in options or "trans=tcp" in options)
    if kind in _NETWORK or far:
        raise UnsupportedFileSystem(
            f"{path} lies on {place}, a network file system ({kind}), where SQLite can lose data.",
            hint="Use a local disk, or a postgresql:// store; ?unsafe_fs=1 if you know that one machine alone uses it.",
        )


def _mount_of(path: Path, lines: Sequence[str]) -> tuple[str, str, str]:
    best = ("", "", "")
    for line in lines:
        fields, _, source = line.partition(" - ")
        place = re.sub(r"\\(\d{3})", lambda m: chr(int(m[1], 8)), fields.split(" ")[4])
        # A later mount on the same place hides the earlier one.
        if path.is_relative_to(place) and len(place) >= len(best[0]):
            kind, _, options = source.partition(" ")
            best = (place, kind, options)
    return best


@cache
def check_library() -> None:
    """Raise ``ConfigurationError`` when Python's SQLite is too old, or was built without its index of words."""
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        wanted = ".".join(map(str, OLDEST_SQLITE))
        raise ConfigurationError(
            f"This Python has SQLite {sqlite3.sqlite_version}; Reprise needs {wanted}.",
            hint="Use a newer Python.",
        )
    with closing(sqlite3.connect(":memory:")) as connection:
        if not connection.execute("SELECT 1 FROM pragma_module_list WHERE name = 'fts5'").fetchone():
            raise ConfigurationError(
                f"The SQLite {sqlite3.sqlite_version} of this Python was built without FTS5, the index of words.",
                hint="Use another build of Python: those of python.org and of the large distributions have it.",
            )


@cache
def migrations() -> tuple[tuple[int, str], ...]:
    """Return (number, script) of the schema's steps, in order."""
    folder = resources.files("reprise.stores.sqlite").joinpath("sql")
    found = [(entry.name, entry) for entry in folder.iterdir() if re.match(r"\d{4}_.*\.sql$", entry.name)]
    return tuple(
        (int(name[:4]), entry.read_text("utf-8")) for name, entry in sorted(found, key=lambda f: f[0])
    )


def upgrade(connection: Connection, path: Path) -> None:
    """Bring the schema to the newest version, each step in a transaction of its own. Call it under the turnstile.

    Raises ``SchemaTooNew`` for a file of a newer Reprise, ``StoreUnreachable`` for one of another application.
    """
    version = checked_version(connection, path)
    if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise UnsupportedFileSystem(
                f"{path} lies on a file system without the shared memory that SQLite's write-ahead log needs.",
                hint="Use a local disk, or a postgresql:// store.",
            )
    for number, script in migrations():
        if number <= version:
            continue
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in _split(script):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {number}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def checked_version(connection: Connection, path: Path) -> int:
    """Return the schema that a file has, 0 for an empty one.

    Raises ``SchemaTooNew`` for a file of a newer Reprise, ``StoreUnreachable`` for one of another application.
    """
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    used = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if application != APPLICATION_ID and (application or version or used):
        raise StoreUnreachable(f"{path} is a database of another application.", hint="Give another path.")
    newest = migrations()[-1][0]
    if version > newest:
        raise SchemaTooNew(
            f"{path} has schema {version}; this Reprise knows {newest}.",
            hint="Upgrade Reprise; nothing was changed.",
        )
    return version


def version_of(path: Path) -> int:
    """Return the schema that a file has, 0 for an empty one, whoever wrote it."""
    connection = connect(uri_of(path, "ro"))
    try:
        return connection.execute("PRAGMA user_version").fetchone()[0]
    finally:
        connection.close()


def _split(script: str) -> list[str]:
    statements: list[str] = []
    pending = ""
    for line in script.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            statements.append(pending)
            pending = ""
    return statements


def grow_wal(connection: Connection, path: Path) -> None:
    """Let the write-ahead log have its full size before the first commit.

    A transaction too large for the cache spills into the log and is then rolled back: the log has grown, the database
    has not.
    """
    wal = wal_of(path)
    if wal.exists() and wal.stat().st_size >= WAL_BYTES:
        return
    (cache,) = connection.execute("PRAGMA cache_size").fetchone()
    connection.execute("PRAGMA cache_size = 8")
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute("CREATE TABLE filler (bytes)")
        connection.execute("INSERT INTO filler VALUES (zeroblob(?))", (WAL_BYTES,))
    finally:
        connection.execute("ROLLBACK")
        connection.execute(f"PRAGMA cache_size = {cache}")


def wal_of(path: Path) -> Path:
    """Return where SQLite keeps the write-ahead log of a file."""
    return path.with_name(path.name + "-wal")


def uri_of(path: Path, mode: str) -> str:
    """Return a file as SQLite's URI; ``mode`` is ro, rw or rwc."""
    return f"file:{quote(str(path.absolute()))}?mode={mode}"
