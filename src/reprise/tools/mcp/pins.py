"""What a server said of its tools when somebody accepted that: a change is held until somebody accepts it, too."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

import msgspec

from reprise.kernel.errors import ConfigurationError
from reprise.stores.cells import ABSENT, Cells, Change

_write = msgspec.json.Encoder(order="deterministic").encode


class Told(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a server says of one tool. All of it is shown to models, so all of it counts."""

    name: str
    description: str = ""
    parameters: dict[str, Any] = {}
    returns: dict[str, Any] = {}
    hints: dict[str, Any] = {}
    """What it says of its effects; believed by nobody, and worth a look when it changes."""

    @property
    def hash(self) -> str:
        """Hash of all of it."""
        return sha256(_write(self)).hexdigest()


class Held(msgspec.Struct, frozen=True):
    """A tool that is not callable until somebody has looked at what is said of it."""

    name: str
    """As the server calls it."""
    now: Told
    before: Told | None = None
    """What was accepted; None = the tool is new."""

    def changes(self) -> list[str]:
        """Return what is not as it was accepted: ``name: before → now``, both as JSON.

        >>> Held("add", Told("add", "Adds, and mails it."), Told("add", "Adds.")).changes()
        ['description: "Adds." → "Adds, and mails it."']
        """
        before = self.before or Told(self.name)
        return [
            f"{field}: {_write(was).decode()} → {_write(now).decode()}"
            for field in ("description", "parameters", "returns", "hints")
            if (was := getattr(before, field)) != (now := getattr(self.now, field))
        ]


class Pins(Protocol):
    """Where what was accepted is kept. Made by :func:`pins_in`, or your own."""

    async def load(self) -> Mapping[str, Told]:
        """Return what was accepted, by the server's names of tools; empty = nothing yet."""
        ...

    async def save(self, accepted: Mapping[str, Told]) -> None:
        """Keep what is accepted from now on."""
        ...


class MemoryPins:
    """Kept as long as the process lives: what a server says first is accepted, what changes later is held."""

    def __init__(self) -> None:
        self._accepted: dict[str, Told] = {}

    async def load(self) -> Mapping[str, Told]:
        """Return what was accepted."""
        return dict(self._accepted)

    async def save(self, accepted: Mapping[str, Told]) -> None:
        """Keep what is accepted."""
        self._accepted = dict(accepted)


class FilePins:
    """Kept in a JSON file, by mount; meant to be read, and to stand under version control."""

    def __init__(self, path: str | os.PathLike[str], mount: str) -> None:
        self._path, self._mount = Path(path), mount

    async def load(self) -> Mapping[str, Told]:
        """Return what was accepted. Raises ``ConfigurationError`` for a file that has something else in it."""
        return (await asyncio.to_thread(self._read)).get(self._mount, {})

    async def save(self, accepted: Mapping[str, Told]) -> None:
        """Keep what is accepted; the file is replaced as a whole."""
        await asyncio.to_thread(self._replace, dict(accepted))

    def _read(self) -> dict[str, dict[str, Told]]:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=dict[str, dict[str, Told]])
        except FileNotFoundError:
            return {}
        except msgspec.MsgspecError as error:
            raise ConfigurationError(
                f"{self._path} holds no accepted tools: {error}.", hint="Name another file, or remove it."
            ) from error

    def _replace(self, accepted: dict[str, Told]) -> None:
        data = msgspec.json.format(_write({**self._read(), self._mount: accepted}), indent=2)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=self._path.parent, prefix=f".{self._path.name}-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data + b"\n")
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(self._path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


class CellPins:
    """Kept in a cell of a store, for many processes: of two that accept at once one is told that the other did."""

    SPACE = "mcp"

    def __init__(self, cells: Cells, mount: str) -> None:
        self._cells, self._mount = cells, mount
        self._version = ABSENT

    async def load(self) -> Mapping[str, Told]:
        """Return what was accepted."""
        found = (await self._cells.get(self.SPACE, [self._mount])).cells
        self._version = found[0].version if found else ABSENT
        return msgspec.json.decode(found[0].data, type=dict[str, Told]) if found else {}

    async def save(self, accepted: Mapping[str, Told]) -> None:
        """Keep what is accepted. Raises ``CellConflict`` when somebody changed it since it was loaded."""
        change = Change(self._mount, _write(accepted), self._version)
        self._version = (await self._cells.apply(self.SPACE, [change])).cells[0].version


def pins_in(where: str | os.PathLike[str] | Pins | Cells | None, mount: str) -> Pins:
    """Return where the accepted tools of a mount are kept: a file, the cells of a store, None = this process."""
    if where is None:
        return MemoryPins()
    if isinstance(where, str | os.PathLike):
        return FilePins(where, mount)
    return where if hasattr(where, "load") else CellPins(where, mount)  # pyright: ignore[reportReturnType, reportArgumentType]
