"""``reprise tools``: what tools there are, what they take, and calling one."""

from __future__ import annotations

import asyncio
import os
import shlex
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar
from urllib.parse import urlsplit

import msgspec
import typer

from reprise.cli.load import import_code, named, parse_target
from reprise.cli.output import Format, Screen, line, table
from reprise.cli.plugged import add_plugins
from reprise.cli.session import Output, screen_of
from reprise.kernel.errors import ConfigurationError
from reprise.kernel.machine import ExitCode
from reprise.tools.calling import ToolResult
from reprise.tools.library import create_builtin_tools_library
from reprise.tools.registry import ToolRegistry
from reprise.tools.tool import Tool

if TYPE_CHECKING:
    from reprise.tools.mcp.mount import MCPMount

T = TypeVar("T")

From = Annotated[
    list[str] | None,
    typer.Option(
        "--from", "-f", metavar="FILE.py", help="Also the tools of a file or module.", show_default=False
    ),
]
Mcp = Annotated[
    list[str] | None,
    typer.Option(
        "--mcp",
        metavar="PREFIX=COMMAND|URL",
        help="Also the tools of an MCP server: files='uvx mcp-server-files /data', shop=https://example.com/mcp.",
        show_default=False,
    ),
]
Pins = Annotated[
    Path | None,
    typer.Option(
        "--pins", metavar="FILE", help="Where accepted tools of MCP servers are kept.", show_default=False
    ),
]
Roots = Annotated[
    list[str] | None,
    typer.Option(
        "--root",
        metavar="NAME=FOLDER",
        help="A folder that tools for files may use, and what paths call it.",
        show_default=False,
    ),
]
Hosts = Annotated[
    list[str] | None,
    typer.Option(
        "--reach",
        metavar="HOST[:PORT]",
        help="A host that is not public and that tools may reach all the same.",
        show_default=False,
    ),
]
Accept = Annotated[bool, typer.Option("--accept", help="Accept what MCP servers say now of their tools.")]
Rules = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[RULE…]", help="Names (web_*), tag:…, or effect:network; all without.", show_default=False
    ),
]


def list_(
    context: typer.Context,
    rules: Rules = None,
    files: From = None,
    servers: Mcp = None,
    pins: Pins = None,
    output: Output = Format.TABLE,
) -> None:
    """List tools: what they do, and what effects they have.

    reprise tools list tag:time effect:network
    """
    found = _with(files, servers, pins, lambda registry: registry.list(*rules or ()))
    _show(screen_of(context), output, found)


def search(
    context: typer.Context,
    query: Annotated[list[str], typer.Argument(metavar="WORDS…", help="What is to be done.")],
    files: From = None,
    servers: Mcp = None,
    pins: Pins = None,
    limit: Annotated[int, typer.Option("--limit", "-n", metavar="N", help="As many at most.")] = 10,
    output: Output = Format.TABLE,
) -> None:
    """Find tools by what they are for, the best first.

    reprise tools search how old is somebody
    """
    found = _with(files, servers, pins, lambda registry: registry.search(" ".join(query), limit))
    _show(screen_of(context), output, found)


def show(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the tool.")],
    files: From = None,
    servers: Mcp = None,
    pins: Pins = None,
    output: Output = Format.TABLE,
) -> None:
    """Say what a tool takes and returns, with examples of calls.

    reprise tools show time_age
    """
    screen, tool = screen_of(context), _with(files, servers, pins, lambda registry: registry[name])
    if output is not Format.TABLE:
        screen.fact(output, tool.describe())
        return
    screen.raw(tool.description)
    screen.raw("")
    shown = table("argument", "type", "default", "", fold="")
    required = tool.parameters.get("required", ())
    for argument, schema in tool.parameters.get("properties", {}).items():
        default = "" if argument in required else _json(schema.get("default"))
        shown.add_row(line(argument), line(_type(schema)), line(default), line(schema.get("description", "")))
    screen.table(shown)
    kind = f"{tool.effects}{', may be repeated' if tool.idempotent else ''}"
    extra = f", extra {tool.extra}" if tool.extra else ""
    screen.raw(f"returns {_type(tool.returns)}; {kind}; at most {tool.timeout:g} s{extra}")
    for example in tool.examples:
        screen.raw(f"reprise tools call {tool.name} {_as_words(example.arguments)}".rstrip())


