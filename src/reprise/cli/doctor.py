"""``reprise doctor``: is this installation, and this store, as it should be; if not, what repairs it."""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Literal

import msgspec
import typer
from rich.text import Text

from reprise import __version__
from reprise.cli.config import Config, read_config, shown
from reprise.cli.locating import file_of
from reprise.cli.moments import ago, duration
from reprise.cli.output import Format, Screen, line
from reprise.cli.session import Output, StoreUrl, flag, prepare, screen_of
from reprise.cli.version import package
from reprise.kernel.clock import MICROSECONDS, SystemClock
from reprise.kernel.errors import ConfigurationError, RepriseError, nearest
from reprise.kernel.machine import ExitCode, RunStatus
from reprise.kernel.settings import masked
from reprise.runtime.worker import LIVE
from reprise.stores.packing.store import Verifying
from reprise.stores.runs import RunFilter
from reprise.stores.store import Coordinating, Store

OLDEST_PYTHON = (3, 11)
NEEDED = ("msgspec", "typer", "rich")
EXTRAS = {"encryption": "cryptography", "postgres": "asyncpg", "redis": "redis"}
"""Extra -> the package that it brings."""
LITTLE_ROOM, NO_ROOM = 1 << 30, 100 << 20
"""Bytes free on the disk below which there is a warning, a failure."""
LARGE_FILE = 200 << 20
"""Bytes of a store above which its rows are checked only with ``--full``."""
BEHIND = 2 * MICROSECONDS
"""How far the clock may be behind what the store has seen."""

OWN_VARIABLES = frozenset({"REPRISE_STORE"})
"""Variables that are no ``section.key``."""

Level = Literal["ok", "warn", "fail"]


class Finding(msgspec.Struct, frozen=True):
    """What one check found. ``repair`` is a command, or what to do where no command does it."""

    check: str
    level: Level
    text: str
    repair: str = ""


def doctor(
    context: typer.Context,
    full: bool = typer.Option(False, "--full", help="Check every row of a large store too."),
    output: Output = Format.TABLE,
    store: StoreUrl = None,
) -> None:
    """Check installation, settings and store; each line says what is so, and the command that repairs what is not.

    Exits with 1 when something fails. Nothing is created, and nothing is repaired.

      reprise doctor
      reprise doctor -o json | jq '.[] | select(.level != "ok")'
    """
    screen = screen_of(context)
    findings = asyncio.run(_examine(store, full))
    if output is Format.TABLE:
        _print(screen, findings)
    else:
        screen.data(output, [msgspec.structs.asdict(finding) for finding in findings])
    raise typer.Exit(ExitCode.FAILED if any(finding.level == "fail" for finding in findings) else ExitCode.OK)


_MARKS = {"ok": ("✓", "green"), "warn": ("!", "yellow"), "fail": ("✗", "red")}


def _print(screen: Screen, findings: list[Finding]) -> None:
    wide = max(len(finding.check) for finding in findings)
    for finding in findings:
        mark, style = _MARKS[finding.level]
        said = f"  {finding.check:<{wide}}  {line(finding.text)}"
        repair = f"  → {line(finding.repair)}" if finding.repair else ""
        screen.line(Text.assemble((f"{mark} {finding.level:<4}", style), said, (repair, "bold")))


async def _examine(store: str | None, full: bool) -> list[Finding]:
    findings = list(_installation())
    try:
        config = read_config(store)
    except ConfigurationError as error:
        return [*findings, Finding("settings", "fail", error.what, error.hint or "Mend the setting.")]
    findings += _environment(config.origins)
    findings += _settings(config)
    findings += _place(config)
    findings += [finding async for finding in _store(config, store, full)]
    return findings


# ---------------------------------------------------------------- what is installed


def _installation() -> Iterator[Finding]:
    version = platform.python_version()
    if sys.version_info < OLDEST_PYTHON:
        yield Finding(
            "python",
            "fail",
            f"{version} is too old",
            "uv python install 3.13   (or your system's way to a newer Python)",
        )
    else:
        yield Finding("python", "ok", f"{version} on {platform.system()} {platform.machine()}")
    yield Finding("reprise", "ok", __version__)
    versions = {name: package(name) for name in NEEDED}
    missing = [name for name, found in versions.items() if not found]
    if missing:
        yield Finding(
            "packages", "warn", f"{', '.join(missing)} without metadata", f"pip install {' '.join(missing)}"
        )
    else:
        yield Finding("packages", "ok", ", ".join(f"{name} {found}" for name, found in versions.items()))
    yield _command()
    for extra, name in EXTRAS.items():
        found = package(name)
        text = f"{name} {found}" if found else f"not installed; pip install 'reprise-agents[{extra}]' adds it"
        yield Finding(f"extra {extra}", "ok", text)


