"""Change one thing of a module at a time and see whether a test notices; what nobody notices is printed.

`scripts/mutate.py src/reprise/runtime/worker.py -t tests/unit/runtime/test_workers.py [--most 40] [--seed 1]`

Changes: a comparison the other way or off by one, `and`/`or`, a removed `not`, a condition that always or never holds, a
number one higher, True/False, a removed call, assignment, `await` or `raise`, `break`/`continue`, `+`/`-`. A test that hangs is cut off
and counts as noticing. Mutants are made in a copy of the sources, so the working tree stays as it is. Lines whose change means
nothing (docstrings, annotations, texts of errors) are left out.
"""

from __future__ import annotations

import argparse
import ast
import copy
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
COMPARED: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
SWAPPED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
}


class Mutant(NamedTuple):
    """One change: where, and what."""

    line: int
    what: str
    node: int
    """Which of the nodes of the module, as ``ast.walk`` counts them."""
    kind: int


class Survivor(NamedTuple):
    """A change that no test noticed."""

    path: Path
    mutant: Mutant


def mutants(text: str) -> Iterator[Mutant]:
    """Yield every mutant of a module."""
    for number, node in enumerate(ast.walk(_read(text))):
        for kind in range(2):
            changed = copy.copy(node)
            what = _change(changed, kind)
            if what:
                yield Mutant(changed.lineno, f"{_shown(node)}  =>  {what}", number, kind)  # type: ignore[attr-defined]


def applied(text: str, mutant: Mutant) -> str:
    """Return a module with a change."""
    tree = _read(text)
    node = next(each for place, each in enumerate(ast.walk(tree)) if place == mutant.node)
    _change(node, mutant.kind)
    return ast.unparse(ast.fix_missing_locations(tree))


def _read(text: str) -> ast.Module:
    tree = ast.parse(text)
    _drop_texts(tree)
    return tree


def _change(node: ast.AST, kind: int) -> str:
    """Change a node in place and say what it is now; '' = there is no such change of it."""
    match node:
        case ast.Compare(ops=[op]) if kind < len(COMPARED.get(type(op), ())):
            node.ops = [COMPARED[type(op)][kind]()]
        case ast.BoolOp() if kind == 0:
            node.op = ast.And() if isinstance(node.op, ast.Or) else ast.Or()
        case ast.BinOp(op=op) if kind == 0 and type(op) in SWAPPED and not _is_text(node):
            node.op = SWAPPED[type(op)]()
        case ast.Constant(value=bool()) if kind == 0:
            node.value = not node.value
        case ast.Constant(value=int() | float() as value) if kind == 0:
            node.value = value + 1
        case ast.If() | ast.While() | ast.IfExp() if kind < 2 and not isinstance(node.test, ast.Constant):
            node.test = ast.Constant(kind == 0)
            return f"the condition is always {kind == 0}"
        case ast.Expr(value=ast.Call() | ast.Await()) | ast.Raise() | ast.Assign() | ast.AugAssign() if (
            kind == 0
        ):
            return _replaced(node, ast.Pass())
        case ast.Break() if kind == 0:
            return _replaced(node, ast.Continue())
        case ast.Continue() if kind == 0:
            return _replaced(node, ast.Break())
        case ast.UnaryOp(op=ast.Not()) if kind == 0:
            node.op = ast.UAdd()
            _replaced(node, node.operand)
            return "not is gone"
        case ast.Return(value=ast.expr()) if kind == 0 and not _is_none(node.value):
            node.value = ast.Constant(None)
        case _:
            return ""
    return _shown(node)


def _replaced(node: ast.AST, by: ast.AST) -> str:
    """Let a node become another one, where it stands."""
    line = getattr(node, "lineno", 0)
    node.__class__ = by.__class__
    for name in list(vars(node)):
        if name not in ("lineno", "col_offset", "end_lineno", "end_col_offset"):
            delattr(node, name)
    for name, value in ast.iter_fields(by):
        setattr(node, name, value)
    node.lineno = line  # type: ignore[attr-defined]
    return "gone" if isinstance(by, ast.Pass) else _shown(node)


def _drop_texts(tree: ast.AST) -> None:
    """Take out what is not executed, or says something to people only."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [each for each in node.body if not _is_docstring(each)] or [ast.Pass()]
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.test = ast.Constant(False)


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_text(node: ast.BinOp) -> bool:
    return any(
        isinstance(each, ast.JoinedStr | ast.Constant) and not _is_number(each)
        for each in (node.left, node.right)
    )


def _is_number(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, int | float)


def _is_none(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _shown(node: ast.AST) -> str:
    try:
        return ast.unparse(node).partition("\n")[0][:90]
    except (AttributeError, ValueError):
        return type(node).__name__


# ---------------------------------------------------------------- trying


def hunt(path: Path, tests: list[str], most: int, seed: int) -> tuple[int, list[Survivor], float]:
    """Try mutants of a module; return how many were tried, the survivors, and how long the tests take unchanged."""
    text = path.read_text("utf-8")
    found = list(mutants(text))
    chosen = random.Random(seed).sample(found, min(most, len(found)))  # noqa: S311
    with tempfile.TemporaryDirectory(prefix="reprise-mutants-") as folder:
        copied = Path(folder) / "src"
        shutil.copytree(ROOT / "src", copied, ignore=shutil.ignore_patterns("__pycache__"))
        target = copied / path.resolve().relative_to(ROOT / "src")
        began = time.perf_counter()
        if not _passes(copied, tests, 600):
            raise SystemExit(f"The tests fail without any change: {' '.join(tests)}")
        took = time.perf_counter() - began
        survivors: list[Survivor] = []
        for number, mutant in enumerate(sorted(chosen), 1):
            target.write_text(applied(text, mutant), "utf-8")
            alive = _passes(copied, tests, 10 + 3 * took)
            print(
                f"\r{path.name}: {number}/{len(chosen)}, {len(survivors) + alive} survive", end="", flush=True
            )
            if alive:
                survivors.append(Survivor(path, mutant))
        target.write_text(text, "utf-8")
    print()
    return len(chosen), survivors, took


def _passes(source: Path, tests: list[str], timeout: float) -> bool:
    """Tell whether tests pass with the sources of a folder."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--no-header", *tests]
    environment: dict[str, Any] = {**os.environ, "PYTHONPATH": str(source), "PYTHONDONTWRITEBYTECODE": "1"}
    options: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": ROOT}
    with subprocess.Popen(command, env=environment, start_new_session=True, **options) as process:
        try:
            return process.wait(timeout) == 0
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            return False


def main() -> int:
    """Read the command line; return 1 when something survives."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("modules", nargs="+", type=Path)
    parser.add_argument("-t", "--tests", nargs="+", required=True, help="what pytest is given")
    parser.add_argument("-k", "--only", default="", help="of these, what pytest -k means")
    parser.add_argument(
        "--most", type=int, default=100_000, help="so many mutants of each module, chosen by the seed"
    )
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    tests = [*given.tests, *(["-k", given.only] if given.only else [])]
    left: list[Survivor] = []
    for path in given.modules:
        tried, survivors, took = hunt(path, tests, given.most, given.seed)
        print(f"{path}: {tried - len(survivors)} of {tried} noticed ({took:.1f} s for the tests)")
        for _, mutant in survivors:
            print(f"  {path}:{mutant.line}: {mutant.what}")
        left += survivors
    return bool(left)


if __name__ == "__main__":
    sys.exit(main())
