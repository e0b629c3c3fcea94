"""Travelling in time: what a run was at any record, and runs that go on from there with something changed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextvars import ContextVar
from functools import partial
from typing import Any

import msgspec

from reprise.kernel.codec import encode_as_it_is
from reprise.kernel.errors import ConfigurationError, RunNotFound, StaleVersion, unknown_option
from reprise.kernel.events import Record, run_stream
from reprise.runtime.comparing import Comparison, compare
from reprise.runtime.dialogue import Dialogue
from reprise.runtime.editing import Code, Edited, Wish, outcomes_of
from reprise.runtime.forking import Fork, fork, same_fork
from reprise.runtime.moments import RunState, state_at
from reprise.runtime.rehearsal import Stage
from reprise.runtime.replaying import Replay, replay
from reprise.runtime.workflow import Workflow
from reprise.stores.log import append

Input = Mapping[str, Any] | Sequence[Any]
"""Arguments of a workflow: some by name, or all by position."""


class Travel(Dialogue):
    """Operations on the past of the runs of one store."""

    async def state(self, run: str, at: int | None = None) -> RunState:
        """Return the state of a run as of record ``at`` of its history (see ``reprise events``), None = the last one.

        Raises:
            RunNotFound: there is no such run.
            NoSuchRecord: its history has no such record, or no longer.
        """
        return state_at(run, await self._history(run), at)

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

    async def replay(
        self,
        run: str,
        workflow: Workflow[..., Any],
        *,
        until: int | None = None,
        stops: Collection[str] = (),
        variables: Mapping[str, ContextVar[Any]] | None = None,
    ) -> Replay:
        """Replay a run with the code that is here, and return how far the two go along; nothing is executed or written.

        Options:
            until: number of the record after which to stop, None = all.
            stops: keys or names of steps: when the body comes to one of them, its variables are kept.
            variables: context variables that enter bodies, as of ``Reprise(variables=)``.

        Raises:
            RunNotFound, NoSuchRecord: there is no such run or record.
            NonDeterminismError: its input does not fit the workflow any more.
        """
        stage = Stage(self._clock, payloads=self._payloads)
        records = await self._history(run)
        return await replay(stage, workflow, run, records, until=until, stops=stops, variables=variables)

    async def diff(self, a: str, b: str) -> Comparison:
        """Compare the latest generations of two runs: where they first part, and every step that differs.

        Raises:
            RunNotFound: there is no such run.
        """
        return compare(a, await self._history(a), b, await self._history(b))

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

    async def _history(self, run: str) -> list[Record]:
        """Return all records of a run.

        Raises:
            RunNotFound: there is no such run, or its history is gone.
        """
        row = await self.row(run)
        if not (records := await self._store.log.read(run_stream(row.id))):
            raise RunNotFound(f"The history of run {run} is gone.", hint="List runs: reprise ps")
        return records
