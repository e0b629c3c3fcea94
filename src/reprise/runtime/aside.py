"""Jobs beside the body: executed by the pool like steps, with retries and timeouts, but their outcome is no record that is
delivered to the body. To ask ``reconcile`` is such a job, to undo a step another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from reprise.kernel.policy import Retry
from reprise.runtime.host import Job
from reprise.runtime.step import Step

if TYPE_CHECKING:
    from reprise.runtime.engine import Engine
    from reprise.runtime.execution import Execution

Outcome = Callable[[int, bytes], None]
"""Is told the kind and data of what would be the record of a step."""


class Aside:
    """Stands for the run in the eyes of whoever executes such a job."""

    __slots__ = ("_execution", "_then")

    purse = None
    """What a run does to find out, and to undo, counts against no budget."""

    def __init__(self, execution: Execution, then: Outcome) -> None:
        self._execution = execution
        self._then = then

    def __getattr__(self, name: str) -> Any:
        return getattr(self._execution, name)

    def job_ended(self, job: Job, kind: int, data: bytes, took: int) -> None:
        """Take the job for ended and tell what came of it."""
        if self._execution.in_flight.pop(job.key, None) is not None:
            self._then(kind, data)


def step_aside(
    given: Callable[..., Any], name: str, encode: Callable[[Any], bytes], retry: Retry, timeout: float | None
) -> Step[..., Any]:
    """Make a step of a function that was given for such a job; of a step, its own retries and timeout hold."""
    if isinstance(given, Step):
        own = cast("Step[..., Any]", given)
        made = own.options(name=name, idempotent=True)
    else:
        made = Step[..., Any](given, name=name, retry=retry, timeout=timeout, idempotent=True)
    made.encode = encode
    return made


def start_aside(
    engine: Engine, execution: Execution, key: str, step: Step[..., Any], argument: object, then: Outcome
) -> None:
    """Execute a step beside the body; the run does not rest meanwhile."""
    job = Job(cast("Any", Aside(execution, then)), key, step, (argument,), {}, 0, None)
    execution.in_flight[key] = job
    engine.pool.start([job])
