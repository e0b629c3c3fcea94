"""Keys with what there is to know of them, and all of a namespace at one moment."""

from __future__ import annotations

from typing import Any, Self

import msgspec

from reprise.kernel.errors import CodecError


class StateEntry(msgspec.Struct, frozen=True):
    """A key and what it holds."""

    key: str
    value: Any
    version: int
    expires_at: int = 0
    """Microseconds since the epoch by the clock of the store; 0 = it does not end."""


class StateWrite(msgspec.Struct, frozen=True):
    """What came of a write."""

    key: str
    value: Any
    """What the key holds now."""
    version: int
    applied: bool = True
    """False = somebody was first, and what there was is kept."""


class StateSnapshot(msgspec.Struct, frozen=True):
    """All of a namespace as it was at one moment."""

    namespace: str
    position: int
    """How far the changes were that are in it."""
    at: int
    """Microseconds since the epoch by the clock of the store."""
    entries: tuple[StateEntry, ...]

    @property
    def values(self) -> dict[str, Any]:
        """The values by their keys."""
        return {entry.key: entry.value for entry in self.entries}

    def to_json(self) -> bytes:
        """Return it as JSON, to be kept in a file."""
        return msgspec.json.encode(self)

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Return what :meth:`to_json` wrote; raises ``CodecError``.

        >>> StateSnapshot.from_json(StateSnapshot("app", 3, 9, (StateEntry("a", [1], 2),)).to_json()).values
        {'a': [1]}
        """
        try:
            return msgspec.json.decode(data, type=cls)
        except msgspec.DecodeError as error:
            raise CodecError(
                f"That is no snapshot of a state: {error}.", hint="Take one with StateSync.snapshot()."
            ) from error
