"""``reprise version``."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version as installed
from typing import Annotated

import msgspec
import typer

from reprise import __version__
from reprise.cli.output import Format
from reprise.cli.session import screen_of


def version(
    context: typer.Context,
    output: Annotated[Format, typer.Option("--output", "-o", help="How data is printed.")] = Format.TABLE,
) -> None:
    """Print the version.

    Example: reprise version -o json
    """
    screen = screen_of(context)
    if output is Format.TABLE:
        screen.raw(__version__)
        return
    parts = {"reprise": __version__, "python": platform.python_version(), "platform": platform.platform()}
    screen.json(msgspec.json.encode(parts | {name: package(name) for name in ("msgspec", "typer", "rich")}))


def package(name: str) -> str:
    """Return the installed version of a distribution, '' if there is none."""
    try:
        return installed(name)
    except PackageNotFoundError:
        return ""
