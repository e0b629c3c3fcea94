"""Leases of a majority: several independent keepers, none of which has to live (Redlock).

A lease is held by whom a majority of the keepers gave it, for as long as the first of that majority would let it. Each is asked
once and not longer than a short while; who does not get a majority gives back what it got, everywhere. That is the algorithm
which the Redis documentation describes. It has no token; ours is agreed on in the same exchange: the highest that any of the
majority gave, to which the others of it are lifted. Two majorities share a keeper, so the next holder's is higher.

There is no line over several keepers: who waits is tapped when a lease is given back, or tries again after a random while.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from math import inf

import msgspec

from reprise.coordination.asking import Away, Missing, Panel
from reprise.coordination.keepers import Keeper
from reprise.kernel.errors import StoreUnreachable
from reprise.kernel.surroundings import SURROUNDINGS
from reprise.stores.lease import Grant, Lease

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

    def __init__(self, panel: Panel, taps: Taps, retry_delay: float) -> None:
        self._panel = panel
        self._taps = taps
        self._retry_delay = retry_delay
        self._uniform = SURROUNDINGS.get().uniform
        self._held: dict[tuple[str, str], _Held] = {}
        self._owed: dict[int, list[_Held]] = {}
        """By keeper: what it is to be told is given back."""
        self._collecting: asyncio.Task[None] | None = None
        self._trying = set[tuple[str, str]]()

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

        Who waits also waits for a majority that is away, up to ``PATIENCE``.

        Raises:
            StoreUnreachable: so many are away that the others are no majority.
        """
        mine = self._held.get((name, holder))
        if mine is not None:
            [renewed] = await self.renew([mine.grant], ttl)
            if renewed is not None:
                return renewed
        loop = asyncio.get_running_loop()
        until = inf if wait is None else loop.time() + wait
        missing = Missing()
        while True:
            wish = _Held(Grant(name, holder, 0, 0), limit, shared, {}, set())
            try:
                grant = await self._try(wish, ttl)
                missing.over()
                if grant is not None or loop.time() >= until:
                    return grant
            except StoreUnreachable as error:
                missing.note(error, until)
            pause = self._retry_delay * (0.5 + self._uniform())
            await self._taps.wait(_tap(name), min(pause, until - loop.time()))

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
        away = await self._panel.ask(self._panel.everybody, renew)
        in_time = self._is_in_time(began_at, ttl)
        for held in known:
            by = renewed[held.grant.name, held.grant.holder]
            if len(by) >= self._panel.quorum and in_time:
                await self._heal(
                    held, ttl, [node for node in self._panel.everybody if node not in (*by, *away)]
                )
                held.grant = self._agreed(held)
            elif len(by) + len(held.nodes.keys() & away.keys()) >= self._panel.quorum:
                raise self._panel.unreachable(away)
            else:
                self._held.pop((held.grant.name, held.grant.holder), None)
        return [held and held.grant for held in map(self._of, grants)]

    async def drop(self, grants: Sequence[Grant]) -> None:
        """Give grants back, everywhere; those already lost are ignored.

        Raises:
            StoreUnreachable: a majority could not be told.
        """
        everywhere = set(self._panel.everybody)
        gone = [
            self._held.pop((grant.name, grant.holder), None) or _Held(grant, 1, False, {}, everywhere)
            for grant in grants
        ]
        is_known = all(held.nodes for held in gone)
        away = await self._release(gone, () if is_known else everywhere)
        # Only now: those who got no majority and tapped each other would try for ever.
        self._taps.wake([_tap(grant.name) for grant in grants])
        self._panel.check(away)

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
        """Tell once more what is owed; what nobody can be told of ends by itself."""
        if self._collecting is not None:
            self._collecting.cancel()
            await asyncio.gather(self._collecting, return_exceptions=True)
            self._collecting = None
        await self._tell()

    # ------------------------------------------------------------ a try

    async def _try(self, wish: _Held, ttl: float) -> Grant | None:
        """Ask everybody once; agree on a token with those who gave it, or give all back."""
        began_at, key = asyncio.get_running_loop().time(), (wish.grant.name, wish.grant.holder)
        self._trying.add(key)
        try:
            away = await self._give(wish, ttl, self._panel.everybody)
            self._panel.check(away)
            if len(wish.nodes) >= self._panel.quorum:
                token = max(grant.token for grant in wish.nodes.values())
                if await self._lift(wish, token) and self._is_in_time(began_at, ttl):
                    wish.grant = msgspec.structs.replace(wish.grant, token=token)
                    wish.grant = self._agreed(wish)
                    self._held[key] = wish
                    return wish.grant
        except BaseException:
            wish.unsure.update(self._panel.everybody)
            await asyncio.shield(self._release([wish]))
            raise
        finally:
            self._trying.discard(key)
        await self._release([wish])
        return None

    async def _give(self, wish: _Held, ttl: float, nodes: Iterable[int]) -> Away:
        name, holder = wish.grant.name, wish.grant.holder

        async def take(node: int, lease: Lease) -> None:
            grant = await lease.take(name, holder, ttl, limit=wish.limit, shared=wish.shared)
            if grant is not None:
                wish.nodes[node] = grant

        away = await self._panel.ask(nodes, take)
        wish.unsure.update(away)
        return away

    async def _lift(self, held: _Held, token: int) -> bool:
        """Let a majority have a token at least so high; return whether it has."""

        async def lift(node: int, lease: Lease) -> None:
            grant = await lease.lift(held.nodes[node], token)
            if grant is None:  # or it was asked twice, and the first time it did
                del held.nodes[node]
                held.unsure.add(node)
            else:
                held.nodes[node] = grant

        low = [node for node, grant in held.nodes.items() if grant.token < token]
        if low:
            await self._panel.ask(low, lift)
        return sum(grant.token >= token for grant in held.nodes.values()) >= self._panel.quorum

    async def _heal(self, held: _Held, ttl: float, nodes: list[int]) -> None:
        """Give a grant of a majority to others, so that those of the majority may go, too."""
        if nodes:
            await self._give(held, ttl, nodes)
            await self._lift(held, held.grant.token)

    async def _release(self, gone: Sequence[_Held], nodes: Iterable[int] = ()) -> Away:
        """Give back what was given; return who does not know of it yet. Who was silent before is told later, by itself."""
        asked = {*nodes, *(node for held in gone for node in held.nodes)}
        away = await self._panel.ask(sorted(asked), lambda node, lease: _drop(node, lease, gone))
        for node in self._panel.everybody:
            owed = [held for held in gone if node in held.nodes or node in held.unsure]
            if owed and (node in away or node not in asked):
                away.setdefault(node, StoreUnreachable("It did not answer before."))
                self._owed[node] = [*self._owed.get(node, ()), *owed][-MOST_OWED:]
        if self._collecting is None and self._owed:
            self._collecting = asyncio.create_task(self._collect())
        return away

    async def _collect(self) -> None:
        """Tell those who did not answer, until they do.

        A keeper that stood still does what it was asked before when it goes on; so it may give a lease only then.
        """
        while self._owed:
            await self._tell()
            await asyncio.sleep(self._panel.node_timeout)
        self._collecting = None

    async def _tell(self) -> None:
        """Tell once what is owed."""
        asked, self._owed = self._owed, {}
        away: Iterable[int] = asked
        try:
            away = await self._panel.ask(
                asked, lambda node, lease: _drop(node, lease, asked[node], self._is_wanted)
            )
        finally:
            for node in away:
                self._owed[node] = [*asked[node], *self._owed.get(node, ())][-MOST_OWED:]

    def _is_wanted(self, held: _Held) -> bool:
        """Tell whether its holder asked again meanwhile: then the keeper holds for that what it gave before."""
        key = held.grant.name, held.grant.holder
        return key in self._trying or key in self._held

    # ------------------------------------------------------------ counting

    def _of(self, grant: Grant) -> _Held | None:
        held = self._held.get((grant.name, grant.holder))
        return held if held is not None and held.grant.token == grant.token else None

    def _agreed(self, held: _Held) -> Grant:
        """Return the grant of a majority; it ends when the first of that majority may end."""
        ends = sorted((grant.expires_at for grant in held.nodes.values()), reverse=True)
        return msgspec.structs.replace(held.grant, expires_at=ends[self._panel.quorum - 1])

    def _is_in_time(self, began_at: float, ttl: float) -> bool:
        passed = asyncio.get_running_loop().time() - began_at
        return passed < ttl * (1 - DRIFT) - DRIFT_SECONDS

    async def _majority(self, look: Callable[[Lease], Awaitable[list[Grant]]]) -> list[Grant]:
        async def one(node: int, lease: Lease) -> None:
            for grant in await look(lease):
                seen.setdefault((grant.name, grant.holder), []).append(grant)

        seen: dict[tuple[str, str], list[Grant]] = {}
        self._panel.check(await self._panel.ask(self._panel.everybody, one))
        found = [
            max(each, key=lambda grant: grant.token)
            for each in seen.values()
            if len(each) >= self._panel.quorum
        ]
        return sorted(found, key=lambda grant: (grant.name, grant.token))


async def _drop(
    node: int, lease: Lease, gone: Sequence[_Held], is_wanted: Callable[[_Held], bool] = lambda _: False
) -> None:
    """Give back to one keeper what it gave, or may have given, but for what is wanted again."""
    found = dict[str, list[Grant]]()
    for held in gone:
        if node in held.unsure and node not in held.nodes and held.grant.name not in found:
            found[held.grant.name] = await lease.holder(held.grant.name)
    # From here to the call nothing comes between: who asks again does so after it.
    grants: list[Grant] = []
    for held in gone:
        if is_wanted(held):
            continue
        if node in held.nodes:
            grants.append(held.nodes[node])
        elif node in held.unsure:
            grants += [grant for grant in found[held.grant.name] if grant.holder == held.grant.holder]
    if grants:
        await lease.drop(grants)


def _tap(name: str) -> str:
    return f"redlock/{name}"
