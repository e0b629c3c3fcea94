"""A PostgreSQL for benches: a real one, with fsync and synchronous commits, gone afterwards."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager

from tests.servers import Missing, postgres_installs, start_postgres

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
