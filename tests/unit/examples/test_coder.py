import textwrap

import pytest

from crew import coder
from crew.coder import measure
from crew.facts import CODE, TEST, SourceFile


@pytest.fixture
def look(tmp_path):
    """Measure a text as a file of that name."""

    def look(text, name="x.py", kind=CODE, encoding="utf-8"):
        data = text if isinstance(text, bytes) else textwrap.dedent(text).encode()
        (tmp_path / name).write_bytes(data)
        language = {"py": "Python", "js": "JavaScript", "c": "C", "sh": "Shell"}[name.rpartition(".")[2]]
        return measure(tmp_path, SourceFile(name, len(data), language, kind, encoding))

    return look


def test_functions_have_their_classes_paths_depth_and_parameters(look):
    found = look(
        '''
        class A:
            """Doc."""

            @decorated
            def m(self, a, *b, c=1, **d):
                if a:
                    for x in b:
                        while x and c:
                            pass
                elif c:
                    pass
                elif d:
                    pass
                def inner(): return 1

            def _private(self): pass
        '''
    ).findings
    by_name = {function.name: function for function in found.functions}
    m = by_name["A.m"]
    assert (m.line, m.lines, m.nesting, m.parameters) == (6, 10, 3, 4)
    assert m.complexity == 7  # one way, and six branchings: if, for, while, and, elif, elif
    assert set(by_name) == {"A.m", "A.m.inner", "A._private"}
    assert found.complexity == 9
    assert (found.public, found.documented) == (4, 1)  # module, A, A.m, A.m.inner; A


def test_an_elif_is_as_deep_as_its_if_and_an_if_in_an_else_is_deeper(look):
    flat = "def f(a):\n if a: pass\n elif a: pass\n elif a: pass\n else: pass\n"
    deep = "def f(a):\n if a: pass\n else:\n  if a: pass\n  else:\n   if a: pass\n"
    assert [look(text).findings.functions[0].nesting for text in (flat, deep)] == [1, 3]
    assert [look(text).findings.functions[0].complexity for text in (flat, deep)] == [4, 4]


@pytest.mark.parametrize(
    ("body", "paths"),
    [
        ("pass", 1),
        ("return a and b or c", 3),
        ("return [x for x in a if x if y]", 4),
        ("return b if a else c", 2),
        ("match a:\n  case 1: pass\n  case 2 if b: pass\n  case _: pass", 3),
        ("try: pass\n except A: pass\n except B: pass\n finally: pass", 3),
        ("async with a: pass", 1),
        ("f = lambda: a or b", 2),
    ],
)
def test_paths_are_counted_by_the_tree(look, body, paths):
    assert look(f"async def f():\n {body}\n").findings.functions[0].complexity == paths


def test_other_languages_are_measured_by_lizard_and_indentation(look):
    found = look(
        """
        function f(a, b) {
          if (a) {
            for (;;) {
              if (b) { g(); }
            }
          }
          return eval(a);
        }
        """,
        "x.js",
    ).findings
    assert [(f.name, f.complexity, f.parameters, f.nesting) for f in found.functions] == [("f", 4, 2, 2)]
    assert [(risk.rule, risk.line) for risk in found.risks] == [("eval", 8)]


def test_lines_are_counted_as_the_parser_counts_them(look):
    found = look("# a\x0c\r\nx = 1\u2028\r\n\r\neval(x)\r\n".encode())
    assert found.findings.lines == 4
    assert [(risk.line, risk.code) for risk in look(b"x = 1\reval(x)\r").findings.risks] == [(2, "eval(x)")]
    look_at = look("'\x0c'\neval(x)\n").findings.risks[0]
    assert (look_at.line, look_at.code) == (2, "eval(x)")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("def f(:\n", "syntax error in line 1"),
        ("x = 1\0\n", "null bytes"),
        ("(" * 5000, ""),
        ("x = '" + "a" * 6000 + "'\n", "looks generated (a line of 6,006 characters)"),
    ],
)
def test_no_text_stops_a_coder(look, text, problem):
    found = look(text).findings
    assert problem in found.problem
    assert found.problem


def test_source_nested_too_deeply_is_measured_or_said_to_be(look):
    found = look("-" * 4000 + "1").findings
    assert found.problem in {"", "nested too deeply to be parsed"}  # newer parsers go deeper
    assert found.code == 1


