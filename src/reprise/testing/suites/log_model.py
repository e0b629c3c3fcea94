"""A dictionary that behaves like a log, and random histories to compare with it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from reprise.kernel.errors import AppendRefused
from reprise.stores.log import ANY, EXISTS, Append, Group, Head, enlist
from reprise.testing.suites.keeper import IDS, Keeper, fact, soon

STREAMS = ("run/a", "run/b", "inbox/a")


class Stream(msgspec.Struct):
    """What the model knows of one stream."""

    data: list[bytes] = []
    """Of all versions, also those that are gone."""
    token: int = 0
    closed: bool = False
    trimmed: int = 0

    def copy(self) -> Stream:
        """Return an independent copy."""
        return Stream(list(self.data), self.token, self.closed, self.trimmed)


class LogModel:
    """Streams by name, and all records in order."""

    def __init__(self) -> None:
        self.streams: dict[str, Stream] = {}
        self.order: list[tuple[str, bytes]] = []

    def append(self, groups: tuple[Group, ...]) -> bool:
        """Apply groups and return True, or change nothing and return False."""
        streams = {name: stream.copy() for name, stream in self.streams.items()}
        order = list(self.order)
        for group in groups:
            if not self._apply(streams, order, group):
                return False
        self.streams, self.order = streams, order
        return True

    def drop(self, names: set[str]) -> int:
        """Forget streams."""
        self.order = [entry for entry in self.order if entry[0] not in names]
        gone = [self.streams.pop(name, Stream()) for name in names]
        return sum(len(stream.data) - stream.trimmed for stream in gone)

    def trim(self, name: str, through: int) -> int:
        """Forget the oldest of a stream."""
        stream = self.streams.get(name, Stream())
        gone = stream.data[stream.trimmed : min(through, len(stream.data) - 1)]
        stream.trimmed += len(gone)
        self.order = [entry for entry in self.order if entry[0] != name or entry[1] not in gone]
        return len(gone)

    @staticmethod
    def _apply(streams: dict[str, Stream], order: list[tuple[str, bytes]], group: Group) -> bool:
        if group.guard and (group.guard not in streams or streams[group.guard].closed):
            return False
        stream = streams.get(group.stream, Stream())
        exists = group.stream in streams
        touches = bool(group.events or group.takes or group.closes)
        allowed = (
            (group.expected != EXISTS or exists)
            and (group.expected < 0 or group.expected == len(stream.data))
            and not (touches and stream.closed)
            and (exists or bool(group.events) or not touches)
            and (group.token == stream.token or group.takes)
            and (not group.takes or not exists or group.token > stream.token)
        )
        if allowed and touches:
            stream.data += [event.data for event in group.events]
            stream.token = group.token if group.takes else stream.token
            stream.closed = stream.closed or group.closes
            streams[group.stream] = stream
            order += [(group.stream, event.data) for event in group.events]
        return allowed


_wishes = st.tuples(
    st.sampled_from(STREAMS),
    st.integers(0, 3),
    st.sampled_from(("any", "any", "exists", "right", "right", "new", "old", "ahead")),
    st.sampled_from((0, 0, 0, 0, -1, 1)),
    st.sampled_from((False, False, False, True)),
    st.sampled_from((False,) * 11 + (True,)),
    st.sampled_from(("", "", "", *STREAMS)),
)
"""Stream, number of events, expected, distance of the token, takes, closes, guard."""


class LogMachine(RuleBasedStateMachine):
    """Random appends, drops and restarts on a log and on the model."""

    def __init__(self, make_keeper: Callable[[], Keeper]) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.keeper = make_keeper()
        self.store = self.runner.run(self.keeper.open())
        self.model = LogModel()
        self.highest = 0
        self.count = 0

    def _group(self, wish: tuple[Any, ...]) -> Group:
        stream, events, expected, distance, takes, closes, guard = wish
        now = self.model.streams.get(stream, Stream())
        versions = {"any": ANY, "exists": EXISTS, "right": len(now.data), "new": 0}
        version = versions.get(expected, max(0, len(now.data) + (1 if expected == "ahead" else -1)))
        token = max(0, now.token + distance + takes)
        facts = [fact(self._number()) for _ in range(events)]
        return Group(stream, facts, version, token, takes=takes, closes=closes, guard=guard)

    def _number(self) -> bytes:
        self.count += 1
        return self.count.to_bytes(3, "big")

    @rule(wishes=st.lists(st.lists(_wishes, min_size=1, max_size=3), min_size=1, max_size=4))
    def burst(self, wishes: list[list[tuple[Any, ...]]]) -> None:
        """Submit several appends at once; each must do as the model says."""
        appends = [Append(IDS.new(), tuple(map(self._group, groups))) for groups in wishes]
        expected = [self.model.append(append.groups) for append in appends]

        async def submit() -> None:
            try:
                await soon(enlist(self.store.log, appends))
            except AppendRefused:
                assert appends[-1].error

        self.runner.run(submit())
        assert [append.error is None for append in appends] == expected, [append.error for append in appends]
        for append in appends:
            if append.position:
                assert append.position > self.highest
                self.highest = append.position

    @rule(streams=st.sets(st.sampled_from(STREAMS), min_size=1, max_size=2))
    def drop(self, streams: set[str]) -> None:
        """Drop streams; positions stay used up."""
        assert self.runner.run(self.store.log.drop(*streams)) == self.model.drop(streams)
        assert self.runner.run(self.store.log.end()) == self.highest

    @rule(stream=st.sampled_from(STREAMS), through=st.integers(0, 9))
    def trim(self, stream: str, through: int) -> None:
        """Trim a stream; nothing else of it changes."""
        assert self.runner.run(self.store.log.trim(stream, through)) == self.model.trim(stream, through)
        assert self.runner.run(self.store.log.end()) == self.highest

    @rule()
    def restart(self) -> None:
        """Close and open."""
        self.store = self.runner.run(self.keeper.reopen(self.store))

    @rule(stream=st.sampled_from(STREAMS), after=st.integers(0, 5), limit=st.none() | st.integers(0, 3))
    def read(self, stream: str, after: int, limit: int | None) -> None:
        """Read a page and the head."""
        known = self.model.streams.get(stream, Stream())
        rows = self.runner.run(self.store.log.read(stream, after, limit))
        after = max(after, known.trimmed)
        assert [row.data for row in rows] == known.data[after : None if limit is None else after + limit]
        head = self.runner.run(self.store.log.head(stream))
        assert head == Head(len(known.data), known.token, known.closed)

    @rule(prefix=st.sampled_from(("", "run/", "inbox/", "run/a")))
    def scan(self, prefix: str) -> None:
        """Scan all."""
        rows = self.runner.run(self.store.log.scan(prefix=prefix))
        assert [(row.stream, row.data) for row in rows] == [
            entry for entry in self.model.order if entry[0].startswith(prefix)
        ]

    def teardown(self) -> None:
        """Compare everything once more and close."""
        self.scan("")
        for stream in STREAMS:
            self.read(stream, 0, None)
        self.runner.run(self.keeper.close())
        self.runner.close()
