"""Orders to processes: where the function is, the arguments as data, and what is brought along."""

from __future__ import annotations

import contextvars
import os
import sys
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any

import msgspec

from reprise.kernel.codec import standard
from reprise.kernel.errors import ConfigurationError
from reprise.kernel.failures import decode_error
from reprise.runtime.executors.frames import Answer, Do, Raised, Returned, Variable
from reprise.runtime.executors.origins import Origin, look_up, origin_of
from reprise.runtime.host import Job
from reprise.runtime.intents import intent_of
from reprise.runtime.payloads import Payloads
from reprise.runtime.step import Step, function_of

AnyStep = Step[..., Any]


class Orders:
    """Writes orders; remembers where functions and variables are."""

    def __init__(self, payloads: Payloads, variables: Mapping[str, ContextVar[Any]]) -> None:
        self._payloads = payloads
        self._variables = variables
        self._names: dict[str, tuple[str, str]] = {}
        self._origins: dict[Callable[..., Any], Origin] = {}

    def origin(self, step: AnyStep) -> Origin:
        """Return where the step's function comes from, once it is sure that it is found there.

        Raises:
            ConfigurationError: it is not, or this system has no process groups.
        """
        if (known := self._origins.get(step.function)) is not None:
            return known
        if not hasattr(os, "killpg"):
            raise ConfigurationError(
                f"Step {step.name} cannot execute in a process: this system has no process groups (Windows).",
                hint='Declare it executor="thread" there.',
            )
        origin = origin_of(step.function, step.name)
        found = look_up(origin, sys.modules.get(origin.module))
        if found is None or function_of(found) is not step.function:
            raise ConfigurationError(
                f"Step {step.name} cannot execute in a process: {origin.module} has "
                f"{'another' if found is not None else 'no'} {origin.name!r}, so a process would not find it.",
                hint="Keep the function under its own name at the top level of its module.",
            )
        self._origins[step.function] = origin
        return origin

    def of(self, job: Job, origin: Origin) -> Do:
        """Return the order for a call. Raises ``CodecError`` for arguments that cannot be written, or are too large."""
        step: AnyStep = job.step
        call = step.arguments.encode(job.args, job.kwargs)
        call = self._payloads.within(call, "The arguments of step {} ({})", step.name, job.key)
        return Do(
            origin,
            step.name,
            job.execution.id,
            job.execution.work,
            job.key,
            job.attempt,
            msgspec.Raw(call),
            self._payloads.limit,
            step.memory,
            step.cpu,
            self._carried(job) if self._variables else [],
            step.pure,
            intent_of(job),
        )

    def _carried(self, job: Job) -> list[Variable]:
        """Return the declared context variables that the caller has set."""
        context = contextvars.copy_context() if job.context is None else job.context
        return [
            Variable(*self._name_of(name, variable), msgspec.Raw(standard.encode(context[variable])))
            for name, variable in self._variables.items()
            if variable in context
        ]

    def _name_of(self, name: str, variable: ContextVar[Any]) -> tuple[str, str]:
        if name not in self._names:
            found = _where_is(variable)
            if found is None:
                raise ConfigurationError(
                    f"The context variable {name!r} cannot enter a process: no module has it under a name.",
                    hint="Define it at the top level of a module that the step's module imports.",
                )
            self._names[name] = found
        return self._names[name]


def _where_is(value: object) -> tuple[str, str] | None:
    for module, found in list(sys.modules.items()):
        for name, each in list(getattr(found, "__dict__", {}).items()):
            if each is value:
                return module, name
    return None


def value_of(step: AnyStep, answer: Answer) -> Any:
    """Return what a call returned, or raise what it raised."""
    if isinstance(answer, Returned):
        return step.decode(bytes(answer.value))
    assert isinstance(answer, Raised)
    raise decode_error(answer.error, _class_here)


def _class_here(name: str) -> type[BaseException] | None:
    """Return the exception class of that full name if its module is loaded; nothing is imported."""
    module, inner = name, list[str]()
    while "." in module:
        module, _, last = module.rpartition(".")
        inner.insert(0, last)
        if (found := sys.modules.get(module)) is not None:
            cls = look_up(Origin(module, "", ".".join(inner)), found)
            return cls if isinstance(cls, type) and issubclass(cls, BaseException) else None
    return None
