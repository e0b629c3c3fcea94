"""Plugins: found, trusted, loaded, made known, and away again; one that is broken stops nobody."""

import asyncio
import json
import logging
import sys
import textwrap
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from tests.contract.tools.plugins.conftest import TOOL, row_of

from reprise import ConfigurationError, PluginManager, ToolError, ToolRegistry, create_builtin_tools_library
from reprise.runtime import extensions
from reprise.tools.plugins.folder import Folder, read_folder
from reprise.tools.plugins.importing import Importer


def call(registry, name, **arguments):
    return asyncio.run(registry.execute_tool(name, arguments))


# ---------------------------------------------------------------- the documents' example

EXAMPLE = """
from reprise import PluginManager
from pathlib import Path

manager = PluginManager(
    plugin_dirs=[Path("./plugins")],
    registry=registry,
    auto_activate=True
)

# Discover plugins
discovered = manager.discover_plugins()

# Install plugin
success = manager.install_plugin("weather_tools")

# List all plugins
plugins = manager.list_plugins()
for plugin in plugins:
    print(f"{plugin['name']}: {plugin['status']}")
"""


def test_the_example_of_the_documents(place, monkeypatch, capsys):
    monkeypatch.chdir(place.folder)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(place.folder / "config"))
    place.make("weather_tools", folder="weather")
    names = {"registry": place.registry}
    exec(textwrap.dedent(EXAMPLE), names)
    assert names["discovered"] == ["weather_tools"]
    assert names["success"] is True
    assert capsys.readouterr().out == "weather_tools: active\n"
    assert call(place.registry, "weather_tools", n=4) == 8
    assert (place.folder / "config" / "reprise" / "plugins.json").exists()
    names["manager"].uninstall("weather_tools")


# ---------------------------------------------------------------- a life


def loaded_since(before):
    """Return the modules of plugins that were imported meanwhile."""
    return [name for name in sys.modules.keys() - before if "_reprise_plugin_" in name]


def test_a_plugin_comes_and_goes(place):
    folder, before = place.make(), set(sys.modules)
    manager = place.manager()
    assert manager.discover_plugins() == ["weather"]
    assert row_of(manager)["status"] == "trusted"
    assert not loaded_since(before)
    assert manager.install_plugin("weather")
    assert loaded_since(before)
    assert row_of(manager)["tools"] == ["weather"]
    assert manager.install_plugin("weather"), "once more does no harm"
    assert manager.deactivate("weather")
    assert "weather" not in place.registry
    assert row_of(manager)["status"] == "installed"
    assert not manager.deactivate("weather")
    assert manager.activate("weather")
    assert call(place.registry, "weather", n=2) == 4
    assert manager.uninstall("weather")
    assert "weather" not in place.registry
    assert not loaded_since(before)
    assert manager.list_plugins() == []
    assert json.loads((place.folder / "trust.json").read_text())["trusted"][str(place.plugins)] == {}
    assert (folder / "__init__.py").exists(), "the folder is its owner's"
    assert manager.uninstall("weather", files=True)
    assert not folder.exists()


def test_without_activation_it_is_trusted_by_hand_and_only_loaded(place):
    place.make()
    manager = place.manager(auto_activate=False)
    assert not manager.install_plugin("weather")
    assert row_of(manager)["status"] == "untrusted"
    manager.trust("weather")
    assert manager.install_plugin("weather")
    assert (row_of(manager)["status"], "weather" in place.registry) == ("installed", False)
    assert manager.activate("weather")
    assert "weather" in place.registry


def test_what_there_is_not_is_said_with_what_was_meant(place):
    place.make()
    manager = place.manager()
    assert not manager.install_plugin("wether")
    assert row_of(manager, "wether")["reason"] == "There is no plugin 'wether'. Did you mean 'weather'?"
    assert not manager.activate("nothing")
    manager.discover_plugins()
    assert [row["name"] for row in manager.list_plugins()] == ["weather"]


