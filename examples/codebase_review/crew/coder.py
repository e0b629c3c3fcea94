"""The coders: measure one file each, Python by its syntax tree, other languages by lizard.

Any input is answered with findings; nothing in a file can stop the review.
"""

from __future__ import annotations

import ast
import re
import stat
from itertools import pairwise
from pathlib import Path

import lizard

from .clones import fingerprints
from .facts import TEST, Findings, Function, Measured, SourceFile, Traces
from .names import unspell
from .outline import Definition, Outline, outline, parse
from .risks import python_risks, text_risks

MAX_BYTES = 1_000_000
MAX_LINE = 5_000
"""A longer line was written by a program: such files are counted, not measured."""
HARD = 15
"""Paths from which on a function counts as hard."""
_KEPT_FUNCTIONS = 12
_LONGEST_NAME = 120
_TODO = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
_COMMENTS: dict[str, tuple[str, ...]] = dict.fromkeys(("Python", "Perl", "R", "Ruby", "Shell"), ("#",))
_COMMENTS |= dict.fromkeys(("Lua", "SQL"), ("--",))
_OTHER_COMMENTS = ("//", "/*", "*")


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
    if isinstance(tree, ast.Module):
        functions = [_function(definition) for definition in found.definitions]
        risks = python_risks(tree, found.names, lines, is_test=file.kind == TEST)
    else:
        functions = _functions_by_lizard(file.path, source, lines)
        risks = text_risks(lines, file.language)
    functions.sort(key=lambda f: (-f.complexity, -f.lines, f.line))
    findings = Findings(
        path=file.path,
        lines=len(lines),
        code=_lines_of_code(file.language, lines, found.docstring_lines),
        function_count=len(functions),
        hard=sum(f.complexity >= HARD for f in functions),
        complexity=sum(f.complexity for f in functions),
        functions=functions[:_KEPT_FUNCTIONS],
        longest=max(functions, key=lambda f: f.lines, default=None),
        risks=risks,
        todos=sum(bool(_TODO.search(line)) for line in lines),
        public=found.public,
        documented=found.documented,
        global_names=len(found.global_names),
        problem=tree if isinstance(tree, str) else "",
    )
    return Measured(
        findings, Traces(file.path, sorted(found.imports), sorted(found.defines), fingerprints(lines))
    )


def _lines_of_code(language: str, lines: list[str], docstrings: set[int]) -> int:
    """Count the lines that are not blank, no comment and no docstring."""
    comments = _COMMENTS.get(language, _OTHER_COMMENTS)
    stripped = (line.strip() for at, line in enumerate(lines, 1) if at not in docstrings)
    return sum(bool(line) and not line.startswith(comments) for line in stripped)


def _function(found: Definition) -> Function:
    lines = found.last - found.line + 1
    return Function(
        found.name[:_LONGEST_NAME], found.line, lines, found.paths, found.nesting, found.parameters
    )


def _functions_by_lizard(path: str, source: str, lines: list[str]) -> list[Function]:
    """Return the functions of any of lizard's languages; Python that no longer parses is among them."""
    if not lizard.get_reader_for(path):
        return []
    return [
        Function(
            name=each.name[:_LONGEST_NAME],
            line=each.start_line,
            lines=each.end_line - each.start_line + 1,
            complexity=each.cyclomatic_complexity,
            nesting=_indents(lines[each.start_line - 1 : each.end_line]),
            parameters=len(each.full_parameters),
        )
        for each in lizard.analyze_file.analyze_source_code(path, source).function_list
    ]


def _indents(lines: list[str]) -> int:
    """Estimate the nesting of a function from the indentation of its lines."""
    depths = sorted(
        {len(line.expandtabs(4)) - len(line.expandtabs(4).lstrip()) for line in lines if line.strip()}
    )
    if len(depths) < 3:  # the head and the body: no block inside
        return 0
    step = max(2, min(after - before for before, after in pairwise(depths)))
    return max(0, (depths[-1] - depths[0]) // step - 1)
