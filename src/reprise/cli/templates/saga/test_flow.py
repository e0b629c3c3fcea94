"""The saga, tested in memory: what was done is taken back in reverse order."""

import asyncio
from pathlib import Path

import pytest

import flow
from reprise import Reprise


async def run(address: str) -> str:
    async with Reprise("memory://") as app:
        return await app.run(flow.order, "book", 2, "visa-1", address)


def booked() -> list[str]:
    return [line.partition("  ")[0] for line in flow.LEDGER.read_text("utf-8").splitlines()]


@pytest.fixture(autouse=True)
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow, "LEDGER", tmp_path / "ledger.txt")


def test_an_order_that_cannot_be_shipped_is_taken_back() -> None:
    with pytest.raises(ValueError, match="no address"):
        asyncio.run(run(""))
    assert booked() == [
        "reserve 2 book",
        "charge 25.00 to visa-1",
        "refund 25.00 to visa-1",
        "release 2 book",
    ]


def test_an_order_is_shipped() -> None:
    assert asyncio.run(run("1 Long Lane")) == "2 book on the way to 1 Long Lane"
    assert booked()[-1] == "ship 2 book to 1 Long Lane"
