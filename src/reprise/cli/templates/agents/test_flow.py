"""The panel, tested in memory with agents whose words are known."""

import asyncio
from typing import Any

import pytest

import flow
from reprise import Reprise


def test_the_panel_follows_its_majority(monkeypatch: pytest.MonkeyPatch) -> None:
    async def think(role: str, prompt: str) -> str:
        _, asked, one = prompt.partition("\n")
        if not asked:
            return "I say"
        return "first" if "sceptic" in one else "second"

    async def main() -> dict[str, Any]:
        async with Reprise("memory://") as app:
            return await app.run(flow.panel, "Tea?")

    monkeypatch.setattr(flow, "think", think)
    result = asyncio.run(main())
    assert len(result["answers"]) == len(flow.PANEL)
    assert result["winner"] == "I say (sceptic)"
