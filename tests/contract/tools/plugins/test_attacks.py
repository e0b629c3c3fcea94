"""Attacks on whoever loads plugins, by class. Each class has controls: the same means without the trick, which must work, so
that a count of none through says something.
"""

import asyncio
import importlib.util
import json
import os
import py_compile
import socket
import sys
from pathlib import Path
from typing import get_type_hints

import pytest
from hypothesis import given, strategies as st
from tests.contract.tools.plugins.conftest import TOOL, marking, refused, row_of

from reprise import ConfigurationError, ToolRegistry
from reprise.tools.plugins.manifest import PERMISSIONS, Manifest, read_manifest

# ---------------------------------------------------------------- 1. ways out of the folder by `entry`

ENTRIES = [
    "../evil.py", "../../evil.py", "parts/../../evil.py", "parts/../__init__.py", "./__init__.py", "/EVIL", "//EVIL",
    "..\\evil.py", "parts\\tools.py", "__init__.py\0.txt", "\0", "", " ", ".", "..", "evil", "evil.so", "evil.pyc",
    ".hidden.py", "parts//tools.py", "parts/", "~/evil.py", "$HOME/evil.py", "file:///EVIL", "evil.py\n", "\uff45vil.py",
    "os:system", "C:evil.py", "parts/tools.py/", "no_such.py", "a" * 600 + ".py",
]  # fmt: skip


@pytest.mark.parametrize("entry", ENTRIES, ids=ascii)
def test_entry_leads_nowhere_else(place, mark, entry):
    evil = place.plugins / "evil.py"
    for way in (evil, place.folder / "evil.py"):
        way.write_text(marking(mark))
    place.make(
        entry=entry.replace("EVIL", str(evil)), code={"__init__.py": "", "evil.so": marking(mark), "evil": ""}
    )
    refused(place.manager())
    assert not mark.exists()


@pytest.mark.parametrize("entry", ["__init__.py", "evil.py", "parts/tools.py", "_p4rts/_.py"])
def test_control_an_entry_inside_is_executed(place, mark, entry):
    place.make(entry=entry, code={entry: marking(mark)})
    assert place.manager().install_plugin("weather")
    assert mark.exists()


# ---------------------------------------------------------------- 2. links and what is no file


IMPORTS = "from . import code\nregister = lambda registry: registry.register_tool(code.weather)"


def linked(place, mark, how):
    """Make a plugin part of which is a link, or something special."""
    outside = place.folder / "outside"
    (outside / "parts").mkdir(parents=True)
    (outside / "code.py").write_text(marking(mark))
    (outside / "parts" / "code.py").write_text(marking(mark))
    (outside / "secret.txt").write_text("secret")
    code = {"__init__.py": IMPORTS, "code.py": marking(mark)}
    folder = place.make(code=code, folder="inside" if how == "the folder" else "")
    if how in (
        "a module",
        "a relative one",
        "within the folder",
        "a folder of code",
        "to nowhere",
        "to itself",
        "a pipe",
        "a socket",
    ):
        (folder / "code.py").unlink()
    if how == "a module":
        (folder / "code.py").symlink_to(outside / "code.py")
    elif how == "a relative one":
        (folder / "code.py").symlink_to("../../outside/code.py")
    elif how == "within the folder":
        (folder / "other.py").write_text(marking(mark))
        (folder / "code.py").symlink_to("other.py")
    elif how == "the entry":
        (folder / "__init__.py").unlink()
        (folder / "__init__.py").symlink_to(outside / "code.py")
    elif how == "a folder of code":
        (folder / "code").symlink_to(outside / "parts")
    elif how == "deep down":
        (folder / "a" / "b").mkdir(parents=True)
        (folder / "a" / "b" / "code.py").symlink_to(outside / "code.py")
    elif how == "the manifest":
        (folder / "plugin.json").rename(outside / "plugin.json")
        (folder / "plugin.json").symlink_to(outside / "plugin.json")
    elif how == "the folder":
        folder.rename(outside / "weather")
        (place.plugins / "weather").symlink_to(outside / "weather")
    elif how == "data":
        (folder / "data.txt").symlink_to(outside / "secret.txt")
    elif how == "to nowhere":
        (folder / "code.py").symlink_to("gone")
    elif how == "to itself":
        (folder / "code.py").symlink_to("code.py")
    elif how == "a pipe":
        os.mkfifo(folder / "code.py")
    elif how == "a socket":
        with socket.socket(socket.AF_UNIX) as made:
            here = Path.cwd()
            os.chdir(folder)
            made.bind("code.py")
            os.chdir(here)
    elif how == "the manifest a pipe":
        (folder / "plugin.json").unlink()
        os.mkfifo(folder / "plugin.json")
    elif how == "the manifest a folder":
        (folder / "plugin.json").unlink()
        (folder / "plugin.json").mkdir()
    return folder


