"""Choreography: services react to each other's events, nobody coordinates, and the log shows the whole saga.

What is said in a saga stands in its stream ``saga/<id>``. Every service follows all of them from where it stopped, and is in
each saga that concerns it a run of its own, ``<id>.<service>``. A run begins once under its id, and a signal counts once under
its own; so reading a part of the log again, after a crash or beside another worker, does no harm.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import msgspec

from reprise.kernel.errors import ConfigurationError, LeaseLost, RunEnded, RunNotFound, StoreError
from reprise.kernel.events import SAGA_TAG, SERVICE_TAG, Event, Kind, Said, cursor_stream, saga_stream
from reprise.kernel.machine import RESTING, RunStatus
from reprise.kernel.policy import seconds
from reprise.runtime.starting import check_id
from reprise.stores.lease import Grant
from reprise.stores.log import Group, append
from reprise.stores.runs import RunFilter, RunRow
from reprise.stores.tail import tail
from reprise.workflows.house import House
from reprise.workflows.saga_log import SagaEvent, event_of, is_over, read_events, say
from reprise.workflows.saga_service import EVENT, SagaService

log = logging.getLogger("reprise")

LEASE = 5.0
"""Seconds after which another worker follows the log for a service whose follower is gone."""
SAVE_EVERY = 100
"""Events after which it is written how far a service has read."""
LOOK_AGAIN = 0.5
"""Seconds between two looks at a saga when nobody taps; after a fault of the store, before going on."""


@dataclass(frozen=True, slots=True)
class SagaStory:
    """What became of a saga so far."""

    saga_id: str
    status: str
    """running; completed; compensating; failed: all is compensated; needs_attention: a person has to see to a service."""
    events: tuple[SagaEvent, ...]
    """What was said, in order."""
    services: dict[str, str]
    """Status of the run of each service that takes part."""

    @property
    def compensated(self) -> list[str]:
        """What was compensated, as ``service.reaction``, in that order."""
        return [event.by for event in self.events if event.name == f"{event.by}.compensated"]

    @property
    def failure(self) -> SagaEvent | None:
        """The event with which it failed."""
        return next((event for event in self.events if event.fails), None)


class Choreography:
    """Sagas of services that react to each other, over one app."""

    def __init__(self, app: House) -> None:
        self._app = app

    async def say(
        self,
        saga_id: str,
        name: str,
        data: Any = None,
        *,
        id: str = "",
        ends: bool = False,
        fails: bool = False,
    ) -> int:
        """Say from outside that something happened in a saga, which begins with the first such event; return its version.

        It is said once under ``id`` (default: its name), however often this is called. With ``ends`` the saga is complete,
        with ``fails`` it has failed. Returns 0 if it was over already.

        Raises:
            ConfigurationError: the id cannot be that of a run.
            CodecError: the data is no plain JSON.
        """
        check_id(saga_id)
        said = [Said(name, data, ends=ends, fails=fails)]
        return await say(self._app.engine, saga_id, f"outside/{id or name}", said)

    async def fail(self, saga_id: str, reason: str = "") -> int:
        """Let a saga fail: every service compensates what it did. Returns 0 if it was over already."""
        return await self.say(saga_id, "failed", reason, fails=True)

    async def story(self, saga_id: str) -> SagaStory:
        """Return what became of a saga so far, as the log says."""
        rows = await self._rows(saga_id)
        events = await read_events(self._app.store, saga_id)
        services = {str(row.tags[SERVICE_TAG]): row.status for row in rows}
        return SagaStory(saga_id, _status(events, rows), tuple(events), services)

    async def finished(self, saga_id: str) -> SagaStory:
        """Wait until a saga is over and every service that took part has ended, or waits for a person."""
        tapped = asyncio.Event()
        unlisten = self._app.store.signal.listen("*", lambda _: tapped.set())
        try:
            while True:
                tapped.clear()
                story = await self.story(saga_id)
                if story.status in (RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.NEEDS_ATTENTION):
                    return story
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_AGAIN):
                        await tapped.wait()
        finally:
            unlisten()

    @asynccontextmanager
    async def serving(self, *services: SagaService, lease: float | timedelta = LEASE) -> AsyncGenerator[None]:
        """Let services take part in all sagas of the store while the block is executed.

        Any number of workers may serve the same service: one of them follows the log, and ``lease`` seconds (or timedelta)
        after it is gone another does; runs go on where there is a worker.

        Raises:
            ConfigurationError: two services have one name.
        """
        if len({service.name for service in services}) < len(services):
            raise ConfigurationError("Two services have one name.", hint="Name them by what they do.")
        followers = [Follower(self._app, service, seconds(lease, "lease")) for service in services]
        for follower in followers:
            self._app.registry.add(follower.flow)
        tasks = [asyncio.create_task(follower.follow()) for follower in followers]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _rows(self, saga_id: str) -> list[RunRow]:
        return list(await self._app.store.runs.find(RunFilter(tags={SAGA_TAG: saga_id}), limit=1000))


def _status(events: list[SagaEvent], rows: list[RunRow]) -> str:
    """Return the status of a saga; what it came to is the first event that ends or fails it."""
    over = next((event for event in events if event.ends or event.fails), None)
    states = {row.status for row in rows}
    if states & RESTING:
        return RunStatus.NEEDS_ATTENTION
    if over is None:
        return RunStatus.RUNNING
    ended = states <= {RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED}
    if over.ends:
        return RunStatus.COMPLETED if ended else RunStatus.RUNNING
    return RunStatus.FAILED if ended else RunStatus.COMPENSATING


class Cursor(msgspec.Struct, frozen=True):
    """CURSOR: how far a service has read the log."""

    at: int = 0
    """Position up to which it has dealt with everything."""
    began: int = 0
    """Position of the end of the log when it came."""


class Follower:
    """Follows the log for one service, as long as it has the lease to do so."""

    def __init__(self, app: House, service: SagaService, lease: float) -> None:
        self.flow = service.flow()
        self._app = app
        self._service = service
        self._lease = lease
        self._reader = f"saga.{service.name}"
        self._holder = app.engine.worker
        self._cursor = self._saved = Cursor()

    async def follow(self) -> None:
        """Bring events to the service until it is cancelled; what fails is logged and tried again."""
        lease = self._app.store.lease
        while True:
            try:
                grant = await lease.take(self._reader, self._holder, self._lease, wait=None)
                if grant is None:
                    continue
                try:
                    await self._while_held(grant)
                finally:
                    with suppress(StoreError):
                        await lease.drop([grant])
            except Exception:
                log.exception("service %s cannot follow the log; it tries again", self._service.name)
                await asyncio.sleep(LOOK_AGAIN)

    async def _while_held(self, grant: Grant) -> None:
        bringing = asyncio.create_task(self._bring_all())
        try:
            while not bringing.done():
                await asyncio.wait([bringing], timeout=self._lease / 3)
                (kept,) = await self._app.store.lease.renew([grant], self._lease)
                if kept is None:
                    raise LeaseLost(f"Somebody else follows the log for service {self._service.name}.")
            bringing.result()
        finally:
            bringing.cancel()
            await asyncio.gather(bringing, return_exceptions=True)
            await self._save()

    async def _bring_all(self) -> None:
        records = await self._app.store.log.read(cursor_stream(self._reader))
        if records:
            self._cursor = self._saved = msgspec.json.decode(records[-1].data, type=Cursor)
        else:
            self._cursor = Cursor(began=await self._app.store.log.end())
            await self._save()
        count, began = 0, self._cursor.began
        async for record in tail(self._app.store, self._cursor.at, saga_stream("")):
            await self._bring(event_of(record), is_new=record.position <= began)
            self._cursor, count = Cursor(record.position, began), count + 1
            if count % SAVE_EVERY == 0:
                await self._save()

    async def _save(self) -> None:
        """Write how far it has read, and forget what was written before."""
        if self._cursor == self._saved:
            return
        engine, stream, cursor = self._app.engine, cursor_stream(self._reader), self._cursor
        event = Event(Kind.CURSOR, engine.now(), self._holder, msgspec.json.encode(cursor))
        written = await append(self._app.store.log, engine.numbers.new(), Group(stream, [event]))
        self._saved = cursor
        await self._app.store.log.trim(stream, written.versions[0] - 1)

    async def _bring(self, event: SagaEvent, *, is_new: bool) -> None:
        """Let the service's run know of an event; with the first one that concerns it, it begins to take part."""
        concerns = event.name in self._service.reactions
        if not (concerns or event.ends or event.fails):
            return
        run = f"{event.saga}.{self._service.name}"
        with suppress(RunEnded):
            try:
                await self._signal(run, event)
            except RunNotFound:
                if not concerns or await self._comes_too_late(event, is_new=is_new):
                    return
                tags = {SAGA_TAG: event.saga, SERVICE_TAG: self._service.name}
                await self._app.start(self.flow, event.saga, id=run, tags=tags)
                await self._signal(run, event)

    async def _signal(self, run: str, event: SagaEvent) -> None:
        id = f"{EVENT}-{event.version}"
        await self._app.client.signal(run, EVENT, event, id=id, type=SagaEvent)

    async def _comes_too_late(self, event: SagaEvent, *, is_new: bool) -> bool:
        """Tell whether a service need not begin to take part.

        Not in a saga that has failed, nor after its end. One that only lags behind does what it would have done before
        the end; one that is new to this log leaves alone what was over before it came.
        """
        events = await read_events(self._app.store, event.saga)
        before = [one for one in events if one.version < event.version]
        return any(one.fails for one in events) or is_over(before) or (is_new and is_over(events))
