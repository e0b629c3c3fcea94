"""The promise of the run index: find runs, and know which are due.

Rows are written only by appends (``Group.run``), in the same transaction as the events; this port reads them. The one
write it has is ``mark``, a hint without an event.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec


class RunRow(msgspec.Struct, frozen=True):
    """One run as the index knows it."""

    id: str
    workflow: str
    status: str
    created_at: int
    updated_at: int
    parent: str | None = None
    owner: str | None = None
    due_at: int | None = None
    build: str = ""
    tags: dict[str, str] = {}
    error: str = ""
    token: int = 0
    """Current token of ``run/<id>``."""
    since: int = 0
    """Version of ``run/<id>`` after which replay reads."""
    generation: int = 0
    """How often the run has gone on as a new one."""
    warning: str = ""


class RunFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which runs. Empty fields do not restrict; the others must all hold."""

    prefix: str = ""
    """Start of the id."""
    status: Sequence[str] = ()
    workflow: str = ""
    parent: str = ""
    owner: str = ""
    tags: dict[str, str] = {}
    created_after: int = 0
    created_before: int = 0


class Runs(Protocol):
    """Index of runs."""

    async def find(
        self, where: RunFilter = RunFilter(), *, limit: int = 50, before: str = "", newest_first: bool = True
    ) -> list[RunRow]:
        """Return runs ordered by (created_at, id); ``before`` is the id after which the next page starts."""
        ...

    async def count(self, where: RunFilter = RunFilter(), *, by: str = "status") -> dict[str, int]:
        """Count runs by ``status``, ``workflow`` or ``owner`` ('' for none)."""
        ...

    async def due(
        self,
        now: int,
        *,
        owner: str,
        dead: Sequence[str] = (),
        workflows: Sequence[str] | None = None,
        limit: int = 100,
    ) -> list[RunRow]:
        """Return runs that a worker may act on, oldest due first.

        They have not ended, and are

        - due (``due_at`` <= now) and owned by nobody, or by ``owner`` itself (mail for a run it holds), or
        - owned by one of ``dead``.

        ``workflows`` leaves out the others, so that runs which nobody here knows do not hide those that are known.
        """
        ...

    async def mark(self, run: str, due_at: int | None) -> None:
        """Set when somebody should look at a run; unknown ids are ignored."""
        ...
