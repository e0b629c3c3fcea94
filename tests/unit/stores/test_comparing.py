"""Where two logs begin to differ about a stream."""

from reprise.kernel.clock import VirtualClock
from reprise.stores.log import Group, append
from reprise.stores.memory import MemoryStore
from reprise.stores.moving.comparing import first_difference
from reprise.testing.suites.keeper import fact


async def test_what_only_one_has_trimmed_is_no_difference():
    one, other = stores = [MemoryStore(VirtualClock()) for _ in range(2)]
    for store in stores:
        for n in range(5):
            await append(store.log, n + 1, Group("run/a", [fact(b"%d" % n)]))
    await one.log.trim("run/a", 2)
    assert await first_difference(one.log, other.log, "run/a") == ""
    assert await first_difference(other.log, one.log, "run/a") == ""
    await append(one.log, 9, Group("run/a", [fact(b"5")]))
    assert "goes on with version 6 in one only" in await first_difference(one.log, other.log, "run/a")
    await append(other.log, 9, Group("run/a", [fact(b"another")]))
    assert "differs at version 6" in await first_difference(one.log, other.log, "run/a")
