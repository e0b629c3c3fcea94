"""Two tables made one by the values that they share. How large it gets is known before it is made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from reprise.kernel.errors import ToolError
from reprise.tools.library.data.rows import (
    BYTES,
    KINDS,
    Columns,
    Row,
    Rows,
    check_cells,
    column,
    keys_of,
    names_of,
)
from reprise.tools.tool import Example, tool

How = Literal["inner", "left", "right", "full", "semi", "anti"]
_LEFT = [{"id": 1, "name": "Ada"}, {"id": 2, "name": "Bo"}]
_RIGHT = [{"id": 1, "city": "Rome"}, {"id": 3, "city": "Oslo"}]


@tool(
    effects="pure",
    tags=["data"],
    max_input=2 * BYTES,
    max_output=BYTES,
    examples=[
        Example(
            {"left": _LEFT, "right": _RIGHT, "on": ["id"], "how": "left"},
            [{"id": 1, "name": "Ada", "city": "Rome"}, {"id": 2, "name": "Bo", "city": None}],
        ),
        Example(
            {"left": _LEFT, "right": [{"who": 1, "name": "x"}], "on": {"id": "who"}},
            [{"id": 1, "name": "Ada", "name_right": "x"}],
        ),
        Example({"left": _LEFT, "right": _RIGHT, "on": ["id"], "how": "anti"}, [{"id": 2, "name": "Bo"}]),
    ],
)
def data_join(
    left: Rows,
    right: Rows,
    on: Annotated[Columns | dict[str, str], "Columns that both have; or {column of left: column of right}."],
    how: Annotated[How, "Which rows stay without a partner; semi and anti only filter left."] = "inner",
    suffix: Annotated[
        str, Meta(min_length=1, max_length=40), "Behind the name of a column of right that left has, too."
    ] = "_right",
) -> list[Row]:
    """Join two tables by columns whose values are equal; null is equal to nothing here.

    In the order of left, and for each of its rows in the order of right; rows of right without a partner come last.
    """
    pairs = dict.fromkeys(on) if isinstance(on, list) else on
    if not pairs:
        raise ToolError("invalid_input", "There is no column to join on.", field="$.on")
    ours = _keys(left, list(pairs), "left")
    theirs = _keys(right, [name or own for own, name in pairs.items()], "right")
    _check_kinds(left, right, pairs)
    partners: dict[Any, list[int]] = {}
    for at, key in enumerate(theirs):
        if key is not None:
            partners.setdefault(key, []).append(at)
    if how in ("semi", "anti"):
        return [row for row, key in zip(left, ours, strict=True) if (key in partners) == (how == "semi")]
    matches = _Matches(ours, partners, len(right), how)
    names = _names(left, right, pairs, suffix)
    check_cells(matches.count, len(names.all), "$.on")
    matches.check_bytes(left, right)
    return [names.row(left, right, one, other) for one, other in matches]


def _keys(rows: list[Row], names: list[str], side: str) -> list[Any]:
    """Return what rows are found by; None where a part of it is null."""
    columns = [column(rows, name, "$.on", f"$.{side}") for name in names]
    whole = [None not in values for values in zip(*columns, strict=True)]
    return [
        (key,) if is_whole else None for key, is_whole in zip(keys_of(columns, len(rows)), whole, strict=True)
    ]


def _check_kinds(left: list[Row], right: list[Row], pairs: Any) -> None:
    """Refuse columns of which no value can be equal, such as numbers and texts that look like them."""
    for own, name in pairs.items():
        kinds = [
            {KINDS[type(row.get(key))] for row in rows} - {"null"}
            for rows, key in ((left, own), (right, name or own))
        ]
        if all(kinds) and not kinds[0] & kinds[1]:
            one, other = (" and ".join(sorted(each)) for each in kinds)
            raise ToolError(
                "invalid_input",
                f"{own!r:.100} is {one} in left and {other} in right: nothing is equal.",
                hint="Bring them to one kind.",
                field="$.on",
            )


class _Matches:
    """Pairs of rows, by their places; None = no partner."""

    def __init__(self, ours: list[Any], partners: dict[Any, list[int]], right: int, how: How) -> None:
        self.ours, self.partners = ours, partners
        self.alone: list[int] = []
        if how in ("right", "full"):
            met = {at for key in set(ours) - {None} for at in partners.get(key, ())}
            self.alone = [at for at in range(right) if at not in met]
        self.keeps_left = how in ("left", "full")
        self.count = len(self.alone) + sum(len(partners.get(key, ())) or self.keeps_left for key in ours)

    def __iter__(self) -> Iterator[tuple[int | None, int | None]]:
        for at, key in enumerate(self.ours):
            found = self.partners.get(key)
            if found is not None:
                for other in found:
                    yield at, other
            elif self.keeps_left:
                yield at, None
        for other in self.alone:
            yield None, other

    def check_bytes(self, left: list[Row], right: list[Row]) -> None:
        """Refuse what would be too many bytes because rows are in it several times."""
        times: dict[Any, int] = {}
        for key in self.ours:
            if key in self.partners:
                times[key] = times.get(key, 0) + 1
        if all(count == 1 for count in times.values()) and all(len(p) == 1 for p in self.partners.values()):
            return
        total = sum(
            _bytes(left[at]) * len(self.partners[key]) for at, key in enumerate(self.ours) if key in times
        )
        total += sum(_bytes(right[at]) * count for key, count in times.items() for at in self.partners[key])
        if total > BYTES:
            raise ToolError(
                "too_large",
                f"That makes {total:,} bytes; {BYTES:,} are the most.",
                hint="Rows with many partners stand there many times: filter them first, or leave columns out.",
                field="$.on",
            )


_write = msgspec.json.Encoder().encode


def _bytes(row: Row) -> int:
    return len(_write(row))


class _Names:
    """The columns of the result, and where they come from."""

    def __init__(self, keys: list[tuple[str, str]], left: list[str], right: list[tuple[str, str]]) -> None:
        self.keys, self.left, self.right = keys, left, right
        self.all = [*left, *(name for _, name in right)]

    def row(self, left: list[Row], right: list[Row], one: int | None, other: int | None) -> Row:
        ours = left[one] if one is not None else {}
        theirs = right[other] if other is not None else {}
        made = {name: ours.get(name) for name in self.left}
        if one is None:
            for own, name in self.keys:
                made[own] = theirs.get(name)
        for name, called in self.right:
            made[called] = theirs.get(name)
        return made


def _names(left: list[Row], right: list[Row], pairs: Any, suffix: str) -> _Names:
    keys = [(own, name or own) for own, name in pairs.items()]
    ours = list(dict.fromkeys([*names_of(left), *pairs]))
    known, by = set(ours), {name for _, name in keys}
    theirs = [
        (name, f"{name}{suffix}" if name in known else name) for name in names_of(right) if name not in by
    ]
    counts = Counter([*ours, *(name for _, name in theirs)])
    if twice := [name for name, count in counts.items() if count > 1]:
        raise ToolError("conflict", f"Two columns would be called {twice[0]!r:.100}.", field="$.suffix")
    return _Names(keys, ours, theirs)