def test_register_is_given_what_takes_tools_and_calls_ours(place):
    place.make(code="""
        from reprise import tool
        from . import parts
        ours = None
        def register(registry):
            global ours
            ours = registry
            registry.register_tool(later)
            registry.register_tool(later_too, lambda arguments, context: arguments["days"] * 2)
        @tool(effects="pure")
        async def later(days: int) -> str:
            "Say which day it is then."
            found = await ours.execute_tool("time_add", {"value": "2026-11-22", "days": days})
            return parts.day_of(found)
        @tool(effects="pure")
        def later_too(days: int) -> int:
            "Nobody calls this."
            raise AssertionError
    """.replace("\n        ", "\n"))  # fmt: skip
    (place.plugins / "weather" / "parts.py").write_text("def day_of(found): return found['date']")
    manager = place.manager()
    assert manager.install_plugin("weather"), row_of(manager)["reason"]
    assert call(place.registry, "later", days=2) == "2026-11-24"
    assert call(place.registry, "later_too", days=2) == 4


def test_modules_have_names_of_their_own_and_files_are_resources(place, tmp_path):
    code = {
        "__init__.py": """
import json as ours
from importlib.resources import files
from pkgutil import get_data
from pathlib import Path
from reprise import tool
from .deep.down import WORD
from . import json
@tool(effects="pure", name="{name}_words")
def words() -> list[str]:
    "Say words."
    part = files(__package__) / "data"
    there = sorted(each.name for each in part.iterdir())
    return [WORD, json.WORD, ours.dumps(1), part.joinpath("a.txt").read_text(), get_data(__package__, "data/a.txt").decode(), *there]
""",
        "deep/down.py": "from ..json import WORD as other\nWORD = 'down ' + other",
        "json.py": "WORD = '{name}'",
        "data/a.txt": "{name} data",
    }
    other = tmp_path / "others"
    for name, inside in (("first", place.plugins), ("second", other)):
        place.make(
            name, {k: v.replace("{name}", name) for k, v in code.items()}, folder="json", inside=inside
        )
    manager = place.manager(other)
    assert manager.install_all() == ["first", "second"], manager.list_plugins()
    for name in ("first", "second"):
        told = call(place.registry, f"{name}_words")
        assert told == [f"down {name}", name, "1", f"{name} data", f"{name} data", "a.txt"]
    assert sys.modules["json"] is json


def test_resources_are_those_of_the_plugin():
    importer = Importer("x", Folder({"a.txt": b"a", "b/c.txt": b"c"}), Path("/where"))
    there = importer.get_resource_reader(importer.package).files()
    assert [each.name for each in there.iterdir()] == ["a.txt", "b"]
    assert (there / "b" / "c.txt").read_bytes() == b"c"
    assert (there.is_dir(), (there / "a.txt").is_dir(), (there / "a.txt").is_file()) == (True, False, True)
    for way in ("../a.txt", "/etc/passwd", "b/../a.txt", "b", "none"):
        with pytest.raises(FileNotFoundError):
            (there / way).read_text()
        with pytest.raises(FileNotFoundError):
            importer.get_data(str(Path("/where") / way))


def test_an_error_in_a_plugin_says_its_line(place):
    place.make(code=TOOL.format(name="weather").replace("return 2 * n", "return 1 // n"))
    manager = place.manager()
    manager.install_plugin("weather")
    with pytest.raises(ToolError) as caught:
        call(place.registry, "weather", n=0)
    assert caught.value.code == "upstream"
    frame = caught.value.__cause__.__traceback__
    while frame.tb_next:
        frame = frame.tb_next
    assert frame.tb_frame.f_code.co_filename == str(place.plugins / "weather" / "__init__.py")


# ---------------------------------------------------------------- what is broken stops nobody

