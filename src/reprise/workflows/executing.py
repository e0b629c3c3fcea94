"""Execute what a face defines: open where it runs, start it or go on with it, wait for its end, read what came of it.

One way for all faces. What came of a run is a fold of its records, so it is the same here, in ``reprise show`` and for
whoever looks years later.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple, TypedDict, TypeVar, cast

import msgspec

from reprise.kernel.arguments import Arguments
from reprise.kernel.errors import ConfigurationError, RunEnded
from reprise.kernel.events import Event, Finished, Record, run_stream
from reprise.kernel.machine import RUN as RUN_STATES, RunStatus
from reprise.runtime.branch import BRANCH, RUN
from reprise.runtime.engine import Engine
from reprise.runtime.execution import Execution
from reprise.runtime.handle import RunHandle
from reprise.runtime.host import STEP
from reprise.runtime.starting import child_id
from reprise.runtime.step import Step
from reprise.stores.store import Store
from reprise.workflows.calls import ENDS
from reprise.workflows.flow import Definition, Flow
from reprise.workflows.house import OPEN, House, house
from reprise.workflows.performers import AgentExecutor

R = TypeVar("R")

log = logging.getLogger("reprise")

LOOK = 1.0
"""Seconds between two looks for progress when nothing tells of any."""


class Ended(NamedTuple):
    """A run of a face that goes on no more, at least not by itself."""

    run: str
    finished: Finished
    records: Sequence[Record]
    """Its history."""
    flow: Flow
    """Knows the values that a history in memory only refers to: see ``Flow.held``."""


@dataclass(frozen=True, slots=True)
class StepEnded:
    """What ``on_progress`` is called with."""

    run: str
    step: str
    """Key of the step: its name; of an item of a map, ``name[3]``."""
    status: str
    """completed, failed, cancelled."""
    done: int
    """Steps that have ended so far."""


OnProgress = Callable[[StepEnded], Any]
"""Called, and awaited if it is async, for each step that ended, when that is durable."""


class ExecuteOptions(TypedDict, total=False):
    """How any face is executed."""

    id: str | None
    """Of the run: one that exists goes on, or gives what came of it. In the body of a workflow, the key of the child run."""
    app: House | None
    """Where it runs; without one and without ``store``, in the app that is open around the caller, else in memory."""
    store: str | Store | None
    """Over which an app is opened for it."""
    tags: Mapping[str, Any] | None
    """By which the run is found."""
    deadline: float | timedelta | datetime | None
    """When the run has to have ended: a moment, or seconds from now."""
    timeout: float | timedelta | None
    """Another word for it."""
    on_progress: OnProgress | None
    """Called, and awaited if it is async, for each step that ended; see :class:`StepEnded`."""


async def execute(
    definition: Definition,
    args: Sequence[Any] | Callable[[Flow], Sequence[Any]],
    read: Callable[[Ended], R],
    agent_executor: AgentExecutor | Mapping[str, Any] | None = None,
    *,
    id: str | None = None,
    app: House | None = None,
    store: str | Store | None = None,
    tags: Mapping[str, Any] | None = None,
    deadline: float | timedelta | datetime | None = None,
    timeout: float | timedelta | None = None,
    on_progress: OnProgress | None = None,
) -> R:
    """Run a definition with ``args`` as the input of its body, and return what ``read`` makes of its end.

    A run of that ``id`` that exists goes on, also one that is stranded, or gives what came of it. In the body of another
    run it becomes a child run, whose key there is ``id``.

    Where the flow has to hold what is among them, ``args`` is a function of the flow that returns them.

    ``read`` says by its return annotation as what a parent records the result.

    Raises:
        UnknownAgent, UnknownWorkflow: nobody is known for one of its steps; nothing was started.
        RunConflict: the id exists with another workflow or input.
        ConfigurationError: options that exclude each other, or that a child run cannot have.
        CodecError: the input cannot be written.
    """
    if timeout is not None and deadline is not None:
        raise ConfigurationError("Both timeout= and deadline= were given.", hint="Give one of them.")
    until = timeout if timeout is not None else deadline
    if (parent := RUN.get()) is not None:
        if app is not None or store is not None or until is not None or on_progress is not None:
            raise ConfigurationError(
                "app=, store=, timeout=, deadline= and on_progress= are those of a run of its own.",
                hint="Leave them out in the body of a workflow; asyncio.timeout() limits what it waits for.",
            )
        known = cast("Engine", parent.host).registry
        flow = definition.flow(agent_executor, known.agents)
        flow.check(known)
        return await _as_child(parent, flow, _given(args, flow), read, id)
    alone = app is None and store is None and OPEN.get() is None
    async with house(app, store) as opened:
        flow = definition.flow(agent_executor, opened.agents)
        flow.check(opened.registry)
        if alone:
            flow.keep_in_memory()
        handle = await _under_way(opened, flow, _given(args, flow), id, tags=tags, deadline=until)
        try:
            finished = await _finished(opened, handle, on_progress)
        except asyncio.CancelledError:
            if alone:
                await _wind_up(handle)
            raise
        return read(Ended(handle.id, finished, await handle.events(), flow))


async def _finished(opened: House, handle: RunHandle[Any], on_progress: OnProgress | None) -> Finished:
    """Wait for the end of a run, and let go of who was lent to it."""
    async with _telling(opened, handle.id, on_progress):
        finished = await handle.finished()
    if finished.status in RUN_STATES.final:
        opened.registry.release(handle.id)  # it may have ended elsewhere, or long ago
    return finished


async def _under_way(
    opened: House, flow: Flow, args: Sequence[Any], id: str | None, **options: Any
) -> RunHandle[Any]:
    """Start the run, or let the one of that id go on, also if it is stranded: whoever left it lacked what is here."""
    handle = await opened.start(flow, *args, id=id, **options)
    if id is not None and (await opened.client.row(id)).status == RunStatus.STRANDED:
        return await opened.resume(id, flow)
    return handle


def _given(args: Sequence[Any] | Callable[[Flow], Sequence[Any]], flow: Flow) -> Sequence[Any]:
    return args(flow) if callable(args) else args


async def _wind_up(handle: RunHandle[Any]) -> None:
    """Cancel a run that nobody can go on with and let it undo what it did; a second cancellation does not wait for that."""
    with suppress(RunEnded):
        await handle.cancel("whoever executed it was cancelled")
    await handle.finished()


async def _as_child(
    parent: Execution, flow: Flow, args: Sequence[Any], read: Callable[[Ended], R], id: str | None
) -> R:
    """Start the run as a child of the one whose body this is, and read what came of it, which is recorded there."""
    key = id or BRANCH.get().step(flow.name)
    try:
        await parent.call(flow, tuple(args), {}, key)
    except Exception:
        if parent.loop.poison is not None or key not in parent.children:
            raise  # else it is in the history of the child, where it is read

    async def outcome(child: str) -> Any:
        job = STEP.get()
        assert job is not None
        records = await cast("Engine", job.execution.host).store.log.read(run_stream(child))
        return read(Ended(child, msgspec.json.decode(records[-1].data, type=Finished), records, flow))

    outcome.__annotations__["return"] = Arguments(read).returns
    step = Step[..., Any](outcome, name="outcome", key=f"{key}/outcome", idempotent=True)
    return await step(child_id(parent.scope, key))


# ---------------------------------------------------------------- progress


@asynccontextmanager
async def _telling(opened: House, run: str, on_progress: OnProgress | None) -> AsyncGenerator[None]:
    """Tell ``on_progress`` of each step that ends meanwhile, of the last ones before this ends."""
    if on_progress is None:
        yield
        return
    teller = _Teller(opened.store, run, on_progress)
    opened.engine.observers.append(teller.notice)
    following = asyncio.create_task(teller.follow())
    try:
        yield
        await teller.stop(following)
    finally:
        opened.engine.observers.remove(teller.notice)
        following.cancel()


class _Teller:
    def __init__(self, store: Store, run: str, on_progress: OnProgress) -> None:
        self._store = store
        self._run = run
        self._on_progress = on_progress
        self._news = asyncio.Event()
        self._ended = False
        self._seen = self._done = 0

    def notice(self, run: str, events: Sequence[Event]) -> None:
        """Observe runs of the engine that executes them here; one that is executed elsewhere is looked at now and then."""
        if run == self._run:
            self._news.set()

    async def stop(self, following: asyncio.Task[None]) -> None:
        """Tell what is left to tell."""
        self._ended = True
        self._news.set()
        await following

    async def follow(self) -> None:
        """Tell of what ends until :meth:`stop`."""
        while True:
            ended = self._ended
            self._news.clear()
            for record in await self._store.log.read(run_stream(self._run), self._seen):
                self._seen = record.version
                if (status := ENDS.get(record.kind)) is not None:
                    self._done += 1
                    await self._tell(StepEnded(self._run, record.key, status, self._done))
            if ended:
                return
            try:
                async with asyncio.timeout(LOOK):
                    await self._news.wait()
            except TimeoutError:
                continue

    async def _tell(self, news: StepEnded) -> None:
        try:
            given = self._on_progress(news)
            if inspect.isawaitable(given):
                await given
        except Exception:
            # Whoever watches must not be able to end what is watched.
            log.exception("on_progress failed for step %s of run %s", news.step, news.run)
