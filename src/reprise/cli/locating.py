"""Where settings are written, and what the texts there say: only what Python itself brings, so that completion is quick."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote, urlsplit

from reprise.kernel.errors import ConfigurationError

DEFAULT_STORE = "sqlite:///.reprise/reprise.db"
Source = tuple[str, dict[str, Any]]
"""A file, and the settings in it."""


def user_file(environment: Mapping[str, str]) -> list[Source]:
    """Return the user's settings."""
    home = environment.get("XDG_CONFIG_HOME") or str(
        Path(environment.get("HOME", "~")).expanduser() / ".config"
    )
    path = Path(home) / "reprise" / "config.toml"
    return [(str(path), found)] if (found := read_toml(path)) else []


def project_files(folder: Path) -> list[Source]:
    """Return what the project says; where both files do, ``reprise.toml`` is the stronger one."""
    sources: list[Source] = []
    tools: Any = read_toml(folder / "pyproject.toml").get("tool", {})
    if own := tools.get("reprise"):
        sources.append(("pyproject.toml", own))
    if found := read_toml(folder / "reprise.toml"):
        sources.append(("reprise.toml", found))
    return sources


def read_toml(path: Path) -> dict[str, Any]:
    """Return what a file says, nothing where there is none.

    Raises:
        ConfigurationError: it cannot be read.
    """
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(
            f"{path} cannot be read: {error}.", hint="Mend or remove the file."
        ) from error


def read_dotenv(path: Path) -> dict[str, str]:
    """Return the variables of a ``.env`` file, none where there is no file.

    Raises:
        ConfigurationError: it cannot be read.
    """
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


def store_url(folder: Path, environment: Mapping[str, str]) -> str:
    """Return the URL of the store by files and environment, as :func:`reprise.cli.config.read_config` finds it."""
    url = DEFAULT_STORE
    for _, values in (*user_file(environment), *project_files(folder)):
        section: Any = values.get("store")
        found: Any = cast("dict[str, Any]", section).get("url") if isinstance(section, dict) else section
        url = found if isinstance(found, str) else url
    for variables in (read_dotenv(folder / ".env"), environment):
        for name in ("REPRISE_STORE", "REPRISE_STORE__URL"):
            url = variables.get(name, url)
    return url


def file_of(url: str) -> Path | None:
    """Return the file that a URL names, None where it names none."""
    parts = urlsplit(url)
    return Path(unquote(parts.path.removeprefix("/"))) if parts.scheme == "sqlite" else None
