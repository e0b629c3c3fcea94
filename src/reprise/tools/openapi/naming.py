"""Names of tools and arguments: short enough for models, unique, and the same whatever the order in the document."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from reprise.kernel.errors import ConfigurationError
from reprise.tools.tool import NAME

_HASH = 6
_LONGEST_PREFIX = 40
_WORDS = re.compile(r"[A-Z]+(?![a-z])[0-9]*|[A-Z]?[a-z]+[0-9]*|[A-Z]+|[0-9]+")
_ARGUMENT = re.compile(r"[A-Za-z0-9_.-]{1,64}")
BODY = "body"
"""The argument that is the body of a request."""


def check_prefix(prefix: str) -> str:
    """Return a prefix; raises ``ConfigurationError`` for one that names cannot begin with."""
    if prefix and not (
        len(prefix) <= _LONGEST_PREFIX and prefix.isascii() and prefix.replace("-", "_").isidentifier()
    ):
        raise ConfigurationError(
            f"Names of tools cannot begin with {prefix!r}.",
            hint=f"Use letters, digits, - and _, at most {_LONGEST_PREFIX}, and begin with a letter.",
        )
    return prefix


def words(text: str) -> str:
    """Return a text as words with underscores.

    >>> words("listUsers"), words("update-user.v2"), words("getHTTPResponse"), words("Größe ändern")
    ('list_users', 'update_user_v2', 'get_http_response', 'grosse_andern')
    """
    plain = unicodedata.normalize("NFKD", text.replace("ß", "ss")).encode("ascii", "ignore").decode()
    return "_".join(_WORDS.findall(plain)).lower()


def names_of(operations: Sequence[tuple[str, str, str]], prefix: str) -> list[str]:
    """Return the names of operations, given as (operationId, method, path).

    Where several would be called the same, and where a name is cut, each gets six digits of a hash of its method and path:
    so no name depends on what stands before it.

    >>> names_of([("list", "get", "/a"), ("list", "get", "/b"), ("", "get", "/a/{id}"), ("show", "get", "/c")], "x_")
    ['x_list_ea27e8', 'x_list_16a73f', 'x_get_a_id', 'x_show']
    """
    bases = [words(id) or words(f"{method} {path}") or method for id, method, path in operations]
    bases = [base if prefix or not base[0].isdigit() else f"op_{base}" for base in bases]
    often = Counter(bases)
    room = NAME - len(prefix)
    names: list[str] = []
    for base, (_, method, path) in zip(bases, operations, strict=True):
        if often[base] == 1 and len(base) <= room:
            names.append(prefix + base)
            continue
        short = digest(f"{method} {path}")
        names.append(f"{prefix}{base[: room - _HASH - 1].rstrip('_')}_{short}")
    return names


def digest(text: str, length: int = _HASH) -> str:
    """Return some digits of a hash of a text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:length]


def arguments_of(parameters: Iterable[tuple[str, str]]) -> Mapping[tuple[str, str], str]:
    """Return the names of arguments for parameters, given as (name, where).

    A name that is taken in several places, or that the body has, gets its place behind it in all of them.

    >>> arguments_of([("id", "path"), ("id", "query"), ("filter[a]", "query"), ("body", "query"), ("X-Id", "header")])
    {('id', 'path'): 'id_path', ('id', 'query'): 'id_query', ('filter[a]', 'query'): 'filter_a',
     ('body', 'query'): 'body_query', ('X-Id', 'header'): 'X-Id'}
    """
    given = list(dict.fromkeys(parameters))
    plain = {each: _argument(each[0]) for each in given}
    often = Counter(plain.values())
    often[BODY] += 1
    placed = {
        each: name if often[name] == 1 else _cut(f"{name}_{each[1]}", each) for each, name in plain.items()
    }
    often = Counter(placed.values())
    return {
        each: name if often[name] == 1 else _cut(f"{name}_{digest(each[0])}", each)
        for each, name in placed.items()
    }


def _argument(name: str) -> str:
    if _ARGUMENT.fullmatch(name):
        return name
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "_", name).strip("_")
    return _cut(plain or f"argument_{digest(name)}", (name, ""))


def _cut(name: str, each: tuple[str, str]) -> str:
    if len(name) <= NAME:
        return name
    return f"{name[: NAME - _HASH - 1]}_{digest(' '.join(each))}"
