"""How long a large specification takes until its tools are there, what one costs when it is first looked at, and a call.

The specification has 1,000 operations and 10 MB of JSON; each operation has parameters, a body and an answer of its own, and
schemas that refer to each other. As YAML the time of reading it comes on top.
"""

from __future__ import annotations

import asyncio
from statistics import median
from time import perf_counter
from typing import Any

import httpx2
import msgspec
import yaml

from bench.measure.report import Floors, figure, table
from reprise import NetworkAccess, OpenAPIParser, ToolRegistry

OPERATIONS, BYTES = 1_000, 10 << 20
READY_S, YAML_S, CALL_US = 3.0, 30.0, 2_000.0


def main(*, once: bool) -> bool:
    """Print the table; return whether the floors were kept."""
    floors, tries = Floors(), 1 if once else 5
    document = specification(OPERATIONS // (10 if once else 1), BYTES // (10 if once else 1))
    data = msgspec.json.encode(document).decode()
    ready, first, every = zip(*(_ready(data, "json") for _ in range(tries)), strict=True)
    as_yaml = _ready(_as_yaml(document), "yaml")[0]
    call = asyncio.run(_call(data, 20 if once else 500))
    rows = [
        (f"{len(data) / (1 << 20):.1f} MB of JSON, registered", figure(1000 * median(ready), 0)),
        ("the same as YAML", figure(1000 * as_yaml, 0)),
        ("schemas of the first tool", figure(1000 * median(first), 2)),
        ("schemas of all tools", figure(1000 * median(every), 0)),
        ("a call: checked, built, sent to nobody, answer checked", figure(call / 1000, 3)),
    ]
    table((f"{len(document['paths'])} operations", "ms"), rows)
    floors.most("1,000 operations of 10 MB JSON are ready", median(ready), READY_S, 1, unit="s")
    floors.most("the same as YAML", as_yaml, YAML_S, 1, unit="s")
    floors.most("a call of an operation without the network", call, CALL_US, 0, unit="us")
    floors.print()
    return once or floors.kept


def specification(operations: int, size: int) -> dict[str, Any]:
    """Return a document of a number of operations that is about so large."""
    text = "What it is for. " * (size // operations // 16 // 12)
    schemas: dict[str, Any] = {}
    paths: dict[str, Any] = {}
    for at in range(operations):
        schemas[f"Thing{at}"] = {
            "type": "object",
            "required": ["name"],
            "properties": {
                "name": {"type": "string", "description": text},
                "next": {"$ref": f"#/components/schemas/Thing{(at + 1) % operations if at % 10 else at}"},
                **{f"field{n}": {"type": "integer", "minimum": n, "description": text} for n in range(8)},
            },
        }
        schema = {"$ref": f"#/components/schemas/Thing{at}"}
        paths[f"/things{at}/{{id}}"] = {
            "put": {
                "operationId": f"putThing{at}",
                "summary": f"Put thing {at}.",
                "description": text,
                "parameters": [
                    {"name": "id", "in": "path", "required": True, "schema": {"type": "integer"}},
                    {"name": "tags", "in": "query", "schema": {"type": "array", "items": {"type": "string"}}},
                ],
                "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
                "responses": {
                    "200": {"description": text, "content": {"application/json": {"schema": schema}}}
                },
            }
        }
    return {
        "openapi": "3.1.0",
        "info": {"title": "Things", "version": "1"},
        "servers": [{"url": "https://api.example.com"}],
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _ready(text: str, format: Any) -> tuple[float, float, float]:
    """Return the seconds until tools are registered, and until schemas of the first and of all are made."""
    began = perf_counter()
    registry = ToolRegistry()
    OpenAPIParser().register_tools_from_spec(text, registry, format=format)
    ready = perf_counter() - began
    began = perf_counter()
    names = list(registry)
    _ = registry[names[0]].parameters
    first = perf_counter() - began
    for name in names:
        _ = registry[name].parameters
    return ready, first, perf_counter() - began


def _as_yaml(document: dict[str, Any]) -> str:
    return yaml.dump(document, Dumper=yaml.CSafeDumper, sort_keys=False)


async def _call(text: str, calls: int) -> float:
    """Return the microseconds of a call."""
    answer = msgspec.json.encode({"name": "a", "field3": 7})

    def answers(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, content=answer, headers={"content-type": "application/json"})

    registry = ToolRegistry()
    registry.provide(NetworkAccess(transport=httpx2.MockTransport(answers), rate=None))
    OpenAPIParser().register_tools_from_spec(text, registry)
    given = {"id": 7, "tags": ["a", "b"], "body": {"name": "a", "next": {"name": "b"}, "field1": 3}}
    times: list[float] = []
    for _ in range(calls):
        began = perf_counter()
        await registry.execute_tool("put_thing0", given)
        times.append(perf_counter() - began)
    return median(times) * 1e6
