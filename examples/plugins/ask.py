"""A plugin is found, trusted and asked; then one of its files changes, and nobody asks it any more.

    python examples/plugins/ask.py

It works on a copy of the folder beside it, and writes down who is trusted in the same place, not among your settings.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path

from reprise import PluginManager, ToolError, ToolRegistry, create_builtin_tools_library


def show(manager: PluginManager) -> None:
    """Print what the manager knows."""
    for plugin in manager.list_plugins():
        may = ", ".join(plugin["permissions"]) or "nothing beside returning something"
        print(f"  {plugin['name']} {plugin['version']} is {plugin['status']}; may: {may}")
        if plugin["reason"]:
            print(f"  {plugin['reason']}")


async def ask(registry: ToolRegistry) -> None:
    """Call the tools of the plugin like any others."""
    print("found:", [tool.name for tool in registry.search("warm towns", limit=1)])
    print("warm in June:", await registry.execute_tool("weather_warm_towns", {"month": 6}))
    print("on a day:", await registry.execute_tool("weather_on", {"town": "Southbay", "day": "2026-12-24"}))
    try:
        await registry.execute_tool("weather_normals", {"town": "Paris", "month": 6})
    except ToolError as error:
        print("refused:", error)


def main(folder: Path) -> None:
    """Live through it in a folder that is thrown away."""
    plugins, trust = folder / "plugins", folder / "trust.json"
    here = Path(__file__).parent / "weather"
    shutil.copytree(here, plugins / "weather", ignore=shutil.ignore_patterns("__pycache__"))
    registry = ToolRegistry(create_builtin_tools_library())
    with PluginManager([plugins], registry, trust_store=trust, packages=False) as manager:
        manager.install_plugin("weather")
        show(manager)
        asyncio.run(ask(registry))

    with (plugins / "weather" / "climate.csv").open("a") as table:
        table.write("Paris,celsius,99,99,99,99,99,99,99,99,99,99,99,99\n")
    with PluginManager([plugins], trust_store=trust, packages=False) as manager:
        print("after a change, installed:", manager.install_plugin("weather"))
        show(manager)
        manager.trust("weather")
        print("once somebody trusts it again:", manager.install_plugin("weather"))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        main(Path(made))
