"""The size gate: it measures right, and code that is too long fails it."""

import pytest
from scripts.size_gate import FILE, FUNCTION, functions, main


def function(lines, name="f"):
    return f"def {name}():\n" + "    x = 1\n" * (lines - 1)


def test_functions_are_measured_from_def_to_end_also_inside_others(tmp_path):
    text = (
        "@decorated\ndef outer():\n    '''Doc.'''\n\n    async def inner():\n        pass\n    return inner\n"
    )
    sizes = {size.where.split()[-1]: size.lines for size in functions(tmp_path / "m.py", text)}
    assert sizes == {"outer": 6, "inner": 2}


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        (function(FUNCTION.p95), 0),
        (function(FUNCTION.p95 + 1), 1),
        ("\n".join(function(3, f"f{n}") for n in range(30)) + function(FUNCTION.most), 0),
        ("\n".join(function(3, f"f{n}") for n in range(30)) + function(FUNCTION.most + 1), 1),
        ("x = 1\n" * FILE.p95, 0),
        ("x = 1\n" * (FILE.p95 + 1), 1),
    ],
)
def test_verdict(tmp_path, text, verdict, capsys):
    (tmp_path / "m.py").write_text(text)
    assert main([str(tmp_path)]) == verdict
    assert "median" in capsys.readouterr().out


def test_one_file_too_long_among_short_ones_is_named(tmp_path, capsys):
    for n in range(30):
        (tmp_path / f"short{n}.py").write_text("x = 1\n")
    (tmp_path / "long.py").write_text("x = 1\n" * (FILE.most + 1))
    assert main([str(tmp_path)]) == 1
    assert f"long.py: {FILE.most + 1} lines" in capsys.readouterr().out


def test_nothing_to_measure_is_an_error(tmp_path):
    assert main([str(tmp_path)]) == 2
