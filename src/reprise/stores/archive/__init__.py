"""Archives: runs, or a whole store, as lines of JSON that anybody can read and nobody can change unnoticed."""

from reprise.stores.archive.lines import (
    AnyLine,
    CellLine,
    End,
    FamilyLine,
    Line,
    Opening,
    RecordLine,
    RunLine,
    StreamLine,
    TaskLine,
    from_cell,
    from_record,
    to_cell,
    to_record,
)
from reprise.stores.archive.reading import read_archive, read_pages, verify_archive
from reprise.stores.archive.writing import ArchiveWriter

__all__ = [
    "AnyLine",
    "ArchiveWriter",
    "CellLine",
    "End",
    "FamilyLine",
    "Line",
    "Opening",
    "RecordLine",
    "RunLine",
    "StreamLine",
    "TaskLine",
    "from_cell",
    "from_record",
    "read_archive",
    "read_pages",
    "to_cell",
    "to_record",
    "verify_archive",
]
