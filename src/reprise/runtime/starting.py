"""Starting runs: the first events of a history, and whether a run that exists is the one that was meant."""

from __future__ import annotations

import platform
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from reprise.kernel.budget import Budget
from reprise.kernel.codec import standard
from reprise.kernel.errors import ConfigurationError, RunConflict, StaleToken, StaleVersion, StoreError
from reprise.kernel.events import Continued, Event, Kind, Owned, Signal, Started, inbox_stream, run_stream
from reprise.kernel.limit import Slot
from reprise.kernel.machine import RunStatus
from reprise.kernel.tags import Tag
from reprise.runtime.history import History
from reprise.runtime.workflow import Workflow
from reprise.stores.conditions import floor_of
from reprise.stores.log import Append, Group, Log, RunChange

if TYPE_CHECKING:
    from reprise.runtime.engine import Engine

PYTHON = ".".join(platform.python_version_tuple()[:2])
"""Minor version of the interpreter, recorded with every run."""

_ID = re.compile(r"[\w\-.+=,~]{1,200}")


def check_id(id: str) -> str:
    """Return a run id that can stand in URLs, file names and shells.

    Raises:
        ConfigurationError: empty, too long, or with characters that cannot.
    """
    if _ID.fullmatch(id) is None:
        raise ConfigurationError(
            f"The run id {id[:60]!r} is not usable.",
            hint="Use up to 200 letters, digits and - _ . + = , ~ without spaces.",
        )
    return id


def opening(
    engine: Engine,
    workflow: Workflow[..., Any],
    input: bytes,
    id: str,
    *,
    owned: bool,
    tags: dict[str, Tag] | None = None,
    deadline: int = 0,
    parent: str = "",
    parent_key: str = "",
    work: str = "",
    slots: tuple[Slot, ...] = (),
    budget: Budget | None = None,
    above: Started | None = None,
) -> tuple[Started, Group]:
    """Return the first events of a run, as a group for its new stream; ``above`` is how the run that starts it began."""
    now = engine.now()
    started = Started(
        workflow.name,
        msgspec.Raw(input),
        PYTHON,
        engine.build,
        deadline,
        parent,
        parent_key,
        workflow.on_end if parent else "",
        tags or {},
        _variables(engine) if engine.variables else {},
        budget=budget,
        origin=work,
        work=work,
        defaults=above.defaults if above is not None else engine.registry.defaults,
    )
    group = first_group(id, started, now, slots)
    if not owned:
        return started, group
    token = next_token(engine)
    owner = Event(Kind.RUN_OWNED, now, "", msgspec.json.encode(Owned(engine.worker, token, 1, engine.build)))
    group.events, group.token, group.takes = (*group.events, owner), token, True
    assert group.run is not None
    group.run.status, group.run.owner, group.run.due_at = RunStatus.RUNNING, engine.worker, None
    return started, group


def _variables(engine: Engine) -> dict[str, msgspec.Raw]:
    """Return the values that the declared context variables have here."""
    return {
        name: msgspec.Raw(standard.encode(variable.get()))
        for name, variable in engine.variables.items()
        if variable.get(None) is not None
    }


def first_group(id: str, started: Started, now: int, slots: tuple[Slot, ...] = ()) -> Group:
    """Return the first event of a run that nobody owns yet, as a group for its new stream."""
    change = RunChange(
        id,
        RunStatus.PENDING,
        started.workflow,
        started.parent or None,
        None,
        now,
        started.build,
        started.tags,
        at=now,
    )
    if slots:
        change.slots, change.in_line, change.due_at = slots, True, started.deadline or None
    event = Event(Kind.RUN_STARTED, now, "", msgspec.json.encode(started))
    return Group(run_stream(id), [event], 0, run=change)


def next_token(engine: Engine, last: int = 0) -> int:
    """Return the token to take a run with that had ``last``; one of the store's epoch, whatever the run had before."""
    return max(last + 1, floor_of(engine.store.epoch))


