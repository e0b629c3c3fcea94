"""``reprise replay`` and ``diff``: looking closely at what runs did, without doing anything."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.text import Text

from reprise.cli.config import Config, read_config
from reprise.cli.drive import prints_to_stderr
from reprise.cli.facts import kind_name, record_fact, record_text
from reprise.cli.going_on import File, code_of
from reprise.cli.moment import shown, state_fact, step_fact, value_of
from reprise.cli.moments import duration, local
from reprise.cli.output import Format, Screen, line, table
from reprise.cli.paint import status
from reprise.cli.session import Output, RunId, StoreUrl, door, flag, screen_of
from reprise.kernel.clock import SystemClock
from reprise.kernel.events import Record
from reprise.kernel.failures import brief
from reprise.kernel.machine import ExitCode
from reprise.runtime.comparing import Comparison, Differing
from reprise.runtime.moments import StepState
from reprise.runtime.payloads import Payloads
from reprise.runtime.registry import Registry
from reprise.runtime.rehearsal import Line, Stage
from reprise.runtime.replaying import Break, Reached, Replay, Scene, replay as replay_run
from reprise.runtime.waits import Waits

LONG = 200
"""Characters of a record that are shown."""
_PAINT = {"done": "green", "failed": "red", "cancelled": "dim", "": "cyan"}


def replay(
    context: typer.Context,
    id: RunId,
    until: Annotated[
        int | None, typer.Option("--until", metavar="SEQ", help="Stop after this record.", show_default=False)
    ] = None,
    stops: Annotated[
        list[str] | None,
        typer.Option(
            "--break",
            "-b",
            metavar="STEP",
            help="Show the body's variables where it comes to this step; may be repeated.",
            show_default=False,
        ),
    ] = None,
    file: File = None,
    output: Output = Format.TABLE,
    store: StoreUrl = None,
) -> None:
    """Replay a run with the code that is here, and do nothing: no step is executed, nothing is written.

    Prints each step that the body comes to. In the end: reached, what the log says; diverges, with both sides, and the
    exit code 1; or what the run waits for.

    reprise replay order-7 --break ship

    reprise replay order-7 --until 12 --file new_flow.py
    """
    config = read_config(store)
    raise typer.Exit(asyncio.run(_replay(screen_of(context), config, id, until, stops or [], file, output)))


async def _replay(
    screen: Screen,
    config: Config,
    id: str,
    until: int | None,
    stops: list[str],
    file: str | None,
    output: Format,
) -> int:
    async with door(config) as (_, client):
        row = await client.resolve(id)
        with prints_to_stderr():
            loaded = code_of(row, config, file, executes=False)
            workflow = loaded.pick(loaded.target.name or row.workflow)
            records = await client.history(row.id)
            payloads = Payloads(redact=config.redact)
            stage = Stage(SystemClock(), payloads=payloads, registry=Registry(loaded.all))
            seen = await replay_run(stage, workflow, row.id, records, until=until, stops=stops)
    if output is Format.TABLE:
        screen.lines(_replayed(seen, stops))
    else:
        screen.fact(output, _replay_fact(seen))
    return ExitCode.FAILED if seen.verdict == "diverges" else ExitCode.OK


def _replayed(seen: Replay, stops: list[str]) -> Iterator[Text]:
    breaks = {one.key: one for one in seen.breaks}
    for step in seen.steps:
        yield _reached(step)
        if (stop := breaks.get(step.key)) is not None:
            yield from _break(stop)
    met = {name for step in seen.steps for name in (step.key, step.name)}
    for name in stops:
        if name not in met:
            yield Text(f"The body did not come to {line(name)}.", "yellow")
    yield from _verdict(seen)


def _reached(step: Reached) -> Text:
    took = duration(step.took) if step.took > 0 else ""
    came = (
        shown(step.value) if step.value is not None else brief(step.error) if step.error is not None else ""
    )
    key = "" if step.key == step.name else f" {step.key}"
    return Text.assemble(
        (f"{step.version or '':>5}  ", "dim"),
        (line(step.name), "bold"),
        (line(key) and f" {line(key)}", "dim"),
        (f"  {place(step.where)}  ", "dim"),
        (step.state or "waits", _PAINT[step.state]),
        (f" {took}" if took else "", "dim"),
        f"  {line(came, LONG)}" if came else "",
    )


def _break(stop: Break) -> Iterator[Text]:
    yield Text(f"       break at {line(stop.key)}, after record {stop.version}", "yellow")
    yield from _scenes(stop.scenes)


def _scenes(scenes: list[Scene]) -> Iterator[Text]:
    for scene in scenes:
        yield Text.assemble(
            f"       {place(scene.where)} in {line(scene.where.function)}",
            (f"   {line(scene.where.source)}", "dim"),
        )
        for name, value in scene.variables.items():
            yield Text.assemble((f"         {line(name)}", "cyan"), f" = {line(value)}")


def _verdict(seen: Replay) -> Iterator[Text]:
    after = f"{seen.records} records, {len(seen.steps)} steps"
    if seen.verdict == "diverges":
        yield Text.assemble(("✗ diverges", "bold red"), f"  after {after}")
        if seen.recorded is not None:
            yield Text.assemble(("    log   ", "dim"), _record(seen.recorded))
        if seen.where.file:
            yield Text.assemble(("    code  ", "dim"), f"{place(seen.where)}  {line(seen.where.source)}")
        yield Text(f"    {line(seen.reason)}")
        yield from _scenes(seen.scenes)
        return
    if seen.verdict == "waits":
        yield Text.assemble(("… waits for ", "bold cyan"), line(waits_text(seen.waits)), f"  after {after}")
    else:
        end = "; it goes on as another generation" if seen.continues else ""
        if seen.finished is not None:
            came = seen.finished.error
            end = (
                f": {seen.finished.status} {brief(came) if came is not None else shown(seen.finished.value)}"
            )
        yield Text.assemble(
            ("✓ reached", "bold green"), f" record {seen.version}{line(end, LONG)}  after {after}"
        )
    yield from _scenes(seen.scenes)


def waits_text(waits: Waits) -> str:
    """Return what a body waits for, for people."""
    parts = [f"step {name}" + (f" ×{count}" if count > 1 else "") for name, count in waits.steps.items()]
    parts += [f"signal {name}" for name in waits.signals]
    parts += [f"an answer ({text})" for text in waits.questions]
    parts += [f"the time {local(due)}" for due in waits.timers[:3]]
    return ", ".join(parts) or "nothing that could come"


def place(where: Line) -> str:
    """Return a line of code as people name it."""
    return f"{Path(where.file).name}:{where.number}" if where.file else "?"


def _record(record: Record) -> str:
    said = line(record_text(record), LONG)
    return line(f"record {record.version}  {kind_name(record.kind)}  {record.key}  {said}")


def _replay_fact(seen: Replay) -> dict[str, Any]:
    return msgspec.structs.asdict(seen) | {
        "steps": [msgspec.structs.asdict(step) | {"where": _line_fact(step.where)} for step in seen.steps],
        "breaks": [
            msgspec.structs.asdict(stop) | {"scenes": [_scene_fact(one) for one in stop.scenes]}
            for stop in seen.breaks
        ],
        "scenes": [_scene_fact(one) for one in seen.scenes],
        "recorded": record_fact(seen.recorded) if seen.recorded is not None else None,
        "where": _line_fact(seen.where),
    }


def _scene_fact(scene: Scene) -> dict[str, Any]:
    return msgspec.structs.asdict(scene) | {"where": _line_fact(scene.where)}


def _line_fact(where: Line) -> dict[str, Any] | None:
    return where._asdict() | {"source": where.source} if where.file else None


# ---------------------------------------------------------------- two runs


def diff(
    context: typer.Context,
    a: RunId,
    b: Annotated[str, typer.Argument(metavar="ID", help="The other run.")],
    output: Output = Format.TABLE,
    store: StoreUrl = None,
) -> None:
    """Compare two runs: where they first part, and every step of which something else came.

    reprise diff order-7 order-7~2
    """
    asyncio.run(_diff(screen_of(context), read_config(store), a, b, output, store))


async def _diff(screen: Screen, config: Config, a: str, b: str, output: Format, store: str | None) -> None:
    async with door(config) as (_, client):
        first, second = await client.resolve(a), await client.resolve(b)
        found = await client.diff(first.id, second.id)
    if output is not Format.TABLE:
        screen.fact(output, _diff_fact(found))
        return
    screen.lines(_heads(found))
    if found.differing:
        made = table("step", "differs in", "a", "took", "b", "took", right=("took",), fold="b")
        for one in found.differing:
            made.add_row(*_differing(one))
        screen.line(Text())
        screen.table(made)
    screen.say()
    alike = f"{found.alike} steps are alike, {len(found.differing)} differ."
    screen.hint("The two runs are the same." if found.same else alike)
    if not found.same:
        screen.hint(f"  reprise events {first.id}{flag(store)}")


def _heads(found: Comparison) -> Iterator[Text]:
    for name, state in (("a", found.a), ("b", found.b)):
        end = state.finished
        came = "" if end is None else brief(end.error) if end.error is not None else shown(end.value)
        yield Text.assemble(
            (f"{name}  ", "bold"), line(state.run), "  ", status(state.status), f"  {line(came, LONG)}"
        )
    if not found.same_input:
        yield Text("They were started with different input:", "yellow")
        yield Text(f"  a  {shown(found.a.input)}")
        yield Text(f"  b  {shown(found.b.input)}")
    if (parting := found.parting) is not None:
        yield Text(f"They part after {parting.place} records:", "yellow")
        for name, record in (("a", parting.a), ("b", parting.b)):
            yield Text(f"  {name}  {_record(record) if record is not None else 'nothing more'}")


def _differing(one: Differing) -> list[Text]:
    name = one.name if one.name == one.key else f"{one.name} [{one.key}]"
    return [
        Text(line(name)),
        Text(one.what, "yellow"),
        Text(value_of(one.a)),
        Text(_took(one.a), "dim"),
        Text(value_of(one.b)),
        Text(_took(one.b), "dim"),
    ]


def _took(step: StepState | None) -> str:
    return duration(max(0, step.took)) if step is not None and step.version else ""


def _diff_fact(found: Comparison) -> dict[str, Any]:
    parting = found.parting
    return {
        "a": state_fact(found.a),
        "b": state_fact(found.b),
        "same": found.same,
        "same_input": found.same_input,
        "same_end": found.same_end,
        "parting": None
        if parting is None
        else {
            "place": parting.place,
            "a": record_fact(parting.a) if parting.a is not None else None,
            "b": record_fact(parting.b) if parting.b is not None else None,
        },
        "differing": [
            {
                "key": one.key,
                "name": one.name,
                "what": one.what,
                "a": step_fact(one.a) if one.a is not None else None,
                "b": step_fact(one.b) if one.b is not None else None,
            }
            for one in found.differing
        ],
        "alike": found.alike,
    }
