"""Statements by name: SQL stands in commented ``.sql`` files, Python only says which one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import resources
from typing import Any

_SQL = resources.files("reprise.stores.postgres").joinpath("sql")


def statements(file: str) -> dict[str, str]:
    """Return the statements of a file, each of which stands after a line ``-- name: <name>``."""
    found: dict[str, str] = {}
    for part in _SQL.joinpath(file).read_text("utf-8").split("-- name: ")[1:]:
        name, _, body = part.partition("\n")
        lines = [line for line in body.splitlines() if not line.startswith("--")]
        found[name.strip()] = "\n".join(lines).strip()
    return found


_NAMED = re.compile(r"(?<![:\w]):([a-z_]\w*)")


def numbered(text: str, values: Mapping[str, Any]) -> tuple[str, list[Any]]:
    """Return a statement with ``$1``, ``$2`` … in place of ``:name``, and the values that these stand for.

    >>> numbered("SELECT :a::text, :b, :a", {"a": "x", "b": 1})
    ('SELECT $1::text, $2, $1', ['x', 1])
    """
    names: dict[str, int] = {}
    query = _NAMED.sub(lambda found: f"${names.setdefault(found[1], len(names) + 1)}", text)
    return query, [values[name] for name in names]


def migrations() -> list[tuple[int, str]]:
    """Return (number, script) of every migration, in order."""
    files = [file for file in _SQL.joinpath("migrations").iterdir() if file.name.endswith(".sql")]
    return sorted((int(file.name.split("_", 1)[0]), file.read_text("utf-8")) for file in files)
