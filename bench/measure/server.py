"""Servers for benches: a PostgreSQL with fsync and synchronous commits, and a Redis; gone afterwards."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager

from tests.servers import Missing, free_port, postgres_installs, redis_installs, start_postgres, start_redis

from bench.engines.work import SERVER


@contextmanager
def postgres() -> Generator[str]:
    """Run the newest PostgreSQL found, for engines of this process and its children; gives its name, '' without one."""
    try:
        install = postgres_installs()[-1]
        server = start_postgres(install)
    except (IndexError, Missing) as error:
        print(f"without PostgreSQL: {error or 'none was found'}")
        yield ""
        return
    os.environ[SERVER] = server.url
    try:
        yield f"PostgreSQL {install.name}"
    finally:
        del os.environ[SERVER]
        server.stop()


@contextmanager
def redis(*options: str) -> Generator[str]:
    """Run the newest Redis found on a port of loopback, with ``options`` such as ``--appendonly yes``; gives its URL, or ''."""
    port = str(free_port())
    try:
        server = start_redis(redis_installs()[-1], "--bind", "127.0.0.1", "--port", port, *options)
    except (IndexError, Missing) as error:
        print(f"without Redis: {error or 'none was found'}")
        yield ""
        return
    try:
        yield server.url if server.install.url else f"redis://127.0.0.1:{port}"
    finally:
        server.stop()
