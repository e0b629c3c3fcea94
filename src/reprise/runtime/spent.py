"""What a run has spent, as its history says: for people, and for other processes."""

from __future__ import annotations

import msgspec

from reprise.kernel.budget import Budget, Cost
from reprise.runtime.budgets import RUN_SCOPE
from reprise.runtime.history import History


class Spent(msgspec.Struct, frozen=True):
    """What a run may spend and has spent."""

    budget: Budget | None
    """Of the whole run, with what it was raised by; None = as much as there is."""
    taken: Cost
    """Spent or reserved, since the run was started."""
    reserved: Cost
    """What of it is reserved by calls that have not ended."""
    parts: dict[str, Cost]
    """Spent or reserved by name of a budget inside of the run."""


def read_spent(history: History) -> Spent:
    """Return what a history says of budgets."""
    books, budget = history.books, history.started.budget
    if books is None:
        return Spent(budget, Cost(), Cost(), {})
    more = books.more.get(RUN_SCOPE)
    taken = dict(books.taken)
    return Spent(
        budget if budget is None or more is None else budget.with_more(more),
        taken.pop(RUN_SCOPE, Cost()),
        sum((open.cost for open in books.open.values()), Cost()),
        taken,
    )
