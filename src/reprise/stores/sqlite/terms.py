"""On what terms a run may be taken: the places it needs, whether it waits for them, who could not replay it.

Most runs have none, and cost nothing here. A place is a row of the table of leases, taken and given back in the
transaction of the append that says so, so it is taken exactly as long as the log says that the run has it.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET

from reprise.kernel.limit import Slot
from reprise.stores.lease import NEVER
from reprise.stores.log import RunChange
from reprise.stores.runs import Line, line_of
from reprise.stores.sqlite.database import Connection
from reprise.stores.sqlite.meta import Counters
from reprise.stores.sqlite.rows import check_row, sealed
from reprise.stores.sqlite.statements import Statements

SQL = Statements("terms.sql")

_to_text = msgspec.json.Encoder().encode
_to_slots = msgspec.json.Decoder(tuple[Slot, ...]).decode
_to_builds = msgspec.json.Decoder(tuple[str, ...]).decode


class Terms(msgspec.Struct, gc=False):
    """The terms of one run."""

    run: str
    created_at: int
    slots: tuple[Slot, ...] = ()
    in_line: bool = False
    refused: tuple[str, ...] = ()
    pinned: str = ""


NO_TERMS = Terms("", 0)


def read_terms(columns: tuple[Any, ...]) -> Terms | None:
    """Return columns of the table as a value, None where there was no row; raises ``StoreCorrupt``."""
    if columns[0] is None:
        return None
    check_row("terms", columns[0], under_seal(columns))
    run, slots, in_line, created_at, refused, pinned, _ = columns
    return Terms(run, created_at, _to_slots(slots), bool(in_line), _to_builds(refused), pinned or "")


def under_seal(columns: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the columns that the checksum is of, and it: one who is pinned to nothing says nothing of pins."""
    *before, pinned, crc = columns
    return columns if pinned is not None else (*before, crc)


def write_terms(connection: Connection, terms: Terms) -> None:
    """Write the terms of a run."""
    row = (terms.run, slots_text(terms.slots), int(terms.in_line), terms.created_at, _text(terms.refused))
    *columns, crc = sealed((*row, terms.pinned) if terms.pinned else row)
    connection.execute(SQL["put"], (*columns[:5], terms.pinned or None, crc))


def delete_terms(connection: Connection, run: str) -> None:
    """Remove the terms of a run."""
    connection.execute(SQL["delete"], (run,))


def changed_terms(terms: Terms | None, change: RunChange, owner: str | None, created_at: int) -> Terms | None:
    """Return what a change of its run makes of terms; None = they stay as they are."""
    if terms is None and not (change.slots or change.refused or change.pinned):
        return None
    before = terms or Terms(change.id, created_at)
    in_line = before.in_line if change.in_line is UNSET else change.in_line
    after = Terms(
        change.id,
        created_at,
        before.slots if change.slots is UNSET else change.slots,
        in_line and owner is None,
        before.refused if change.refused is UNSET else change.refused,
        before.pinned if change.pinned is UNSET else change.pinned,
    )
    return None if after == terms else after


def find_lines(connection: Connection, now: int) -> list[Line]:
    """Return the lines in which runs wait."""

    def fill(lease: str) -> tuple[int, int]:
        taken, ends = connection.execute(SQL["fill"], (lease, now)).fetchone()
        return taken, 0 if ends is None or ends == NEVER else ends - now

    return [
        line_of(_to_slots(slots), created_at, fill)
        for slots, created_at in connection.execute(SQL["lines"]).fetchall()
    ]


class Places:
    """The places of limited runs, within the writer's transaction."""

    def __init__(self, connection: Connection, counters: Counters) -> None:
        self._connection = connection
        self._counters = counters

    def others(self, lease: str, run: str) -> int | None:
        """Return how many other runs have a place, None when the run has one."""
        row = self._connection.execute(SQL["others"], (run, lease, self._counters.now())).fetchone()
        return None if row[1] else row[0]

    def take(self, slots: tuple[Slot, ...], run: str, token: int) -> None:
        """Give a run the places that it does not have yet."""
        now = self._counters.now()
        for slot in slots:
            if self.others(slot.lease, run) is not None:
                until = now + slot.period if slot.period else NEVER
                self._connection.execute(SQL["empty"], (slot.lease, now))
                self._connection.execute(SQL["seat"], sealed((slot.lease, run, token, until, 0)))

    def give_back(self, slots: tuple[Slot, ...], run: str) -> None:
        """Take from a run the places that do not end by themselves."""
        for slot in slots:
            if not slot.period:
                self._connection.execute(SQL["unseat"], (slot.lease, run))


def slots_text(slots: tuple[Slot, ...]) -> str:
    """Return slots as they are written."""
    return _text(slots)


def _text(value: object) -> str:
    return _to_text(value).decode()
