"""Book a trip at three agencies and pay for it; what was booked is given back when the trip cannot be paid.

    reprise run examples/trip/flow.py -i name=rome -i purse=900
    reprise run examples/trip/flow.py -i name=oslo -i purse=100
    reprise effects @last

The agencies stand for what you cannot make part of your own transaction. They are one SQLite file here, so that the
example needs nothing; each can do something else for those who call it, and the steps are declared accordingly.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from reprise import NOT_DONE, Done, Intent, Undo, current_step, set_undo, step, workflow

AGENCIES = Path("agencies.db")


def ask(sql: str, *values: object) -> list[tuple[str, int]]:
    """Let an agency do something, or look something up."""
    with closing(sqlite3.connect(AGENCIES, timeout=10)) as agencies, agencies:
        agencies.execute("CREATE TABLE IF NOT EXISTS booked (number TEXT PRIMARY KEY, what TEXT, price INT)")
        return agencies.execute(sql, values).fetchall()


def give_back(undo: Undo) -> None:
    """Cancel at the agency. It may never have heard of the booking, and that is no fault."""
    ask("DELETE FROM booked WHERE number = ?", undo.key)


# The airline knows an order by our number and books it once, however often it is told: `key=` says so, and after a
# crash it is simply told again.
@step(effect="flight", key=lambda name: f"flight-{name}", undo=give_back, timeout=5)
def book_flight(name: str) -> int:
    """Book a flight; return its price."""
    ask("INSERT OR IGNORE INTO booked VALUES (?, 'flight', 300)", current_step().idempotency_key)
    return 300


def find_room(intent: Intent) -> object:
    """Look whether the hotel has our booking."""
    found = ask("SELECT what, price FROM booked WHERE number = ?", intent.key)
    return Done(found[0][1]) if found else NOT_DONE


# The hotel books whatever it is told, twice if it is told twice. But it can be asked: `reconcile=` does that after a
# crash, once the call that was under way cannot act any more.
@step(effect="room", reconcile=find_room, undo=give_back, timeout=5)
def book_room(name: str) -> int:
    """Book a room; return its price."""
    ask("INSERT INTO booked VALUES (?, 'room', 200)", current_step().idempotency_key)
    return 200


def refund(undo: Undo) -> None:
    """Pay back what was charged, by the receipt if there is one."""
    receipt = undo.kwargs.get("receipt", undo.key)
    ask("DELETE FROM booked WHERE number = ?", receipt)


# The card can neither be told twice nor asked: after a crash a person looks at the statement and says what happened,
# with `reprise effects ID resolve`.
@step(effect="charge", undo=refund, timeout=5)
def charge(name: str, amount: int, purse: int) -> str:
    """Charge the card; return the receipt."""
    if amount > purse:
        raise ValueError(f"the card refuses {amount} for {name}: only {purse} left")
    receipt = f"receipt-{name}"
    set_undo(receipt=receipt)
    ask("INSERT INTO booked VALUES (?, 'charge', ?)", receipt, amount)
    return receipt


@workflow(undo_deadline=3600)
async def trip(name: str, purse: int = 900) -> str:
    """Book flight and room, then pay for both."""
    price = await book_flight(name) + await book_room(name)
    return await charge(name, price, purse)