async def launch(
    engine: Engine,
    workflow: Workflow[..., Any],
    input: bytes,
    id: str,
    *,
    owned: bool = True,
    signals: Sequence[tuple[str, bytes]] = (),
    slots: tuple[Slot, ...] = (),
    **options: Any,
) -> bool:
    """Start a run, here (``owned``) or for any worker; True when it was new. ``options`` as of :func:`opening`.

    One that needs places stands in line first.

    Raises:
        RunConflict: the id belongs to a run of another workflow or input.
        PayloadTooLarge: the input or a signal is; nothing was written.
    """
    if engine.loaded.leaver is not None:
        await engine.loaded.until_room_to_start()
    engine.payloads.within(input, "The input of workflow {}", workflow.name)
    inbox = (first_mail(engine, id, signals),) if signals else ()
    if owned and slots:
        engine.expected.add(id)
    owned = owned and not slots
    engine.starting.add(id)
    try:
        while True:
            started, group = opening(engine, workflow, input, id, owned=owned, slots=slots, **options)
            try:
                await engine.send(Append(engine.numbers.new(), (group, *inbox)))
                break
            except StaleToken:
                # The store was restored since this process last wrote to it; by now it knows.
                if next_token(engine) == group.token:
                    raise
        if engine.observers:
            engine.observe(id, group.events)
        if owned:
            engine.enter(workflow, id, group.token, first_history(started, group), bool(signals))
        else:
            engine.store.signal.wake(["runs"])
    except StaleVersion:
        if await check_same(engine.store.log, workflow, input, id):
            return False
    except StoreError:
        engine.orphans.add(id)  # whether it was written may be unknown
        raise
    else:
        engine.counters["started"] += 1
        return True
    finally:
        engine.entered(id)
    # The run that had the id was deleted meanwhile.
    return await launch(engine, workflow, input, id, owned=owned, signals=signals, slots=slots, **options)


def first_mail(engine: Engine, id: str, signals: Sequence[tuple[str, bytes]]) -> Group:
    """Return signals that are sent to a run in the commit that starts it."""
    mail: list[Event] = []
    for number, (name, value) in enumerate(signals):
        engine.payloads.within(value, "The signal {!r} of run {}", name, id)
        data = msgspec.json.encode(Signal(name, msgspec.Raw(value)))
        mail.append(Event(Kind.SIGNAL_SENT, engine.now(), f"start-{number}", data))
    return Group(inbox_stream(id), mail)


def first_history(started: Started, group: Group) -> History:
    """Return the history that :func:`opening` wrote for a run that is owned from its start."""
    at = group.events[-1].at
    return History(started, version=len(group.events), at=at, began=at)


def child_id(parent: str, key: str) -> str:
    """Return the id of the child run that ``parent`` starts under ``key``; no id of a user's own run is like it.

    Of a later generation of the parent, its scope stands for the parent's id (see :mod:`reprise.runtime.generation`).

    >>> child_id("order-7", ":2.ship"), child_id("order-7", "invoice")
    ('order-7:2.ship', 'order-7:invoice')
    """
    return f"{parent}{key}" if key[0] in ":/" else f"{parent}:{key}"


async def check_same(log: Log, workflow: Workflow[..., Any], input: bytes, id: str) -> bool:
    """Check that the run that has the id is the one that was meant; False = there is none any more.

    Raises:
        RunConflict: it is a run of another workflow or input.
    """
    first = next(iter(await log.read(run_stream(id), 0, 1)), None)
    if first is None:
        return False
    if first.kind == Kind.RUN_CONTINUED:  # its first generation was trimmed away
        continued = msgspec.json.decode(first.data, type=Continued)
        name, is_same = continued.started.workflow, continued.first == input_print(workflow, input)
    else:
        started = msgspec.json.decode(first.data, type=Started)
        name, before = started.workflow, bytes(started.input)
        is_same = name == workflow.name and (
            before == input or input_print(workflow, before) == input_print(workflow, input)
        )
    if name != workflow.name:
        raise RunConflict(
            f"Run {id} exists and is a run of {name!r}, not of {workflow.name!r}.",
            hint="Choose another id.",
        )
    if not is_same:
        raise RunConflict(
            f"Run {id} of {workflow.name!r} exists with another input.",
            hint="Choose another id, or pass the input it was started with.",
        )
    return True


def input_print(workflow: Workflow[..., Any], input: bytes) -> int:
    """Return the fingerprint of an encoded input: equal inputs may differ in bytes (the order of a set)."""
    args, kwargs = workflow.arguments.decode(input)
    return workflow.arguments.fingerprint(workflow.name, args, kwargs)
