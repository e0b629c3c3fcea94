"""Write blobs and the references to them, in the transaction of the append that names them."""

from __future__ import annotations

from collections.abc import Sequence

from reprise.stores.blobs import Blob
from reprise.stores.sqlite.database import Connection
from reprise.stores.sqlite.statements import Statements

SQL = Statements("blobs.sql")

EVERY_VERSION = (1 << 63) - 1


class BlobRows:
    """The writer's view of the blobs."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._staged: list[tuple[Blob, int, int]] = []

    def stage(self, blobs: Sequence[Blob], stream: int, version: int) -> int:
        """Take note of what is to be written with a stream's records up to ``version``; return its bytes."""
        self._staged += [(blob, stream, version) for blob in blobs]
        return sum([len(blob.data) for blob in blobs])

    def flush(self) -> None:
        """Write what was staged."""
        for blob, stream, version in self._staged:
            self._connection.execute(SQL["insert"], (blob.hash, blob.data))
            self._connection.execute(SQL["refer"], (stream, version, blob.hash))
        self._staged.clear()

    def forget(self) -> None:
        """Drop what was staged."""
        self._staged.clear()

    def release(self, stream: int, most: int, through: int = EVERY_VERSION) -> bool:
        """Drop up to ``most`` of a stream's references from versions up to ``through``; return whether there are more."""
        which = {"stream": stream, "through": through, "most": most}
        self._connection.execute(SQL["loosen"], which)
        self._connection.execute(SQL["release"], which)
        (gone,) = self._connection.execute(SQL["changes"]).fetchone()
        return gone == most

    def collect(self, most: int) -> tuple[int, bool]:
        """Look at up to ``most`` loose blobs; return how many were deleted and whether there are more to look at.

        What nobody refers to is deleted. Within one transaction, so nobody refers to it between the look and the end.
        """
        (last,) = self._connection.execute(SQL["last_loose"], (most,)).fetchone()
        if last is None:
            return 0, False
        self._connection.execute(SQL["collect"], (last,))
        (gone,) = self._connection.execute(SQL["changes"]).fetchone()
        self._connection.execute(SQL["settle"], (last,))
        return gone, True