BROKEN = {
    "a syntax error": ("def", "SyntaxError"),
    "an exception": ("1/0", "ZeroDivisionError: division by zero"),
    "a missing module": ("import no_such_module", "No module named 'no_such_module'"),
    "leaving": ("import sys; sys.exit(4)", "SystemExit: 4"),
    "an interrupt": ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    "recursion": ("def f(): f()\nf()", "RecursionError"),
    "an import of itself": ("from . import x", "ImportError"),
    "a loop": ("while True: pass", "took longer than 0.5 s"),
    "waiting for ever": ("import threading; threading.Event().wait()", "took longer than 0.5 s"),
    "an error whose text fails": (
        "class E(Exception):\n def __str__(self): raise SystemExit\nraise E",
        "its text fails with SystemExit",
    ),
    "an error with a long text": ("raise ValueError('x' * 10**6 + '\\x1b[2J')", "ValueError: xxx"),
    "no tools": ("x = 1", "offers no tools"),
    "register that fails": ("def register(registry): raise OSError('no disk')", "OSError: no disk"),
    "register that waits": ("async def register(registry): pass", "register(registry) is async"),
    "register of nothing": ("def register(registry): registry.register_tool(42)", "registers 42"),
    "register that never returns": ("def register(registry):\n while True: pass", "took longer than 0.5 s"),
    "a tool of ours": ("from reprise.tools.library.times import time_now", "offers no tools"),
    "a type that has no schema": (
        TOOL.format(name="broken").replace("-> int", "-> object"),
        "no JSON schema",
    ),
    "a type that is not there": (
        TOOL.format(name="broken").replace("n: int", "n: 'Gone'"),
        "cannot be read: n",
    ),
    "what asyncio does not take": ("import asyncio; asyncio.run(None)", "ValueError"),
}


@pytest.mark.parametrize("isolation", ["direct", "process"])
@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_plugin_is_listed_as_failed_and_the_others_work(place, what, isolation):
    code, reason = BROKEN[what]
    place.make("broken", code, isolation=isolation)
    place.make("sound")
    patience = 0.5 if "took longer" in reason else 20
    manager = place.manager(patience=patience)
    assert manager.install_all() == ["sound"]
    row = row_of(manager, "broken")
    assert row["status"] == "failed"
    assert reason in row["reason"]
    assert len(row["reason"]) < 700
    assert row["reason"].isprintable()
    assert call(place.registry, "sound", n=1) == 2
    assert not [name for name in sys.modules if "broken" in name]


def test_a_process_that_ends_while_it_is_imported_is_said(place):
    place.make("broken", "import os; os._exit(3)", isolation="process")
    manager = place.manager()
    assert not manager.install_plugin("broken")
    assert "exit code 3" in row_of(manager, "broken")["reason"]


def test_what_was_mended_can_be_installed(place):
    folder = place.make(code="1/0")
    manager = place.manager()
    assert not manager.install_plugin("weather")
    (folder / "__init__.py").write_text(TOOL.format(name="weather"))
    assert not manager.install_plugin("weather")
    assert row_of(manager)["status"] == "untrusted"
    manager.trust("weather")
    assert manager.install_plugin("weather")


# ---------------------------------------------------------------- trust


def test_changed_files_are_named_and_asked_for_again(place):
    folder = place.make(code={"__init__.py": TOOL.format(name="weather"), "a.txt": "", "b.txt": ""})
    assert place.manager().install_all() == ["weather"]
    place.registry.unregister_tool("weather")
    (folder / "a.txt").write_text("x")
    (folder / "b.txt").unlink()
    (folder / "c.txt").write_text("y")
    manager = place.manager()
    assert manager.install_all() == []
    row = row_of(manager)
    assert row["status"] == "untrusted"
    assert "a.txt changed, c.txt is new, b.txt is gone" in row["reason"]
    assert "reprise plugins trust weather" in row["reason"]
    manager.trust("weather", digest=row["digest"])
    assert manager.install_all() == ["weather"]


