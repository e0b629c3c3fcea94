"""What passes between us and the process of a plugin: JSON in both directions, each message behind its length."""

from __future__ import annotations

from typing import Any

import msgspec

from reprise.kernel.errors import ToolError
from reprise.tools.tool import Effect

MOST = 64 << 20
"""Bytes that a message from the process may have."""
LONGEST = 4_000
"""Characters of a text for people that cross."""
CODES = frozenset(
    "invalid_input not_found too_large timeout permission_denied rate_limited unavailable conflict upstream".split()
)


class Fault(msgspec.Struct, frozen=True):
    """A ``ToolError``."""

    code: str
    what: str
    hint: str = ""
    field: str = ""
    retry_after: float | None = None

    @classmethod
    def of(cls, error: ToolError) -> Fault:
        """Return an error as it crosses."""
        return cls(error.code, error.what, error.hint, error.field, error.retry_after)

    def error(self) -> ToolError:
        """Return the error again; a code that there is not is ``upstream``."""
        code = self.code if self.code in CODES else "upstream"
        return ToolError(
            code,
            shortened(self.what),
            hint=shortened(self.hint),
            field=shortened(self.field),
            retry_after=self.retry_after,
        )


def shortened(text: str) -> str:
    """Return a text of the process as it is passed on: not longer than a page."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


# ---------------------------------------------------------------- to the process


class Load(msgspec.Struct, frozen=True, tag=True):
    """The first message: the plugin itself, as it was hashed."""

    name: str
    entry: str
    where: str
    files: dict[str, bytes]
    permissions: list[str]
    memory: int
    """Bytes that it may have."""


class Call(msgspec.Struct, frozen=True, tag=True):
    """Call a tool."""

    id: int
    tool: str
    arguments: dict[str, Any]
    caller: str
    run: str
    key: str
    """Its idempotency key."""


class Cancel(msgspec.Struct, frozen=True, tag=True):
    """Nobody waits for a call any more."""

    id: int


class Answer(msgspec.Struct, frozen=True, tag=True):
    """What came of something that the process asked."""

    id: int
    value: Any = None
    fault: Fault | None = None


Order = Load | Call | Cancel | Answer
read_order = msgspec.json.Decoder(Order).decode

# ---------------------------------------------------------------- from the process


class Described(msgspec.Struct, frozen=True):
    """A tool as it is known from outside."""

    name: str
    description: str
    parameters: dict[str, Any]
    returns: dict[str, Any]
    effects: Effect
    idempotent: bool
    tags: list[str]
    timeout: float
    max_input: int
    max_output: int
    is_async: bool


class Ready(msgspec.Struct, frozen=True, tag=True):
    """The plugin is loaded."""

    tools: list[Described]


class Failed(msgspec.Struct, frozen=True, tag=True):
    """It could not be loaded."""

    why: str


class Returned(msgspec.Struct, frozen=True, tag=True):
    """What a call returned."""

    id: int
    value: Any
    warnings: list[str] = []


class Raised(msgspec.Struct, frozen=True, tag=True):
    """How a call failed."""

    id: int
    fault: Fault
    warnings: list[str] = []


class Ask(msgspec.Struct, frozen=True, tag=True):
    """A call of one of our tools, wanted by the call ``within``."""

    id: int
    within: int
    tool: str
    arguments: dict[str, Any]


Said = Ready | Failed | Returned | Raised | Ask
read_said = msgspec.json.Decoder(Said).decode
