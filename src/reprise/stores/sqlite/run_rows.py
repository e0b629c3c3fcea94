"""Write the index of runs: changes fold into rows, rows travel in few statements."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import UNSET

from reprise.kernel.limit import Slot
from reprise.kernel.tags import Tag, comparable
from reprise.stores.log import RunChange
from reprise.stores.runs import RunRow
from reprise.stores.sqlite.database import Connection
from reprise.stores.sqlite.rows import check_row, joined_words, sealed
from reprise.stores.sqlite.statements import Statements
from reprise.stores.sqlite.terms import (
    NO_TERMS,
    Places,
    Terms,
    changed_terms,
    delete_terms,
    read_terms,
    write_terms,
)

SQL = Statements("runs.sql")

(ID, WORKFLOW, STATUS, CREATED_AT, UPDATED_AT, PARENT, OWNER, DUE_AT, BUILD, TAGS, ERROR, ENDED) = range(12)
(SINCE, GENERATION, WARNING) = range(12, 15)
_WIDTH = 16
_KNOWN_RUNS = 10_000

_tags_to_text = msgspec.json.Encoder(order="deterministic").encode
_text_to_tags = msgspec.json.Decoder(dict[str, Tag]).decode


def tags_of(text: str) -> dict[str, Tag]:
    """Return the column ``tags`` as a mapping."""
    return _text_to_tags(text) if text != "{}" else {}


def to_run_row(row: tuple[Any, ...]) -> RunRow:
    """Return the columns of ``runs``, those of its ``terms`` and the stream's token; raises ``StoreCorrupt``."""
    columns, token = row[:_WIDTH], row[-1]
    check_row("runs", columns[ID], columns)
    id, workflow, status, created, updated, parent, owner, due, build, tags, error, _, *life, _ = columns
    terms = read_terms(row[_WIDTH:-1]) or NO_TERMS
    return RunRow(
        id,
        workflow,
        status,
        created,
        updated,
        parent,
        owner,
        due,
        build,
        tags_of(tags),
        error,
        token or 0,
        *life,
        slots=terms.slots,
        in_line=terms.in_line,
        refused=terms.refused,
        pinned=terms.pinned,
    )


class _Row:
    """A run's columns, without the checksum, and what of them is not in the file yet."""

    __slots__ = ("columns", "new", "old_error", "old_tags", "terms", "whole")

    def __init__(self, columns: list[Any], terms: Terms | None, *, new: bool) -> None:
        self.columns = columns
        self.terms = terms
        self.new = new
        self.whole = False
        """Whether columns changed that a plain update leaves alone."""
        self.old_tags = "{}" if new else columns[TAGS]
        self.old_error = "" if new else columns[ERROR]


