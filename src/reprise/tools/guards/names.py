"""Paths as tools are given them: read here, before anything is asked of the machine."""

from __future__ import annotations

import errno
import re
from collections.abc import Generator
from contextlib import contextmanager

from reprise.kernel.errors import ToolError

LONGEST_NAME = 255
"""Bytes of one name: what file systems take."""
LONGEST_PATH = 4096
"""Bytes of a whole path."""
DEEPEST = 64
"""Folders inside each other, and so handles that are open at once."""

_REFUSED = re.compile(
    "[\x00-\x1f\x7f-\x9f\\\\\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
"""What can end a name early, divide it elsewhere, show it as another one, or not be written as UTF-8."""

_CODES = {
    errno.ENOENT: ("not_found", "there is no such file or folder"),
    errno.EEXIST: ("conflict", "something has that name already"),
    errno.ENOTEMPTY: ("conflict", "the folder is not empty"),
    errno.ENOTDIR: ("conflict", "a part of the path is no folder"),
    errno.EISDIR: ("conflict", "it is a folder"),
    errno.ELOOP: ("permission_denied", "it is a symbolic link, and links are not followed"),
    errno.ENXIO: ("permission_denied", "it is no regular file"),
    errno.EACCES: ("permission_denied", "the system does not allow it"),
    errno.EPERM: ("permission_denied", "the system does not allow it"),
    errno.EROFS: ("permission_denied", "it is on a file system that is read-only"),
    errno.ENAMETOOLONG: ("invalid_input", "the name is too long"),
    errno.EFBIG: ("too_large", "the file would become too large"),
    errno.ENOSPC: ("upstream", "no space is left"),
    errno.EDQUOT: ("upstream", "no space is left to this user"),
}


def segments(path: str, field: str = "$.path") -> list[str]:
    """Return the names a path is made of; empty ones and ``.`` are left out.

    Nothing is decoded, expanded or normalised: ``%2e%2e``, ``~`` and full-width dots are names as others.

    >>> segments("./reports//2026/")
    ['reports', '2026']

    Raises ``ToolError`` with code ``invalid_input``: for ``..``, absolute paths, control and backward characters, and names
    that are too long or too many.
    """

    def refused(why: str, hint: str = "") -> ToolError:
        return ToolError("invalid_input", f"{path[:200]!r}: {why}.", hint=hint, field=field)

    if path.startswith("/"):
        raise refused("a path begins at a root, not at /", "Write it as file_list shows it.")
    if found := _REFUSED.search(path):
        divides = found[0] == "\\"
        raise refused(
            f"{found[0]!r} cannot be in a path", "Names are divided by /." if divides else "Leave it out."
        )
    names = [name for name in path.split("/") if name not in ("", ".")]
    if ".." in names:
        raise refused("'..' leads out of a folder", "Write the path from the root.")
    if len(path.encode()) > LONGEST_PATH or any(len(name.encode()) > LONGEST_NAME for name in names):
        raise refused(f"a name may have {LONGEST_NAME} bytes, a path {LONGEST_PATH}")
    if len(names) > DEEPEST:
        raise refused(f"it is more than {DEEPEST} folders deep")
    return names


@contextmanager
def told(path: str, field: str = "$.path") -> Generator[None]:
    """Make errors of the system such as a caller is told: by the path it gave, never by one of this machine."""
    try:
        yield
    except OSError as error:
        code, why = _CODES.get(error.errno or 0, ("upstream", error.strerror or type(error).__name__))
        raise ToolError(code, f"{path or '.'}: {why}.", field=field) from error
