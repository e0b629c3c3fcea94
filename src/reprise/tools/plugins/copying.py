"""Installing a plugin from elsewhere: a copy of its folder among the other plugins."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import msgspec

from reprise.kernel.errors import ConfigurationError
from reprise.tools.plugins.folder import Folder
from reprise.tools.plugins.manifest import Manifest
from reprise.tools.plugins.trust import TrustStore, see


def copy_in(manifest: Manifest, folder: Folder, directory: Path, trust: TrustStore) -> Path:
    """Write a plugin that was read elsewhere into a folder of plugins, trust it, and return where it is.

    Raises ``ConfigurationError`` where one of that name is, or when it cannot be written; nothing stays then.
    """
    place = directory / manifest.name
    if place.exists() or place.is_symlink():
        raise ConfigurationError(f"{place} exists.", hint=f"First: reprise plugins remove {manifest.name}")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=".new-", dir=directory))
        try:
            write_files(made, folder.files)
            made.chmod(0o755)
            made.rename(place)
        except BaseException:
            shutil.rmtree(made, ignore_errors=True)
            raise
    except OSError as error:
        raise ConfigurationError(f"{place} cannot be written ({error.strerror}).") from error
    trust.add(directory, msgspec.structs.replace(see(manifest, folder), copied=True))
    return place


def write_files(place: Path, files: Mapping[str, bytes]) -> None:
    """Write files by their paths below a folder; raises ``OSError``, also for one that exists."""
    for path, data in files.items():
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        with (place / path).open("xb") as opened:
            opened.write(data)