LINKS = [
    "a module", "a relative one", "within the folder", "the entry", "a folder of code", "deep down", "the manifest",
    "the folder", "data", "to nowhere", "to itself", "a pipe", "a socket", "the manifest a pipe", "the manifest a folder",
]  # fmt: skip


@pytest.mark.parametrize("how", LINKS)
def test_links_are_not_followed(place, mark, how):
    linked(place, mark, how)
    refused(place.manager())
    assert not mark.exists()


def test_control_a_plain_file_is_executed(place, mark):
    linked(place, mark, "control")
    assert place.manager().install_plugin("weather")
    assert mark.exists()


@pytest.mark.parametrize("what", ["code.py", "parts"])
def test_what_becomes_a_link_while_it_is_read_is_not_followed(place, mark, what, monkeypatch):
    folder = linked(place, mark, "control")
    (folder / "parts").mkdir()
    (folder / "parts" / "data.txt").write_text("")
    outside = place.folder / "outside"
    real = os.open

    def swap_and_open(path, *args, **more):
        if path == what:
            (folder / what).rename(place.folder / "was")
            (folder / what).symlink_to(outside / what)
        return real(path, *args, **more)

    monkeypatch.setattr(os, "open", swap_and_open)
    manager = place.manager()
    assert manager.discover_plugins() == []
    assert not mark.exists()
    assert (folder / what).is_symlink(), "it was swapped"


# ---------------------------------------------------------------- 3. changed between looking and loading

LATE = """
from importlib.resources import files
from reprise import tool
@tool(effects="pure", where="inline")
def weather(n: int) -> str:
    "Load a module and a file when it is called."
    from .late import WORD
    return WORD + (files(__package__) / "data.txt").read_text()
"""
GOOD = {"__init__.py": LATE, "late.py": "WORD = 'good '", "data.txt": "good"}


def evil(mark):
    return f"WORD = 'evil '\nimport pathlib; pathlib.Path({str(mark)!r}).touch()\n"


def change(folder, mark, how):
    """Change a plugin behind the back of whoever looked at it."""
    manifest = json.loads((folder / "plugin.json").read_text())
    if how == "a module":
        (folder / "late.py").write_text(evil(mark))
    elif how == "the entry":
        (folder / "__init__.py").write_text(evil(mark))
    elif how == "a new module":
        (folder / "pathlib.py").write_text(evil(mark))
    elif how == "a module becomes a package":
        (folder / "late").mkdir()
        (folder / "late" / "__init__.py").write_text(evil(mark))
    elif how == "a file is gone":
        (folder / "late.py").unlink()
    elif how == "data":
        (folder / "data.txt").write_text("evil")
    elif how == "more permissions":
        (folder / "plugin.json").write_text(json.dumps({**manifest, "permissions": ["network", "executes"]}))
    elif how == "less isolation":
        (folder / "plugin.json").write_text(json.dumps({**manifest, "isolation": "direct"}))
    elif how == "another entry":
        (folder / "plugin.json").write_text(json.dumps({**manifest, "entry": "late.py"}))
    elif how == "another version":
        (folder / "plugin.json").write_text(json.dumps({**manifest, "version": "2.0"}))
    elif how == "renamed folder":
        (folder / "late.py").write_text(evil(mark))
        folder.rename(folder.with_name("zzz"))
    elif how == "name spelled otherwise":
        (folder / "late.py").write_text(evil(mark))
        (folder / "plugin.json").write_text(
            json.dumps({**manifest, "name": "Wea-ther".lower().replace("-", "")})
        )
    elif how == "same size and time":
        before = (folder / "late.py").stat()
        (folder / "late.py").write_text("WORD = 'evil '")
        os.utime(folder / "late.py", ns=(before.st_atime_ns, before.st_mtime_ns))
    elif how == "one space":
        with (folder / "late.py").open("a") as opened:
            opened.write(" ")


