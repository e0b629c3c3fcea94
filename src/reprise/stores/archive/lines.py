"""What stands in the lines of an archive.

    archive     first line: what this is and where it comes from
    family      a run and its descendants begin ('' = everything that is in a store)
      record    a record, in the order of the log
      stream    the end of a stream: its version, token, whether it is closed
      run       a row of the index of runs
    task        a queued task
    cell        a cell as it is
    end         last line: counts, and the hash of itself

Each line names in ``prev`` the SHA-256 of the line before it, as bytes with its newline; the first names zeros. The
last has a ``hash`` of its own: that of itself without it. So ``sed -n 7p FILE | sha256sum`` shows what line 8 must say.
"""

from __future__ import annotations

import msgspec

from reprise.kernel.events import Record
from reprise.stores.cells import Cell
from reprise.stores.queue import Task
from reprise.stores.runs import RunRow

FORMAT = 1
"""Number of this format; a reader refuses a higher one."""
FIRST = "0" * 64
"""What the first line names as the line before it."""


class Line(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="line", kw_only=True):
    """One line; its kind stands in the field ``line``."""

    prev: str = ""
    """Hash of the line before it; the writer puts it in."""


class Opening(Line, frozen=True, tag="archive"):
    """The first line."""

    format: int
    source: str
    """URL of the store, without a password."""
    made_at: int
    """Microseconds since the epoch."""
    epoch: int
    """Of the store."""
    whole: bool = False
    """Everything that the store holds, not only some runs."""


class FamilyLine(Line, frozen=True, tag="family"):
    """A run and its descendants begin."""

    root: str


class RecordLine(Line, frozen=True, tag="record"):
    """A record; what is not JSON stands in ``base64`` instead of ``data``."""

    stream: str
    version: int
    kind: int
    at: int
    key: str = ""
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    base64: bytes = b""
    print: int = 0
    took: int = 0
    append: int = 0


class StreamLine(Line, frozen=True, tag="stream"):
    """The end of a stream that has a token or is closed."""

    name: str
    version: int
    token: int = 0
    closed: bool = False


class RunLine(Line, frozen=True, tag="run"):
    """A row of the index of runs."""

    row: RunRow


class TaskLine(Line, frozen=True, tag="task"):
    """A queued task."""

    task: Task


class CellLine(Line, frozen=True, tag="cell"):
    """A cell; what is not JSON stands in ``base64`` instead of ``data``."""

    space: str
    name: str
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    base64: bytes = b""
    expires_at: int = 0
    """Microseconds by the clock of the store that it comes from; 0 = it does not end."""


class End(Line, frozen=True, tag="end"):
    """The last line."""

    lines: int
    """All lines, this one too."""
    families: int = 0
    runs: int = 0
    records: int = 0
    tasks: int = 0
    cells: int = 0
    hash: str = ""
    """Of this line; the writer puts it behind it."""


AnyLine = Opening | FamilyLine | RecordLine | StreamLine | RunLine | TaskLine | CellLine | End


def from_record(record: Record) -> RecordLine:
    """Return the line of a record."""
    is_json = _is_json(record.data)
    return RecordLine(
        stream=record.stream,
        version=record.version,
        kind=record.kind,
        at=record.at,
        key=record.key,
        data=msgspec.Raw(record.data) if is_json else msgspec.UNSET,
        base64=b"" if is_json else record.data,
        print=record.print,
        took=record.took,
        append=record.append,
    )


def to_record(line: RecordLine) -> Record:
    """Return the record of a line; its position is 0, for it has none in an archive."""
    data = line.base64 if line.data is msgspec.UNSET else bytes(line.data)
    return Record(
        0, line.stream, line.version, line.kind, line.at, line.key, data, line.print, line.took, line.append
    )


def from_cell(space: str, cell: Cell) -> CellLine:
    """Return the line of a cell."""
    is_json = _is_json(cell.data)
    return CellLine(
        space=space,
        name=cell.name,
        data=msgspec.Raw(cell.data) if is_json else msgspec.UNSET,
        base64=b"" if is_json else cell.data,
        expires_at=cell.expires_at,
    )


def to_cell(line: CellLine) -> Cell:
    """Return the cell of a line; its version is 0, for it has none in an archive."""
    data = line.base64 if line.data is msgspec.UNSET else bytes(line.data)
    return Cell(line.name, data, 0, line.expires_at)


def _is_json(data: bytes) -> bool:
    """Return whether data can stand in a line as it is, and comes back from it byte for byte."""
    if not data or b"\n" in data or data[0] <= 0x20 or data[-1] <= 0x20:
        return False
    try:
        msgspec.json.decode(data)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return False
    return True
