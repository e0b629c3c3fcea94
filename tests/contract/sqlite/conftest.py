"""A store in a folder of its own, and a second one on the same file."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from reprise.stores.sqlite import SQLiteStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "test.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SQLiteStore]:
    store = SQLiteStore(path, synchronous="OFF")
    await store.start()
    yield store
    await store.stop()


@pytest.fixture
async def other(path: Path, store: SQLiteStore) -> AsyncIterator[SQLiteStore]:
    """Stands for another process: it shares nothing with ``store`` but the file."""
    other = SQLiteStore(path, synchronous="OFF")
    await other.start()
    yield other
    await other.stop()
