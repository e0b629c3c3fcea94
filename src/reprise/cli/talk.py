"""``reprise query``, ``update``, ``answer``, ``stream``: talking with a run that goes on."""

from __future__ import annotations

import asyncio
import getpass
from collections.abc import AsyncGenerator, Sequence
from typing import Annotated, Any

import msgspec
import typer
from rich.text import Text

from reprise.cli.config import Config, read_config
from reprise.cli.inputs import read_value
from reprise.cli.moments import ago, iso
from reprise.cli.output import Format, Screen, clean, line
from reprise.cli.session import Output, RunId, StoreUrl, door, flag, screen_of
from reprise.kernel.clock import SystemClock
from reprise.kernel.errors import ConfigurationError, ResultTimeout, UnknownHandler
from reprise.runtime.branch import name_in
from reprise.runtime.client import Client
from reprise.runtime.dialogue import PATIENCE, Chunk, OpenQuestion

Name = Annotated[str, typer.Argument(metavar="NAME", help="How the body of the run calls it.")]
Arguments = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[ARG]…",
        help="JSON, or name=JSON; what is not JSON is taken as text.",
        show_default=False,
    ),
]
Patience = Annotated[
    float, typer.Option("--timeout", metavar="SECONDS", help="Wait no longer for the answer.")
]
Key = Annotated[
    str,
    typer.Option(
        "--key",
        metavar="KEY",
        help="Id: the same again does nothing new, and has the same reply.",
        show_default=False,
    ),
]


def query(
    context: typer.Context,
    id: RunId,
    name: Name,
    arguments: Arguments = None,
    timeout: Patience = PATIENCE,
    store: StoreUrl = None,
) -> None:
    """Ask a run that goes on about its state. A worker with its code answers; nothing is recorded.

    reprise query cart-7 total

    reprise query cart-7 find tea least=2
    """
    args, kwargs = call_of(arguments or ())
    asyncio.run(_query(screen_of(context), read_config(store), id, name, args, kwargs, timeout))


async def _query(
    screen: Screen,
    config: Config,
    id: str,
    name: str,
    args: Sequence[Any],
    kwargs: dict[str, Any],
    timeout: float,
) -> None:
    async with door(config) as (_, client):
        row = await client.resolve(id)
        value = await client.query(row.id, name, *args, kwargs=kwargs, type=msgspec.Raw, timeout=timeout)
    screen.json(bytes(value))


def update(
    context: typer.Context,
    id: RunId,
    name: Name,
    arguments: Arguments = None,
    key: Key = "",
    timeout: Patience = PATIENCE,
    store: StoreUrl = None,
) -> None:
    """Change a run that goes on, by a function of its body; its result is printed.

    reprise update cart-7 add tea

    reprise update cart-7 add item=tea count=2 --key order-12-line-1
    """
    args, kwargs = call_of(arguments or ())
    asyncio.run(_update(screen_of(context), read_config(store), id, name, args, kwargs, key, timeout))


async def _update(
    screen: Screen,
    config: Config,
    id: str,
    name: str,
    args: Sequence[Any],
    kwargs: dict[str, Any],
    key: str,
    timeout: float,
) -> None:
    async with door(config) as (_, client):
        row = await client.resolve(id)
        value = await client.update(
            row.id, name, *args, kwargs=kwargs, id=key, type=msgspec.Raw, timeout=timeout
        )
    screen.json(bytes(value))


