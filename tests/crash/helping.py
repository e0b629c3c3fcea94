"""Who lets runs go on that were killed too often to be tried again by themselves; and what breaks a promise for controls."""

from collections import Counter
from contextlib import suppress

from reprise import Reprise, RunEnded
from reprise.stores.postgres import driver


async def help_some(app: Reprise, counts: Counter[str] | None = None) -> None:
    """Resume what was taken over too often; what needs attention for another reason is not touched."""
    for row in await app.find("status:needs_attention", limit=1000):
        if "times without progress" in row.error and row.due_at is None:
            if counts is not None:
                counts["poisoned, and helped"] += 1
            with suppress(RunEnded):
                await app.client.resume(row.id)


def loosen() -> None:
    """Let the server acknowledge before it has written to its disk, for all connections that this process opens."""
    driver.DURABLE = "SELECT set_config('synchronous_commit', 'off', false)"
