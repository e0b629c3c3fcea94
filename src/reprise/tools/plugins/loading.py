"""Loading the code of plugins, and making their tools known to a registry: all of them, or none."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from reprise.kernel.errors import ConfigurationError, ToolError
from reprise.tools.plugins.bounded import bounded
from reprise.tools.plugins.folder import Folder
from reprise.tools.plugins.importing import Importer
from reprise.tools.plugins.manifest import Manifest
from reprise.tools.plugins.plugin import Plugin
from reprise.tools.plugins.process import PluginProcess
from reprise.tools.plugins.registering import (
    CALLING,
    PluginRegistry,
    check_effects,
    check_reach,
    collect,
    guarded,
    offer,
)
from reprise.tools.policy import ToolPolicy
from reprise.tools.registry import ToolRegistry
from reprise.tools.tool import EFFECTS, Tool


class Loader:
    """Loads plugins for one registry; see :class:`PluginManager` for ``patience`` and ``memory``."""

    def __init__(self, registry: ToolRegistry, *, patience: float, memory: int) -> None:
        self._registry, self._patience, self._memory = registry, patience, memory

    def load(self, plugin: Plugin, manifest: Manifest, folder: Folder) -> None:
        """Load a plugin from the bytes of its folder. Raises ``ConfigurationError``; nothing stays then."""
        assert plugin.place is not None
        try:
            if manifest.isolation == "process":
                self._begin(plugin, manifest, folder, plugin.place)
            else:
                self._import(plugin, manifest, folder, plugin.place)
        except BaseException:
            plugin.unload()
            raise

    def load_package(self, plugin: Plugin) -> None:
        """Load what an installed package offers. Raises ``ConfigurationError``."""
        registry = self._given(plugin.name, EFFECTS)

        def load() -> None:
            for kind, point in plugin.points:
                found = point.load()
                if kind == "tools":
                    offer(found, registry)

        bounded(load, self._patience, "Importing it")
        plugin.offered = [guarded(each) for each in registry.offered]

    def _import(self, plugin: Plugin, manifest: Manifest, folder: Folder, place: Path) -> None:
        importer = plugin.importer = Importer(manifest.name, folder, place)
        registry = self._given(manifest.name, manifest.permissions)

        def load() -> None:
            module = importer.load(manifest.entry)
            if (version := getattr(module, "__version__", manifest.version)) != manifest.version:
                raise ConfigurationError(
                    f"Its __version__ is {ascii(version)[:80]}; plugin.json says {manifest.version}.",
                    hint="One of them is wrong.",
                )
            collect(module, importer.package, registry)

        bounded(load, self._patience, "Importing it")
        for tool, _ in registry.offered:  # it had the registry in its hands: here the manifest counts
            check_effects(tool, manifest.permissions)
        plugin.offered = [guarded(each) for each in registry.offered]

    def _begin(self, plugin: Plugin, manifest: Manifest, folder: Folder, place: Path) -> None:
        call_ours = self._calls(manifest.name, manifest.permissions)
        process = plugin.process = PluginProcess(
            manifest, folder, place, call_ours, memory=self._memory, patience=self._patience
        )
        registry = PluginRegistry(manifest.name, manifest.permissions, _never)
        for tool, executor in process.begin():
            registry.register_tool(tool, executor)
        plugin.offered = registry.offered

    # ---------------------------------------------------------------- what a plugin may call

    def _given(self, name: str, permissions: Sequence[str]) -> PluginRegistry:
        calls = self._calls(name, permissions)

        async def call(tool: str, arguments: Mapping[str, Any]) -> Any:
            return await calls(CALLING.get(), tool, arguments)

        return PluginRegistry(name, permissions, call)

    def _calls(
        self, name: str, permissions: Sequence[str]
    ) -> Callable[[Tool | None, str, Mapping[str, Any]], Awaitable[Any]]:
        """Return what calls our tools for one of a plugin's: within its permissions, and within what that tool declares."""
        allowed = [f"effect:{effect}" for effect in dict.fromkeys(("pure", *permissions))]
        scope = self._registry.scope(f"plugin:{name}", policy=ToolPolicy(allow=allowed))

        async def call(outer: Tool | None, tool: str, arguments: Mapping[str, Any]) -> Any:
            check_reach(outer, self._registry[tool])
            return await scope.execute_tool(tool, arguments)

        return call

    # ---------------------------------------------------------------- making known

    def announce(self, plugin: Plugin) -> None:
        """Make the tools of a plugin known. Raises ``ToolError`` with code ``conflict``; then none is."""
        known: list[str] = []
        try:
            for tool, executor in plugin.offered:
                self._registry.register_tool(tool, executor)
                known.append(tool.name)
        except ToolError:
            for name in known:
                self._registry.unregister_tool(name)
            raise

    def withdraw(self, plugin: Plugin) -> None:
        """Make the tools of a plugin unknown; what somebody put in their place stays."""
        for tool, _ in plugin.offered:
            if tool.name in self._registry and self._registry[tool.name] is tool:
                self._registry.unregister_tool(tool.name)
        if plugin.process is not None:
            plugin.process.rest()


async def _never(tool: str, arguments: Mapping[str, Any]) -> Any:
    """Stand where nobody calls: the plugin is in a process of its own."""
    raise ToolError("permission_denied", "Nothing is called from here.")
