"""A worker process: ``python -m tests.crash.worker_main '{"folder": …}'``, or forked by the nursery."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from tests.crash import flows, outside, sagas
from tests.crash.helping import loosen
from tests.crash.ledger import Counted, Durable, Ledger, Refused
from tests.crash.places import name_of

from reprise import Choreography, Reprise
from reprise.kernel.errors import AppendRefused
from reprise.kernel.events import Event, Kind
from reprise.stores import conditions, open_store
from reprise.stores.log import ANY, Append, Head
from reprise.stores.postgres import batch
from reprise.stores.sqlite import ledger as keeper
from reprise.stores.store import Store

COUNTED = ("outcomes_found", "connections_lost", "judged_again")
"""Of the statistics of a store, what a round adds up."""


class Options(msgspec.Struct):
    """What a worker is told."""

    folder: str
    store: str
    name: str
    lease: float = 15.0
    concurrency: int = 20
    serves: bool = False
    """Whether its services take part in sagas."""
    fenced: bool = True
    """False = the control: appends are let through whatever token they carry."""


async def work(options: Options) -> None:
    """Execute runs until SIGTERM; write what the log acknowledged and what it refused."""
    folder = Path(options.folder)
    flows.keep_ledger(folder)
    outside.find_receiver(folder)
    said = Ledger(folder / f"{options.name}.said.jsonl")
    if not options.fenced:
        keeper.admit = batch.admit = _admit_anything

    def durable(run: str, events: Sequence[Event]) -> None:
        for event in events:
            said.write(Durable(run, int(event.kind), event.key, event.data))

    store = open_named(options.store)
    store.log.submit = _telling_refusals(store.log.submit, said)
    if hasattr(store.log, "settle"):
        store.log.settle = _telling_refusals(store.log.settle, said)
    app = Reprise(
        store,
        workflows=[*flows.WORKFLOWS, *outside.WORKFLOWS, *sagas.WORKFLOWS],
        observers=[durable],
        concurrency=options.concurrency,
        lease=options.lease,
        capture_logs=False,
    )
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    async with (
        app,
        Choreography(app).serving(*(sagas.SERVICES if options.serves else ()), lease=options.lease),
    ):
        await ended.wait()
    counted = store.statistics()
    said.write(Counted({name: int(counted[name]) for name in COUNTED if name in counted}))


def open_named(url: str, *, loose: bool = False) -> Store:
    """Return the store of a URL; a server is told whose connections these are."""
    if url.startswith(("sqlite:", "unix:")):
        return open_store(url)
    if loose:
        loosen()
    return open_store(f"{url}&application_name={name_of(os.getpid())}")


def _telling_refusals(submit: Callable[..., None], said: Ledger) -> Any:
    def submit_told(appends: Sequence[Append], *others: Any) -> None:
        for append in appends:
            if append.groups[0].events and not append.groups[0].takes:
                append.done = _told(append.done, said)
        submit(appends, *others)

    return submit_told


def _told(done: Callable[[Append], None] | None, said: Ledger) -> Callable[[Append], None]:
    def told(append: Append) -> None:
        first = append.groups[0]
        if isinstance(append.error, AppendRefused) and first.stream.startswith("run/"):
            keys = [event.key for event in first.events if event.kind != Kind.STEP_STARTED]
            said.write(Refused(first.stream[4:], append.id, type(append.error).__name__, keys))
        if done is not None:
            done(append)

    return told


def _admit_anything(append: Append, heads: dict[str, Head], floor: int) -> dict[str, Head]:
    """Stand in for ``admit`` as it would be without fencing: whoever writes is taken for the owner."""
    groups = [
        group
        if group.takes or not group.stream.startswith("run/")
        else msgspec.structs.replace(group, token=heads.get(group.stream, Head()).token, expected=ANY)
        for group in append.groups
    ]
    return conditions.admit(msgspec.structs.replace(append, groups=tuple(groups)), heads, floor)


def main(options: dict[str, Any]) -> None:
    """Be a worker."""
    asyncio.run(work(msgspec.convert(options | {"name": f"{options['name']}-{os.getpid()}"}, Options)))


if __name__ == "__main__":
    main(msgspec.json.decode(sys.argv[1]))
