"""How the operations of an API are called: limits, selections, and who may change something."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any

from reprise.kernel.clock import Clock
from reprise.kernel.errors import ConfigurationError, ToolError
from reprise.kernel.policy import seconds
from reprise.tools.library.extras import library
from reprise.tools.tool import TIMEOUT

MAX_BYTES = 1 << 20
"""Bytes of a result as JSON."""


@dataclass(frozen=True)
class OperationOptions:
    """What is made of the answers of an operation.

    ``select`` is a JMESPath expression: what of an answer is returned. ``max_rows`` and ``max_bytes`` cut a result at its
    rows, and say so in a warning. ``all_pages`` is how many pages are fetched at most and made one answer. ``timeout`` is
    that of a call with its retries and pages, in seconds or as timedelta. ``description`` is told to models instead of
    what the specification says.

    >>> OperationOptions(select="items[].{id: id, name: name}", max_rows=50, all_pages=5).max_rows
    50

    Raises ``ConfigurationError`` for an expression that cannot be read, and limits that are not positive.
    """

    select: str = ""
    max_rows: int | None = None
    max_bytes: int = MAX_BYTES
    all_pages: int = 1
    timeout: float | timedelta = TIMEOUT
    description: str = ""

    def __post_init__(self) -> None:
        """Check the limits."""
        if min(self.max_bytes, self.all_pages, 1 if self.max_rows is None else self.max_rows) < 1:
            raise ConfigurationError("max_rows, max_bytes and all_pages must be positive.")
        if seconds(self.timeout, "timeout") <= 0:
            raise ConfigurationError("timeout must be positive.")
        if self.select:
            _ = self._selection

    @cached_property
    def _selection(self) -> Any:
        jmespath = library("jmespath", "openapi")
        try:
            return jmespath.compile(self.select)
        except (jmespath.exceptions.JMESPathError, RecursionError) as error:
            raise ConfigurationError(
                f"select={self.select!r} cannot be read: {error}".replace("\n", " ")
            ) from None

    def selected(self, value: Any) -> Any:
        """Return what is selected of an answer. Raises ``ToolError`` with code ``upstream`` where that cannot be."""
        if not self.select:
            return value
        try:
            return self._selection.search(value)
        except Exception as error:
            raise ToolError("upstream", f"select={self.select!r} does not fit the answer: {error}") from error


def options_for(name: str, given: Mapping[str, OperationOptions]) -> OperationOptions:
    """Return the options of a tool: of its name, or of the first pattern that fits it."""
    if name in given:
        return given[name]
    return next((each for pattern, each in given.items() if fnmatchcase(name, pattern)), _USUAL)


_USUAL = OperationOptions()


@dataclass
class Pace:
    """How often an API is called: so many calls in so many seconds, by all tools of it together."""

    rate: tuple[int, float | timedelta] | None
    _calls: deque[float] = field(default_factory=deque[float])

    def __post_init__(self) -> None:
        """Check the rate."""
        if self.rate is not None and (self.rate[0] < 1 or seconds(self.rate[1], "rate") <= 0):
            raise ConfigurationError(f"rate={self.rate}", hint="Give (calls, seconds), both positive.")

    def wait(self, clock: Clock) -> float:
        """Count a call and return 0, or count none and return the seconds until one may be made."""
        if self.rate is None:
            return 0.0
        number, period = self.rate[0], seconds(self.rate[1], "rate")
        now = clock.monotonic()
        while self._calls and self._calls[0] <= now - period:
            self._calls.popleft()
        if len(self._calls) >= number:
            return self._calls[0] + period - now
        self._calls.append(now)
        return 0.0


@dataclass(frozen=True)
class Filter:
    """Which operations become tools: by tag, by path and by method; a path may have ``*``."""

    tags: Sequence[str] = ()
    paths: Sequence[str] = ()
    methods: Sequence[str] = ()
    deprecated: bool = False

    def __post_init__(self) -> None:
        """Check that lists are lists."""
        for name in ("tags", "paths", "methods"):
            if isinstance(value := getattr(self, name), str):
                raise ConfigurationError(f"{name}={value!r}", hint=f"Give a list: {name}=[{value!r}].")

    def refusal(self, method: str, path: str, tags: Iterable[str], *, deprecated: bool) -> str:
        """Return why an operation is left out, '' = it is not."""
        if deprecated and not self.deprecated:
            return "deprecated"
        if self.tags and not set(self.tags) & set(tags):
            return "none of the tags"
        if self.paths and not any(fnmatchcase(path, pattern) for pattern in self.paths):
            return "none of the paths"
        if self.methods and method not in {each.lower() for each in self.methods}:
            return "none of the methods"
        return ""
