"""The mutation tool changes what is executed, one thing at a time, and tells what no test notices."""

import importlib.util
import sys
from pathlib import Path

import pytest

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
