"""What may be recorded: how large a value may be, and what of the texts for people is left out."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from reprise.kernel.errors import PayloadTooLarge
from reprise.kernel.events import ErrorValue, Finished
from reprise.kernel.failures import encode_error, with_texts

LIMIT = 64 << 20
"""Bytes that a value may have, encoded, unless said otherwise."""

Redact = Callable[[str], str]
"""Returns a text without what must not be written."""


class Payloads:
    """The rules of one engine for what it records.

    ``limit`` is bytes of a value as JSON. ``redact`` is given every text that is written for people to read: log lines,
    notes of progress, texts of errors. It is never given a value that a step returned or a workflow was started with.

    >>> Payloads(redact=lambda text: text.replace("hunter2", "***")).failure(ValueError("bad: hunter2")).message
    'bad: ***'
    >>> Payloads(limit=3).within(b'"four"', "The result of step {}", "greet")
    Traceback (most recent call last):
    reprise.kernel.errors.PayloadTooLarge: The result of step greet has 6 bytes; payloads may have 3. ...
    """

    def __init__(self, limit: int = LIMIT, redact: Redact | None = None) -> None:
        self.limit = limit
        self._redact = redact

    def within(self, data: bytes, what: str, *names: str) -> bytes:
        """Return encoded data that is not too large; raises ``PayloadTooLarge``, which says ``what`` it is.

        ``names`` are put into it only then: this is asked of everything.
        """
        if len(data) > self.limit:
            raise self.too_large(len(data), what, *names)
        return data

    def too_large(self, size: int, what: str, *names: str) -> PayloadTooLarge:
        """Return the error for data of that many bytes."""
        return PayloadTooLarge(
            f"{what.format(*names)} has {size:,} bytes; payloads may have {self.limit:,}.",
            hint="Keep it elsewhere (a file, an object store) and hand on its name; or raise payloads.limit.",
        )

    def text(self, text: str) -> str:
        """Return a text for people as it may be written. What cannot be redacted is not written."""
        if self._redact is None:
            return text
        try:
            return self._redact(text)
        except Exception as error:
            return f"(not shown: redacting it failed with {type(error).__name__})"

    def failure(self, error: BaseException) -> ErrorValue:
        """Return an error as it may be recorded."""
        return self._recordable(encode_error(error))

    def end(self, finished: Finished) -> Finished:
        """Return the end of a run as it may be recorded."""
        if finished.error is None:
            return finished
        return msgspec.structs.replace(finished, error=self._recordable(finished.error))

    def _recordable(self, value: ErrorValue) -> ErrorValue:
        if self._redact is not None:
            value = with_texts(value, self.text)
        size = len(msgspec.json.encode(value))
        if size > self.limit:
            return encode_error(self.too_large(size, "An error of class {}", value.type))
        return value
