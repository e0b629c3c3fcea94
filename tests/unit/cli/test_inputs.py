"""What the command line reads: targets, inputs, settings; and what it prints."""

import io
import sys
import textwrap

import pytest

from reprise import workflow
from reprise.cli import load as loading
from reprise.cli.config import read_config
from reprise.cli.exits import code_of
from reprise.cli.inputs import read_input
from reprise.cli.load import Target, load, load_all, parse_target
from reprise.cli.output import Format, Screen, clean, table
from reprise.kernel import errors
from reprise.kernel.errors import ConfigurationError, RepriseError, UnknownOption
from reprise.kernel.machine import ExitCode


@workflow
async def order(what: str, count: int = 1, *more: int, gift: bool = False) -> None: ...


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["what=tea"], ((), {"what": "tea"})),
        (["what=a=b", "count=3", "gift=true"], ((), {"what": "a=b", "count": 3, "gift": True})),
        (['{"what": "tea", "count": 2}'], ((), {"what": "tea", "count": 2})),
        (['["tea", 2]'], ((), {"what": "tea", "count": 2})),
        (['["tea", 2, 3, 4]'], (("tea", 2, 3, 4), {})),
        (['{"what": "tea"}', "what=milk"], ((), {"what": "milk"})),
        (["-", "count=5"], ((), {"what": "stdin", "count": 5})),
    ],
)
def test_input_is_bound_to_the_parameters(given, expected):
    assert read_input(order, given, lambda: '{"what": "stdin"}') == expected


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["5"], "is not understood"),
        (["{"], "is not JSON"),
        (["-"], "standard input holds '5'"),
        (["@/no/such"], "cannot be read"),
        (["wat=tea"], "Did you mean 'what'"),
        (["what=tea", "count=many"], "'count'"),
        ([], "needs what"),
    ],
)
def test_wrong_input_is_explained(given, says):
    with pytest.raises(ConfigurationError, match=says):
        read_input(order, given, lambda: "5")


@pytest.mark.parametrize(
    ("text", "place", "name"),
    [
        ("flow.py", "flow.py", ""),
        ("a/b.py:w", "a/b.py", "w"),
        ("pack.age:w", "pack.age", "w"),
        ("pack.age", "pack.age", ""),
        ("C:/flow.py", "C:/flow.py", ""),
    ],
)
def test_target(text, place, name):
    assert parse_target(text) == Target(place, name)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder whose modules are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(loading, "_files", {})
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))


ONE = "from reprise import workflow\n@workflow\nasync def {}() -> None: ...\n"


def test_a_file_imports_its_neighbours_and_owns_what_it_defines(folder):
    write(folder / "sub" / "beside.py", ONE.format("theirs"))
    write(
        folder / "sub" / "ours_1.py",
        "from beside import theirs\n" + ONE.format("mine") + "second_name = mine\n",
    )
    loaded = load(parse_target("sub/ours_1.py"))
    assert (list(loaded.own), list(loaded.imported)) == (["mine"], ["theirs"])
    assert (loaded.pick().name, loaded.pick("theirs").name) == ("mine", "theirs")
    assert {each.name for each in loaded.all} == {"mine", "theirs"}
    assert loaded.own["mine"].function.__module__ == "ours_1"
    assert load(parse_target("sub/ours_1.py")).own["mine"] is loaded.own["mine"], "a file is imported once"
    assert (loaded.target.tag, Target(str(folder.parent / "x.py")).tag) == (
        "sub/ours_1.py",
        str(folder.parent / "x.py"),
    )


def test_a_name_that_is_taken_does_not_change_what_others_import(folder):
    write(folder / "json.py", ONE.format("mine"))
    write(folder / "my-flow.py", ONE.format("dashed"))
    assert load(parse_target("json.py")).pick().function.__module__ == "reprise_flow_json"
    assert load(parse_target("my-flow.py")).pick().function.__module__ == "reprise_flow_my_flow"
    import json

    assert "workflow" not in vars(json)
    for name, own in (("json.py", "mine"), ("my-flow.py", "dashed")):
        assert load(parse_target(name)).pick().name == own, "the same file once more is the same module"


