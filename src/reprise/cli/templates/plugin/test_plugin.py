"""The plugin as Reprise loads it."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from reprise import PluginManager, ToolError, ToolRegistry

PLUGIN = Path(__file__).parents[1]


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[ToolRegistry]:
    known = ToolRegistry()
    with PluginManager(
        [PLUGIN.parent], known, packages=False, trust_store=tmp_path / "trust.json"
    ) as manager:
        assert manager.install_plugin("PLUGIN_NAME"), manager.list_plugins()
        yield known


def test_somebody_is_greeted(registry: ToolRegistry) -> None:
    assert asyncio.run(registry.execute_tool("plugin_name_greet", {"name": "Ada"})) == "Hello, Ada!"


def test_what_is_no_name_is_refused(registry: ToolRegistry) -> None:
    with pytest.raises(ToolError, match="Expected `str`"):
        asyncio.run(registry.execute_tool("plugin_name_greet", {"name": 42}))


def test_each_example_is_true(registry: ToolRegistry) -> None:
    for tool in registry.list():
        for arguments, returns in tool.examples:
            assert asyncio.run(registry.execute_tool(tool.name, arguments)) == returns
