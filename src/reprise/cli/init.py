"""``reprise init``: a project that runs, with a test, from a template."""

from __future__ import annotations

import re
import shlex
from enum import StrEnum
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from reprise.cli.output import Screen
from reprise.cli.session import screen_of
from reprise.kernel.errors import ConfigurationError

RENAMED = {"gitignore": ".gitignore"}
"""Files that would do something where the templates lie, if they had their own names there."""


class Template(StrEnum):
    """What a project begins with."""

    HELLO = "hello"
    SAGA = "saga"
    AGENTS = "agents"


FIRST = {
    Template.HELLO: "reprise run flow.py --id first",
    Template.SAGA: "reprise run flow.py --id order-1",
    Template.AGENTS: "reprise run flow.py --id friday",
}
"""The command to begin with."""


def init(
    context: typer.Context,
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Where; made if it is not there.", show_default=False)
    ] = Path(),
    template: Annotated[
        Template,
        typer.Option(
            "--template",
            "-t",
            help="hello: steps and waiting; saga: what was done is taken back; agents: a panel that votes.",
        ),
    ] = Template.HELLO,
) -> None:
    """Make a project that runs: a workflow, its test, settings. No file that exists is touched.

    reprise init shop --template saga
    """
    _write(screen_of(context), folder, template)


def _write(screen: Screen, folder: Path, template: Template) -> None:
    texts = template_files(template)
    there = [name for name in texts if (folder / name).exists()]
    if there:
        raise ConfigurationError(
            f"{', '.join(str(folder / name) for name in there)} {'exists' if len(there) == 1 else 'exist'} already; nothing was written.",
            hint="Name another folder: reprise init DIR",
        )
    name = re.sub(r"[^a-z0-9]+", "-", folder.resolve().name.lower()).strip("-") or template.value
    old = f'name = "{template}"'
    texts["pyproject.toml"] = texts["pyproject.toml"].replace(old, f'name = "{name}"', 1)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in texts.items():
            with (folder / file).open("x", encoding="utf-8") as opened:
                opened.write(text)
            screen.raw(str(folder / file))
    except OSError as error:
        raise ConfigurationError(
            f"{error.filename or folder} cannot be written ({error.strerror}).", hint="Name another folder."
        ) from error
    there = "" if folder.resolve() == Path.cwd() else f"cd {shlex.quote(str(folder))} && "
    screen.hint(f"Next:  {there}{FIRST[template]}")


def template_files(template: Template) -> dict[str, str]:
    """Return the texts of a template's files by the names that they get."""
    place = files("reprise.cli") / "templates" / template.value
    found = {each.name: each.read_text("utf-8") for each in place.iterdir() if each.is_file()}
    return {RENAMED.get(name, name): found[name] for name in sorted(found)}
