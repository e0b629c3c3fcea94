"""Counts of what crash tests met, summed over all processes that shared the tests, and held against what must occur.

A zero says something only beside what was not zero: a module names in ``MUST_OCCUR`` what has to have happened in its
rounds, and next to each name the count that says whether anything was done for it at all. That is looked at in the end,
when it is known from all processes; what is missing then fails the run.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

NAME = "reprise_counts"
MOST = ("most ", "slowest ")
"""What a count begins with that is the largest of those of all processes, not their sum."""
Kept = dict[str, tuple[Counter[str], dict[str, str], str]]
"""By module: its counts, what must occur in it, and the seed."""

KEPT = pytest.StashKey[Kept]()


def counts_of(config: pytest.Config, module: Any, seed: int) -> Counter[str]:
    """Return the counts of a module in this process."""
    kept = config.stash.setdefault(KEPT, {})
    name = module.__name__.rpartition(".")[2]
    return kept.setdefault(name, (Counter(), getattr(module, "MUST_OCCUR", {}), str(seed)))[0]


def hand_over(config: pytest.Config) -> None:
    """Give the counts of this process to the one that started it, if there is one."""
    if hasattr(config, "workeroutput"):
        kept = config.stash.get(KEPT, {})
        config.workeroutput[NAME] = {
            name: (dict(counted), needed, seed) for name, (counted, needed, seed) in kept.items()
        }


def take_in(config: pytest.Config, node: Any) -> None:
    """Add the counts of a process that has ended."""
    kept = config.stash.setdefault(KEPT, {})
    for name, (counted, needed, seed) in getattr(node, "workeroutput", {}).get(NAME, {}).items():
        before, *_ = kept.get(name, (Counter(), {}, ""))
        for what, count in counted.items():
            before[what] = max(before[what], count) if what.startswith(MOST) else before[what] + count
        kept[name] = (before, needed, seed)


def missing(config: pytest.Config) -> list[str]:
    """Say what had to occur and did not."""
    return [
        f"{module}: {name}: 0 of {counted[of]:,} {of}: what else is zero says nothing"
        for module, (counted, needed, _) in config.stash.get(KEPT, {}).items()
        for name, of in needed.items()
        if counted[of] and not counted[name]
    ]


def show(config: pytest.Config, reporter: Any) -> None:
    """Print the counts, and what is missing."""
    for module, (counted, _, seed) in config.stash.get(KEPT, {}).items():
        reporter.section(f"{module}, REPRISE_CRASH_SEED={seed}")
        for name, count in counted.items():
            reporter.line(f"{name:42} {count:9,}")
    for line in missing(config):
        reporter.line(f"FAILED {line}", red=True)