def test_lines_of_code_are_neither_comments_nor_docstrings(look):
    assert look('"""Doc\n\nmore."""\n\n# note\nf(\n  *a,\n)\n').findings.code == 3
    assert look("#include <x.h>\n// note\n/* more\n * and */\nint x;\n", "x.c").findings.code == 2


def test_a_file_that_changed_since_the_inventory_is_said_not_raised(look, tmp_path, monkeypatch):
    file = SourceFile("gone.py", 1, "Python", CODE, "utf-8")
    assert "No such file" in measure(tmp_path, file).findings.problem
    (tmp_path / "gone.py").symlink_to("/etc/passwd")
    assert measure(tmp_path, file).findings.problem == "no longer a regular file"
    monkeypatch.setattr(coder, "MAX_BYTES", 3)
    assert look("x = 1").findings.problem == "too large to be measured (5 bytes)"


@pytest.mark.filterwarnings("error")
def test_bytes_that_are_no_text_are_replaced(look):
    assert look(b"x = '\xff'\neval(x)\n").findings.risks[0].line == 2
    assert look(b"", encoding="").findings.lines == 0


RISKY = [
    ("eval(x)", "eval"),
    ("import builtins\nbuiltins.exec(x)", "eval exec"),
    ("from os import system as s\ns(x)", "shell"),
    ("import subprocess as sp\nsp.run(x, shell=True)", "shell"),
    ("import pickle\npickle.loads(x)", "pickle"),
    ("import yaml\nyaml.load(x)", "yaml"),
    ("import yaml\nyaml.load(x, Loader=yaml.Loader)", "yaml"),
    ("import yaml\nyaml.load(x, yaml.SafeLoader)", ""),
    ("import requests\nrequests.get(x, verify=False, timeout=1)", "tls"),
    ("import requests\nrequests.get(x)", "no timeout"),
    ("import hashlib\nhashlib.md5(x)", "weak hash"),
    ("import hashlib\nhashlib.md5(x, usedforsecurity=False)", ""),
    ("import tarfile\nt.extractall(x)", "extractall"),
    ("c.execute(f'select {x}')", "sql"),
    ("c.execute('select %s' % x)", "sql"),
    ("c.execute('select ' 'x', (y,))", ""),
    ("try: f()\nexcept: pass", "bare except"),
    ("try: f()\nexcept:\n  undo()\n  raise", ""),
    ("try: f()\nexcept Exception: pass", "swallowed"),
    ("def f(a=[], *, b={}): pass", "mutable default"),
    ("f = lambda a=dict(): a", "mutable default"),
    ("password = 'hunter2hunter2'", "secret"),
    ("connect(api_key='sk-1234567890')", "secret"),
    ("password = os.environ['X']; token = ''; secret = 'change me'; api_key = '<your key>'", ""),
    ("assert x", "assert"),
    ("df.eval(x); self.exec(x); model.system(x)", ""),
]


@pytest.mark.parametrize(("text", "rules"), RISKY)
def test_risky_constructs(look, text, rules):
    found = {risk.rule for risk in look(text).findings.risks}
    assert found <= set(rules.split(" ")) | {rules}
    assert bool(found) == bool(rules)


def test_an_assert_is_no_risk_in_a_test(look):
    assert not look("assert x", kind=TEST).findings.risks


def test_secrets_are_never_copied(look):
    found = look(
        "password = 'hunter2hunter2'\nconnect(f(1), token='abcdefgh12345')\n"
        "x = '-----BEGIN RSA PRIVATE KEY-----'\n# AKIAABCDEFGHIJKLMNOP\n"
    ).findings
    assert [risk.rule for risk in found.risks] == ["secret"] * 4
    told = " ".join(risk.code + risk.says for risk in found.risks)
    assert not any(secret in told for secret in ("hunter2", "abcdefgh", "BEGIN RSA", "AKIA"))


@pytest.mark.filterwarnings("ignore::DeprecationWarning:<reviewed>", "ignore::SyntaxWarning:<reviewed>")
def test_odd_escapes_are_no_problem_of_ours(look):
    assert look(r"x = '\d'").findings.problem == ""
