"""The coders: measure one file each. Any input is answered with findings; nothing in a file can stop the review."""

from __future__ import annotations

import ast
import re
import stat
from itertools import pairwise
from pathlib import Path

import lizard

from .clones import fingerprints
from .facts import TEST, Findings, Function, Measured, Risk, SourceFile, Traces
from .names import unspell
from .outline import Outline, outline, parse
from .risks import python_risks, text_risks

MAX_BYTES = 1_000_000
MAX_LINE = 5_000
"""A longer line was written by a program: such files are counted, not measured."""
HARD = 15
"""Paths from which on a function counts as hard."""
_KEPT_FUNCTIONS = 12
_TODO = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
_COMMENT = ("#", "//", "/*", "*", "--")


def measure(root: Path, file: SourceFile) -> Measured:
    """Measure a code or test file: size, functions, risks, fingerprints."""
    try:
        place = root / unspell(file.path)
        if not stat.S_ISREG(place.lstat().st_mode):
            return _nothing(file, "no longer a regular file")
        if file.size > MAX_BYTES:
            return _nothing(file, f"too large to be measured ({file.size:,} bytes)")
        source = place.read_bytes()[: MAX_BYTES + 1].decode(file.encoding or "utf-8", "replace")
    except OSError as error:
        return _nothing(file, f"could not be read: {error.strerror}")
    source = source.replace("\r\n", "\n").replace("\r", "\n")
    lines = source.removesuffix("\n").split("\n") if source else []  # splitlines() also breaks at form feeds
    if longest := max((len(line) for line in lines if len(line) > MAX_LINE), default=0):
        return _nothing(file, f"looks generated (a line of {longest:,} characters)", len(lines))
    return _measure(file, source, lines)


def _nothing(file: SourceFile, problem: str, lines: int = 0) -> Measured:
    nothing = Findings(file.path, lines, 0, 0, 0, 0, [], None, [], 0, 0, 0, 0, problem)
    return Measured(nothing, Traces(file.path, [], [], []))


def _measure(file: SourceFile, source: str, lines: list[str]) -> Measured:
    tree = parse(source) if file.language == "Python" else ""
    found = outline(tree) if isinstance(tree, ast.Module) else Outline()
    code, functions = _functions(file, source, lines, found)
    functions.sort(key=lambda f: (-f.complexity, -f.lines, f.line))
    findings = Findings(
        path=file.path,
        lines=len(lines),
        code=code or sum(bool(line.strip()) and not line.lstrip().startswith(_COMMENT) for line in lines),
        function_count=len(functions),
        hard=sum(f.complexity >= HARD for f in functions),
        complexity=sum(f.complexity for f in functions),
        functions=functions[:_KEPT_FUNCTIONS],
        longest=max(functions, key=lambda f: f.lines, default=None),
        risks=_risks(file, lines, tree),
        todos=sum(bool(_TODO.search(line)) for line in lines),
        public=found.public,
        documented=found.documented,
        global_names=len(found.global_names),
        problem=tree if isinstance(tree, str) else "",
    )
    return Measured(
        findings, Traces(file.path, sorted(found.imports), sorted(found.defines), fingerprints(lines))
    )


def _risks(file: SourceFile, lines: list[str], tree: ast.Module | str) -> list[Risk]:
    if isinstance(tree, ast.Module):
        return python_risks(tree, lines, is_test=file.kind == TEST)
    return text_risks(lines, file.language)


def _functions(file: SourceFile, source: str, lines: list[str], found: Outline) -> tuple[int, list[Function]]:
    """Return lines of code and the functions: paths counted by lizard, names and depth by the tree if there is one."""
    if not lizard.get_reader_for(file.path):
        return 0, []
    seen = lizard.analyze_file.analyze_source_code(file.path, source)
    by_line = {definition.line: definition for definition in found.definitions}
    functions: list[Function] = []
    for each in seen.function_list:
        known = by_line.get(each.start_line)
        last = known.last if known else each.end_line
        functions.append(
            Function(
                name=(known.name if known else each.name)[:120],
                line=each.start_line,
                lines=last - each.start_line + 1,
                complexity=each.cyclomatic_complexity,
                nesting=known.nesting if known else _indents(lines[each.start_line - 1 : each.end_line]),
                parameters=known.parameters if known else len(each.full_parameters),
            )
        )
    return seen.nloc, functions


def _indents(lines: list[str]) -> int:
    """Estimate the nesting of a function from the indentation of its lines."""
    depths = sorted(
        {len(line.expandtabs(4)) - len(line.expandtabs(4).lstrip()) for line in lines if line.strip()}
    )
    if len(depths) < 3:  # the head and the body: no block inside
        return 0
    step = max(2, min(after - before for before, after in pairwise(depths)))
    return max(0, (depths[-1] - depths[0]) // step - 1)
