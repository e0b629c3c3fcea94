"""What a plugin requires: installed packages by version, and other plugins."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version as version_of
from typing import NamedTuple

from reprise.kernel.errors import ConfigurationError, nearest
from reprise.tools.plugins.manifest import canonical

PLUGIN = "plugin:"
_WRITTEN = re.compile(r"([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*((?:[<>=!~].*)?)")


class Requirement(NamedTuple):
    """A package or plugin, and which versions of it will do ('' = any)."""

    name: str
    versions: str
    is_plugin: bool

    def __str__(self) -> str:
        return f"{PLUGIN if self.is_plugin else ''}{self.name}{self.versions}"


def parse_requirements(texts: Sequence[str]) -> list[Requirement]:
    """Return what texts of a manifest require. Raises ``ConfigurationError`` for one that says something else.

    >>> parse_requirements(["numpy>=2,<3", "plugin:units"])
    [Requirement(name='numpy', versions='>=2,<3', is_plugin=False), Requirement(name='units', versions='', is_plugin=True)]
    """
    found: list[Requirement] = []
    for text in texts:
        is_plugin = text.startswith(PLUGIN)
        match = _WRITTEN.fullmatch(text.removeprefix(PLUGIN).strip())
        if match is None:
            raise ConfigurationError(
                f"requires: {text!a} is no requirement.",
                hint="Write a name and versions (numpy>=2,<3), or plugin:NAME; no extras, addresses or markers.",
            )
        found.append(Requirement(match[1], match[2].strip(), is_plugin))
    return found


def missing(required: Requirement, plugins: Mapping[str, str]) -> str:
    """Return why a requirement is not met, '' = it is; ``plugins`` are versions of plugins by canonical name.

    Raises ``ConfigurationError`` when versions cannot be compared here.
    """
    if required.is_plugin:
        found = plugins.get(canonical(required.name))
        if found is None:
            near = nearest(canonical(required.name), plugins)
            return f"there is no plugin {required.name!r}" + (f", did you mean {near!r}?" if near else "")
    else:
        try:
            found = version_of(required.name)
        except PackageNotFoundError:
            return f"{required.name} is not installed: pip install '{required}'"
    if _fits(found, required.versions, str(required)):
        return ""
    what = f"the plugin {required.name}" if required.is_plugin else required.name
    return f"{what} is {found}, it needs {required.versions}" + (
        "" if required.is_plugin else f": pip install '{required}'"
    )


def _fits(found: str, versions: str, text: str) -> bool:
    if not versions:
        return True
    try:
        from packaging.specifiers import InvalidSpecifier, SpecifierSet  # noqa: PLC0415 - may not be there
        from packaging.version import InvalidVersion  # noqa: PLC0415
    except ModuleNotFoundError:
        raise ConfigurationError(
            f"requires: {text!r} cannot be checked: versions are compared by packaging, which is not installed.",
            hint="Run: pip install packaging",
        ) from None
    try:
        return SpecifierSet(versions).contains(found, prereleases=True)
    except (InvalidSpecifier, InvalidVersion) as error:
        raise ConfigurationError(f"requires: {text!a}: {error}.") from error
