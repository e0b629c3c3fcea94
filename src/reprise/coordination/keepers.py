"""What a face is given to work with, and who opens and closes it."""

from __future__ import annotations

import asyncio
import os
import socket
from importlib import import_module
from typing import Any, Protocol, TypeAlias, cast

from reprise.kernel.errors import ConfigurationError
from reprise.kernel.surroundings import SURROUNDINGS
from reprise.stores import open_store
from reprise.stores.store import Store

_CLIENTS = ("redis", "coredis")
"""Packages whose clients we know, without importing them."""


class HasStore(Protocol):
    """What has a store that somebody else opens and closes: a ``Reprise``, or another face."""

    @property
    def store(self) -> Store:
        """Its store."""
        ...


Source: TypeAlias = "str | Store | HasStore | Any"
"""A URL, a store, a ``Reprise``, or a client of redis-py's asyncio side."""


def keeper_of(source: Source) -> Store:
    """Return the store that a source stands for.

    A store and a ``Reprise`` stay the caller's, who opens and closes them. For a URL or a client a store is made.

    Raises:
        ConfigurationError: it is none of these, or nobody keeps what the URL names.
        MissingExtra: the driver is not installed.
    """
    return Keeper(source).store


class Keeper:
    """The store that a face works with.

    ``owned`` says whether it was made here, from a URL or a client, so that it is the face's to open and to close.

    >>> Keeper("memory://").owned
    True
    """

    def __init__(self, source: Source) -> None:
        self.store, self.owned = _store_of(source)
        self.is_open = not self.owned
        """Whether it can be used: opened here, or the caller's."""
        self._opening = asyncio.Lock()

    async def start(self) -> Store:
        """Open the store if it is ours, and return it; idempotent, also at once from several tasks.

        Raises:
            StoreUnreachable: there is no server.
        """
        if not self.is_open:
            async with self._opening:
                if not self.is_open:
                    await self.store.start()
                    self.is_open = True
        return self.store

    async def stop(self) -> None:
        """Close the store if it is ours; idempotent, safe before start."""
        if self.owned and self.is_open:
            self.is_open = False
            await self.store.stop()


def _store_of(source: Source) -> tuple[Store, bool]:
    if isinstance(source, str):
        return open_store(source), True
    if any(cls.__module__.partition(".")[0] in _CLIENTS for cls in type(source).__mro__):
        return _over_client(source), True
    for store in (source, getattr(source, "store", None)):
        if hasattr(store, "begin_epoch"):
            return cast("Store", store), False
    raise ConfigurationError(
        f"{type(source).__name__} is nothing that coordination can work with.",
        hint="Give a URL, a store, a Reprise, or a client of redis.asyncio.",
    )


def _over_client(client: Any) -> Store:
    """Return a store over a client's server; it makes connections of its own with the client's settings."""
    try:
        keeper = import_module("reprise.stores.redis")
    except ModuleNotFoundError as error:
        if error.name != "reprise.stores.redis":
            raise
        raise ConfigurationError(
            "This version of Reprise does not keep anything in Redis yet.", hint="Give a URL or a store."
        ) from error
    return keeper.RedisStore(client)


def name_of_process() -> str:
    """Return how this process is called where nobody gave it a name: host, process and a random number."""
    return f"{socket.gethostname()}:{os.getpid()}:{random_number()}"


def random_number() -> str:
    """Return a number that tells things of the same name apart; in a simulation it follows from the seed."""
    return SURROUNDINGS.get().randomness(3).hex()
