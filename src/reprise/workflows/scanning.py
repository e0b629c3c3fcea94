"""What an expression reads and calls, told from its marks and names alone: enough to check a plan without the language."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

_MACROS = frozenset({"all", "exists", "exists_one", "map", "filter"})
"""Those whose first argument is a name of their own."""
_WORDS = frozenset("true false null in int uint double string bytes bool list map type null_type".split())
_TOKEN = re.compile(
    r"""(?P<string>[rRbB]{0,2}(?:\"{3}.*?\"{3}|'{3}.*?'{3}|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'))
    |(?P<comment>//[^\n]*)|(?P<number>0[xX][0-9a-fA-F]+|\d+(?:\.\d+)?(?:[eE][+-]?\d+)?[uU]?)
    |(?P<name>[A-Za-z_]\w*)|(?P<mark>\S)""",
    re.VERBOSE | re.DOTALL,
)

Part = str | int
Place = tuple[Part, ...]


class Reference(NamedTuple):
    """What an expression reads: ``steps.collect.result`` is ``("steps", "collect", "result")``."""

    path: Place
    at: int
    """Where it begins in the text."""
    end: int

    def __str__(self) -> str:
        return path_text(self.path)


class Token(NamedTuple):
    """A mark, a name, a number or a string."""

    kind: str
    text: str
    at: int


def path_text(path: Place) -> str:
    """Return a path as it is written.

    >>> path_text(("steps", "my-step", "rows", 0))
    'steps["my-step"].rows[0]'
    """
    parts = [
        f"[{part}]"
        if isinstance(part, int)
        else f".{part}"
        if part.isidentifier() and part.isascii()
        else f"[{msgspec.json.encode(part).decode()}]"
        for part in path
    ]
    return "".join(parts).removeprefix(".")


def tokens_of(text: str, start: int = 0) -> Iterator[Token]:
    """Yield the tokens of a text, without comments."""
    for found in _TOKEN.finditer(text, start):
        if (kind := found.lastgroup) and kind != "comment":
            yield Token(kind, found[0], found.start())


def scan(text: str) -> tuple[list[Reference], list[tuple[str, int]]]:
    """Return what an expression reads and what it calls, without understanding more of it."""
    tokens = [*tokens_of(text), *[Token("end", "", len(text))] * 3]
    references: list[Reference] = []
    functions: list[tuple[str, int]] = []
    bound: list[tuple[int, str]] = []
    depth = 0
    for here, token in enumerate(tokens[:-3]):
        depth += (token.text == "(") - (token.text == ")")
        while bound and bound[-1][0] > depth:
            bound.pop()
        if token.kind != "name":
            continue
        if tokens[here + 1].text == "(":
            functions.append((token.text, token.at))
            if token.text in _MACROS and tokens[here + 2].kind == "name":
                bound.append((depth + 1, tokens[here + 2].text))
        elif here and tokens[here - 1].text == ".":
            continue
        elif token.text not in _WORDS and token.text not in {name for _, name in bound}:
            references.append(_reference(tokens, here))
    return references, functions


def _reference(tokens: list[Token], here: int) -> Reference:
    path: list[Part] = [tokens[here].text]
    first, last = tokens[here], tokens[here]
    while True:
        mark, key, close = tokens[here + 1 : here + 4] if here + 4 <= len(tokens) else (tokens[-1],) * 3
        if mark.text == "." and key.kind == "name" and close.text != "(":
            path.append(key.text)
            last, here = key, here + 2
        elif mark.text == "[" and close.text == "]" and (part := _literal(key)) is not None:
            path.append(part)
            last, here = close, here + 3
        else:
            return Reference(tuple(path), first.at, last.at + len(last.text))


def _literal(token: Token) -> Part | None:
    if token.kind == "number" and token.text.isdecimal():
        return int(token.text)
    if token.kind == "string" and re.fullmatch(r"([\"'])[^\"'\\]*\1", token.text):
        return token.text[1:-1]
    return None


def names_a_step(path: Place) -> bool:
    """Return whether a path leads to one step."""
    return len(path) > 1 and path[0] == "steps"


def is_path(text: str, references: list[Reference]) -> bool:
    """Return whether an expression is no more than a path."""
    return len(references) == 1 and text.strip() == text[references[0].at : references[0].end]


def closing(text: str, start: int) -> int:
    """Return where the ``}`` is that closes what begins at ``start``, -1 = nowhere."""
    depth = 0
    for token in tokens_of(text, start):
        if token.text == "{":
            depth += 1
        elif token.text == "}":
            if not depth:
                return token.at
            depth -= 1
    return -1
