"""How much a step in a process of its own may take."""

from __future__ import annotations

import re
from datetime import timedelta

from reprise.kernel.errors import ConfigurationError
from reprise.kernel.policy import seconds

_UNITS = {"": 1, "b": 1} | {
    f"{prefix}{unit}": base**power
    for power, prefix in enumerate("kmgt", 1)
    for unit, base in (("b", 1000), ("ib", 1024))
}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)", re.IGNORECASE)


def as_bytes(value: int | str, name: str) -> int:
    """Return a size in bytes: a number, or text such as "512MB" (10**6) or "1.5 GiB" (2**30).

    Raises ``ConfigurationError``, naming the option ``name``.

    >>> as_bytes("512MB", "memory"), as_bytes("1.5 GiB", "memory"), as_bytes(4096, "memory")
    (512000000, 1610612736, 4096)
    """
    given: object = value
    if isinstance(given, int) and not isinstance(given, bool) and given > 0:
        return given
    found = _SIZE.fullmatch(given.strip()) if isinstance(given, str) else None
    if (
        found is not None
        and (unit := _UNITS.get(found[2].lower()))
        and (size := round(float(found[1]) * unit))
    ):
        return size
    raise ConfigurationError(f"{name} is {given!r}.", hint='Give bytes, or text such as "512MB" or "2GiB".')


def as_limits(
    memory: int | str | None, cpu: float | timedelta | None, executor: str, step: str
) -> tuple[int | None, float | None]:
    """Return bytes and seconds that a step may take.

    Raises ``ConfigurationError`` for what is no size or no time, and where the executor cannot keep a limit.
    """
    if (memory, cpu) != (None, None) and executor in ("inline", "thread"):
        raise ConfigurationError(
            f"{step} has limits of memory or CPU but shares the process of its worker (executor {executor!r}).",
            hint='Only a process can be limited: @step(executor="process").',
        )
    limit = None if cpu is None else seconds(cpu, "cpu")
    if limit == 0:
        raise ConfigurationError(f"cpu of {step} is 0.", hint="Give seconds of CPU; None = no limit.")
    return None if memory is None else as_bytes(memory, "memory"), limit