def _command() -> Finding:
    """Tell whether the ``reprise`` that a shell finds is that of this Python."""
    bin = Path(sys.executable).parent
    found = shutil.which("reprise")
    if found is None:
        return Finding("command", "ok", f"not on PATH; it is {bin / 'reprise'}")
    if Path(found).parent != bin:
        text = f"a shell finds {found}, this is that of {bin}"
        return Finding("command", "warn", text, f'export PATH="{bin}:$PATH"')
    return Finding("command", "ok", found)


def _environment(origins: Mapping[str, str]) -> Iterator[Finding]:
    """Name variables that look like settings and are none."""
    known = {f"REPRISE_{path.upper().replace('.', '__')}" for path in origins}
    for name in sorted(os.environ):
        if not name.startswith("REPRISE_") or name in known or name in OWN_VARIABLES:
            continue
        near = nearest(name, known, 0.85)
        repair = f'export {near}="${name}"; unset {name}' if near else f"unset {name}"
        yield Finding("environment", "warn", f"{name} is no setting", repair)


def _settings(config: Config) -> Iterator[Finding]:
    origins = shown(config.origins)
    text = ", ".join(f"{path} ({origin})" for path, origin in sorted(origins.items()))
    yield Finding("settings", "ok", text or "all defaults; reprise config show --origin lists them")
    if config.keys is not None:
        yield from _keys(config)


def _keys(config: Config) -> Iterator[Finding]:
    yield Finding("keys", "ok", repr(config.keys))
    for name, reference in config.settings.payloads.keys.items():
        kind, _, rest = reference.reveal().partition(":")
        if kind == "file" and (file := Path(rest).expanduser()).stat().st_mode & 0o077:
            yield Finding("keys", "warn", f"others may read the key {name!r} in {file}", f"chmod 600 {file}")


# ---------------------------------------------------------------- where the store lies


def _place(config: Config) -> Iterator[Finding]:
    file = file_of(config.store)
    if file is None:
        return
    folder = next(each for each in (file.absolute().parent, *file.absolute().parents) if each.exists())
    if os.access(folder, os.W_OK | os.X_OK):
        yield Finding("folder", "ok", f"{folder} can be written")
    else:
        yield Finding("folder", "fail", f"{folder} cannot be written by this user", f"chmod u+wx {folder}")
    free = shutil.disk_usage(folder).free
    level: Level = "fail" if free < NO_ROOM else "warn" if free < LITTLE_ROOM else "ok"
    repair = "" if level == "ok" else "reprise prune --older-than 30d   (or move the store: reprise db copy)"
    yield Finding("disk", level, f"{size(free)} free", repair)
    if file.exists():
        yield from _file(file)


def _file(file: Path) -> Iterator[Finding]:
    mode = file.stat().st_mode & 0o777
    if mode & 0o077:
        yield Finding("rights", "warn", f"others may read or write {file} ({mode:o})", f"chmod 600 {file}")
    else:
        yield Finding("rights", "ok", f"{file} is its owner's alone")
    with file.open("rb") as opened:
        head = opened.read(100)
    # Bytes 18 and 19 of an SQLite file are 2 when it keeps a write-ahead log; 60 to 63 hold the schema's version.
    if head[:16] == b"SQLite format 3\0":
        wal = head[18:20] == b"\2\2"
        schema = int.from_bytes(head[60:64], "big")
        text = f"schema {schema}, {'write-ahead log' if wal else 'no write-ahead log yet'}"
        yield Finding(
            "format", "ok" if wal else "warn", text, "" if wal else "reprise ps   (opening the store sets it)"
        )


# ---------------------------------------------------------------- what the store says


