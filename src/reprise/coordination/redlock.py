"""Leases of a majority: several independent keepers, none of which has to live (Redlock).

A lease is held by whom a majority of the keepers gave it, for as long as the first of that majority would let it. Each is asked
once and not longer than a short while; who does not get a majority gives back what it got, everywhere. That is the algorithm
which the Redis documentation describes. It has no token; ours is agreed on in the same exchange: the highest that any of the
majority gave, to which the others of it are lifted. Two majorities share a keeper, so the next holder's is higher.

Nor has it a line: all ask again and again, and the more they are the more often nobody gets a majority. With us each keeper has
one. Who is refused gives back what it got, stands in line at the first keeper that refused, and asks the others when that
one gives it the lease. All who find the same keepers well stand in the same line, and it is its first who is next; where they
do not, they are few, and a majority still decides. Nobody waits while it has a vote, but for a moment for the votes of the
holder before it; and then only at keepers that come after its own, so no two wait for each other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import count
from math import inf

import msgspec

from reprise.coordination.asking import Away, Missing, Panel
from reprise.coordination.keepers import random_number
from reprise.kernel.errors import StoreError, StoreUnreachable
from reprise.kernel.surroundings import SURROUNDINGS
from reprise.stores.lease import Grant, Lease

MOST_OWED = 1000
"""Leases that are remembered of a keeper that is away; older ones end by themselves."""
DRIFT, DRIFT_SECONDS = 0.01, 0.002
"""What clocks may differ by in a time to live, and what they are read late."""
TURN = 1.0
"""Seconds for which the first in a line has a keeper's lease; by then it has asked the others, or stands still."""
_NUMBER = "#"
"""Stands before what tells tries apart, in the name of who asks."""
HANDING_ON = 1 / 2
"""Part of the time for which a keeper is waited for at all, in which the last holder's votes come free everywhere."""


class _Votes(msgspec.Struct, eq=False):
    """The votes for a lease that a majority gave, or is asked for."""

    grant: Grant
    """Under token 0 until there is a majority."""
    alias: str = ""
    """Who asks, as keepers know it: another name each time, so that what is given back of one try is not taken from the next."""
    limit: int = 1
    shared: bool = False
    nodes: dict[int, Grant] = {}
    """What each keeper gave."""
    refused: set[int] = set()
    """Keepers of which somebody else has it, or is before us."""
    unsure: set[int] = set()
    """Keepers that were asked and did not answer, or not yet: they may have given it, too."""
    until: float = 0.0
    """When its time is over by our clock."""
    is_over: bool = False
    """Whether they are not wanted any more, or lost."""

    @property
    def key(self) -> tuple[str, str]:
        """Whose votes they are."""
        return self.grant.name, self.grant.holder

    def are_at(self, node: int) -> bool:
        """Tell whether a keeper may have given its vote."""
        return node in self.nodes or node in self.unsure

    def has(self, grant: Grant) -> bool:
        """Tell whether a keeper's grant is one of them."""
        return self.alias == grant.holder if self.alias else self.grant.holder == _public(grant).holder


