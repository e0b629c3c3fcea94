"""Side streams: progress and captured log lines. People watch them; replay never reads them.

Writes are gathered for a moment and go to the log in one append per run; they never hold up a step, and they may be
lost in a crash.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import msgspec

from reprise.kernel.clock import Clock
from reprise.kernel.events import Event, Kind, LogLine, Progress, log_stream, progress_stream
from reprise.runtime.branch import RUN
from reprise.runtime.host import STEP, Host
from reprise.runtime.payloads import Payloads
from reprise.stores.log import Append, Group
from reprise.stores.store import Store

GATHER = 0.2
"""Seconds over which writes are gathered; of progress under one key only the last is kept."""
LONGEST_LINE = 10_000
"""Characters of a log line that are kept."""
FLOOD = 1_000
"""Log lines of one moment that are kept; what is beyond is counted."""


class Side:
    """The side streams of the runs of one engine."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        outer: asyncio.AbstractEventLoop,
        number: Callable[[], int],
        payloads: Payloads,
    ) -> None:
        self._store = store
        self._clock = clock
        self._outer = outer
        self._number = number
        self._payloads = payloads
        self._progress: dict[tuple[str, str], Event] = {}
        self._lines: dict[str, list[Event]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self.dropped = 0

    def progress(self, run: str, progress: Progress) -> None:
        """Write how far a step is; safe from any thread."""
        progress = msgspec.structs.replace(progress, note=self._payloads.text(progress.note))
        event = Event(Kind.PROGRESS, self._clock.now(), progress.key, msgspec.json.encode(progress))
        self._outer.call_soon_threadsafe(self._add_progress, run, event)

    def line(self, run: str, line: LogLine) -> None:
        """Write a log line; safe from any thread."""
        line = msgspec.structs.replace(line, text=self._payloads.text(line.text))
        event = Event(Kind.LOG_LINE, self._clock.now(), line.key, msgspec.json.encode(line))
        self._outer.call_soon_threadsafe(self._add_line, run, event)

    def _add_progress(self, run: str, event: Event) -> None:
        self._progress[run, event.key] = event
        self._arm()

    def _add_line(self, run: str, event: Event) -> None:
        lines = self._lines.setdefault(run, [])
        if len(lines) < FLOOD:
            lines.append(event)
        else:
            self.dropped += 1
        self._arm()

    def _arm(self) -> None:
        if self._timer is None:
            self._timer = self._outer.call_later(GATHER, self.flush)

    def flush(self) -> None:
        """Hand over what was gathered."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        progress, self._progress = self._progress, {}
        lines, self._lines = self._lines, {}
        streams: dict[str, list[Event]] = {}
        for (run, _), event in progress.items():
            streams.setdefault(progress_stream(run), []).append(event)
        for run, events in lines.items():
            streams.setdefault(log_stream(run), []).extend(events)
        if streams:
            self._store.log.submit(
                [Append(self._number(), (Group(stream, events),)) for stream, events in streams.items()]
            )
            self._store.signal.wake(list(streams))


class SideHandler(logging.Handler):
    """Copy what steps log to the run's side stream."""

    def __init__(self, side: Side, host: Host, level: int = logging.INFO) -> None:
        super().__init__(level)
        self._side = side
        self._host = host

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record if it belongs to a step, or to a body that is not replaying."""
        job = STEP.get()
        execution = job.execution if job is not None else RUN.get()
        # Of several engines in a process, each has its handler; a line belongs to one of them.
        if execution is None or execution.host is not self._host or (job is None and execution.replaying):
            return
        try:
            text = self.format(record)[:LONGEST_LINE]
        except Exception:
            self.handleError(record)
            return
        line = LogLine(record.levelname, record.name, text, job.key if job is not None else "")
        self._side.line(execution.id, line)
