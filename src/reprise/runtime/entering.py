"""A run comes into memory: its input is read as this code declares it, and its body made."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from contextvars import ContextVar
from typing import Any, TypeVar

from reprise.kernel.codec import standard
from reprise.kernel.errors import CodecError, NonDeterminismError
from reprise.kernel.events import Started
from reprise.runtime.branch import BRANCH, RUN, Branch
from reprise.runtime.execution import Execution
from reprise.runtime.history import History
from reprise.runtime.host import Host
from reprise.runtime.workflow import Workflow

E = TypeVar("E", bound=Execution)

Variables = Mapping[str, ContextVar[Any]]
"""Context variables that enter bodies, by the name under which they are recorded."""


def enter(
    kind: type[E],
    host: Host,
    id: str,
    token: int,
    history: History,
    workflow: Workflow[..., Any],
    known: Variables,
) -> E:
    """Return the execution of a run, of which nothing was driven yet.

    Raises:
        NonDeterminismError: its input does not fit the workflow any more.
    """
    started = history.started
    try:
        args, kwargs = workflow.arguments.decode(started.input)

        def body(execution: Execution) -> Coroutine[Any, Any, Any]:
            BRANCH.set(Branch(""))
            RUN.set(execution)
            if started.variables:
                _set(started, known)
            return workflow.function(*args, **kwargs)

        return kind(host, id, token, history, workflow, body)
    except (CodecError, TypeError) as error:
        raise NonDeterminismError(
            f"The input of run {id} does not fit {workflow.name!r} any more. {error}",
            hint="Run it with the code that started it.",
        ) from error


def _set(started: Started, known: Variables) -> None:
    for name, value in started.variables.items():
        if name in known:
            known[name].set(standard.decode(bytes(value)))
