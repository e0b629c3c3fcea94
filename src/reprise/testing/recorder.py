"""A run that really happened, as a fixture: what its steps returned, to be played back without doing them.

A fixture is lines of JSON that people can read and edit: the first says which workflow ran with what, each of the others
what a step came to. :func:`scripted_from` makes a middleware of it.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from reprise.kernel.errors import ConfigurationError, RunNotFound
from reprise.kernel.events import ErrorValue, Kind, Record, Started, run_stream
from reprise.kernel.failures import decode_error, with_texts
from reprise.runtime.branch import name_in
from reprise.runtime.forking import generation_at
from reprise.runtime.history import STEP_KINDS
from reprise.runtime.middleware import Call, Next
from reprise.stores.archive import RecordLine, read_archive, to_record
from reprise.stores.store import Store
from reprise.testing.scripted import Unscripted

Redact = Callable[[str, Any], Any]
"""Called with the name of a step ('' = the run's input) and what is written of it; returns what may be written."""


class Opened(msgspec.Struct, frozen=True, tag="run", tag_field="line"):
    """The first line of a fixture."""

    run: str
    workflow: str
    input: Any
    """Positional and keyword arguments: ``[args, kwargs]``."""


class Came(msgspec.Struct, frozen=True, omit_defaults=True, tag="step", tag_field="line"):
    """What a step came to."""

    step: str
    key: str
    value: Any = None
    error: ErrorValue | None = None
    cancelled: bool = False


_decode = msgspec.json.Decoder(Opened | Came).decode
_MAKE = "record_fixture makes one of a run, record_exported of a run in an archive of reprise events export."


async def record_fixture(store: Store, run: str, path: Path | str, *, redact: Redact | None = None) -> int:
    """Write what the steps of a run came to into a fixture, and return how many there are; the store must be open.

    ``redact`` is given all that is written, step by step, and returns what may be written of it; of errors, texts. Of a run
    that continued it is the latest generation.

    Raises:
        RunNotFound: there is no such run.
    """
    return _write(run, await store.log.read(run_stream(run)), Path(path), redact)


def record_exported(
    archive: Path | str, path: Path | str, run: str = "", *, redact: Redact | None = None
) -> int:
    """Do the same with a run of an archive that ``reprise events export`` wrote; ``run`` '' = the first in it.

    Raises:
        RunNotFound: the archive has no such run.
        ArchiveCorrupt: it was changed, or cut off.
    """
    histories: dict[str, list[Record]] = defaultdict(list)
    for line in read_archive(Path(archive)):
        if isinstance(line, RecordLine) and line.stream.startswith(run_stream("")):
            histories[line.stream].append(to_record(line))
    stream = run_stream(run) if run else next(iter(histories), "")
    return _write(run or stream.removeprefix(run_stream("")), histories[stream], Path(path), redact)


def _write(run: str, records: Sequence[Record], path: Path, redact: Redact | None) -> int:
    if not records:
        raise RunNotFound(f"There is no run {run!r} there.", hint="reprise ps shows what runs there are.")
    history = generation_at(run, records, None)
    shown = redact or _as_it_is
    started = msgspec.json.decode(history[0].data, type=Started)
    opened = Opened(run, started.workflow, shown("", msgspec.json.decode(started.input)))
    came = [_came(record, shown) for record in history if record.kind in STEP_KINDS]
    path.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in (opened, *came)))
    return len(came)


def _as_it_is(step: str, value: Any) -> Any:
    return value


def _came(record: Record, shown: Redact) -> Came:
    name = name_in(record.key)
    if record.kind == Kind.STEP_COMPLETED:
        return Came(name, record.key, shown(name, msgspec.json.decode(record.data)))
    if record.kind == Kind.STEP_CANCELLED:
        return Came(name, record.key, cancelled=True)
    error = msgspec.json.decode(record.data, type=ErrorValue)
    return Came(name, record.key, error=with_texts(error, lambda text: str(shown(name, text))))


class Fixture:
    """A middleware that gives steps what they came to in a recorded run; nothing is executed.

    A call is known by its key; one whose key the recording does not have gets the next result of its name that no key
    took, so the code may have changed around it. Beyond that it is :class:`Unscripted`.
    """

    def __init__(self, opened: Opened, came: Iterable[Came]) -> None:
        self.run, self.workflow = opened.run, opened.workflow
        self.args: list[Any] = opened.input[0]
        """Positional arguments that the workflow was started with, as JSON has them."""
        self.kwargs: dict[str, Any] = opened.input[1]
        """The keyword arguments."""
        self._by_key = {each.key: each for each in came}
        self._by_name: dict[str, deque[Came]] = defaultdict(deque)
        for each in self._by_key.values():
            self._by_name[each.step].append(each)
        self.played: list[str] = []
        """Keys of the calls that were answered, in order."""

    async def __call__(self, call: Call, next: Next) -> Any:
        """Answer a call instead of the step."""
        came = self._by_key.get(call.key) or self._next_of(call.name)
        if came in self._by_name[call.name]:
            self._by_name[call.name].remove(came)
        self.played.append(call.key)
        if came.error is not None:
            raise decode_error(came.error)
        if (
            came.cancelled
        ):  # it came to nothing because it was cancelled: it has not returned before it is again
            await asyncio.get_running_loop().create_future()
        return call.job.step.decode(msgspec.json.encode(came.value))

    def _next_of(self, name: str) -> Came:
        line = self._by_name[name]
        if not line:
            known = ", ".join(each for each, left in self._by_name.items() if left) or "nothing"
            raise Unscripted(
                f"The recording of run {self.run} has no further result of {name!r}; left are those of: {known}. Record the "
                "run again, or write the line by hand."
            )
        return line[0]


def scripted_from(path: Path | str) -> Fixture:
    """Return a middleware that plays a fixture back: ``Reprise(…, middleware=[scripted_from(path)])``.

    Raises:
        ConfigurationError: the file is no fixture; says which line is none.
    """
    opened, *came = [_line(path, number, line) for number, line in enumerate(_lines(path), 1)] or [None]
    if not isinstance(opened, Opened):
        raise ConfigurationError(
            f"{path} does not begin as a fixture does, with the line that says which run it is of.",
            hint=_MAKE,
        )
    return Fixture(opened, [each for each in came if isinstance(each, Came)])


def _lines(path: Path | str) -> list[bytes]:
    return [line for line in Path(path).read_bytes().splitlines() if line.strip()]


def _line(path: Path | str, number: int, line: bytes) -> Opened | Came:
    try:
        return _decode(line)
    except msgspec.DecodeError as error:
        raise ConfigurationError(
            f"Line {number} of {path} is none of a fixture: {error}.", hint=_MAKE
        ) from error
