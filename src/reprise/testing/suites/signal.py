"""What a signal must prove. A tap may be lost, so the tests tap until it is felt."""

from __future__ import annotations

import asyncio

from reprise.stores.store import Store
from reprise.testing.suites.keeper import Keeper, KeeperSuite, soon, until


class SignalSuite(KeeperSuite):
    """Tests of the port ``Signal``."""

    async def test_a_tap_reaches_who_waits_here_and_in_other_stores(self, keeper: Keeper) -> None:
        """Every waiter of that name, none of another."""
        here, there = await keeper.open(), await keeper.open()
        waiters = [asyncio.create_task(store.signal.wait("x", 60)) for store in (here, there, there)]
        other = asyncio.create_task(there.signal.wait("y", 60))

        async def felt() -> bool:
            here.signal.wake(["x"])
            return all(waiter.done() for waiter in waiters)

        await until(felt, "all waiters are tapped")
        assert [waiter.result() for waiter in waiters] == [True] * 3
        assert not other.done()
        other.cancel()

    async def test_waiting_in_vain_ends(self, store: Store) -> None:
        """And says so; the tap of another name does not count."""
        store.signal.wake(["x", "xy"])
        assert await store.signal.wait("y", 0.01) is False

    async def test_listeners_hear_names_and_prefixes(self, keeper: Keeper) -> None:
        """The callback runs on the loop, later, with the name."""
        here, there = await keeper.open(), await keeper.open()
        heard: list[tuple[str, str]] = []
        there.signal.listen("run/a", lambda name: heard.append(("one", name)))
        there.signal.listen("run/*", lambda name: heard.append(("runs", name)))
        there.signal.listen("*", lambda name: heard.append(("all", name)))
        expected = {
            ("one", "run/a"),
            ("runs", "run/a"),
            ("runs", "run/b"),
            ("all", "run/a"),
            ("all", "run/b"),
        }
        here.signal.wake(["run/a"])
        assert heard == []

        async def felt() -> bool:
            here.signal.wake(["run/a", "run/b", "run"])
            return expected | {("all", "run")} == set(heard)

        await until(felt, "all listeners are tapped")

    async def test_who_stopped_listening_hears_nothing(self, store: Store) -> None:
        """Ending twice is no error; other listeners go on."""
        heard: list[str] = []
        end = store.signal.listen("x", lambda _: heard.append("ended"))
        store.signal.listen("x", lambda _: heard.append("goes on"))
        end()
        end()

        async def felt() -> bool:
            store.signal.wake(["x"])
            return bool(heard)

        await until(felt, "the other listener is tapped")
        assert "ended" not in heard

    async def test_waking_nobody_is_no_error(self, store: Store) -> None:
        """Nor is an empty list, nor a stopped store."""
        signal = store.signal
        signal.wake([])
        signal.wake(["nobody"])
        await store.stop()
        signal.wake(["x"])

    async def test_a_cancelled_waiter_does_not_hurt_the_others(self, store: Store) -> None:
        """It is forgotten."""
        gone = asyncio.create_task(store.signal.wait("x", 60))
        stays = asyncio.create_task(store.signal.wait("x", 60))
        await asyncio.sleep(0)
        gone.cancel()

        async def felt() -> bool:
            store.signal.wake(["x"])
            return stays.done()

        await until(felt, "the other waiter is tapped")
        assert await soon(stays)
        assert gone.cancelled()
