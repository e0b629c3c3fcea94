"""Queries as text: the one small language in which people and programs ask for runs.

    status:failed workflow:survey age<2h          all of them must hold
    env:prod amount>100 (team:red or team:blue)   any other name is a tag
    error:"connection reset" not owner:none       words of the error; negation

A condition is a field, ``:`` or a comparison, and a value. Values with a space, comma or parenthesis are quoted;
``a,b`` is any of them; ``*`` at the end stands for any rest; ``none`` for having no value. :data:`FIELDS` has the
fields, and ``docs/guide/search.md`` the whole language with examples.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta, tzinfo
from types import MappingProxyType
from typing import NamedTuple, NoReturn

from reprise.kernel.clock import MICROSECONDS, from_datetime, to_datetime
from reprise.kernel.errors import QueryError, nearest
from reprise.kernel.machine import RUN
from reprise.kernel.query import (
    TAG,
    Compare,
    Is,
    Not,
    Query,
    Says,
    Starts,
    Value,
    all_of,
    any_of,
    negated,
    words,
)
from reprise.kernel.tags import INTEGERS, moment_text

FIELDS: Mapping[str, str] = MappingProxyType(
    {
        "id": "the run's id",
        "status": f"{', '.join(RUN.transitions)}; open and ended for all that are",
        "workflow": "name of the workflow",
        "parent": "id of the run that started it, none for the others",
        "owner": "the worker that holds it, or none",
        "build": "code version that last held it, or none",
        "created": "when it was started: 2026-11-01, 2026-11-01T12:30, today, yesterday",
        "updated": "when it last changed",
        "due": "when it wakes by itself: a moment, none, or due<1h for the next hour",
        "age": "time since it was started: age<2h, age>1d12h (units s m h d w)",
        "idle": "time since it last changed",
        "error": 'words of its error: error:timeout, error:"connection reset", error:conn*, none',
        "warning": "what somebody should know of it: warning:*, none",
    }
)
"""Built-in fields and what they take; every other name is that of a tag."""

STATES: Mapping[str, frozenset[str]] = MappingProxyType(
    {"ended": RUN.final, "open": frozenset(RUN.transitions) - RUN.final}
)
"""Names for several states."""

_NAME = re.compile(r"[^\W\d][\w.\-]*")
_OP = re.compile(r"\s*(<=|>=|!=|[:=<>])\s*")
_BARE = re.compile(r"""[^\s(),"'<>=!][^\s(),]*""")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"|\'((?:[^\'\\]|\\.)*)\'', re.DOTALL)
_SPACE = re.compile(r"\s*")
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?", re.ASCII)
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_MOMENT = re.compile(_DATE.pattern + r"[T ]\d\d:\d\d.*", re.ASCII)
_LENGTH = re.compile(r"(\d+(?:\.\d+)?)([smhdw])", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
_FAR = 2**62
"""Microseconds: a moment further away is cut to this."""


class Given(NamedTuple):
    """A value as it was written."""

    text: str
    start: int
    end: int
    quoted: bool = False


def parse(text: str, now: int, zone: tzinfo | None = None) -> Query:
    """Read a query; an empty one is met by every run.

    ``now`` (microseconds) is what ``age`` and ``today`` go by; moments without an offset are those of ``zone``, None =
    local time.

    >>> parse("status:failed age<2h", now=7_200_000_001)
    AllOf(parts=(Is(field='status', value='failed'), Compare(field='created', op='>', value=1)))

    Raises:
        QueryError: it cannot be read; says where and what was probably meant.
    """
    return _Reader(text, now, zone).query()


class _Reader:
    """Reads one text from left to right."""

    def __init__(self, text: str, now: int, zone: tzinfo | None) -> None:
        self.text, self.now, self.zone = text, now, zone
        self.at = 0

    # ---------------------------------------------------------------- or, and, not

    def query(self) -> Query:
        bad = next((at for at, c in enumerate(self.text) if c == "\0" or "\ud800" <= c <= "\udfff"), None)
        if bad is not None:
            self.refuse("A query cannot have this character.", bad, bad + 1)
        found = self._any()
        if self._peek():
            self.refuse("This closes nothing.", self.at, self.at + 1, hint="Leave it out, or open it before.")
        return found

    def _any(self) -> Query:
        parts = [self._all()]
        while self._word("or"):
            parts.append(self._all(after="or"))
        return any_of(*parts) if len(parts) > 1 else parts[0]

    def _all(self, after: str = "") -> Query:
        parts: list[Query] = []
        while self._peek() not in ("", ")") and not self._is_word("or"):
            if parts and self._word("and"):
                after = "and"
            parts.append(self._one(after))
            after = ""
        if after:
            self._expected(f"Nothing follows {after!r}.")
        return all_of(*parts)

    def _one(self, after: str) -> Query:
        start = self.at
        if self._word("not"):
            return negated(self._one("not"))
        if self._peek() == "(":
            self.at += 1
            inside = self._any()
            if self._peek() != ")":
                self.refuse(
                    "This parenthesis is not closed.", start, start + 1, hint="Put ) at the end of it."
                )
            self.at += 1
            return inside
        if after and self._peek() in ("", ")"):
            self._expected(f"Nothing follows {after!r}.")
        return self._condition()

    def _peek(self) -> str:
        found = _SPACE.match(self.text, self.at)
        self.at = found.end() if found else self.at
        return self.text[self.at : self.at + 1]

    def _is_word(self, word: str) -> bool:
        self._peek()
        name = _NAME.match(self.text, self.at)
        return name is not None and name[0].lower() == word and not _OP.match(self.text, name.end())

    def _word(self, word: str) -> bool:
        if not self._is_word(word):
            return False
        self.at += len(word)
        return True

    # ---------------------------------------------------------------- one condition

    def _condition(self) -> Query:
        start = self.at
        name = _NAME.match(self.text, start)
        op = _OP.match(self.text, name.end()) if name else None
        if name is None or op is None:
            self._no_condition(start)
        self.at = op.end()
        values = [self._value(name[0] + op[1])]
        while self._peek() == ",":
            self.at += 1
            values.append(self._value(name[0] + op[1]))
        term = Term(self, Given(name[0], start, name.end()), ":" if op[1] == "=" else op[1], values)
        return term.query()

    def _value(self, before: str) -> Given:
        self._peek()
        start = self.at
        if quoted := _QUOTED.match(self.text, start):
            self.at = quoted.end()
            inside = quoted[1] if quoted[1] is not None else quoted[2]
            return Given(re.sub(r"\\(.)", r"\1", inside, flags=re.DOTALL), start, self.at, quoted=True)
        if self.text[start : start + 1] in ('"', "'"):
            self.refuse(
                "This quote is not closed.", start, start + 1, hint="Put the same quote at the end of it."
            )
        bare = _BARE.match(self.text, start)
        if bare is None:
            self._expected(f"A value is missing after {before!r}.")
        self.at = bare.end()
        return Given(bare[0], start, self.at)

    # ---------------------------------------------------------------- what is wrong

    def _expected(self, what: str) -> NoReturn:
        self.refuse(what, self.at, self.at + 1)

    def _no_condition(self, start: int) -> NoReturn:
        found = _QUOTED.match(self.text, start) or _BARE.match(self.text, start)
        word = found[0] if found else self.text[start : start + 1]
        hint = "Write a field, : and a value, such as status:failed."
        if state := nearest(word.lower(), [*RUN.transitions, *STATES]):
            hint = f"Did you mean status:{state}?"
        elif word in FIELDS:
            hint = f"Write {word}: and a value. {word}: {FIELDS[word]}."
        elif found:
            hint = f"Did you mean workflow:{word}, error:{word} or id:{word}*?"
        self.refuse(f"{word!r} alone is no condition.", start, start + len(word), hint=hint)

    def refuse(self, what: str, start: int, end: int, *, hint: str = "") -> NoReturn:
        raise QueryError(
            f"{what.rstrip('.')} (at character {start + 1} of the query).",
            hint=hint,
            query=self.text,
            start=start,
            end=end,
        )


class Term:
    """One condition being read: its field, its operator, its values."""

    def __init__(self, reader: _Reader, name: Given, op: str, values: Sequence[Given]) -> None:
        self.reader, self.name, self.op, self.values = reader, name, op, values

    def query(self) -> Query:
        """Return what the condition says."""
        field = self.name.text
        read = _READERS.get(field)
        if read is not None:
            return read(self)
        if not field.startswith(TAG):
            self._check_is_no_typo()
            return self._tag(TAG + field)
        return self._tag(field)

    # ---------------------------------------------------------------- kinds of fields

    def state(self) -> Query:
        """Read a state, or a name for several."""
        return self._equal(self._state)

    def _state(self, value: Given) -> Query:
        states = STATES.get(value.text, {value.text})
        for state in states:
            if state not in RUN.transitions:
                near = nearest(state.lower(), [*RUN.transitions, *STATES])
                hint = (
                    f"Did you mean {near!r}?"
                    if near
                    else f"States: {', '.join([*RUN.transitions, *STATES])}."
                )
                self._refuse(f"No run is ever {value.text!r}.", value, hint=hint)
        return any_of(*(Is("status", state) for state in RUN.transitions if state in states))

    def text(self) -> Query:
        """Read a text that a run always has."""
        return self._equal(lambda value: self._text(value, none=False))

    def text_or_none(self) -> Query:
        """Read a text that a run may have not."""
        return self._equal(self._text)

    def _text(self, value: Given, *, none: bool = True) -> Query:
        field = self.name.text
        # A build is '' where there is none, the others are None.
        absent = Is(field, "" if field in ("build", "error", "warning") else None)
        if not value.quoted and none and value.text == "none":
            return absent
        if not value.quoted and none and value.text == "*":
            return negated(absent)
        if not value.quoted and value.text.endswith("*"):
            return Starts(field, value.text[:-1])
        return Is(field, value.text)

    def error(self) -> Query:
        """Read words of an error."""
        return self._equal(self._words)

    def _words(self, value: Given) -> Query:
        if not value.quoted and value.text in ("none", "*"):
            return self._text(value)
        found = words(value.text)
        if not found:
            self._refuse("There is no word in it.", value, hint="Words are letters and digits.")
        return Says(tuple(found), value.text.endswith("*"))

    def moment(self) -> Query:
        """Read a moment, or a day."""
        if self.op in (":", "!="):
            return self._equal(self._within)
        return self._compare(self.name.text, self.op, *self._span(self._only()))

    def due(self) -> Query:
        """Read a moment, a time from now, or none."""
        only = self._only() if self.op not in (":", "!=") else None
        if only is not None and (length := _length(only.text)) is not None:
            return Compare("due", self.op, _bounded(self.reader.now + length))
        return self.moment()

    def age(self) -> Query:
        """Read a time that has passed: the greater, the earlier."""
        only = self._only()
        field = {"age": "created", "idle": "updated"}[self.name.text]
        length = _length(only.text)
        if self.op not in _MIRRORED:
            self._refuse(
                f"{self.name.text} is compared, not equal to something.",
                self.name,
                hint=f"Write {self.name.text}<{only.text} or {self.name.text}>{only.text}.",
            )
        if length is None:
            self._refuse(
                f"{only.text!r} is no length of time.", only, hint="Such as 90s, 30m, 2h, 1d12h, 4w."
            )
        return Compare(field, _MIRRORED[self.op], _bounded(self.reader.now - length))

    # ---------------------------------------------------------------- tags

    def _tag(self, field: str) -> Query:
        if self.op in (":", "!="):
            return self._equal(lambda value: self._tag_is(field, value))
        only = self._only()
        if only.quoted:
            return Compare(field, self.op, only.text)
        if _NUMBER.fullmatch(only.text):
            return Compare(field, self.op, self._number(only))
        if _DATE.fullmatch(only.text) or _MOMENT.fullmatch(only.text):
            low, high = (moment_text(at) for at in self._span(only))
            return self._compare(field, self.op, low, high)
        return Compare(field, self.op, only.text)

    def _tag_is(self, field: str, value: Given) -> Query:
        text = value.text
        if value.quoted:
            return Is(field, text)
        if text == "none":
            return Is(field, None)
        if text == "*":
            return Not(Is(field, None))
        if text.endswith("*"):
            return Starts(field, text[:-1])
        if _NUMBER.fullmatch(text):
            return any_of(Is(field, text), Is(field, self._number(value)))
        return Is(field, text)

    def _number(self, value: Given) -> Value:
        number = float(value.text)
        if not math.isfinite(number):
            self._refuse(f"{value.text} is too large.", value)
        if value.text.lstrip("+-").isdigit() and int(value.text) in INTEGERS:
            return int(value.text)
        return number

    def _check_is_no_typo(self) -> None:
        name = self.name.text
        long = [field for field in FIELDS if len(field) >= _WORTH_GUESSING]
        meant = name.lower() if name.lower() in FIELDS else nearest(name, long, 0.82)
        if meant:
            self._refuse(
                f"There is no field {name!r}.",
                self.name,
                hint=f"Did you mean {meant!r}? A tag of that name is written {TAG}{name}.",
            )

    # ---------------------------------------------------------------- parts of them

    def _equal(self, read: Callable[[Given], Query]) -> Query:
        if self.op not in (":", "!="):
            field = self.name.text
            self._refuse(
                f"{field} has no order.", self.name, hint=f"Write {field}:{self.values[0].text} or {field}!=…"
            )
        found = any_of(*map(read, self.values))
        return negated(found) if self.op == "!=" else found

    def _only(self) -> Given:
        if len(self.values) > 1:
            self._refuse(
                f"{self.name.text}{self.op} takes one value.",
                self.values[1],
                hint="Use : for any of several.",
            )
        return self.values[0]

    def _within(self, value: Given) -> Query:
        field = self.name.text
        if field == "due" and not value.quoted and value.text in ("none", "*"):
            return self._text(value)
        low, high = self._span(value)
        return all_of(Compare(field, ">=", low), Compare(field, "<", high))

    def _compare(self, field: str, op: str, low: Value, high: Value) -> Query:
        """Compare with a span of time, from ``low`` up to but not at ``high``: a day is all of it."""
        value = low if op in ("<", ">=") else high
        return Compare(field, {"<=": "<", ">": ">="}.get(op, op), value)

    def _span(self, value: Given) -> tuple[int, int]:
        """Return the first microsecond of a day or moment, and the first after it."""
        reader = self.reader
        text = value.text
        if text in ("today", "yesterday"):
            today = to_datetime(reader.now).astimezone(reader.zone).replace(tzinfo=reader.zone)
            text = f"{today - timedelta(days=text == 'yesterday'):%Y-%m-%d}"
        try:
            when = datetime.fromisoformat(text)
            if when.tzinfo is None:
                when = when.replace(tzinfo=reader.zone)
            start = from_datetime(when)
            end = from_datetime(when + timedelta(days=1)) if _DATE.fullmatch(text) else start + 1
        except (ValueError, OverflowError, OSError):
            self._no_moment(value)
        return start, end

    def _no_moment(self, value: Given) -> NoReturn:
        hint = "Such as 2026-11-01, 2026-11-01T12:30, 2026-11-01T12:30:00Z, today, yesterday."
        other = {"created": "age", "updated": "idle"}.get(self.name.text)
        if other and _length(value.text) is not None:
            hint = f"Did you mean {other}{_MIRRORED.get(self.op, '<')}{value.text}?"
        self._refuse(f"{value.text!r} is no moment.", value, hint=hint)

    def _refuse(self, what: str, place: Given, *, hint: str = "") -> NoReturn:
        self.reader.refuse(what, place.start, place.end, hint=hint)


_WORTH_GUESSING = 5
"""Letters of a field's name from which on a tag that is nearly called so is taken for a mistake."""

_READERS: Mapping[str, Callable[[Term], Query]] = MappingProxyType(
    {
        "id": Term.text,
        "status": Term.state,
        "workflow": Term.text,
        "parent": Term.text_or_none,
        "owner": Term.text_or_none,
        "build": Term.text_or_none,
        "created": Term.moment,
        "updated": Term.moment,
        "due": Term.due,
        "age": Term.age,
        "idle": Term.age,
        "error": Term.error,
        "warning": Term.text_or_none,
    }
)


def _length(text: str) -> int | None:
    """Return a length of time in microseconds, None when it is none."""
    parts = _LENGTH.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return None
    return round(sum(float(number) * _SECONDS[unit] for number, unit in parts) * MICROSECONDS)


def _bounded(at: int) -> int:
    return max(-_FAR, min(_FAR, at))
