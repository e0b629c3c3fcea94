"""Travelling in time: what a run was at any record, and runs that go on from there with something changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import msgspec

from reprise.kernel.codec import encode_as_it_is
from reprise.kernel.errors import (
    ConfigurationError,
    NoSuchRecord,
    RunNotFound,
    StaleVersion,
    nearest,
    unknown_option,
)
from reprise.kernel.events import Checkpoint, Event, Kind, Record, mark_stream, run_stream
from reprise.runtime.comparing import Comparison, compare
from reprise.runtime.dialogue import Dialogue
from reprise.runtime.editing import Code, Edited, Wish, outcomes_of
from reprise.runtime.forking import Fork, fork, same_fork
from reprise.runtime.moments import RunState, state_at
from reprise.runtime.workflow import Workflow
from reprise.stores.log import Group, append

Input = Mapping[str, Any] | Sequence[Any]
"""Arguments of a workflow: some by name, or all by position."""


LONGEST_NAME = 200
"""Characters of the name of a checkpoint."""


class Travel(Dialogue):
    """Operations on the past of the runs of one store."""

    async def history(self, run: str) -> list[Record]:
        """Return all records of a run, oldest first, as far as they are kept.

        Raises:
            RunNotFound: there is no such run, or its history is gone.
        """
        row = await self.row(run)
        if not (records := await self._store.log.read(run_stream(row.id))):
            raise RunNotFound(f"The history of run {run} is gone.", hint="List runs: reprise ps")
        return records

    async def state(self, run: str, at: int | None = None) -> RunState:
        """Return the state of a run as of record ``at`` of its history (see ``reprise events``), None = the last one.

        Raises:
            RunNotFound: there is no such run.
            NoSuchRecord: its history has no such record, or no longer.
        """
        return state_at(run, await self.history(run), at)

    async def fork(
        self,
        run: str,
        workflow: Workflow[..., Any] | None = None,
        *,
        at: int | str | None = None,
        edit: Mapping[Edited, Any] | None = None,
        input: Input | None = None,
        code: Code = "current",
        id: str = "",
        dry_run: bool = False,
    ) -> Fork:
        """Start a run that goes on from what another one recorded, and return what it begins with.

        The first run, in whatever state it is, stays as it is. The fork begins with its records up to ``at``: a number of
        ``reprise events``, or a step (key or name), which is done again. Default: the latest of the edited steps; with a
        new ``input``, the start; else the end, without what made the run fail.

        Options:
            workflow: its code, if it is at hand: what is given is then written by the types that it declares.
            edit: outcomes by step (key, name, or the step itself): a value, or an exception with which it failed. What the
                step really did stays done.
            input: other arguments: those that change by name, or all of them by position.
            code: "current" = whoever takes it; "pinned" = it belongs to the build that had the first run last.
            id: of the fork; default one that follows from what is asked for. The same fork twice is one run.
            dry_run: only say what it would begin with.

        It is other work to the outside: its idempotency keys are its own. So read in the answer what is ``shared`` with the
        first run and what may be ``repeated``. Replay is the judge: a fork whose body does not come to the records it begins
        with is stranded, and has executed nothing.

        Raises:
            RunNotFound, NoSuchRecord: there is no such run, record or step.
            ForkRefused: a name means several steps, an edited step ended after ``at``, the run had no named build.
            RetryRefused: it is to go on from the end of a run that undid what it had done.
            RunConflict: the id belongs to another run.
            CodecError, PayloadTooLarge: a value cannot be written.
        """
        if code not in ("current", "pinned"):
            raise unknown_option(code, ["current", "pinned"], "fork(code=)")
        row = await self.row(run)
        wish = Wish(
            at=at,
            edits=outcomes_of(edit or {}, workflow, self._payloads),
            change=None if input is None else partial(self._input, row.workflow, workflow, input),
            pinned=code == "pinned",
            id=id,
        )
        made = await fork(self._store, row, self._clock.now(), wish)
        if dry_run:
            return made.fork
        try:
            await append(self._store.log, self._numbers.new(), *made.groups)
        except StaleVersion:
            return await same_fork(self._store, made)
        self._store.signal.wake(["runs"])
        return made.fork

    async def diff(self, a: str, b: str) -> Comparison:
        """Compare the latest generations of two runs: where they first part, and every step that differs.

        Raises:
            RunNotFound: there is no such run.
        """
        return compare(a, await self.history(a), b, await self.history(b))

    async def checkpoint(self, run: str, name: str, at: int | None = None) -> int:
        """Name record ``at`` of a run's history, None = its last one now, and return its number; durable when this returns.

        The same name again moves the checkpoint.

        Raises:
            RunNotFound: there is no such run.
            NoSuchRecord: its history has no such record, or no longer.
            ConfigurationError: the name is empty or longer than 200 characters.
        """
        if not 0 < len(name) <= LONGEST_NAME:
            raise ConfigurationError(
                f"A checkpoint cannot be called {name[:60]!r}.",
                hint=f"Give it up to {LONGEST_NAME} characters.",
            )
        version = state_at(run, await self.history(run), at).version
        event = Event(Kind.CHECKPOINT, self._clock.now(), name, msgspec.json.encode(Checkpoint(version)))
        await append(self._store.log, self._numbers.new(), Group(mark_stream(run), [event]))
        return version

    async def checkpoints(self, run: str) -> dict[str, int]:
        """Return the numbers of the records that have names, by name, in the order in which these were first given.

        Raises:
            RunNotFound: there is no such run.
        """
        await self.row(run)
        marks = await self._store.log.read(mark_stream(run))
        return {mark.key: msgspec.json.decode(mark.data, type=Checkpoint).at for mark in marks}

    async def checkpoint_at(self, run: str, name: str) -> int:
        """Return the number of the record that a checkpoint names.

        Raises:
            RunNotFound: there is no such run.
            NoSuchRecord: it has no such checkpoint.
        """
        marks = await self.checkpoints(run)
        if name not in marks:
            near = nearest(name, marks)
            known = f"It has {', '.join(marks)}." if marks else f"Name one: reprise checkpoint add {run} NAME"
            raise NoSuchRecord(
                f"Run {run} has no checkpoint {name!r}.", hint=f"Did you mean {near!r}?" if near else known
            )
        return marks[name]

    def _input(self, name: str, workflow: Workflow[..., Any] | None, given: Input, before: bytes) -> bytes:
        """Return the encoded input of a fork whose first run had another one."""
        if not isinstance(given, Mapping):
            args = tuple(given)
            data = (
                encode_as_it_is([list(args), {}]) if workflow is None else workflow.arguments.encode(args, {})
            )
        elif workflow is not None:
            data = workflow.arguments.changed(before, given)
        else:
            args, kwargs = msgspec.json.decode(before, type=tuple[list[Any], dict[str, Any]])
            if args and not given.keys() <= kwargs.keys():
                raise ConfigurationError(
                    f"The run of {name} was started with arguments by position, whose names only its code knows.",
                    hint="Give all arguments by position, or the workflow too.",
                )
            data = encode_as_it_is([args, {**kwargs, **given}])
        return self._payloads.within(data, "The input of workflow {}", name)
