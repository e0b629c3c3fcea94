"""Settings as the command line finds them: flags, environment, ``.env``, the project's file, the user's file, defaults."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from reprise.cli.payloads import key_ring, redactor
from reprise.kernel.errors import ConfigurationError
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
) -> Config:
    """Return the settings in force in a folder (default: the working folder), under the flags that were given.

    Flags > environment > ``.env`` > ``reprise.toml`` or ``[tool.reprise]`` > the user's file > defaults.

    Raises:
        ConfigurationError: a file cannot be read, or a setting in it is unknown or does not fit; the place is named.
    """
    folder = folder or Path.cwd()
    environment = os.environ if environment is None else environment
    dotenv = _dotenv(folder / ".env")
    layers = [*_user_file(environment), *_project_file(folder)]
    layers += [(f".env: {origin}", values) for origin, values in environment_layers(dotenv)]
    layers += environment_layers(environment)
    if store is not None:
        layers.append(("--store", {"store": store}))
    layers += [(f"--{k}", {"worker": {k: v}}) for k, v in (worker or {}).items() if v is not None]
    settings, origins = merge(layers)
    payloads = settings.payloads
    keys = key_ring(payloads, {**dotenv, **environment}, folder)
    return Config(settings, origins, settings.store.url, keys, redactor(payloads, folder))


def _user_file(environment: Mapping[str, str]) -> list[Layer]:
    home = environment.get("XDG_CONFIG_HOME") or str(
        Path(environment.get("HOME", "~")).expanduser() / ".config"
    )
    path = Path(home) / "reprise" / "config.toml"
    return [(str(path), found)] if (found := _toml(path)) else []


def _project_file(folder: Path) -> list[Layer]:
    """Return what the project says; where both files do, ``reprise.toml`` is the stronger one."""
    layers: list[Layer] = []
    tools: Any = _toml(folder / "pyproject.toml").get("tool", {})
    if own := tools.get("reprise"):
        layers.append(("pyproject.toml", own))
    if found := _toml(folder / "reprise.toml"):
        layers.append(("reprise.toml", found))
    return layers


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(
            f"{path} cannot be read: {error}.", hint="Mend or remove the file."
        ) from error


def _dotenv(path: Path) -> dict[str, str]:
    try:
        text = path.read_text("utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"{path} cannot be read: {error}.", hint="Mend or remove the file."
        ) from error
    return parse_dotenv(text)


def parse_dotenv(text: str) -> dict[str, str]:
    r"""Return the variables of a ``.env`` file; quotes around a value are dropped, nothing is expanded.

    >>> parse_dotenv('# ours\nexport A=1\nB="two words"  # why\nC=x # y')
    {'A': '1', 'B': 'two words', 'C': 'x'}
    """
    found: dict[str, str] = {}
    for line in text.splitlines():
        name, equals, value = line.strip().removeprefix("export ").partition("=")
        name, value = name.strip(), value.strip()
        if not equals or not name.isidentifier():
            continue
        quote = value[:1]
        if quote in ("'", '"') and (end := value.find(quote, 1)) > 0:
            found[name] = value[1:end]
        else:
            found[name] = value.partition(" #")[0].rstrip()
    return found


def shown(origins: Mapping[str, str]) -> dict[str, str]:
    """Return the origins of what was set by somebody."""
    return {path: origin for path, origin in origins.items() if origin != DEFAULT}
