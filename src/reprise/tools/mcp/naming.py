"""Names and texts that a stranger chose: made fit for models, people and terminals."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, cast

from reprise.tools.tool import NAME

MAX_TEXT = 8_000
"""Characters of a description."""
_FIT = re.compile(r"[A-Za-z0-9_-]+")
_UNFIT = re.compile(r"[^A-Za-z0-9_-]+")
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-_])")
_KEPT = "\n\t"
_INVISIBLE = frozenset(("Cc", "Cf", "Co", "Cs", "Cn"))
"""Categories of characters that nobody sees: control, format (direction, zero width, tags), private, unassigned."""
_DEPTH = 100


def name_of(prefix: str, name: str) -> str:
    """Return the name by which a server's tool is known here: the same whatever else the server has.

    A name that does not fit as it is ends with six digits that follow from it, so that no two become one.

    >>> name_of("files", "read"), name_of("files", "read.all"), name_of("files", "read all")
    ('files_read', 'files_read_all_8fb73b', 'files_read_all_25a56d')
    """
    whole = f"{prefix}_{name}"
    if _FIT.fullmatch(name) and len(whole) <= NAME:
        return whole
    mark = sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:6]
    return f"{_UNFIT.sub('_', whole)[: NAME - 7].rstrip('_')}_{mark}"


def clean(text: str, most: int = MAX_TEXT) -> str:
    r"""Return a text without what a person would not see: escapes of terminals, control and invisible characters.

    >>> clean("Reads\x1b[8m, and sends it\x1b[0m a file\u200b.\u202e")
    'Reads, and sends it a file.'
    """
    seen = "".join(
        each
        for each in _ESCAPES.sub("", text)
        if each in _KEPT or unicodedata.category(each) not in _INVISIBLE
    )
    return seen if len(seen) <= most else f"{seen[: most - 1]}…"


def cleaned(schema: Mapping[str, Any], depth: int = 0) -> dict[str, Any]:
    """Return a JSON schema whose titles and descriptions are clean; what is to be matched stays as it is."""
    return {name: _cleaned(name, value, depth) for name, value in schema.items()}


def _cleaned(name: str, value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return clean(value) if name in ("title", "description", "$comment") else value
    if isinstance(value, dict) and depth < _DEPTH:
        return cleaned(cast("dict[str, Any]", value), depth + 1)
    if isinstance(value, list) and depth < _DEPTH and name in ("anyOf", "allOf", "oneOf", "prefixItems"):
        return [_cleaned("", each, depth + 1) for each in cast("list[Any]", value)]
    return cast("Any", value)
