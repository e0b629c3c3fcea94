"""How far long work is, for whoever watches."""

from __future__ import annotations

from collections.abc import Callable

Report = Callable[[str, int, int], None]
"""Called now and then with what is being done, how much of it is done, and of how much (0 = not known)."""


def nobody(what: str, done: int, total: int) -> None:
    """Tell nobody."""
