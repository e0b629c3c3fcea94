"""Ask git without letting the reviewed repository run anything, change anything or reach a network."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

_HARMLESS = (
    "--no-pager",
    "-c", "core.fsmonitor=false",  # else a program named by the repository's own configuration is started
    "-c", "core.hooksPath=" + os.devnull,
    "-c", "log.showSignature=false",  # starts gpg
    "-c", "protocol.allow=never",  # a partial clone would fetch what it lacks
    "-c", "core.quotePath=false",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Answer:
    """What git printed, or why it did not."""

    out: bytes
    problem: str


def ask(folder: Path, *words: str, seconds: float = 30) -> Answer:
    """Run ``git words…`` in a folder, reading only; never raises for what git or the repository does."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment |= {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    try:
        done = subprocess.run(
            ["git", *_HARMLESS, *words],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            check=False,
        )
    except FileNotFoundError:
        return Answer(b"", "git is not installed")
    except subprocess.TimeoutExpired:
        return Answer(b"", f"git {words[0]} took longer than {seconds:g} s")
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        return Answer(b"", lines[0] if lines else f"git {words[0]} ended with {done.returncode}")
    return Answer(done.stdout, "")
