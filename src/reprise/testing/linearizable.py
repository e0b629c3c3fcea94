"""Whether what concurrent clients saw can be explained by one order of their operations, each in one moment.

A history is *linearizable* when every operation can be given a moment between its call and its answer so that, in the
order of these moments, a simple sequential model gives the answers that were seen. An operation whose outcome nobody
knows may have happened at any moment after its call, or never.

The search is that of Wing and Gong ("Testing and Verifying Concurrent Objects", 1993), with Lowe's two additions
("Testing for Linearizability", 2017): a configuration that was seen is not searched again, and an operation is placed
only when an answer forces it. A configuration is the state of the model and which of the *open* operations were placed,
so it stays small however long the history is. Keys are judged one by one (linearizability is compositional).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Generator, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from math import inf
from pathlib import Path
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import msgspec

T = TypeVar("T")
S = TypeVar("S", bound=Hashable)
S_ = TypeVar("S_")

MOST = 2_000_000
"""Configurations after which a search gives up."""
DRAWN = 64
"""Calls and answers up to which a window is drawn as bars."""


class Unknown:
    """The result of an operation of which nobody knows what came."""

    def __repr__(self) -> str:
        return "?"


UNKNOWN = Unknown()


class Operation(msgspec.Struct, frozen=True, omit_defaults=True, eq=False):
    """One call of one client, and what came of it."""

    client: str
    name: str
    args: tuple[Any, ...] = ()
    key: str = ""
    """Of what it is about; keys are judged one by one."""
    began: float = 0.0
    ended: float = inf
    """``inf`` = no answer came."""
    result: Any = UNKNOWN

    @property
    def known(self) -> bool:
        """Whether an answer came."""
        return self.ended != inf

    def __str__(self) -> str:
        shown = ", ".join(map(repr, self.args))
        return f"{self.name}({shown}) -> {self.result!r}"


class Model(Protocol[S]):
    """A sequential object: what each operation may answer, and what it leaves behind."""

    def first(self, key: str) -> S:
        """Return the state before any operation; it must be hashable."""
        ...

    def after(self, state: S, operation: Operation) -> Iterable[S]:
        """Return the states in which an operation may leave this one; none = it cannot have had its result here.

        The result of an operation that is not ``known`` is ``UNKNOWN``: return every state that it may lead to.
        """
        ...


class NotLinearizable(AssertionError):
    """No order of the operations explains their results."""

    def __init__(
        self, key: str, window: Sequence[Operation], culprit: Operation, states: Sequence[Any]
    ) -> None:
        self.key = key
        self.window = list(window)
        """The shortest stretch that shows it: from the last moment at which no call was open, to the answer that
        cannot be explained."""
        self.culprit = culprit
        """The operation whose answer cannot be explained."""
        self.states = list(states)
        """In which states the object may have been before the window."""
        super().__init__(_told(self))


class Undecided(Exception):
    """The search was given up: too many operations were open at once."""


# ---------------------------------------------------------------- recording


class History:
    """Operations as clients recorded them.

    ``now`` orders calls and answers. By default they are numbered as they come, which is exact within one process; clients
    in several processes need one clock for all, as ``SystemClock().monotonic`` of one machine.

    >>> history = History()
    >>> with history.call("a", "write", 1) as answer: answer(None)
    >>> [str(operation) for operation in history.operations]
    ['write(1) -> None']
    """

    def __init__(
        self, operations: Iterable[Operation] = (), *, now: Callable[[], float] | None = None
    ) -> None:
        self._operations = dict(enumerate(operations))
        self._numbers = count(len(self._operations))
        self._now = now or count(1).__next__

    @property
    def operations(self) -> list[Operation]:
        """What was recorded, in the order of the calls; of calls that are open the result is unknown."""
        return list(self._operations.values())

    @contextmanager
    def call(
        self,
        client: str,
        name: str,
        *args: Any,
        key: str = "",
        refused: tuple[type[Exception], ...] = (),
    ) -> Generator[Callable[[Any], None]]:
        """Record one operation: from here to the call of what is returned, with its result.

        Without that call, as when an error comes, the outcome is unknown; an error of ``refused`` says that nothing
        happened, and nothing is recorded. All errors pass on.
        """
        began, number = self._now(), next(self._numbers)
        self._operations[number] = Operation(client, name, args, key, began)

        def answer(result: Any) -> None:
            self._operations[number] = Operation(client, name, args, key, began, self._now(), result)

        try:
            yield answer
        except refused:
            del self._operations[number]
            raise

    async def record(
        self,
        client: str,
        name: str,
        *args: Any,
        of: Awaitable[S_],
        tell: Callable[[S_], Any] = lambda value: value,
        key: str = "",
    ) -> S_:
        """Record the operation that an awaitable is, and return what it returns; ``tell`` makes a plain result of it."""
        with self.call(client, name, *args, key=key) as answer:
            value = await of
            answer(tell(value))
        return value

    def save(self, path: Path) -> None:
        """Write the operations to a file, as lines of JSON: tuples become lists, so use plain values."""
        path.write_bytes(b"".join(msgspec.json.encode(_line(each)) + b"\n" for each in self.operations))

    @classmethod
    def load(cls, *paths: Path, now: Callable[[], float] | None = None) -> History:
        """Return the operations of files that were saved, as those of one history."""
        lines = [line for path in paths for line in path.read_bytes().splitlines()]
        return cls((_operation(msgspec.json.decode(line)) for line in lines), now=now)


def _line(operation: Operation) -> dict[str, Any]:
    line = {name: getattr(operation, name) for name in ("client", "name", "args", "key", "began")}
    return line | ({"ended": operation.ended, "result": operation.result} if operation.known else {})


def _operation(line: dict[str, Any]) -> Operation:
    return Operation(**{name: _hashable(value) for name, value in line.items()})


def _hashable(value: Any) -> Any:
    """Return the lists of JSON as the tuples that they were."""
    return tuple(map(_hashable, value)) if isinstance(value, list) else value  # pyright: ignore[reportUnknownArgumentType]


# ---------------------------------------------------------------- judging


def check_linearizable(history: History | Iterable[Operation], model: Model[Any], *, most: int = MOST) -> int:
    """Look for an order that explains a history, and return how many configurations that took.

    Each key is judged by itself, with a state of its own. ``most`` bounds the configurations of one key.

    Raises:
        NotLinearizable: there is none; says of which key, and where it shows.
        Undecided: not found within ``most`` configurations.
    """
    by_key: dict[str, list[Operation]] = defaultdict(list)
    for operation in history.operations if isinstance(history, History) else history:
        by_key[operation.key].append(operation)
    return sum(_Search(key, operations, model, most).run() for key, operations in by_key.items())


class _Event(NamedTuple):
    """A call or an answer, in the order of time; calls come before the answers of the same moment."""

    at: float
    is_answer: bool
    number: int


class _Configuration(NamedTuple, Generic[S]):
    """Before an event: the state, and which of the open operations were placed (a bit for each slot)."""

    event: int
    state: S
    placed: int


class _Search(Generic[S]):
    """The search over the operations of one key."""

    def __init__(self, key: str, operations: Sequence[Operation], model: Model[S], most: int) -> None:
        self.key, self.operations, self.model, self.most = key, operations, model, most
        self.events = sorted(
            _Event(at, is_answer, number)
            for number, each in enumerate(operations)
            for at, is_answer in ((each.began, False), (each.ended, True))
            if at != inf
        )
        self.slots: list[int] = [0] * len(operations)
        """Bit of each operation among those open with it."""
        self.open: list[tuple[int, ...]] = []
        """By event, the operations that are open before it."""
        self._lay_out()

    def _lay_out(self) -> None:
        free: list[int] = []
        now: dict[int, None] = {}
        highest = count()
        for event in self.events:
            self.open.append(tuple(now))
            if event.is_answer:
                del now[event.number]
                free.append(self.slots[event.number])
            else:
                now[event.number] = None
                self.slots[event.number] = free.pop() if free else 1 << next(highest)

    def run(self) -> int:
        """Return how many configurations were seen; raises when the last answer cannot be reached."""
        start = _Configuration(0, self.model.first(self.key), 0)
        seen: set[_Configuration[S]] = {start}
        stack = [start]
        while stack:
            for after in self._next(stack.pop()):
                if after.event == len(self.events):
                    return len(seen)
                if after not in seen:
                    seen.add(after)
                    stack.append(after)
            if len(seen) > self.most:
                raise Undecided(
                    f"Key {self.key!r}: {len(seen)} configurations were tried, and there are more. Give the clients "
                    "fewer keys in common, fewer unknown outcomes, or shorter histories."
                )
        raise self._failure(seen)

    def _next(self, now: _Configuration[S]) -> Iterator[_Configuration[S]]:
        """Yield what may follow, the most likely last: the stack gives that first."""
        event = self.events[now.event]
        mine = self.slots[event.number]
        if not event.is_answer:
            yield _Configuration(now.event + 1, now.state, now.placed)
        elif now.placed & mine:
            yield _Configuration(now.event + 1, now.state, now.placed ^ mine)
        else:
            for number in (*(each for each in self.open[now.event] if each != event.number), event.number):
                if not now.placed & self.slots[number]:
                    placed = now.placed | self.slots[number]
                    for state in self.model.after(now.state, self.operations[number]):
                        yield _Configuration(now.event, state, placed)

    def _failure(self, seen: Iterable[_Configuration[S]]) -> NotLinearizable:
        """Say where it shows. All that can be reached was seen, so also all states before the window."""
        last = max(each.event for each in seen)
        begin = max(n for n in range(last + 1) if not any(self.operations[o].known for o in self.open[n]))
        numbers = dict.fromkeys(event.number for event in self.events[begin : last + 1])
        before = [each for each in seen if each.event == begin]
        unplaced = [n for n in self.open[begin] if any(not each.placed & self.slots[n] for each in before)]
        window = [self.operations[number] for number in dict.fromkeys([*unplaced, *numbers])]
        states = list(dict.fromkeys(each.state for each in before))
        return NotLinearizable(self.key, window, self.operations[self.events[last].number], states)


# ---------------------------------------------------------------- telling


def _told(error: NotLinearizable) -> str:
    of = f" of {error.key!r}" if error.key else ""
    states = [f"    {state}" for state in error.states[:5]]
    more = [f"    and {len(error.states) - 5} more"] if len(error.states) > 5 else []
    return "\n".join(
        [
            f"No order of the operations{of} explains what the clients saw.",
            "The object was before, as far as its answers tell, in one of these states:",
            *states,
            *more,
            "Then these operations, of which the marked one cannot have had its result:",
            *_drawn(error),
        ]
    )


def _drawn(error: NotLinearizable) -> Iterator[str]:
    """Yield a line for each operation: who, when as a bar, what; and the one that cannot be explained."""
    answer = error.culprit.ended
    ends = {each.ended for each in error.window if each.ended <= answer}
    moments = sorted({each.began for each in error.window} | ends)
    places = {at: place for place, at in enumerate(moments)}
    width = max(len(each.client) for each in error.window)
    for each in error.window:
        first, last = places[each.began], places.get(each.ended, len(moments))
        bar = f"{' ' * first}|{'-' * (last - first - 1)}{'|' if each.ended in places else '…'}"
        shown = f"  {bar:<{len(moments) + 1}}" if len(moments) <= DRAWN else ""
        mark = "   <== not possible" if each is error.culprit else ""
        yield f"    {each.client:<{width}}{shown}  {each}{mark}"
