"""The only module that imports redis-py: it sets connections up (TLS, password, sentinel), the rest is ours.

Redis-py answers one command at a time on a connection, or many that one caller collected. :class:`~reprise.stores.redis.wire.Wire`
lets all callers share one connection, so we take the socket over once it is set up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast
from urllib.parse import unquote, urlsplit

from reprise.kernel.errors import ConfigurationError, MissingExtra, StoreError, StoreFull, StoreUnreachable

try:
    import hiredis
    from redis import exceptions
    from redis.asyncio import ConnectionPool, Redis
    from redis.asyncio.connection import AbstractConnection
    from redis.asyncio.sentinel import Sentinel
except ImportError as error:
    raise MissingExtra("Redis needs its driver.", hint="pip install 'reprise-agents[redis]'") from error

Reader = hiredis.Reader
ReplyError = hiredis.HiredisError
Push = hiredis.PushNotification
pack = cast("Callable[[tuple[Any, ...]], bytes]", hiredis.pack_command)  # pyright: ignore[reportUnknownMemberType]

SENTINEL_SCHEMES = ("redis+sentinel", "rediss+sentinel")
SENTINEL_PORT, SENTINEL_TIMEOUT = 26379, 1.0
"""Where a sentinel is unless its address says so, and seconds for which one is waited for before the next is asked."""
_AGAIN = ("READONLY", "LOADING", "MASTERDOWN", "TRYAGAIN", "CLUSTERDOWN", "NOREPLICAS", "BUSY ")
"""What a server says that is no master now, or not yet, or has not enough replicas now, or is held up by a script."""
_REFUSED = (exceptions.AuthenticationError, exceptions.NoPermissionError)


class NotNow(StoreUnreachable):
    """The server answers, and cannot do it now: it is starting, or no master any more."""


class NoScript(StoreError):
    """The server does not know a script: it was restarted, or its scripts were flushed."""


class Target:
    """Where the server is; makes connections that are set up, in RESP3.

    ``to`` is a URL, or a client of redis-py's asyncio side, whose settings are taken; its own connections stay its own.
    """

    def __init__(self, to: str | Redis, patience: float) -> None:
        self.patience = patience
        self._sentinels: list[Redis] = []
        self._pool = self._pool_of(to) if isinstance(to, str) else to.connection_pool
        """Kept: connections by way of sentinels ask it for the master each time."""
        self.url = _public(to) if isinstance(to, str) else _address(self._pool.connection_kwargs)
        self._class: Callable[..., AbstractConnection] = self._pool.connection_class
        self._settings: dict[str, Any] = {
            **self._pool.connection_kwargs,
            "protocol": 3,
            "decode_responses": False,
            "socket_timeout": patience,
            "socket_connect_timeout": patience,
            "health_check_interval": 0,
            "retry": None,
            "retry_on_error": [],
        }
        try:
            self._class(**self._settings)
        except TypeError as error:
            raise ConfigurationError(
                f"Redis's driver knows no such option: {error}",
                hint="Leave it out of the URL, or of the client.",
            ) from None

    async def connect(self) -> AbstractConnection:
        """Make a connection; tries once.

        Raises:
            StoreUnreachable: there is no server, or it does not answer in time.
            ConfigurationError: it does not let us in.
        """
        connection = self._class(**self._settings)
        try:
            async with asyncio.timeout(self.patience):
                await connection.connect()
        except asyncio.CancelledError:
            await connection.disconnect(nowait=True)
            raise
        except (exceptions.RedisError, OSError) as error:
            if any(isinstance(each, _REFUSED) for each in _causes(error)):
                raise ConfigurationError(
                    f"Redis at {self.url} does not let us in: {error}", hint="Check user and password."
                ) from error
            raise StoreUnreachable(
                f"Redis at {self.url} cannot be reached: {error or type(error).__name__}",
                hint="Check that it runs and that the address is right.",
            ) from error
        return connection

    def _pool_of(self, url: str) -> ConnectionPool:
        scheme = urlsplit(url).scheme
        if scheme in SENTINEL_SCHEMES:
            return self._pool_of_sentinels(url)
        try:
            return ConnectionPool.from_url(url)  # pyright: ignore[reportUnknownMemberType]
        except ValueError as error:
            raise ConfigurationError(
                f"{_public(url)!r} is no URL of Redis: {error}", hint="Use redis://host:6379/0."
            ) from None

    def _pool_of_sentinels(self, url: str) -> ConnectionPool:
        """Return what asks sentinels for the master of a service."""
        parts = urlsplit(url)
        login, _, hosts = parts.netloc.rpartition("@")
        user, _, password = login.partition(":")
        service, _, db = parts.path.strip("/").partition("/")
        addresses = [_host_and_port(host) for host in hosts.split(",") if host]
        if not service or not addresses or not (db or "0").isdecimal():
            raise ConfigurationError(
                f"{_public(url)!r} names no service of sentinels.",
                hint="Use redis+sentinel://host:26379,other:26379/service/0.",
            )
        manager = Sentinel(addresses, socket_timeout=SENTINEL_TIMEOUT)
        self._sentinels = manager.sentinels
        master: Redis = manager.master_for(  # pyright: ignore[reportUnknownMemberType]
            service,
            db=int(db or 0),
            username=unquote(user) or None,
            password=unquote(password) or None,
            ssl=parts.scheme == "rediss+sentinel",
        )
        return master.connection_pool

    async def close(self) -> None:
        """Let go of the sentinels that a URL named."""
        for sentinel in self._sentinels:
            await sentinel.aclose()


def take_over(connection: AbstractConnection) -> asyncio.StreamWriter:
    """Return the socket of a connection that is set up; redis-py touches it no more."""
    known: Any = connection
    writer, known._writer, known._reader = known._writer, None, None
    return writer


def meaning(error: Exception, url: str, command: Sequence[Any]) -> StoreError | ConfigurationError:
    """Return what an error that the server answered means to us."""
    text = str(error)
    if text.startswith("NOSCRIPT"):
        return NoScript(text)
    if any(word in text for word in _AGAIN):
        return NotNow(f"Redis at {url} cannot do it now: {text}")
    if "OOM" in text or "MISCONF" in text:
        return StoreFull(
            f"Redis at {url} takes nothing more: {text}",
            hint="Raise maxmemory, make room on its disk, or remove what is not needed; nothing was written.",
        )
    if text.startswith(("NOPERM", "NOAUTH")) or "No permissions" in text:
        return ConfigurationError(
            f"Redis at {url} refuses {command[0]}: {text}", hint="The guide names what the user needs."
        )
    if text.startswith(("MOVED", "ASK", "CROSSSLOT")):
        return ConfigurationError(
            f"Redis at {url} is one node of a cluster: {text}",
            hint="Use a server that is its own master, or sentinels: redis+sentinel://host:26379/service.",
        )
    return StoreError(f"Redis at {url} refused {command[0]}: {text}")


def _host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return (host, int(port)) if host and port.isdecimal() else (address, SENTINEL_PORT)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _address(settings: dict[str, Any]) -> str:
    if path := settings.get("path"):
        return f"unix://{path}"
    if pool := settings.get("connection_pool"):
        return f"redis+sentinel://{pool.service_name}"
    return f"redis://{settings.get('host', '?')}:{settings.get('port', 6379)}/{settings.get('db', 0)}"


def _public(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
