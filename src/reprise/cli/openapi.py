"""``reprise tools from-openapi`` and ``reprise tools diff``: what specifications of APIs give, and what changed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from reprise.cli.output import Format, line, table
from reprise.cli.session import Output, screen_of
from reprise.cli.tools import arguments_of, show_result
from reprise.kernel.machine import ExitCode
from reprise.tools.guards.network import NetworkAccess
from reprise.tools.openapi.comparing import Change, compare
from reprise.tools.openapi.parser import OpenAPIParser, OpenAPITool
from reprise.tools.registry import ToolRegistry

Spec = Annotated[str, typer.Argument(metavar="SPEC", help="A file or URL: Swagger 2.0, OpenAPI 3.0 to 3.2.")]
Prefix = Annotated[str, typer.Option("--prefix", "-p", metavar="NAME_", help="What names begin with.")]
BaseUrl = Annotated[
    str, typer.Option("--base-url", metavar="URL", help="The server, if not the one it says.")
]
Tags = Annotated[
    list[str] | None, typer.Option("--tag", "-t", metavar="TAG", help="Only these.", show_default=False)
]
Paths = Annotated[
    list[str] | None,
    typer.Option("--path", metavar="/USERS*", help="Only these; * for anything.", show_default=False),
]
Methods = Annotated[
    list[str] | None, typer.Option("--method", "-m", metavar="GET", help="Only these.", show_default=False)
]
Allowed = Annotated[
    list[str] | None,
    typer.Option(
        "--allow", metavar="HOST:PORT", help="A private host that may be reached.", show_default=False
    ),
]


def from_openapi(
    context: typer.Context,
    spec: Spec,
    name: Annotated[
        str,
        typer.Argument(metavar="[NAME]", help="A tool to call; all are listed without.", show_default=False),
    ] = "",
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME=VALUE…]", help="Arguments of the call.", show_default=False),
    ] = None,
    prefix: Prefix = "",
    base_url: BaseUrl = "",
    tags: Tags = None,
    paths: Paths = None,
    methods: Methods = None,
    deprecated: Annotated[bool, typer.Option("--deprecated", help="Also what is deprecated.")] = False,
    allow: Allowed = None,
    output: Output = Format.TABLE,
) -> None:
    """List the tools that an API's specification gives, with what could not be used; or call one.

    reprise tools from-openapi petstore.yaml --prefix pets_

    reprise tools from-openapi petstore.yaml --base-url http://127.0.0.1:8000 --allow 127.0.0.1:8000 list_pets limit=3
    """
    screen, access = screen_of(context), NetworkAccess(allow=allow or ())
    parser = OpenAPIParser(base_url=base_url, network=access, writers=["*"])
    tools = parser.extract_tools(
        spec, prefix, tags=tags or (), paths=paths or (), methods=methods or (), deprecated=deprecated
    )
    if name:
        registry = ToolRegistry(tools)
        registry.provide(access)
        given = arguments_of(registry[name], arguments or ())
        result = asyncio.run(registry.scope(os.environ.get("USER", "")).call_tool(name, given))
        show_result(screen, result)
        return
    if output is not Format.TABLE:
        screen.data(output, [_row(tool) for tool in tools])
        return
    shown = table("tool", "operation", "what it does", fold="what it does")
    for tool in tools:
        operation = tool.endpoint.operation
        shown.add_row(line(tool.name), line(f"{operation.method.upper()} {operation.path}"), line(tool.title))
    screen.table(shown)
    for said in str(parser.report).splitlines():
        screen.hint(said)


def diff(
    context: typer.Context,
    old: Annotated[str, typer.Argument(metavar="OLD", help="A specification: file or URL.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The one that it is to become.")],
    allow: Allowed = None,
    output: Output = Format.TABLE,
) -> None:
    """Say what changed between two specifications, as far as callers see it; ! marks what may break calls.

    The exit code is 1 where anything changed.

    reprise tools diff petstore.yaml https://example.com/petstore.yaml
    """
    screen, access = screen_of(context), NetworkAccess(allow=allow or ())
    both: list[Sequence[OpenAPITool]] = [
        OpenAPIParser(network=access).extract_tools(each, deprecated=True) for each in (old, new)
    ]
    changes: list[Change] = compare(*both)
    if output is not Format.TABLE:
        screen.data(output, [_change(change) for change in changes])
    elif not changes:
        screen.say("Nothing that callers see has changed.")
    for change in changes if output is Format.TABLE else ():
        screen.raw(str(change))
    if changes:
        raise typer.Exit(ExitCode.FAILED)


def _row(tool: OpenAPITool) -> dict[str, Any]:
    operation = tool.endpoint.operation
    return {
        "name": tool.name,
        "method": operation.method,
        "path": operation.path,
        "server": tool.endpoint.server,
        "title": tool.title,
        "tags": tool.tags,
        "parameters": tool.parameters,
        "notes": [*operation.notes, *tool.endpoint.notes],
        "digest": tool.digest,
    }


def _change(change: Change) -> dict[str, Any]:
    return {"tool": change.tool, "kind": change.kind, "what": change.what, "breaking": change.breaking}
