"""``reprise fork``: a run goes on from the past of another one, here and before your eyes, or by the workers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any, NoReturn

import msgspec
import typer

from reprise.cli.config import Config, read_config
from reprise.cli.drive import Progress, prints_to_stderr
from reprise.cli.going_on import Detach, File, Here, code_of, go_on
from reprise.cli.inputs import read_changes, read_value
from reprise.cli.load import Loaded
from reprise.cli.output import Format, Screen, line
from reprise.cli.run import Agents, Concurrency, Inputs, Shown, Timeout
from reprise.cli.session import DryRun, Output, RunId, StoreUrl, door, flag, screen_of
from reprise.kernel.codec import standard
from reprise.kernel.errors import ConfigurationError
from reprise.kernel.machine import ExitCode
from reprise.runtime.branch import name_in
from reprise.runtime.editing import Edited, steps_near
from reprise.runtime.effect_rows import EffectRow
from reprise.runtime.forking import Fork
from reprise.runtime.workflow import Workflow
from reprise.stores.runs import RunRow

At = Annotated[
    str,
    typer.Option(
        "--at",
        metavar="STEP|SEQ",
        help="Where it leaves the first run: before a step, or after a record.",
        show_default=False,
    ),
]
Edits = Annotated[
    list[str] | None,
    typer.Option(
        "--edit",
        "-e",
        metavar="STEP=JSON",
        help="Another result of a step; may be repeated.",
        show_default=False,
    ),
]


Pinned = Annotated[bool, typer.Option("--pinned", help="Leave it to the build that had the first run last.")]


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line asks for."""

    at: str = ""
    checkpoint: str = ""
    """Where it leaves the first run instead."""
    edits: tuple[str, ...]
    inputs: tuple[str, ...]
    pinned: bool
    id: str
    detach: bool
    dry_run: bool
    output: Format
    here: Here


def fork(
    context: typer.Context,
    id: RunId,
    at: At = "",
    edit: Edits = None,
    input: Inputs = None,
    pinned: Pinned = False,
    new_id: Annotated[
        str, typer.Option("--id", metavar="ID", help="Id of the fork.", show_default=False)
    ] = "",
    file: File = None,
    agents: Agents = "",
    detach: Detach = False,
    dry_run: DryRun = False,
    output: Output = Format.TABLE,
    timeout: Timeout = None,
    store: StoreUrl = None,
    concurrency: Concurrency = None,
    progress: Shown = Progress.AUTO,
) -> None:
    """Let a new run go on from the past of another one, with other results, another input, the code of today.

    What the first run recorded up to --at is kept and not done again; the first run stays as it is. Default: the latest
    of the edited steps; with a new input the start; else the end, without what made the run fail. To the outside the fork
    is other work: what it shares with the first run and what it may do twice is said before it goes on.

    reprise fork order-7 --edit 'price={"cents": 250}'

    reprise fork order-7 --at review -i note=urgent
    """
    begin(
        context,
        Here(id, file, agents, progress, timeout, store),
        concurrency,
        at=at,
        edits=tuple(edit or ()),
        inputs=tuple(input or ()),
        pinned=pinned,
        id=new_id,
        detach=detach,
        dry_run=dry_run,
        output=output,
    )


def begin(context: typer.Context, here: Here, concurrency: int | None, **wanted: Any) -> NoReturn:
    """Do what is wanted, an :class:`Asked`, and leave."""
    asked = Asked(here=here, **wanted)
    config = read_config(here.store, {"concurrency": concurrency})
    raise typer.Exit(asyncio.run(_fork(screen_of(context), config, asked)))


async def _fork(screen: Screen, config: Config, asked: Asked) -> int:
    async with door(config) as (opened, client):
        row = await client.resolve(asked.here.id)
        at = int(asked.at) if asked.at.isdigit() else asked.at or None
        if asked.checkpoint:
            at = await client.checkpoint_at(row.id, asked.checkpoint)
        loaded = _load(row, config, asked)
        workflow = loaded.pick(loaded.target.name or row.workflow) if loaded is not None else None
        made = await client.fork(
            row.id,
            workflow,
            at=at,
            edit=_edits(asked.edits, workflow),
            input=_input(asked.inputs, workflow),
            code="pinned" if asked.pinned else "current",
            id=asked.id,
            dry_run=asked.dry_run,
        )
        if asked.output is not Format.TABLE:
            screen.fact(asked.output, msgspec.structs.asdict(made))
        else:
            _say(screen, made)
        if asked.dry_run:
            screen.hint("Nothing was started.")
            return ExitCode.OK
        if asked.detach or asked.pinned or loaded is None:
            if asked.output is Format.TABLE:
                screen.raw(made.id)
            screen.hint(f"A worker executes it. Look:  reprise show {made.id}{flag(asked.here.store)}")
            return ExitCode.OK
        return await go_on(opened, screen, config, asked.here, await client.row(made.id), loaded)


def _load(row: RunRow, config: Config, asked: Asked) -> Loaded | None:
    """Load the code that the fork is to be executed with; of one that is left to workers, only if it was named."""
    if (asked.detach or asked.pinned or asked.dry_run) and asked.here.file is None and not asked.inputs:
        return None
    with prints_to_stderr():
        return code_of(row, config, asked.here.file, asked.here.agents)


def _edits(given: Sequence[str], workflow: Workflow[..., Any] | None) -> dict[Edited, Any]:
    """Return what several ``--edit`` say: JSON, or text; with the code, as the step declares it."""
    near = steps_near(workflow.function) if workflow is not None else {}
    edits: dict[Edited, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise ConfigurationError(
                f"The edit {text[:60]!r} is not understood.",
                hint="Give --edit 'STEP=JSON', such as 'price=250'.",
            )
        step = near.get(name_in(name))
        read = read_value(value)
        edits[name] = read if step is None else standard.convert(read, step.arguments.returns)
    return edits


def _input(given: Sequence[str], workflow: Workflow[..., Any] | None) -> dict[str, Any] | None:
    if not given:
        return None
    assert workflow is not None
    return read_changes(workflow, given)


# ---------------------------------------------------------------- what it begins with


def _say(screen: Screen, made: Fork) -> None:
    """Say what a fork begins with, and what that means for the outside."""
    edited = f", {len(made.edited)} of them edited ({_names(made.edited)})" if made.edited else ""
    screen.say(
        f"Fork {line(made.id)} of {line(made.run)}, from record {made.at}: {made.kept} steps kept{edited}."
    )
    if made.again:
        screen.hint(f"  done again: {line(', '.join(made.again))}")
    if made.signals:
        screen.hint(f"  waited for anew: {line(', '.join(made.signals))}")
    for effect in made.shared:
        since = ", which has UNDONE it since" if effect.undo == "undone" else ""
        screen.say(f"  shared with the first run{since}: {_effect(effect)}", "yellow" if since else "dim")
    for effect in made.repeated:
        screen.say(f"  may happen once more: {_effect(effect)}", "yellow")


def _names(keys: Sequence[str]) -> str:
    return line(", ".join(dict.fromkeys(map(name_in, keys))))


def _effect(effect: EffectRow) -> str:
    what = f"effect {effect.effect} of step {effect.step}" if effect.effect else f"step {effect.step}"
    return line(f"{what}, {effect.state}, key {effect.key}")
