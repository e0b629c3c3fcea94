"""What a plugin says of itself: ``plugin.json``."""

from __future__ import annotations

import json
import re
from typing import Any, Literal, cast, get_type_hints

import msgspec

from reprise.kernel.errors import ConfigurationError, nearest
from reprise.tools.tool import EFFECTS

NAME = "plugin.json"
API_VERSION = (1, 0)
"""What plugins can count on: changed in front when something is taken away, behind when something is added."""
PERMISSIONS = tuple(effect for effect in EFFECTS if effect != "pure")
"""Effects that a plugin may declare; what is pure needs no permission."""
LARGEST = 64 << 10
"""Bytes that a manifest may have."""
MANY = 100
LONGEST = 500
"""Entries of a list, and characters of a text."""

Isolation = Literal["direct", "process"]
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_VERSION = re.compile(
    r"(\d{1,9})(\.\d{1,9}){0,5}((a|b|rc)\d{1,9})?(\.post\d{1,9})?(\.dev\d{1,9})?(\+[a-z0-9.]{1,32})?",
    re.ASCII,
)
_API = re.compile(r"(\d{1,3})(?:\.(\d{1,3}))?", re.ASCII)
_ENTRY = re.compile(r"([A-Za-z_][A-Za-z0-9_]*/)*[A-Za-z_][A-Za-z0-9_]*\.py")
_RESERVED = "reprise"


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a plugin says of itself.

    >>> read_manifest(b'{"name": "weather", "version": "1.2", "api_version": "1.0"}').entry
    '__init__.py'
    """

    name: str
    version: str
    api_version: str
    """The version of what plugins can count on that it was written for."""
    description: str = ""
    entry: str = "__init__.py"
    """The file in the folder that offers ``register(registry)`` or tools."""
    permissions: list[str] = []
    """Effects that its tools may have, and that tools may have which it calls."""
    requires: list[str] = []
    """Installed packages (``numpy>=2,<3``) and other plugins (``plugin:units>=1``)."""
    isolation: Isolation = "direct"
    """Where its tools are called: in this process, or in one of its own with limits."""
    author: str = ""
    homepage: str = ""
    license: str = ""


_FIELDS = get_type_hints(Manifest)


def read_manifest(data: bytes) -> Manifest:
    """Return what a manifest says. Raises ``ConfigurationError``, which names every fault with its field.

    >>> read_manifest(b'{"name": "weather", "version": "1", "api_version": "1", "permisions": []}')
    Traceback (most recent call last):
    reprise.kernel.errors.ConfigurationError: plugin.json: there is no field 'permisions', did you mean 'permissions'?
    """
    if len(data) > LARGEST:
        raise ConfigurationError(f"{NAME} is {len(data):,} bytes; it may be {LARGEST:,}.")
    try:
        given: Any = json.loads(data.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{NAME} cannot be read: {error}.") from None
    if not isinstance(given, dict):
        raise ConfigurationError(f"{NAME} is no JSON object.", hint='Write {"name": …, "version": …}.')
    faults = list(_faults(given))  # pyright: ignore[reportUnknownArgumentType]
    if faults:
        raise ConfigurationError(f"{NAME}: {'; '.join(faults[:10])}")
    return msgspec.convert(given, Manifest)


def canonical(name: str) -> str:
    """Return what names are compared by: ``weather-tools`` and ``weather_tools`` are one.

    >>> canonical("weather-tools")
    'weather_tools'
    """
    return re.sub(r"[-_.]+", "_", name).lower()


def name_fault(name: str) -> str:
    """Return why a plugin cannot be called so, '' = it can."""
    if not _NAME.fullmatch(name):
        return f"{_shown(name)} is no name of a plugin: use a-z, 0-9, - and _, at most 64, and begin with a letter"
    if canonical(name).partition("_")[0] == _RESERVED:
        return f"{name!r} is reserved: names that begin with {_RESERVED} are ours"
    return ""


def api_fault(version: str) -> str:
    """Return why a plugin that was written for a version of ours cannot work, '' = it can."""
    found = _API.fullmatch(version)
    if found is None:
        return f"api_version is {_shown(version)}: write it as 1.0"
    wanted, ours = (int(found[1]), int(found[2] or 0)), ".".join(map(str, API_VERSION))
    if wanted[0] == API_VERSION[0] and wanted <= API_VERSION:
        return ""
    newer = "pip install -U reprise-agents" if wanted > API_VERSION else "look for a newer version of it"
    return f"it was written for version {version} of plugins, this Reprise has {ours}: {newer}"


def _faults(given: dict[str, Any]) -> Any:
    for name in given:
        if name not in _FIELDS:
            near = nearest(name, _FIELDS)
            yield f"there is no field {_shown(name)}, " + (
                f"did you mean {near!r}?" if near else f"there are {', '.join(_FIELDS)}."
            )
    for name in ("name", "version", "api_version"):
        if name not in given:
            yield f"{name} is missing"
    for name, kind in _FIELDS.items():
        if name in given:
            try:
                value = msgspec.convert(given[name], kind, strict=True)
            except msgspec.ValidationError as error:
                yield f"{name}: {error}"
            else:
                yield from _faults_of(name, value)


def _faults_of(name: str, value: Any) -> Any:
    texts = cast("list[str]", value if isinstance(value, list) else [value])
    text = texts[0] if texts else ""
    if len(texts) > MANY or any(len(text) > LONGEST for text in texts):
        yield f"{name}: at most {MANY} entries of {LONGEST} characters"
    elif not all(text.isprintable() for text in texts):
        yield f"{name}: {_shown(value)} has characters that cannot be printed"
    elif name == "name" and (why := name_fault(text)):
        yield f"name: {why}"
    elif name == "version" and not _VERSION.fullmatch(text):
        yield f"version: {_shown(value)} is no version: write it as 1.2.0"
    elif name == "api_version" and not _API.fullmatch(text):
        yield f"api_version: {_shown(value)}: write it as 1.0"
    elif name == "entry" and not _ENTRY.fullmatch(text):
        yield f"entry: {_shown(value)} is no Python file inside the folder: write it as __init__.py or parts/tools.py"
    elif name == "permissions":
        for each in texts:
            if each not in PERMISSIONS:
                near = nearest(each, PERMISSIONS)
                yield f"permissions: {_shown(each)}, " + (
                    f"did you mean {near!r}?" if near else f"there are {', '.join(PERMISSIONS)}"
                )


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse names that are there twice: who reads it must see what we see."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{_shown(next(name for name in names if names.count(name) > 1))} is there twice")
    return found


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no JSON")


def _shown(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 80 else text[:79] + "…"
