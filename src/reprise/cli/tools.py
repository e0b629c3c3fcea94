"""``reprise tools``: what tools there are, what they take, and calling one."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
import typer

from reprise.cli.load import import_code, named, parse_target
from reprise.cli.output import Format, Screen, line, table
from reprise.cli.session import Output, screen_of
from reprise.kernel.errors import ConfigurationError
from reprise.tools.calling import ToolResult
from reprise.tools.library import create_builtin_tools_library
from reprise.tools.registry import ToolRegistry
from reprise.tools.tool import Tool

From = Annotated[
    list[str] | None,
    typer.Option(
        "--from", "-f", metavar="FILE.py", help="Also the tools of a file or module.", show_default=False
    ),
]
Rules = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[RULE…]", help="Names (web_*), tag:…, or effect:network; all without.", show_default=False
    ),
]


def list_(
    context: typer.Context, rules: Rules = None, files: From = None, output: Output = Format.TABLE
) -> None:
    """List tools: what they do, and what effects they have.

    reprise tools list tag:time effect:network
    """
    _show(screen_of(context), output, _registry(files).list(*rules or ()))


def search(
    context: typer.Context,
    query: Annotated[list[str], typer.Argument(metavar="WORDS…", help="What is to be done.")],
    files: From = None,
    limit: Annotated[int, typer.Option("--limit", "-n", metavar="N", help="As many at most.")] = 10,
    output: Output = Format.TABLE,
) -> None:
    """Find tools by what they are for, the best first.

    reprise tools search how old is somebody
    """
    _show(screen_of(context), output, _registry(files).search(" ".join(query), limit))


def show(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the tool.")],
    files: From = None,
    output: Output = Format.TABLE,
) -> None:
    """Say what a tool takes and returns, with examples of calls.

    reprise tools show time_age
    """
    screen, tool = screen_of(context), _registry(files)[name]
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
) -> None:
    """Call a tool and print what it returns, as JSON; a text as it is.

    reprise tools call time_age birth_date=2000-02-29
    """
    screen, registry = screen_of(context), _registry(files)
    given = arguments_of(registry[name], arguments or ())
    caller = os.environ.get("USER", "")
    show_result(screen, asyncio.run(registry.scope(caller).call_tool(name, given)))


def show_result(screen: Screen, result: ToolResult) -> None:
    """Print what a tool returned: JSON, a text as it is; its warnings as hints."""
    for warning in result.warnings:
        screen.hint(warning)
    if isinstance(result.value, str):
        screen.raw(result.value)
    else:
        screen.json(result.data)


# ---------------------------------------------------------------- reading


def _registry(files: Sequence[str] | None) -> ToolRegistry:
    registry = ToolRegistry(create_builtin_tools_library())
    for file in files or ():
        for tool in _tools_of(file):
            registry.register_tool(tool, replace=True)
    return registry


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
