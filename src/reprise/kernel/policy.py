"""When and how often: durations, timeouts, retries, and which errors are worth a retry.

Numbers are seconds; a ``timedelta`` is accepted wherever a number is.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any, Literal, Never, TypeAlias, cast

import msgspec

from reprise.kernel.errors import (
    AmbiguousId,
    BodyError,
    BudgetExceeded,
    CodecError,
    ConfigurationError,
    InvalidTransition,
    MemoryExceeded,
    OutcomeUnknown,
    OutcomeUnknownStep,
    RunCancelled,
    RunConflict,
    RunEnded,
    RunNotFound,
    SchemaTooNew,
    SignalTypeError,
    StepRefused,
    StoreCorrupt,
    StoreReadOnly,
    ToolError,
    UnknownWorkflow,
    UnsupportedFileSystem,
    unknown_option,
)

Duration: TypeAlias = float | timedelta
"""Seconds, or a timedelta."""


def seconds(value: Duration, name: str = "duration") -> float:
    """Return a duration in seconds.

    Raises ``ConfigurationError``, naming the option ``name``, for what is no number, negative, NaN or infinite.

    >>> seconds(timedelta(minutes=2)), seconds(3)
    (120.0, 3.0)
    """
    given: object = value
    number = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(given, bool) or not isinstance(cast("object", number), int | float):
        raise ConfigurationError(f"{name} is {given!r}.", hint="Give seconds as a number, or a timedelta.")
    if not (math.isfinite(number) and number >= 0):
        raise ConfigurationError(
            f"{name} is {given!r}.", hint="Give 0 or more seconds; leave it out (None) for no limit."
        )
    return float(number)


def seconds_in(text: str) -> float:
    """Return the seconds of a length of time that a person wrote.

    Raises ``ConfigurationError`` for what is none.

    >>> seconds_in("90m") == seconds_in("1h30m") == 5_400
    True
    """
    parts = re.findall(r"(\d+(?:\.\d+)?)([smhdw])", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ConfigurationError(
            f"{text!r} is no length of time.", hint="Write 30d, 12h, 90m, 45s, 2w, or 1d12h."
        )
    sizes = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
    return sum(float(number) * sizes[unit] for number, unit in parts)


def minutes(n: float) -> float:
    """Return ``n`` minutes in seconds."""
    return n * 60.0


def hours(n: float) -> float:
    """Return ``n`` hours in seconds."""
    return n * 3600.0


def days(n: float) -> float:
    """Return ``n`` days of 24 hours in seconds."""
    return n * 86_400.0


def weeks(n: float) -> float:
    """Return ``n`` weeks in seconds."""
    return n * 604_800.0


class Timeout(msgspec.Struct, frozen=True):
    """How long something may take: one ``attempt``, and the ``total`` over all attempts and the waits between.

    None is no limit.
    """

    attempt: float | None = None
    total: float | None = None

    @classmethod
    def parse(cls, value: Timeout | Duration | None) -> Timeout:
        """Return a timeout; a bare duration is that of one attempt. Raises ``ConfigurationError``."""
        if isinstance(value, Timeout):
            return value
        return cls(None if value is None else seconds(value, "timeout"))

    def left(self, spent: float) -> float | None:
        """Return how long the next attempt may take when ``spent`` seconds of the total are gone.

        >>> Timeout(attempt=30, total=100).left(80)
        20
        """
        if self.total is None:
            return self.attempt
        rest = max(0, self.total - spent)
        return rest if self.attempt is None else min(self.attempt, rest)


# ---------------------------------------------------------------- what kind of failure


class Fault(Enum):
    """What an error says about trying again."""

    TRANSIENT = "transient"
    """It may pass: try again."""
    PERMANENT = "permanent"
    """The same call will fail again."""
    UNKNOWN = "unknown"
    """It may have happened: try again only what may happen twice."""


PERMANENT: tuple[type[BaseException], ...] = (
    TypeError, ValueError, LookupError, AttributeError, NameError, AssertionError, ArithmeticError, NotImplementedError,
    RecursionError, ImportError, SyntaxError, PermissionError, FileNotFoundError, FileExistsError, IsADirectoryError,
    NotADirectoryError, AmbiguousId, BodyError, BudgetExceeded, CodecError, ConfigurationError, InvalidTransition,
    MemoryExceeded, RunCancelled, RunConflict, RunEnded, RunNotFound, SchemaTooNew, SignalTypeError, StoreCorrupt,
    StepRefused, StoreReadOnly, UnknownWorkflow, UnsupportedFileSystem,
)  # fmt: skip
"""Errors of the program or of what it was given. ``UnicodeError`` is left out: broken text often comes from a broken
transfer."""

_PASSING = frozenset({408, 423, 425, 429})
"""Client errors of HTTP that pass by waiting: timeout, locked, too early, too many requests."""


_OF_TOOLS = {"timeout": Fault.UNKNOWN, "rate_limited": Fault.TRANSIENT}
"""By code; the others are permanent, and ``upstream`` is what caused it."""


def fault(error: BaseException) -> Fault:
    """Return what kind of failure an error is, by its class; of an HTTP error, by its status.

    A group is as bad as its worst member: permanent, then unknown, then transient.

    >>> fault(ConnectionResetError()), fault(KeyError("a"))
    (<Fault.TRANSIENT: 'transient'>, <Fault.PERMANENT: 'permanent'>)
    """
    if isinstance(error, BaseExceptionGroup):
        members = {fault(e) for e in cast("BaseExceptionGroup[BaseException]", error).exceptions}
        return next(kind for kind in (Fault.PERMANENT, Fault.UNKNOWN, Fault.TRANSIENT) if kind in members)
    if isinstance(error, OutcomeUnknown | OutcomeUnknownStep):
        return Fault.UNKNOWN
    if not isinstance(error, Exception):
        return Fault.PERMANENT  # cancelled, interrupted, exiting
    if isinstance(error, ToolError):
        if error.code == "upstream":
            return Fault.TRANSIENT if error.__cause__ is None else fault(error.__cause__)
        return _OF_TOOLS.get(error.code, Fault.PERMANENT)
    if isinstance(error, PERMANENT) and not isinstance(error, UnicodeError):
        return Fault.PERMANENT
    status = http_status(error)
    return Fault.PERMANENT if 400 <= status < 500 and status not in _PASSING else Fault.TRANSIENT


def http_status(error: BaseException) -> int:
    """Return the status of an HTTP error, 0 of any other: that of the error, or of its ``response``."""
    for holder in (getattr(error, "response", None), error):
        for name in ("status_code", "status"):
            if isinstance(status := getattr(holder, name, None), int):
                return status
    return 0


def retry_after(error: BaseException | None) -> float | None:
    """Return the seconds that whoever failed asks to wait, None when it does not ask.

    Read from ``error.retry_after`` (seconds or a timedelta) or from the ``Retry-After`` header of ``error.response``:
    seconds, or a date, which is counted from the response's own ``Date`` so that clocks need not agree.
    """
    wanted: object = getattr(error, "retry_after", None)
    if isinstance(wanted, timedelta):
        wanted = wanted.total_seconds()
    if wanted is None:
        headers: object = getattr(getattr(error, "response", None), "headers", None)
        if not isinstance(headers, Mapping):
            return None
        wanted = wait_in({str(k).lower(): str(v) for k, v in cast("Mapping[Any, Any]", headers).items()})
    if isinstance(wanted, bool) or not isinstance(wanted, int | float) or not math.isfinite(wanted):
        return None
    return max(0.0, float(wanted))


def wait_in(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Return the seconds that the headers of a response ask to wait, names in small letters; None = they do not ask.

    A date is counted from the response's own ``Date``, so that clocks need not agree; where it has none, from ``now``.
    """
    said = headers.get("retry-after", "").strip()
    try:
        wait = float(headers["retry-after-ms"]) / 1000 if "retry-after-ms" in headers else float(said)
        return max(0.0, wait) if math.isfinite(wait) else None
    except ValueError:
        pass
    try:
        since = _http_date(headers["date"]) if "date" in headers or now is None else now
        return max(0.0, (_http_date(said) - since).total_seconds())
    except (KeyError, ValueError):
        return None


