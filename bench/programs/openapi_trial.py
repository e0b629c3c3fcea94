"""Every specification of a folder made into tools, and some requests of each judged by openapi-core.

For each is written: how many operations it has and how many became tools, how long it took until they were ready and until
all their schemas were made, and of how many requests openapi-core says that they are what the specification describes. What
it objects to is printed, to be looked at: it does not read objects in forms that are exploded, numbers in enumerations of
texts, discriminators without a mapping, and templates with a query.
"""

from __future__ import annotations

import json
import random
import sys
import warnings
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Iterator
from os import urandom
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any

import msgspec
from tests.apis import SERVER, NoSample, Oracle, sample

from reprise import ConfigurationError, ToolContext, ToolError
from reprise.kernel.clock import SystemClock
from reprise.tools.openapi.bodies import kind_of
from reprise.tools.openapi.parser import OpenAPIParser, OpenAPITool

METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace", "query")
LARGEST_PROVED = 8 << 20
"""Bytes of specifications of which requests are judged: openapi-core takes minutes for larger ones."""


def main() -> int:
    """Try all; return 1 where something did not end in tools or a report, or operations do not become tools."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument(
        "--requests", type=int, default=3, help="operations of each whose requests are judged"
    )
    parser.add_argument("--json", type=Path, help="where to write what was found")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    found = [tried(path, given.requests) for path in specifications(given.folders)]
    if given.json:
        given.json.write_text(json.dumps(found))
    return show(found)


def specifications(folders: list[Path]) -> Iterator[Path]:
    """Yield the files that may be specifications, in a fixed order."""
    for folder in folders:
        for path in sorted([*folder.rglob("*.json"), *folder.rglob("*.yaml"), *folder.rglob("*.yml")]):
            head = path.read_bytes()[:200_000]
            if (b"openapi" in head or b"swagger" in head) and path.name not in (
                "package.json",
                "tsconfig.json",
            ):
                yield path


def tried(path: Path, requests: int) -> dict[str, Any]:
    """Return what became of one specification."""
    about: dict[str, Any] = {"file": str(path), "bytes": path.stat().st_size}
    parser = OpenAPIParser()
    began, used = perf_counter(), process_time()
    try:
        spec = parser.parse_spec(path)
        tools = parser.extract_tools(spec, deprecated=True)
    except (ConfigurationError, ToolError) as error:
        return {**about, "refused": str(error)[:300]}
    about |= {"ready": perf_counter() - began, "ready_cpu": process_time() - used, "version": spec.version}
    about |= {"operations": _count(spec.documents.root), "tools": len(tools), **parser.report.counts}
    about["failures"] = [str(each) for each in parser.report.operations if each.outcome == "failed"]
    for tool in tools:
        _ = tool.parameters
    about |= {"schemas": perf_counter() - began, "schemas_cpu": process_time() - used}
    if about["bytes"] <= LARGEST_PROVED and tools:
        about["proof"] = dict(_proved(spec.documents.root, tools, requests, about))
    return about


def _count(document: dict[str, Any]) -> int:
    paths = document.get("paths") or {}
    return sum(method in item for item in paths.values() if isinstance(item, dict) for method in METHODS)


def _proved(
    document: dict[str, Any], tools: list[OpenAPITool], requests: int, about: dict[str, Any]
) -> Counter[str]:
    """Return what openapi-core says of requests of some of the tools, with and without what is not required."""
    plain = _plain(document)
    chosen = random.Random(about["file"]).sample(tools, min(requests, len(tools)))  # noqa: S311 - the same each time
    context = ToolContext("trial", SystemClock(), urandom)
    made = {tool.name: tool for tool in OpenAPIParser().extract_tools(plain, deprecated=True)}
    try:
        oracle = Oracle(plain)
    except Exception as error:  # noqa: BLE001 - whatever it cannot read
        return Counter({f"openapi-core cannot read it ({type(error).__name__})": 1})
    outcomes: Counter[str] = Counter()
    for tool in (made[each.name] for each in chosen if each.name in made):
        for rich in (True, False):
            outcome, what = _judged(tool, oracle, context, rich=rich)
            outcomes[outcome] += 1
            if outcome == "objected to":
                about.setdefault("objections", []).append(f"{tool.name}: {what}"[:700])
    return outcomes


def _judged(tool: OpenAPITool, oracle: Oracle, context: ToolContext, *, rich: bool) -> tuple[str, str]:
    body = tool.endpoint.operation.body
    if body is not None and kind_of(body.media) in ("text", "bytes", "multipart"):
        return "not judged: body that is no JSON and no form", ""
    try:
        arguments = msgspec.json.encode(sample(tool.parameters, rich))
        request = tool.endpoint.prepare(tool.signature.read(arguments), context)
    except (NoSample, ToolError, RecursionError):
        return "not judged: no arguments were found that fit", ""
    try:
        faults = oracle.faults(request, tool.endpoint.operation.path)
    except Exception as error:  # noqa: BLE001 - such as a pattern that it cannot read
        return f"not judged: openapi-core fails ({type(error).__name__})", ""
    return ("objected to", f"{request.method} {request.whole_url} {faults[0]}") if faults else ("right", "")


def _plain(node: Any) -> Any:
    """Return a document with one server and no security, and without defaults, which openapi-core checks like arguments."""
    document = {key: value for key, value in _without(node).items() if key != "security"}
    document["servers"] = [{"url": SERVER}]
    for item in document.get("paths", {}).values():
        if isinstance(item, dict):
            item.pop("servers", None)
            for operation in item.values():
                if isinstance(operation, dict):
                    operation.pop("servers", None)
                    operation.pop("security", None)
    return document


def _without(node: Any, *, named: bool = False) -> Any:
    if isinstance(node, dict):
        return {
            key: _without(value, named=key == "properties" and not named)
            for key, value in node.items()
            if named or key != "default" or (isinstance(value, dict) and "description" in value)
        }
    return [_without(each) for each in node] if isinstance(node, list) else node


# ---------------------------------------------------------------- showing


def show(found: list[dict[str, Any]]) -> int:
    """Print what was found; return 1 where fewer than 99.9 % of the operations became tools."""
    read = [each for each in found if "refused" not in each]
    operations, tools = sum(each["operations"] for each in read), sum(each["tools"] for each in read)
    proof: Counter[str] = Counter()
    for each in read:
        proof.update(each.get("proof", {}))
        for what in each.get("objections", []):
            print(f"{each['file']}: {what}")
        for what in each["failures"]:
            print(f"{each['file']}: {what}")
    for each in found:
        if "refused" in each:
            print(f"{each['file']}: {each['refused']}")
    print(
        f"\n{len(found):,} specifications, {len(found) - len(read)} refused; {operations:,} operations, {tools:,} tools"
    )
    print(f"{sum(each['failed'] for each in read)} operations reported as failed")
    for outcome, number in proof.most_common():
        print(f"  {number:7,} requests {outcome}")
    for part in ("ready", "schemas"):
        worst = max(read, key=lambda each: each[f"{part}_cpu"])
        times = [each[part] for each in read]
        print(
            f"until {part}: median {1000 * median(times):.1f} ms, worst {worst[part]:.2f} s"
            f" ({worst[f'{part}_cpu']:.2f} s of the processor: {worst['bytes'] >> 20} MB, {Path(worst['file']).name})"
        )
    return int(tools < 0.999 * operations)


if __name__ == "__main__":
    sys.exit(main())
