"""What changed between two versions of a specification, as far as callers see it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal

import msgspec

from reprise.tools.openapi.documents import Json, objects
from reprise.tools.openapi.parser import OpenAPITool

Kind = Literal["added", "removed", "moved", "described", "arguments", "result"]


class Change(msgspec.Struct, frozen=True):
    """Something that changed of a tool. ``breaking``: calls that worked may not work any more."""

    tool: str
    kind: Kind
    what: str
    breaking: bool = False

    def __str__(self) -> str:
        return f"{'! ' if self.breaking else '  '}{self.tool}: {self.what}"


def compare(old: Iterable[OpenAPITool], new: Iterable[OpenAPITool]) -> list[Change]:
    """Return what changed, by name of the tool.

    >>> from reprise.tools.openapi.parser import OpenAPIParser
    >>> def tools(summary, **more):
    ...     paths = {"/pets": {"get": {"operationId": "list", "summary": summary, **more}}}
    ...     return OpenAPIParser().extract_tools({"openapi": "3.0.3", "paths": paths})
    >>> limit = {"name": "limit", "in": "query", "required": True, "schema": {"type": "integer"}}
    >>> for change in compare(tools("List pets"), tools("List all pets", parameters=[limit])):
    ...     print(change)
      list: says 'List all pets' instead of 'List pets'
    ! list: wants limit
    """
    before, after = {tool.name: tool for tool in old}, {tool.name: tool for tool in new}
    found: list[Change] = []
    for name in sorted(before | after):
        if name not in before:
            found.append(Change(name, "added", f"is new ({_place(after[name])})"))
        elif name not in after:
            found.append(Change(name, "removed", f"is gone ({_place(before[name])})", breaking=True))
        elif before[name].digest != after[name].digest or before[name].returns != after[name].returns:
            found += _changes(before[name], after[name])
    return found


def _changes(old: OpenAPITool, new: OpenAPITool) -> Iterator[Change]:
    name = new.name
    if old.endpoint.server != new.endpoint.server:
        was, now = old.endpoint.server or "no server", new.endpoint.server or "no server"
        yield Change(name, "moved", f"is at {now} instead of {was}", breaking=True)
    if _place(old) != _place(new):
        yield Change(name, "moved", f"is {_place(new)} instead of {_place(old)}")
    if old.description != new.description:
        yield Change(name, "described", f"says {_cut(new.description)} instead of {_cut(old.description)}")
    yield from _arguments(name, old.parameters, new.parameters)
    if old.returns != new.returns:
        yield Change(name, "result", "returns something else", breaking=True)


def _arguments(name: str, old: Json, new: Json) -> Iterator[Change]:
    before, after = objects(old.get("properties")), objects(new.get("properties"))
    needed, wanted = set(old.get("required", ())), set(new.get("required", ()))
    told = False
    for argument in sorted(before | after):
        told = True
        if argument not in before:
            what = "wants" if argument in wanted else "takes"
            yield Change(name, "arguments", f"{what} {argument}", breaking=argument in wanted)
        elif argument not in after:
            yield Change(name, "arguments", f"takes no {argument} any more", breaking=True)
        elif argument in wanted - needed:
            yield Change(name, "arguments", f"wants {argument}, which could be left out", breaking=True)
        elif argument in needed - wanted:
            yield Change(name, "arguments", f"{argument} may be left out")
        elif _bare(before[argument]) != _bare(after[argument]):
            yield Change(name, "arguments", f"{argument} is something else", breaking=True)
        elif before[argument] != after[argument]:
            yield Change(name, "described", f"{argument} is described otherwise")
        else:
            told = False
    if not told and objects(old.get("$defs")) != objects(new.get("$defs")):
        yield Change(name, "arguments", "what arguments consist of is something else", breaking=True)


def _bare(schema: Any) -> Json:
    return {
        key: value
        for key, value in objects(schema).items()
        if key not in ("description", "title", "examples")
    }


def _place(tool: OpenAPITool) -> str:
    return f"{tool.endpoint.operation.method.upper()} {tool.endpoint.operation.path}"


def _cut(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:79]}…")
