"""The SQLite keeper: one file, many processes, no server."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reprise.stores.sqlite.store import SQLiteStore, open_sqlite

__all__ = ["SQLiteStore", "open_sqlite"]


def __getattr__(name: str) -> object:
    """Load the keeper when it is asked for: who takes a glance at a file needs none of it."""
    if name in __all__:
        return getattr(import_module("reprise.stores.sqlite.store"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