CHANGES = [
    "a module", "the entry", "a new module", "a module becomes a package", "a file is gone", "data", "more permissions",
    "less isolation", "another entry", "another version", "renamed folder", "name spelled otherwise", "same size and time",
    "one space",
]  # fmt: skip


@pytest.mark.parametrize("when", ["behind the same manager", "before the next start"])
@pytest.mark.parametrize("how", CHANGES)
def test_what_changed_is_not_loaded(place, mark, how, when):
    folder = place.make(code=GOOD, isolation="process")
    manager = place.manager()
    manager.discover_plugins()
    change(folder, mark, how)
    again = manager if when == "behind the same manager" else place.manager()
    if again is manager and how != "renamed folder":
        assert not manager.install_plugin("weather")
        assert row_of(manager)["status"] == "untrusted"
    refused(again, "weather", "untrusted")
    assert not mark.exists()


def test_control_what_did_not_change_is_loaded(place, mark):
    folder = place.make(code=GOOD)
    manager = place.manager()
    manager.discover_plugins()
    change(folder, mark, "nothing")
    assert manager.install_plugin("weather")
    assert place.manager(registry=ToolRegistry()).install_plugin("weather")


@pytest.mark.parametrize("isolation", ["direct", "process"])
@pytest.mark.parametrize(
    "how", ["a module", "a new module", "a module becomes a package", "a file is gone", "data"]
)
def test_what_changes_after_it_was_hashed_is_not_seen(place, mark, how, isolation, monkeypatch):
    folder = place.make(code=GOOD, isolation=isolation)
    manager = place.manager()
    manager.discover_plugins()
    load = manager._loader.load

    def load_late(*args):
        change(folder, mark, how)
        change(folder, mark, "the entry")
        load(*args)

    monkeypatch.setattr(manager._loader, "load", load_late)
    assert manager.install_plugin("weather")
    assert asyncio.run(place.registry.execute_tool("weather", {"n": 1})) == "good good"
    assert not mark.exists()