def _http_date(text: str) -> datetime:
    return datetime.strptime(text, "%a, %d %b %Y %H:%M:%S GMT").replace(tzinfo=UTC)


# ---------------------------------------------------------------- retry

Errors: TypeAlias = type[BaseException] | tuple[type[BaseException], ...] | Callable[[BaseException], bool]
"""Which errors: a class, several, or a function that says so."""

_RETRIES = ("max_retries", "retries", "retry_count")
_OPTIONS = (
    "attempts", "backoff", "factor", "max_delay", "jitter", "retry_on", "give_up_on", "classify", "max_attempts",
    *_RETRIES,
)  # fmt: skip


class Retry:
    """How often something is tried, how long to wait in between, and after which errors.

    Args:
        attempts: how often in all, the first try included. The other words people use are understood:
            ``max_attempts`` is the same, ``max_retries``, ``retries`` and ``retry_count`` do not include the first try.
        backoff: seconds before the second attempt; each further wait is ``factor`` times longer.
        max_delay: longest wait in seconds. A wish of the other side (``Retry-After``) goes beyond it.
        jitter: ``"full"`` waits a random part of the delay, so that many who failed together do not come back
            together (Brooker, "Exponential Backoff and Jitter"); ``"none"`` waits all of it.
        retry_on: only these are tried again.
        give_up_on: these are not, whatever else holds.
        classify: asked first; returns a :class:`Fault`, or None to leave it to the rest.

    Raises ``ConfigurationError`` for numbers out of range and for two that disagree, ``UnknownOption`` for a typo.

    >>> Retry(4).delay(attempt=3, uniform=0.5)
    1.0
    >>> Retry(max_retries=3) == Retry(attempts=4)
    True
    """

    __slots__ = (
        "attempts",
        "backoff",
        "classifier",
        "factor",
        "give_up_on",
        "jitter",
        "max_delay",
        "retry_on",
    )

    def __init__(
        self,
        attempts: int | None = None,
        *,
        backoff: Duration = 0.5,
        factor: float = 2.0,
        max_delay: Duration = 60.0,
        jitter: Literal["full", "none"] = "full",
        retry_on: Errors | None = None,
        give_up_on: Errors | None = None,
        classify: Callable[[BaseException], Fault | None] | None = None,
        max_attempts: int | None = None,
        max_retries: int | None = None,
        retries: int | None = None,
        retry_count: int | None = None,
        **unknown: Never,
    ) -> None:
        for name in unknown:
            raise unknown_option(name, _OPTIONS, "Retry()")
        given = {"attempts": attempts, "max_attempts": max_attempts}
        given |= dict(zip(_RETRIES, (max_retries, retries, retry_count), strict=True))
        self.attempts = _attempts(given)
        self.backoff = seconds(backoff, "backoff")
        self.factor = seconds(factor, "factor")
        self.max_delay = seconds(max_delay, "max_delay")
        self.jitter = jitter
        self.retry_on = retry_on
        self.give_up_on = give_up_on
        self.classifier = classify
        if jitter not in ("full", "none"):
            raise ConfigurationError(f"jitter is {jitter!r}.", hint="It is 'full' or 'none'.")
        if self.factor < 1:
            raise ConfigurationError(f"factor is {factor!r}.", hint="Waits grow: give 1 or more.")

    def classify(self, error: BaseException) -> Fault:
        """Return whether an error is worth another attempt."""
        if self.classifier is not None and (said := self.classifier(error)) is not None:
            return said
        if self.give_up_on is not None and _matches(error, self.give_up_on):
            return Fault.PERMANENT
        if self.retry_on is not None:
            if _matches(error, self.retry_on):
                return Fault.TRANSIENT
            return Fault.UNKNOWN if fault(error) is Fault.UNKNOWN else Fault.PERMANENT
        return fault(error)

    def delay(self, attempt: int, uniform: float, error: BaseException | None = None) -> float:
        """Return the seconds to wait after attempt number ``attempt`` (from 1) failed with ``error``.

        ``uniform`` is a random number from 0 to 1, given by the caller. When the other side says how long to wait, it
        is never less than that.
        """
        try:
            delay = min(self.max_delay, self.backoff * self.factor ** (attempt - 1))
        except OverflowError:
            delay = self.max_delay
        if self.jitter == "full":
            delay *= uniform
        wanted = retry_after(error)
        # What is added to the wish is small: all who were told the same must not come back at the same moment.
        return delay if wanted is None else wanted + min(delay, self.backoff)

    def _values(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in self.__slots__)

    def __eq__(self, other: object) -> bool:
        return self._values() == other._values() if isinstance(other, Retry) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._values())

    def __repr__(self) -> str:
        return f"Retry(attempts={self.attempts}, backoff={self.backoff}, max_delay={self.max_delay})"


def _attempts(given: Mapping[str, int | None]) -> int:
    said = {name: n for name, n in given.items() if n is not None}
    for name, n in said.items():
        least = 0 if name in _RETRIES else 1
        if isinstance(n, bool) or not isinstance(cast("object", n), int) or n < least:
            raise ConfigurationError(f"{name} is {n!r}.", hint=f"Give a whole number from {least}.")
    meant = {name: n + 1 if name in _RETRIES else n for name, n in said.items()}
    if len(set(meant.values())) > 1:
        spelled = " and ".join(f"{name}={said[name]}" for name in said)
        raise ConfigurationError(
            f"{spelled} disagree.", hint="Give one of them; attempts counts the first try."
        )
    return next(iter(meant.values()), 3)


def _matches(error: BaseException, errors: Errors) -> bool:
    if isinstance(errors, type | tuple):
        return isinstance(error, errors)
    return bool(errors(error))


NO_RETRY = Retry(1)
"""One attempt."""
