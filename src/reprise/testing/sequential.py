"""Sequential models to hold a history against: what an object would do if its clients came one after the other.

Each says which operations it knows, by name and arguments, and what they answer. Write your own in the same way: a class
with ``first`` and ``after`` (:class:`~reprise.testing.linearizable.Model`).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from itertools import chain, combinations
from typing import Any, NamedTuple, Protocol, TypeVar

from reprise.testing.linearizable import Operation

T = TypeVar("T")


def unless(operation: Operation, seen: Any, state: Any) -> Iterable[Any]:
    """Return a state when an operation has the result ``seen``, or one that nobody knows."""
    return (state,) if not operation.known or operation.result == seen else ()


class Register:
    """One value: ``write(value)``, ``read() -> value``, ``cas(old, new) -> bool``."""

    def __init__(self, value: Hashable = None) -> None:
        self._value = value

    def first(self, key: str) -> Hashable:
        """Return the value that it has at the beginning."""
        return self._value

    def after(self, state: Hashable, operation: Operation) -> Iterable[Hashable]:
        """Apply one operation."""
        match operation.name, operation.args:
            case "write", (value,):
                return (value,)
            case "read", ():
                return unless(operation, state, state)
            case "cas", (old, new):
                return unless(operation, state == old, new if state == old else state)
            case _:
                raise stranger(self, operation)


class Tally:
    """A number: ``add(n) -> the new number``, ``read() -> number``. A result of ``None`` says only that it was done."""

    def first(self, key: str) -> int:
        """Return 0."""
        return 0

    def after(self, state: int, operation: Operation) -> Iterable[int]:
        """Apply one operation."""
        match operation.name, operation.args:
            case "add", (number,):
                return unless(
                    operation, state + number if operation.result is not None else None, state + number
                )
            case "read", ():
                return unless(operation, state, state)
            case _:
                raise stranger(self, operation)


class Held(NamedTuple):
    """A grant: it ends by itself at some moment from ``earliest`` to ``latest``."""

    holder: str
    token: int
    """0 = nobody knows: no answer came."""
    earliest: float
    latest: float


class Locked(NamedTuple):
    """What a lock knows."""

    highest: int
    """Token that was given last."""
    fence: int
    """Highest token under which the protected thing was written."""
    held: frozenset[Held]


class FencedLock:
    """A lease with fencing tokens, and a thing that it protects.

    ``take(holder, ttl) -> token or None``; taking what one holds renews it under the same token. ``renew(holder, token,
    ttl) -> bool``, ``drop(holder, token)``, ``holders() -> tokens, lowest first``. ``write(token) -> bool`` is a write to
    the protected thing, which must refuse every token lower than one that it saw.

    Times are those of the history, in seconds. A grant ends ``ttl`` after the unknown moment at which it was given, so
    between ``ttl`` after the call and ``ttl`` after the answer it may have ended or not; ``slack`` (seconds) is how far the
    clocks of the lease and of the history may drift apart. A ``ttl`` of 0 never ends. ``fair``: others may wait in a line
    that clients cannot see, and who asks meanwhile may be refused a lock that is free.
    """

    def __init__(self, limit: int = 1, *, slack: float = 0.0, fair: bool = False) -> None:
        self._limit = limit
        self._fair = fair
        self._slack = slack

    def first(self, key: str) -> Locked:
        """Return a lock that nobody holds."""
        return Locked(0, 0, frozenset())

    def after(self, state: Locked, operation: Operation) -> Iterator[Locked]:
        """Apply one operation, in every state that time may have made of this one."""
        for held in survivors(state.held, operation):
            yield from self._apply(state._replace(held=held), operation)

    def _apply(self, now: Locked, operation: Operation) -> Iterable[Locked]:
        match operation.name, operation.args:
            case "take", (holder, ttl):
                return self._take(now, operation, holder, ttl)
            case "renew", (holder, token, ttl):
                mine = _mine(now.held, holder, token)
                longer = (
                    now.held
                    if mine is None
                    else now.held - {mine} | {self._grant(operation, holder, token, ttl)}
                )
                return unless(operation, mine is not None, now._replace(held=longer))
            case "drop", (holder, token):
                return (now._replace(held=now.held - {_mine(now.held, holder, token)}),)
            case "holders", ():
                return (now,) if not operation.known or _is_all(operation.result, now.held) else ()
            case "write", (token,):
                return unless(operation, token >= now.fence, now._replace(fence=max(token, now.fence)))
            case _:
                raise stranger(self, operation)

    def _take(self, now: Locked, operation: Operation, holder: str, ttl: float) -> Iterable[Locked]:
        mine = next((each for each in now.held if each.holder == holder), None)
        others = now.held - {mine}
        if mine is None and len(others) >= self._limit:
            return unless(operation, None, now)
        if mine is None and self._fair and operation.result is None:
            return (now,)
        token: int | None = operation.result if operation.known else mine.token if mine else 0
        if token is None or (operation.known and not _fits(token, mine, now.highest)):
            return ()
        grant = self._grant(operation, holder, token, ttl)
        return (now._replace(highest=max(token, now.highest + (mine is None)), held=others | {grant}),)

    def _grant(self, operation: Operation, holder: str, token: int, ttl: float) -> Held:
        if not ttl:
            return Held(holder, token, float("inf"), float("inf"))
        return Held(holder, token, operation.began + ttl - self._slack, operation.ended + ttl + self._slack)


def _mine(held: Iterable[Held], holder: str, token: int) -> Held | None:
    return next((each for each in held if (each.holder, each.token) == (holder, token)), None)


def _fits(token: int, mine: Held | None, highest: int) -> bool:
    return token > highest if mine is None else token == mine.token or not mine.token


def _is_all(tokens: Iterable[int], held: frozenset[Held]) -> bool:
    """Tell whether these are the tokens of all grants, as far as these are known."""
    known = {each.token for each in held if each.token}
    return len(set(tokens)) == len(held) and known <= set(tokens)


class Ending(Protocol):
    """What ends by itself at some moment from ``earliest`` to ``latest``."""

    @property
    def earliest(self) -> float:
        """Return the first moment at which it may end."""
        ...

    @property
    def latest(self) -> float:
        """Return the moment at which it has ended for sure."""
        ...


E = TypeVar("E", bound=Ending)


def survivors(some: frozenset[E], operation: Operation) -> Iterator[frozenset[E]]:
    """Yield what may be left at the moment of an operation: some have ended, of some one cannot say."""
    live = frozenset(each for each in some if each.latest > operation.began)
    doubtful = [each for each in live if each.earliest <= operation.ended]
    for ended in _subsets(doubtful):
        yield live.difference(ended)


def _subsets(some: Sequence[T]) -> Iterator[tuple[T, ...]]:
    return chain.from_iterable(combinations(some, number) for number in range(len(some) + 1))


class Work(NamedTuple):
    """A task of a queue; a claim ends at some moment from ``earliest`` to ``latest``."""

    id: str
    order: float
    state: str = "ready"
    token: int = 0
    earliest: float = 0.0
    latest: float = 0.0


class Line(NamedTuple):
    """What a queue knows."""

    highest: int
    work: tuple[Work, ...]
    """In the order of the offers, where that matters."""


class WorkQueue:
    """A queue of tasks with claims under tokens.

    ``offer(id, order) -> bool`` (whether it is new), ``claim(limit, ttl) -> ((id, token), …)``, ``extend(id, token, ttl) ->
    bool``, ``settle(id, token, state) -> bool`` with the states ``done``, ``dead``, ``ready``. Claims come in the order of
    ``order``, then of the offers. With ``ordered=False`` claims pass over what others are at: one may get any tasks that are
    ready, and as few as it likes; ``drain(limit, ttl)`` is a claim that has no rivals and gets all there is. Times
    as in :class:`FencedLock`. Tokens only grow; beside rivals, those of one task.
    """

    def __init__(self, *, ordered: bool = True, slack: float = 0.0) -> None:
        self._ordered = ordered
        self._slack = slack

    def first(self, key: str) -> Line:
        """Return an empty queue."""
        return Line(0, ())

    def after(self, state: Line, operation: Operation) -> Iterable[Line]:
        """Apply one operation."""
        match operation.name, operation.args:
            case "offer", (id, order):
                known = any(each.id == id for each in state.work)
                more = state if known else self._offered(state, id, order)
                return unless(operation, not known, more)
            case "claim" | "drain", (limit, ttl):
                return self._claims(state, operation, limit, ttl)
            case "extend", (id, token, ttl):
                mine = _claimed(state, id, token)
                return unless(operation, mine is not None, self._again(state, operation, mine, ttl))
            case "settle", (id, token, end):
                mine = _claimed(state, id, token)
                return unless(operation, mine is not None, _settled(state, mine, end))
            case _:
                raise stranger(self, operation)

    def _offered(self, state: Line, id: str, order: float) -> Line:
        work = (*state.work, Work(id, order))
        # Where the order of offers does not matter, states that differ in it alone are one: else they are too many.
        return Line(state.highest, work if self._ordered else tuple(sorted(work)))

    def _claims(self, state: Line, operation: Operation, limit: int, ttl: float) -> Iterable[Line]:
        certain = [each for each in state.work if each.state == "ready" or _has_ended(each, operation)]
        doubtful = [each for each in state.work if each not in certain and _may_have_ended(each, operation)]
        choices = [sorted([*certain, *ended], key=state.work.index) for ended in _subsets(doubtful)]
        free = [sorted(choice, key=lambda each: each.order)[:limit] for choice in choices]
        if not operation.known:
            return {self._given(state, operation, _numbered(some, state.highest), ttl) for some in free}
        if not self._grows(state, operation.result) or not self._fits(operation, [*certain, *doubtful], free):
            return ()
        return (self._given(state, operation, dict(operation.result), ttl),)

    def _fits(self, operation: Operation, all_free: list[Work], free: list[list[Work]]) -> bool:
        """Tell whether a claim may get what it got: of what is free for sure and perhaps, or exactly one choice of it."""
        ids = [id for id, _ in operation.result]
        if self._ordered:
            return any(ids == [each.id for each in choice] for choice in free)
        if operation.name == "drain":
            return any(sorted(ids) == sorted(each.id for each in choice) for choice in free)
        return set(ids) <= {each.id for each in all_free}

    def _grows(self, state: Line, claims: Sequence[tuple[str, int]]) -> bool:
        """Tell whether tokens are new: higher than all before, or beside rivals at least than those of the same task."""
        tokens = [token for _, token in claims]
        before = {each.id: state.highest if self._ordered else each.token for each in state.work}
        return len(set(tokens)) == len(tokens) and all(token > before.get(id, token) for id, token in claims)

    def _given(self, state: Line, operation: Operation, tokens: dict[str, int], ttl: float) -> Line:
        ends = self._ends(operation, ttl)
        work = tuple(
            Work(each.id, each.order, "claimed", tokens[each.id], *ends) if each.id in tokens else each
            for each in state.work
        )
        return Line(max([state.highest, *tokens.values()]) if self._ordered else 0, work)

    def _again(self, state: Line, operation: Operation, mine: Work | None, ttl: float) -> Line:
        if mine is None:
            return state
        earliest, latest = self._ends(operation, ttl)
        longer = mine._replace(earliest=earliest, latest=latest)
        return state._replace(work=tuple(longer if each is mine else each for each in state.work))

    def _ends(self, operation: Operation, ttl: float) -> tuple[float, float]:
        if not ttl:
            return float("inf"), float("inf")
        return operation.began + ttl - self._slack, operation.ended + ttl + self._slack


def _numbered(free: Sequence[Work], highest: int) -> dict[str, int]:
    """Return tokens for a claim of which no answer came: the lowest that it may have got."""
    return {each.id: highest + number for number, each in enumerate(free, 1)}


def _claimed(state: Line, id: str, token: int) -> Work | None:
    return next(
        (each for each in state.work if (each.id, each.token, each.state) == (id, token, "claimed")), None
    )


def _settled(state: Line, mine: Work | None, end: str) -> Line:
    if mine is None:
        return state
    left = () if end == "done" else (mine._replace(state=end, earliest=0.0, latest=0.0),)
    return state._replace(
        work=tuple(kept for each in state.work for kept in (left if each is mine else (each,)))
    )


def _has_ended(work: Work, operation: Operation) -> bool:
    return work.state == "claimed" and work.latest <= operation.began


def _may_have_ended(work: Work, operation: Operation) -> bool:
    return work.state == "claimed" and work.earliest <= operation.ended


def stranger(model: object, operation: Operation) -> TypeError:
    """Return the error for an operation that a model does not know."""
    return TypeError(
        f"{type(model).__name__} knows no {operation.name} with {len(operation.args)} arguments."
    )
