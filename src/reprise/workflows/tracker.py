"""``WorkflowTracker``: the past of runs, names for moments of it, and going back to them."""

from __future__ import annotations

from typing import Any, Protocol

from reprise.kernel.errors import ConfigurationError
from reprise.kernel.events import Record
from reprise.runtime.client import Client
from reprise.runtime.handle import RunHandle
from reprise.runtime.moments import RunState
from reprise.runtime.workflow import Workflow


class _App(Protocol):
    """What a tracker needs of an app; ``Reprise`` is one."""

    client: Client

    async def fork(
        self, run: str, workflow: Workflow[..., Any] | None = None, **options: Any
    ) -> RunHandle[Any]: ...


class WorkflowTracker:
    """Tracks runs by their history, which nobody can change: what was, at any event, and going back by going on.

    ``run`` is the run that is meant where none is named. Nothing of a run is undone by a roll-back: it is a fork, and the
    first run stays as it is.

    >>> import asyncio
    >>> from reprise import Reprise, WorkflowTracker, step, workflow
    >>> @step
    ... async def count(n: int) -> int: return n + 1
    >>> @workflow
    ... async def twice(n: int) -> int: return await count(await count(n))
    >>> async def main() -> tuple[int, int]:
    ...     async with Reprise("memory://") as app:
    ...         first = await app.start(twice, 1, id="r")
    ...         await first.result()
    ...         tracker = WorkflowTracker(app, "r")
    ...         await tracker.checkpoint("half", at=3)
    ...         second = await tracker.rollback("half", edit={":1.count": 10})
    ...         return await first.result(), await second.result()
    >>> asyncio.run(main())
    (3, 11)
    """

    def __init__(self, app: _App, run: str = "") -> None:
        self._app = app
        self._run = run

    async def history(self, run: str = "") -> tuple[Record, ...]:
        """Return the history of a run so far.

        Raises:
            RunNotFound: there is no such run.
        """
        return tuple(await self._app.client.history(self._named(run)))

    async def state(self, run: str = "", at: int | str | None = None) -> RunState:
        """Return a run's state as of a record of its history, of a checkpoint, or of now.

        Raises:
            RunNotFound, NoSuchRecord: there is no such run, record or checkpoint.
        """
        run = self._named(run)
        client = self._app.client
        return await client.state(run, await client.checkpoint_at(run, at) if isinstance(at, str) else at)

    async def checkpoint(self, name: str, run: str = "", at: int | None = None) -> int:
        """Name record ``at`` of a run's history, None = its last one now; errors as of :meth:`Client.checkpoint`."""
        return await self._app.client.checkpoint(self._named(run), name, at)

    async def checkpoints(self, run: str = "") -> dict[str, int]:
        """Return the numbers of the records that have names, by name."""
        return await self._app.client.checkpoints(self._named(run))

    async def rollback(
        self, name: str, run: str = "", workflow: Workflow[..., Any] | None = None, **options: Any
    ) -> RunHandle[Any]:
        """Let a fork go on from a checkpoint, and return its handle; options and errors as of :meth:`Reprise.fork`.

        Raises:
            NoSuchRecord: there is no such checkpoint, or its record is no longer kept.
        """
        run = self._named(run)
        at = await self._app.client.checkpoint_at(run, name)
        return await self._app.fork(run, workflow, at=at, **options)

    def _named(self, run: str) -> str:
        if not (run or self._run):
            raise ConfigurationError("Of which run?", hint="Name it: WorkflowTracker(app, run), or run=…")
        return run or self._run
