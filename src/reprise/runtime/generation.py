"""Generations: a long run ends its history and goes on with a fresh one, under the same id and in one commit.

What a generation hands to the next is in the event that begins it: the new input, what came by mail and nobody had taken,
and enough to know mail again that was consumed. So replay reads from there, and what lies before may be trimmed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import msgspec
from msgspec import UNSET

from reprise.kernel.events import Continued, Event, Kind, Owed, Record, inbox_stream, run_stream
from reprise.kernel.machine import RunStatus
from reprise.kernel.tags import same_tags
from reprise.runtime.ending import last_words, leaves_children
from reprise.runtime.history import DEADLINE, History, read_history
from reprise.runtime.starting import input_print
from reprise.runtime.talk import trim_talk
from reprise.stores.log import Log, RunChange

if TYPE_CHECKING:
    from reprise.runtime.execution import Execution

REMEMBERED = 100
"""Ids of consumed mail, the latest, that the next generation still knows as duplicates."""
BORDERS = 100
"""Earlier generations beyond those to keep whose begin is remembered at most."""
WORTH = 256
"""Records that must have become superfluous before a history is trimmed: that costs commits of its own."""


LONG = 10_000
"""Records of one generation at which somebody is told that it is long."""
NEVER = 1 << 62
"""Later than any version."""


class ContinueAs(BaseException):
    """The wish of a body to end and to begin anew; no ``except Exception`` of the body swallows it."""

    def __init__(self, input: bytes) -> None:
        super().__init__("the body goes on as a new generation")
        self.input = input


def scope_of(run: str, generation: int) -> str:
    """Return what the keys of a generation are counted in: no two generations of a run share it.

    >>> scope_of("order-7", 0), scope_of("order-7", 2)
    ('order-7', 'order-7:~2')
    """
    return f"{run}:~{generation}" if generation else run


def wish_in(error: BaseException | None) -> ContinueAs | None:
    """Return the wish to continue that ended a body, also one that came out of a task group; None for any other end."""
    while isinstance(error, BaseExceptionGroup):
        members = cast("tuple[BaseException, ...]", error.exceptions)
        error = members[0] if len(members) == 1 else None
    return error if isinstance(error, ContinueAs) else None


def begin_next(execution: Execution, wish: ContinueAs, owed: Sequence[Owed] = ()) -> None:
    """Let a run whose body has ended append the begin of its next generation, which owes to undo what this one did."""
    at = max(execution.host.now(), execution.last_at)
    before, started = execution.continued, execution.started
    continued = Continued(
        msgspec.structs.replace(started, input=msgspec.Raw(wish.input), tags=execution.tags),
        execution.generation + 1,
        before.first if before is not None else input_print(execution.workflow, bytes(started.input)),
        execution.inbox_version,
        _remembered(execution),
        execution.purse.taken() if execution.purse is not None else None,
        _borders(execution),
        list(owed),
        execution.host.build,
    )
    execution.alter(
        status=RunStatus.RUNNING,
        due_at=None,
        error="",
        since=execution.version,
        generation=continued.generation,
        warning="",
        refused=(),
    )
    if not same_tags(execution.tags, execution.indexed_tags):
        execution.alter(tags=execution.tags)
    execution.out.append(Event(Kind.RUN_CONTINUED, at, "", msgspec.json.encode(continued)))
    for sent in execution.mail.left():
        execution.out.append(Event(Kind.SIGNAL_RECEIVED, at, sent.key, sent.data))
    if (cancel := execution.unheard) is not None:
        execution.out.append(Event(Kind.CANCEL_REQUESTED, at, cancel.key, cancel.data))
    execution.extra.extend([*leaves_children(execution), *last_words(execution)])


def _remembered(execution: Execution) -> list[str]:
    """Return ids of consumed mail: all, while it is not known which of it will be read again; else the latest."""
    seen = list(execution.seen)
    if not execution.inbox_known:
        return seen
    return [DEADLINE] * (DEADLINE in execution.seen) + [id for id in seen[-REMEMBERED:] if id != DEADLINE]


def _borders(execution: Execution) -> list[int]:
    """Return where the earlier generations begin that are kept."""
    before, keep = execution.continued, execution.host.keep_generations
    borders = [*(before.borders if before is not None else ()), execution.since]
    if keep is None:
        return borders[-BORDERS:]
    first = borders[-keep] if 0 < keep <= len(borders) else execution.version
    if len(borders) > keep and (first - borders[0] >= WORTH or len(borders) > keep + BORDERS):
        return borders[len(borders) - keep :]
    return borders


def news_of(execution: Execution, change: RunChange | None) -> RunChange:
    """Add to a change of the index what is news there: that the run no longer waits, or that it is long."""
    change = change or RunChange(execution.id)
    if execution.rests:
        execution.rests = False
        if change.status is UNSET:
            change.status = execution.resting(RunStatus.RUNNING)
    if execution.version > execution.warn_at and not execution.finishing:
        execution.warn_at = NEVER
        change.warning = f"its history has more than {LONG:,} records: continue_as() would begin a fresh one"
        execution.host.warn(execution, change.warning)
    return change


def continued_history(execution: Execution, events: Sequence[Event]) -> History:
    """Return the history of the generation that began with these events, the last ones of the run."""
    before = execution.version - len(events)
    records = [
        Record(0, execution.stream, before + n, e.kind, e.at, e.key, e.data) for n, e in enumerate(events, 1)
    ]
    history = read_history(execution.id, records)
    history.fresh = True
    return history


def is_to_trim(continued: Continued, ended: Execution) -> bool:
    """Tell whether a generation keeps less of the earlier ones than there was when the one before it ended."""
    before = ended.continued.borders if ended.continued is not None else []
    return continued.borders[:1] != [*before, ended.since][:1]


async def trim(log: Log, run: str, continued: Continued, since: int) -> None:
    """Trim away what a generation does not keep of the earlier ones: history, the mail consumed, what was said in them.

    What is not done because of a crash or a failing store is done together with what comes later.
    """
    before = continued.borders[0] if continued.borders else since
    await log.trim(run_stream(run), before)
    await log.trim(inbox_stream(run), continued.inbox)
    if begin := await log.read(run_stream(run), before, 1):
        await trim_talk(log, run, begin[0].position)
