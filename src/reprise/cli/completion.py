"""``reprise completion``: what a shell needs to complete commands, ids, names and queries."""

from __future__ import annotations

from enum import StrEnum
from importlib.resources import files
from typing import Annotated

import typer

from reprise.cli.session import screen_of


class Shell(StrEnum):
    """Shells that can be taught."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


_INSTALL = {
    Shell.BASH: """echo 'eval "$(reprise completion bash)"' >> ~/.bashrc""",
    Shell.ZSH: """echo 'eval "$(reprise completion zsh)"' >> ~/.zshrc""",
    Shell.FISH: "reprise completion fish > ~/.config/fish/completions/reprise.fish",
}


def completion(
    context: typer.Context,
    shell: Annotated[Shell, typer.Argument(metavar="SHELL", help="bash, zsh or fish.", show_default=False)],
) -> None:
    """Print what teaches a shell to complete commands, options, ids of runs, names and queries.

    eval "$(reprise completion bash)"
    """
    screen = screen_of(context)
    screen.raw(files("reprise.cli").joinpath("shells", f"{shell}.txt").read_text("utf-8").rstrip())
    if screen.out.is_terminal:
        screen.hint(f"For every shell from now on:  {_INSTALL[shell]}")
