"""Finding plugins without executing any of them: in folders, and among installed packages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from reprise.kernel.errors import ConfigurationError
from reprise.runtime.extensions import KINDS, entry_points_of
from reprise.tools.plugins.folder import Folder, read_folder
from reprise.tools.plugins.manifest import NAME, Manifest, api_fault, canonical, read_manifest
from reprise.tools.plugins.plugin import Plugin
from reprise.tools.plugins.trust import see


def read_plugin(place: Path) -> tuple[Manifest, Folder]:
    """Return what a folder says of itself, and the bytes of all its files.

    Raises ``ConfigurationError`` for a folder that is no plugin, or has faults.
    """
    folder = read_folder(place)
    if NAME not in folder.files:
        raise ConfigurationError(f"{place} has no {NAME}.", hint="reprise plugins new NAME makes one.")
    manifest = read_manifest(folder.files[NAME])
    if manifest.entry not in folder.files:
        raise ConfigurationError(f"{NAME}: entry: there is no file {manifest.entry!r} in {place}.")
    return manifest, folder


def find_plugins(directories: Iterable[Path], *, packages: bool) -> dict[str, Plugin]:
    """Return all plugins that there are, by their keys. What cannot be read is among them, with the reason.

    Where several have one name none of them can be installed: nobody takes the place of another by coming first.
    """
    found, broken = dict[str, list[Plugin]](), list[Plugin]()
    for plugin in [*_in_folders(directories), *(_in_packages() if packages else ())]:
        if plugin.is_sound:
            found.setdefault(plugin.key, []).append(plugin)
        else:
            broken.append(plugin)
    for several in found.values():
        if len(several) > 1:
            places = ", ".join(str(each.place or "an installed package") for each in several)
            several[0].refuse(
                f"{len(several)} plugins are called {several[0].name!r}: {places}; remove all but one"
            )
    known = {key: several[0] for key, several in found.items()}
    for plugin in broken:
        known.setdefault(plugin.key if plugin.key not in known else str(plugin.place), plugin)
    return known


def _in_folders(directories: Iterable[Path]) -> Iterator[Plugin]:
    for directory in dict.fromkeys(each.resolve() for each in directories):
        try:
            places = sorted(directory.iterdir())
        except FileNotFoundError:
            continue
        except OSError as error:
            plugin = Plugin(directory.name, place=directory)
            plugin.refuse(f"the folder {directory} cannot be read ({error.strerror})")
            yield plugin
            continue
        for place in places:
            if not place.name.startswith((".", "__")) and _may_be_one(place):
                yield _in_folder(place)


def _may_be_one(place: Path) -> bool:
    try:
        return place.is_dir() and ((place / NAME).is_symlink() or (place / NAME).exists())
    except OSError:
        return True  # reading it says why


def _in_folder(place: Path) -> Plugin:
    try:
        manifest, folder = read_plugin(place)
    except ConfigurationError as error:
        plugin = Plugin(ascii(place.name)[1:-1][:80], place=place)
        plugin.refuse(str(error))
        return plugin
    plugin = Plugin(manifest.name, manifest.version, place, manifest, see(manifest, folder))
    if fault := api_fault(manifest.api_version):
        plugin.refuse(fault)
    return plugin


def _in_packages() -> list[Plugin]:
    found: dict[str, Plugin] = {}
    for kind in KINDS:
        for point in entry_points_of(kind):
            name = point.dist.name if point.dist else point.name
            plugin = found.setdefault(canonical(name), Plugin(name, point.dist.version if point.dist else ""))
            plugin.points.append((kind, point))
    return list(found.values())
