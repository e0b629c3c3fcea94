"""Patches: a body that was changed goes the new way in runs that come to the place now, and the old one in the others.

Which way a run goes is decided once for each patch, at its first call, and follows from the log alone: the new way, if
the record after which the body came to the call was written under this build; see ``docs/decisions/0021-checked-deploys.md``.
The new way is a record of its own, which is durable before anything that follows from it happens outside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from reprise.kernel.errors import ConfigurationError, NonDeterminismError
from reprise.kernel.events import Event, Kind, Patched, Record
from reprise.runtime.talk import body

if TYPE_CHECKING:
    from reprise.runtime.execution import Execution


class Patches:
    """What one run, in its latest generation, answered to patches."""

    __slots__ = ("answers", "known", "since", "unwritten")

    def __init__(self) -> None:
        self.known: dict[str, Patched] = {}
        """Those whose new way its history has."""
        self.since = -1
        """How many records it had when this build took it, or builds of this name in a row; -1 = it began with them."""
        self.answers: dict[str, bool] = {}
        """What the body was told; it is told the same again."""
        self.unwritten: dict[str, Patched] = {}
        """Those of which it is not durable that it takes the new way."""

    def answer(self, execution: Execution, id: str, *, deprecated: bool = False) -> bool:
        """Return whether the run takes the new way at a patch."""
        known = self.answers.get(id)
        if known is not None:
            return known
        new = self.answers[id] = id in self.known or execution.length > self.since
        if new and id not in self.known:
            self.unwritten[id] = Patched(deprecated)
            if execution.live:
                self.write(execution, id)
        return new

    def write(self, execution: Execution, *ids: str) -> None:
        """Record that the run takes the new way at patches; by default at all that were asked for while it was replayed."""
        for id in ids or tuple(self.unwritten):
            execution.record(Kind.PATCHED, id, msgspec.json.encode(self.unwritten[id]))

    def deliver(self, execution: Execution, record: Event | Record) -> None:
        """Note that it is durable which way the run took.

        Raises:
            NonDeterminismError: this code does not know the patch, and may have only the old way.
        """
        self.unwritten.pop(record.key, None)
        known = self.known.get(record.key)
        if record.key not in self.answers and known is not None and not known.deprecated:
            raise _unknown(execution, record.key)


def patched(id: str) -> bool:
    """Tell whether the run goes the new way at this place of a changed body.

    ``if patched("vat"): total = await add_vat(total)``. True in runs that had not passed this place when code with the patch took them, False in those whose history went past
    it without. The answer is recorded: it is the same in every replay, on every worker, and wherever the body asks again.
    When no run that answered False goes on any more, :func:`deprecate_patch` takes the place of the ``if``;
    ``reprise check`` says whether that is so. A next generation asks anew.

    Raises:
        BodyError: called outside of a body.
        ConfigurationError: the id is empty.
    """
    execution = body("patched()")
    return execution.patches.answer(execution, _checked(id))


def deprecate_patch(id: str) -> None:
    """Say that this code has only the new way of a patch: what is left of ``if patched(id)`` when the old way goes.

    A run that went the old way is stranded here, before anything is executed; ``reprise check`` finds it before that.
    When no run that began under :func:`patched` goes on any more, this call may go, too.

    Raises:
        NonDeterminismError: the run went the old way.
        BodyError: called outside of a body.
        ConfigurationError: the id is empty.
    """
    execution = body("deprecate_patch()")
    if execution.patches.answer(execution, _checked(id), deprecated=True):
        return
    error = NonDeterminismError(
        f"Run {execution.id} went past the patch {id!r} without it, and this code has only the new way.",
        hint=f"Keep the old way, under 'if not patched({id!r})', until no such run goes on.",
    )
    execution.loop.poison = execution.loop.poison or error
    raise error


def _checked(id: str) -> str:
    if not id:
        raise ConfigurationError("A patch needs an id.", hint='For instance patched("vat-2026").')
    return id


def _unknown(execution: Execution, id: str) -> NonDeterminismError:
    error = NonDeterminismError(
        f"Run {execution.id} takes the new way at the patch {id!r}, which this code does not ask for.",
        hint=f"Call deprecate_patch({id!r}) until no run that has the patch goes on.",
    )
    error.key = id
    return error
