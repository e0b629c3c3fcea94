"""Results of pure steps, kept for all runs of a store by what was asked.

An entry is a stream ``cache/<digest>`` of name, version of the code and arguments; its latest record is the result. It is
written in the commit of the step that computed it, so it costs none of its own. Who finds one that still holds records
it as the outcome of its step, like any other; that of a step that was looked up in vain is computed. Two that look at
the same moment both compute: they are pure. In a sealed store the digest is keyed, so nobody learns from it what was
asked, and a hit never comes from under another key.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING, Any, cast

import msgspec

from reprise.kernel.arguments import fingerprint
from reprise.kernel.clock import MICROSECONDS
from reprise.kernel.codec import standard
from reprise.kernel.errors import CodecError, ConfigurationError, RepriseError, StoreError
from reprise.kernel.events import Kind, Record, cache_stream
from reprise.runtime.host import Job
from reprise.runtime.pipelining import become_pipelined
from reprise.runtime.step import Step
from reprise.stores.packing import digest

if TYPE_CHECKING:
    from reprise.runtime.engine import Engine


class Cache:
    """The cached results of one engine's store."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.hits = self.misses = 0

    def start(self, job: Job) -> None:
        """Look a call up; execute it when there is no result that holds."""
        try:
            entry = self._stream(job)
        except Exception as error:  # it cannot be called so, or its arguments cannot be written
            value = self._engine.payloads.failure(error)
            job.execution.job_ended(job, Kind.STEP_FAILED, msgspec.json.encode(value), 0)
            return
        become_pipelined(job.execution).entries[job.key] = entry
        self._engine.spawn(self._look_up(job, entry))

    def _stream(self, job: Job) -> str:
        step: Step[..., Any] = job.step
        asked = step.arguments.canonical(job.args, job.kwargs)
        return cache_stream(digest(self._engine.store, identity(step) + b"\0" + asked))

    async def _look_up(self, job: Job, entry: str) -> None:
        found = await self._find(job, entry)
        if job.asked or job.execution.done:
            return
        if found is None:
            self.misses += 1
            self._engine.pool.start([job])
        else:
            self.hits += 1
            job.execution.job_ended(job, Kind.STEP_COMPLETED, found.data, -max(1, found.took))

    async def _find(self, job: Job, entry: str) -> Record | None:
        log = self._engine.store.log
        try:
            records = await log.read(entry)
        except StoreError:
            return None  # what cannot be read is computed; whether the store works shows when it is recorded
        if len(records) > 1:
            self._engine.spawn(log.trim(entry, records[-1].version - 1))
        return records[-1] if records and self._holds(job.step, records[-1]) else None

    def _holds(self, step: Step[..., Any], record: Record) -> bool:
        now = self._engine.now()
        if record.print and now >= record.print:
            return False
        if step.cache is not True and now >= record.at + round(step.cache * MICROSECONDS):
            return False
        try:
            step.decode(record.data)
        except RepriseError:
            return False  # the declared type is another one by now
        return True


# ---------------------------------------------------------------- what a call is


def identity(step: Step[..., Any]) -> bytes:
    """Return what a step is apart from its arguments: its name, and its version or its code.

    Raises ``ConfigurationError`` where the code is not all there is to know and no version was given.
    """
    function = step.function
    module = function.__module__
    if module == "__main__":  # which is many
        module = Path(getattr(sys.modules[module], "__file__", None) or "").stem
    version = step.version or "\0".join(_code_of(step))
    asked_by_default = fingerprint("", getattr(function, "__defaults__", None) or (), _named(function))
    return msgspec.json.encode([module, step.name, version, asked_by_default])


def _named(function: Callable[..., Any]) -> dict[str, Any]:
    return getattr(function, "__kwdefaults__", None) or {}


def _code_of(step: Step[..., Any]) -> Iterator[str]:
    """Yield what the code of a step says: its instructions, names and constants, and what it closes over."""
    function: Any = step.function
    while function is not None:
        code = getattr(function, "__code__", None)
        if code is None:
            raise ConfigurationError(
                f"Step {step.name} has no Python code to know it by.", hint="Give it a version=."
            )
        yield from _parts(code)
        for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            try:
                yield standard.canonical(cell.cell_contents).hex()
            except (CodecError, ValueError) as error:
                raise ConfigurationError(
                    f"What step {step.name} returns may depend on {name!r}, which it closes over and which cannot be "
                    "compared.",
                    hint="Make it an argument, or give the step a version=.",
                ) from error
        function = getattr(function, "__wrapped__", None)


def _parts(code: CodeType) -> Iterator[str]:
    yield code.co_code.hex()
    yield from (*code.co_names, *code.co_varnames)
    for constant in code.co_consts:
        yield from _constant(constant)


def _constant(value: Any) -> Iterator[str]:
    if isinstance(value, CodeType):
        yield from _parts(value)
    elif isinstance(value, frozenset):
        # Their order differs from process to process.
        yield from sorted(map(repr, cast("frozenset[Any]", value)))
    elif isinstance(value, tuple):
        for item in cast("tuple[Any, ...]", value):
            yield from _constant(item)
    else:
        yield repr(value)
