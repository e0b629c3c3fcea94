"""Settings as the command line finds them: flags, environment, ``.env``, the project's file, the user's file, defaults."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from reprise.cli.locating import project_files, read_dotenv, user_file
from reprise.cli.payloads import key_ring, redactor
from reprise.kernel.settings import DEFAULT, Layer, Settings, environment_layers, merge
from reprise.runtime.payloads import Redact
from reprise.stores.packing.keys import KeyRing


class Config(msgspec.Struct, frozen=True):
    """The settings in force, and for each ``section.key`` where its value came from."""

    settings: Settings
    origins: dict[str, str]
    store: str
    """URL of the store, with its password."""
    keys: KeyRing | None = None
    """What payloads are sealed with."""
    redact: Redact | None = None
    """What is given every text for people before it is written."""


def read_config(
    store: str | None = None,
    worker: Mapping[str, Any] | None = None,
    *,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    resolve: bool = True,
) -> Config:
    """Return the settings in force in a folder (default: the working folder), under the flags that were given.

    Flags > environment > ``.env`` > ``reprise.toml`` or ``[tool.reprise]`` > the user's file > defaults.

    Without ``resolve`` keys and functions that settings refer to are not looked for.

    Raises:
        ConfigurationError: a file cannot be read, or a setting in it is unknown or does not fit; the place is named.
    """
    folder = folder or Path.cwd()
    environment = os.environ if environment is None else environment
    dotenv = read_dotenv(folder / ".env")
    layers: list[Layer] = [*user_file(environment), *project_files(folder)]
    layers += [(f".env: {origin}", values) for origin, values in environment_layers(dotenv)]
    layers += environment_layers(environment)
    if store is not None:
        layers.append(("--store", {"store": store}))
    layers += [(f"--{k}", {"worker": {k: v}}) for k, v in (worker or {}).items() if v is not None]
    settings, origins = merge(layers)
    if not resolve:
        return Config(settings, origins, settings.store.url)
    payloads = settings.payloads
    keys = key_ring(payloads, {**dotenv, **environment}, folder)
    return Config(settings, origins, settings.store.url, keys, redactor(payloads, folder))


def load_settings(folder: Path | None = None, environment: Mapping[str, str] | None = None) -> Settings:
    """Return the settings in force in a folder, as the command line finds them: for programs that want to go by them.

    The environment, ``.env``, ``reprise.toml`` or ``[tool.reprise]`` of ``pyproject.toml``, the user's file, defaults, the
    strongest first. The library itself reads none of these: ``Reprise(settings.store.url, defaults=settings.workflows)``.

    Raises:
        ConfigurationError: a file cannot be read, or a setting in it is unknown or does not fit; the place is named.

    >>> load_settings(Path("/nowhere"), {"REPRISE_WORKFLOWS__RETRY_COUNT": "5"}).workflows.retry_count
    5
    """
    return read_config(folder=folder, environment=environment, resolve=False).settings


def shown(origins: Mapping[str, str]) -> dict[str, str]:
    """Return the origins of what was set by somebody."""
    return {path: origin for path, origin in origins.items() if origin != DEFAULT}
