"""Bugs that are planted into the engine to see whether the simulation finds them.

Each is a line of the shipped source that is replaced while a test runs. What the suite finds is shown by
``python -m tests.simulation.planted``: how many seeds it took, and what was said.
"""

from __future__ import annotations

import ast
import inspect
import logging
import sys
import textwrap
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from importlib import import_module
from types import CodeType
from typing import Any, NamedTuple

from tests.simulation import suite

from reprise.testing.simulation import Simulated, simulate_once


class Plant(NamedTuple):
    """A bug: in ``where`` (module:function) the text ``old`` becomes ``new``; ``also`` a second such change."""

    name: str
    where: str
    old: str
    new: str
    also: tuple[str, str, str] | None = None
    scenarios: Sequence[suite.Scenario] = suite.SCENARIOS


PLANTS = [
    Plant(
        "token check removed",
        "reprise.stores.conditions:head_after",
        "elif group.token != head.token:",
        "elif False:",
    ),
    Plant(
        "fence compared with >= to the highest seen",
        "reprise.stores.conditions:head_after",
        "group.token <= head.token",
        "group.token < head.token",
    ),
    Plant(
        "version check removed",
        "reprise.stores.conditions:head_after",
        "if expected > 0 and expected != version:",
        "if False:",
    ),
    Plant(
        "settle without claim",
        "reprise.stores.memory.queue:MemoryQueue._settle",
        "entry = self._claim_of(settlement.task)",
        "entry = self._lines[settlement.task.queue].entries.get(settlement.task.id)",
    ),
    Plant(
        "off-by-one in tail",
        "reprise.stores.tail:tail",
        "after = record.position",
        "after = record.position + 1",
    ),
    Plant(
        "lease not renewed",
        "reprise.runtime.worker:Worker._renew",
        "(await self._store.lease.renew([self._grant], ttl))[0]",
        "self._grant",
    ),
    Plant(
        "ordinal from a global counter",
        "reprise.runtime.branch:Branch.step",
        "self.steps += 1",
        "self.steps = Branch.steps_of_all = getattr(Branch, 'steps_of_all', 0) + 1",
    ),
    Plant(
        "acknowledged before the commit",
        "reprise.stores.memory.log:MemoryLog.submit",
        "self._apply(append)",
        "asyncio.get_running_loop().call_later(0.01, self._apply, append)",
    ),
    Plant(
        "replay barrier removed",
        "reprise.runtime.execution:Execution._advance",
        "self.deliver(self.history.popleft())",
        "self.go_out()\n            self.deliver(self.history.popleft())",
    ),
    Plant(
        "completions delivered in arrival order",
        "reprise.runtime.execution:Execution.record",
        "self.out.append(Event(kind, at, key, data, print, took))",
        "self.out.append(event := Event(kind, at, key, data, print, took))\n"
        "    self.pending = deque(self.pending)\n"
        "    self.pending.append(event)\n"
        "    self.wake()",
        (
            "reprise.runtime.execution:Execution.committed",
            "if not self.finishing:",
            "if not self.finishing:\n        events = ()",
        ),
    ),
    Plant(
        "undo intent not durable",
        "reprise.runtime.intents:intend",
        "if not await execution.written():",
        "if False:",
    ),
    Plant(
        "restore without epoch",
        "reprise.stores.memory.store:MemoryStore.begin_epoch",
        "epoch = max(self.epoch, above) + 1",
        "return self.epoch",
    ),
    Plant(
        "timer fired twice",
        "reprise.runtime.outward:_fire",
        "execution.armed.pop(handle.key, None)",
        "execution.host.outer.call_later(0.001, _fire, execution, handle, context=execution.host.context)",
    ),
    Plant(
        "inbox consumed without record",
        "reprise.runtime.post:receive",
        "execution.record(Kind.SIGNAL_RECEIVED, record.key, record.data)",
        "execution.context.run(execution.mail.put, msgspec.json.decode(record.data)['name'], record)\n"
        "            execution.wake()",
    ),
    Plant(
        "mail delivered twice is consumed twice",
        "reprise.runtime.post:receive",
        "if record.key in execution.seen or execution.done:",
        "if execution.done:",
    ),
    Plant("limit not checked", "reprise.stores.conditions:check_room", "if taken >= slot.most:", "if False:"),
    Plant(
        "mail is not looked for after a take-over",
        "reprise.runtime.takeover:_take",
        "has_mail=True",
        "has_mail=False",
    ),
    Plant(
        "the dead keep their runs",
        "reprise.runtime.worker:Worker._dead",
        'return [owner for owner in others if owner in died or not await lease.holder(f"worker/{owner}")]',
        "return []",
    ),
    Plant(
        "due timers of runs that left memory are forgotten",
        "reprise.stores.memory.runs:MemoryRuns.due",
        "due = [row for _, id in passed if (row := rows[id]).owner in (None, owner)]",
        "due = []",
    ),
    *(
        Plant(f"SQLite: {name}", f"reprise.stores.sqlite.{where}", old, new, scenarios=suite.ON_SQLITE)
        for name, where, old, new in [
            ("turnstile removed", "turnstile:Turnstile.enter", "if self.enter_at_once():", "if True:"),
            (
                "gate of the turnstile removed",
                "turnstile:Turnstile.enter",
                "if self.enter_at_once():",
                "if self._turn.try_take():",
            ),
            (
                "heads are not looked at again when others have written",
                "ledger:Ledger.begin",
                "if version != self._data_version or",
                "if self._data_version < 0 or",
            ),
            (
                "acknowledged before the commit",
                "writer:Writer._transact",
                'connection.execute("COMMIT")',
                'self._tell(batch[:taken]); connection.execute("COMMIT")',
            ),
            (
                "commit left out",
                "writer:Writer._transact",
                'connection.execute("COMMIT")',
                'connection.execute("ROLLBACK" if self._share < 1 else "COMMIT")',
            ),
            (
                "tokens of a file are given twice",
                "meta:Counters.flush",
                "if self._token != self._last_token:",
                "if False:",
            ),
            ("settle without claim", "queue:_claim_of", " or known[1].token != task.token", ""),
            (
                "the living are taken for dead",
                "presence:SQLitePresence._is_free",
                "return False",
                "return True",
            ),
            (
                "places of others are not seen",
                "terms:Places.others",
                "return None if row[1] else row[0]",
                "return None",
            ),
            (
                "the answer of a reader that waits is dropped",
                "readers:Readers._answer",
                "self._told = False",
                "pass",
            ),
            (
                "commits are not synced",
                "database:open_writer",
                "PRAGMA synchronous = {synchronous}",
                "PRAGMA synchronous = OFF",
            ),
            ("a turn is never given back", "turnstile:Turnstile.leave", "self._turn.free()", "pass"),
        ]
    ),
]