class QuorumLease:
    """Leases by name, of a majority of keepers."""

    def __init__(self, panel: Panel, retry_delay: float) -> None:
        self._panel = panel
        self._retry_delay = retry_delay
        self._uniform = SURROUNDINGS.get().uniform
        self._held: dict[tuple[str, str], _Votes] = {}
        self._me, self._numbers = random_number(), count(1)
        self._owed: dict[int, list[_Votes]] = {}
        """By keeper: what it is to be told is given back."""
        self._telling: dict[int, asyncio.Task[None]] = {}
        self._ending: dict[_Votes, asyncio.TimerHandle] = {}
        """What gives back what some still have of a lease that nobody renewed."""

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
        missing, line, patience, has_turn = Missing(), None, inf, False
        while True:
            alias = f"{holder}{_NUMBER}{self._me}.{next(self._numbers)}"
            votes = _Votes(Grant(name, holder, 0, 0), alias, limit, shared)
            try:
                if line is not None:
                    has_turn = await self._stand(votes, line, ttl, min(patience, until - loop.time()))
                    missing.over()
                if line is None or has_turn:
                    grant = await self._try(votes, ttl, line, passes=wait == 0 or line is not None)
                    missing.over()
                    if grant is not None:
                        return grant
            except StoreUnreachable as error:
                missing.note(error, until)
            if loop.time() >= until:
                return None
            line = min(votes.refused, default=None)
            # A keeper that refuses alone may do so for somebody who is gone: then the others decide.
            patience = self._panel.node_timeout if len(votes.nodes) >= self._panel.quorum else inf
            if line is None:
                pause = self._retry_delay * (0.5 + self._uniform())
                await asyncio.sleep(min(pause, until - loop.time()))

    async def renew(self, grants: Sequence[Grant], ttl: float) -> list[Grant | None]:
        """Extend grants by ``ttl`` seconds from now; None in the place of each that no majority holds any more.

        A keeper of the minority that does not have a grant is given it again.

        Raises:
            StoreUnreachable: so many are away that it is not known.
        """
        began_at = asyncio.get_running_loop().time()
        known = [held for grant in grants if (held := self._of(grant)) is not None]
        renewed: dict[tuple[str, str], list[int]] = {held.key: [] for held in known}
        quorum = self._panel.quorum

        async def renew(node: int, lease: Lease) -> None:
            asked = [held for held in known if node in held.nodes]
            fresh = await lease.renew([held.nodes[node] for held in asked], ttl) if asked else []
            for held, grant in zip(asked, fresh, strict=True):
                if grant is None:
                    held.nodes.pop(node, None)
                elif node in held.nodes:
                    held.nodes[node] = grant
                    renewed[held.key].append(node)

        away = await self._panel.ask(
            self._panel.everybody, renew, lambda: all(len(by) >= quorum for by in renewed.values())
        )
        in_time = self._is_in_time(began_at, ttl)
        for held in known:
            by = renewed[held.key]
            if len(by) >= quorum and in_time:
                held.grant, held.until = self._agreed(held), began_at + ttl
                await self._heal(held, ttl, set(self._panel.everybody) - away.keys() - set(by))
            elif len(by) + len(held.nodes.keys() & away.keys()) >= quorum:
                raise self._panel.unreachable(away)
            else:
                self._abandon(held)
        return [held and held.grant for held in map(self._of, grants)]

    async def drop(self, grants: Sequence[Grant]) -> None:
        """Give grants back, everywhere; those already lost are ignored.

        Raises:
            StoreUnreachable: a majority could not be told.
        """
        everywhere = set(self._panel.everybody)
        gone = [self._of(grant) or _Votes(grant, unsure=everywhere) for grant in grants]
        is_known = all(votes.nodes for votes in gone)
        self._panel.check(await self._release(gone, () if is_known else everywhere))

    async def holder(self, name: str) -> list[Grant]:
        """Return the grants that a majority knows, oldest first."""
        return await self._majority(lambda lease: lease.holder(name))

    async def find(self, prefix: str = "") -> list[Grant]:
        """Return the grants that a majority knows of all names that begin with ``prefix``, by name, then oldest first."""
        return await self._majority(lambda lease: lease.find(prefix))

    async def lift(self, grant: Grant, token: int) -> Grant | None:
        """Give a grant a token that is at least ``token``, and every later one a higher; None when it was lost.

        Raises:
            StoreUnreachable: so many are away that it is not known.
        """
        held = self._of(grant)
        if held is None:
            return None
        if await self._lift(held, token):
            held.grant = msgspec.structs.replace(held.grant, token=max(held.grant.token, token))
            return held.grant
        if len(held.nodes) >= self._panel.quorum:
            raise self._panel.unreachable(
                {node: StoreUnreachable("It did not answer.") for node in sorted(held.unsure)}
            )
        self._abandon(held)
        return None

    async def settle(self) -> None:
        """Tell once more what is owed; what nobody can be told of ends by itself."""
        for timer in self._ending.values():
            timer.cancel()
        telling = list(self._telling.values())
        for task in telling:
            task.cancel()
        await asyncio.gather(*telling, return_exceptions=True)
        owed, self._owed = self._owed, {}
        await self._panel.ask(owed, lambda node, lease: _drop(node, lease, owed[node]), anyway=True)

    # ------------------------------------------------------------ a try

    async def _stand(self, votes: _Votes, node: int, ttl: float, wait: float) -> bool:
        """Stand in line at a keeper; return whether to ask the others: it gave the lease, or the time to wait for that is over."""
        name, patience = votes.grant.name, None if wait == inf else max(wait, 0)

        async def take(lease: Lease) -> Grant | None:
            return await lease.take(
                name, votes.alias, min(ttl, TURN), limit=votes.limit, shared=votes.shared, wait=patience
            )

        votes.unsure.add(node)
        try:
            if await self._panel.stay(node, take) is None:
                votes.unsure.discard(node)
        except BaseException as error:
            self._abandon(votes)
            if not isinstance(error, StoreError):
                raise
            return False
        return True

    async def _try(self, votes: _Votes, ttl: float, line: int | None, *, passes: bool) -> Grant | None:
        """Ask everybody once; agree on a token with those who gave it, or give all back.

        ``line`` is the keeper whose line one stood in. Who did in none gets nothing while a keeper refuses it, unless it ``passes``.
        """
        began_at = asyncio.get_running_loop().time()
        try:
            away = await self._give(
                votes, ttl, self._panel.everybody, lambda: self._is_decided(votes, line), line=line
            )
            if len(votes.nodes) < self._panel.quorum:
                self._panel.check({node: why for node, why in away.items() if self._panel.is_away(node)})
            elif passes or not votes.refused:
                token = max(grant.token for grant in votes.nodes.values())
                if await self._lift(votes, token) and self._is_in_time(began_at, ttl):
                    votes.grant = msgspec.structs.replace(votes.grant, token=token)
                    votes.grant, votes.until = self._agreed(votes), began_at + ttl
                    self._held[votes.key] = votes
                    self._end_in_time(votes)
                    return votes.grant
        except BaseException:
            await asyncio.shield(self._release([votes]))
            raise
        await self._release([votes])
        return None

    async def _give(
        self,
        votes: _Votes,
        ttl: float,
        nodes: Iterable[int],
        enough: Callable[[], bool] = lambda: False,
        line: int | None = None,
    ) -> Away:
        name, moment = votes.grant.name, self._panel.node_timeout * HANDING_ON

        async def take(node: int, lease: Lease) -> None:
            votes.unsure.add(node)
            wait = moment if line is not None and node > line else 0
            grant = await lease.take(
                name, votes.alias, ttl, limit=votes.limit, shared=votes.shared, wait=wait
            )
            if grant is None:
                votes.unsure.discard(node)
                votes.refused.add(node)
            elif await self._is_wanted(votes, node, lease, grant) and grant.token < votes.grant.token:
                await self._lift_one(votes, node, lease, votes.grant.token)

        return await self._panel.ask(nodes, take, enough)

    async def _heal(self, held: _Votes, ttl: float, nodes: set[int]) -> None:
        """Give the others what a majority gave, so that those of the majority may go, too; wait for none of them."""
        if nodes:
            await self._give(held, ttl, sorted(nodes), lambda: True)
        await self._lift(held, held.grant.token)

    def _is_decided(self, votes: _Votes, line: int | None) -> bool:
        """Tell whether there is a majority, or none to be had, and known who refused first."""
        if len(votes.nodes) >= self._panel.quorum:
            return True
        first = min(votes.refused, default=None)
        if first is None:
            return False
        if line is not None and first < line:
            return True  # whose turn it is there waits for our vote; we do not for its
        lost = [node for node in self._panel.everybody if node in votes.refused or self._panel.is_away(node)]
        return len(lost) > len(self._panel.everybody) - self._panel.quorum and all(
            node in votes.nodes or self._panel.is_away(node) for node in range(first)
        )

    async def _is_wanted(self, votes: _Votes, node: int, lease: Lease, grant: Grant) -> bool:
        """Take note of what a keeper gave; or give it back, if that came when nobody waited for it any more."""
        votes.unsure.discard(node)
        if votes.is_over:
            await lease.drop([grant])
            return False
        votes.nodes[node] = grant
        return True

    async def _lift(self, held: _Votes, token: int) -> bool:
        """Let a majority have a token at least so high; return whether it has."""

        def have() -> bool:
            high = sum(grant.token >= token for node, grant in held.nodes.items() if node not in held.unsure)
            return high >= self._panel.quorum

        low = [node for node, grant in held.nodes.items() if grant.token < token]
        if low:
            await self._panel.ask(low, lambda node, lease: self._lift_one(held, node, lease, token), have)
        return have()

    async def _lift_one(self, held: _Votes, node: int, lease: Lease, token: int) -> None:
        if (low := held.nodes.get(node)) is None:
            return
        held.unsure.add(node)
        grant = await lease.lift(low, token)
        if grant is None:  # or it was asked twice, and the first time it did
            held.nodes.pop(node, None)
        else:
            await self._is_wanted(held, node, lease, grant)

    # ------------------------------------------------------------ giving back

    async def _release(self, gone: Sequence[_Votes], nodes: Iterable[int] = ()) -> Away:
        """Give back what was given; return who does not know of it yet. Who is silent is told later, by itself."""
        for votes in gone:
            self._forget(votes)
        asked = {*nodes, *(node for votes in gone for node in votes.nodes)}
        told = set[int]()

        async def drop(node: int, lease: Lease) -> None:
            await _drop(node, lease, gone)
            told.add(node)

        away = await self._panel.ask(sorted(asked), drop, lambda: len(told) >= self._panel.quorum)
        for node in self._panel.everybody:
            owed = [votes for votes in gone if votes.are_at(node)]
            if owed and node not in told:
                away.setdefault(node, StoreUnreachable("It did not answer before."))
                self._owe(node, owed)
        return away

    def _abandon(self, held: _Votes) -> None:
        """Give back what is lost and some still have; wait for none of them."""
        self._forget(held)
        for node in self._panel.everybody:
            if held.are_at(node):
                self._owe(node, [held])

    def _end_in_time(self, held: _Votes) -> None:
        """Give a lease back when its time is over, unless it is renewed until then: its holder may have given it up."""
        loop = asyncio.get_running_loop()

        def end() -> None:
            if held.until > loop.time():
                self._end_in_time(held)
            else:
                self._abandon(held)

        self._ending[held] = loop.call_at(held.until, end)

    def _owe(self, node: int, owed: Sequence[_Votes]) -> None:
        """Tell a keeper what is given back, until it has heard.

        One that stood still does what it was asked before when it goes on; so it may give a lease only then.
        """
        self._owed[node] = [*self._owed.get(node, ()), *owed][-MOST_OWED:]
        if node not in self._telling:
            self._telling[node] = asyncio.create_task(self._tell(node))

    async def _tell(self, node: int) -> None:
        try:
            while owed := self._owed.pop(node, []):
                if not await self._has_heard(node, owed):
                    await self._panel.back(node)
        finally:
            del self._telling[node]

    async def _has_heard(self, node: int, owed: list[_Votes]) -> bool:
        away: Iterable[int] = (node,)
        try:
            away = await self._panel.ask(away, lambda node, lease: _drop(node, lease, owed))
        finally:
            if away:
                self._owed[node] = [*owed, *self._owed.get(node, ())][-MOST_OWED:]
        return not away

    # ------------------------------------------------------------ counting

    def _of(self, grant: Grant) -> _Votes | None:
        held = self._held.get((grant.name, grant.holder))
        return held if held is not None and held.grant.token == grant.token else None

    def _forget(self, votes: _Votes) -> None:
        votes.is_over = True
        if (timer := self._ending.pop(votes, None)) is not None:
            timer.cancel()
        if self._held.get(votes.key) is votes:
            del self._held[votes.key]

    def _agreed(self, held: _Votes) -> Grant:
        """Return the grant of a majority; it ends when the first of that majority may end."""
        ends = sorted((grant.expires_at for grant in held.nodes.values()), reverse=True)
        return msgspec.structs.replace(held.grant, expires_at=ends[self._panel.quorum - 1])

    def _is_in_time(self, began_at: float, ttl: float) -> bool:
        passed = asyncio.get_running_loop().time() - began_at
        return passed < ttl * (1 - DRIFT) - DRIFT_SECONDS

    async def _majority(self, look: Callable[[Lease], Awaitable[list[Grant]]]) -> list[Grant]:
        async def one(node: int, lease: Lease) -> None:
            for grant in map(_public, await look(lease)):
                seen.setdefault((grant.name, grant.holder), []).append(grant)

        seen: dict[tuple[str, str], list[Grant]] = {}
        self._panel.check(await self._panel.ask(self._panel.everybody, one))
        found = [
            max(each, key=lambda grant: grant.token)
            for each in seen.values()
            if len(each) >= self._panel.quorum
        ]
        return sorted(found, key=lambda grant: (grant.name, grant.token))


async def _drop(node: int, lease: Lease, gone: Sequence[_Votes]) -> None:
    """Give back to one keeper what it gave, or may have given."""
    found = dict[str, list[Grant]]()
    for votes in gone:
        name = votes.grant.name
        if node in votes.unsure and name not in found:
            found[name] = await lease.holder(name)
    grants: list[Grant] = []
    for votes in gone:
        if node in votes.unsure:
            grants += filter(votes.has, found[votes.grant.name])
        elif node in votes.nodes:
            grants.append(votes.nodes[node])
    if grants:
        await lease.drop(grants)


def _public(grant: Grant) -> Grant:
    """Return a keeper's grant as it is known outside: under the name of its holder."""
    return msgspec.structs.replace(grant, holder=grant.holder.rpartition(_NUMBER)[0] or grant.holder)
