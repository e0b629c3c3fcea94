"""A machine whose power fails while SQLite writes: what no sync has covered is lost or torn, and all processes are gone."""

from __future__ import annotations

from typing import Any, cast

from reprise.kernel.chance import seeded
from reprise.kernel.errors import RepriseError
from reprise.stores.log import Append
from reprise.stores.sqlite import database
from reprise.testing.disk import STYLES, Disk, Drive, DrivenConnection, Op, Sync, Write
from reprise.testing.faults import TornWrite
from reprise.testing.machine import Process, SQLiteSite, at_once
from reprise.testing.wire import Weather


class PoweredSite(SQLiteSite):
    """A file on a disk that keeps only what it was told to.

    Power fails in the middle of a write of a process that may be killed, while those to which nothing happens do
    nothing with the file: they live on, and find what is left of it.
    """

    def __init__(self, weather: Weather, synchronous: str) -> None:
        self._weather = weather
        self._dice = seeded(b"power %d" % (weather.loop.seed or 0))
        self._drive = Drive(self._note)
        self._disk: Disk | None = None
        self._left: dict[str, bytes] = {}
        super().__init__(weather.loop, synchronous)
        self._disk = Disk({self.path.name: self.path.read_bytes()})

    def raw(self, uri: str) -> Any:
        """Open a connection whose writes are watched."""
        return DrivenConnection(uri, self._drive, keeps_log=True)

    def _note(self, op: Op) -> None:
        disk, acting = self._disk, self.acting
        if disk is None:
            return
        disk.play(op)
        fault = self._weather.profile.get(TornWrite)
        if fault is None or acting is None or acting.is_outside or not isinstance(op, Write | Sync):
            return
        others_idle = all(process.is_idle for process in self.processes if process.is_outside)
        if others_idle and self._weather.strikes(fault.p, "power cuts"):
            self._weather.counts["power cuts that lost writes"] += disk.pending > 0
            self._left = disk.after_power_loss(self._dice, self._dice.choice(STYLES))
            self._disk = None
            self.is_dark = True

    def after(self, process: Process) -> None:
        """Let the machine go dark, if its power has failed, and come up again."""
        if not self.is_dark:
            return
        self.is_dark = False  # whoever dies now is not dark, but dead
        undecided = process.staged
        for one in self.processes:
            if one.is_outside:
                one.lose_connections()
            else:
                assert one.wire is not None
                one.wire.node.crash()
                one.kill()
        self.watching.close()
        for file in self.path.parent.glob(f"{self.path.name}*"):
            if file.is_file():
                file.unlink()
        for name, content in self._left.items():
            (self.path.parent / name).write_bytes(content)
        self._disk = Disk(self._left)
        try:
            self._look(undecided)
        except RepriseError as error:
            self.loop.fail(error)

    def _look(self, undecided: list[Append]) -> None:
        """Hold what is left against the books; the transaction in which the power failed is there as a whole or not."""
        self.watching = self.raw(database.uri_of(self.path, "rw"))
        if undecided and self._is_there(undecided):
            for append in undecided:
                self.committed(append, "a process that lost its power")
        at_once(self.books.check(cast("Any", self)))

    def _is_there(self, appends: list[Append]) -> bool:
        """Tell whether a transaction is there, by the first thing that it did."""
        for append in appends:
            for group in append.groups:
                if group.events:
                    return at_once(self.log.lookup(group.stream, append.id)) is not None
                if group.takes:
                    return at_once(self.log.head(group.stream)).token == group.token
                if group.run is not None:
                    changed = "SELECT 1 FROM runs WHERE id = ? AND updated_at = ?"
                    return bool(self.watching.execute(changed, (group.run.id, group.run.at)))
        return False
