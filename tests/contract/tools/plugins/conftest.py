"""Folders of plugins, made as a test needs them."""

import json
from contextlib import suppress

import pytest

from reprise import ConfigurationError, PluginManager, ToolRegistry, create_builtin_tools_library

TOOL = """
from reprise import tool

@tool(effects="pure")
def {name}(n: int) -> int:
    "Double a number."
    return 2 * n
"""


class Place:
    """A folder of plugins, and who looks after it."""

    def __init__(self, folder):
        self.folder = folder
        self.plugins = folder / "plugins"
        self.plugins.mkdir()
        self.registry = ToolRegistry(create_builtin_tools_library())
        self.managers = []

    def make(self, name="weather", code=None, *, folder="", inside=None, **manifest):
        """Write a plugin; what is None of its manifest is left out."""
        place = (inside or self.plugins) / (folder or name)
        place.mkdir(parents=True)
        said = {"name": name, "version": "1.0", "api_version": "1.0", **manifest}
        (place / "plugin.json").write_text(json.dumps({k: v for k, v in said.items() if v is not None}))
        code = TOOL.format(name=name.replace("-", "_")) if code is None else code
        for file, text in (code if isinstance(code, dict) else {"__init__.py": code}).items():
            (place / file).parent.mkdir(parents=True, exist_ok=True)
            (place / file).write_text(text)
        return place

    def manager(self, *more, **options):
        """Return a manager as a program that begins anew would have it."""
        options = {"trust_store": self.folder / "trust.json", "packages": False, "patience": 20} | options
        made = PluginManager([self.plugins, *more], options.pop("registry", self.registry), **options)
        self.managers.append(made)
        return made


@pytest.fixture
def place(tmp_path):
    made = Place(tmp_path)
    yield made
    for manager in made.managers:
        for row in manager.list_plugins():
            with suppress(ConfigurationError):
                manager.uninstall(row["name"])
        manager.close()


def row_of(manager, name="weather"):
    return next(row for row in manager.list_plugins() if row["name"] == name)


MARK = "import pathlib; pathlib.Path({mark!r}).touch()\n" + TOOL.format(name="weather")
"""Says that it was executed."""


@pytest.fixture
def mark(place):
    return place.folder / "executed"


def marking(mark):
    return MARK.format(mark=str(mark))


def refused(manager, name="weather", *statuses):
    """Check that nothing of a plugin is active; return the reasons."""
    manager.discover_plugins()
    assert not manager.install_plugin(name)
    rows = manager.list_plugins()
    assert all(row["status"] in (statuses or ("failed",)) for row in rows), rows
    assert all(row["reason"].isprintable() for row in rows)
    return "; ".join(row["reason"] for row in rows)
