"""Libraries that come with extras: loaded when a tool needs them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from reprise.kernel.errors import MissingExtra


def library(module: str, extra: str) -> Any:
    """Return a module of a library. Raises ``MissingExtra`` with the command that installs it."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != module.partition(".")[0]:
            raise
        raise MissingExtra(
            f"{module.partition('.')[0]} is not installed.",
            hint=f"Run: pip install 'reprise-agents[{extra}]'",
        ) from None
