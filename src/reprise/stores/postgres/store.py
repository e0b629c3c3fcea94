"""The store over one schema of a PostgreSQL database."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from reprise.kernel.errors import ConfigurationError
from reprise.stores.listeners import Listeners
from reprise.stores.postgres.batch import EPOCH
from reprise.stores.postgres.blobs import PostgresBlobs
from reprise.stores.postgres.cells import PostgresCells
from reprise.stores.postgres.connections import Pool, Target
from reprise.stores.postgres.lease import PostgresLease
from reprise.stores.postgres.log import PostgresLog
from reprise.stores.postgres.presence import PostgresPresence
from reprise.stores.postgres.queue import PostgresQueue
from reprise.stores.postgres.runs import STEERED, PostgresRuns
from reprise.stores.postgres.schema import schema_of, upgrade
from reprise.stores.postgres.signal import PostgresSignal
from reprise.stores.postgres.taps import Taps
from reprise.stores.postgres.transactions import CONNECTIONS as TRANSACTIONS, PostgresTransactions
from reprise.stores.postgres.writer import SQL, Writer
from reprise.stores.store import Schema

DEFAULT_SCHEMA = "reprise"

CONNECTIONS = 4
"""Connections for reads, leases and queues; one more writes the log, and one listens and taps."""
WALKS = 2
"""Connections for pages of the index of runs, made when the first is asked for."""


class PostgresStore:
    """All ports over one schema of a database, for any number of processes and machines.

    ``dsn``
        URL of the database, as the driver takes it.
    ``schema``
        Where the tables are; made if need be. Two stores in two schemas know nothing of each other.
    ``patience``
        Seconds for which a lost server is waited for before ``StoreUnreachable``, or ``OutcomeUnknown`` for an append
        that was already sent.
    """

    def __init__(self, dsn: str, *, schema: str = DEFAULT_SCHEMA, patience: float = 30.0) -> None:
        if not re.fullmatch("[a-z_][a-z0-9_]{0,49}", schema):
            raise ConfigurationError(
                f"{schema!r} cannot be the name of a schema.", hint="Use up to 50 of a-z, 0-9 and _."
            )
        if patience <= 0:
            raise ConfigurationError(f"patience={patience} must be positive.", hint="Give it in seconds.")
        self._target = Target(dsn, schema, _public_url(dsn, schema), patience)
        self._pool = Pool(self._target, CONNECTIONS)
        self._walks = Pool(self._target, WALKS, STEERED)
        listeners = Listeners()
        self._taps = Taps(self._target, listeners.tap)
        self._writer = Writer(self._target)
        self._transactions = Pool(self._target, TRANSACTIONS)
        self._pool.closed = self._walks.closed = self._transactions.closed = True
        self.log = PostgresLog(self._pool, self._writer)
        self.runs = PostgresRuns(self._pool, self._walks)
        self.blobs = PostgresBlobs(self._pool)
        self.lease = PostgresLease(self._pool, self._taps)
        self.signal = PostgresSignal(self._taps, listeners)
        self.queue = PostgresQueue(self._pool, self.signal)
        self.cells = PostgresCells(self._pool, self.signal)
        self.transactions = PostgresTransactions(self._target, self._transactions, self._writer)
        self.presence = PostgresPresence(self._pool, self._taps)

    @property
    def url(self) -> str:
        """The URL, without a password."""
        return self._target.url

    async def schema(self) -> Schema:
        """Return of what version the tables are, without changing anything; also before ``start``."""
        connection = await self._target.connect()
        try:
            return await schema_of(connection, self._target.schema)
        finally:
            await connection.close()

    @property
    def epoch(self) -> int:
        """How many epochs began before the one we are in; as this process last saw it."""
        return self._writer.epoch

    async def begin_epoch(self, above: int = 0) -> int:
        """Begin an epoch higher than the present one and than ``above``; return its number."""
        epoch: int = await self._pool.run(lambda c: c.fetchval(SQL["begin_epoch"], above))
        self._writer.remember_epoch(await self.log.head(EPOCH))
        return epoch

    async def start(self) -> None:
        """Open; idempotent. Creates or upgrades the schema.

        Raises ``StoreUnreachable``, ``StoreReadOnly`` or ``SchemaTooNew``.
        """
        if not self._pool.closed:
            return
        self._pool.closed = self._walks.closed = self._transactions.closed = False
        try:
            await self._pool.run(lambda connection: upgrade(connection, self._target.schema))
        except BaseException:
            await self._close_pools()
            raise
        await self._taps.start()
        self._writer.remember_epoch(await self.log.head(EPOCH))
        self._writer.start()

    async def stop(self) -> None:
        """Write what was handed over, then close; idempotent, safe before start."""
        await self._writer.stop()
        await self.lease.settle()
        self.signal.flush()
        await self._taps.close()
        await self._close_pools()

    async def _close_pools(self) -> None:
        await self._pool.close()
        await self._walks.close()
        await self._transactions.close()

    def statistics(self) -> dict[str, int | float | str]:
        """Return counters: appends, commits, records, refused, bytes, batches judged again, connections lost."""
        return {**self._writer.counters, "url": self.url}


def open_postgres(url: str) -> PostgresStore:
    """Return the store of a URL such as ``postgresql://user@host/database?schema=reprise&patience=30``.

    What else stands behind ``?`` is given to the driver (``sslmode=verify-full``, ``host=/run/postgresql``).

    Raises ``ConfigurationError`` for a URL that is not PostgreSQL's and for an option's value.

    >>> open_postgres("postgresql://ada:secret@db/app?schema=blue").url
    'postgresql://ada@db/app?schema=blue'
    """
    parts = urlsplit(url)
    if parts.scheme not in ("postgresql", "postgres"):
        raise ConfigurationError(
            f"{parts.scheme!r} is not PostgreSQL.", hint="Write postgresql://user@host/database."
        )
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    schema = query.pop("schema", DEFAULT_SCHEMA)
    try:
        patience = float(query.pop("patience", "30"))
    except ValueError:
        raise ConfigurationError(f"patience must be a number of seconds, in {url!r}.") from None
    return PostgresStore(urlunsplit(parts._replace(query=urlencode(query))), schema=schema, patience=patience)


def _public_url(dsn: str, schema: str) -> str:
    parts = urlsplit(dsn)
    user, at, host = parts.netloc.rpartition("@")
    query = [(name, value) for name, value in parse_qsl(parts.query) if name not in ("password", "passfile")]
    if schema != DEFAULT_SCHEMA:
        query.append(("schema", schema))
    netloc = f"{user.partition(':')[0]}{at}{host}"
    return urlunsplit(parts._replace(netloc=netloc, query=urlencode(query, safe="/")))