def call_of(arguments: Sequence[str]) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments of a call by position and by name.

    >>> call_of(["tea", "3", "least=2", 'note="x=y"'])
    (['tea', 3], {'least': 2, 'note': 'x=y'})
    """
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for text in arguments:
        name, equals, value = text.partition("=")
        if equals and name.isidentifier():
            kwargs[name] = read_value(value)
        else:
            args.append(read_value(text))
    return args, kwargs


# ---------------------------------------------------------------- stream


def stream(
    context: typer.Context,
    id: RunId,
    name: Annotated[
        str,
        typer.Argument(metavar="[NAME]", help="Which; without it they are listed.", show_default=False),
    ] = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run has ended.")] = False,
    after: Annotated[
        int, typer.Option("--after", metavar="OFFSET", min=0, help="Only what comes after this place.")
    ] = 0,
    output: Output = Format.TABLE,
    store: StoreUrl = None,
) -> None:
    """Print a stream of partial output of a run; texts as they are, other values as JSON lines.

    reprise stream @last tokens -f

    reprise stream chat-7 tokens -o jsonl --after 120
    """
    asyncio.run(_stream(screen_of(context), read_config(store), id, name, follow, after, output))


async def _stream(
    screen: Screen, config: Config, id: str, name: str, follow: bool, after: int, output: Format
) -> None:
    async with door(config) as (_, client):
        row = await client.resolve(id)
        names = await client.streams(row.id)
        if not name:
            if output is Format.TABLE:
                screen.lines(Text(line(each)) for each in names)
            else:
                screen.json(msgspec.json.encode(names))
            return
        if name not in names and not follow:
            raise UnknownHandler(
                f"Run {row.id} has no stream {name[:60]!r}.",
                hint=f"It has: {', '.join(names)}." if names else "It has none so far.",
            )
        chunks = client.stream(row.id, name, after=after, follow=follow)
        if output is Format.JSON and not follow:
            screen.json(msgspec.json.encode([chunk async for chunk in chunks]))
        elif output is Format.TABLE:
            await _print(screen, chunks)
        else:
            async for chunk in chunks:
                screen.row(msgspec.structs.asdict(chunk))


async def _print(screen: Screen, chunks: AsyncGenerator[Chunk[Any]]) -> None:
    """Write texts as they come, without a line of their own; whatever else on lines."""
    ends_line = True
    async for chunk in chunks:
        is_text = isinstance(chunk.value, str)
        if not ends_line and not is_text:
            screen.write("\n")
        if chunk.restarts:
            screen.hint(f"{name_in(chunk.step)} begins anew: what it wrote before is void")
        elif is_text:
            screen.write(str(chunk.value))
        else:
            screen.raw(msgspec.json.encode(chunk.value).decode())
        ends_line = not is_text or str(chunk.value).endswith("\n")
    if not ends_line:
        screen.write("\n")


# ---------------------------------------------------------------- answer


def answer(
    context: typer.Context,
    id: RunId,
    value: Annotated[
        str | None,
        typer.Argument(
            metavar="[VALUE]", help="JSON; what is not JSON is taken as text.", show_default=False
        ),
    ] = None,
    field: Annotated[
        list[str] | None,
        typer.Option(
            "--field",
            metavar="NAME=VALUE",
            help="A field of the answer; may be repeated.",
            show_default=False,
        ),
    ] = None,
    question: Annotated[
        str,
        typer.Option(
            "--question", metavar="KEY", help="Which, where a run asks several.", show_default=False
        ),
    ] = "",
    key: Key = "",
    by: Annotated[
        str,
        typer.Option("--by", metavar="NAME", help="Who answers; default: your login.", show_default=False),
    ] = "",
    timeout: Patience = PATIENCE,
    output: Output = Format.TABLE,
    store: StoreUrl = None,
) -> None:
    """Answer what a run asks a person. Without an answer: show what it asks, and what may be answered.

    reprise answer order-7

    reprise answer order-7 true

    reprise answer order-7 --field approved=true --field note="fine by me"

    The first answer that fits counts. One that does not fit is refused, and the question stays open.
    """
    given = _given(value, field or ())
    asyncio.run(
        _answer(screen_of(context), read_config(store), store, id, given, question, key, by, timeout, output)
    )


def _given(value: str | None, fields: Sequence[str]) -> list[Any]:
    """Return the answer in a list, an empty one if none is given."""
    if value is not None and fields:
        raise ConfigurationError("Give the answer as a VALUE or by --field, not both.")
    if not fields:
        return [] if value is None else [read_value(value)]
    read: dict[str, Any] = {}
    for text in fields:
        name, equals, each = text.partition("=")
        if not equals or not name:
            raise ConfigurationError(
                f"The field {text[:60]!r} is not understood.", hint="Give --field name=value."
            )
        read[name] = read_value(each)
    return [read]


async def _answer(
    screen: Screen,
    config: Config,
    store: str | None,
    id: str,
    given: list[Any],
    question: str,
    key: str,
    by: str,
    timeout: float,
    output: Format,
) -> None:
    async with door(config) as (_, client):
        row = await client.resolve(id)
        if not given:
            await _ask(screen, client, row.id, store, output)
            return
        try:
            await client.answer(
                row.id, given[0], question=question, by=by or _login(), id=key, timeout=timeout
            )
        except ResultTimeout as error:
            raise ResultTimeout(
                f"{error.what} It is kept, and counts if it is the first when a worker reads it.",
                hint=f"reprise show {row.id}{flag(store)}",
            ) from None
    screen.say(f"Run {row.id} has the answer.")


async def _ask(screen: Screen, client: Client, run: str, store: str | None, output: Format) -> None:
    questions = await client.questions(run)
    if output is not Format.TABLE:
        screen.data(output, [question_fact(one) for one in questions])
        return
    screen.lines(part for one in questions for part in question_lines(one, SystemClock().now()))
    if not questions:
        screen.hint(f"Run {run} asks nothing.")
    for one in questions:
        screen.hint(f"  {answer_command(one, store, several=len(questions) > 1)}")


def question_fact(question: OpenQuestion) -> dict[str, Any]:
    """Return a question for programs."""
    return {
        "key": question.key,
        "text": question.text,
        "to": question.to,
        "asked_at": iso(question.asked_at),
        "expires_at": iso(question.expires_at) if question.expires_at else None,
        "schema": question.schema,
    }


def question_lines(question: OpenQuestion, now: int) -> list[Text]:
    """Return a question for people."""
    until = f", expires {ago(question.expires_at, now)}" if question.expires_at else ""
    to = f" {line(question.to)}" if question.to else ""
    shown = [
        Text.assemble(
            ("asks", "bold yellow"),
            (to, "bold"),
            f"  {line(question.text) or '(no words)'}",
            (f"  {line(question.key)}", "dim"),
        ),
        Text(f"  {ago(question.asked_at, now)}{until}", "dim"),
    ]
    return [*shown, *(Text(f"  {text}") for text in form(question.schema))]


def form(schema: dict[str, Any]) -> list[str]:
    """Return in few words what may be answered.

    >>> form({"type": "boolean"})
    ['answer: boolean']
    >>> fields = {"ok": {"type": "boolean"}, "why": {"type": "string", "default": ""}}
    >>> form({"$ref": "#/$defs/A", "$defs": {"A": {"type": "object", "properties": fields, "required": ["ok"]}}})
    ['ok: boolean', 'why: string (optional)']
    """
    known: dict[str, Any] = schema.get("$defs", {})
    inner = _looked_up(schema, known)
    properties: dict[str, Any] = inner.get("properties", {})
    if not properties:
        return [f"answer: {_kind(inner, known)}"]
    required = inner.get("required", ())
    return [
        line(f"{name}: {_kind(each, known)}" + ("" if name in required else " (optional)"))
        for name, each in properties.items()
    ]


def _looked_up(schema: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    reference = schema.get("$ref")
    return known.get(str(reference).rpartition("/")[2], {}) if reference else schema


def _kind(schema: dict[str, Any], known: dict[str, Any]) -> str:
    inner = _looked_up(schema, known)
    if "enum" in inner:
        return clean(", ".join(str(one) for one in inner["enum"]))
    if "anyOf" in inner:
        return " or ".join(_kind(one, known) for one in inner["anyOf"])
    what = inner.get("title") if inner is not schema else inner.get("format")
    return clean(str(what or inner.get("type", "anything")))


def answer_command(question: OpenQuestion, store: str | None, *, several: bool) -> str:
    """Return the command that answers a question."""
    fields = _looked_up(question.schema, question.schema.get("$defs", {})).get("properties", {})
    value = " ".join(f"--field {line(name)}=…" for name in fields) or "VALUE"
    which = f" --question {line(question.key)}" if several else ""
    return f"reprise answer {line(question.run)} {value}{which}{flag(store)}"


def _login() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return ""
