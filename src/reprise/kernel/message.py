"""What one says to another: agents, topics, queues and services all carry this one value."""

from __future__ import annotations

from typing import Any

import msgspec

from reprise.kernel.clock import MICROSECONDS
from reprise.kernel.priority import Priority


class Message(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One message; the classes of the rooms are views of it.

    >>> ask = Message(id="1", sender="ann", to="bob", kind="question", body={"of": "tea"})
    >>> answer = ask.reply("2", True, kind="answer")
    >>> answer.sender, answer.to, answer.correlation_id
    ('bob', 'ann', '1')
    """

    id: str
    """Also what duplicates are dropped by."""
    sender: str = ""
    to: str = ""
    """An agent, a topic or a queue."""
    kind: str = ""
    body: Any = None
    headers: dict[str, str] = {}
    priority: Priority = Priority.NORMAL
    correlation_id: str = ""
    """What belongs together: an answer carries the id of its question."""
    reply_to: str = ""
    """Where an answer goes, if not to the sender."""
    at: int = 0
    """When it was sent: microseconds since the epoch."""
    ttl: float | None = None
    """Seconds after ``at`` in which it is worth delivering; None = for ever."""

    @property
    def expires_at(self) -> int | None:
        """Microseconds since the epoch from which on nobody wants it, None = never."""
        return None if self.ttl is None else self.at + round(self.ttl * MICROSECONDS)

    def is_expired(self, now: int) -> bool:
        """Return whether its time is over at ``now`` (microseconds since the epoch)."""
        end = self.expires_at
        return end is not None and now >= end

    def reply(self, id: str, body: Any, *, kind: str = "", at: int = 0) -> Message:
        """Return an answer: back to where this one wants it, with its correlation and priority."""
        return Message(
            id=id,
            sender=self.to,
            to=self.reply_to or self.sender,
            kind=kind or self.kind,
            body=body,
            priority=self.priority,
            correlation_id=self.correlation_id or self.id,
            at=at,
        )