async def _store(config: Config, given: str | None, full: bool) -> AsyncIterator[Finding]:
    shown_url = masked(config.store)
    file = file_of(config.store)
    if file is not None and not file.exists():
        yield Finding("store", "ok", f"{shown_url} does not exist yet; the first run makes it")
        return
    try:
        store = prepare(config, create=False)
        await store.start()
    except RepriseError as error:
        yield Finding("store", "fail", error.what, error.hint or "Name another store: --store URL")
        return
    try:
        yield Finding("store", "ok", f"{shown_url} opens")
        if isinstance(store, Coordinating):
            for remark in await store.examine():
                yield Finding(*remark)
            return
        for part in (
            _content(store, full),
            _clock(store),
            _workers(store, flag(given)),
            _runs(store, flag(given)),
        ):
            async for finding in part:
                yield finding
    except RepriseError as error:
        yield Finding("store", "fail", error.what, error.hint or "Restore the store from a backup.")
    finally:
        await store.stop()


async def _content(store: Store, full: bool) -> AsyncIterator[Finding]:
    if not isinstance(store, Verifying):
        return
    # A server does not say how much it holds: then only who wants all has all checked.
    held = int(store.statistics().get("file_bytes", LARGE_FILE + 1))
    shown_size = size(held) if "file_bytes" in store.statistics() else "on a server"
    if held > LARGE_FILE and not full:
        yield Finding("content", "ok", f"{shown_size}, not checked row by row; reprise doctor --full does")
        return
    problems = await store.verify()
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        lacking = "sealed with" in problems[0]
        repair = (
            "Give the key: settings, payloads.keys"
            if lacking
            else "reprise db restore BACKUP --replace   (when all workers have stopped)"
        )
        yield Finding("content", "fail", f"{problems[0]}{more}", repair)
    else:
        yield Finding(
            "content", "ok", f"{shown_size}, every row matches its checksum and every payload unpacks"
        )
    blobs = await store.blobs.stats()
    if blobs["blobs"]:
        large = f"{blobs['blobs']:,} ({size(blobs['bytes'])}), {blobs['references']:,} references to them"
        yield Finding("blobs", "ok", large)


async def _clock(store: Store) -> AsyncIterator[Finding]:
    now = SystemClock().now()
    newest = await store.runs.find(limit=1)
    if newest and newest[0].updated_at - now > BEHIND:
        ahead = duration(newest[0].updated_at - now)
        yield Finding(
            "clock",
            "warn",
            f"the store has seen a time {ahead} ahead of this clock",
            "sudo timedatectl set-ntp true   (or your system's way to set the clock)",
        )
    else:
        yield Finding(
            "clock", "ok", f"newest run {ago(newest[0].updated_at, now)}" if newest else "no run yet"
        )


async def _workers(store: Store, where: str) -> AsyncIterator[Finding]:
    owners = await store.runs.count(RunFilter(status=LIVE), by="owner")
    seen = await store.presence.seen()
    dead = await store.presence.died({*owners, *seen} - {""})
    for worker in set(owners) - dead - {""}:
        if not await store.lease.holder(f"worker/{worker}"):
            dead.add(worker)
    held = sum(owners.get(worker, 0) for worker in dead)
    if held:
        repair = f"reprise worker FILE.py{where}   (or: reprise resume ID{where})"
        yield Finding("workers", "warn", f"{held} unfinished runs belong to {len(dead)} dead workers", repair)
    else:
        alive = len({*owners, *seen} - dead - {""})
        left = f"; {len(dead)} lock files left by dead ones, harmless" if dead else ""
        yield Finding("workers", "ok", f"{alive} alive{left}")


async def _runs(store: Store, where: str) -> AsyncIterator[Finding]:
    counts = await store.runs.count()
    text = ", ".join(f"{count} {status}" for status, count in sorted(counts.items())) or "none yet"
    bad = [status for status in (RunStatus.STRANDED, RunStatus.NEEDS_ATTENTION) if counts.get(status)]
    repair = f"reprise ps --all status:{','.join(bad)}{where}" if bad else ""
    yield Finding("runs", "warn" if bad else "ok", text, repair)


def size(count: int) -> str:
    """Return bytes as people read them.

    >>> size(900), size(5 << 20), size(3 << 30)
    ('900 B', '5.0 MB', '3.0 GB')
    """
    amount, units = float(count), iter(("B", "kB", "MB", "GB", "TB"))
    unit = next(units)
    while amount >= 1024 and unit != "TB":
        amount, unit = amount / 1024, next(units)
    return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
