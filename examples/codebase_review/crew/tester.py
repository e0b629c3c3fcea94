"""The tester: which tests belong to which code, by what they import and use and what they are named after.

This is a map and no measurement: nothing is executed. A file without any tie to a test is surely not tested on
purpose; a file with ties may still be tested badly.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import PurePosixPath

from .facts import CODE, TEST, CoverageMap, SourceFile, Ties, Traces
from .names import subject_of


def map_tests(folder: str, files: list[SourceFile], traces: list[Traces]) -> CoverageMap:
    """Tie tests to code and code to code; ``folder`` is the name of the reviewed folder, which may be a package."""
    kinds = {file.path: file.kind for file in files}
    package = folder if "__init__.py" in kinds else ""
    modules = _Modules(traces, {file.path for file in files if file.language == "Python"}, package)
    by_stem: defaultdict[str, list[str]] = defaultdict(list)
    for path, kind in kinds.items():
        if kind == CODE:
            by_stem[PurePosixPath(path).stem].append(path)
    tests: defaultdict[str, set[str]] = defaultdict(set)
    uses: defaultdict[str, set[str]] = defaultdict(set)
    adrift: list[str] = []
    for found in traces:
        targets = modules.needed_by(found.path) - {found.path}
        if kinds.get(found.path) == TEST:
            subject = subject_of(found.path)
            targets |= set(_nearest(found.path, by_stem.get(subject) or by_stem.get(f"_{subject}") or []))
        targets = {target for target in targets if kinds.get(target) == CODE}
        side = tests if kinds.get(found.path) == TEST else uses
        for target in targets:
            side[target].add(found.path)
        if not targets and subject_of(found.path) and kinds.get(found.path) == TEST:
            adrift.append(found.path)
    used = _turn(uses)
    code = sorted(path for path, kind in kinds.items() if kind == CODE)
    return CoverageMap(
        ties=[Ties(path, sorted(tests[path]), len(uses[path]), len(used[path])) for path in code],
        test_files=sum(kind == TEST for kind in kinds.values()),
        adrift=sorted(adrift),
    )


def _turn(edges: dict[str, set[str]]) -> defaultdict[str, set[str]]:
    turned: defaultdict[str, set[str]] = defaultdict(set)
    for target, sources in edges.items():
        for source in sources:
            turned[source].add(target)
    return turned


def _nearest(test: str, paths: list[str]) -> list[str]:
    """Of several files with the right name, those that share the most folders with the test."""
    folders = set(PurePosixPath(test).parts[:-1])
    shared = [len(folders & set(PurePosixPath(path).parts[:-1])) for path in paths]
    return [path for path, count in zip(paths, shared, strict=True) if count == max(shared)]


class _Modules:
    """The Python modules of the project, and which of them a dotted name leads to."""

    def __init__(self, traces: list[Traces], python: set[str], package: str) -> None:
        self._name_of = {path: _module_name(path, python, package) for path in python}
        self._path_of = {name: path for path, name in self._name_of.items()}
        self._imports = {each.path: self._absolute(each) for each in traces if each.path in python}
        self._defines = {each.path: set(each.defines) for each in traces}

    def needed_by(self, path: str) -> set[str]:
        """Paths of the project's modules whose names a file imports or uses."""
        found = (self._lead(name) for name in self._imports.get(path, ()))
        return {target for target in found if target}

    def _lead(self, name: str, depth: int = 4) -> str:
        """Follow a dotted name to the file that defines it, through packages that only pass it on."""
        if name in self._path_of:
            return self._path_of[name]
        module, _, attribute = name.rpartition(".")
        path = self._path_of.get(module, "")
        if not path or attribute in self._defines.get(path, ()) or not depth:
            return path
        for passed in self._imports.get(path, ()):
            source, _, last = passed.rpartition(".")
            if source != module and last == attribute:
                return self._lead(passed, depth - 1)
            if last == "*" and attribute in self._defines.get(self._path_of.get(source, ""), ()):
                return self._path_of[source]
        return path

    def _absolute(self, traces: Traces) -> list[str]:
        here = self._name_of[traces.path]
        is_package = PurePosixPath(traces.path).stem == "__init__"
        return [_absolute(name, here, is_package=is_package) for name in traces.imports]


def _module_name(path: str, known: set[str], package: str) -> str:
    """Name a module by the folders above it that are packages; folders without ``__init__`` end the name."""
    pure = PurePosixPath(path)
    parts = [] if pure.stem == "__init__" else [pure.stem]
    folder = pure.parent
    while folder.name and str(folder / "__init__.py") in known:
        parts.insert(0, folder.name)
        folder = folder.parent
    if not folder.name and package:
        parts.insert(0, package)
    return ".".join(parts)


def _absolute(name: str, here: str, *, is_package: bool) -> str:
    level = len(name) - len(name.lstrip("."))
    if not level:
        return name
    parts = here.split(".")
    keep = len(parts) - level + is_package
    return ".".join([*parts[: max(keep, 0)], *filter(None, [name.lstrip(".")])])
