"""From settings to what they refer to: the keys that seal payloads, and the function that redacts texts."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from reprise.kernel.errors import ConfigurationError
from reprise.kernel.settings import PayloadSettings
from reprise.runtime.payloads import Redact
from reprise.stores.packing.keys import KEY_BYTES, KeyRing


def key_ring(settings: PayloadSettings, environment: Mapping[str, str], folder: Path) -> KeyRing | None:
    """Return the keys that settings refer to, None where there are none; files are found from ``folder``.

    Raises:
        ConfigurationError: what a reference names is not there, is no key, or is no reference. Keys are never shown.
        MissingExtra: the package ``cryptography`` is not installed.
    """
    if not settings.keys:
        if settings.key:
            raise ConfigurationError(
                f"payloads.key is {settings.key!r}, and payloads.keys names no keys.", hint="Name them there."
            )
        return None
    current = settings.key or next(reversed(settings.keys))
    keys = {
        name: _key(name, reference.reveal(), environment, folder) for name, reference in settings.keys.items()
    }
    return KeyRing(keys, current)


def _key(name: str, reference: str, environment: Mapping[str, str], folder: Path) -> bytes | str:
    kind, _, rest = reference.partition(":")
    if kind == "env" and rest.isidentifier():
        if rest not in environment:
            raise ConfigurationError(f"payloads.keys.{name}: the variable {rest} is not set.", hint="Set it.")
        return environment[rest]
    if kind == "file" and rest:
        path = folder / Path(rest).expanduser()
        try:
            raw = path.read_bytes()
        except OSError as error:
            raise ConfigurationError(
                f"payloads.keys.{name}: {path} cannot be read ({error.strerror}).",
                hint="Give its right path.",
            ) from None
        return raw if len(raw) == KEY_BYTES else raw.decode("ascii", "replace")
    # What stands there may be the key itself, so it is not shown.
    raise ConfigurationError(
        f"payloads.keys.{name} is not a reference.",
        hint="Write env:VARIABLE or file:PATH; keys do not belong into settings.",
    )


def redactor(settings: PayloadSettings, folder: Path) -> Redact | None:
    """Return the function that settings name as ``package.module:function``, None where they name none.

    Raises:
        ConfigurationError: there is no such function.
    """
    if not settings.redact:
        return None
    place, _, name = settings.redact.partition(":")
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    try:
        function = getattr(importlib.import_module(place), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(
            f"payloads.redact: {settings.redact!r} cannot be found ({error}).",
            hint="Write package.module:function.",
        ) from error
    if not callable(function):
        raise ConfigurationError(f"payloads.redact: {settings.redact!r} is not a function.")
    return cast("Redact", function)
