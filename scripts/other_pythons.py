"""Run the replay corpus on every other Python that this machine offers, one environment for each.

History must replay the same on all of them; the rest of the tests runs on one. Interpreters are looked for on the
PATH and among those of pyenv.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

OLDEST = (3, 11)
NEWEST_NAMED = 20
"""Names python3.11 … python3.<this> are looked for on the PATH."""


def candidates() -> Iterator[Path]:
    """Yield where interpreters may be."""
    folders = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep) if folder]
    for minor in range(OLDEST[1], NEWEST_NAMED + 1):
        yield from (folder / f"python3.{minor}" for folder in folders)
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    yield from sorted(pyenv.glob("versions/*/bin/python"), reverse=True)


def version_of(python: Path) -> tuple[int, int] | None:
    """Ask an interpreter for its version; None when it is not there, does not start or is not CPython."""
    if not python.exists():
        return None
    question = "import sys, venv, ensurepip; print(sys.implementation.name, *sys.version_info[:2])"
    answer = subprocess.run([python, "-c", question], capture_output=True, text=True, check=False)
    name, *version = answer.stdout.split() or ["none"]
    return (int(version[0]), int(version[1])) if answer.returncode == 0 and name == "cpython" else None


def others() -> dict[tuple[int, int], Path]:
    """Return one interpreter for each version that is new enough and not the one running."""
    found: dict[tuple[int, int], Path] = {}
    for python in candidates():
        version = version_of(python)
        if version and version >= OLDEST and version != sys.version_info[:2]:
            found.setdefault(version, python)
    return dict(sorted(found.items()))


def main(arguments: list[str]) -> int:
    """Install and test with each; pass the arguments on to pytest; return the worst exit code."""
    found = others()
    if not found:
        print(f"no other Python than {sys.version.split()[0]} here: nothing more to run")
    worst = 0
    for version, python in found.items():
        name = ".".join(map(str, version))
        print(f"\n== replay on Python {name} ({python})", flush=True)
        venv = f".venv-{name}"
        status = subprocess.run(
            ["make", f"VENV={venv}", f"PYTHON={python}", "install-test"], check=False
        ).returncode
        if status == 0:
            command = [f"{venv}/bin/python", "-m", "pytest", "-m", "replay", *arguments]
            status = subprocess.run(command, check=False).returncode
        worst = max(worst, status)
    return worst


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
