"""An order as a saga: what was done is taken back, in reverse order, when a later step fails or the run is cancelled."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from reprise import Retry, current_step, step, workflow

LEDGER = Path("ledger.txt")


class CardDeclined(Exception):
    """The bank said no; trying again does not help."""


def book(line: str) -> None:
    """Write down what happened in the world, so that one can look. Yours would call the shop, the bank, the carrier."""
    with LEDGER.open("a", encoding="utf-8") as ledger:
        ledger.write(f"{line}  (key {current_step().idempotency_key[:8]})\n")


@step
def reserve(item: str, count: int) -> str:
    """Set goods aside."""
    book(f"reserve {count} {item}")
    return f"{count} {item}"


@step
def release(item: str, count: int) -> None:
    """Give goods back; nothing happens if none were set aside."""
    book(f"release {count} {item}")


@step(retry=Retry(3, give_up_on=(CardDeclined,)))
def charge(card: str, amount: float) -> str:
    """Take money. The idempotency key makes it once, however often it is tried."""
    if card.startswith("bad"):
        raise CardDeclined(f"{card} has no {amount:.2f}")
    book(f"charge {amount:.2f} to {card}")
    return f"paid {amount:.2f}"


@step
def refund(card: str, amount: float) -> None:
    """Give money back; nothing happens if none was taken."""
    book(f"refund {amount:.2f} to {card}")


@step
def ship(item: str, count: int, address: str) -> str:
    """Hand the parcel to the carrier."""
    if not address:
        raise ValueError("there is no address")
    book(f"ship {count} {item} to {address}")
    return f"{count} {item} on the way to {address}"


class Saga:
    """What is to be taken back when the block fails: steps, called in reverse order. They run to the end."""

    def __init__(self) -> None:
        self._undo: list[tuple[Callable[..., Awaitable[None]], tuple[Any, ...]]] = []

    def undo(self, undo: Callable[..., Awaitable[None]], *args: Any) -> None:
        """Say before a step how it is taken back; it may not have happened."""
        self._undo.append((undo, args))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            for undo, args in reversed(self._undo):
                await undo(*args)


@workflow
async def order(
    item: str = "book", count: int = 1, card: str = "visa-1", address: str = "1 Long Lane"
) -> str:
    """Reserve, charge, ship: all of it or nothing."""
    amount = 12.5 * count
    async with Saga() as saga:
        saga.undo(release, item, count)
        await reserve(item, count)
        saga.undo(refund, card, amount)
        await charge(card, amount)
        return await ship(item, count, address)
