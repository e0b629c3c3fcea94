"""The SQLite keeper: one file, many processes, no server."""

from reprise.stores.sqlite.store import SQLiteStore, open_sqlite

__all__ = ["SQLiteStore", "open_sqlite"]
