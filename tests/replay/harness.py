"""Run a pattern, cut its log after every record, let another worker go on, and compare."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from tests.replay.patterns import CORPUS, KIDS, Pattern

from reprise import Reprise
from reprise.kernel.codec import standard
from reprise.kernel.events import (
    Continued,
    Event,
    Finished,
    Kind,
    Owned,
    Record,
    Started,
    inbox_stream,
    run_stream,
)
from reprise.kernel.ids import Counter
from reprise.runtime.generation import scope_of
from reprise.runtime.middleware import Call, Next
from reprise.stores.log import Append, Group, RunChange
from reprise.stores.memory import MemoryStore

STEPS = (Kind.STEP_COMPLETED, Kind.STEP_FAILED, Kind.STEP_CANCELLED)
PATIENCE = 20.0
"""Seconds after which a run that does not end is taken for a wrong one."""
numbers = Counter()


class LateStore(MemoryStore):
    """A memory store whose commits take a random moment, as those of a disk do."""

    def __init__(self, dice: random.Random) -> None:
        super().__init__()
        self._dice = dice
        self._late: list[Append] = []
        self._submit = self.log.submit
        self.log.submit = self._submit_late  # type: ignore[method-assign]

    def _submit_late(self, appends: Sequence[Append]) -> None:
        if not self._late:
            asyncio.get_running_loop().call_later(self._dice.random() * 0.0008, self._now)
        self._late.extend(appends)

    def _now(self) -> None:
        late, self._late = self._late, []
        self._submit(late)


@dataclass
class Outcome:
    """How a run ended, all its streams, and which steps executed."""

    finished: Finished
    streams: dict[str, list[Record]]
    executed: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])

    @property
    def status(self) -> str:
        return self.finished.status

    @property
    def value(self) -> Any:
        if self.status == "completed":
            return standard.decode(bytes(self.finished.value))
        return self.finished.error.type if self.finished.error is not None else None


def compared(outcome: Outcome) -> Any:
    """Return what must be the same in every replay."""
    finished = outcome.finished
    error = finished.error
    return (
        finished.status,
        bytes(finished.value),
        (error.type, error.message) if error is not None else None,
    )


async def drive_to_the_end(pattern: Pattern, store: MemoryStore, run: str, start: bool) -> Outcome:
    """Execute a run in a store, from its start or from what the store holds of it."""
    executed: list[tuple[str, str]] = []

    async def watch(call: Call, next: Next) -> Any:
        executed.append((scope_of(call.run, call.generation), call.key))
        return await next(call)

    workflows = [pattern.workflow, *KIDS.values()]
    options: dict[str, Any] = {"capture_logs": False, "grace": 0.0, "keep_generations": None}
    async with Reprise(store, workflows=workflows, middleware=[watch], **options) as app:
        handle = await app.start(pattern.workflow, id=run) if start else app.handle(run)
        driver = None
        if pattern.drive and (start or pattern.drives_on):
            driver = asyncio.create_task(pattern.drive(app.client, run))
        try:
            finished = await handle.finished(PATIENCE)
        finally:
            if driver is not None:
                driver.cancel()
                with contextlib.suppress(BaseException):
                    await driver
    await store.start()
    streams: dict[str, list[Record]] = {}
    for record in await store.log.scan(limit=1_000_000):
        streams.setdefault(record.stream, []).append(record)
    return Outcome(finished, streams, executed)


def runs_of(streams: dict[str, list[Record]]) -> list[str]:
    """Return the runs that have a history."""
    return [stream.removeprefix("run/") for stream in streams if stream.startswith("run/")]


async def cut(
    before: Outcome, run: str, count: int, dice: random.Random, store: MemoryStore
) -> dict[str, list[Record]]:
    """Fill a store with the first ``count`` records of a run, and of its children some that fit to them."""
    kept = {run_stream(run): before.streams[run_stream(run)][:count]}
    inboxes: dict[str, list[Record]] = {run: []}
    pending = [run]
    while pending:
        parent = pending.pop()
        mine, mail = kept[run_stream(parent)], before.streams.get(inbox_stream(parent), [])
        consumed = latest(mine)[1]
        old = [r for r in mail if r.version <= consumed]
        whole = {r.key for r in old if r.kind == Kind.CHILD_FINISHED}
        for child in _children(mine):
            full = before.streams[run_stream(child)]
            asked = next((n for n, r in enumerate(full) if r.kind == Kind.CANCEL_REQUESTED), len(full))
            # A child that was cancelled: not before its parent asked for it. A commit that begins a generation is whole.
            lengths = [n for n in range(min(2, len(full)), max(2, asked) + 1) if is_possible(full, n)]
            length = len(full) if child in whole or _ended(mine, child, full) else dice.choice(lengths)
            kept[run_stream(child)] = full[:length]
            if length == len(full) and full[-1].kind == Kind.RUN_FINISHED:
                whole.add(child)
            pending.append(child)
        # What came for an earlier generation stays where it was: the history says how far the inbox was read.
        later = [
            r for r in mail if r.version > consumed and (r.kind != Kind.CHILD_FINISHED or r.key in whole)
        ]
        if parent == run and count < len(before.streams[run_stream(run)]):
            # Nobody answers what was not asked yet.
            end = before.streams[run_stream(run)][count].position
            later = [r for r in later if r.kind != Kind.ANSWER_SENT or r.position < end]
        if parent != run:
            later = [r for r in later if r.kind == Kind.CHILD_FINISHED]
        inboxes[parent] = old + later
    for stream, records in kept.items():
        await fill(store, stream, records)
    for owner, records in inboxes.items():
        if records:
            await fill(store, inbox_stream(owner), records)
    if dice.random() < 0.5:
        await _trim(store, kept)
    return kept


def latest(records: Sequence[Record]) -> tuple[int, int]:
    """Return where the latest generation of a history begins, and how far its inbox was read then."""
    for record in reversed(records):
        if record.kind == Kind.RUN_CONTINUED:
            return record.version - 1, msgspec.json.decode(record.data, type=Continued).inbox
    return 0, 0


def started_of(first: Record) -> Started:
    """Return what the first record of a history says, be it the start or a later generation."""
    if first.kind == Kind.RUN_CONTINUED:
        return msgspec.json.decode(first.data, type=Continued).started
    return msgspec.json.decode(first.data, type=Started)


def is_possible(records: Sequence[Record], count: int) -> bool:
    """Tell whether a history can have been ``count`` records long: what begins a generation is one commit."""
    first = next((r for r in reversed(records[: count + 1]) if r.append), None)
    return (
        count == len(records)
        or records[count].append != 0
        or first is None
        or first.kind != Kind.RUN_CONTINUED
    )


async def _trim(store: MemoryStore, kept: dict[str, list[Record]]) -> None:
    for stream, records in list(kept.items()):
        since, consumed = latest(records)
        await store.log.trim(stream, since)
        await store.log.trim(stream.replace("run/", "inbox/"), consumed)
        kept[stream] = records[since:]


def _ended(records: list[Record], child: str, full: list[Record]) -> bool:
    """Tell whether a parent has recorded the end of a child; under its key other generations record those of others."""
    key = started_of(full[0]).parent_key
    begun = False
    for r in records:
        begun |= r.kind == Kind.CHILD_STARTED and msgspec.json.decode(r.data)["run"] == child
        if begun and r.kind == Kind.RUN_CONTINUED:
            return False
        if begun and r.kind in STEPS and r.key == key:
            return True
    return False


def _children(records: list[Record]) -> list[str]:
    return [msgspec.json.decode(r.data)["run"] for r in records if r.kind == Kind.CHILD_STARTED]


async def fill(store: MemoryStore, stream: str, records: list[Record]) -> None:
    events = [Event(Kind.STEP_STARTED, 0)] * (records[0].version - 1)  # trimmed away below
    events += [Event(r.kind, r.at, r.key, r.data, r.print, r.took) for r in records]
    token = max(
        [msgspec.json.decode(r.data, type=Owned).token for r in records if r.kind == Kind.RUN_OWNED],
        default=0,
    )
    change = None
    closes = False
    before = records[0].version - 1
    if stream.startswith("run/"):
        started = started_of(records[0])
        closes = records[-1].kind == Kind.RUN_FINISHED
        status = "completed" if closes else "running"
        change = RunChange(
            stream.removeprefix("run/"),
            status,
            started.workflow,
            started.parent or None,
            None if closes or not token else "dead",
            None if closes or token else 1,
            since=latest(records)[0],
            at=records[0].at,
        )
    done = asyncio.get_running_loop().create_future()
    append = Append(
        numbers.new(),
        (Group(stream, events, token=token, takes=bool(token), closes=closes, run=change),),
        done.set_result,
    )
    store.log.submit([append])
    await done
    assert append.error is None, append.error
    await store.log.trim(stream, before)


async def resume(pattern: Pattern, before: Outcome, run: str, count: int, dice: random.Random) -> Outcome:
    """Let another worker finish what ``count`` records say, and check that it was right."""
    store = LateStore(dice)
    kept = await cut(before, run, count, dice, store)
    after = await drive_to_the_end(pattern, store, run, start=False)
    assert pattern.check(after.status, after.value), f"wrong result: {after.status} {after.value!r}"
    for stream, prefix in kept.items():
        now = after.streams[stream]
        assert [(r.kind, r.key, r.data) for r in now[: len(prefix)]] == [
            (r.kind, r.key, r.data) for r in prefix
        ], "history was rewritten"
        keys = list(_scoped(stream, now))
        assert len(keys) == len(set(keys)), (
            f"recorded twice in {stream}: {sorted(k for k in keys if keys.count(k) > 1)}"
        )
        again = set(_scoped(stream, prefix)) & set(after.executed)
        assert not again, f"recorded steps were executed again: {again}"
    return after


def _scoped(stream: str, records: Sequence[Record]) -> Iterator[tuple[str, str]]:
    """Yield the keys of recorded steps and timers with the scope of their generation."""
    run = stream.removeprefix("run/")
    scope = run
    for record in records:
        if record.kind == Kind.RUN_CONTINUED:
            scope = scope_of(run, msgspec.json.decode(record.data, type=Continued).generation)
        elif record.kind in STEPS or record.kind == Kind.TIMER_FIRED:
            yield scope, record.key


async def replay(pattern: Pattern, before: Outcome, run: str, dice: random.Random) -> None:
    """Replay a whole history but for its end: same outcome, nothing executed."""
    count = len(before.streams[run_stream(run)]) - 1
    store = LateStore(dice)
    kept = await cut(before, run, count, dice, store)
    after = await drive_to_the_end(pattern, store, run, start=False)
    assert compared(after) == compared(before), f"replay: {compared(before)} became {compared(after)}"
    again = set(_scoped(run_stream(run), kept[run_stream(run)])) & set(after.executed)
    assert not again, f"replay executed {again}"


async def trial(name: str, seed: int) -> int:
    """Run a pattern once and resume it from every prefix; return how many prefixes there were."""
    pattern, dice = CORPUS[name], random.Random(seed)
    run = f"{name}-{seed}"
    first = await drive_to_the_end(pattern, LateStore(dice), run, start=True)
    assert pattern.check(first.status, first.value), f"wrong result: {first.status} {first.value!r}"
    await replay(pattern, first, run, dice)
    length = len(first.streams[run_stream(run)])
    for count in range(1, length):
        if not is_possible(first.streams[run_stream(run)], count):
            continue
        try:
            after = await resume(pattern, first, run, count, dice)
            await replay(pattern, after, run, dice)
        except BaseException as error:
            error.add_note(f"pattern {name}, seed {seed}, after {count} of {length} records")
            raise
    return length - 1
