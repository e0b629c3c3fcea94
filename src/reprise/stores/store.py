"""A store: the ports that one URL offers, opened and closed together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, runtime_checkable

from reprise.stores.blobs import Blobs
from reprise.stores.cells import Cells
from reprise.stores.lease import Lease
from reprise.stores.log import Log
from reprise.stores.presence import Presence
from reprise.stores.queue import Queue
from reprise.stores.runs import Runs
from reprise.stores.signal import Signal
from reprise.stores.transactions import Transactions

if TYPE_CHECKING:
    from reprise.stores.packing.writing import Keys


class Schema(NamedTuple):
    """Of what version the tables of a store are."""

    found: int
    """0 = there are none yet."""
    newest: int
    """The version that this Reprise works with, and upgrades older ones to."""


class Store(Protocol):
    """What ``reprise.stores.open`` returns. A port that this keeper does not offer raises ``ConfigurationError``."""

    @property
    def url(self) -> str:
        """The URL, without a password."""
        ...

    @property
    def log(self) -> Log:
        """Return the log."""
        ...

    @property
    def blobs(self) -> Blobs:
        """Return the large payloads."""
        ...

    @property
    def runs(self) -> Runs:
        """Return the index of runs."""
        ...

    @property
    def lease(self) -> Lease:
        """Return the leases."""
        ...

    @property
    def queue(self) -> Queue:
        """Return the queues."""
        ...

    @property
    def cells(self) -> Cells:
        """Return the cells."""
        ...

    @property
    def signal(self) -> Signal:
        """Return the wake-ups."""
        ...

    @property
    def presence(self) -> Presence:
        """Return who is there of the workers."""
        ...

    @property
    def transactions(self) -> Transactions:
        """Return what does a caller's own work in the commit of an append."""
        ...

    async def schema(self) -> Schema:
        """Return of what version the tables are, without changing anything; also before ``start``."""
        ...

    @property
    def epoch(self) -> int:
        """How many epochs began before the one we are in; as this process last saw it."""
        ...

    async def begin_epoch(self, above: int = 0) -> int:
        """Begin an epoch higher than the present one and than ``above``; return its number.

        Tokens and positions begin anew at ``conditions.floor_of``, above all that were given; leases end; a token of
        an earlier epoch writes nothing more. Done to what was restored or copied: nobody who worked with what was
        before can take it for that.
        """
        ...

    async def start(self) -> None:
        """Open; idempotent. Creates or upgrades the schema."""
        ...

    async def stop(self) -> None:
        """Write what was handed over, then close; idempotent, safe before start."""
        ...

    def statistics(self) -> dict[str, int | float | str]:
        """Return counters: appends, commits, records, refused, bytes, and what the keeper has to say."""
        ...


class Remark(NamedTuple):
    """What one look at a server found. ``repair`` is a command, or what to do where no command does it."""

    check: str
    level: Literal["ok", "warn", "fail"]
    text: str
    repair: str = ""


@runtime_checkable
class Coordinating(Protocol):
    """A store without a log: it keeps no runs, and tells how its server is set."""

    async def examine(self) -> list[Remark]:
        """Tell whether the server is set so that what it answers is still so after it has failed."""
        ...

    def seal(self, keys: Keys) -> None:
        """Seal the values of cells from now on, and open those that are sealed."""
        ...
