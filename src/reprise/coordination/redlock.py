"""Leases of a majority: several independent keepers, none of which has to live (Redlock).

A lease is held by whom a majority of the keepers gave it, for as long as the first of that majority would let it. Each is asked
once and not longer than a short while; who does not get a majority gives back what it got, everywhere. That is the algorithm
which the Redis documentation describes. It has no token; ours is agreed on in the same exchange: the highest that any of the
majority gave, to which the others of it are lifted. Two majorities share a keeper, so the next holder's is higher.

There is no line over several keepers: who waits is tapped when a lease is given back, or tries again after a random while.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TypeAlias

import msgspec

from reprise.coordination.keepers import Keeper
from reprise.kernel.errors import StoreError, StoreUnreachable
from reprise.kernel.surroundings import SURROUNDINGS
from reprise.stores.lease import Grant, Lease

NODE_TIMEOUT = 0.2
"""Seconds for which one keeper is waited for. One that stands still costs everybody so long, so it is short."""
MOST_OWED = 1000
"""Leases that are remembered of a keeper that is away; older ones end by themselves."""
DRIFT, DRIFT_SECONDS = 0.01, 0.002
"""What clocks may differ by in a time to live, and what they are read late."""


class _Held(msgspec.Struct):
    """What is known of a lease that a majority gave, or was asked for."""

    grant: Grant
    limit: int
    shared: bool
    nodes: dict[int, Grant]
    """What each keeper gave."""
    unsure: set[int]
    """Keepers that did not answer: they may have given it, too."""


Away: TypeAlias = dict[int, StoreError]
"""Which keepers did not answer, by number, and why."""


class Taps:
    """The taps of several keepers: given to all, heard from any."""

    def __init__(self, keepers: Sequence[Keeper]) -> None:
        self._keepers = keepers

    def wake(self, names: Sequence[str]) -> None:
        """Tap everybody who listens to one of these names; never waits, never raises."""
        for keeper in self._keepers:
            if keeper.is_open:
                keeper.store.signal.wake(names)

    def listen(self, name: str, callback: Callable[[str], None]) -> Callable[[], None]:
        """Call back at each tap, also where several keepers bring the same one; return what ends it."""
        ends = [keeper.store.signal.listen(name, callback) for keeper in self._keepers if keeper.is_open]

        def end() -> None:
            for each in ends:
                each()

        return end

    async def wait(self, name: str, timeout: float) -> bool:
        """Wait for one tap; False when ``timeout`` seconds passed without one."""
        tapped = asyncio.Event()
        unlisten = self.listen(name, lambda _: tapped.set())
        try:
            async with asyncio.timeout(timeout):
                return await tapped.wait()
        except TimeoutError:
            return False
        finally:
            unlisten()


class QuorumLease:
    """Leases by name, of a majority of keepers."""

    def __init__(
        self, keepers: Sequence[Keeper], taps: Taps, retry_delay: float, node_timeout: float
    ) -> None:
        self._keepers = keepers
        self._everybody = range(len(keepers))
        self.quorum = len(keepers) // 2 + 1
        self._taps = taps
        self._retry_delay = retry_delay
        self._node_timeout = node_timeout
        self._uniform = SURROUNDINGS.get().uniform
        self._held: dict[tuple[str, str], _Held] = {}
        self._owed: dict[int, list[_Held]] = {}
        """By keeper: what it is to be told is given back."""
        self._collecting: asyncio.Task[None] | None = None

    async def reach(self) -> None:
        """Open all keepers; raise ``StoreUnreachable`` when a majority is away."""

        async def nothing(node: int, lease: Lease) -> None:
            pass

        self._check(await self._ask(self._everybody, nothing))

    async def take(
        self,
        name: str,
        holder: str,
        ttl: float,
        *,
        limit: int = 1,
        shared: bool = False,
        wait: float | None = 0,
    ) -> Grant | None:
        """Take the lease of a majority, or return None when that gave it not within ``wait`` seconds.

        Raises:
            StoreUnreachable: so many are away that the others are no majority.
        """
        mine = self._held.get((name, holder))
        if mine is not None:
            [renewed] = await self.renew([mine.grant], ttl)
            if renewed is not None:
                return renewed
        loop = asyncio.get_running_loop()
        until = None if wait is None else loop.time() + wait
        while True:
            wish = _Held(Grant(name, holder, 0, 0), limit, shared, {}, set())
            grant = await self._try(wish, ttl)
            pause = self._retry_delay * (0.5 + self._uniform())
            left = pause if until is None else until - loop.time()
            if grant is not None or left <= 0:
                return grant
            await self._taps.wait(_tap(name), min(pause, left))

    async def renew(self, grants: Sequence[Grant], ttl: float) -> list[Grant | None]:
        """Extend grants by ``ttl`` seconds from now; None in the place of each that no majority holds any more.

        A keeper of the minority that does not have a grant is given it again.

        Raises:
            StoreUnreachable: so many are away that it is not known.
        """
        began_at = asyncio.get_running_loop().time()
        known = [held for grant in grants if (held := self._of(grant)) is not None]

        async def renew(node: int, lease: Lease) -> None:
            asked = [held for held in known if node in held.nodes]
            fresh = await lease.renew([held.nodes[node] for held in asked], ttl) if asked else []
            for held, grant in zip(asked, fresh, strict=True):
                if grant is None:
                    del held.nodes[node]
                else:
                    held.nodes[node] = grant
                    renewed[held.grant.name, held.grant.holder].append(node)

        renewed: dict[tuple[str, str], list[int]] = {
            (held.grant.name, held.grant.holder): [] for held in known
        }
        away = await self._ask(self._everybody, renew)
        in_time = self._is_in_time(began_at, ttl)
        for held in known:
            by = renewed[held.grant.name, held.grant.holder]
            if len(by) >= self.quorum and in_time:
                await self._heal(held, ttl, [node for node in self._everybody if node not in (*by, *away)])
                held.grant = self._agreed(held)
            elif len(by) + len(held.nodes.keys() & away.keys()) >= self.quorum:
                raise self._unreachable(away)
            else:
                self._held.pop((held.grant.name, held.grant.holder), None)
        return [held and held.grant for held in map(self._of, grants)]

    async def drop(self, grants: Sequence[Grant]) -> None:
        """Give grants back, everywhere; those already lost are ignored.

        Raises:
            StoreUnreachable: a majority could not be told.
        """
        everywhere = set(self._everybody)
        gone = [
            self._held.pop((grant.name, grant.holder), None) or _Held(grant, 1, False, {}, everywhere)
            for grant in grants
        ]
        away = await self._release(gone)
        # Only now: those who got no majority and tapped each other would try for ever.
        self._taps.wake([_tap(grant.name) for grant in grants])
        self._check(away)

    async def holder(self, name: str) -> list[Grant]:
        """Return the grants that a majority knows, oldest first."""
        return await self._majority(lambda lease: lease.holder(name))

    async def find(self, prefix: str = "") -> list[Grant]:
        """Return the grants that a majority knows of all names that begin with ``prefix``, by name, then oldest first."""
        return await self._majority(lambda lease: lease.find(prefix))

    async def lift(self, grant: Grant, token: int) -> Grant | None:
        """Give a grant a token that is at least ``token``, and every later one a higher; None when it was lost."""
        held = self._of(grant)
        if held is None or not await self._lift(held, token):
            return None
        held.grant = msgspec.structs.replace(held.grant, token=max(held.grant.token, token))
        return held.grant

    async def settle(self) -> None:
        """Leave to their end leases that nobody could be told of yet."""
        if self._collecting is not None:
            self._collecting.cancel()
            await asyncio.gather(self._collecting, return_exceptions=True)
            self._collecting = None

    # ------------------------------------------------------------ a try

    async def _try(self, wish: _Held, ttl: float) -> Grant | None:
        """Ask everybody once; agree on a token with those who gave it, or give all back."""
        began_at = asyncio.get_running_loop().time()
        try:
            away = await self._give(wish, ttl, self._everybody)
            self._check(away)
            if len(wish.nodes) >= self.quorum:
                token = max(grant.token for grant in wish.nodes.values())
                if await self._lift(wish, token) and self._is_in_time(began_at, ttl):
                    wish.grant = msgspec.structs.replace(wish.grant, token=token)
                    wish.grant = self._agreed(wish)
                    self._held[wish.grant.name, wish.grant.holder] = wish
                    return wish.grant
        except BaseException:
            wish.unsure.update(self._everybody)
            await asyncio.shield(self._release([wish]))
            raise
        await self._release([wish])
        return None

    async def _give(self, wish: _Held, ttl: float, nodes: Iterable[int]) -> Away:
        name, holder = wish.grant.name, wish.grant.holder

        async def take(node: int, lease: Lease) -> None:
            grant = await lease.take(name, holder, ttl, limit=wish.limit, shared=wish.shared)
            if grant is not None:
                wish.nodes[node] = grant

        away = await self._ask(nodes, take)
        wish.unsure.update(away)
        return away

    async def _lift(self, held: _Held, token: int) -> bool:
        """Let a majority have a token at least so high; return whether it has."""

        async def lift(node: int, lease: Lease) -> None:
            grant = await lease.lift(held.nodes[node], token)
            if grant is None:
                del held.nodes[node]
            else:
                held.nodes[node] = grant

        low = [node for node, grant in held.nodes.items() if grant.token < token]
        if low:
            await self._ask(low, lift)
        return sum(grant.token >= token for grant in held.nodes.values()) >= self.quorum

    async def _heal(self, held: _Held, ttl: float, nodes: list[int]) -> None:
        """Give a grant of a majority to others, so that those of the majority may go, too."""
        if nodes:
            await self._give(held, ttl, nodes)
            await self._lift(held, held.grant.token)

    async def _release(self, gone: Sequence[_Held]) -> Away:
        """Give back everywhere what was given, also where that is not known."""
        away = await self._ask(self._everybody, lambda node, lease: _drop(node, lease, gone))
        for node in away:
            owed = [held for held in gone if node in held.nodes or node in held.unsure]
            self._owed[node] = [*self._owed.get(node, ()), *owed][-MOST_OWED:]
        if self._collecting is None and any(self._owed.values()):
            self._collecting = asyncio.create_task(self._collect())
        return away

    async def _collect(self) -> None:
        """Tell those who did not answer, until they do.

        A keeper that stood still does what it was asked before when it goes on; so it may give a lease only then.
        """
        while self._owed:
            await asyncio.sleep(self._node_timeout)
            asked, self._owed = self._owed, {}
            away = await self._ask(asked, partial(_drop_owed, asked))
            for node in away:
                self._owed[node] = [*asked[node], *self._owed.get(node, ())][-MOST_OWED:]
        self._collecting = None

    # ------------------------------------------------------------ counting

    def _of(self, grant: Grant) -> _Held | None:
        held = self._held.get((grant.name, grant.holder))
        return held if held is not None and held.grant.token == grant.token else None

    def _agreed(self, held: _Held) -> Grant:
        """Return the grant of a majority; it ends when the first of that majority may end."""
        ends = sorted((grant.expires_at for grant in held.nodes.values()), reverse=True)
        return msgspec.structs.replace(held.grant, expires_at=ends[self.quorum - 1])

    def _is_in_time(self, began_at: float, ttl: float) -> bool:
        passed = asyncio.get_running_loop().time() - began_at
        return passed < ttl * (1 - DRIFT) - DRIFT_SECONDS

    async def _majority(self, look: Callable[[Lease], Awaitable[list[Grant]]]) -> list[Grant]:
        async def one(node: int, lease: Lease) -> None:
            for grant in await look(lease):
                seen.setdefault((grant.name, grant.holder), []).append(grant)

        seen: dict[tuple[str, str], list[Grant]] = {}
        self._check(await self._ask(self._everybody, one))
        found = [
            max(each, key=lambda grant: grant.token) for each in seen.values() if len(each) >= self.quorum
        ]
        return sorted(found, key=lambda grant: (grant.name, grant.token))

    async def _ask(self, nodes: Iterable[int], call: Callable[[int, Lease], Awaitable[None]]) -> Away:
        """Ask keepers, all at once and each once; return those that did not answer, and why."""

        async def one(node: int) -> StoreError | None:
            try:
                async with asyncio.timeout(self._node_timeout):
                    await call(node, (await self._keepers[node].start()).lease)
            except TimeoutError:
                return StoreUnreachable(f"It did not answer within {self._node_timeout:g} s.")
            except StoreError as error:
                return error
            return None

        asked = list(nodes)
        errors = await asyncio.gather(*map(one, asked))
        return {node: error for node, error in zip(asked, errors, strict=True) if error is not None}

    def _check(self, away: Away) -> None:
        if len(away) > len(self._keepers) - self.quorum:
            raise self._unreachable(away)

    def _unreachable(self, away: Away) -> StoreUnreachable:
        first = next(iter(away.values()))
        return StoreUnreachable(
            f"Of {len(self._keepers)} keepers {len(away)} cannot be reached: {first.what}",
            hint=f"{self.quorum} are needed; check that they run.",
        )


async def _drop(node: int, lease: Lease, gone: Sequence[_Held]) -> None:
    """Give back to one keeper what it gave, or may have given."""
    grants = [held.nodes[node] for held in gone if node in held.nodes]
    unsure = {
        (held.grant.name, held.grant.holder)
        for held in gone
        if node in held.unsure and node not in held.nodes
    }
    for name in {name for name, _ in unsure}:
        grants += [grant for grant in await lease.holder(name) if (name, grant.holder) in unsure]
    if grants:
        await lease.drop(grants)


async def _drop_owed(owed: Mapping[int, Sequence[_Held]], node: int, lease: Lease) -> None:
    await _drop(node, lease, owed[node])


def _tap(name: str) -> str:
    return f"redlock/{name}"
