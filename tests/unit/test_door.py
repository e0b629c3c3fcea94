"""The door: which names it offers, and how little it loads to do so."""

import ast
import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import pytest

import reprise

SURFACE = Path(__file__).with_name("surface.txt")


def test_exported_names_are_the_recorded_ones():
    recorded = SURFACE.read_text().split()
    assert recorded == sorted(recorded)
    assert sorted(reprise.__all__) == recorded, (
        f"the public surface changed: write it to {SURFACE.name} and name it in CHANGELOG.md"
    )


def test_type_checkers_see_what_the_table_says():
    tree = ast.parse(Path(reprise.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {
        name.asname: statement.module
        for statement in block.body
        if isinstance(statement, ast.ImportFrom)
        for name in statement.names
        if name.name == name.asname
    }
    assert seen == reprise._EXPORTS


@pytest.mark.parametrize("name", reprise.__all__)
def test_exported_name_stands_where_the_table_says_and_is_explained(name):
    value = getattr(reprise, name)
    assert value is getattr(import_module(reprise._EXPORTS[name]), name)
    if callable(value):
        assert value.__module__ == reprise._EXPORTS[name]
        assert value.__doc__


def test_no_exported_name_hides_a_room():
    rooms = {path.name for path in Path(reprise.__file__).parent.iterdir() if path.is_dir()}
    assert not rooms & set(reprise.__all__)


def test_unknown_name_is_an_error_that_offers_the_nearest():
    with pytest.raises(AttributeError, match="no attribute 'RunFaild'") as caught:
        reprise.RunFaild  # noqa: B018 (looking it up is the test)
    assert (caught.value.name, caught.value.obj) == ("RunFaild", reprise)


def test_names_are_listed_before_they_are_loaded():
    assert {"RunFailed", "__version__"} <= set(dir(reprise))


# ---------------------------------------------------------------- what is loaded

DRIVERS = {"asyncpg", "psycopg", "redis", "uvloop"}
SCREEN = {"rich", "typer", "pygments", "markdown_it"}
LOOP = {"asyncio", "concurrent.futures", "multiprocessing", "socket", "ssl", "subprocess", "threading"}
STORES = {"sqlite3", "apsw"}


class Load(NamedTuple):
    """After `code`, nothing of `never` is loaded, and of this package only `own` (None = whatever it needs)."""

    code: str
    never: set[str]
    own: set[str] | None = None


LOADS = [
    Load(
        "import reprise",
        DRIVERS
        | SCREEN
        | LOOP
        | STORES
        | {"msgspec", "typing", "re", "inspect", "dataclasses", "json", "logging"},
        own={"reprise"},
    ),
    Load(
        "import reprise; reprise.RunFailed",
        DRIVERS | SCREEN | LOOP | STORES | {"msgspec", "typing", "re", "inspect"},
        own={"reprise", "reprise.kernel", "reprise.kernel.errors"},
    ),
    Load(
        "import reprise.kernel.clock, reprise.kernel.events, reprise.kernel.ids",
        DRIVERS | SCREEN | LOOP | STORES,
    ),
    Load("import reprise.stores.store", DRIVERS | SCREEN | STORES),
    Load(
        # What a worker loads to begin: to be back soon after a kill is part of what it promises.
        "import reprise.app.reprise",
        {"importlib.metadata", "zipfile", "tarfile", "reprise.stores.moving", "asyncpg", "yaml", "redis"},
    ),
    Load(
        "import sys; sys.argv = ['reprise', '--help']; from reprise.cli.main import main; main()",
        DRIVERS | STORES | {"asyncio", "concurrent.futures", "multiprocessing", "ssl", "msgspec", "pydantic"},
        own={"reprise", "reprise.cli", "reprise.cli.main"},
    ),
    Load(
        "from reprise.cli.completing import main; main(['bash', 'reprise ps workflow:'])",
        DRIVERS | SCREEN | LOOP | {"msgspec", "reprise.stores.sqlite.store", "reprise.cli.main"},
    ),
    Load(
        "import reprise.cli.look",
        DRIVERS | STORES | {"pydantic", "reprise.runtime.engine", "reprise.cli.run"},
    ),
]


def loaded_by(code: str) -> set[str]:
    """Return the modules that a fresh interpreter loads for `code`, beyond those it starts with."""
    script = (
        "import sys; before = set(sys.modules)\n"
        f"try:\n    exec({code!r})\n"
        "except SystemExit: pass\n"
        "after = set(sys.modules)\n"
        "import json; json.dump(sorted(after - before), sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(done.stderr))


@pytest.mark.parametrize("load", LOADS, ids=lambda load: load.code)
def test_what_is_not_loaded(load):
    loaded = loaded_by(load.code)
    tops = loaded | {name.partition(".")[0] for name in loaded}
    assert not tops & load.never
    if load.own is not None:
        assert {name for name in loaded if name.partition(".")[0] == "reprise"} == load.own


def test_the_door_itself_loads_next_to_nothing():
    assert {name.partition(".")[0] for name in loaded_by("import reprise")} <= {
        "reprise",
        "importlib",
        "_imp",
        "warnings",
    }
