"""The same specifications through FastMCP's ``from_openapi``, in an environment of its own: what it makes of each, how fast.

Each is tried in a process of its own that is killed after some time, since some never come to an end. Speaks to nobody
of ours: imports nothing of Reprise.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import sys
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
LONGEST = 120.0
"""Seconds after which one is given up."""


def tried(path: str, answer: Any) -> None:
    """Send what became of one specification."""
    import httpx2  # noqa: PLC0415 - of the environment of FastMCP
    import yaml  # noqa: PLC0415
    from fastmcp import FastMCP  # noqa: PLC0415 # pyright: ignore[reportMissingImports]

    try:
        text = Path(path).read_text()
        document = json.loads(text) if path.endswith(".json") else yaml.load(text, yaml.CSafeLoader)
    except (ValueError, yaml.YAMLError) as error:
        answer.send({"refused": f"cannot be read: {error}"[:200]})
        return
    paths = document.get("paths") or {}
    operations = sum(
        method in item for item in paths.values() if isinstance(item, dict) for method in METHODS
    )
    began = perf_counter()
    try:
        server = FastMCP.from_openapi(document, client=httpx2.AsyncClient(base_url="https://api.example.com"))
        tools = asyncio.run(server.list_tools())
    except Exception as error:  # noqa: BLE001 - that is what is measured
        answer.send({"operations": operations, "refused": f"{type(error).__name__}: {error}"[:200]})
        return
    answer.send({"operations": operations, "tools": len(tools), "ready": perf_counter() - began})


def main(paths: list[str]) -> None:
    """Try the files whose paths are given, or come line by line; print JSON for each, and a summary."""
    import fastmcp  # noqa: F401, PLC0415 # pyright: ignore[reportMissingImports]  once: children are forked

    found: list[dict[str, Any]] = []
    for path in paths or [line.strip() for line in sys.stdin]:
        here, there = multiprocessing.get_context("fork").Pipe()
        child = multiprocessing.get_context("fork").Process(target=tried, args=(path, there))
        child.start()
        there.close()
        try:
            about = here.recv() if here.poll(LONGEST) else {"refused": f"no end after {LONGEST:g} s"}
        except EOFError:
            about = {"refused": "its process died"}
        child.kill()
        child.join()
        found.append({"file": path, **about})
        print(json.dumps(found[-1]), flush=True)
    accepted = [each for each in found if "refused" not in each]
    operations = sum(each.get("operations", 0) for each in found)
    print(f"{len(found)} specifications, {len(found) - len(accepted)} refused")
    print(f"{operations:,} operations, {sum(each['operations'] for each in accepted):,} in what it accepts;")
    print(f"{sum(each['tools'] for each in accepted):,} tools")
    if accepted:
        worst = max(accepted, key=lambda each: each["ready"])
        print(f"until ready: median {1000 * median(each['ready'] for each in accepted):.1f} ms,", end=" ")
        print(f"worst {worst['ready']:.1f} s ({worst['file']})")


if __name__ == "__main__":
    main(sys.argv[1:])