def call(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the tool.")],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME=VALUE…]",
            help='Arguments; values that are no text as JSON. Or one JSON object: \'{"tz": "UTC"}\'.',
            show_default=False,
        ),
    ] = None,
    files: From = None,
    servers: Mcp = None,
    pins: Pins = None,
    roots: Roots = None,
    hosts: Hosts = None,
) -> None:
    """Call a tool and print what it returns, as JSON; a text as it is.

    reprise tools call time_age birth_date=2000-02-29
    reprise tools call file_search path=docs query=lease --root docs=./docs
    """
    screen, caller = screen_of(context), os.environ.get("USER", "")

    async def called() -> ToolResult:
        async with mounted(files, servers, pins) as registry:
            _provide(registry, roots, hosts)
            given = arguments_of(registry[name], arguments or ())
            return await registry.scope(caller).call_tool(name, given)

    show_result(screen, asyncio.run(called()))


def show_result(screen: Screen, result: ToolResult) -> None:
    """Print what a tool returned: JSON, a text as it is; its warnings as hints."""
    for warning in result.warnings:
        screen.hint(warning)
    if isinstance(result.value, str):
        screen.raw(result.value)
    else:
        screen.json(result.data)


def held(
    context: typer.Context,
    servers: Mcp = None,
    pins: Pins = None,
    accept: Accept = False,
) -> None:
    """Show what MCP servers say of their tools otherwise than when that was accepted; such tools cannot be called.

    Exits with 7 while something is held.

    reprise tools held --mcp files='uvx mcp-server-files /data' --pins mcp.json
    reprise tools held --mcp files='uvx mcp-server-files /data' --pins mcp.json --accept
    """
    screen = screen_of(context)

    async def look() -> int:
        found = 0
        async with AsyncExitStack() as stack:
            for text in servers or ():
                mount = await stack.enter_async_context(mount_of(text, pins))
                await mount.mount(ToolRegistry())
                for each in await mount.refresh():
                    found += 1
                    screen.raw(f"{mount.prefix}: {each.name}{' (new)' if each.before is None else ''}")
                    for change in each.changes():
                        screen.raw(f"  {change}")
                for name, why in mount.refused.items():
                    screen.hint(f"{mount.prefix}: {name} cannot be mounted: {why}")
                if accept:
                    await mount.accept()
        return found

    found = asyncio.run(look())
    if not found:
        screen.say("Nothing is held.")
    elif accept:
        screen.say(f"Accepted: {found}.")
    else:
        raise typer.Exit(ExitCode.CONFLICT)


# ---------------------------------------------------------------- reading


def _with(
    files: Sequence[str] | None,
    servers: Sequence[str] | None,
    pins: Path | None,
    do: Callable[[ToolRegistry], T],
) -> T:
    """Do something with the tools there are; servers are asked only if some are named."""
    if not servers:
        return do(_registry(files))

    async def done() -> T:
        async with mounted(files, servers, pins) as registry:
            return do(registry)

    return asyncio.run(done())


@asynccontextmanager
async def mounted(
    files: Sequence[str] | None, servers: Sequence[str] | None, pins: Path | None, *, accept: bool = False
) -> AsyncGenerator[ToolRegistry]:
    """Give the tools that come with Reprise, those of files, and those of MCP servers."""
    registry = _registry(files)
    async with AsyncExitStack() as stack:
        for text in servers or ():
            mount = await stack.enter_async_context(mount_of(text, pins))
            await mount.mount(registry)
            if accept:
                await mount.refresh()
                await mount.accept()
        yield registry


def mount_of(text: str, pins: Path | None) -> MCPMount:
    """Return the mount that ``PREFIX=COMMAND`` or ``PREFIX=URL`` means; nothing is started yet.

    Raises ``ConfigurationError`` for anything else, ``MissingExtra`` without the extra ``mcp``.
    """
    prefix, sign, where = text.partition("=")
    if not sign or not prefix or not where.strip():
        raise ConfigurationError(
            f"--mcp {text!r}", hint="Write PREFIX=COMMAND or PREFIX=URL: shop=https://example.com/mcp"
        )
    mount = import_module("reprise.tools.mcp.mount").MCPMount
    if where.partition("://")[0] not in ("http", "https"):
        return mount(prefix, command=shlex.split(where), pins=pins)
    # Whoever writes an address here means it, be it public or not.
    access = import_module("reprise.tools.guards.network").NetworkAccess(
        allow=[urlsplit(where).netloc.rpartition("@")[2]]
    )
    token = os.environ.get(f"REPRISE_MCP_{prefix.upper().replace('-', '_')}_TOKEN")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return mount(prefix, url=where, headers=headers, access=access, pins=pins)