def test_a_folder_that_a_file_names_is_not_trusted_by_itself(place):
    place.make()
    manager = place.manager(trust_new=False)
    assert manager.install_all() == []
    assert row_of(manager)["reason"].startswith("Nobody trusts it yet.")
    manager.trust("weather")
    assert place.manager(trust_new=False).install_all() == ["weather"]


def test_a_loaded_plugin_whose_files_change_goes_on_as_it_was(place):
    folder = place.make()
    manager = place.manager()
    manager.install_all()
    (folder / "__init__.py").write_text("1/0")
    manager.discover_plugins()
    assert (row_of(manager)["status"], call(place.registry, "weather", n=1)) == ("active", 2)
    assert row_of(manager)["reason"] == "its files are not those that were loaded"


def test_caches_are_no_part_of_a_plugin(place):
    folder = place.make()
    place.manager().install_all()
    place.registry.unregister_tool("weather")
    for name in ("__pycache__/x.pyc", ".pytest_cache/y", ".git/HEAD"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("z")
    assert place.manager().install_all() == ["weather"]


def test_a_record_that_cannot_be_read_trusts_nobody(place):
    place.make()
    (place.folder / "trust.json").write_text("{")
    manager = place.manager()
    assert manager.install_all() == []
    assert "cannot be read" in row_of(manager)["reason"]


def test_a_record_that_cannot_be_written_is_kept_in_mind(place, caplog):
    folder = place.make()
    (place.folder / "file").write_text("")
    with caplog.at_level(logging.WARNING):
        manager = place.manager(trust_store=place.folder / "file" / "trust.json")
        assert manager.discover_plugins() == ["weather"]
    assert "is trusted in this process only" in caplog.text
    (folder / "__init__.py").write_text("1/0")
    assert not manager.install_plugin("weather")
    assert "__init__.py changed" in row_of(manager)["reason"]


# ---------------------------------------------------------------- what plugins require


def test_plugins_that_are_required_are_installed_before(place):
    place.make("a", requires=["plugin:b>=1,<2", "msgspec>=0.1", "plugin:c"])
    place.make("b", requires=["plugin:c"])
    place.make("c")
    manager = place.manager()
    assert manager.install_plugin("a"), row_of(manager, "a")["reason"]
    assert {row["status"] for row in manager.list_plugins()} == {"active"}
    assert not manager.deactivate("c")
    assert row_of(manager, "c")["reason"] == "a, b requires it"
    assert not manager.uninstall("c")
    assert [manager.deactivate(name) for name in "abc"] == [True, True, True]


def test_what_is_missing_is_said_with_what_to_do(place):
    place.make("a", requires=["no-such-package>=2"])
    place.make("b", requires=["plugin:weathr"])
    place.make("weather", "1/0")
    place.make("c", requires=["plugin:weather"])
    manager = place.manager()
    assert manager.install_all() == []
    reasons = {row["name"]: row["reason"] for row in manager.list_plugins()}
    assert "pip install 'no-such-package>=2'" in reasons["a"]
    assert "did you mean 'weather'?" in reasons["b"]
    assert "which is failed: Importing it failed: ZeroDivisionError" in reasons["c"]


def test_without_packaging_names_are_enough_and_versions_are_not(place, monkeypatch):
    place.make("named", requires=["msgspec"])
    place.make("versioned", requires=["msgspec>=0.1"])
    for name in ("packaging", "packaging.specifiers", "packaging.version"):
        monkeypatch.setitem(sys.modules, name, None)
    manager = place.manager()
    assert manager.install_all() == ["named"]
    assert "pip install packaging" in row_of(manager, "versioned")["reason"]


# ---------------------------------------------------------------- installed packages


class Dist:
    name, version = "weather-pack", "2.1"


@pytest.fixture
def package(monkeypatch, tmp_path):
    """Let a package be installed that offers what a test says."""

    def install(code, **points):
        monkeypatch.syspath_prepend(tmp_path)
        (tmp_path / "weather_pack.py").write_text(code)
        monkeypatch.delitem(sys.modules, "weather_pack", raising=False)
        made = {}
        for kind, value in points.items():
            point = EntryPoint("one", value, f"reprise.{kind}")
            vars(point)["dist"] = Dist
            made[kind] = (point,)
        monkeypatch.setattr(extensions, "entry_points_of", lambda kind: made.get(kind, ()))
        monkeypatch.setattr(
            "reprise.tools.plugins.discovering.entry_points_of", lambda kind: made.get(kind, ())
        )

    return install


OFFERS = (
    TOOL.format(name="packed") + "several = [packed]\ndef fill(registry): registry.register_tool(packed)\n"
)


@pytest.mark.parametrize(
    "value", ["weather_pack", "weather_pack:packed", "weather_pack:several", "weather_pack:fill"]
)
def test_tools_of_an_installed_package(place, package, value):
    package(OFFERS, tools=value, agents="weather_pack:fill")
    manager = place.manager(packages=True)
    assert manager.discover_plugins() == ["weather-pack"]
    row = row_of(manager, "weather-pack")
    assert (row["version"], row["kind"], row["status"]) == ("2.1", "package", "found")
    assert row["offers"] == ["tools:one", "agents:one"]
    assert "weather_pack" not in sys.modules, "nothing is loaded before"
    assert manager.install_plugin("weather_pack"), row_of(manager, "weather-pack")["reason"]
    assert call(place.registry, "packed", n=3) == 6
    assert manager.uninstall("weather-pack")
    assert "packed" not in place.registry


@pytest.mark.parametrize(
    ("points", "reason"),
    [
        ({"tools": "weather_pack:gone"}, "no attribute 'gone'"),
        ({"tools": "weather_pack:number"}, "42 is no tool"),
        ({"tools": "weather_pack", "connectors": "weather_pack:gone"}, "no attribute 'gone'"),
        ({"integrations": "no_such_package"}, "No module named 'no_such_package'"),
    ],
)
def test_a_broken_package_is_listed_as_failed(place, package, points, reason):
    package(OFFERS + "number = 42\n", **points)
    manager = place.manager(packages=True)
    assert manager.install_all() == []
    assert reason in row_of(manager, "weather-pack")["reason"]
    assert "packed" not in place.registry


def test_connectors_and_integrations_are_loaded_when_asked_for(package):
    package(OFFERS, connectors="weather_pack:packed")
    manager = PluginManager()
    assert list(manager.connectors) == ["one"]
    assert (len(manager.connectors), len(manager.integrations)) == (1, 0)
    assert "weather_pack" not in sys.modules
    assert manager.connectors["one"].name == "packed"
    with pytest.raises(KeyError):
        manager.integrations["one"]


# ---------------------------------------------------------------- small things


def test_a_folder_that_is_not_there_or_cannot_be_read_stops_nobody(place, tmp_path):
    (tmp_path / "file").write_text("")
    manager = place.manager(tmp_path / "gone", tmp_path / "file")
    place.make()
    assert manager.install_all() == ["weather"]


def test_one_folder_instead_of_a_list_is_said(tmp_path):
    with pytest.raises(ConfigurationError, match="Give a list"):
        PluginManager(plugin_dirs=tmp_path)


def test_reading_is_bounded(place, monkeypatch):
    folder = place.make()
    monkeypatch.setattr("reprise.tools.plugins.folder.MOST_FILES", 3)
    assert len(read_folder(folder).files) == 2
    for n in range(3):
        (folder / f"{n}.txt").write_text("")
    manager = place.manager()
    assert manager.discover_plugins() == []
    assert "more than 3 files" in row_of(manager)["reason"]


def test_many_plugins_cost_little_to_look_for(place):
    for n in range(50):
        place.make(f"p{n}")
    assert len(place.manager().discover_plugins()) == 50
    assert isinstance(place.registry, ToolRegistry)
    assert len(place.registry) == len(create_builtin_tools_library())
    assert Path(place.folder / "trust.json").stat().st_size < 100_000
