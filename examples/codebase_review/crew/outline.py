"""Read the outline of Python source from its syntax tree: functions, imports, docstrings, shared state."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field

_FILE = "<reviewed>"
# The parser warns about the code under review (odd escapes and the like); those are not warnings about this program.
warnings.filterwarnings("ignore", module=_FILE)

_BLOCKS = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.Try, ast.TryStar, ast.With, ast.AsyncWith, ast.Match)
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


@dataclass(frozen=True, slots=True)
class Definition:
    """A function as the tree has it: the name with its classes, the lines, the deepest block, the parameters."""

    name: str
    line: int
    last: int
    nesting: int
    parameters: int


@dataclass(slots=True)
class Outline:
    """What one walk over a tree finds."""

    definitions: list[Definition] = field(default_factory=list[Definition])
    imports: set[str] = field(default_factory=set[str])
    defines: set[str] = field(default_factory=set[str])
    public: int = 0
    documented: int = 0
    global_names: set[str] = field(default_factory=set[str])


def parse(source: str) -> ast.Module | str:
    """Return the tree, or in words why there is none."""
    try:
        return ast.parse(source, _FILE)
    except SyntaxError as error:
        return f"syntax error in line {error.lineno}"
    except ValueError:
        return "holds NUL characters"
    except (RecursionError, MemoryError):
        return "nested too deeply to be parsed"


def outline(tree: ast.Module) -> Outline:
    """Walk the tree once, without recursion, so that no source is too deep."""
    found = Outline()
    found.public += 1
    found.documented += ast.get_docstring(tree, clean=False) is not None
    waiting: list[tuple[ast.AST, str]] = [(tree, "")]
    while waiting:
        node, inside = waiting.pop()
        for child in _statements(node):
            name = inside
            match child:
                case ast.FunctionDef() | ast.AsyncFunctionDef():
                    name = f"{inside}{child.name}."
                    found.definitions.append(_definition(child, name[:-1]))
                    _count_docstring(found, child, name)
                case ast.ClassDef():
                    name = f"{inside}{child.name}."
                    _count_docstring(found, child, name)
                case ast.Import() | ast.ImportFrom():
                    found.imports.update(_imported(child))
                case ast.Global():
                    found.global_names.update(child.names)
                case _:
                    pass
            waiting.append((child, name))
    found.defines.update(_defined(tree))
    found.imports.update(_used(tree))
    return found


def bound_names(tree: ast.Module) -> dict[str, str]:
    """Map the names that a file imports to the dotted names that they stand for; relative ones keep their dots."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:  # "import a.b" binds a, "import a.b as c" binds c to a.b
                bound = alias.asname or alias.name.partition(".")[0]
                names[bound] = alias.name if alias.asname else bound
        elif isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name: _source(node, alias.name) for alias in node.names}
    return names


def dotted(node: ast.expr, names: dict[str, str]) -> str:
    """Return the full dotted name that an expression stands for; an attribute of a value has none."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return ""
    return ".".join([names.get(node.id, node.id), *reversed(parts)])


def _used(tree: ast.Module) -> Iterator[str]:
    """Yield what a file uses of the modules it imports: ``a.b`` for ``import a; a.b()``."""
    names = bound_names(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in names:
            yield f"{names[node.value.id]}.{node.attr}"


def _defined(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.name
            case ast.Assign():
                yield from (target.id for target in node.targets if isinstance(target, ast.Name))
            case ast.AnnAssign(target=ast.Name() as target):
                yield target.id
            case _:
                pass


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what stands in the blocks of a statement; expressions hold no definition with a name."""
    for block in ("body", "handlers", "orelse", "finalbody", "cases"):
        yield from getattr(node, block, ())


def _definition(node: ast.FunctionDef | ast.AsyncFunctionDef, name: str) -> Definition:
    given = node.args
    parameters = len(given.posonlyargs) + len(given.args) + len(given.kwonlyargs)
    parameters += (given.vararg is not None) + (given.kwarg is not None)
    own = given.posonlyargs + given.args
    parameters -= bool(own) and own[0].arg in {"self", "cls"}
    return Definition(name, node.lineno, node.end_lineno or node.lineno, _nesting(node), parameters)


def _nesting(function: ast.AST) -> int:
    deepest = 0
    waiting = [(child, 0) for child in _statements(function)]
    while waiting:
        node, depth = waiting.pop()
        if isinstance(node, _DEFINITIONS):
            continue  # counted as a function of its own
        if isinstance(node, _BLOCKS):
            depth += 1
            deepest = max(deepest, depth)
        for child in _statements(node):
            is_elif = isinstance(node, ast.If) and _continues(node, child)
            waiting.append((child, depth - 1 if is_elif else depth))
    return deepest


def _continues(node: ast.If, child: ast.AST) -> bool:
    return isinstance(child, ast.If) and node.orelse == [child] and child.col_offset == node.col_offset


def _count_docstring(
    found: Outline, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, name: str
) -> None:
    if any(part.startswith("_") for part in name[:-1].split(".")):
        return  # private, or special and described by the language
    found.public += 1
    found.documented += ast.get_docstring(node, clean=False) is not None


def _imported(node: ast.Import | ast.ImportFrom) -> list[str]:
    """Dotted names, relative ones with their dots; what comes ``from`` a module may itself be a module."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return ["." * node.level + (node.module or ""), *(_source(node, alias.name) for alias in node.names)]


def _source(node: ast.ImportFrom, name: str) -> str:
    return "." * node.level + (f"{node.module}." if node.module else "") + name
