"""What anybody who can open the store may say about which code runs go on with: carry them over, pin them to a build."""

from __future__ import annotations

from typing import Any

from reprise.kernel.errors import (
    AppendRefused,
    ConfigurationError,
    MigrationRefused,
    RunEnded,
    StreamClosed,
    StreamMissing,
)
from reprise.kernel.events import inbox_stream, run_stream
from reprise.kernel.machine import RUN
from reprise.runtime.dialogue import Dialogue, no_such_run
from reprise.runtime.migrating import Carry, Migration, migration
from reprise.runtime.workflow import Workflow
from reprise.stores.log import Group, RunChange, append
from reprise.stores.runs import RunFilter, RunRow


class Carriage(Dialogue):
    """Operations on runs about the code that they go on with."""

    async def migrate(
        self, run: str, carry: Carry, workflow: Workflow[..., Any], *, dry_run: bool = False
    ) -> Migration:
        """Let a run that nobody has go on as a new generation, under ``workflow``, from what ``carry`` computes.

        ``carry`` is called with the :class:`~reprise.runtime.migrating.Past` of the run and returns the arguments of the
        workflow: a tuple, a dict by name, or an :class:`~reprise.runtime.migrating.Onward`. What the run has to undo
        should it fail, its budget, deadline, tags and unread mail pass on; children end as at the end of a run. One that
        was paused goes on. With ``dry_run`` nothing is written.

        Raises:
            MigrationRefused: a worker has it, it is about to end, an effect or child of it is open, or it moved on.
            ConfigurationError: what was returned are no arguments of the workflow.
            RunNotFound: there is no such run.
        """
        made = await migration(self._store, await self.row(run), carry, workflow, self._clock.now())
        self._payloads.within(made.input, "The input with which run {} continues", run)
        if dry_run:
            return made
        try:
            await append(self._store.log, self._numbers.new(), *made.groups)
        except AppendRefused as error:
            raise MigrationRefused(f"Run {run} moved on meanwhile.", hint="Try once more.") from error
        self._store.signal.wake([run_stream(run), "runs", *(inbox_stream(one) for one in made.cancelled)])
        return made

    async def pin(self, run: str, build: str = "") -> str:
        """Let only workers of one build take a run and those that it started, and return its name.

        By default that which had the run last. Who has one of them now keeps it until it leaves memory.

        Raises:
            ConfigurationError: no named build had it, and none was given.
            RunNotFound, RunEnded: nothing was written.
        """
        build = build or (await self.row(run)).build
        if not build:
            raise ConfigurationError(
                f"No build with a name had run {run}.",
                hint="Say to which one, and give workers a name: --build",
            )
        await self._pin(run, build)
        return build

    async def unpin(self, run: str) -> None:
        """Let workers of any build take a run and those that it started.

        Raises:
            RunNotFound, RunEnded: nothing was written.
        """
        await self._pin(run, "")

    async def _pin(self, run: str, build: str) -> None:
        where = RunFilter(prefix=run)
        rows = await self._store.runs.find(where, limit=1000, newest_first=False)
        family = [row.id for row in rows if is_of(row, run) and row.status not in RUN.final]
        for one in family if run in family else [*family, run]:
            change = RunChange(one, pinned=build, at=self._clock.now())
            group = Group(inbox_stream(one), guard=run_stream(one), run=change)
            try:
                await append(self._store.log, self._numbers.new(), group)
            except StreamMissing:
                raise no_such_run(run) from None
            except StreamClosed:
                if one == run:
                    raise RunEnded(f"Run {run} has ended.", hint=f"Look: reprise show {run}") from None
        self._store.signal.wake(["runs"])


def is_of(row: RunRow, run: str) -> bool:
    """Tell whether a row is ``run`` or one of its descendants, whose ids are their parent's and the key of the call."""
    if run in (row.id, row.parent):
        return True
    return row.parent is not None and row.parent.startswith((f"{run}:", f"{run}/"))
