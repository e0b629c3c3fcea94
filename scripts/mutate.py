"""Change one thing of a module at a time and see whether a test notices; what nobody notices is printed.

`scripts/mutate.py --all [--most 10] [--seed 1] [FILE …]` takes all files of runtime/ and stores/, or those named, each with
the tests that execute the changed line; what `docs/mutation.md` explains is no survivor (`make mutate`).
`scripts/mutate.py FILE … -t tests/unit/runtime/test_workers.py [--most 40] [--seed 1]` takes other files, with those tests.

Changes: a comparison the other way or off by one, `and`/`or`, a removed `not`, a condition that always or never holds, a
number one higher, True/False, a removed call, assignment, `await` or `raise`, `break`/`continue`, `+`/`-`. A test that hangs is cut off
and counts as noticing. Mutants are made in a copy of the sources, so the working tree stays as it is. Lines whose change means
nothing (docstrings, annotations, texts of errors) are left out.
"""

from __future__ import annotations

import argparse
import ast
import compileall
import copy
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
ROOMS = ("src/reprise/runtime", "src/reprise/stores")
TESTS = (
    *("tests/unit/runtime", "tests/unit/stores", "tests/unit/workflows", "tests/replay", "tests/simulation"),
    *("tests/contract", "--ignore=tests/contract/postgres"),
)
EXPLAINED = ROOT / "docs" / "mutation.md"
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
    function: str = ""
    """The qualified name of the function or class it is in; '' = the module."""
    statement: int = 0
    """The line where the statement begins that it is in."""
    is_called: bool = False
    """It is in the body of a function; else the import of the module executes it."""


class Survivor(NamedTuple):
    """A change that no test noticed."""

    path: Path
    mutant: Mutant


class Place(NamedTuple):
    """Where in a module a node stands: see ``Mutant``."""

    function: str = ""
    statement: int = 0
    is_called: bool = False


def mutants(text: str) -> Iterator[Mutant]:
    """Yield every mutant of a module."""
    tree = _read(text)
    places = dict(_places(tree, Place()))
    for number, node in enumerate(ast.walk(tree)):
        for kind in range(2 if id(node) in places else 0):
            changed = copy.copy(node)
            what = _change(changed, kind)
            if what:
                yield Mutant(changed.lineno, f"{_shown(node)}  =>  {what}", number, kind, *places[id(node)])  # type: ignore[attr-defined]


def applied(text: str, mutant: Mutant) -> str:
    """Return a module with a change."""
    return ast.unparse(changed_tree(text, mutant))


def changed_tree(text: str, mutant: Mutant) -> ast.Module:
    """Return the tree of a module with a change; what is not changed keeps its lines."""
    tree = _read(text)
    node = next(each for place, each in enumerate(ast.walk(tree)) if place == mutant.node)
    _change(node, mutant.kind)
    return ast.fix_missing_locations(tree)


def _places(node: ast.AST, place: Place) -> Iterator[tuple[int, Place]]:
    """Yield the place of each node, by its identity; annotations have none."""
    yield id(node), place
    within = place
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
            within = Place(f"{place.function}.{name}".lstrip("."), place.statement, is_called=True)
        case ast.ClassDef(name=name):
            within = place._replace(function=f"{place.function}.{name}".lstrip("."))
        case ast.Lambda():
            within = place._replace(is_called=True)
        case _:
            pass
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                inner = within if field == "body" else place
                if isinstance(child, ast.stmt):
                    inner = inner._replace(statement=child.lineno)
                yield from _places(child, inner)


def _read(text: str) -> ast.Module:
    tree = ast.parse(text)
    _drop_texts(tree)
    return ast.fix_missing_locations(tree)


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
        case ast.Return(value=ast.expr()) if kind == 0 and not _is_nothing(node.value):
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


def _is_nothing(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Constant) and not node.value


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


# ---------------------------------------------------------------- all files, each with the tests that execute the line


