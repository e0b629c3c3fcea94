"""Finding plugins, trusting them, and making their tools known."""

from __future__ import annotations

import logging
import shutil
import stat
from collections.abc import Callable, Iterable, Mapping
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from reprise.kernel.errors import ConfigurationError, RepriseError, nearest
from reprise.runtime.executors.limits import as_bytes
from reprise.runtime.extensions import Extensions
from reprise.tools.plugins.bounded import said
from reprise.tools.plugins.discovering import find_plugins, read_plugin
from reprise.tools.plugins.folder import digest_of, read_folder
from reprise.tools.plugins.loading import Loader
from reprise.tools.plugins.manifest import Manifest, api_fault, canonical
from reprise.tools.plugins.plugin import Plugin
from reprise.tools.plugins.requirements import missing, parse_requirements
from reprise.tools.plugins.trust import Seen, TrustStore, see
from reprise.tools.registry import ToolRegistry

_LOG = logging.getLogger(__name__)


class Untrusted(ConfigurationError):
    """Nobody trusts a plugin as it is."""


class PluginManager:
    """Plugins in folders and installed packages: finds them, and makes their tools known to a registry.

    ``plugin_dirs``
        Folders in which each plugin has its own, with ``plugin.json`` and ``__init__.py``.
    ``registry``
        Where their tools go.
    ``auto_activate``
        Whether installing a plugin also activates it, and whether one that was never seen is trusted as it is then; after
        that, and always without it, a plugin whose files changed has to be trusted (:meth:`trust`).
    ``trust_new``
        Whether one that was never seen is trusted, where that is to be said apart; False for folders that a file names.
    ``trust_store``
        Where it is written down who is trusted; by default a file among the user's settings.
    ``packages``
        Whether installed packages are looked at (entry points ``reprise.tools``, ``.agents``, ``.connectors``,
        ``.integrations``).
    ``patience``
        Seconds that importing a plugin may take.
    ``memory``
        What a plugin in a process of its own may have.

    Nothing that is wrong with a plugin is raised here: :meth:`list_plugins` says it.

    >>> manager = PluginManager(plugin_dirs=["no such folder"], packages=False)
    >>> manager.discover_plugins(), manager.install_plugin("weather")
    ([], False)
    >>> manager.list_plugins()[0]["reason"]
    "There is no plugin 'weather'."
    """

    def __init__(
        self,
        plugin_dirs: Iterable[str | PathLike[str]] = (),
        registry: ToolRegistry | None = None,
        auto_activate: bool = True,
        *,
        trust_new: bool | None = None,
        trust_store: TrustStore | str | PathLike[str] | None = None,
        packages: bool = True,
        patience: float = 30.0,
        memory: int | str = "1GiB",
    ) -> None:
        if isinstance(plugin_dirs, str | PathLike):
            raise ConfigurationError("plugin_dirs is one folder.", hint="Give a list of folders.")
        self._directories = [Path(each).expanduser() for each in plugin_dirs]
        self.registry = registry if registry is not None else ToolRegistry()
        self._activates = auto_activate
        self._trusts_new = auto_activate if trust_new is None else trust_new
        self._trust = trust_store if isinstance(trust_store, TrustStore) else TrustStore(trust_store)
        self._packages = packages
        self._loader = Loader(self.registry, patience=patience, memory=as_bytes(memory, "memory"))
        self._plugins: dict[str, Plugin] = {}
        self._remembered: dict[tuple[Path, str], Seen] = {}
        """Who is trusted in this process only, because it could not be written down."""
        self.connectors: Mapping[str, Any] = Extensions("connectors")
        """What installed packages offer as ``reprise.connectors``, by name; loaded when it is first asked for."""
        self.integrations: Mapping[str, Any] = Extensions("integrations")
        """Likewise, ``reprise.integrations``."""

    # ---------------------------------------------------------------- finding

    def discover_plugins(self) -> list[str]:
        """Look for plugins and return the names of those that could be installed. None of them is executed.

        What is loaded stays as it is; of a plugin whose files changed since, the reason says so.
        """
        found = find_plugins(self._directories, packages=self._packages)
        for key, known in self._plugins.items():
            if known.is_loaded:
                now = found.get(key)
                changed = now is None or now.seen != known.seen or now.place != known.place
                known.reason = "its files are not those that were loaded" if changed else ""
                found[key] = known
        self._plugins = found
        for plugin in found.values():
            if plugin.is_sound and not plugin.is_loaded and plugin.seen is not None:
                try:
                    self._check_trust(plugin, plugin.seen)
                    plugin.become("trusted")
                except ConfigurationError as error:
                    plugin.become("untrusted" if isinstance(error, Untrusted) else "failed", said(error))
        return sorted(plugin.name for plugin in found.values() if plugin.is_sound)

    def list_plugins(self) -> list[dict[str, Any]]:
        """Return what is known of each plugin: ``name``, ``version``, ``status``, ``reason`` and more.

        ``status`` is ``found`` (a package), ``trusted``, ``untrusted``, ``installed`` (loaded, but its tools are not known),
        ``active`` or ``failed``.
        """
        return [self._plugins[key].row() for key in sorted(self._plugins)]

    # ---------------------------------------------------------------- trusting

    def trust(self, name: str, *, digest: str = "") -> None:
        """Trust a plugin as its files are now; with ``digest``, only if they are what was seen before.

        Raises ``ConfigurationError`` for a plugin that there is not, that is not sound, or that changed meanwhile.
        """
        plugin = self._known(name)
        if plugin is None or plugin.place is None or not plugin.is_sound:
            raise ConfigurationError(plugin.reason if plugin and plugin.reason else self._missing(name))
        manifest, folder = read_plugin(plugin.place)
        seen = see(manifest, folder)
        if (digest and seen.digest != digest) or canonical(manifest.name) != plugin.key:
            raise ConfigurationError(
                f"The files of {name} changed while it was looked at.", hint="Look again."
            )
        record = self._trust.find(plugin.place.parent, plugin.name)
        copied = record is not None and record.copied
        self._trust.add(plugin.place.parent, msgspec.structs.replace(seen, copied=copied))
        if not plugin.is_loaded:
            plugin.manifest, plugin.version, plugin.seen = manifest, manifest.version, seen
            plugin.become("trusted")

    def _check_trust(self, plugin: Plugin, seen: Seen) -> None:
        """Raise ``Untrusted`` where files are not those that somebody trusts."""
        assert plugin.place is not None
        directory, how = plugin.place.parent, f"reprise plugins trust {plugin.name}"
        record = self._trust.find(directory, plugin.name) or self._remembered.get((directory, plugin.key))
        if record is not None and record.digest == seen.digest:
            return
        if record is not None:
            raise Untrusted(
                f"It is not what was trusted: {record.changes(seen)}.", hint=f"Look at it, then: {how}"
            )
        if not self._trusts_new:
            raise Untrusted("Nobody trusts it yet.", hint=f"Look at it, then: {how}")
        if any(map(_is_open_to_all, (directory, plugin.place))):
            raise Untrusted(
                "Anybody may write into its folder.", hint=f"chmod o-w, or look at it, then: {how}"
            )
        try:
            self._trust.add(directory, seen)
        except ConfigurationError as error:
            _LOG.warning("%s The plugin %s is trusted in this process only.", error, plugin.name)
            self._remembered[directory, plugin.key] = seen

    # ---------------------------------------------------------------- installing

    def install_plugin(self, name: str) -> bool:
        """Load a plugin and, unless ``auto_activate`` is off, make its tools known; tell whether that went well.

        Plugins that it requires are installed before. :meth:`list_plugins` has the reason where it did not.
        """
        plugin = self._known(name)
        if plugin is None:
            plugin = self._plugins[canonical(name)] = Plugin(name)
            plugin.refuse(self._missing(name))
            return False
        return self._tried(plugin, lambda: self._install(plugin, ()))

    def install_all(self) -> list[str]:
        """Install whatever is found and trusted; return the names of plugins that are active."""
        for name in self.discover_plugins():
            self.install_plugin(name)
        return [row["name"] for row in self.list_plugins() if row["status"] == "active"]

    def activate(self, name: str) -> bool:
        """Make the tools of an installed plugin known; tell whether that went well."""
        plugin = self._known(name)
        return plugin is not None and self._tried(plugin, lambda: self._activate(plugin))

    def deactivate(self, name: str) -> bool:
        """Make the tools of a plugin unknown; tell whether that went well, which it does not while others require it."""
        plugin = self._known(name)
        if plugin is None or plugin.status != "active":
            return False
        if needing := self._needing(plugin):
            plugin.reason = f"{', '.join(needing)} requires it"
            return False
        self._loader.withdraw(plugin)
        plugin.become("installed")
        return True

    def uninstall(self, name: str, *, files: bool = False) -> bool:
        """Undo what installing did: its tools are unknown, its modules gone, and it is not trusted any more.

        A folder that was copied when it was installed, and is as it was then, is deleted; any other one only with ``files``.
        """
        plugin = self._known(name)
        if plugin is None or (plugin.status == "active" and not self.deactivate(name)):
            return False
        plugin.unload()
        del self._plugins[next(key for key, each in self._plugins.items() if each is plugin)]
        if plugin.place is None:
            return True
        record = self._trust.find(plugin.place.parent, plugin.name)
        self._trust.remove(plugin.place.parent, plugin.name)
        self._remembered.pop((plugin.place.parent, plugin.key), None)
        if files or (record is not None and record.copied and _digest(plugin.place) == record.digest):
            shutil.rmtree(plugin.place)
        return True

    def close(self) -> None:
        """End the processes of plugins; what is active in this process stays."""
        for plugin in self._plugins.values():
            if plugin.process is not None:
                plugin.process.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---------------------------------------------------------------- how

    def _known(self, name: str) -> Plugin | None:
        """Return a plugin by its name; one that was not heard of is looked for."""
        found = self._plugins.get(canonical(name))
        if found is None or not (found.is_sound or found.place):
            self.discover_plugins()
            found = self._plugins.get(canonical(name))
        return found

    def _missing(self, name: str) -> str:
        near = nearest(name, [plugin.name for plugin in self._plugins.values() if plugin.name != name])
        return f"There is no plugin {ascii(name)[:80]}." + (f" Did you mean {near!r}?" if near else "")

    def _tried(self, plugin: Plugin, act: Callable[[], None]) -> bool:
        """Tell whether something went well; where not, the plugin has the reason."""
        try:
            act()
        except RepriseError as error:
            if plugin.status != "active":
                plugin.become("untrusted" if isinstance(error, Untrusted) else "failed", said(error))
            return False
        return True

    def _install(self, plugin: Plugin, before: tuple[str, ...]) -> None:
        """Install a plugin, and those that it requires before; raises ``RepriseError``."""
        if plugin.is_loaded:
            self._activate(plugin) if self._activates else None
            return
        if not plugin.is_sound:
            raise ConfigurationError(plugin.reason)
        if plugin.place is None:
            self._loader.load_package(plugin)
        else:
            manifest, folder = read_plugin(plugin.place)
            if canonical(manifest.name) != plugin.key:
                raise ConfigurationError(
                    f"Its name is {manifest.name!r} by now.", hint="Look for plugins again."
                )
            seen = see(manifest, folder)
            self._check_trust(plugin, seen)
            self._check_needs(plugin, manifest, before)
            plugin.manifest, plugin.version, plugin.seen = manifest, manifest.version, seen
            self._loader.load(plugin, manifest, folder)
        plugin.become("installed")
        if self._activates:
            self._activate(plugin)

    def _activate(self, plugin: Plugin) -> None:
        """Make the tools of a loaded plugin known. Raises ``RepriseError``; then it is loaded no more."""
        if not plugin.is_loaded:
            raise ConfigurationError(plugin.reason or "It is not installed.")
        if plugin.status == "active":
            return
        try:
            self._loader.announce(plugin)
        except RepriseError:
            plugin.become("failed")
            plugin.unload()
            raise
        plugin.become("active")

    def _check_needs(self, plugin: Plugin, manifest: Manifest, before: tuple[str, ...]) -> None:
        """Raise ``ConfigurationError`` where something is missing that a plugin needs; install plugins that it requires."""
        if fault := api_fault(manifest.api_version):
            raise ConfigurationError(fault)
        chain = (*before, plugin.key)
        for required in parse_requirements(manifest.requires):
            versions = {each.key: each.version for each in self._plugins.values() if each.is_sound}
            if fault := missing(required, versions):
                raise ConfigurationError(f"requires {required}: {fault}")
            if not required.is_plugin:
                continue
            other = self._plugins[canonical(required.name)]
            if other.key in chain:
                raise ConfigurationError(f"Plugins require each other: {' → '.join((*chain, other.key))}.")
            if not self._tried(other, lambda other=other: self._install(other, chain)):
                raise ConfigurationError(f"requires {required}, which is {other.status}: {other.reason}")

    def _needing(self, plugin: Plugin) -> list[str]:
        """Return the active plugins that require one."""
        return [
            each.name
            for each in self._plugins.values()
            if each.status == "active" and each.manifest
            for required in parse_requirements(each.manifest.requires)
            if required.is_plugin and canonical(required.name) == plugin.key
        ]


def _is_open_to_all(folder: Path) -> bool:
    try:
        return bool(folder.stat().st_mode & stat.S_IWOTH)
    except OSError:
        return True


def _digest(place: Path) -> str:
    try:
        return digest_of(read_folder(place).digests)
    except ConfigurationError:
        return ""
