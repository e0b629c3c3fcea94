"""Write one statement: fragments of the keeper's SQL, put together, with every value as a parameter."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from reprise.kernel.query import COLUMNS, TAG, AllOf, AnyOf, Compare, Is, Not, Query, Says, Starts
from reprise.stores.searching.sources import Member, beyond

_PARAMETER = re.compile(r"(?<!:):([a-z]+)\b")

Phrase: TypeAlias = Callable[[Sequence[str], bool], str]
"""Write words that follow each other as the keeper's word index is asked for them; the last may be a beginning."""


class Writer:
    """One statement in the making.

    ``candidates``: it walks some, and their columns need not be looked up in the rows of the runs. ``counts``: it reads
    to the end; fragments that begin with ``counted_`` are taken where there are any.
    """

    def __init__(
        self, sql: Mapping[str, str], phrase: Phrase, *, candidates: bool = True, counts: bool = False
    ) -> None:
        self._sql, self._phrase, self._counts = sql, phrase, counts
        self._columns = {"id": "c.run", "created": "c.created_at"} if candidates else {}
        self.values: dict[str, Any] = {}

    def fill(self, fragment: str, **values: Any) -> str:
        """Return a fragment whose parameters have names of their own."""
        number = len(self.values)
        self.values |= {f"{name}{number}": value for name, value in values.items()}
        text = (self._counts and self._sql.get(f"counted_{fragment}")) or self._sql[fragment]
        if "/* run */" in text:
            text = text.replace("/* run */", self._columns.get("id", "r.id"))
            text = text.replace("/* created_at */", self._columns.get("created", "r.created_at"))
        return _PARAMETER.sub(lambda found: f":{found[1]}{number}", text)

    def member(self, member: Member) -> str:
        """Write the walk of an index."""
        values = member.values
        if member.fragment == "from_words":
            return self.fill("from_words", phrase=self._phrase(values["words"], values["prefix"]))
        text = self.fill(member.fragment, **values).replace("/* column */", member.column)
        if member.fragment not in ("from_tag_texts", "from_tag_numbers"):
            return text
        kind = member.fragment.removeprefix("from_tag_").removesuffix("s")
        bounds = [self._bound(kind, bound) for bound in member.bounds]
        # Where texts and numbers share a column, a range that is open towards the others must end before them.
        towards_others = ("<", "<=") if kind == "number" else (">", ">=")
        if not any(bound.op in towards_others for bound in member.bounds):
            bounds.append(self._sql[f"{kind}s_end"])
        return " ".join([text, *bounds])

    def _bound(self, kind: str, bound: Compare) -> str:
        return self.fill(f"bound_{kind}", value=bound.value).replace("/* op */", bound.op)

    def conditions(self, parts: Sequence[Query]) -> str:
        """Write what must all hold of a run."""
        return self._joined(" AND ", parts)

    def _joined(self, word: str, parts: Sequence[Query]) -> str:
        if not parts:
            return "1 = 1" if word == " AND " else "1 = 0"
        return word.join(map(self._condition, parts))

    def _condition(self, query: Query) -> str:
        match query:
            case AllOf(parts):
                return f"({self._joined(' AND ', parts)})"
            case AnyOf(parts):
                return f"({self._joined(' OR ', parts)})"
            case Not(part):
                return f"NOT ({self._condition(part)})"
            case Says(found, prefix):
                return self.fill("says", phrase=self._phrase(found, prefix))
            case Is(field) | Starts(field) | Compare(field) if field.startswith(TAG):
                return self._on_tag(query, field.removeprefix(TAG))
            case Is(field, value):
                return self._on_column("is", field, value=value)
            case Starts(field, prefix):
                return self._on_column("starts", field, low=prefix, high=beyond(prefix))
            case Compare(field, op, value):
                fragment = "bound" if field == "created" else "compare"
                return self._on_column(fragment, field, value=value).replace("/* op */", op)

    def _on_column(self, fragment: str, field: str, **values: Any) -> str:
        column = self._columns.get(field) or f"r.{COLUMNS[field]}"
        return self.fill(fragment, **values).replace("/* column */", column)

    def _on_tag(self, condition: Is | Starts | Compare, name: str) -> str:
        match condition:
            case Is(_, None):
                return self.fill("tag_none", name=name)
            case Is(_, value):
                kind = "text" if isinstance(value, str) else "number"
                return self.fill(f"tag_is_{kind}", name=name, value=value)
            case Starts(_, prefix):
                return self.fill("tag_starts", name=name, low=prefix, high=beyond(prefix))
            case Compare(_, op, value):
                kind = "text" if isinstance(value, str) else "number"
                return self.fill(f"tag_{kind}", name=name, value=value).replace("/* op */", op)

    def group(self, by: str) -> str:
        """Write what runs are counted by."""
        if by.startswith(TAG):
            return self.fill("group_tag", name=by.removeprefix(TAG))
        return f"r.{by}"
