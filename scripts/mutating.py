"""What tries mutants of `scripts/mutate.py --all`: a pytest plugin, in one process that has imported and collected all.

First a map is made, or read from where the last run left it: each test is run once under coverage, which tells what lines
it executes and what it takes. Then each mutant is tried in a fork of the process: the code of the functions of its module
is exchanged in place, and the tests that execute its line run, the cheapest first, until one fails. That costs a tenth of
a second where a process of its own would cost three. What the import of a module executes is tried in a process of its
own. Processes that tests start read the changed module from the copy of the sources.
"""

from __future__ import annotations

import faulthandler
import gc
import hashlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any, NamedTuple

import hypothesis
import pytest
from coverage import Coverage
from coverage.numbits import numbits_to_nums
from hypothesis import Phase
from scripts.mutate import Mutant, applied, changed_tree, mutants

JOB = "REPRISE_MUTATION_JOB"
FORK = multiprocessing.get_context("fork")
ELSEWHERE = {"runtime/executors/": "tests/contract/executors/"}
"""What runs in other processes than the tests', where coverage does not look, and the tests that start those."""


class Test(NamedTuple):
    """What is known of a test: how long it takes, and what lines of what file it executes."""

    seconds: float
    lines: dict[str, list[int]]


Map = dict[str, Test]


def pytest_configure(config: pytest.Config) -> None:
    """Begin, if this process was started for it."""
    if job := os.environ.pop(JOB, ""):
        config.pluginmanager.register(Trials(config, json.loads(job)))


