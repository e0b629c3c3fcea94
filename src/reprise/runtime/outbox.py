"""The outbox: what a step in the log's transaction tells others, in its own commit.

A signal that is sent, a run that is started and a task that is offered here are there when the step's rows and its
record are there, and otherwise never were. They are gathered while the step executes and written with its record.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import msgspec

from reprise.kernel.codec import standard
from reprise.kernel.errors import BodyError, RunConflict, RunEnded, RunNotFound, StaleVersion, StreamMissing
from reprise.kernel.events import Event, Kind, Signal, inbox_stream, run_stream, tasks_stream
from reprise.kernel.tags import as_tags
from reprise.runtime.starting import check_id, check_same, opening
from reprise.runtime.workflow import Workflow
from reprise.stores.log import Group, RunChange
from reprise.stores.queue import Task, tap_of
from reprise.stores.store import Store

if TYPE_CHECKING:
    from reprise.runtime.engine import Engine


class Letters:
    """What one attempt of a step wants others to be told; ``key`` makes the ids that nobody gave."""

    def __init__(self, engine: Engine, key: str) -> None:
        self._engine = engine
        self._key = key
        self._exist: set[str] = set()
        """Runs that it wanted to start and that exist already, as they were wanted."""
        self.empty()

    def empty(self) -> None:
        """Forget what was asked for: the step is executed anew."""
        self._count = 0
        self.signals: list[Group] = []
        self.starts: dict[str, tuple[Workflow[..., Any], bytes, Group]] = {}
        self.tasks: list[Task] = []
        self.posts: list[Group] = []

    @property
    def store(self) -> Store:
        """Where it is committed."""
        return self._engine.store

    def id(self, given: str) -> str:
        """Return an id, the same for the same call in every attempt of the step."""
        self._count += 1
        return given or f"{self._key}-{self._count}"

    def signal(self, run: str, name: str, value: Any, id: str, type: Any) -> str:
        """Gather a signal; return its id."""
        engine, id = self._engine, self.id(id)
        encoded = engine.payloads.within(standard.encode(value, type), "The signal {!r} to run {}", name, run)
        now = engine.now()
        data = msgspec.json.encode(Signal(name, msgspec.Raw(encoded)))
        change = RunChange(run, due_at=now, at=now)
        letter = Event(Kind.SIGNAL_SENT, now, id, data)
        self.signals.append(Group(inbox_stream(run), [letter], guard=run_stream(run), run=change))
        return id

    def start(
        self,
        workflow: Workflow[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        id: str,
        tags: Mapping[str, Any],
    ) -> str:
        """Gather the start of a run; return its id."""
        engine, id = self._engine, check_id(self.id(id))
        engine.registry.lend(id, workflow)
        input = workflow.arguments.encode(args, kwargs)
        engine.payloads.within(input, "The input of workflow {}", workflow.name)
        known = as_tags(tags)
        slots = engine.registry.slots(workflow, args, kwargs, known)
        if id in self.starts:
            raise RunConflict(f"The outbox starts two runs under the id {id!r}.", hint="Choose another id.")
        if id not in self._exist:
            _, group = opening(engine, workflow, input, id, owned=False, tags=known, slots=slots)
            self.starts[id] = (workflow, input, group)
        return id

    def offer(self, queue: str, data: bytes, id: str, order: float, due_at: int) -> str:
        """Gather a task; return its id."""
        id = self.id(id)
        self.tasks.append(Task(id, queue, data, order, due_at))
        return id

    def hand_over(self, task: Task) -> None:
        """Gather a task for a queue of another keeper: it goes into the log, and a relay carries it on."""
        event = Event(Kind.TASK_OFFERED, self._engine.now(), task.id, msgspec.msgpack.encode(task))
        self.posts.append(Group(tasks_stream(task.queue), [event]))

    def groups(self) -> tuple[Group, ...]:
        """Return what is appended: runs first, so that a signal may go to one that begins here."""
        return (*[group for _, _, group in self.starts.values()], *self.signals, *self.posts)

    async def explain(self, error: Exception) -> None:
        """Say why the append was refused because of what is in here; return when it may be tried again.

        Raises:
            RunNotFound, RunEnded: a signal was for no run, or for one that has ended.
            RunConflict: a run that was to be started exists and is another.
        """
        if isinstance(error, StaleVersion):
            log = self._engine.store.log
            for id, (workflow, input, _) in list(self.starts.items()):
                if await check_same(log, workflow, input, id):
                    self._exist.add(id)
            return
        kind = RunNotFound if isinstance(error, StreamMissing) else RunEnded
        raise kind(
            f"The outbox has a signal that nobody can get. {error}", hint="Look: reprise ps"
        ) from error

    def told(self) -> None:
        """Tap those whom it concerns, after the commit."""
        engine = self._engine
        engine.counters["started"] += len(self.starts)
        for id, (_, _, group) in self.starts.items():
            engine.observe(id, group.events)
        names = {group.stream for group in (*self.signals, *self.posts)}
        names |= {tap_of(task.queue) for task in self.tasks}
        if self.starts or self.signals:
            names.add("runs")
        if names:
            engine.store.signal.wake(sorted(names))


LETTERS: ContextVar[Letters | None] = ContextVar("reprise_letters", default=None)
"""Those of the transaction to which the running code belongs."""


class Outbox:
    """What leaves in the commit of a step with ``transaction=True``: signals, runs and tasks.

    They are there when the step's own rows and its record are there; where the step fails they never were.
    """

    def signal(self, run: str, name: str, value: Any = None, *, id: str = "", type: Any = Any) -> str:
        """Send a signal to a run; return its id. The same id again is dropped by the run.

        If the run does not exist or has ended when the step is committed, the step fails with ``RunNotFound`` or
        ``RunEnded`` and leaves nothing.

        Raises:
            BodyError: called outside of a step with ``transaction=True``.
            CodecError, PayloadTooLarge: the value cannot be written as its type, or is too large.
        """
        return letters_here().signal(run, name, value, id, type)

    def start(
        self,
        workflow: Workflow[..., Any],
        /,
        *args: Any,
        id: str = "",
        kwargs: Mapping[str, Any] | None = None,
        tags: Mapping[str, Any] | None = None,
    ) -> str:
        """Start a run, for any worker; return its id.

        The id is the run's idempotency key: if that run exists already with this workflow and input, nothing is
        started; if it is another run, the step fails with ``RunConflict``. Without an id, one is made that is this
        call's own. The run is nobody's child.

        Raises:
            BodyError: called outside of a step with ``transaction=True``.
            CodecError, PayloadTooLarge, ConfigurationError: it cannot be started so.
        """
        return letters_here().start(workflow, args, dict(kwargs or {}), id, tags or {})

    def offer(self, queue: str, data: bytes, *, id: str = "", order: float = 0.0, due_at: int = 0) -> str:
        """Put a task into a queue; return its id. An id that is in it alive changes nothing.

        ``order``: smaller is claimed first. ``due_at``: not before this time (microseconds since the epoch).

        Raises:
            BodyError: called outside of a step with ``transaction=True``.
        """
        return letters_here().offer(queue, data, id, order, due_at)


outbox = Outbox()


def letters_here() -> Letters:
    """Return the letters of the transaction that the running code belongs to; raises ``BodyError`` where there is none."""
    letters = LETTERS.get()
    if letters is None:
        raise BodyError(
            "There is no transaction here, so nothing could leave with it.",
            hint="Call it in a step with transaction=True; elsewhere use the app's own methods.",
        )
    return letters
