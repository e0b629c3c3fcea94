"""Set up a customer at three services; what was set up is taken back when one of them refuses.

    python examples/onboarding_saga/onboarding.py ada 4711
    python examples/onboarding_saga/onboarding.py bob expired
    reprise show @last

The services stand for what you cannot make part of your own transaction. They are one SQLite file here; each knows a request by
its key and does it once, which is all that a saga asks of them.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from reprise import SagaOrchestrator, SagaResult, StepRefused

SERVICES = Path("services.db")


def ask(sql: str, *values: object) -> list[Any]:
    """Let a service do something, or look something up."""
    with closing(sqlite3.connect(SERVICES, timeout=10)) as services, services:
        services.execute("CREATE TABLE IF NOT EXISTS held (key TEXT PRIMARY KEY, what TEXT, customer TEXT)")
        return services.execute(sql, values).fetchall()


def hold(what: str, payload: dict[str, Any], key: str) -> str:
    """Set something up, once under its key."""
    customer = payload["input"]["name"]
    ask("INSERT OR IGNORE INTO held VALUES (?, ?, ?)", key, what, customer)
    return f"{what} of {customer}"


def take_back(payload: dict[str, Any]) -> None:
    """Take back what a step set up. There may be nothing, and that is no fault."""
    ask("DELETE FROM held WHERE key = ?", payload["compensates"])


def setup_payment(payload: dict[str, Any], key: str) -> str:
    """Keep the card; one that has expired is refused, and then there is nothing to take back."""
    if payload["input"]["card"] == "expired":
        raise StepRefused(f"the card of {payload['input']['name']} has expired")
    return hold("card", payload, key)


saga = SagaOrchestrator(
    services={
        "account_service": {
            "create_account": lambda payload, key: hold("account", payload, key),
            "delete_account": take_back,
        },
        "payment_service": {"setup_payment": setup_payment, "remove_payment_method": take_back},
        # Once the letter is on its way nothing is taken back any more: the saga only goes on.
        "post": {"send_letter": lambda payload, key: hold("letter", payload, key)},
    }
)
STEPS = [
    {"step": "create_account", "service": "account_service", "compensation": "delete_account"},
    {"step": "setup_payment", "service": "payment_service", "compensation": "remove_payment_method"},
    {"step": "send_letter", "service": "post", "irreversible": True},
]


async def onboard(name: str, card: str, store: str = "sqlite:///.reprise/reprise.db") -> SagaResult:
    """Set up a customer; the same name again goes on, or says what came of it."""
    await saga.define_saga(saga_id="customer_onboarding", steps=STEPS)
    return await saga.execute(
        saga_id="customer_onboarding",
        input_data={"name": name, "card": card},
        id=f"onboard-{name}",
        store=store,
    )


if __name__ == "__main__":
    result = asyncio.run(onboard(*sys.argv[1:3]))
    print(f"{result.run_id}: {result.status} {result.reason}")
    print(f"compensated: {', '.join(result.compensated) or 'nothing'}")