class Trials:
    """The loop of tests of this process: instead of running each test once, it tries mutants."""

    def __init__(self, config: pytest.Config, job: dict[str, Any]) -> None:
        self._config = config
        self._job = job
        self._source = Path(job["source"])
        self._answers = os.fdopen(job["answers"], "w", buffering=1)
        os.set_inheritable(job["answers"], False)
        self._noticed = self._source.with_name("noticed")
        self._kills: Counter[str] = Counter()
        """How many mutants each test noticed; with those it is tried first."""
        self._in_fork = False
        self._seconds: dict[str, float] = defaultdict(float)
        self._failed: set[str] = set()
        # Thirty examples notice what a thousand do, nearly always; and what fails need not be made small.
        for name, value in (("max_examples", 30), ("phases", (Phase.explicit, Phase.generate))):
            type.__setattr__(hypothesis.settings, name, property(lambda _, value=value: value))

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Make the map, then try what is to be tried."""
        if session.testsfailed:
            raise session.Interrupted("tests cannot be collected")
        self._items = {item.nodeid: item for item in session.items}
        self._map = self._made_map()
        self._functions = _functions_by_file(str(self._source))
        for number, file in enumerate(self._job["files"]):
            self._try_file(file, number)
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Stop a fork at the first failure: the mutant is noticed."""
        self._seconds[report.nodeid] += report.duration
        if report.failed:
            self._failed.add(report.nodeid)
            if self._in_fork:
                self._noticed.write_text(report.nodeid, "utf-8")
                os._exit(1)

    # ------------------------------------------------------------ the map

    def _made_map(self) -> Map:
        """Return the map of all tests; what was mapped before is taken from the file, as long as its sources are the same."""
        kept = Path(self._job["map"])
        old = json.loads(kept.read_text("utf-8")) if kept.exists() else {}
        # Where nothing is mutated a change may lead elsewhere too, but a few tests more or less do not matter.
        rooms = [self._source / room for room in self._job["rooms"]]
        sources = _digest(sorted(path for room in rooms for path in room.rglob("*.py")))
        files = {str(item.path): _digest([item.path]) + sources for item in self._items.values()}
        known: dict[str, str] = old.get("files", {})
        tests: Map = {
            name: Test(*test)
            for name, test in old.get("tests", {}).items()
            if name not in self._items or known.get(path := str(self._items[name].path)) == files[path]
        }
        fresh = [name for name in self._items if name not in tests]
        if fresh:
            self._say(mapping=len(fresh))
            tests |= self._mapped(fresh)
            kept.parent.mkdir(exist_ok=True)
            kept.write_text(json.dumps({"files": known | files, "tests": tests}), "utf-8")
        return {name: test for name, test in tests.items() if name in self._items}

    def _mapped(self, names: list[str]) -> Map:
        with tempfile.TemporaryDirectory() as folder:
            data, told = Path(folder, "data"), Path(folder, "told")
            fork = FORK.Process(target=self._cover, args=(names, data, told))
            fork.start()
            fork.join()
            seconds = json.loads(told.read_text("utf-8"))
            lines: dict[str, dict[str, list[int]]] = defaultdict(dict)
            with sqlite3.connect(data) as rows:
                for name, path, bits in rows.execute(
                    "select context, path, numbits from line_bits join context on context.id = context_id"
                    " join file on file.id = file_id where context <> ''"
                ):
                    lines[name][str(Path(path).relative_to(self._source))] = numbits_to_nums(bits)
            return {name: Test(each, lines[name]) for name, each in seconds.items()}

    def _cover(self, names: list[str], data: Path, told: Path) -> None:
        """Run each test once, as a context of coverage; what fails is not told."""
        _be_alone()
        coverage = Coverage(data, source=[str(self._source)], config_file=False, messages=False)
        coverage.start()
        for name, following in _with_next(names):
            coverage.switch_context(name)
            item = self._items[name]
            self._config.hook.pytest_runtest_protocol(
                item=item, nextitem=following and self._items[following]
            )
        coverage.stop()
        coverage.save()
        left = {name: round(self._seconds[name], 4) for name in names if name not in self._failed}
        told.write_text(json.dumps(left), "utf-8")
        os._exit(0)

    # ------------------------------------------------------------ mutants

    def _try_file(self, file: str, number: int) -> None:
        target = self._source / file
        text, status = target.read_text("utf-8"), target.stat()
        found = list(mutants(text))
        if self._job["again"] is not None:
            found = [each for each in found if [file, each.function, each.what] in self._job["again"]]
        chance = random.Random(f"{self._job['seed']} {file}")  # noqa: S311
        picked = chance.sample(found, min(self._job["most"], len(found)))
        began = time.perf_counter()
        for place, mutant in enumerate(sorted(picked)):
            target.write_text(applied(text, mutant), "utf-8")
            os.utime(
                target, (place, 1_000_000 * (number + 1) + place)
            )  # no two are taken for one by their times
            names, of = self._tests_of(file, mutant)
            if self._is_alive(file, text, mutant, names) if names else self._outlives_import(file):
                self._say(file=file, **mutant._asdict(), ran=len(names), tests=of)
        target.write_text(text, "utf-8")
        os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
        took = round(time.perf_counter() - began, 1)
        self._say(file=file, tried=len(picked), of=len(found), took=took)

    def _tests_of(self, file: str, mutant: Mutant) -> tuple[list[str], int]:
        """Return the tests to run, as many as there is time for; and of how many."""
        names: list[str] = []
        if mutant.is_called:
            for line in (mutant.line, mutant.statement):
                names = names or [
                    name for name, test in self._map.items() if line in test.lines.get(file, ())
                ]
        else:
            names = self._any_of(file)
        names = names or [
            name
            for part, folder in ELSEWHERE.items()
            if part in file
            for name in self._map
            if name.startswith(folder)
        ]
        # First those that noticed most; then the cheapest, but every other one by chance: the cheap see little.
        rest = sorted(names, key=lambda name: self._map[name].seconds)
        chance = random.Random(f"{self._job['seed']} {file} {mutant.node}")  # noqa: S311
        anyhow = chance.sample(rest, len(rest))
        known = sorted((name for name in rest if self._kills[name]), key=lambda name: -self._kills[name])
        order = dict.fromkeys([*known[:50], *chain.from_iterable(zip(rest, anyhow, strict=True))])
        chosen, time_left = list[str](), float(self._job["seconds"])
        for name in order:
            if chosen and self._map[name].seconds > time_left:
                continue
            time_left -= self._map[name].seconds
            chosen.append(name)
        return chosen, len(names)

    def _any_of(self, file: str) -> list[str]:
        """Return tests that together execute all lines of a file that any test executes, cheap ones first."""
        seen: dict[int, int] = defaultdict(int)
        chosen = list[str]()
        for name, test in sorted(self._map.items(), key=lambda each: each[1].seconds):
            lines = test.lines.get(file, ())
            if any(seen[line] < 3 for line in lines):
                chosen.append(name)
                for line in lines:
                    seen[line] += 1
        return chosen

    def _outlives_import(self, file: str) -> bool:
        """Tell whether all goes well where a file is imported anew: what no test executes the import may execute."""
        names = self._any_of(file) or sorted(self._map, key=lambda name: self._map[name].seconds)
        return self._passes_in_process(names[:1])

    def _is_alive(self, file: str, text: str, mutant: Mutant, names: list[str]) -> bool:
        if mutant.is_called:
            code = compile(changed_tree(text, mutant), str(self._source / file), "exec", dont_inherit=True)
            changes = _changes(self._functions[str(self._source / file)], code)
            if changes is not None:
                return self._passes_in_fork(changes, names)
        return self._passes_in_process(names)

    def _passes_in_fork(self, changes: list[tuple[FunctionType, CodeType]], names: list[str]) -> bool:
        fork = FORK.Process(target=self._run, args=(changes, names))
        fork.start()
        fork.join()
        try:  # what its tests started
            os.killpg(fork.pid or 0, signal.SIGKILL)
        except ProcessLookupError:
            pass
        for left in Path(self._job["scratch"]).iterdir():
            shutil.rmtree(left, ignore_errors=True)
        if self._noticed.exists():
            self._kills[self._noticed.read_text("utf-8")] += 1
            self._noticed.unlink()
        return fork.exitcode == 0

    def _run(self, changes: list[tuple[FunctionType, CodeType]], names: list[str]) -> None:
        _be_alone()
        self._in_fork = True
        for function, code in changes:
            function.__code__ = code
        for name, following in _with_next(names):
            faulthandler.dump_traceback_later(10 + 10 * self._map[name].seconds, exit=True)
            self._config.hook.pytest_runtest_protocol(
                item=self._items[name], nextitem=following and self._items[following]
            )
        os._exit(0)

    def _passes_in_process(self, names: list[str]) -> bool:
        limit = 30 + 10 * sum(self._map[name].seconds for name in names)
        with subprocess.Popen(
            [*self._job["command"], "-x", *names],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        ) as process:  # fmt: skip
            try:
                return process.wait(limit) == 0
            except subprocess.TimeoutExpired:
                return False
            finally:
                try:
                    os.killpg(process.pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass

    def _say(self, **what: Any) -> None:
        print(json.dumps(what), file=self._answers)


def _be_alone() -> None:
    """Make this fork the head of its processes."""
    os.setsid()
    gc.freeze()


def _with_next(names: list[str]) -> Iterator[tuple[str, str | None]]:
    return zip(names, [*names[1:], None], strict=True)


def _digest(paths: list[Path]) -> str:
    whole = hashlib.blake2b(digest_size=8)
    for path in paths:
        whole.update(path.read_bytes())
    return whole.hexdigest()


# ---------------------------------------------------------------- exchanging code


def _functions_by_file(source: str) -> dict[str, list[FunctionType]]:
    """Return all functions that there are in this process, by the file that they are of."""
    found: dict[str, list[FunctionType]] = defaultdict(list)
    for each in gc.get_objects():
        if isinstance(each, FunctionType) and each.__code__.co_filename.startswith(source):
            found[each.__code__.co_filename].append(each)
    return found


def _changes(functions: list[FunctionType], module: CodeType) -> list[tuple[FunctionType, CodeType]] | None:
    """Return the new code of each function of a module; None = one closes over other variables now."""
    fresh = _pieces(module)
    changes = list[tuple[FunctionType, CodeType]]()
    for function in functions:
        old = function.__code__
        found = fresh.get((old.co_qualname, old.co_firstlineno), [])
        if len(found) == 1 and found[0].co_freevars == old.co_freevars:
            changes.append((function, found[0]))
        elif not old.co_qualname.endswith(
            ">"
        ):  # a lambda may have gone with the change, or stand beside another
            return None
    return changes


def _pieces(module: CodeType) -> dict[tuple[str, int], list[CodeType]]:
    """Return all code within that of a module, by qualified name and first line."""
    found: dict[tuple[str, int], list[CodeType]] = defaultdict(list)
    left = [module]
    while left:
        inner = [each for each in left.pop().co_consts if isinstance(each, CodeType)]
        for each in inner:
            found[each.co_qualname, each.co_firstlineno].append(each)
        left += inner
    return found
