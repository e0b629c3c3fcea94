"""One plugin: what is known of it, and how far it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from reprise.tools.plugins.importing import Importer
from reprise.tools.plugins.manifest import Manifest, canonical
from reprise.tools.plugins.registering import Offered
from reprise.tools.plugins.trust import Seen

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from reprise.tools.plugins.process import PluginProcess

Status = Literal["found", "trusted", "untrusted", "installed", "active", "failed"]


@dataclass(eq=False)
class Plugin:
    """A plugin in a folder, or an installed package that offers something."""

    name: str
    version: str = ""
    place: Path | None = None
    """Its folder; None = it is a package."""
    manifest: Manifest | None = None
    seen: Seen | None = None
    """Its files as they were found, or as they were loaded."""
    points: list[tuple[str, EntryPoint]] = field(default_factory=list["tuple[str, EntryPoint]"])
    """Kinds and entry points of a package."""
    status: Status = "found"
    reason: str = ""
    is_sound: bool = True
    """Whether it can be installed at all, as far as was seen without executing it."""
    offered: list[Offered] = field(default_factory=list[Offered])
    importer: Importer | None = None
    process: PluginProcess | None = None

    @property
    def key(self) -> str:
        """What it is found by."""
        return canonical(self.name)

    @property
    def is_loaded(self) -> bool:
        """Tell whether its code was loaded."""
        return self.status in ("installed", "active")

    def become(self, status: Status, reason: str = "") -> None:
        """Note how far it is, and why it is no further."""
        self.status, self.reason = status, reason

    def refuse(self, reason: str) -> None:
        """Note why it cannot be installed as it is."""
        self.is_sound = False
        self.become("failed", reason)

    def unload(self) -> None:
        """Forget its code; end its process."""
        if self.importer is not None:
            self.importer.unload()
        if self.process is not None:
            self.process.close()
        self.importer = self.process = None
        self.offered = []

    def row(self) -> dict[str, Any]:
        """Return what is known of it, as JSON."""
        manifest = self.manifest
        effects = {offered.tool.effects for offered in self.offered} - {"pure"}
        return {
            "name": self.name,
            "version": self.version,
            "status": self.status,
            "reason": self.reason,
            "kind": "package" if self.place is None else "directory",
            "path": "" if self.place is None else str(self.place),
            "permissions": manifest.permissions if manifest else sorted(effects),
            "isolation": manifest.isolation if manifest else "direct",
            "description": manifest.description if manifest else "",
            "tools": [offered.tool.name for offered in self.offered],
            "offers": [f"{kind}:{point.name}" for kind, point in self.points],
            "digest": self.seen.digest if self.seen else "",
        }
