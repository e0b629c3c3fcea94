"""The store over a Redis server: leases, queues, cells and taps."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from secrets import token_hex
from typing import Any, NoReturn
from urllib.parse import parse_qsl, urlencode, urlsplit

from reprise.kernel.errors import ConfigurationError, SchemaTooNew, StoreFull
from reprise.stores.cells import Cells
from reprise.stores.packing.cells import SealedCells
from reprise.stores.packing.writing import Keys
from reprise.stores.redis.cells import RedisCells
from reprise.stores.redis.driver import Redis, Target
from reprise.stores.redis.lease import RedisLease
from reprise.stores.redis.queue import RedisQueue
from reprise.stores.redis.signal import RedisSignal
from reprise.stores.redis.wire import Wire
from reprise.stores.store import Remark, Schema

LAYOUT = 2
"""Version of the layout of keys; 2 differs from 1 in what queues derive from other keys of theirs."""
NAMES = 1
"""Version of the names of keys, which every key begins with."""
OLDEST = (6, 2)
"""The oldest server whose commands we use."""
PREFIX, PATIENCE = "reprise", 5.0
KEEPS_ALL = "noeviction"
"""What a server does when it is full that throws nothing away."""

_LOG = logging.getLogger(__name__)


class RedisStore:
    """Leases, queues, cells and taps for any number of processes and machines; the log is kept elsewhere.

    ``to``
        A URL (``redis://``, ``rediss://``, ``unix://``, ``redis+sentinel://``) or a client of redis-py's asyncio side, whose
        settings are taken.
    ``prefix``
        Begins every key and channel. Two stores with two prefixes know nothing of each other.
    ``patience``
        Seconds for which a lost server is waited for before ``StoreUnreachable``.
    ``allow_eviction``
        Also work with a server that throws keys away when it is full: a lock may then be lost without anybody knowing.
    """

    def __init__(
        self,
        to: str | Redis,
        *,
        prefix: str = PREFIX,
        patience: float = PATIENCE,
        allow_eviction: bool = False,
    ) -> None:
        if patience <= 0:
            raise ConfigurationError(f"patience={patience} must be positive.", hint="Give it in seconds.")
        if not prefix or set(prefix) & set("{}*?[]\\ \n"):
            raise ConfigurationError(
                f"{prefix!r} cannot begin keys.", hint="Use letters, digits, '-', '_', '.' and ':'."
            )
        self._target = Target(to, patience)
        self._root = f"{prefix}:{NAMES}:"
        self._allow_eviction = allow_eviction
        self._wire = Wire(self._target, self._pushed, self._back)
        me = token_hex(8)
        self._mine = f"{self._root}to:{me}"
        """The channel on which this store is told what it waits for."""
        self.signal = RedisSignal(self._wire, f"{self._root}tap:")
        self.lease = RedisLease(self._wire, self._root, self._mine)
        self.queue = RedisQueue(self._wire, self._root, me)
        self._cells = RedisCells(self._wire, self._root, me, lambda: self._epoch)
        self.cells: Cells = self._cells
        self._epoch = 0

    @property
    def url(self) -> str:
        """The URL, without a password."""
        prefix = self._root.partition(f":{NAMES}:")[0]
        return self._target.url if prefix == PREFIX else f"{self._target.url}?prefix={prefix}"

    @property
    def log(self) -> NoReturn:
        """Redis keeps no log."""
        self._keeps_no("log")

    @property
    def blobs(self) -> NoReturn:
        """Redis keeps no payloads of runs."""
        self._keeps_no("payloads of runs")

    @property
    def runs(self) -> NoReturn:
        """Redis keeps no runs."""
        self._keeps_no("runs")

    @property
    def presence(self) -> NoReturn:
        """Redis does not know the workers of runs."""
        self._keeps_no("workers of runs")

    @property
    def transactions(self) -> NoReturn:
        """Redis has no transactions that span a caller's own work."""
        self._keeps_no("transactions")

    async def schema(self) -> Schema:
        """Return the version of the layout of keys."""
        return Schema(_layout(await self._wire.send("GET", f"{self._root}layout")), LAYOUT)

    @property
    def epoch(self) -> int:
        """How many epochs began before the one we are in; as this process last saw it."""
        return self._epoch

    async def begin_epoch(self, above: int = 0) -> int:
        """Begin an epoch: all leases end. Tokens need no new beginning, they are moments of the server's clock."""
        key = f"{self._root}epoch"
        known = int(await self._wire.send("GET", key) or 0)
        self._epoch = max(known, above) + 1
        await self._wire.send("SET", key, self._epoch)
        await self._cells.begin_epoch(self._epoch)
        await self.lease.end_all()
        return self._epoch

    async def start(self) -> None:
        """Open; idempotent.

        Raises:
            StoreUnreachable: there is no server.
            ConfigurationError: the server is too old, lets us not in, or may throw away what we keep.
            SchemaTooNew: a newer Reprise has laid out the keys anew.
        """
        if not self._wire.closed:
            return
        await self._wire.start()
        try:
            await self._wire.send("SUBSCRIBE", self._mine)  # again: this time we want to know whether we may
            self._check(await self._info())
            await self._check_layout()
            self._epoch = int(await self._wire.send("GET", f"{self._root}epoch") or 0)
        except BaseException:
            await self._wire.stop()
            raise

    async def stop(self) -> None:
        """Close; idempotent, safe before start."""
        if not self._wire.closed:
            await self._wire.stop()
        await self._target.close()

    def seal(self, keys: Keys) -> None:
        """Seal the values of cells from now on, and open those that are sealed."""
        self.cells = SealedCells(self._cells, keys)

    async def examine(self) -> list[Remark]:
        """Tell whether the server is set so that what it answers is still so after it has failed."""
        info = await self._info()
        try:
            answer: dict[bytes, bytes] = await self._wire.send("CONFIG", "GET", "appendfsync")
            sync = answer.get(b"appendfsync", b"").decode()
        except ConfigurationError:
            sync = ""
        version = Remark("server", "ok", f"Redis {info['redis_version']}") if info else None
        return [each for each in (version, _of_memory(info), _of_disk(info, sync)) if each is not None]

    def statistics(self) -> dict[str, int | float | str]:
        """Return how many commands were sent, and over how many connections."""
        return dict(self._wire.counters)

    async def _info(self) -> dict[str, str]:
        """Return what the server tells of itself; nothing where we may not ask."""
        try:
            told = str(await self._wire.send("INFO"), "utf-8")
        except ConfigurationError as error:
            _LOG.warning("It is not known whether Redis at %s throws keys away: %s", self.url, error.what)
            return {}
        lines = (line.partition(":") for line in told.splitlines())
        return {name: value for name, _, value in lines}

    def _check(self, info: Mapping[str, str]) -> None:
        version = info.get("redis_version", ".".join(map(str, OLDEST)))
        if tuple(map(int, version.split(".")[:2])) < OLDEST:
            raise ConfigurationError(
                f"Redis at {self.url} has version {version}.",
                hint=f"Use {'.'.join(map(str, OLDEST))} or newer.",
            )
        policy = info.get("maxmemory_policy", KEEPS_ALL)
        if policy != KEEPS_ALL and not self._allow_eviction:
            raise ConfigurationError(
                f"Redis at {self.url} throws keys away when it is full (maxmemory-policy {policy}): locks and tasks could "
                "be lost without anybody knowing.",
                hint=f"Set it to {KEEPS_ALL}, use another server, or say allow_eviction=True.",
            )

    async def _check_layout(self) -> None:
        """Mark the keys as of our layout, bring those of an older one to it, refuse those of a newer one."""
        key = f"{self._root}layout"
        mark = await self._wire.send("GET", key)
        if mark is None:
            try:
                await self._wire.send("SETNX", key, LAYOUT)
            except StoreFull:
                return  # what is there can be worked with all the same; the next to start will mark it
            mark = await self._wire.send("GET", key)
        if (found := _layout(mark)) > LAYOUT:
            raise SchemaTooNew(
                f"The keys of {self.url} are of layout {found}; this Reprise knows {LAYOUT}.",
                hint="Install the newer Reprise.",
            )
        if found < 1:
            raise ConfigurationError(
                f"{key} of {self.url} is {mark!r}, and that is no layout of keys.",
                hint="Use another prefix, or find out who wrote that.",
            )
        if found < LAYOUT:
            await self.queue.renew()
            await self._wire.send("SET", key, LAYOUT)

    def _pushed(self, push: Sequence[Any]) -> None:
        if push[0] == b"message" and push[1] == self._mine.encode():
            self.lease.pushed(push[2])
        elif push[0] in (b"message", b"pmessage"):
            self.signal.pushed(push)

    def _back(self) -> None:
        self._wire.tell("SUBSCRIBE", self._mine)
        self.signal.back()
        self.queue.back()
        self._cells.back()

    def _keeps_no(self, what: str) -> NoReturn:
        raise ConfigurationError(
            f"Redis keeps no {what}.",
            hint="Runs live in sqlite:///file.db or postgresql://host/db; Redis coordinates.",
        )


def open_redis(url: str) -> RedisStore:
    """Return the store of a URL such as ``redis://user:password@host:6379/0?prefix=reprise&patience=5&allow_eviction=no``.

    What else stands behind ``?`` is given to redis-py (``ssl_ca_certs=/etc/ca.pem``).

    Raises:
        ConfigurationError: the URL is not Redis's, or an option has no such value.

    >>> open_redis("redis://ada:secret@cache/2?prefix=blue").url
    'redis://cache/2?prefix=blue'
    """
    options = dict(parse_qsl(urlsplit(url).query))
    prefix, patience = options.pop("prefix", PREFIX), options.pop("patience", str(PATIENCE))
    allow = options.pop("allow_eviction", "no")
    if allow not in _SAID:
        raise ConfigurationError(f"allow_eviction is {allow!r}.", hint="Say yes or no.")
    try:
        seconds = float(patience)
    except ValueError:
        raise ConfigurationError(f"patience is {patience!r}.", hint="Give it in seconds.") from None
    bare, _, _ = url.partition("?")
    return RedisStore(
        f"{bare}?{urlencode(options)}", prefix=prefix, patience=seconds, allow_eviction=_SAID[allow]
    )


def _layout(mark: bytes | None) -> int:
    """Return of what layout keys are that have this mark; 0 = none that there ever was."""
    return int(mark) if mark is not None and mark.isdigit() else 0


_SAID = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}