def _registry(files: Sequence[str] | None) -> ToolRegistry:
    registry = ToolRegistry(create_builtin_tools_library())
    add_plugins(registry)
    for file in files or ():
        for tool in _tools_of(file):
            registry.register_tool(tool, replace=True)
    return registry


def _provide(registry: ToolRegistry, roots: Sequence[str] | None, hosts: Sequence[str] | None) -> None:
    """Give tools the folders and the hosts that were named. Raises ``ConfigurationError`` for what is none."""
    if roots:
        folders: dict[str, str] = {}
        for text in roots:
            name, sign, folder = text.partition("=")
            if not (sign and name and folder):
                raise ConfigurationError(f"--root {text!r}", hint="Write NAME=FOLDER: docs=./docs")
            folders[name] = folder
        registry.provide(import_module("reprise.tools.guards.paths").FileRoots(folders))
    if hosts:
        registry.provide(import_module("reprise.tools.guards.network").NetworkAccess(allow=hosts))


def _tools_of(text: str) -> list[Tool]:
    """Return the tools of a file or module: those at its top level, and those of registries there; or the one named.

    Raises:
        ConfigurationError: there is no such file or module, or no tool in it.
    """
    target = parse_target(text)
    known = {
        each.name: each
        for value in vars(import_code(target)).values()
        for each in ([value] if isinstance(value, Tool) else _of_registry(value))
    }
    if target.name:
        return [named(target, known, "tool")]
    if not known:
        raise ConfigurationError(f"There is no tool in {target.place}.", hint="Write @tool above a function.")
    return list(known.values())


def _of_registry(value: object) -> list[Tool]:
    return [value[name] for name in value] if isinstance(value, ToolRegistry) else []


def arguments_of(tool: Tool, given: Sequence[str]) -> dict[str, Any]:
    """Return arguments that are words of a command line. Raises ``ConfigurationError`` for what is none."""
    read: dict[str, Any] = {}
    for text in given:
        if text.lstrip().startswith("{"):
            read |= msgspec.json.decode(text, type=dict[str, Any])
            continue
        name, sign, value = text.partition("=")
        if not sign:
            raise ConfigurationError(
                f"{text!r} is no argument of {tool.name}.",
                hint=f"Write NAME=VALUE: reprise tools show {tool.name}",
            )
        read[name] = _value(tool.parameters.get("properties", {}).get(name, {}), value)
    return read


def _value(schema: Mapping[str, Any], text: str) -> Any:
    """Return a value as the schema wants it: text stays text where that is allowed."""
    if "string" in _type(schema):
        return text
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text  # the tool says what it wanted


# ---------------------------------------------------------------- showing


def _show(screen: Screen, output: Format, tools: Sequence[Tool]) -> None:
    if output is not Format.TABLE:
        screen.data(
            output,
            [
                {"name": tool.name, "title": tool.title, "effects": tool.effects, "tags": tool.tags}
                for tool in tools
            ],
        )
    elif tools:
        shown = table("tool", "effects", "what it does", fold="what it does")
        for tool in tools:
            shown.add_row(line(tool.name), line(tool.effects), line(tool.title))
        screen.table(shown)
    else:
        screen.say("No tool fits.")


def _type(schema: Mapping[str, Any]) -> str:
    """Return what a schema lets pass in a few words."""
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if any_of := schema.get("anyOf"):
        return " | ".join(_type(each) for each in any_of)
    if "$ref" in schema:
        return "object"
    kind = str(schema.get("type", "anything"))
    return f"{kind} of {_type(schema['items'])}" if kind == "array" and "items" in schema else kind


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _as_words(arguments: Mapping[str, Any]) -> str:
    words = [
        f"{name}={value if isinstance(value, str) else _json(value)}" for name, value in arguments.items()
    ]
    return " ".join(f"'{word}'" if set(word) & set(" *?'\"$&|<>;()[]{}") else word for word in words)
