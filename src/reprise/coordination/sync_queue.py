"""A queue for threads: the task queue, through a portal."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack, overload

from reprise.coordination.dead_letters import Conditions
from reprise.coordination.portal import Portal
from reprise.coordination.tasks import Task, TaskInfo, TaskQueueStats
from reprise.kernel.policy import Duration

if TYPE_CHECKING:
    from reprise.coordination.queue import TaskQueue


class SyncTaskQueue:
    """A :class:`~reprise.TaskQueue` for code without an event loop: scripts, Flask, Django; several threads may use it.

    Each method is that of the queue, and raises the same. Tasks are done by a worker, which is a process of its own:
    ``reprise queue worker``.
    """

    def __init__(self, queue: TaskQueue) -> None:
        self._queue = queue
        self._portal = Portal(f"queue-{queue.name}")
        self.dead_letters = SyncDeadLetters(queue, self._portal)

    def __enter__(self) -> Self:
        self._portal.call(self._queue.start)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Close what is ours, and end the thread in which it was."""
        self._portal.call(self._queue.stop)
        self._portal.stop()

    @overload
    def enqueue(self, tasks: Task) -> str: ...
    @overload
    def enqueue(self, tasks: Iterable[Task]) -> list[str]: ...
    def enqueue(self, tasks: Task | Iterable[Task]) -> str | list[str]:
        """Put in a task, or several (all or none); return the id, or ids."""
        if isinstance(tasks, Task):
            return self._portal.call(self._queue.enqueue, tasks)
        return self._portal.call(self._put_in, tasks)

    async def _put_in(self, tasks: Iterable[Task]) -> list[str]:
        return await self._queue.enqueue(tasks)

    def dequeue(self, timeout: Duration | None = 30.0) -> Task | None:
        """Claim the next task; None when there was none for ``timeout`` seconds."""
        return self._portal.call(self._queue.dequeue, timeout)

    def extend(self, task: Task | str, ttl: Duration | None = None) -> None:
        """Keep a claim for ``ttl`` seconds from now."""
        self._portal.call(self._queue.extend, task, ttl)

    def complete_task(self, task: Task | str, result: Any = None) -> None:
        """Say that a task is done."""
        self._portal.call(self._queue.complete_task, task, result)

    def fail_task(self, task: Task | str, error: str | BaseException, retry: bool = True) -> bool:
        """Say that a try of a task failed; return whether it will be tried again."""
        return self._portal.call(self._queue.fail_task, task, error, retry)

    def result(self, task_id: str, timeout: Duration | None = None) -> Any:
        """Wait for the result of a task."""
        return self._portal.call(self._queue.result, task_id, timeout)

    def call(self, task: Task, timeout: Duration | None = None) -> Any:
        """Put in a task and wait for its result."""
        return self._portal.call(self._queue.call, task, timeout)

    def get_queue_stats(self) -> TaskQueueStats:
        """Return what is in the queue, and what went through it."""
        return self._portal.call(self._queue.get_queue_stats)

    def get_task(self, task_id: str) -> TaskInfo:
        """Return what is known of a task."""
        return self._portal.call(self._queue.get_task, task_id)

    def peek(self, state: str = "pending", limit: int = 20, *, skip: int = 0) -> list[TaskInfo]:
        """Return tasks of a state without taking them."""
        return self._portal.call(self._queue.peek, state, limit, skip=skip)

    def cancel(self, *task_ids: str) -> int:
        """Remove tasks that nobody is at; return how many there were."""
        return self._portal.call(self._queue.cancel, *task_ids)

    def pause(self) -> None:
        """Let nobody take tasks out until ``resume``."""
        self._portal.call(self._queue.pause)

    def resume(self) -> None:
        """Let tasks be taken out again."""
        self._portal.call(self._queue.resume)

    def purge(self) -> int:
        """Remove what was kept for long enough; return how many."""
        return self._portal.call(self._queue.purge)


class SyncDeadLetters:
    """The dead letters of a :class:`SyncTaskQueue`; conditions as of :class:`~reprise.DeadLetters`."""

    def __init__(self, queue: TaskQueue, portal: Portal) -> None:
        self._letters = queue.dead_letters
        self._portal = portal

    def list(self, limit: int = 100, **conditions: Unpack[Conditions]) -> list[TaskInfo]:
        """Return dead letters, those that died first first."""
        return self._portal.call(self._letters.list, limit, **conditions)

    def requeue(self, *task_ids: str, all: bool = False, **conditions: Unpack[Conditions]) -> int:
        """Give dead letters all their tries again; return how many."""
        return self._portal.call(self._letters.requeue, *task_ids, all=all, **conditions)

    def purge(self, *task_ids: str, all: bool = False, **conditions: Unpack[Conditions]) -> int:
        """Remove dead letters for ever; return how many."""
        return self._portal.call(self._letters.purge, *task_ids, all=all, **conditions)
