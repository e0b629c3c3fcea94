"""Histories of real runs against the code of today: what was exported must replay.

``reprise events export`` writes archives; keep some of them beside the tests. :func:`assert_replays` delivers each history
to this code, with nothing behind it: no step is executed and nothing is written.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import msgspec

from reprise.cli.load import load_all
from reprise.kernel.errors import RepriseError, nearest
from reprise.kernel.events import Kind, Record, run_stream
from reprise.kernel.surroundings import SURROUNDINGS
from reprise.runtime.branch import name_in
from reprise.runtime.registry import Registry
from reprise.runtime.rehearsal import Line, Stage
from reprise.runtime.replaying import Replay, replay
from reprise.runtime.workflow import Workflow
from reprise.stores.archive import RecordLine, RunLine, read_archive, to_record

AnyWorkflow = Workflow[..., Any]
Code = AnyWorkflow | ModuleType | str
"""A workflow, a module that defines some, or where such a module is: ``FILE.py`` or ``package.module``."""


class Misfit(msgspec.Struct, frozen=True):
    """A history that this code cannot replay."""

    file: Path
    run: str
    workflow: str
    reason: str
    recorded: str = ""
    """What the history holds where the two part, with the number of the record."""
    where: Line = Line()
    """Where the code is then."""
    hint: str = ""

    def __str__(self) -> str:
        lines = [f"{self.file.name}: run {self.run} of {self.workflow}", f"  {self.reason}"]
        if self.recorded:
            lines.append(f"  the history: {self.recorded}")
        if self.where.file:
            lines.append(f"  the code:    {self.where.file}:{self.where.number}  {self.where.source}")
        return "\n".join([*lines, *([f"  {self.hint}"] if self.hint else [])])


class HistoriesDiffer(AssertionError):
    """Histories that this code cannot replay; all of them are in ``misfits``."""

    def __init__(self, misfits: list[Misfit], checked: int) -> None:
        self.misfits = misfits
        count = f"{len(misfits)} of {checked} histories cannot be replayed by this code:"
        super().__init__("\n\n".join([count, *map(str, misfits)]))


def assert_replays(
    where: Path | str | Iterable[Path | str],
    *code: Code,
    variables: Mapping[str, ContextVar[Any]] | None = None,
) -> int:
    """Replay all exported histories with this code, and return how many there were.

    ``where`` is an archive, a folder with archives (``*.jsonl``, ``*.jsonl.gz``), or several of both; ``code`` are
    workflows, modules, or their files; ``variables`` those of ``Reprise(variables=)``. In an async test, await
    :func:`find_misfits` instead.

    Raises:
        HistoriesDiffer: some cannot be replayed; says for each what its history holds, where the code is, what to do.
        ArchiveCorrupt: an archive was changed, or cut off.
        AssertionError: there is nothing to replay.
    """
    count, misfits = asyncio.run(find_misfits(where, *code, variables=variables))
    if misfits:
        raise HistoriesDiffer(misfits, count)
    return count


async def find_misfits(
    where: Path | str | Iterable[Path | str],
    *code: Code,
    variables: Mapping[str, ContextVar[Any]] | None = None,
) -> tuple[int, list[Misfit]]:
    """Replay as :func:`assert_replays` does; return how many histories there were, and what does not fit."""
    registry = Registry(_workflows(code))
    stage = Stage(SURROUNDINGS.get().clock)
    count, misfits = 0, list[Misfit]()
    for file in _files(where):
        for run, workflow, records in _histories(file):
            count += 1
            misfit = await _misfit(stage, registry, file, run, workflow, records, variables)
            misfits += [misfit] if misfit is not None else []
    assert count, f"There are no histories in {where}; export some: reprise events export FILE.jsonl"
    return count, misfits


def _workflows(code: Iterable[Code]) -> Iterator[AnyWorkflow]:
    for each in code:
        if isinstance(each, Workflow):
            yield each
        elif isinstance(each, ModuleType):
            yield from (cast("AnyWorkflow", one) for one in vars(each).values() if isinstance(one, Workflow))
        else:
            yield from load_all([each])


def _files(where: Path | str | Iterable[Path | str]) -> list[Path]:
    places = [where] if isinstance(where, Path | str) else where
    found: list[Path] = []
    for place in map(Path, places):
        inside = sorted({*place.glob("*.jsonl"), *place.glob("*.jsonl.gz")})
        found += inside if place.is_dir() else [place]
    return found


def _histories(file: Path) -> Iterator[tuple[str, str, list[Record]]]:
    """Yield the runs of an archive: id, workflow, records."""
    histories: dict[str, list[Record]] = defaultdict(list)
    for line in read_archive(file):
        if isinstance(line, RecordLine) and line.stream.startswith(run_stream("")):
            histories[line.stream].append(to_record(line))
        elif isinstance(line, RunLine) and (records := histories.pop(run_stream(line.row.id), [])):
            yield line.row.id, line.row.workflow, records


async def _misfit(
    stage: Stage,
    registry: Registry,
    file: Path,
    run: str,
    name: str,
    records: list[Record],
    variables: Mapping[str, ContextVar[Any]] | None,
) -> Misfit | None:
    workflow = registry.get(name)
    if workflow is None:
        near = nearest(name, registry.names())
        hint = f"Was it renamed? Give {near} its old name: @workflow(name={name!r})." if near else ""
        return Misfit(
            file, run, name, f"This code has no workflow {name!r}.", hint=hint or "Give its module, too."
        )
    try:
        told = await replay(stage, workflow, run, records, variables=variables)
    except RepriseError as error:
        return Misfit(file, run, name, error.what, hint=error.hint)
    return _told(file, told) if told.verdict == "diverges" else None


def _told(file: Path, told: Replay) -> Misfit:
    reason, _, hint = told.reason.partition(" Keep")
    record = told.recorded
    recorded = f"record {record.version}, {_shown(record)}" if record is not None else ""
    advice = "Put the change behind patched(…), or give the new code another workflow name."
    return Misfit(
        file, told.run, told.workflow, reason, recorded, told.where, f"Keep{hint}" if hint else advice
    )


def _shown(record: Record) -> str:
    kind = Kind(record.kind).words
    return f"{kind}: {name_in(record.key)} ({record.key})" if record.key else kind
