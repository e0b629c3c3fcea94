r"""Regular expressions that strangers write, such as models: they find what they say, and cannot hang a process.

They are matched by RE2 (extra ``text``), which never goes back in a text: it takes at most the size of the pattern
times that of the text, whatever they are. Looked at beside it was ``regex`` with its ``timeout=``. Of 34 patterns that are
known to hang others, RE2 answers each within 5 ms; ``regex`` does not end in 3 s with 9 of them, ``re`` with 27. A timeout also
makes what is found depend on how busy a machine is, and a pure tool must answer the same each time. RE2 is a wheel of
0.6 MB (``regex`` 0.8), loads in 9 ms (15), and other threads go on while it searches.

The price is what cannot be matched without going back: look-around ``(?=…)`` and back-references ``\1``; and ``\d``, ``\w``, ``\b``
mean ASCII (``\pL`` and ``\pN`` are letters and digits of any language). There are no wheels of it for musl.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from time import monotonic
from typing import Any, NamedTuple

from reprise.kernel.errors import MissingExtra, ToolError

LENGTH = 1_000
"""Most characters of a pattern."""
MEMORY = 4 << 20
"""Bytes that RE2 may use for a pattern: it refuses larger ones, at the latest after 0.1 s."""
WORK = 2_000_000_000
"""Instructions of a pattern times bytes of a text: 8 s if the worst comes to the worst, which only made-up patterns reach."""
MANY = 1_000
"""Matches that are found at most, unless another number is said."""
SECONDS = 10.0
"""Time for all matches in a text."""

_LONE = re.compile("[\ud800-\udfff]")
_LARGE = "pattern too large"
_SMALL = 1 << 16
_BRACKETS = re.compile(r"\\.|\[\^?\]?(?:\[:\^?\w+:\]|\\.|[^\]\\])*\]|[()]", re.DOTALL)
_HINTS = (
    (("(?=", "(?!", "(?<=", "(?<!"), "There is no look-around: match more, and take the part that is meant."),
    (("(?P=", *(f"\\{n}" for n in range(1, 10))), "There are no back-references: it cannot look for what it found."),
    (("(?>", "(?(", "++", "*+", "?+"), "It never goes back in the text: leave it out."),
    (("\\Z",), "Write \\z for the end of the text."),
    (("\\u", "\\U", "\\N"), "Write \\x{20AC} for a character by its number."),
    (("(?x", "(?#"), "Write it without comments and spaces."),
    (("{",), "What is repeated may be so 1,000 times, counts within counts multiplied."),
)  # fmt: skip


_WRITTEN = 100_000
_PIECE = re.compile(
    r"(?P<counts>\{\d*(?:,\d*)?\})|(?P<other>\(\?(?:[+-]?\d|R|&|P>|[a-zA-Z0-9]*[xV]))|"
    r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|.",
    re.DOTALL,
)


def is_too_large(pattern: str) -> bool:
    """Tell whether a pattern is too large for an engine that writes out what is repeated, and calls itself.

    Its compiling cannot be stopped: ``((a?){1000}){1000}`` takes a gigabyte, and sixty ``{2}`` in each other never end.

    >>> is_too_large("^[a-z]{1,65535}$"), is_too_large("((a?){1000}){1000}"), is_too_large("(?R)?a")
    (False, True, True)
    """
    sizes, last = [0], 0
    for piece in _PIECE.finditer(pattern):
        text = piece[0]
        if piece.lastgroup == "other":
            return True
        if piece.lastgroup == "counts":
            times = max(int(each[:9]) for each in ("1", *re.findall(r"\d+", text)))
            sizes[-1] += last * (times - 1)
            last *= times
        elif text == "(":
            sizes.append(0)
        elif text not in ("*", "+", "?"):
            last = sizes.pop() + 1 if text == ")" and len(sizes) > 1 else 1
            sizes[-1] += last
        if sum(sizes) > _WRITTEN:
            return True
    return False


class Match(NamedTuple):
    """A part of a text: ``text[start:end]``."""

    start: int
    end: int


class Pattern:
    r"""A regular expression in the syntax of RE2, which is that of ``re`` without what needs going back.

    ``field`` is the argument it came with, for errors.

    >>> pattern = Pattern(r"\d+ (apples|pears)")
    >>> [tuple(match) for match in pattern.find("2 apples, 30 pears")]
    [(0, 8), (10, 18)]
    >>> Pattern("(a+")
    Traceback (most recent call last):
    reprise.kernel.errors.ToolError: '(a+' is no regular expression: missing ), at character 1.

    Raises ``ToolError`` with code ``invalid_input`` or ``too_large`` for what cannot be compiled, and ``MissingExtra``.
    """

    __slots__ = ("_compiled", "_field", "source")

    def __init__(self, source: str, *, ignore_case: bool = False, field: str = "$.pattern") -> None:
        if len(source) > LENGTH:
            raise ToolError(
                "too_large", f"A pattern of {len(source):,} characters; {LENGTH:,} may be.", field=field
            )
        self.source = source
        self._field = field
        self._compiled = _compile(source, ignore_case, field)

    def find(self, text: str, limit: int = MANY, seconds: float = SECONDS) -> Iterator[Match]:
        """Yield where the pattern matches, from left to right without overlap, at most ``limit`` times.

        Raises ``ToolError``: ``too_large`` for a text that is too long for this pattern; ``timeout`` where many matches,
        each of which looks far ahead, take longer than ``seconds``.
        """
        try:
            size = len(text.encode())
        except UnicodeEncodeError:
            text = _LONE.sub("\ufffd", text)
            size = len(text.encode())
        if self._compiled.programsize * size > WORK:
            raise ToolError(
                "too_large",
                f"{size:,} bytes of text are too many for a pattern as large as {self.source!r}.",
                hint="Search less at a time, or take a simpler pattern: fewer and smaller {counts}.",
                field=self._field,
            )
        last, found, until = None, 0, monotonic() + seconds
        for each in self._compiled.finditer(text):
            match = Match(*each.span())
            if match == last:  # the binding finds what is empty twice
                continue
            if found == limit:
                return
            yield match
            last, found = match, found + 1
            if monotonic() > until:
                raise ToolError(
                    "timeout",
                    f"{self.source!r} took longer than {seconds:g} s to find {found:,} matches.",
                    hint="Ask for fewer matches, or search less at a time.",
                    field=self._field,
                )

    def __repr__(self) -> str:
        return f"<pattern {self.source!r}>"


def _compile(source: str, ignore_case: bool, field: str) -> Any:
    engine = _engine()
    try:
        return _built(engine, source, ignore_case)
    except engine.error as error:
        reason, _, part = _said(error).partition(": ")
    except UnicodeEncodeError as error:
        reason, part = "half a character", source[error.start]
    finally:
        # It keeps the last 128 patterns by itself, with up to MEMORY each: half a gigabyte for strangers to fill.
        engine.purge()
    if reason.startswith(_LARGE):
        raise ToolError(
            "too_large",
            f"{source!r} is too large a pattern.",
            hint="Take fewer and smaller {counts}, and \\pL less often.",
            field=field,
        )
    at = _place(engine, source, reason, part)
    raise ToolError(
        "invalid_input",
        f"{source!r} is no regular expression: {reason}, at character {at + 1}.",
        hint=next((hint for signs, hint in _HINTS if source.startswith(signs, at)), ""),
        field=field,
    )


def _built(engine: Any, source: str, ignore_case: bool, memory: int = MEMORY) -> Any:
    options = engine.Options()
    options.log_errors = False
    options.max_mem = memory
    options.case_sensitive = not ignore_case
    return engine.compile(source, options)


def _place(engine: Any, source: str, reason: str, part: str) -> int:
    """Return where the fault is: RE2 says what it could not read, but not where."""
    if reason in ("missing )", "unexpected )"):
        return _unbalanced(source)
    starts = [each.start() for each in re.finditer(re.escape(part), source)]
    for start, following in pairwise(starts):  # the first with which what comes before the next is at fault
        try:
            _built(engine, source[:following], ignore_case=False, memory=_SMALL)
        except engine.error as error:
            if _said(error).startswith(reason):
                return start
    return starts[-1] if starts else 0


def _unbalanced(source: str) -> int:
    opened: list[int] = []
    for token in _BRACKETS.finditer(source):
        if token[0] == "(":
            opened.append(token.start())
        elif token[0] == ")":
            if not opened:
                return token.start()
            opened.pop()
    return opened[0] if opened else 0


def _said(error: Any) -> str:
    said: bytes = error.args[0]
    return said.decode(errors="replace")


def _engine() -> Any:
    try:
        import re2  # noqa: PLC0415 # pyright: ignore[reportMissingTypeStubs]
    except ModuleNotFoundError:
        raise MissingExtra(
            "Regular expressions need RE2.", hint="Run: pip install 'reprise-agents[text]'"
        ) from None
    return re2
