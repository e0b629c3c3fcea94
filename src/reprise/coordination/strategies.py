"""What becomes of a write when the key lives already, or is not at the version that was expected."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias, cast, get_args

from reprise.coordination.combining import Decide, Decision, Present
from reprise.coordination.merging import merge_patch
from reprise.kernel.errors import ConfigurationError, StateConflict, nearest

Name = Literal["last_write_wins", "first_write_wins", "merge", "reject"]
Resolve = Callable[[Any, Any], Any]
"""Return what is to be kept of what there is and what is offered. May be called more than once for one write."""
Strategy: TypeAlias = "Name | Resolve"

STRATEGIES = cast("tuple[Name, ...]", get_args(Name))

Encode = Callable[[str, Any], bytes]


def checked_strategy(strategy: Strategy | None, expected_version: int | None) -> Strategy:
    """Return the strategy that is meant; without one a write that expects a version is refused where that differs.

    >>> checked_strategy(None, None), checked_strategy(None, 3), checked_strategy("merge", 3)
    ('last_write_wins', 'reject', 'merge')
    """
    if strategy is None:
        return "last_write_wins" if expected_version is None else "reject"
    if callable(strategy) or strategy in STRATEGIES:
        return strategy
    near = nearest(str(strategy), STRATEGIES)
    raise ConfigurationError(
        f"There is no strategy {strategy!r}.",
        hint=f"Did you mean {near!r}?" if near else f"Use one of {', '.join(STRATEGIES)}, or a function.",
    )


def deciding(
    key: str, value: Any, strategy: Strategy, expected_version: int | None, ttl: float | None, encode: Encode
) -> Decide:
    """Return what decides about a write.

    There is a conflict when the key lives, and no version is expected or another one.
    """
    resolve = cast("Resolve", strategy)

    def decide(present: Present) -> Decision:
        if not present.exists or present.version == expected_version:
            fresh = merge_patch(None, value) if strategy == "merge" else value
            return Decision(fresh, encode(key, fresh), ttl)
        if strategy == "first_write_wins":
            return Decision(present.value, None, is_written=False)
        if strategy == "reject":
            raise conflict_at(key, present, expected_version)
        merged = merge_patch(present.value, value) if strategy == "merge" else resolve(present.value, value)
        return Decision(merged, encode(key, merged), ttl)

    return decide


def conflict_at(key: str, present: Present, expected_version: int | None) -> StateConflict:
    """Return the error for a key that is not as it was expected."""
    has = f"is at version {present.version}" if present.exists else "does not exist"
    wanted = f", and version {expected_version} was expected" if expected_version else ""
    return StateConflict(
        f"The key {key} {has}{wanted}; nothing was written.",
        hint="Read it again and decide anew, or choose another strategy.",
        key=key,
        version=present.version if present.exists else 0,
        expected=expected_version,
    )
