"""Which plugins somebody trusts, by the hash of all their files: a file of the user's, outside of every project."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec

from reprise.kernel.clock import MICROSECONDS
from reprise.kernel.errors import ConfigurationError
from reprise.kernel.surroundings import SURROUNDINGS
from reprise.tools.plugins.folder import Folder, digest_of
from reprise.tools.plugins.manifest import Manifest, canonical

FILE = "plugins.json"


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """A plugin as its files were at some time."""

    name: str
    version: str
    digest: str
    files: dict[str, str]
    """Hashes by file."""
    permissions: list[str]
    isolation: str
    copied: bool = False
    """Whether its folder is a copy that was made when it was installed."""
    at: int = 0
    """When it was trusted, in seconds since 1970."""

    def changes(self, now: Seen) -> str:
        """Return what is not as it was, in a few words."""
        before = self.files
        found = [
            f"{path} changed" for path in now.files if now.files[path] != before.get(path, now.files[path])
        ]
        found += [f"{path} is new" for path in now.files if path not in before]
        found += [f"{path} is gone" for path in before if path not in now.files]
        return ", ".join(found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")


def see(manifest: Manifest, folder: Folder) -> Seen:
    """Return a plugin as its files are."""
    digests = folder.digests
    return Seen(
        name=manifest.name,
        version=manifest.version,
        digest=digest_of(digests),
        files=digests,
        permissions=manifest.permissions,
        isolation=manifest.isolation,
    )


class _Book(msgspec.Struct, kw_only=True):
    """The whole file: by folder of plugins, then by name."""

    version: int = 1
    trusted: dict[str, dict[str, Seen]] = {}


class TrustStore:
    """Who is trusted, kept in a file: by default ``reprise/plugins.json`` among the user's settings.

    A record is found by the folder of plugins and the plugin's name, so a plugin whose own folder was renamed is the same
    one, and a changed one does not pass for new.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self.path = Path(path) if path else _of_user(os.environ)

    def find(self, directory: Path, name: str) -> Seen | None:
        """Return what is known of a plugin. Raises ``ConfigurationError`` when the file cannot be read."""
        return self._read().trusted.get(_key(directory), {}).get(canonical(name))

    def add(self, directory: Path, seen: Seen) -> None:
        """Trust a plugin as it was seen. Raises ``ConfigurationError`` when that cannot be written down."""
        record = msgspec.structs.replace(seen, at=SURROUNDINGS.get().clock.now() // MICROSECONDS)
        with self._changing() as book:
            book.trusted.setdefault(_key(directory), {})[canonical(seen.name)] = record

    def remove(self, directory: Path, name: str) -> bool:
        """Trust a plugin no more; tell whether it was. Raises ``ConfigurationError`` as :meth:`add`."""
        with self._changing() as book:
            known = book.trusted.get(_key(directory), {})
            return known.pop(canonical(name), None) is not None

    def _read(self) -> _Book:
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=_Book)
        except (FileNotFoundError, NotADirectoryError):
            return _Book()
        except (OSError, msgspec.MsgspecError) as error:
            raise ConfigurationError(
                f"{self.path}, where trusted plugins are written down, cannot be read: {error}.",
                hint="Mend or remove it: then plugins are trusted anew.",
            ) from error

    @contextmanager
    def _changing(self) -> Generator[_Book]:
        """Read, let somebody change, and write; one process at a time, all or nothing."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with self.path.with_suffix(".lock").open("a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                book = self._read()
                yield book
                data = msgspec.json.format(msgspec.json.encode(book, order="sorted"))
                with tempfile.NamedTemporaryFile(dir=self.path.parent, delete=False) as made:
                    made.write(data)
                Path(made.name).replace(self.path)
        except OSError as error:
            raise ConfigurationError(
                f"{self.path}, where trusted plugins are written down, cannot be written ({error.strerror})."
            ) from error


def _key(directory: Path) -> str:
    return str(directory.resolve())


def _of_user(environment: Mapping[str, str]) -> Path:
    home = environment.get("XDG_CONFIG_HOME") or str(
        Path(environment.get("HOME", "~")).expanduser() / ".config"
    )
    return Path(home) / "reprise" / FILE
