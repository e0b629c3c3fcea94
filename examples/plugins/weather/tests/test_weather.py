"""The plugin as Reprise loads it: each example of its tools, and what they refuse."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from reprise import PluginManager, ToolError, ToolRegistry, create_builtin_tools_library

PLUGINS = Path(__file__).parents[2]


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[ToolRegistry]:
    known = ToolRegistry(create_builtin_tools_library())
    with PluginManager([PLUGINS], known, packages=False, trust_store=tmp_path / "trust.json") as manager:
        assert manager.install_plugin("weather"), manager.list_plugins()
        yield known
        manager.uninstall("weather")


def test_each_example_is_true(registry: ToolRegistry) -> None:
    for tool in registry.list("tag:weather"):
        for arguments, returns in tool.examples:
            assert asyncio.run(registry.execute_tool(tool.name, arguments)) == returns


def test_a_day_has_the_normals_of_its_month(registry: ToolRegistry) -> None:
    told = asyncio.run(registry.execute_tool("weather_on", {"town": "Westmoor", "day": "2026-07-14"}))
    assert told == {"town": "Westmoor", "month": "July", "celsius": 17.0, "rain_mm": 62.0}


def test_a_town_that_is_not_there_is_said(registry: ToolRegistry) -> None:
    with pytest.raises(ToolError, match="Known: Northport"):
        asyncio.run(registry.execute_tool("weather_normals", {"town": "Paris", "month": 1}))
