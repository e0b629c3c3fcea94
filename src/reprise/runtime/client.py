"""What anybody who can open the store may do with runs: look, signal, cancel, pause, resume, wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, TypeVar

import msgspec

from reprise.kernel.budget import cost_of
from reprise.kernel.clock import Clock
from reprise.kernel.codec import standard
from reprise.kernel.errors import (
    AmbiguousId,
    ResultTimeout,
    RetryRefused,
    RunCancelled,
    RunNotFound,
    StaleVersion,
    unknown_option,
)
from reprise.kernel.events import (
    CancelRequest,
    EffectAnswer,
    Finished,
    Kind,
    Record,
    Resolved,
    Signal,
    Spending,
    log_stream,
    progress_stream,
    run_stream,
)
from reprise.kernel.failures import encode_error
from reprise.kernel.machine import RESTING, RunStatus
from reprise.kernel.query_text import parse
from reprise.kernel.surroundings import Rhythm
from reprise.runtime.batch import Batch, Verb, runs_meant, tell
from reprise.runtime.carriage import Carriage, is_of
from reprise.runtime.dialogue import no_such_run
from reprise.runtime.effect_rows import EffectRow, effects_in, not_open
from reprise.runtime.forking import retry
from reprise.runtime.history import read_history
from reprise.runtime.intents import NOT_DONE, UNKNOWN, Done, Unsettled
from reprise.runtime.payloads import Payloads
from reprise.runtime.spent import Spent, read_spent
from reprise.runtime.travel import Travel
from reprise.stores.log import append
from reprise.stores.runs import RunFilter, RunRow
from reprise.stores.store import Store

T = TypeVar("T")
U = TypeVar("U")

LOOK_AGAIN, LOOK_SELDOM = 1.0, 5.0
"""Seconds after which a waiter looks again although nobody tapped it: at first, and when it has waited for long."""


class Client(Travel, Carriage):
    """Operations on the runs of one store."""

    def __init__(self, store: Store, clock: Clock, payloads: Payloads | None = None) -> None:
        super().__init__(store, clock, payloads or Payloads())

    async def resolve(self, id: str) -> RunRow:
        """Return the run of that id, of a unique prefix of it, or the newest one for ``@last``.

        Raises:
            RunNotFound: there is none.
            AmbiguousId: the prefix fits several.
        """
        if id == "@last":
            newest = await self.find("parent:none", limit=1)
            if not newest:
                raise RunNotFound("There is no run in this store yet.", hint="Start one: reprise run FILE.py")
            return newest[0]
        runs = self._store.runs
        if exact := await runs.find(RunFilter(id=id), limit=1):
            return exact[0]
        rows = await runs.find(RunFilter(prefix=id), limit=20, newest_first=False)
        roots = [row for row in rows if row.parent is None or not row.parent.startswith(id)]
        if not roots:
            raise no_such_run(id)
        if len(roots) > 1:
            some = ", ".join(row.id for row in roots[:5])
            raise AmbiguousId(f"{len(roots)} runs begin with {id!r}: {some} …", hint="Give more of the id.")
        return roots[0]

    async def find(
        self, query: str = "", *, limit: int = 50, before: str = "", newest_first: bool = True
    ) -> list[RunRow]:
        """Return the runs that a query asks for, newest first; ``before`` is the last id of the page before this one.

        Raises:
            QueryError: the query cannot be read.
        """
        wanted = parse(query, self._clock.now())
        return await self._store.runs.find(wanted, limit=limit, before=before, newest_first=newest_first)

    async def count(self, query: str = "", *, by: str = "status") -> dict[str, int]:
        """Count the runs that a query asks for by status, workflow, owner, parent, build or ``tag.<name>``.

        Raises:
            QueryError: the query cannot be read.
            ConfigurationError: runs cannot be counted by that.
        """
        return await self._store.runs.count(parse(query, self._clock.now()), by=by)

    async def signal(self, run: str, name: str, value: Any = None, *, id: str = "", type: Any = Any) -> str:
        """Send a signal; return its id. The same id again is dropped by the run.

        Raises:
            RunNotFound, RunEnded, CodecError, PayloadTooLarge: nothing was sent.
        """
        id = id or self._ids.new()
        encoded = self._payloads.within(standard.encode(value, type), "The signal {!r} to run {}", name, run)
        data = msgspec.json.encode(Signal(name, msgspec.Raw(encoded)))
        await self._mail(run, Kind.SIGNAL_SENT, id, data)
        return id

    async def cancel(self, run: str, reason: str = "", by: str = "", *, force: bool = False) -> None:
        """Ask a run to stop; it ends when its body has run its ``finally`` parts, and what it did is undone.

        With ``force`` a run that undoes stops to do so: it needs attention, with the list of what is still to undo.

        Raises:
            RunNotFound, RunEnded: nothing was sent.
        """
        request = CancelRequest(reason, by, force=force)
        await self._mail(run, Kind.CANCEL_SENT, self._ids.new(), msgspec.json.encode(request))

    async def effects(self, run: str) -> list[EffectRow]:
        """Return what the latest generation of a run did to the outside, and what it has to undo should it fail.

        Raises:
            RunNotFound: there is no such run.
        """
        row = await self.row(run)
        return effects_in(await self._store.log.read(run_stream(run), row.since))

    async def resolve_effect(
        self, run: str, key: str, answer: Done[Any] | Unsettled, *, type: Any = Any
    ) -> EffectRow:
        """Say what became of a call whose outcome is unknown: ``Done(value)`` or ``NOT_DONE``; the run goes on.

        ``key`` is what the receiver knows the call by, or the key of the step. With ``NOT_DONE`` the call is made again.

        Raises:
            RunNotFound, RunEnded, CodecError, PayloadTooLarge: nothing was sent.
            EffectNotOpen: the run does not wait to be told about it.
        """
        row = await self.row(run)
        open = [effect for effect in await self.effects(run) if effect.state == "open" and effect.effect]
        found = next((effect for effect in open if key in (effect.key, effect.step_key)), None)
        if found is None or row.status != RunStatus.NEEDS_ATTENTION or answer is UNKNOWN:
            raise not_open(run, key, row.status, [effect.key for effect in open])
        resolved = Resolved(NOT_DONE.value)
        if isinstance(answer, Done):
            encoded = standard.encode(answer.value, type)
            self._payloads.within(encoded, "The value of effect {} of run {}", found.effect, run)
            resolved = Resolved("done", msgspec.Raw(encoded))
        data = msgspec.json.encode(EffectAnswer(found.step_key, found.number, resolved))
        await self._mail(run, Kind.EFFECT_ANSWER, self._ids.new(), data)
        return found

    async def pause(self, run: str) -> None:
        """Ask a run to rest when what executes now is recorded.

        Raises:
            RunNotFound, RunEnded: nothing was sent.
        """
        await self._mail(run, Kind.PAUSE_SENT, self._ids.new())

    async def resume(self, run: str) -> None:
        """Let a paused, stranded or poisoned run be taken up again, and those of its descendants that rest.

        Builds that could not replay it may try again.

        Raises:
            RunNotFound, RunEnded: nothing was sent.
        """
        for resting in await self.resting(run):
            if resting.id != run:
                await self._mail(resting.id, Kind.RESUME_SENT, self._ids.new(), refused=())
        await self._mail(run, Kind.RESUME_SENT, self._ids.new(), refused=())

    async def retry(self, run: str, *, fresh: bool = False) -> str:
        """Try a run again that failed or was cancelled, and return the id under which it goes on.

        A *fork* of it, ``<id>~2``, ``~3`` …, is left to any worker: what succeeded is not done again, what failed or was
        cancelled is; random values and the idempotency keys of its steps are those of the first run. With ``fresh`` only
        the input is kept. One that needs attention goes on itself, as by :meth:`resume`.

        Raises:
            RetryRefused: it has not ended, completed, was tried again already, is a child, or undid what it had done.
            RunNotFound: there is no such run.
        """
        row = await self.row(run)
        if row.status == RunStatus.NEEDS_ATTENTION and not fresh:
            await self.resume(run)
            return run
        made = await retry(self._store, row, self._clock.now(), fresh=fresh)
        id = made.fork.id
        try:
            await append(self._store.log, self._numbers.new(), *made.groups)
        except StaleVersion:
            raise RetryRefused(
                f"Run {run} was tried again already, as {id}.", hint=f"Look: reprise show {id}"
            ) from None
        self._store.signal.wake(["runs"])
        return id

    async def batch(self, verb: str, query: str, *, reason: str = "", fresh: bool = False) -> Batch:
        """Tell every run that a query means to pause, resume, retry, cancel, pin or unpin; return what became of each.

        Meant are those in whose state the ``verb`` says something, and runs that others started only if the query asks
        of ``id`` or ``parent``. ``reason`` is that of a cancel, ``fresh`` that of :meth:`retry`.

        Raises:
            QueryError: the query cannot be read; nobody was told.
            UnknownOption: there is no such verb.
        """
        if verb not in set(Verb):
            raise unknown_option(verb, [each.value for each in Verb], "batch()")
        wanted = parse(query, self._clock.now())
        done: list[str] = []
        refused: dict[str, str] = {}
        async for page in runs_meant(self._store.runs, Verb(verb), wanted):
            async for some in tell(self, Verb(verb), [row.id for row in page], reason=reason, fresh=fresh):
                for told in some:
                    if told.error is None:
                        done.append(told.goes_on or told.run)
                    else:
                        refused[told.run] = str(told.error)
        return Batch(tuple(done), refused)

    async def resting(self, run: str) -> list[RunRow]:
        """Return those of a run and its descendants that rest: paused, stranded, in need of attention."""
        where = RunFilter(prefix=run, status=sorted(RESTING))
        rows = await self._store.runs.find(where, limit=1000, newest_first=False)
        return [row for row in rows if is_of(row, run)]

    async def raise_budget(self, run: str, scope: str = "", **amounts: Any) -> None:
        """Give a run more to spend: ``raise_budget("survey-7", tokens=5_000)``; ``scope`` names one of its budgets.

        Raises:
            RunNotFound, RunEnded, UnknownOption, ConfigurationError: nothing was sent.
        """
        data = msgspec.json.encode(Spending("raised", cost_of(amounts, "raise_budget()"), (scope,)))
        await self._mail(run, Kind.BUDGET_RAISED, self._ids.new(), data)

    async def spent(self, run: str) -> Spent:
        """Return what a run may spend and has spent, as its history says.

        Raises:
            RunNotFound: there is none.
        """
        row = await self.row(run)
        return read_spent(read_history(run, await self._store.log.read(run_stream(run), row.since)))

    async def wait(self, run: str, timeout: float | None = None, *, settled: bool = False) -> Finished:
        """Wait until a run has ended (with ``settled``: or rests in a state that only a person changes).

        Raises:
            ResultTimeout: it had not in ``timeout`` seconds; it goes on.
            RunNotFound: there is no such run.
        """
        until = None if timeout is None else self._clock.monotonic() + timeout
        tapped = asyncio.Event()
        unlisten = self._store.signal.listen(run_stream(run), lambda _: tapped.set())
        pause, row, rhythm = LOOK_AGAIN, None, Rhythm(self._clock)
        try:
            while True:
                is_news = row is None or tapped.is_set() or pause >= LOOK_SELDOM
                tapped.clear()
                finished = await self.finished(run)
                if finished is not None:
                    return finished
                if is_news or row is None:
                    before, row = row, await self.row(run)
                    if settled and is_at_rest(row, before):
                        return Finished(row.status, error=encode_error(RunCancelled(row.error)))
                left = rhythm.next(pause)
                if until is not None:
                    left = min(left, until - self._clock.monotonic())
                if left <= 0:
                    raise ResultTimeout(
                        f"Run {run} is still {row.status} after {timeout} s.", hint="It goes on; wait again."
                    )
                await _tapped_within(tapped, left)
                pause = min(2 * pause, LOOK_SELDOM)  # thousands may wait, and each look is a read
        finally:
            unlisten()

    async def events(self, run: str, *, after: int = 0, follow: bool = False) -> AsyncIterator[Record]:
        """Yield the history of a run; with ``follow`` also what comes, until it ends."""
        async for record in self._stream(run_stream(run), after, follow):
            yield record
            if record.kind == Kind.RUN_FINISHED:
                return

    async def progress(self, run: str) -> dict[str, Record]:
        """Return the latest progress by step key."""
        return {record.key: record for record in await self._store.log.read(progress_stream(run))}

    async def logs(self, run: str, *, after: int = 0, follow: bool = False) -> AsyncIterator[Record]:
        """Yield captured log lines; with ``follow`` also what comes, until the run ends."""
        async for record in self._stream(log_stream(run), after, follow, ends_with=run):
            yield record

    async def _stream(
        self, stream: str, after: int, follow: bool, ends_with: str = ""
    ) -> AsyncIterator[Record]:
        while True:
            ended = not follow or (bool(ends_with) and await self.finished(ends_with) is not None)
            records = await self._store.log.read(stream, after)
            for record in records:
                after = record.version
                yield record
            if ended:
                return
            await self._store.signal.wait(stream, LOOK_AGAIN)


def is_at_rest(row: RunRow, before: RunRow | None) -> bool:
    """Tell whether a run rests until a person does something; ``before`` is its row at an earlier look.

    One that is due has mail: somebody may have resumed it a moment ago. When it is still so at the next look, nobody
    was there to do it.
    """
    asked = row.due_at is not None and row.status != RunStatus.STRANDED
    return row.status in RESTING and not (asked and before is None)


async def _tapped_within(tapped: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await tapped.wait()
    except TimeoutError:
        return
