"""Plugins as the command line finds them: in the folders that settings name, and among installed packages."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from reprise.cli.config import read_config
from reprise.runtime.extensions import entry_points_of
from reprise.tools.registry import ToolRegistry

if TYPE_CHECKING:
    from reprise.tools.plugins.manager import PluginManager

_LOG = logging.getLogger(__name__)


def plugin_folders(given: Sequence[str] | None = None) -> list[Path]:
    """Return the folders of plugins: those that were given, else those of the settings."""
    return [
        Path(each).expanduser() for each in given or read_config(resolve=False).settings.plugins.directories
    ]


def manager_of(folders: Sequence[Path], registry: ToolRegistry | None = None) -> PluginManager:
    """Return who looks after plugins in folders that a file or a command names: none of them is trusted by itself."""
    manager = import_module("reprise.tools.plugins.manager").PluginManager
    return manager(folders, registry, trust_new=False)


def add_plugins(registry: ToolRegistry) -> None:
    """Make the tools of plugins known that are trusted; of the others the log says why not."""
    folders = plugin_folders()
    if not folders and not entry_points_of("tools"):
        return
    manager = manager_of(folders, registry)
    manager.install_all()
    for row in manager.list_plugins():
        if row["reason"]:
            _LOG.warning("The plugin %s is %s: %s", row["name"], row["status"], row["reason"])
