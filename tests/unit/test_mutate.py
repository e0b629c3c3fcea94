"""The mutation tool changes what is executed, one thing at a time, and tells what no test notices."""

import importlib.util
import sys
from pathlib import Path
from types import FunctionType

import pytest
from scripts import mutating

ROOT = Path(__file__).parents[2]
MODULE = '''"""A docstring."""


def limit(values, most=3):
    """Another."""
    if not values:
        raise ValueError("nothing")
    found = [value for value in values if value < most]
    return found or None
'''


@pytest.fixture
def mutate():
    spec = importlib.util.spec_from_file_location("mutate", ROOT / "scripts" / "mutate.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["mutate"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["mutate"]


def test_what_is_changed(mutate):
    changes = [each.what for each in mutate.mutants(MODULE)]
    assert changes == list(dict.fromkeys(changes))
    assert {
        "value < most  =>  value <= most",
        "value < most  =>  value >= most",
        "3  =>  4",
        "raise ValueError('nothing')  =>  gone",
        "not values  =>  not is gone",
        "found or None  =>  found and None",
        "return found or None  =>  return None",
    } <= set(changes)
    assert not [each for each in changes if "docstring" in each or "Another" in each]


def test_every_mutant_is_a_module_with_one_difference(mutate):
    plain = mutate.ast.unparse(mutate._read(MODULE)).splitlines()
    for each in mutate.mutants(MODULE):
        changed = mutate.applied(MODULE, each)
        compile(changed, "m", "exec")
        assert sum(a != b for a, b in zip(plain, changed.splitlines(), strict=True)) == 1, each


def test_what_nobody_notices(mutate, tmp_path, monkeypatch):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "limits.py").write_text(MODULE)
    (tmp_path / "test_limits.py").write_text(
        "import limits, pytest\n"
        "def test():\n"
        "    assert limits.limit([1, 2, 5]) == [1, 2]\n"
        "    with pytest.raises(ValueError): limits.limit([])\n"
    )
    monkeypatch.setattr(mutate, "ROOT", tmp_path)
    found = [
        each
        for each in mutate.mutants(MODULE)
        if each.what in ("3  =>  4", "value < most  =>  value >= most")
    ]
    monkeypatch.setattr(mutate, "mutants", lambda text: found)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    tried, survivors, _ = mutate.hunt(tmp_path / "src" / "limits.py", ["test_limits.py"], 9, 1)
    assert tried == 2
    assert [each.mutant.what for each in survivors] == ["3  =>  4"]
    assert (tmp_path / "src" / "limits.py").read_text() == MODULE


NESTED = """
LIMIT = 3

class Gate:
    most: int = 4

    def opens(self, n: int = 5):
        def near(m):
            return m < n + 1
        return near, (lambda m: m + 6)
"""


def test_where_a_change_is(mutate):
    places = {
        each.what: (each.function, each.line, each.statement, each.is_called)
        for each in mutate.mutants(NESTED)
    }
    assert places["3  =>  4"] == ("", 2, 2, False)
    assert places["4  =>  5"] == ("Gate", 5, 5, False)
    assert places["5  =>  6"] == ("Gate", 7, 7, False), "a default is made when the module is imported"
    assert places["1  =>  2"] == ("Gate.opens.near", 9, 9, True)
    assert places["6  =>  7"] == ("Gate.opens", 10, 10, True)


def functions_of(module: dict, *names: str) -> list[FunctionType]:
    return [module["Gate"].__dict__[name] for name in names]


def test_code_is_exchanged_in_the_functions_that_there_are(mutate):
    module = {}
    exec(compile(NESTED, "gate.py", "exec"), module)
    near, _ = module["Gate"]().opens(5)
    assert near(5)
    change = next(each for each in mutate.mutants(NESTED) if each.what == "m < n + 1  =>  m >= n + 1")
    code = compile(mutate.changed_tree(NESTED, change), "gate.py", "exec")
    changes = mutating._changes([*functions_of(module, "opens"), near], code)
    for function, changed in changes:
        function.__code__ = changed
    assert not near(5), "also in a closure that was made before"
    assert not module["Gate"]().opens(5)[0](5)


def test_what_closes_over_other_variables_is_not_exchanged(mutate):
    module = {}
    exec(compile(NESTED, "gate.py", "exec"), module)
    near, _ = module["Gate"]().opens(5)
    code = compile(NESTED.replace("m < n + 1", "True"), "gate.py", "exec")
    assert mutating._changes([near], code) is None


def test_what_is_explained(mutate, tmp_path, monkeypatch):
    page = tmp_path / "mutation.md"
    page.write_text(
        "| function | change | why |\n|---|---|---|\n## `reprise/a.py`\n| function | change | why |\n|---|---|---|\n"
        "| `f` | `a \\| b  =>  a \\& b` | the same |\n"
    )
    monkeypatch.setattr(mutate, "EXPLAINED", page)
    assert mutate.explained()["reprise/a.py", "f", r"a | b  =>  a \& b"] == "the same"
