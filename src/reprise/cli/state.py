"""``reprise state``: look at shared state, change it, watch it change."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import Annotated, Any

import msgspec
import typer
from rich.text import Text

from reprise.cli.config import read_config
from reprise.cli.inputs import read_value
from reprise.cli.moments import ago, iso
from reprise.cli.output import Format, Screen, line, table
from reprise.cli.session import Output, StoreUrl, flag, prepare, screen_of
from reprise.coordination.snapshots import StateEntry
from reprise.coordination.state import PREFIX, StateSync
from reprise.coordination.updates import StateUpdate
from reprise.kernel.clock import SystemClock, from_datetime
from reprise.kernel.machine import ExitCode
from reprise.kernel.policy import seconds_in

WIDE = 60
"""Letters of a value that a table shows."""
ORIGIN = "reprise state"
HISTORY = 1_000_000
"""Changes that are kept when we write: we do not know how many the application wants, but not all of them."""


class Strategies(StrEnum):
    """What becomes of a write when the key lives already."""

    LAST_WRITE_WINS = "last_write_wins"
    FIRST_WRITE_WINS = "first_write_wins"
    MERGE = "merge"
    REJECT = "reject"


Namespace = Annotated[str, typer.Argument(metavar="NAMESPACE", help="Whose keys.")]
Key = Annotated[str, typer.Argument(metavar="KEY", help="The key.")]
Pattern = Annotated[str, typer.Argument(metavar="[PATTERN]", help="Keys, as config:* (all).")]


@asynccontextmanager
async def _opened(url: str | None, namespace: str, *, create: bool = False) -> AsyncGenerator[StateSync]:
    """Open a namespace of a store."""
    store = prepare(read_config(url), create=create)
    await store.start()
    try:
        async with StateSync(store, namespace, origin=ORIGIN, history=HISTORY) as sync:
            yield sync
    finally:
        await store.stop()


# ---------------------------------------------------------------- look


def get(
    context: typer.Context,
    namespace: Namespace,
    key: Key,
    output: Output = Format.TABLE,
    store: StoreUrl = None,
) -> None:
    """Print the value of a key as JSON. Ends with 3 when there is none.

    reprise state get app config:mode

    reprise state get app config:mode -o json
    """
    raise typer.Exit(asyncio.run(_get(screen_of(context), store, namespace, key, output)))


async def _get(screen: Screen, url: str | None, namespace: str, key: str, output: Format) -> int:
    async with _opened(url, namespace) as sync:
        entry = await sync.entry(key)
    if entry is None:
        screen.fail(f"{namespace} has no key {key!r}.", f"reprise state list {namespace}{flag(url)}")
        return ExitCode.NOT_FOUND
    if output is Format.TABLE:
        screen.json(msgspec.json.encode(entry.value))
    else:
        screen.fact(output, _fact(entry))
    return ExitCode.OK


def list_(
    context: typer.Context,
    namespace: Annotated[str, typer.Argument(metavar="[NAMESPACE]", help="Whose keys.")] = "",
    pattern: Pattern = "*",
    output: Output = Format.TABLE,
    store: StoreUrl = None,
) -> None:
    """List the keys of a namespace with their values; without one, the namespaces.

    reprise state list

    reprise state list app 'config:*'
    """
    if namespace:
        asyncio.run(_list(screen_of(context), store, namespace, pattern, output))
    else:
        asyncio.run(_namespaces(screen_of(context), store, output))


async def _namespaces(screen: Screen, url: str | None, output: Format) -> None:
    store = prepare(read_config(url), create=False)
    await store.start()
    try:
        spaces = await store.cells.spaces()
    finally:
        await store.stop()
    names = [space.removeprefix(PREFIX) for space in spaces if space.startswith(PREFIX)]
    if output is not Format.TABLE:
        screen.data(output, [{"namespace": name} for name in names])
        return
    screen.lines(Text(line(name)) for name in names)
    if not names:
        screen.say(f"There is no shared state.  Write some: reprise state set app KEY VALUE{flag(url)}")


async def _list(screen: Screen, url: str | None, namespace: str, pattern: str, output: Format) -> None:
    async with _opened(url, namespace) as sync:
        found = [await sync.entry(key) for key in await sync.keys(pattern)]
    entries = [entry for entry in found if entry is not None]
    if output is not Format.TABLE:
        screen.data(output, [_fact(entry) for entry in entries])
        return
    now = SystemClock().now()
    shown = table("key", "version", "ends", "value", right=("version",), fold="value")
    for entry in entries:
        ends = ago(entry.expires_at, now) if entry.expires_at else ""
        shown.add_row(line(entry.key), str(entry.version), ends, _short(entry.value))
    if entries:
        screen.table(shown)
    else:
        screen.say(f"{namespace} has no keys" + (f" like {pattern}." if pattern != "*" else "."))


def history(
    context: typer.Context,
    namespace: Namespace,
    key: Key,
    number: Annotated[int, typer.Option("--number", "-n", metavar="N", min=1, help="So many.")] = 20,
    output: Output = Format.TABLE,
    store: StoreUrl = None,
) -> None:
    """Print the newest changes of a key, as far as they are kept, oldest first.

    reprise state history app config:mode
    """
    asyncio.run(_history(screen_of(context), store, namespace, key, number, output))


async def _history(
    screen: Screen, url: str | None, namespace: str, key: str, number: int, output: Format
) -> None:
    async with _opened(url, namespace) as sync:
        updates = await sync.history(key, limit=number)
    if output is not Format.TABLE:
        screen.data(output, [_change(update) for update in updates])
        return
    for update in updates:
        screen.line(_told(update))
    if not updates:
        screen.say(f"No changes of {key!r} are kept in {namespace}.")


def watch(
    context: typer.Context,
    namespace: Namespace,
    pattern: Pattern = "*",
    output: Output = Format.TABLE,
    store: StoreUrl = None,
) -> None:
    """Print every change of a namespace as it comes, until Ctrl-C.

    reprise state watch app 'config:*' -o jsonl
    """
    asyncio.run(_watch(screen_of(context), store, namespace, pattern, output))


async def _watch(screen: Screen, url: str | None, namespace: str, pattern: str, output: Format) -> None:
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, told.set)

    def show(update: StateUpdate) -> None:
        if output is Format.TABLE:
            screen.line(_told(update))
        else:
            screen.row(_change(update))

    async with _opened(url, namespace) as sync:
        sync.on_update(show, pattern)
        screen.hint(f"watching {namespace} {pattern} · Ctrl-C ends it")
        await told.wait()


# ---------------------------------------------------------------- change


def set_(
    context: typer.Context,
    namespace: Namespace,
    key: Key,
    value: Annotated[str, typer.Argument(metavar="VALUE", help="JSON; what is not JSON is taken as text.")],
    ttl: Annotated[
        str, typer.Option("--ttl", metavar="LENGTH", help="It ends after that: 90s, 15m.", show_default=False)
    ] = "",
    strategy: Annotated[
        Strategies | None,
        typer.Option("--strategy", help="What if the key lives already.", show_default=False),
    ] = None,
    expected_version: Annotated[
        int | None,
        typer.Option(
            "--expected-version",
            metavar="N",
            min=0,
            help="Version that it must have; 0 = it must not live.",
            show_default=False,
        ),
    ] = None,
    output: Output = Format.TABLE,
    store: StoreUrl = None,
) -> None:
    """Let a key hold a value. Ends with 7 when it is not as expected.

    reprise state set app config:mode '"dark"'

    reprise state set app limits '{"daily": 5}' --strategy merge

    reprise state set app leader me --expected-version 0 --ttl 15m
    """
    life = seconds_in(ttl) if ttl else None
    chosen = strategy.value if strategy else None
    how = {"ttl": life, "strategy": chosen, "expected_version": expected_version}
    asyncio.run(_set(screen_of(context), store, namespace, key, read_value(value), output, **how))


async def _set(
    screen: Screen, url: str | None, namespace: str, key: str, value: Any, output: Format, **how: Any
) -> None:
    async with _opened(url, namespace, create=True) as sync:
        done = await sync.set(key, value, **how)
    if output is not Format.TABLE:
        screen.fact(output, msgspec.structs.asdict(done))
    elif done.applied:
        screen.line(Text(f"{line(key)} is {_short(done.value)} (version {done.version})"))
    else:
        screen.line(Text(f"{line(key)} stays {_short(done.value)} (version {done.version})"))


# ---------------------------------------------------------------- words


def _short(value: Any) -> str:
    return line(msgspec.json.encode(value).decode(), WIDE)


def _told(update: StateUpdate) -> Text:
    """Return a change as a line for people."""
    when = update.at.astimezone().isoformat(" ", "milliseconds")
    what = (
        "ended"
        if update.deleted and not update.origin
        else "deleted"
        if update.deleted
        else _short(update.value)
    )
    by = f"  by {line(update.origin)}" if update.origin else ""
    gap = "  (changes before it were missed)" if update.gap else ""
    return Text(f"{when}  {line(update.key)}  {what}  version {update.version}{by}{gap}")


def _fact(entry: StateEntry) -> dict[str, Any]:
    ends = iso(entry.expires_at) if entry.expires_at else None
    return {"key": entry.key, "value": entry.value, "version": entry.version, "expires_at": ends}


def _change(update: StateUpdate) -> dict[str, Any]:
    return {**msgspec.structs.asdict(update), "at": iso(from_datetime(update.at))}
