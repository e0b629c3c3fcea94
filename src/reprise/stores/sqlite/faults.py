"""What SQLite's errors mean to a user: each its own error, with what to do next."""

from __future__ import annotations

from pathlib import Path

from reprise.kernel.errors import (
    StoreClosed,
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreLocked,
    StoreReadOnly,
    StoreUnreachable,
)
from reprise.stores.transactions import WorkFailed

_PERM, _BUSY, _LOCKED, _READONLY, _IOERR, _CORRUPT, _FULL, _CANTOPEN = 3, 5, 6, 8, 10, 11, 13, 14
_PROTOCOL, _TOOBIG, _CONSTRAINT, _MISMATCH, _RANGE, _NOTADB = 15, 18, 19, 20, 25, 26

_MEANINGS: dict[int, tuple[type[StoreError], str, str]] = {
    _PERM: (
        StoreReadOnly,
        "may not be written",
        "Give this user the right to write the file and its folder.",
    ),
    _BUSY: (
        StoreLocked,
        "is locked by another process",
        "Close other tools on the file, or raise ?busy=seconds.",
    ),
    _LOCKED: (
        StoreLocked,
        "is locked by another process",
        "Close other tools on the file, or raise ?busy=seconds.",
    ),
    _PROTOCOL: (
        StoreLocked,
        "is locked by another process",
        "Close other tools on the file, or raise ?busy=seconds.",
    ),
    _READONLY: (
        StoreReadOnly,
        "cannot be written",
        "Give this user the right to write the file and its folder.",
    ),
    _IOERR: (
        StoreUnreachable,
        "could not be read or written by the disk",
        "Look at the disk and the system's log.",
    ),
    _CORRUPT: (StoreCorrupt, "is damaged", "Restore a backup; `reprise doctor` shows what can be read."),
    _FULL: (StoreFull, "does not fit on the disk", "Make room; what was refused can be tried again."),
    _CANTOPEN: (
        StoreUnreachable,
        "cannot be opened",
        "Check that its folder exists and this user may enter it.",
    ),
    _NOTADB: (StoreCorrupt, "is not an SQLite database", "Give another path, or restore a backup."),
}

_ABOUT_ONE_VALUE = frozenset({_TOOBIG, _CONSTRAINT, _MISMATCH, _RANGE})


def code_of(error: BaseException) -> int:
    """Return SQLite's primary result code, 0 when the error is not SQLite's.

    Both spellings are known: that of ``sqlite3`` and that of ``apsw``, with which tests replace it.
    """
    code: int = getattr(error, "sqlite_errorcode", 0) or getattr(error, "extendedresult", 0) or 0
    return code & 0xFF


def is_about_one_value(error: BaseException) -> bool:
    """Return whether one row's value caused the error, so that the rest of a batch is worth another try."""
    code = code_of(error)
    if code:
        return code in _ABOUT_ONE_VALUE
    return isinstance(error, StoreCorrupt | WorkFailed) or not isinstance(
        error, (StoreError, OSError, MemoryError)
    )


def is_io(error: BaseException) -> bool:
    """Return whether the disk failed, which leaves open what of a commit it kept."""
    return code_of(error) == _IOERR


def translate(error: BaseException, path: Path) -> StoreError:
    """Return the error of ours that says what happened to the file."""
    if isinstance(error, StoreError):
        return error
    if "closed" in str(error) and not code_of(error):
        return StoreClosed(f"The store {path} is closed.")
    code = code_of(error)
    if not code and "decode" in str(error):
        code = _CORRUPT  # a text that is none, which only Python notices
    kind, what, hint = _MEANINGS.get(code, (StoreError, "refused a statement", ""))
    translated = kind(f"The database {path} {what} ({error}).", hint=hint)
    translated.__cause__ = error
    return translated