@contextmanager
def planted(plant: Plant) -> Generator[None]:
    """Let the bug be there for a while."""
    changes = [plant[1:4], *([plant.also] if plant.also else [])]
    before = [(function, function.__code__) for function, _ in (changed(*change) for change in changes)]
    for function, code in [changed(*change) for change in changes]:
        function.__code__ = code
    try:
        yield
    finally:
        for function, code in before:
            function.__code__ = code


def changed(where: str, old: str, new: str) -> tuple[Any, CodeType]:
    """Return a function, and its code as it is with another text in it."""
    module_name, _, path = where.partition(":")
    module = import_module(module_name)
    target: Any = module
    for name in path.split("."):
        target = getattr(target, name)
    function: Any = inspect.unwrap(target)
    source = textwrap.dedent(inspect.getsource(function))
    if old not in source:
        raise LookupError(f"{where} has no {old!r} any more: plant it anew")
    tree = ast.parse(source.replace(old, new))
    tree.body[0].decorator_list.clear()  # type: ignore[attr-defined]
    made: dict[str, Any] = {}
    exec(compile(tree, f"<{where}>", "exec"), vars(module), made)
    return function, next(iter(made.values())).__code__


def seeds_to_catch(plant: Plant, most: int, first: int = 0) -> tuple[int, str]:
    """Return under which seed, counted from 1, the suite finds a bug, and how; 0 = it does not."""
    with planted(plant):
        for number in range(most):
            for scenario in plant.scenarios:
                try:
                    simulate_once(
                        scenario.play, first + number, scenario.faults, Simulated(), keeper=scenario.keeper
                    )
                except Exception as error:  # noqa: BLE001  whatever it is, it was found
                    return number + 1, f"{scenario.name}: {_innermost(error)}"
    return 0, "not found"


def _innermost(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"


def main(names: list[str]) -> None:
    for plant in PLANTS:
        if not names or any(name in plant.name for name in names):
            seeds, how = seeds_to_catch(plant, 200)
            sys.stdout.write(f"| {plant.name} | {seeds or 'not found'} | {how[:160]} |\n")
            sys.stdout.flush()


if __name__ == "__main__":
    logging.disable()
    main(sys.argv[1:])