def _of_memory(info: Mapping[str, str]) -> Remark:
    policy, limit = info.get("maxmemory_policy"), info.get("maxmemory_human", "0B")
    if policy is None:
        return Remark("memory", "warn", "the server does not tell what it does when it is full", "Allow INFO")
    if policy != KEEPS_ALL:
        text = f"maxmemory-policy is {policy}: locks and tasks may be thrown away when it is full"
        return Remark("memory", "warn", text, f"redis-cli CONFIG SET maxmemory-policy {KEEPS_ALL}")
    used = info.get("used_memory_human", "?")
    text = f"{used} of {'all there is' if limit == '0B' else limit}, nothing is thrown away"
    return Remark("memory", "ok", text)


def _of_disk(info: Mapping[str, str], sync: str) -> Remark:
    """Tell what is left after the server was killed."""
    on = "redis-cli CONFIG SET appendonly yes; redis-cli CONFIG SET appendfsync always"
    if not info:
        return Remark("disk", "warn", "the server does not tell what it writes to its disk", "Allow INFO")
    if info.get("aof_enabled") != "1":
        return Remark("disk", "warn", "no append-only file: what was answered is lost when it is killed", on)
    if info.get("aof_last_write_status", "ok") != "ok":
        return Remark("disk", "fail", "the append-only file could not be written", "Make room on its disk")
    if not sync:
        return Remark("disk", "ok", "append-only file; how often it is synced is not told (CONFIG)")
    if sync != "always":
        text = f"appendfsync is {sync}: a second or more of what was answered may be lost with the machine"
        return Remark("disk", "warn", text, "redis-cli CONFIG SET appendfsync always")
    return Remark("disk", "ok", "append-only file, synced before each answer")
