"""What makes a keeper refuse an append: one rule for all keepers, without any I/O.

A keeper loads the heads of the streams that an append names, asks :func:`admit`, and writes. Groups of one append see
what the groups before them did, so a run and the first letter in its guarded inbox can be made in one commit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from reprise.kernel.errors import NoRoom, StaleToken, StaleVersion, StreamClosed, StreamMissing
from reprise.stores.log import ANY, EXISTS, Append, Group, Head

NO_STREAM = Head()
"""Head of a stream that does not exist."""

_EPOCH_BITS = 40
"""Tokens of one epoch: a million million; the epoch stands in the bits above."""


def floor_of(epoch: int) -> int:
    """Return the number below which tokens and positions belong to an earlier epoch of the store.

    >>> floor_of(0), floor_of(1)
    (0, 1099511627776)
    """
    return epoch << _EPOCH_BITS


def streams_of(append: Append) -> Iterable[str]:
    """Return the streams whose heads :func:`admit` will ask for; a name may come twice."""
    for group in append.groups:
        yield group.stream
        if group.guard:
            yield group.guard


def admit(append: Append, heads: Mapping[str, Head], floor: int = 0) -> dict[str, Head]:
    """Return the heads that change when the append is written; ``floor`` is that of the store's epoch.

    Raises ``AppendRefused`` (``NoRoom`` apart, which :func:`check_room` looks for) when a condition does not hold.
    """
    changed: dict[str, Head] = {}
    for group in append.groups:
        stream = group.stream
        if group.guard:
            _check_guard(group.guard, changed.get(group.guard) or heads.get(group.guard, NO_STREAM))
        head = changed.get(stream) or heads.get(stream, NO_STREAM)
        after = head_after(head, group, floor)
        if after is not head:
            changed[stream] = after
    return changed


def is_plain(group: Group, head: Head, floor: int) -> bool:
    """Return whether :func:`admit` would surely let the group in alone and change nothing but the version."""
    return (
        not (head.closed or group.takes or group.closes or group.guard)
        and group.run is None
        and not group.blobs
        and group.token == head.token
        and not 0 < group.token < floor
        and group.expected in (head.version, ANY)
        and len(group.events) > 0
    )


def head_after(head: Head, group: Group, floor: int = 0) -> Head:
    """Return the head of a group's stream after the group.

    A token of an earlier epoch writes nothing, even where the stream still has it: whoever holds it does not know what
    a restore took back.

    What a caller can do about a refusal differs, so of several reasons the most telling is given: a stream that should
    be new and is not, then one that has ended, then the lost token, and the version last.
    """
    version, expected, count = head.version, group.expected, len(group.events)
    if expected == 0 and version:
        raise StaleVersion(f"The stream {group.stream} must not exist yet and is at version {version}.")
    if not version and (expected == EXISTS or (not count and (group.takes or group.closes))):
        raise StreamMissing(f"The stream {group.stream} does not exist.")
    writes = count or group.takes or group.closes
    if writes and head.closed:
        raise StreamClosed(f"The stream {group.stream} has ended at version {version}.")
    if group.takes:
        if version and group.token <= head.token:
            raise _stale_token(head, group)
    elif group.token != head.token:
        raise _stale_token(head, group)
    if writes and 0 < group.token < floor:
        raise StaleToken(
            f"The token {group.token} for the stream {group.stream} is older than the restore of this store."
        )
    if expected > 0 and expected != version:
        raise StaleVersion(
            f"The stream {group.stream} was expected at version {expected} and is at {version}."
        )
    if not writes:
        return head
    return Head(version + count, group.token if group.takes else head.token, group.closes)


def _stale_token(head: Head, group: Group) -> StaleToken:
    what = "take it with" if group.takes else "write with"
    return StaleToken(
        f"The stream {group.stream} is held under token {head.token}; somebody tried to {what} {group.token}."
    )


def _check_guard(stream: str, head: Head) -> None:
    if not head.version:
        raise StreamMissing(f"The stream {stream} does not exist.")
    if head.closed:
        raise StreamClosed(f"The stream {stream} has ended at version {head.version}.")


def check_room(append: Append, others: Callable[[str, str], int | None]) -> None:
    """Raise ``NoRoom`` when an append wants a place in a lane that others have filled.

    ``others(lease, run)`` counts the places that other runs have, and is None when the run has one already: that one
    stays its own, also when fewer are allowed by now.
    """
    wanted: dict[str, int] = {}
    for group in append.groups:
        for slot in group.slots or ():
            assert group.run is not None, "places are a run's"
            taken = others(slot.lease, group.run.id)
            if taken is None:
                continue
            taken += wanted.get(slot.lease, 0)
            if taken >= slot.most:
                raise NoRoom(f"Run {group.run.id} needs a place of {slot}; {taken} are taken.")
            wanted[slot.lease] = wanted.get(slot.lease, 0) + 1
