"""What runs are found by, as it is told to the server: values of tags, words of errors."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec

from reprise.kernel.query import words
from reprise.kernel.tags import Tag, comparable

_encode = msgspec.json.Encoder(order="deterministic").encode
decode_tags = msgspec.json.Decoder(dict[str, Tag]).decode
"""Read the column ``tags``."""


def told(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields of a run's change, with those by which it is to be found beside them.

    >>> told({"error": "disk full"})
    {'error': 'disk full', 'words': "'disk':1 'full':2"}
    """
    more: dict[str, Any] = {}
    if "tags" in fields:
        tags: dict[str, Tag] = fields["tags"]
        more["tags"] = _encode(tags).decode()
        more["values"] = [_value(name, comparable(tag)) for name, tag in tags.items()]
    if "error" in fields:
        more["words"] = word_places(fields["error"])
    return {**fields, **more}


def _value(name: str, value: str | float) -> dict[str, str]:
    return (
        {"name": name, "text": value}
        if isinstance(value, str)
        else {"name": name, "number": f"{exact_number(value):f}"}
    )


def exact_number(value: float) -> Decimal:
    """Return a number as the server compares it: no two different ones become equal, and their order stays.

    >>> exact_number(0.1), exact_number(2**63 - 1), exact_number(3.0)
    (Decimal('0.1'), Decimal('9223372036854775807'), Decimal('3'))
    """
    # Of a whole number the digits that it has; the shortest decimals of fractions are in the order of the fractions.
    return Decimal(int(value)) if int(value) == value else Decimal(repr(value))


def word_places(error: str) -> str:
    """Return the words of an error and their places as a ``tsvector`` is written.

    >>> word_places("a b, a")
    "'a':1,3 'b':2"
    """
    places: defaultdict[str, list[str]] = defaultdict(list)
    for place, word in enumerate(words(error), 1):
        places[word].append(str(place))
    return " ".join(f"'{word}':{','.join(found)}" for word, found in places.items())
