"""Read the outline of Python source from its syntax tree: functions, names, docstrings, shared state."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field

_FILE = "<reviewed>"
# The parser warns about the code under review (odd escapes and the like); those are not warnings about this program.
warnings.filterwarnings("ignore", module=_FILE)

_BLOCKS = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.Try, ast.TryStar, ast.With, ast.AsyncWith, ast.Match)
_BRANCHES = (ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler)
FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(slots=True)
class Definition:
    """A function: the name with its classes, first and last line, paths through it, deepest block, parameters."""

    name: str
    line: int
    last: int
    parameters: int
    paths: int = 1
    nesting: int = 0


@dataclass(slots=True)
class Outline:
    """What one walk over a tree finds."""

    definitions: list[Definition] = field(default_factory=list[Definition])
    names: dict[str, str] = field(default_factory=dict[str, str])
    """What an imported name stands for: ``{"sp": "subprocess"}``; relative ones keep their dots."""
    imports: set[str] = field(default_factory=set[str])
    """Dotted names that are imported, and those used of an imported module: ``a.b`` for ``import a; a.b()``."""
    defines: set[str] = field(default_factory=set[str])
    public: int = 0
    documented: int = 0
    docstring_lines: set[int] = field(default_factory=set[int])
    global_names: set[str] = field(default_factory=set[str])


@dataclass(frozen=True, slots=True)
class _Spot:
    """Where a node stands: the dotted name around it, the function that it belongs to, the blocks around it."""

    node: ast.AST
    inside: str = ""
    owner: Definition | None = None
    depth: int = 0


def parse(source: str) -> ast.Module | str:
    """Return the tree, or in words why there is none."""
    try:
        return ast.parse(source, _FILE)
    except SyntaxError as error:
        return f"syntax error in line {error.lineno}" if error.lineno else f"syntax error: {error.msg}"
    except ValueError as error:  # NUL characters, on some versions
        return f"syntax error: {error}"
    except (RecursionError, MemoryError):
        return "nested too deeply to be parsed"


def outline(tree: ast.Module) -> Outline:
    """Walk the tree once, without recursion, so that no source is too deep."""
    found = Outline(defines=set(_defined(tree)))
    _count_docstring(found, tree, "")
    used: list[tuple[str, str]] = []
    waiting = [_Spot(tree)]
    while waiting:
        here = waiting.pop()
        for child in ast.iter_child_nodes(here.node):
            if here.owner:
                here.owner.paths += _branches(child)
            match child:
                case ast.FunctionDef() | ast.AsyncFunctionDef():
                    definition = _definition(child, here.inside)
                    found.definitions.append(definition)
                    _count_docstring(found, child, definition.name)
                    waiting.append(_Spot(child, f"{definition.name}.", definition))
                    continue
                case ast.ClassDef():
                    name = here.inside + child.name
                    _count_docstring(found, child, name)
                    waiting.append(_Spot(child, f"{name}."))
                    continue
                case ast.Import() | ast.ImportFrom():
                    _take_import(found, child)
                case ast.Global():
                    found.global_names.update(child.names)
                case ast.Attribute(value=ast.Name(id=name)):
                    used.append((name, child.attr))
                case _:
                    pass
            waiting.append(_Spot(child, here.inside, here.owner, _deeper(here, child)))
    found.imports.update(
        f"{found.names[name]}.{attribute}" for name, attribute in used if name in found.names
    )
    return found


def dotted(node: ast.expr, names: dict[str, str]) -> str:
    """Return the full dotted name that an expression stands for; an attribute of a value has none."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return ""
    return ".".join([names.get(node.id, node.id), *reversed(parts)])


def _branches(node: ast.AST) -> int:
    """Return how many ways a node adds to McCabe's count of paths."""
    if isinstance(node, _BRANCHES):
        return 1
    match node:
        case ast.BoolOp():
            return len(node.values) - 1
        case ast.comprehension():
            return 1 + len(node.ifs)
        case ast.match_case():
            return not (
                isinstance(node.pattern, ast.MatchAs) and node.pattern.pattern is None and not node.guard
            )
        case _:
            return 0


def _deeper(here: _Spot, child: ast.AST) -> int:
    """Return how deep a child stands, and tell its function; an ``elif`` is as deep as its ``if``."""
    if not isinstance(child, _BLOCKS):
        return here.depth
    is_elif = (
        isinstance(here.node, ast.If)
        and isinstance(child, ast.If)
        and here.node.orelse == [child]
        and child.col_offset == here.node.col_offset
    )
    depth = here.depth + (not is_elif)
    if here.owner:
        here.owner.nesting = max(here.owner.nesting, depth)
    return depth


def _definition(node: FunctionNode, inside: str) -> Definition:
    given = node.args
    parameters = len(given.posonlyargs) + len(given.args) + len(given.kwonlyargs)
    parameters += (given.vararg is not None) + (given.kwarg is not None)
    own = given.posonlyargs + given.args
    parameters -= bool(own) and own[0].arg in {"self", "cls"}
    return Definition(inside + node.name, node.lineno, node.end_lineno or node.lineno, parameters)


def _count_docstring(found: Outline, node: FunctionNode | ast.ClassDef | ast.Module, name: str) -> None:
    has_docstring = ast.get_docstring(node, clean=False) is not None
    if has_docstring:
        first = node.body[0]
        found.docstring_lines.update(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    if not any(
        part.startswith("_") for part in name.split(".")
    ):  # private, or special and described by the language
        found.public += 1
        found.documented += has_docstring


def _take_import(found: Outline, node: ast.Import | ast.ImportFrom) -> None:
    """Note the names that an import binds; what comes ``from`` a module may itself be a module."""
    if isinstance(node, ast.Import):
        for alias in node.names:  # "import a.b" binds a, "import a.b as c" binds c to a.b
            bound = alias.asname or alias.name.partition(".")[0]
            found.names[bound] = alias.name if alias.asname else bound
            found.imports.add(alias.name)
        return
    module = "." * node.level + (node.module or "")
    found.imports.add(module)
    for alias in node.names:
        source = f"{module}.{alias.name}" if node.module else module + alias.name
        found.names[alias.asname or alias.name] = source
        found.imports.add(source)


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
