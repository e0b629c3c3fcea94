"""What is done for many at once is done in the order in which they came: a simulation with the same seed is the same."""

import asyncio

from reprise.coordination.batching import Bell
from reprise.coordination.renewing import Holding, Renewer
from reprise.stores.lease import Grant
from reprise.stores.memory import MemoryStore
from reprise.testing import run

MANY = 40
NAMES = [f"lease {number}" for number in range(MANY)]


def test_a_bell_wakes_in_the_order_of_coming():
    async def main() -> list[int]:
        woken: list[int] = []

        async def wait(number: int) -> None:
            await bell.wait(0, 60)
            woken.append(number)

        store = MemoryStore()
        await store.start()
        async with asyncio.TaskGroup() as group:
            bell = Bell(store.signal, "mail")
            for number in range(MANY):
                group.create_task(wait(number))
            await asyncio.sleep(0)  # They begin, and wait.
            bell.ring()
        bell.close()
        await store.stop()
        return woken

    assert asyncio.run(main()) == list(range(MANY))


def test_leases_are_renewed_in_the_order_in_which_they_were_taken():
    asked: list[str] = []

    async def main() -> None:
        store = MemoryStore()
        await store.start()
        renewer = Renewer(_Watched(store, asked))
        now = asyncio.get_running_loop().time()
        for name in NAMES:
            grant = await store.lease.take(name, "me", 10)
            assert grant is not None
            renewer.watch(Holding(grant, 10, now, now))
        await asyncio.sleep(5)
        await renewer.stop("the test is over")
        await store.stop()

    run(main)
    assert asked[:MANY] == NAMES


class _Watched:
    def __init__(self, store: MemoryStore, asked: list[str]) -> None:
        self._lease, self._asked = store.lease, asked

    async def renew(self, grants: list[Grant], ttl: float) -> list[bool]:
        self._asked += [grant.name for grant in grants]
        return await self._lease.renew(grants, ttl)

    def __getattr__(self, name: str) -> object:
        return getattr(self._lease, name)