class RunRows:
    """The writer's view of the run index."""

    def __init__(self, connection: Connection, places: Places) -> None:
        self._connection = connection
        self.places = places
        self._known: dict[str, _Row] = {}
        self._dirty: dict[str, _Row] = {}

    def forget(self) -> None:
        """Know nothing any more."""
        self._known.clear()
        self._dirty.clear()

    def load(self, ids: Iterable[str]) -> None:
        """Read the rows of runs that may change."""
        if len(self._known) > _KNOWN_RUNS:
            self._known.clear()
        wanted = [id for id in ids if id not in self._known]
        for text, first, last in SQL.many("rows", len(wanted)):
            for row in self._connection.execute(text, wanted[first:last]).fetchall():
                columns = row[:_WIDTH]
                check_row("runs", row[ID], columns)
                self._known[row[ID]] = _Row(list(columns[:-1]), read_terms(row[_WIDTH:]), new=False)

    def apply(self, change: RunChange) -> None:
        """Fold a change into its run's row."""
        row = self._known.get(change.id)
        if row is None:
            columns = [change.id, "", "pending", change.at, 0, None, None, None, "", "{}", "", 0, 0, 0, ""]
            row = self._known[change.id] = _Row(columns, None, new=True)
        columns = row.columns
        columns[UPDATED_AT] = change.at
        if change.status is not UNSET:
            columns[STATUS] = change.status
        if change.owner is not UNSET:
            columns[OWNER] = change.owner
        if change.due_at is not UNSET:
            columns[DUE_AT] = change.due_at
        if change.error is not UNSET:
            columns[ERROR] = change.error
        if change.workflow is not UNSET:
            columns[WORKFLOW] = change.workflow
            row.whole = True
        if change.parent is not UNSET:
            columns[PARENT] = change.parent
            row.whole = True
        if change.build is not UNSET:
            columns[BUILD] = change.build
            row.whole = True
        if change.tags is not UNSET and columns[TAGS] != (text := _tags_to_text(change.tags).decode()):
            columns[TAGS] = text
            row.whole = True
        if change.since is not UNSET:
            columns[SINCE] = change.since
            row.whole = True
        if change.generation is not UNSET:
            columns[GENERATION] = change.generation
            row.whole = True
        if change.warning is not UNSET and columns[WARNING] != change.warning:
            columns[WARNING] = change.warning
            row.whole = True
        self._dirty[change.id] = row
        if (
            row.terms is not None
            or change.slots is not UNSET
            or change.refused is not UNSET
            or change.pinned is not UNSET
        ):
            self._apply_terms(row, change)

    def _apply_terms(self, row: _Row, change: RunChange) -> None:
        """Write what changes of a run's terms, at once: the next append may want the places that this one gives back."""
        terms = changed_terms(row.terms, change, row.columns[OWNER], row.columns[CREATED_AT])
        if terms is not None:
            write_terms(self._connection, terms)
            row.terms = terms
        if change.owner is None and row.terms is not None:
            self.places.give_back(row.terms.slots, change.id)

    def seat(self, id: str, slots: tuple[Slot, ...], token: int) -> None:
        """Let a run take places, or with none give back its own."""
        row = self._known.get(id)
        if slots:
            self.places.take(slots, id, token)
        elif row is not None and row.terms is not None:
            self.places.give_back(row.terms.slots, id)

    def end(self, id: str) -> None:
        """Note that the run's stream is closed."""
        row = self._known.get(id)
        if row is not None:
            row.columns[ENDED] = 1
            self._dirty[id] = row
            self._forget_terms(row)

    def _forget_terms(self, row: _Row) -> None:
        if row.terms is not None:
            self.places.give_back(row.terms.slots, row.terms.run)
            delete_terms(self._connection, row.terms.run)
            row.terms = None

    def mark(self, id: str, due_at: int | None) -> None:
        """Set when somebody should look at the run; unknown ids are ignored."""
        self.load([id])
        row = self._known.get(id)
        if row is not None and row.columns[DUE_AT] != due_at:
            row.columns[DUE_AT] = due_at
            self._dirty[id] = row

    def drop(self, id: str) -> None:
        """Delete a run's row."""
        self.load([id])
        row = self._known.pop(id, None)
        if row is not None:
            self._forget_terms(row)
            self._delete(row)
            row.columns[ERROR] = ""
            self._index_error(row)

    def flush(self) -> None:
        """Write what changed."""
        if not self._dirty:
            return
        inserts: list[Any] = []
        updates: list[Any] = []
        tags: list[Any] = []
        for id, row in self._dirty.items():
            full = sealed(tuple(row.columns))
            if row.whole and not row.new:
                self._delete(row)
                row.new = True
            if row.new:
                inserts += full
                tags += _tag_rows(row.columns)
            else:
                _, _, status, _, updated, _, owner, due, _, _, error, ended, *_, crc = full
                updates += (id, status, updated, owner, due, error, ended, crc)
            if row.columns[ERROR] != row.old_error:
                self._index_error(row)
            row.new = row.whole = False
            row.old_tags = row.columns[TAGS]
            if row.columns[ENDED]:
                del self._known[id]
        self._dirty.clear()
        SQL.write(self._connection, "insert", inserts, _WIDTH)
        SQL.write(self._connection, "insert_tags", tags, 4)
        SQL.write(self._connection, "update", updates, 8)

    def _delete(self, row: _Row) -> None:
        """Delete a row and its tags; its error stays in the index, as its new row may have the same."""
        id = row.columns[ID]
        if row.old_tags != "{}":
            self._connection.execute(SQL["delete_tags"], (id,))
        self._connection.execute(SQL["delete"], (id,))

    def _index_error(self, row: _Row) -> None:
        """Let the run be found by the words of its error as it is now."""
        execute, columns = self._connection.execute, row.columns
        old, new = row.old_error, columns[ERROR]
        row.old_error = new
        if old:
            ((number,),) = execute(SQL["delete_error"], (columns[ID],)).fetchall()
            execute(SQL["delete_words"], (number, joined_words(old)))
        if new:
            ((number,),) = execute(SQL["insert_error"], (columns[ID], columns[CREATED_AT])).fetchall()
            execute(SQL["insert_words"], (number, joined_words(new)))


def _tag_rows(columns: list[Any]) -> list[Any]:
    rows: list[Any] = []
    for name, value in tags_of(columns[TAGS]).items():
        rows += (columns[ID], name, comparable(value), columns[CREATED_AT])
    return rows
