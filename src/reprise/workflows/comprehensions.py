"""An expression of CEL cut at its comprehensions: ``rows.filter(r, r.n > 1)`` and its like.

The library copies what a comprehension has gathered at each item, and lets nobody else run until it has ended: 10,000 rows
take it a minute. Cut out, each is a list, a name and a rule, which are evaluated here one item after the other, and paid for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any, NamedTuple

from reprise.kernel.errors import MissingExtra
from reprise.workflows.scanning import Place, Token, is_path, scan, tokens_of

Wanted = Mapping[str, Any]
"""What is read of what is known: by name how often, or what is read of what is there."""
_ARGUMENTS = {"size": (0,), "map": (2, 3), **dict.fromkeys(("all", "exists", "exists_one", "filter"), (2,))}
"""What is cut out, and how many arguments it has beside what it goes through."""
_OPENING = {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}
_BEFORE_OPERAND = frozenset("+-*/%!<>=&|?:,([{") | {"in"}
MOST = 40
"""Comprehensions and sizes of an expression."""
_TOKENS_OF_A_STEP = 8
_ATOM = re.compile(
    r"(?P<counts>\{\d*(?:,\d*)?\})|\\.|\[\^?[^\[\]()\\&~]*(?:\\.[^\[\]()\\&~]*)*\]|\(\?(?!:|P?<|i\))|.",
    re.DOTALL,
)
_FEW = 4
_CLASS = 200
"""How much larger than a letter a set of letters is, and a class of Unicode."""
LARGEST = 20_000
"""Size of the largest pattern that the library compiles, in letters."""


class Part(NamedTuple):
    """A text without comprehensions: names stand for those that were in it."""

    text: str
    path: Place | None
    """Where it leads, if it does no more."""
    program: Any
    wanted: Wanted
    copies: int
    """How often what is read may be copied, at most: by each ``+`` once more."""
    steps: int
    """What it costs beside what it reads."""
    pattern: int
    """Letters of its regular expressions."""
    macros: dict[str, Macro]
    """Comprehensions by the names which stand for them."""


class Macro(NamedTuple):
    """A comprehension: ``over.kind(name, rule)``, or ``over.map(name, rule, body)``; and ``size(over)``."""

    kind: str
    name: str
    over: Part
    rules: tuple[Part, ...]


def cut(text: str) -> Part:
    """Return the parts of an expression that the library can read. Raises ``ValueError``: it has too many."""
    tokens = list(tokens_of(text))
    prefix = "_"
    while any(token.text.startswith(prefix) for token in tokens if token.kind == "name"):
        prefix += "_"
    return _Cutting(prefix).part(tokens)


class _Cutting:
    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.macros: dict[str, Macro] = {}

    def part(self, tokens: list[Token]) -> Part:
        kept: list[Token] = []
        here = 0
        while here < len(tokens):
            token, here = tokens[here], here + 1
            found = self._found(token, tokens, here, kept)
            if found is None:
                kept.append(token)
            else:
                name, start, here = found
                kept[start:] = [Token("name", name, token.at)]
        return self._made(kept)

    def _found(
        self, token: Token, tokens: list[Token], here: int, kept: list[Token]
    ) -> tuple[str, int, int] | None:
        """Return the name for what a token calls, where it begins and ends; ``None`` = it is the library's."""
        if token.text not in _ARGUMENTS or here == len(tokens) or tokens[here].text != "(":
            return None
        end, arguments = _arguments(tokens, here)
        is_method = bool(kept) and kept[-1].text == "."
        start = _operand(kept) if is_method else len(kept)
        if is_method:
            arguments = [kept[start:-1], *filter(None, arguments)]
        over, *rest = arguments
        if not over or len(rest) not in _ARGUMENTS[token.text]:
            return None
        if token.text == "size":
            macro = Macro("size", "", self.part(over), ())
        elif is_method and len(rest[0]) == 1 and rest[0][0].kind == "name":
            macro = Macro(token.text, rest[0][0].text, self.part(over), tuple(map(self.part, rest[1:])))
        else:
            return None
        if len(self.macros) == MOST:
            raise ValueError(MOST)
        name = f"{self.prefix}{len(self.macros)}"
        self.macros[name] = macro
        return name, start, end + 1

    def _made(self, tokens: list[Token]) -> Part:
        text = _joined(tokens)
        references, _ = scan(text)
        names = dict.fromkeys(str(each.path[0]) for each in references)
        path = references[0].path if is_path(text, references) else None
        return Part(
            text,
            path,
            None if path is not None else compiler()(text),
            _wanted(each.path for each in references if each.path[0] not in self.macros),
            1 + sum(token.text == "+" for token in tokens),
            1 + len(tokens) // _TOKENS_OF_A_STEP,
            _patterns(tokens),
            {name: self.macros[name] for name in names if name in self.macros},
        )