def hunt_all(files: list[str], tests: list[str], given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Try mutants of files, named from ``src/``, in one process (``scripts/mutating.py``); yield what it answers."""
    with tempfile.TemporaryDirectory(prefix="reprise-mutants-") as folder:
        copied, scratch = Path(folder, "src"), Path(folder, "scratch")
        shutil.copytree(ROOT / "src", copied, ignore=shutil.ignore_patterns("__pycache__"))
        compileall.compile_dir(copied, quiet=2)
        scratch.mkdir()
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "timeout=300"]
        command.append(f"--basetemp={scratch / 'tests'}")
        answers, told = os.pipe()
        job: dict[str, Any] = {
            "source": str(copied),
            "rooms": [str(Path(room).relative_to("src")) for room in ROOMS],
            "files": files,
            "most": given.most,
            "seed": given.seed,
            "seconds": given.seconds,
            "again": given.again,
            "map": str(ROOT / ".mutation" / "map.json"),
            "scratch": str(scratch),
            "command": command,
            "answers": told,
        }
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(copied), str(ROOT)]),
            "PYTHONDONTWRITEBYTECODE": "1",
            "HYPOTHESIS_STORAGE_DIRECTORY": str(Path(folder, "examples")),
        }
        log = Path(folder, "log")
        with (
            log.open("wb") as output,
            subprocess.Popen(
                [*command, "-p", "scripts.mutating", *tests],
                env={**environment, "REPRISE_MUTATION_JOB": json.dumps(job)},
                cwd=ROOT,
                pass_fds=[told],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            ) as process,
        ):
            os.close(told)
            with os.fdopen(answers, encoding="utf-8") as lines:
                yield from (json.loads(line) for line in lines)
        if process.returncode:
            raise SystemExit(log.read_text("utf-8", "replace")[-4000:])


def explained() -> dict[tuple[str, str, str], str]:
    """Return why survivors that are known mean nothing, by file, function and change, as ``docs/mutation.md`` says it."""
    found: dict[tuple[str, str, str], str] = {}
    file = ""
    for line in EXPLAINED.read_text("utf-8").splitlines() if EXPLAINED.exists() else ():
        if line.startswith("## "):
            file = line.removeprefix("## ").strip("` ")
        cells = [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)]
        if len(cells) == 5 and file:
            found[file, cells[1].strip("`"), cells[2].strip("`")] = cells[3]
    return found


def report_all(given: argparse.Namespace) -> int:
    """Try mutants of all files, or of those named; print each file's count and what survived unexplained."""
    named: list[Path] = given.modules or [
        path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))
    ]
    files = [str(path.resolve().relative_to(ROOT / "src")) for path in named]
    if given.again:
        before: list[dict[str, Any]] = json.loads(given.again.read_text("utf-8"))["left"]
        given.again = [[each["file"], each["function"], each["what"]] for each in before]
        files = [file for file in files if any(file == each[0] for each in given.again)]
    known = explained()
    left: list[dict[str, Any]] = []
    tried: dict[str, int] = {}
    for answer in hunt_all(files, given.tests or list(TESTS), given):
        match answer:
            case {"mapping": count}:
                print(f"looking which lines {count} tests execute", flush=True)
            case {"file": file, "tried": count, "of": of, "took": took}:
                alive = [each for each in left if each["file"] == file]
                known_ones = sum(bool(each["why"]) for each in alive)
                tried[file] = count
                print(
                    f"{file}: {count - len(alive)} of {count} noticed, {known_ones} explained,"
                    f" {len(alive) - known_ones} left ({of} mutants in all, {took} s)",
                    flush=True,
                )
            case {"file": file, "function": function, "what": what}:
                left.append({**answer, "why": known.get((file, function, what))})
                if left[-1]["why"] is None:
                    ran = (
                        f"{answer['ran']} of {answer['tests']} tests"
                        if answer["ran"]
                        else "no test executes it"
                    )
                    print(f"  {file}:{answer['line']} {function}: {what}  ({ran})", flush=True)
            case _:
                raise AssertionError(answer)
        if given.json:
            given.json.write_text(json.dumps({"tried": tried, "left": left}, indent=1), "utf-8")
    meaningless, whole = sum(bool(each["why"]) for each in left), sum(tried.values())
    print(
        f"{whole} mutants: {whole - len(left)} noticed, {meaningless} explained, {len(left) - meaningless} left"
    )
    return len(left) > meaningless


def main() -> int:
    """Read the command line; return 1 when something survives."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("modules", nargs="*", type=Path)
    parser.add_argument(
        "--all", action="store_true", help="all files of runtime/ and stores/, or those named"
    )
    parser.add_argument("-t", "--tests", nargs="+", default=[], help="what pytest is given")
    parser.add_argument("-k", "--only", default="", help="of these, what pytest -k means")
    parser.add_argument(
        "--most", type=int, default=100_000, help="so many mutants of each file, chosen by the seed"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--seconds", type=float, default=10, help="with --all: tests for so long, the cheapest"
    )
    parser.add_argument("--json", type=Path, help="with --all: where the result is written")
    parser.add_argument(
        "--again", type=Path, help="with --all: of such a result, try what survived, and nothing else"
    )
    given = parser.parse_args()
    if given.all:
        return report_all(given)
    if not (given.modules and given.tests):
        parser.error("name modules and their tests (-t), or say --all")
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
