"""What passes between a worker and the processes of its steps: JSON, each frame behind its length. No pickle.

>>> frames = Frames()
>>> data = frame(Load(Origin("shop", "", "charge"))) + frame(Quit())
>>> [read_order(each) for each in frames.feed(data[:3]) + frames.feed(data[3:])]
[Load(origin=Origin(module='shop', file='', name='charge', package='')), Quit()]
"""

from __future__ import annotations

from typing import Any

import msgspec

from reprise.kernel.events import ErrorValue, Intended
from reprise.runtime.executors.origins import Origin

LENGTH = 4
"""Bytes in front of a frame: its length, big-endian."""
MOST = 0xFFFF_FFFF
ROOM = 1 << 20
"""Bytes that a frame may have beyond the largest payload."""
LONGEST = ROOM // 16
"""Characters of a text for people that cross; as JSON, one may take six bytes."""


class BrokenFrame(Exception):
    """What arrived is no frame of ours, or is too large to be one."""


class Frames:
    """Finds the frames in a stream of bytes, in whatever pieces it arrives."""

    def __init__(self, most: int = MOST) -> None:
        self.most = most
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Take what arrived and return the frames that are complete; raises ``BrokenFrame`` for one too large."""
        rest = self._rest
        rest += data
        found: list[bytes] = []
        at = 0
        while len(rest) - at >= LENGTH:
            end = at + LENGTH + self.size(rest[at : at + LENGTH])
            if end > len(rest):
                break
            found.append(bytes(rest[at + LENGTH : end]))
            at = end
        del rest[:at]
        return found

    def size(self, head: bytes | bytearray) -> int:
        """Return the length that stands in front of a frame; raises ``BrokenFrame`` for one too large."""
        size = int.from_bytes(head, "big")
        if size > self.most:
            raise BrokenFrame(f"a frame of {size:,} bytes, where {self.most:,} are the most")
        return size


def frame(message: Order | Answer) -> bytes:
    """Return a message as a frame; raises ``BrokenFrame`` for one whose length cannot be written."""
    data = msgspec.json.encode(message)
    if len(data) > MOST:
        raise BrokenFrame(f"a frame of {len(data):,} bytes")
    return len(data).to_bytes(LENGTH, "big") + data


# ---------------------------------------------------------------- to the process


class Hello(msgspec.Struct, frozen=True, tag=True):
    """The first frame: what the process takes over from its worker."""

    argv: list[str]
    levels: dict[str, int]
    """Levels of loggers, '' = the root's."""
    beat: float
    """Seconds between signs of life."""
    most: int
    """Bytes that a frame may have."""


class Load(msgspec.Struct, frozen=True, tag=True):
    """Import a function."""

    origin: Origin


class Variable(msgspec.Struct, frozen=True):
    """A context variable by module and name, and its value."""

    module: str
    name: str
    value: msgspec.Raw


class Do(msgspec.Struct, frozen=True, tag=True):
    """Call a function that was loaded."""

    origin: Origin
    step: str
    run: str
    work: str
    """In what idempotency keys are counted."""
    key: str
    attempt: int
    call: msgspec.Raw
    """Arguments, by their declared types."""
    limit: int
    """Bytes that the result may have."""
    memory: int | None = None
    cpu: float | None = None
    variables: list[Variable] = []
    pure: bool = False
    intent: Intended | None = None
    """The durable intent of the call, if it has one."""


class Quit(msgspec.Struct, frozen=True, tag=True):
    """End in order."""


Order = Hello | Load | Do | Quit
read_order = msgspec.json.Decoder(Order).decode

# ---------------------------------------------------------------- from the process


class Ready(msgspec.Struct, frozen=True, tag=True):
    """Orders can come; or, after ``Load``, the function is there."""


class Returned(msgspec.Struct, frozen=True, tag=True):
    """The call returned."""

    value: msgspec.Raw
    held: int
    """Bytes of memory of the process."""


class Raised(msgspec.Struct, frozen=True, tag=True):
    """The call, or the loading, raised."""

    error: ErrorValue
    held: int = 0
    spoilt: bool = False
    """The process has run out of memory and is better not used again."""


class Beat(msgspec.Struct, frozen=True, tag=True):
    """A sign of life; the first says that the order is begun."""


class Told(msgspec.Struct, frozen=True, tag=True):
    """How far the step is."""

    done: float
    total: float | None
    note: str


class Spent(msgspec.Struct, frozen=True, tag=True):
    """What the step says that it costs."""

    amounts: dict[str, int | float]


class GivenForUndo(msgspec.Struct, frozen=True, tag=True):
    """What the step sets as the arguments of its undo."""

    call: msgspec.Raw


class Logged(msgspec.Struct, frozen=True, tag=True):
    """A log record."""

    name: str
    level: int
    text: str
    path: str
    line: int
    function: str
    created: float
    trace: str = ""

    def fields(self) -> dict[str, Any]:
        """Return the attributes of the ``LogRecord``."""
        return {
            "name": self.name,
            "levelno": self.level,
            "msg": self.text,
            "pathname": self.path,
            "lineno": self.line,
            "funcName": self.function,
            "created": self.created,
            "exc_text": self.trace or None,
        }


class Wrote(msgspec.Struct, frozen=True, tag=True):
    """A chunk of partial output."""

    stream: str
    keep: int | None
    chunk: msgspec.Raw


News = Told | Spent | GivenForUndo | Logged | Wrote
Answer = Ready | Returned | Raised | Beat | News
read_answer = msgspec.json.Decoder(Answer).decode
