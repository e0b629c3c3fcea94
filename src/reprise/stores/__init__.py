"""Promises about memory, and who keeps them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from reprise.kernel.errors import ConfigurationError, nearest

if TYPE_CHECKING:
    from reprise.stores.packing.writing import Keys
    from reprise.stores.store import Store

_KEEPERS = {
    "memory": "reprise.stores.memory:open_memory",
    "sqlite": "reprise.stores.sqlite.store:open_sqlite",
    "postgresql": "reprise.stores.postgres:open_postgres",
    "postgres": "reprise.stores.postgres:open_postgres",
    "redis": "reprise.stores.redis:open_redis",
    "rediss": "reprise.stores.redis:open_redis",
    "unix": "reprise.stores.redis:open_redis",
    "redis+sentinel": "reprise.stores.redis:open_redis",
    "rediss+sentinel": "reprise.stores.redis:open_redis",
}
"""Who keeps what a URL names: module and function (URL to store), loaded when first needed."""


def open_store(url: str, *, keys: Keys | None = None) -> Store:
    """Return the store that a URL names; ``await store.start()`` opens it.

    Its log packs payloads; with ``keys`` (a :class:`~reprise.stores.packing.keys.KeyRing`) it seals them, too.

    ``memory://`` · ``sqlite:///relative.db`` · ``sqlite:////absolute.db`` · ``postgresql://user@host/database`` · and, for
    coordination only, ``redis://host:6379/0`` · ``rediss://…`` · ``redis+sentinel://host:26379,host/service/0``

    Raises:
        ConfigurationError: no keeper has that scheme, or the URL is malformed.
        MissingExtra: the keeper's driver is not installed.
    """
    scheme = urlsplit(url).scheme
    keeper = _KEEPERS.get(scheme)
    if keeper is None:
        near = nearest(scheme, _KEEPERS)
        raise ConfigurationError(
            f"No store is known for the URL {url.partition('@')[0]!r}.",
            hint=f"Did you mean {near!r}?"
            if near
            else "Use memory://, sqlite:///file.db, postgresql://host/db or redis://host.",
        )
    module, _, name = keeper.partition(":")
    packed = import_module("reprise.stores.packing").packed
    return packed(getattr(import_module(module), name)(url), keys)
