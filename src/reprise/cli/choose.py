"""Options that choose runs, where a command is about many of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from reprise.cli.output import line
from reprise.kernel.errors import ConfigurationError, nearest
from reprise.kernel.machine import RUN
from reprise.stores.runs import RunFilter

Statuses = Annotated[
    list[str] | None,
    typer.Option(
        "--status", metavar="STATE", help="Only runs in this state; may be repeated.", show_default=False
    ),
]
WorkflowName = Annotated[
    str,
    typer.Option("--workflow", "-w", metavar="NAME", help="Only runs of this workflow.", show_default=False),
]


def chosen(status: Sequence[str] | None, workflow: str) -> RunFilter:
    """Return the filter that the options stand for; raises ``ConfigurationError`` for a state that no run is ever in."""
    for name in status or ():
        if name not in RUN.transitions:
            near = nearest(name, RUN.transitions)
            raise ConfigurationError(
                f"No run is ever {line(name)!r}.",
                hint=f"Did you mean {near!r}?" if near else f"States: {', '.join(RUN.transitions)}",
            )
    return RunFilter(status=tuple(status or ()), workflow=workflow)
