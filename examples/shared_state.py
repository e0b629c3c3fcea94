"""Three instances share settings and counters; each has a copy of its own, and hears of what the others do.

Run it: python examples/shared_state.py
"""

import asyncio

from reprise import Increment, StateConflict, StateSync, StateUpdate

STORE = "sqlite:///shared-state.db"  # or postgresql://…; instances may be processes on several machines


async def machine(name: str, together: asyncio.Barrier) -> int:
    """Count, and say what is heard of settings."""
    async with StateSync(STORE, namespace="shop", origin=name) as sync:

        def tell(update: StateUpdate) -> None:
            print(
                f"{name} hears: {update.key} was {update.old_value}, is {update.value} (by {update.origin})"
            )

        sync.on_update(tell, "config:*")
        await together.wait()

        leader = await sync.set("leader", name, strategy="first_write_wins")
        if leader.applied:
            await sync.set("config:mode", "maintenance")

        await asyncio.gather(*(sync.increment("orders") for _ in range(100)))
        await sync.set("stats", {"by": {name: Increment(100)}}, strategy="merge")
        await together.wait()
        return await sync.get("orders", fresh=True)


async def main() -> None:
    """Let three machines count, then change what was read, if nobody else did."""
    together = asyncio.Barrier(3)
    counts = await asyncio.gather(*(machine(name, together) for name in ("ada", "bob", "eve")))
    print(f"three machines counted to {counts[0]}; all agree: {len(set(counts)) == 1}")

    async with StateSync(STORE, namespace="shop", origin="admin") as sync:
        entry = await sync.entry("config:mode")
        assert entry is not None
        await sync.set("config:mode", "open", expected_version=entry.version)
        try:
            await sync.set("config:mode", "closed", expected_version=entry.version)
        except StateConflict as error:
            print(f"not written: config:mode is at version {error.version} by now")
        await sync.update({}, delete=await sync.keys())


if __name__ == "__main__":
    asyncio.run(main())
