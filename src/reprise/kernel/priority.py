"""How urgent something is: one scale for tasks, messages and workflows."""

from __future__ import annotations

from enum import IntEnum

from reprise.kernel.errors import unknown_option


class Priority(IntEnum):
    """Five steps of urgency; a greater one is more urgent.

    >>> Priority.HIGH > Priority.LOW
    True
    """

    BACKGROUND = 0
    LOW = 1
    NORMAL = 2
    HIGH = 3
    CRITICAL = 4

    @classmethod
    def parse(cls, value: Priority | str | int) -> Priority:
        """Return the priority of a member, a name in any case, or a member's number.

        Raises ``UnknownOption`` naming the nearest one.

        >>> Priority.parse("critical")
        <Priority.CRITICAL: 4>
        """
        try:
            return cls[value.upper()] if isinstance(value, str) else cls(value)
        except (KeyError, ValueError):
            raise unknown_option(str(value), [member.name.lower() for member in cls], "Priority") from None


TaskPriority = MessagePriority = WorkflowPriority = Priority
"""The documents' names of the one scale."""
