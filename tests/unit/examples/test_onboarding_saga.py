"""The onboarding saga: what is set up, and what is taken back."""

import importlib.util
from pathlib import Path

import pytest

FILE = Path(__file__).parents[3] / "examples" / "onboarding_saga" / "onboarding.py"


@pytest.fixture
def example(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    spec = importlib.util.spec_from_file_location("onboarding_example", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def held(example):
    return [what for (what,) in example.ask("SELECT what FROM held ORDER BY rowid")]


async def test_a_customer_is_set_up_once(example, tmp_path):
    store = f"sqlite:///{tmp_path}/runs.db"
    first = await example.onboard("ada", "4711", store)
    assert (first.status, held(example)) == ("completed", ["account", "card", "letter"])
    assert await example.onboard("ada", "4711", store) == first
    assert held(example) == ["account", "card", "letter"]


async def test_what_was_set_up_is_taken_back(example, tmp_path):
    result = await example.onboard("bob", "expired", f"sqlite:///{tmp_path}/runs.db")
    assert (result.status, result.failed_step, result.compensated) == (
        "failed",
        "setup_payment",
        ["create_account"],
    )
    assert "has expired" in result.reason
    assert held(example) == []