@cache
def compiler() -> Callable[[str], Any]:
    """Return what compiles an expression. Raises ``MissingExtra``."""
    try:
        # Only who writes more than paths pays for it: it loads a command line of its own, a third of a second.
        import cel  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtra(
            "Expressions need the package common-expression-language, which is not installed.",
            hint="Run: pip install 'reprise-agents[definitions]'",
        ) from error
    return cel.compile


# ---------------------------------------------------------------- tokens


def _operand(tokens: list[Token]) -> int:
    """Return where the operand begins whose ``.`` is the last token: ``a.b(c)[d]``, ``[1, 2]``, ``(…)``."""
    here = len(tokens) - 2
    while True:
        if tokens[here].text in (")", "]", "}"):
            depth = 0
            while (depth := depth + _OPENING.get(tokens[here].text, 0)) < 0:
                here -= 1
        before = tokens[here - 1] if here else None
        if before is None or before.text in _BEFORE_OPERAND:
            return here
        if before.text != ".":
            here -= 1  # a name, and what it is called with
        elif here > 1 and tokens[here - 2].text not in _BEFORE_OPERAND:
            here -= 2
        else:
            return here - 1  # a dot may stand before the first name


def _arguments(tokens: list[Token], opened: int) -> tuple[int, list[list[Token]]]:
    """Return where a bracket is closed, and what stands between its commas."""
    arguments: list[list[Token]] = [[]]
    depth = 1
    here = opened + 1
    while depth := depth + _OPENING.get(tokens[here].text, 0):
        if depth == 1 and tokens[here].text == ",":
            arguments.append([])
        else:
            arguments[-1].append(tokens[here])
        here += 1
    return here, arguments


def _joined(tokens: list[Token]) -> str:
    text, end = "", -1
    for token in tokens:
        text += token.text if token.at == end or not text else f" {token.text}"
        end = token.at + len(token.text)
    return text


def _wanted(paths: Iterable[Place]) -> Wanted:
    """Return what is read, as far as it is read by name: of a list it is all."""
    wanted: dict[str, Any] = {}
    for path in paths:
        names = [*path]
        for at, part in enumerate(path):
            if isinstance(part, int):
                names = [*path[:at]]
                break
        into: Any = wanted
        for name in names[:-1]:
            if isinstance(into.setdefault(name, {}), int):
                names = [name]  # all that is there is read already
                break
            into = into[name]
        known = into.get(names[-1], 0)
        into[names[-1]] = (known if isinstance(known, int) else _times(known)) + 1
    return wanted


def _times(wanted: Wanted) -> int:
    return sum(each if isinstance(each, int) else _times(each) for each in wanted.values())


# ---------------------------------------------------------------- patterns


def _patterns(tokens: list[Token]) -> int:
    """Return how large the regular expressions of a text are when they are compiled; of one that is read, the largest."""
    size = 0
    for here, token in enumerate(tokens):
        if token.text == "matches":
            given = tokens[here + 2 : here + 4]
            size += _written(given[0].text) if [each.text for each in given[1:]] == [")"] else LARGEST
    return size


def _written(text: str) -> int:
    quote = text.lstrip("rRbB")
    if quote[:1] not in ("'", '"'):
        return LARGEST
    inner = quote[3:-3] if quote[:3] in ("'''", '"""') else quote[1:-1]
    if "r" not in text[: len(text) - len(quote)].lower():
        inner = inner.replace(r"\\", "\0")
        if "\\" in inner:  # by another escape a bracket could be written
            return LARGEST
        inner = inner.replace("\0", "\\")
    return pattern_size(inner)


def pattern_size(pattern: str) -> int:
    """Return how many letters a pattern has when what is repeated is written out, at most :data:`LARGEST`.

    >>> pattern_size("(ab{10}){3}")
    36
    """
    sizes, last = [0], 0
    for atom in _ATOM.finditer(pattern):
        text = atom[0]
        if atom.lastgroup == "counts":
            times = max(int(each[:6]) for each in ("1", *re.findall(r"\d+", text)))
            sizes[-1] += last * (times - 1)
            last *= times
        elif text in ("*", "+", "?"):
            continue
        elif text == "(":
            sizes.append(0)
            continue
        elif text == ")" and len(sizes) > 1:
            last = sizes.pop() + 1
            sizes[-1] += last
        elif text in ("[", "]", "(?"):  # sets in sets, flags: what no plan needs
            return LARGEST
        else:
            last = _FEW + _CLASS * text.count("\\") if text[0] in ".[" else _CLASS if text[0] == "\\" else 1
            sizes[-1] += last
        if sum(sizes) >= LARGEST:
            return LARGEST
    return sum(sizes)