def test_control_without_bytes_in_memory_it_would_be(place, mark):
    folder = place.make(code=GOOD)
    change(folder, mark, "a module")
    spec = importlib.util.spec_from_file_location(
        "control", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules["control"] = module
    try:
        spec.loader.exec_module(module)
        assert module.weather(1) == "evil good"
    finally:
        for name in ("control", "control.late"):
            sys.modules.pop(name, None)
    assert mark.exists()


def poisoned(folder, mark):
    """Put compiled code beside a module that says something else, as an import from the folder would take it."""
    source = folder.parent / "evil.py"
    source.write_text(evil(mark))
    cached = Path(importlib.util.cache_from_source(str(folder / "late.py")))
    py_compile.compile(
        str(source), cached, dfile="x", invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH
    )
    source.unlink()


def test_compiled_files_are_not_loaded(place, mark):
    folder = place.make(code=GOOD)
    poisoned(folder, mark)
    manager = place.manager()
    assert manager.install_plugin("weather")
    assert asyncio.run(place.registry.execute_tool("weather", {"n": 1})) == "good good"
    assert not mark.exists()


def test_control_an_import_from_the_folder_loads_them(place, mark, monkeypatch):
    folder = place.make(code=GOOD, folder="poisoned_folder")
    poisoned(folder, mark)
    monkeypatch.syspath_prepend(place.plugins)
    importlib.invalidate_caches()
    try:
        assert importlib.import_module("poisoned_folder.late").WORD == "evil "
    finally:
        for name in ("poisoned_folder", "poisoned_folder.late"):
            sys.modules.pop(name, None)
    assert mark.exists()


def test_a_folder_that_anybody_may_write_to_is_not_trusted_at_first_sight(place, mark):
    folder = place.make(code=marking(mark))
    folder.chmod(0o777)
    assert "Anybody may write" in refused(place.manager(), "weather", "untrusted")
    folder.chmod(0o755)
    assert place.manager().install_plugin("weather"), "the control"


# ---------------------------------------------------------------- 4. names

NAMES = [
    "../weather", "a/b", "a\\b", "/weather", "Weather", "w\u0435ather", "\uff57eather", "weather\u200b", "weather\n",
    "weather\0", "weather ", " weather", ".weather", "-weather", "_weather", "1weather", "", " ", "x" * 65, "reprise",
    "reprise-tools", "reprise_x", "wea\u202ether", "weather.tools", "wea:ther", "*", "plugin:weather", "\x1b[2J", 7, None, [],
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_names_that_are_none(place, mark, name):
    place.make(folder="weather", name=name, code=marking(mark))
    refused(place.manager())
    assert not mark.exists()


@pytest.mark.parametrize(
    "name", ["w", "weather", "weather-2", "my_weather", "x" * 64, "con", "class", "json"]
)
def test_control_names_that_are_some(place, name):
    place.make(folder="folder", name=name, code=TOOL.format(name="some"))
    assert place.manager().install_plugin(name)


# ---------------------------------------------------------------- 5. manifests

HEAD = '"name": "weather", "version": "1.0", "api_version": "1.0"'
MANIFESTS = {
    "huge": "{" + HEAD + ', "description": "' + "x" * 100_000 + '"}',
    "huge by spaces": "{" + HEAD + "}" + " " * 100_000,
    "deep": "{" + HEAD + ', "requires": ' + "[" * 30_000 + "]" * 30_000 + "}",
    "empty": "",
    "half": "{" + HEAD,
    "a list": "[" + HEAD.partition(":")[0] + "]",
    "a text": '"weather"',
    "two names": "{" + HEAD + ', "name": "other"}',
    "two lists of permissions": "{" + HEAD + ', "permissions": [], "permissions": ["executes"]}',
    "a name twice by an escape": "{" + HEAD + ', "n\\u0061me": "other"}',
    "not a number": "{" + HEAD + ', "author": NaN}',
    "a comment": "{" + HEAD + "} // weather",
    "another encoding": ("{" + HEAD + "}").encode("utf-16"),
    "a mark in front": b"\xef\xbb\xbf{" + HEAD.encode() + b"}",
    "no text": b"\xff\xfe\x00",
    "half a letter": "{" + HEAD + ', "author": "\\ud800"}',
    "a direction": "{" + HEAD + ', "description": "\\u202esselmrah"}',
    "an escape": "{" + HEAD + ', "description": "\\u001b[2J"}',
    "a field that there is not": "{" + HEAD + ', "trusted": true}',
    "permissions as a text": "{" + HEAD + ', "permissions": "network"}',
    "a permission that there is not": "{" + HEAD + ', "permissions": ["network", "everything"]}',
    "a rule for a permission": "{" + HEAD + ', "permissions": ["*"]}',
    "many permissions": "{" + HEAD + ', "permissions": [' + ",".join(['"network"'] * 101) + "]}",
    "another isolation": "{" + HEAD + ', "isolation": "none"}',
    "isolation of another kind": "{" + HEAD + ', "isolation": ["process"]}',
    "a version of another kind": "{" + HEAD.replace('"1.0", "api', '1.0, "api') + "}",
    "nothing": "{}",
}


@pytest.mark.parametrize("what", MANIFESTS)
def test_manifests_that_are_none(place, mark, what):
    folder = place.make(code=marking(mark))
    text = MANIFESTS[what]
    (folder / "plugin.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    reason = refused(place.manager())
    assert "plugin.json" in reason
    assert len(reason) < 2000
    assert not mark.exists()


WORDS = st.sampled_from(
    [*get_type_hints(Manifest), *PERMISSIONS, "weather", "1.0", "process", "../x.py", "\x00", "9" * 99]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(WORDS | st.text(max_size=9), inner, max_size=5)
    ),
)


@given(st.binary(max_size=99) | VALUES.map(lambda value: json.dumps(value).encode()))
def test_whatever_a_manifest_is_it_is_read_or_refused(data):
    try:
        manifest = read_manifest(data)
    except ConfigurationError as error:
        assert str(error).isprintable()
        assert len(str(error)) < 3000
    else:
        assert set(manifest.permissions) <= set(PERMISSIONS)


@given(
    st.fixed_dictionaries(dict.fromkeys(("name", "entry", "permissions", "requires", "isolation"), VALUES))
)
def test_whatever_is_taken_is_what_was_meant(said):
    whole = {"name": "weather", "version": "1.0", "api_version": "1.0", **said}
    try:
        manifest = read_manifest(json.dumps(whole).encode())
    except ConfigurationError:
        return
    assert {name: getattr(manifest, name) for name in said} == said
    assert ".." not in manifest.entry


def test_control_a_manifest_that_is_one(place, mark):
    folder = place.make(code=marking(mark))
    (folder / "plugin.json").write_text("{" + HEAD + ', "permissions": ["network"], "author": "\\u00c9va"}')
    assert place.manager().install_plugin("weather")
    assert mark.exists()
