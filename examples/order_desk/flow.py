"""An order desk: stock, orders and money in tables of its own, changed by steps in the log's transaction.

Run it: ``python examples/order_desk/flow.py [orders.db]``; kill it in the middle and run it again. However often that happens,
each order is in the table once, no piece is sold twice, and each sold order has one parcel.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

from reprise import Reprise, SQLiteConnection, current_step, outbox, step, workflow

PIECES, ORDERS = 20, 30

TABLES = (
    "CREATE TABLE IF NOT EXISTS desk_stock (item TEXT PRIMARY KEY, pieces INTEGER CHECK (pieces >= 0))",
    "CREATE TABLE IF NOT EXISTS desk_orders (run TEXT PRIMARY KEY, item TEXT, cents INTEGER)",
    "CREATE TABLE IF NOT EXISTS desk_parcels (run TEXT)",
)


@step(transaction=True)
def stock_up(connection: SQLiteConnection, item: str, pieces: int) -> None:
    """Make the tables and put pieces on the shelf."""
    for table in TABLES:
        connection.execute(table)
    connection.execute("INSERT OR IGNORE INTO desk_stock VALUES (?, ?)", (item, pieces))


@step(transaction=True)
def sell(connection: SQLiteConnection, item: str, cents: int) -> bool:
    """Take a piece from the shelf, write the order down and start its delivery: all of it, or nothing."""
    taken = connection.execute(
        "UPDATE desk_stock SET pieces = pieces - 1 WHERE item = ? AND pieces > 0", (item,)
    )
    if not taken.rowcount:
        return False
    run = current_step().run
    connection.execute("INSERT INTO desk_orders VALUES (?, ?, ?)", (run, item, cents))
    outbox.start(deliver, run, id=f"{run}-delivery")
    return True


@step(transaction=True)
def pack(connection: SQLiteConnection, order: str) -> None:
    """Make the parcel of an order."""
    connection.execute("INSERT INTO desk_parcels VALUES (?)", (order,))


@workflow
async def open_desk(item: str, pieces: int) -> None:
    """Prepare the shop."""
    await stock_up(item, pieces)


@workflow
async def order(item: str, cents: int) -> str:
    """Serve one customer."""
    return "sold" if await sell(item, cents) else "sold out"


@workflow
async def deliver(order: str) -> str:
    """Bring what was sold."""
    await pack(order)
    return f"{order} is on its way"


async def serve(path: Path) -> dict[str, int]:
    """Let more customers come than there are pieces; return what the tables say in the end."""
    async with Reprise(f"sqlite:///{path}", workflows=[open_desk, order, deliver]) as app:
        await app.run(open_desk, "lamp", PIECES, id="open")
        customers = [await app.start(order, "lamp", 1250, id=f"order-{n}") for n in range(ORDERS)]
        answers = [await customer.result() for customer in customers]
        for n, answer in enumerate(answers):
            if answer == "sold":
                await app.handle(f"order-{n}-delivery").result()
    with closing(sqlite3.connect(path)) as file:
        counts = {
            table: file.execute(f"SELECT count(*) FROM desk_{table}").fetchone()[0]  # noqa: S608  our own names
            for table in ("orders", "parcels")
        }
        (left,) = file.execute("SELECT pieces FROM desk_stock").fetchone()
    return {"sold": answers.count("sold"), "sold out": answers.count("sold out"), "left": left, **counts}


if __name__ == "__main__":
    print(asyncio.run(serve(Path(sys.argv[1] if len(sys.argv) > 1 else "orders.db"))))
