"""The trip of the examples: what is booked when it can be paid, and what is left when it cannot."""

import importlib.util
from pathlib import Path

import pytest

from reprise import Reprise


@pytest.fixture
def flow(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = Path(__file__).parents[3] / "examples" / "trip" / "flow.py"
    spec = importlib.util.spec_from_file_location("trip_flow", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def booked(flow):
    return sorted(what for what, _ in flow.ask("SELECT what, price FROM booked"))


async def test_a_trip_that_can_be_paid_stays_booked(flow):
    async with Reprise("memory://") as app:
        assert await app.run(flow.trip, "rome", 900) == "receipt-rome"
    assert booked(flow) == ["charge", "flight", "room"]


async def test_a_trip_that_cannot_be_paid_is_given_back(flow):
    async with Reprise("memory://") as app:
        with pytest.raises(ValueError, match="the card refuses 500"):
            await app.run(flow.trip, "oslo", 100, id="oslo")
        effects = await app.client.effects("oslo")
    assert booked(flow) == []
    assert [(one.effect, one.undo) for one in effects] == [
        ("flight", "undone"),
        ("room", "undone"),
        ("charge", "undone"),
    ]
