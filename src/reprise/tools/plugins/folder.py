"""The files of a plugin, read once: what was hashed is what is loaded."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import msgspec

from reprise.kernel.errors import ConfigurationError

MOST_FILES = 2_000
MOST_BYTES = 64 << 20
DEEPEST = 16
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Folder(msgspec.Struct, frozen=True):
    """The files of a plugin by their paths inside of it, ``/`` between folders."""

    files: Mapping[str, bytes]

    @property
    def digests(self) -> dict[str, str]:
        """Hashes by file, to say later which of them changed."""
        return {path: sha256(data).hexdigest() for path, data in sorted(self.files.items())}


def digest_of(digests: Mapping[str, str]) -> str:
    """Return the hash of files by their paths and hashes.

    >>> digest_of({"a": "0"}) == digest_of({"b": "0"})
    False
    """
    return sha256(msgspec.json.encode(sorted(digests.items()))).hexdigest()


def read_folder(path: Path) -> Folder:
    """Read all files of a plugin's folder; caches (``__pycache__``) and names that begin with a dot are no part of it.

    Nothing outside is reached, whoever changes the folder meanwhile: each part is opened through the handle of the one it
    lies in, and links are not followed.

    Raises ``ConfigurationError`` for what is no folder, has links or special files in it, or is too large.
    """
    files: dict[str, bytes] = {}
    try:
        handle = os.open(path, _FOLDER)
    except OSError as error:
        link = path.is_symlink()
        why = "is a symbolic link" if link else f"cannot be read ({error.strerror})"
        raise ConfigurationError(
            f"{path} {why}.", hint="Give the folder it leads to." if link else ""
        ) from error
    try:
        _read_into(files, handle, "", MOST_BYTES)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read ({error.strerror}: {error.filename}).") from error
    finally:
        os.close(handle)
    return Folder(files)


def _read_into(files: dict[str, bytes], handle: int, prefix: str, left: int) -> int:
    """Read what lies in an open folder; return how many bytes there may still be."""
    with os.scandir(handle) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        if entry.name.startswith(".") or entry.name == "__pycache__":
            continue
        path = _inside(prefix, entry.name)
        mode = entry.stat(follow_symlinks=False).st_mode
        if stat.S_ISDIR(mode):
            below = os.open(entry.name, _FOLDER, dir_fd=handle)
            try:
                left = _read_into(files, below, f"{path}/", left)
            finally:
                os.close(below)
            continue
        if not stat.S_ISREG(mode):
            kind = "a symbolic link" if stat.S_ISLNK(mode) else "no plain file"
            raise ConfigurationError(f"{path} is {kind}; a plugin has plain files and folders only.")
        with os.fdopen(os.open(entry.name, _FILE, dir_fd=handle), "rb") as opened:
            if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
                raise ConfigurationError(f"{path} is no plain file.")
            files[path] = opened.read(left + 1)
        left -= len(files[path])
        if left < 0 or len(files) > MOST_FILES:
            raise ConfigurationError(
                f"It has more than {MOST_FILES:,} files or {MOST_BYTES >> 20} MiB.",
                hint="Keep data outside, and let a setting say where.",
            )
    return left


def _inside(prefix: str, name: str) -> str:
    path = prefix + name
    if not path.isprintable() or "\\" in path:
        raise ConfigurationError(f"A file has a name that cannot be printed: {path!a}.")
    if path.count("/") >= DEEPEST:
        raise ConfigurationError(f"{path} lies deeper than {DEEPEST} folders.")
    return path
