"""A dictionary that behaves like a lease, and random histories to compare with it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from reprise.stores.lease import Grant
from reprise.testing.suites.keeper import LONG, Keeper

_names = st.sampled_from(("x", "y"))
_holders = st.sampled_from(("a", "b", "c"))


class Held(msgspec.Struct):
    """What the model knows of one grant; ``ends`` is None for one that outlives the test."""

    grant: Grant
    shared: bool
    ends: float | None


class LeaseMachine(RuleBasedStateMachine):
    """Random takes, renewals, drops, restarts and passing of time."""

    def __init__(self, make_keeper: Callable[[], Keeper]) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.keeper = make_keeper()
        self.store = self.runner.run(self.keeper.open())
        self.held: dict[tuple[str, str], Held] = {}
        self.past: list[Grant] = []
        self.highest: dict[str, int] = {}
        self.now = 0.0

    def _of(self, name: str) -> list[Held]:
        return [held for (n, _), held in self.held.items() if n == name]

    def _ends(self, short: bool) -> tuple[float, float | None]:
        short = short and self.keeper.exact_time
        return (self.keeper.short, self.now + self.keeper.short) if short else (LONG, None)

    @rule(name=_names, holder=_holders, limit=st.integers(1, 2), shared=st.booleans(), short=st.booleans())
    def take(self, name: str, holder: str, limit: int, shared: bool, short: bool) -> None:
        """Take without waiting."""
        ttl, ends = self._ends(short)
        others = [held for held in self._of(name) if held.grant.holder != holder]
        mine = self.held.get((name, holder))
        if shared or any(held.shared for held in others):
            free = all(held.shared for held in others) and (shared or not others)
        else:
            free = len(others) < limit
        grant = self.runner.run(self.store.lease.take(name, holder, ttl, limit=limit, shared=shared))
        assert (grant is not None) == free
        if grant is not None:
            if mine is not None:
                assert grant.token == mine.grant.token
            else:
                assert grant.token > self.highest.get(name, 0)
                self.highest[name] = grant.token
            self.held[name, holder] = Held(grant, shared, ends)
            self.past.append(grant)

    @precondition(lambda self: self.past)
    @rule(data=st.data(), short=st.booleans())
    def renew(self, data: st.DataObject, short: bool) -> None:
        """Renew any grant there ever was."""
        ttl, ends = self._ends(short)
        grant = data.draw(st.sampled_from(self.past))
        held = self.held.get((grant.name, grant.holder))
        live = held is not None and held.grant.token == grant.token
        [renewed] = self.runner.run(self.store.lease.renew([grant], ttl))
        assert (renewed is not None) == live
        if held is not None and renewed is not None:
            held.grant, held.ends = renewed, ends

    @precondition(lambda self: self.past)
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        """Drop any grant there ever was."""
        grant = data.draw(st.sampled_from(self.past))
        held = self.held.get((grant.name, grant.holder))
        if held is not None and held.grant.token == grant.token:
            del self.held[grant.name, grant.holder]
        self.runner.run(self.store.lease.drop([grant]))

    @rule()
    def pass_time(self) -> None:
        """Let every short lease end."""
        if not self.keeper.exact_time:
            grants = [held.grant for held in self.held.values()]
            self.runner.run(self.store.lease.renew(grants, self.keeper.short))
            self.held.clear()
        self.runner.run(self.keeper.pass_time(self.keeper.short))
        self.now += self.keeper.short
        self.held = {
            key: held for key, held in self.held.items() if held.ends is None or held.ends > self.now
        }

    @rule()
    def restart(self) -> None:
        """Close and open."""
        self.store = self.runner.run(self.keeper.reopen(self.store))

    @rule()
    def begin_epoch(self) -> None:
        """Begin an epoch: all leases end, and tokens go on above all that were given."""
        self.runner.run(self.store.begin_epoch())
        self.held.clear()

    @rule(name=_names)
    def look(self, name: str) -> None:
        """Ask who holds it."""
        grants = self.runner.run(self.store.lease.holder(name))
        if all(held.ends is None for held in self._of(name)):
            assert grants == sorted((held.grant for held in self._of(name)), key=lambda grant: grant.token)

    def teardown(self) -> None:
        """Close."""
        self.runner.run(self.keeper.close())
        self.runner.close()
