"""What no tracked file may hold, and what every lock must."""

import re
import subprocess
import tomllib
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Spelled in pieces, so that this file passes its own test.
FORBIDDEN = {
    "a package registry's host": r"\b(pypi\.(org|python)|files\.python"
    r"hosted|registry\.(npm|yarn)|deb\.(debian|nodesource))",
    "a path of one machine": r"(?<![\w.$}~/-])/(root|work|home|Users)/\w",
    "something left to do": r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b",
    "a debugger": r"\b(break" r"point\(\)|pdb\.set_" r"trace)",
    "a merge": r"^(<{7}|>{7}) ",
}


SUBJECT = {"something left to do": "examples/codebase_review/"}
"""Whose subject such words are: the main job counts them."""


def tracked() -> list[str]:
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    )
    return [name for name in listing.stdout.split("\0") if name and (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    found = {}
    for name in tracked():
        raw = (ROOT / name).read_bytes()
        if b"\0" not in raw[:8000]:
            found[name] = raw.decode()
    return found


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_holds(what, texts):
    hits = [
        f"{name}:{number}: {line.strip()[:120]}"
        for name, text in texts.items()
        for number, line in enumerate(text.splitlines(), 1)
        if re.search(FORBIDDEN[what], line) and not name.startswith(SUBJECT.get(what, "\0"))
    ]
    assert not hits


def test_no_lock_of_another_tool_is_tracked():
    assert not {"uv.lock", "poetry.lock", "Pipfile.lock", "pdm.lock"} & {
        Path(name).name for name in tracked()
    }


def test_no_folder_or_module_is_named_for_nothing():
    vague = {"utils", "util", "common", "helpers", "base", "core", "models", "compat", "misc"}
    assert not [name for name in tracked() if vague & set(Path(name).with_suffix("").parts)]


# ---------------------------------------------------------------- locks


def locked(name: str) -> dict[str, str]:
    """Return what a lock pins, each with its hashes."""
    text = (ROOT / f"requirements/{name}.lock").read_text()
    entries = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    return {entry.partition("==")[0]: entry for entry in entries}


def version(entry: str) -> str:
    return re.match(r"\S+==(\S+)", entry)[1]


def extras(project: dict) -> list[str]:
    return list(chain.from_iterable(project["project"]["optional-dependencies"].values()))


@pytest.mark.parametrize("name", ["run", "test", "dev", "peers", "peers-older"])
def test_lock_pins_everything_by_hash_and_names_no_address(name):
    entries = locked(name)
    assert entries
    for package, entry in entries.items():
        assert version(entry), package
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), package
        assert not re.search(r"://|--(index|extra|find|trusted)", entry), package


@pytest.mark.parametrize("name", ["run", "test"])
def test_locks_of_one_environment_agree(name):
    dev = locked("dev")
    assert {package: version(entry) for package, entry in locked(name).items()}.items() <= {
        package: version(entry) for package, entry in dev.items()
    }.items()


def named(group: list[object]) -> list[str]:
    """Return the packages of a dependency group without those of the groups it includes."""
    return [entry for entry in group if isinstance(entry, str)]


def test_locks_hold_what_the_project_asks_for():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = project["dependency-groups"]
    asked = {
        "run": project["project"]["dependencies"] + groups["build"] + groups["review"],
        "test": named(groups["test"]) + extras(project),
        "dev": named(groups["dev"]),
        "peers": groups["peers"],
        "peers-older": groups["peers-older"],
    }
    for name, requirements in asked.items():
        wanted = {re.match(r"[\w-]+", requirement)[0] for requirement in requirements}
        assert wanted <= set(locked(name)), (
            f"run `make lock`: requirements/{name}.lock is behind pyproject.toml"
        )


def test_what_users_install_has_upper_bounds():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    requirements = project["project"]["dependencies"] + extras(project)
    assert all("<" in requirement for requirement in requirements)


@pytest.mark.parametrize("folder", ["sqlite/sql", "postgres/sql/migrations"])
def test_migrations_are_numbered_without_a_gap_or_a_double(folder):
    numbers = [
        int(path.name[:4]) for path in sorted((ROOT / "src" / "reprise" / "stores" / folder).glob("0*.sql"))
    ]
    assert numbers == list(range(1, len(numbers) + 1))
