"""Rules that are taken out one by one: a proof that holds with a rule has to fail without it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from tests.replay import harness, rules
from tests.replay.harness import trial

from reprise import RepriseError

SEEDS = 12
"""Timings that are tried until a rule that is missing shows."""

Prove = Callable[[int], Awaitable[Any]]
Change = Callable[[pytest.MonkeyPatch], None]


@dataclass
class Ablation:
    """A rule, how to take it out, and what then goes wrong."""

    number: int
    prove: Prove
    take_out: Change
    always: Change = lambda patch: None
    """What makes the proof sharp; done with and without the rule."""

    async def holds(self, patch: pytest.MonkeyPatch) -> None:
        """Prove that nothing goes wrong with the rule; what always fails would prove nothing without it."""
        self._begin(patch, 20.0)
        for seed in range(2):
            await self.prove(seed)

    async def goes_wrong(self, patch: pytest.MonkeyPatch) -> None:
        """Prove that something does without it."""
        self._begin(patch, 1.0)
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        self.take_out(patch)
        for seed in range(SEEDS):
            try:
                await self.prove(seed)
            except (AssertionError, RepriseError, KeyError, TimeoutError):
                return
        pytest.fail(f"rule {self.number} can be taken out and nothing shows it")

    def _begin(self, patch: pytest.MonkeyPatch, patience: float) -> None:
        patch.setattr(harness, "PATIENCE", patience)
        rules.shared.clear()  # a run of the same name, with another rule taken out, may have spoiled it
        self.always(patch)


class Ablations(dict[str, Ablation]):
    """The rules of one module, by the name of what takes them out."""

    def rule(
        self, number: int, prove: Prove, always: Change = lambda patch: None
    ) -> Callable[[Change], Change]:
        """Register the decorated function, which takes the rule out."""

        def add(take_out: Change) -> Change:
            self[take_out.__name__] = Ablation(number, prove, take_out, always)
            return take_out

        return add


def corpus(*names: str) -> Prove:
    """Prove that every prefix of these patterns resumes to the stated result."""

    async def prove(seed: int) -> None:
        await asyncio.gather(*(trial(name, 1000 + seed) for name in names))

    return prove