def test_a_module_of_a_package_is_imported_by_its_name(folder):
    write(folder / "shop_1" / "__init__.py", "")
    write(folder / "shop_1" / "orders.py", "from . import flows\nfrom .flows import pack\n")
    write(folder / "shop_1" / "flows.py", ONE.format("pack"))
    assert load(parse_target("shop_1.orders")).pick().name == "pack"
    assert [each.name for each in load_all(["shop_1.flows", "shop_1.orders"])] == ["pack"]
    with pytest.raises(ConfigurationError, match="Give it as a module"):
        load(parse_target("shop_1/orders.py"))
    with pytest.raises(ConfigurationError, match="no module 'shop_2'"):
        load(parse_target("shop_2"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "defines no workflow"),
        (ONE.format("a_1") + ONE.format("b_1"), "defines 2 workflows: a_1, b_1. Say which: several.py:a_1"),
        ("1/0", r"cannot be imported: ZeroDivisionError: .* \(several.py, line 1\)"),
        ("import no_such_module_1", "cannot be imported: ModuleNotFoundError"),
        ("def f(:", "cannot be imported: SyntaxError"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(folder, text, says):
    write(folder / "several.py", text)
    with pytest.raises(ConfigurationError, match=says):
        load(parse_target("several.py")).pick()


def test_two_files_of_one_name_are_refused(folder):
    write(folder / "a" / "same_1.py", ONE.format("a"))
    write(folder / "b" / "same_1.py", ONE.format("b"))
    with pytest.raises(ConfigurationError, match="Two files are called"):
        load_all(["a/same_1.py", "b/same_1.py"])


def test_settings_know_where_they_come_from(tmp_path):
    (tmp_path / "reprise.toml").write_text("[worker]\nconcurrency = 7\ngrace = 1\n")
    (tmp_path / ".env").write_text("export REPRISE_WORKER__GRACE='2'\nREDIS_HOST=dot # why\n")
    environment = {"HOME": str(tmp_path), "REDIS_HOST": "env"}
    config = read_config(worker={"concurrency": None, "build": "b"}, folder=tmp_path, environment=environment)
    assert (config.settings.worker.concurrency, config.origins["worker.concurrency"]) == (7, "reprise.toml")
    assert (config.settings.worker.grace, config.origins["worker.grace"]) == (
        2.0,
        ".env: $REPRISE_WORKER__GRACE",
    )
    assert (config.settings.redis.host, config.origins["redis.host"]) == ("env", "$REDIS_HOST")
    assert (config.settings.worker.build, config.origins["worker.build"]) == ("b", "--build")
    (tmp_path / "reprise.toml").write_text("[worker\n")
    with pytest.raises(ConfigurationError, match=r"reprise.toml cannot be read"):
        read_config(folder=tmp_path, environment=environment)
    (tmp_path / "reprise.toml").write_text("[wroker]\na = 1\n")
    with pytest.raises(UnknownOption, match="Did you mean 'worker'"):
        read_config(folder=tmp_path, environment=environment)


@pytest.mark.parametrize(
    ("nasty", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07x", "x"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1bPq#0;2\x1b\\x", "x"),
        ("\x9b2Jx\x07\x08", "x"),
        ("a\x1b", "a"),
        ("a\u202eb\u2066c", "abc"),
        ("tab\tline\n", "tab\tline\n"),
        ("grün 字 🎉", "grün 字 🎉"),
    ],
)
def test_text_is_cleaned_of_what_drives_a_terminal(nasty, shown):
    assert clean(nasty) == shown


def test_programs_get_data_as_it_is_and_nothing_is_cut():
    out = io.StringIO()
    screen = Screen(out, io.StringIO())
    made = table("a", "b", right=("b",))
    made.add_row("x" * 300, "1")
    made.add_row("y", "22")
    screen.table(made)
    screen.data(Format.JSONL, [{"a": "\u202e"}, {"a": "b" * 300}])
    screen.data(Format.JSON, [{"a": 1}])
    lines = out.getvalue().splitlines()
    assert lines[:3] == ["A" + " " * 299 + "   B", "x" * 300 + "   1", "y" + " " * 299 + "  22"]
    assert lines[3:] == ['{"a":"\u202e"}', '{"a":"' + "b" * 300 + '"}', '[{"a":1}]']


def test_every_error_has_an_exit_code():
    expected = {
        "ConfigurationError": ExitCode.USAGE,
        "MissingExtra": ExitCode.USAGE,
        "AmbiguousId": ExitCode.USAGE,
        "RunNotFound": ExitCode.NOT_FOUND,
        "StoreCorrupt": ExitCode.UNREACHABLE,
        "StoreLocked": ExitCode.UNREACHABLE,
        "ResultTimeout": ExitCode.TIMEOUT,
        "RunCancelled": ExitCode.CANCELLED,
        "RunConflict": ExitCode.CONFLICT,
        "RunEnded": ExitCode.CONFLICT,
        "RunFailed": ExitCode.FAILED,
        "RepriseError": ExitCode.FAILED,
    }
    found = {name: code_of(getattr(errors, name)()) for name in expected}
    assert found == expected
    kinds = [
        each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, RepriseError)
    ]
    assert {code_of(kind()) for kind in kinds} == {*ExitCode} - {ExitCode.OK}
