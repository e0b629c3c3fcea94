"""The rows of an answer: where they are, how many are kept, and where the next page of them is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple, cast
from urllib.parse import parse_qs, quote, unquote

import msgspec

from reprise.kernel.errors import ToolError
from reprise.tools.openapi.documents import Json, joined, objects, split

_USUAL = (
    "items",
    "data",
    "results",
    "value",
    "values",
    "records",
    "entries",
    "rows",
    "content",
    "list",
    "elements",
)
_LINKS = re.compile(r"<([^<>]*)>\s*((?:;[^,<]*)*)")
_NEXT_URLS = (
    "next", "nextLink", "@odata.nextLink", "next_url", "nextUrl", "next_page_url", "nextPageUrl", "next_href",
)  # fmt: skip
_HOLDERS = (
    "links", "_links", "paging", "pagination", "meta", "page_info", "pageInfo", "response_metadata", "metadata", "_meta",
)  # fmt: skip
_TOKENS = (
    "next_cursor", "nextCursor", "next_page_token", "nextPageToken", "nextToken", "next_token", "NextToken",
    "continuationToken", "continuation_token", "next_page", "nextPage", "end_cursor", "endCursor", "cursor", "after",
)  # fmt: skip
_TOKEN_PARAMETERS = (
    "cursor", "next_cursor", "page_token", "pageToken", "nextToken", "next_token", "NextToken", "after",
    "continuationToken", "continuation_token", "starting_after", "page",
)  # fmt: skip
_PAGES = ("page", "page_number", "pageNumber", "pageNo", "p")
_OFFSETS = ("offset", "skip", "start", "$skip", "startAt", "start_index")


class Rows(NamedTuple):
    """The list that an answer is about."""

    all: list[Any]
    path: tuple[str, ...]
    """Names of properties that lead to it, () = the answer is the list."""


class Next(NamedTuple):
    """The next page: its URL, or what changes of the query."""

    url: str = ""
    changes: Mapping[str, str] = {}

    def __str__(self) -> str:
        """Return it as a caller may use it."""
        return self.url or ", ".join(f"{name}={value}" for name, value in self.changes.items())


def rows_of(value: Any) -> Rows | None:
    """Return the rows of an answer, None where it has none, or several lists that could be.

    >>> rows_of({"data": {"users": [1, 2]}, "total": 2})
    Rows(all=[1, 2], path=('data', 'users'))
    """
    if isinstance(value, list):
        return Rows(cast("list[Any]", value), ())
    given = objects(value)
    lists = {name: cast("list[Any]", each) for name, each in given.items() if isinstance(each, list)}
    for name in _USUAL:
        if name in lists:
            return Rows(lists[name], (name,))
    if len(lists) == 1:
        ((name, found),) = lists.items()
        return Rows(found, (name,))
    for name in () if lists else ("data", "result", "response", "_embedded"):
        inner = rows_of(given.get(name)) if isinstance(given.get(name), dict) else None
        if inner is not None:
            return Rows(inner.all, (name, *inner.path))
    return None


def with_rows(value: Any, path: tuple[str, ...], rows: list[Any]) -> Any:
    """Return an answer with other rows."""
    if not path:
        return rows
    return {**value, path[0]: with_rows(value[path[0]], path[1:], rows)}


def cut(value: Any, most_rows: int | None, most_bytes: int) -> tuple[Any, str]:
    """Return an answer with as many rows and bytes as wanted, and a note on what was cut, '' = nothing.

    >>> cut([1, 2, 3], 2, 1000)
    ([1, 2], 'Cut: 2 of 3 rows.')

    Raises ``ToolError`` with code ``too_large`` for what is too large and has no rows.
    """
    found = rows_of(value)
    if isinstance(value, str):
        data = value.encode()
        if len(data) <= most_bytes:
            return value, ""
        return data[:most_bytes].decode("utf-8", "ignore"), f"Cut: {most_bytes:,} of {len(data):,} bytes."
    size = len(msgspec.json.encode(value))
    if size <= most_bytes and (found is None or most_rows is None or len(found.all) <= most_rows):
        return value, ""
    if found is None:
        raise ToolError(
            "too_large",
            f"The answer has {size:,} bytes; {most_bytes:,} are wanted at most.",
            hint="Select what is needed of it: OperationOptions(select=…).",
        )
    room = most_bytes - len(msgspec.json.encode(with_rows(value, found.path, [])))
    kept: list[Any] = []
    for row in found.all[:most_rows]:
        room -= len(msgspec.json.encode(row)) + 1
        if room < 0:
            break
        kept.append(row)
    return with_rows(value, found.path, kept), f"Cut: {len(kept)} of {len(found.all)} rows."


# ---------------------------------------------------------------- the next page


def next_page(value: Any, headers: Mapping[str, str], url: str, parameters: Mapping[str, Any]) -> Next | None:
    """Return the next page as a server says it; ``parameters`` are those of the query, with what was sent, or None.

    >>> next_page([1], {"link": '</users?page=2>; rel="next"'}, "https://a.test/users", {})
    Next(url='https://a.test/users?page=2', changes={})
    >>> next_page({"items": [1], "nextPageToken": "b"}, {}, "https://a.test/users", {"pageToken": None})
    Next(url='', changes={'pageToken': 'b'})
    """
    for target, about in _LINKS.findall(headers.get("link", "")):
        if re.search(r"rel\s*=\s*\"?[^\";]*\bnext\b", about):
            return Next(joined(url, target))
    given = objects(value)
    for holder in (given, *(objects(given.get(name)) for name in _HOLDERS)):
        for name in _NEXT_URLS:
            link = holder.get(name)
            link = objects(link).get("href", objects(link).get("url")) if isinstance(link, dict) else link
            if isinstance(link, str) and re.match(r"https?://|/|\?", link):
                return Next(joined(url, link))
    for holder in (given, *(objects(given.get(name)) for name in _HOLDERS)):
        if (
            holder.get("has_more") is False
            or holder.get("hasMore") is False
            or holder.get("hasNextPage") is False
        ):
            return None
        for name in _TOKENS:
            token = holder.get(name)
            if isinstance(token, str | int) and not isinstance(token, bool) and token != "":
                taker = next((each for each in (name, *_TOKEN_PARAMETERS) if each in parameters), None)
                if taker is not None and str(parameters[taker]) != str(token):
                    return Next(changes={taker: str(token)})
    return None


def counted_page(parameters: Mapping[str, Any], rows: int) -> Next | None:
    """Return the next page where pages or rows are counted in the query."""
    if not rows:
        return None
    for name in _PAGES:
        if name in parameters and isinstance(parameters[name], int | None):
            return Next(changes={name: str((1 if parameters[name] is None else parameters[name]) + 1)})
    for name in _OFFSETS:
        if name in parameters and isinstance(parameters[name], int | None):
            return Next(changes={name: str((parameters[name] or 0) + rows)})
    return None


def changed(query: list[tuple[str, str]], changes: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return a query, whose names and values are encoded, with other values."""
    kept = [(name, value) for name, value in query if unquote(name) not in changes]
    return kept + [(quote(name, safe=""), quote(value, safe="")) for name, value in changes.items()]


def query_of(url: str) -> list[tuple[str, str]]:
    """Return the query of a URL, encoded."""
    found: Json = parse_qs(split(url).query, keep_blank_values=True)
    return [(quote(name, safe=""), quote(each, safe="")) for name, values in found.items() for each in values]
