"""The promise of an executor: call the function of a step, and stop when told to."""

from __future__ import annotations

from typing import Any, Protocol

from reprise.kernel.errors import ConfigurationError, nearest
from reprise.runtime.host import Job

KNOWN = ("inline", "thread", "process")
"""Executors that are always there."""


class Executor(Protocol):
    """Calls the functions of steps.

    Middleware, retries and timeouts are around it. It sees of a job its ``step``, ``args``, ``kwargs`` and ``context``
    (None: nothing to bring along).
    """

    @property
    def capacity(self) -> int | None:
        """Calls at once; None = the executor has no bound of its own, that of the worker's steps holds."""
        ...

    async def execute(self, job: Job) -> Any:
        """Call the step's function and return what it returns, or raise what it raises.

        Cancelled, it makes the function stop, if that is possible, and returns when it has.
        """
        ...

    def statistics(self) -> dict[str, int]:
        """Return counts."""
        ...

    async def close(self) -> None:
        """Stop what still runs, at once, and release everything."""
        ...


def check_name(name: object, step: str) -> str:
    """Return the name of an executor; raises ``ConfigurationError`` for what is none, or a misspelt known one."""
    if not isinstance(name, str) or not name:
        raise ConfigurationError(f"executor of {step} is {name!r}.", hint=f"Known are {', '.join(KNOWN)}.")
    if name not in KNOWN and (meant := nearest(name, KNOWN, 0.7)):
        raise ConfigurationError(f"executor of {step} is {name!r}.", hint=f"Did you mean {meant!r}?")
    return name


def not_configured(name: str, step: str, there: list[str]) -> ConfigurationError:
    """Return the error for a step whose executor this process does not have."""
    return ConfigurationError(
        f"Step {step} wants the executor {name!r}, which is not configured here; there are {', '.join(there)}.",
        hint=f"Hand it in: Reprise(executors={{{name!r}: …}}), or declare the step with another.",
    )
