"""A table of leases that somebody holds: locks and terms of leaders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from reprise.cli.moments import duration, iso
from reprise.cli.output import Format, Screen, line, table
from reprise.kernel.clock import SystemClock


class Held(NamedTuple):
    """One row."""

    name: str
    who: str
    token: int
    expires_at: int


def show_held(screen: Screen, output: Format, name: str, who: str, held: Sequence[Held]) -> None:
    """Print leases; ``name`` and ``who`` are the heads of the first two columns. A table of none is not printed."""
    if output is not Format.TABLE:
        facts = [
            {name: each.name, who: each.who, "token": each.token, "expires_at": iso(each.expires_at)}
            for each in held
        ]
        screen.data(output, facts)
    elif held:
        now = SystemClock().now()
        shown = table(name, who, "token", "ends in", right=("token", "ends in"), fold=who)
        for each in held:
            left = duration(max(each.expires_at - now, 0))
            shown.add_row(line(each.name), line(each.who), str(each.token), left)
        screen.table(shown)
