"""An order as a saga: what was done is taken back, in reverse order, when a later step fails or the run is cancelled."""

from pathlib import Path

from reprise import Undo, current_step, register_error, step, workflow

LEDGER = Path("ledger.txt")


@register_error
class CardDeclined(ValueError):
    """The bank said no; trying again does not help."""


def book(line: str, key: str) -> None:
    """Write down what happened in the world, so that one can look. Yours would call the shop, the bank, the carrier."""
    with LEDGER.open("a", encoding="utf-8") as ledger:
        ledger.write(f"{line}  (key {key[:8]})\n")


def release(undo: Undo) -> None:
    """Give goods back, by the key under which they were set aside; nothing happens if none were."""
    item, count = undo.args
    book(f"release {count} {item}", undo.key)


@step(undo=release, timeout=10)
def reserve(item: str, count: int) -> str:
    """Set goods aside."""
    book(f"reserve {count} {item}", current_step().idempotency_key)
    return f"{count} {item}"


def refund(undo: Undo) -> None:
    """Give money back, by the key under which it was taken; nothing happens if none was."""
    card, amount = undo.args
    book(f"refund {amount:.2f} to {card}", undo.key)


@step(undo=refund, timeout=10)
def charge(card: str, amount: float) -> str:
    """Take money. The idempotency key makes it once, however often it is tried."""
    if card.startswith("bad"):
        raise CardDeclined(f"{card} has no {amount:.2f}")
    book(f"charge {amount:.2f} to {card}", current_step().idempotency_key)
    return f"paid {amount:.2f}"


@step
def ship(item: str, count: int, address: str) -> str:
    """Hand the parcel to the carrier."""
    if not address:
        raise ValueError("there is no address")
    book(f"ship {count} {item} to {address}", current_step().idempotency_key)
    return f"{count} {item} on the way to {address}"


@workflow
async def order(
    item: str = "book", count: int = 1, card: str = "visa-1", address: str = "1 Long Lane"
) -> str:
    """Reserve, charge, ship: all of it or nothing."""
    await reserve(item, count)
    await charge(card, 12.5 * count)
    return await ship(item, count, address)
