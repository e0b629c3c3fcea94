"""The tests of the rental: each shows a part of ``reprise.testing``."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import rental
from rental import Approval, Refused, rent
from reprise import Reprise, RunHandle
from reprise.testing import (
    CrashPoint,
    Delay,
    EffectsLedger,
    LostWake,
    Pause,
    ScriptedAgent,
    World,
    assert_replays,
    record_exported,
    run,
    scripted_from,
)

HISTORIES = Path(__file__).parent / "histories"
bank = EffectsLedger()
writer = ScriptedAgent({"lawyer": "The tool comes back."})


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a ledger in the place of the bank and a script in that of the agent."""
    bank.clear()
    writer.calls.clear()
    monkeypatch.setattr(rental, "bank", bank)
    monkeypatch.setattr(rental, "writer", writer)


async def approve(handle: RunHandle[str], every: float = 3600) -> None:
    """Be the clerk, who looks every hour, and not for ever."""
    for _ in range(100):
        await asyncio.sleep(every)
        if await handle.questions():
            await handle.answer(Approval(approved=True), by="ada", timeout=None)
            return
    raise AssertionError("the clerk was asked nothing")


# ---- virtual time: weeks pass in milliseconds


def test_a_tool_is_rented_for_four_weeks() -> None:
    async def main() -> tuple[str, float]:
        async with Reprise("memory://") as app:
            handle = await app.start(rent, "Ada", "drill", 4)
            await approve(handle)
            return await handle.result(), asyncio.get_running_loop().time() / 86_400

    result, passed = run(main)
    assert result == "drill is back from Ada"
    assert passed == pytest.approx(28, abs=1.1)
    assert [effect.name for effect in bank.done] == ["deposit", "return"]
    assert "Ada" in writer.assert_asked("lawyer", times=1).task


def test_nobody_approves_and_the_deposit_goes_back() -> None:
    async def main() -> None:
        async with Reprise("memory://") as app:
            await app.run(rent, "Ada", "drill", 4)

    with pytest.raises(Refused, match="nobody looked at it"):
        run(main)
    assert [effect.name for effect in bank.done] == ["deposit", "give back"]


# ---- crash points: the worker is killed before and after everything that it writes


@pytest.mark.crash_points(rent, "Ada", "drill", 4, driver=approve, effects=bank)
def test_a_crash_changes_nothing(point: CrashPoint) -> None:
    assert point.result == "drill is back from Ada"
    assert bank.count("deposit") == bank.count("return") == 1


@pytest.mark.crash_points(rent, "Ada", "drill", 4, effects=bank)
def test_a_crash_does_not_keep_a_deposit(point: CrashPoint) -> None:
    assert isinstance(point.error, Refused)
    assert bank.count("deposit") == bank.count("give back") == 1


# ---- simulation: several workers, a store that answers late or not at all, crashes, pauses, wrong clocks


FAULTS = [Delay(), LostWake(), Pause()]


@pytest.mark.simulate(seeds=20, faults=FAULTS)
async def test_many_rentals_whatever_goes_wrong(world: World) -> None:
    bank.clear()
    world.workers(2, workflows=[rent])
    async with world.client() as app:
        # Weeks of faults are long also in virtual time: here the tools come back at once.
        handles = [await app.start(rent, "Ada", tool, 0, id=tool) for tool in ("drill", "saw")]
        await asyncio.gather(*(approve(handle, every=60) for handle in handles))
        assert [await handle.result() for handle in handles] == [
            "drill is back from Ada",
            "saw is back from Ada",
        ]
    assert bank.count("deposit") == bank.count("return") == 2


# ---- what really happened: exported histories, and a run as a fixture


def test_histories_of_production_replay() -> None:
    assert assert_replays(HISTORIES, rental) == 2
    assert bank.done == []


def test_a_real_run_is_played_back(tmp_path: Path) -> None:
    record_exported(HISTORIES / "rentals.jsonl", tmp_path / "run.jsonl", "rental-1")
    fixture = scripted_from(tmp_path / "run.jsonl")

    async def main() -> str:
        async with Reprise("memory://", middleware=[fixture]) as app:
            handle = await app.start(rent, *fixture.args, **fixture.kwargs)
            await approve(handle)
            return await handle.result()

    assert run(main) == "drill is back from Ada"
    assert bank.done == []
