"""Workflows: the functions whose runs are durable."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Iterable, Mapping
from datetime import timedelta
from functools import partial
from typing import Any, Literal, ParamSpec, TypeVar, overload

from reprise.kernel.budget import Budget
from reprise.kernel.errors import ConfigurationError
from reprise.kernel.limit import Limit, parse_limits
from reprise.kernel.policy import seconds
from reprise.runtime.step import Recorded, Step, check_options

P = ParamSpec("P")
R = TypeVar("R")

OnParentEnd = Literal["cancel", "wait", "abandon"]
OPTIONS = ("name", "key", "on_parent_end", "limits", "budget", "undo_deadline")


class Workflow(Recorded[P, R]):
    """An async function whose runs are durable. Made by :func:`workflow`.

    Called in the body of another run it becomes a child run: recorded there as one step, with a history of its own.
    Called anywhere else it is the plain function.
    """

    what = "workflow"
    declared = True
    undoes: Mapping[str, Step[..., Any]] = {}
    """By their names, steps with ``undo=`` that only this workflow has; all others are known by their functions."""
    definition: Any = None
    """What a flow was made of, which has its function in common with others; None of a workflow that is all its own."""

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str = "",
        key: str = "",
        on_parent_end: OnParentEnd = "cancel",
        limits: Limit | Iterable[Limit] = (),
        budget: Budget | None = None,
        undo_deadline: float | timedelta | None = None,
    ) -> None:
        if not inspect.iscoroutinefunction(function):
            raise ConfigurationError(
                f"@workflow needs an async function, {getattr(function, '__qualname__', function)!r} is none.",
                hint="Write 'async def'; synchronous work belongs into a @step.",
            )
        if on_parent_end not in ("cancel", "wait", "abandon"):
            raise ConfigurationError(
                f"on_parent_end of {function.__name__} is {on_parent_end!r}; it may be 'cancel', 'wait' or 'abandon'."
            )
        on_cancel = "abandon" if on_parent_end == "abandon" else "wait"
        super().__init__(function, name=name or function.__name__, key=key, on_cancel=on_cancel)
        self.on_end = on_parent_end
        self.limits = parse_limits(limits, self.name)
        self.budget = budget
        self.undo_deadline = None if undo_deadline is None else seconds(undo_deadline, "undo_deadline")

    def does_as(self, other: Workflow[..., Any]) -> bool:
        """Return whether it does a run as another one would."""
        return self.function is other.function

    def options(self, **changes: Any) -> Workflow[P, R]:
        """Return the same workflow with other options: ``key``, ``on_parent_end``, ``limits``, ``budget``,
        ``undo_deadline``.
        """
        check_options("@workflow", changes, OPTIONS)
        options: dict[str, Any] = {
            "name": self.name,
            "key": self.key,
            "on_parent_end": self.on_end,
            "limits": self.limits,
            "budget": self.budget,
            "undo_deadline": self.undo_deadline,
        }
        return Workflow(self.function, **(options | changes))


@overload
def workflow(function: Callable[P, Coroutine[Any, Any, R]], /) -> Workflow[P, R]: ...
@overload
def workflow(**options: Any) -> Callable[[Callable[P, Coroutine[Any, Any, R]]], Workflow[P, R]]: ...


def workflow(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Make an async function a workflow.

    Its body may use everything of asyncio that does not touch the outside (gather, TaskGroup, Lock, Queue, timeout,
    sleep …); the outside is reached through steps, signals and child runs.

    Options:
        name: what the log calls it; default the function's name. Renaming it strands runs in flight.
        on_parent_end: what becomes of it, as a child, when its parent ends: "cancel", "wait" (the parent's end
            waits), "abandon" (it goes on alone).
        limits: how many of its runs may execute at once, or begin in a time: a Limit, or several.
        budget: what a run may spend, a Budget; of a child, what its parent allots to it.
        undo_deadline: seconds (or timedelta) that undoing what a run did may take; what is left then is a person's to
            see to. None = as long as it takes.

    Raises:
        ConfigurationError: the function is not async.
        UnknownOption: a name is misspelt.
    """
    check_options("@workflow", options, OPTIONS)
    return partial(_make, options) if function is None else _make(options, function)


def _make(options: dict[str, Any], function: Callable[..., Any]) -> Workflow[..., Any]:
    return Workflow[..., Any](function, **options)
