"""Archives: runs, or a whole store, as lines of JSON that anybody can read and nobody can change unnoticed."""

from reprise.stores.archive.lines import (
    AnyLine,
    End,
    FamilyLine,
    Line,
    Opening,
    RecordLine,
    RunLine,
    StreamLine,
    TaskLine,
    from_record,
    to_record,
)
from reprise.stores.archive.reading import read_archive, read_pages, verify_archive
from reprise.stores.archive.writing import ArchiveWriter

__all__ = [
    "AnyLine",
    "ArchiveWriter",
    "End",
    "FamilyLine",
    "Line",
    "Opening",
    "RecordLine",
    "RunLine",
    "StreamLine",
    "TaskLine",
    "from_record",
    "read_archive",
    "read_pages",
    "to_record",
    "verify_archive",
]
