"""What is counted and measured while it happens, by names that stay as they are.

A room declares its metrics once, at import; whoever works adds to them; whoever looks takes a :meth:`Metrics.snapshot`. Names
are those of OpenTelemetry's manner (``reprise.lock.wait``, with the unit beside it), so an exporter has only to translate.
Adding costs well under a microsecond. What is counted elsewhere anyway is asked for at the snapshot (:meth:`Family.ask`).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Any, Generic, Literal, TypeVar

import msgspec

from reprise.kernel.errors import ConfigurationError

Kind = Literal["counter", "gauge", "histogram"]

SECONDS = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
"""Upper bounds of a histogram's buckets; above the last there is one more."""
MOST = 1_000
"""Sets of labels of one metric. All that come later are counted together, under ``OTHER``: names may come from users."""
OTHER = "(other)"


class Sample(msgspec.Struct, frozen=True):
    """A metric under one set of labels, as it is now."""

    name: str
    kind: Kind
    unit: str
    """``s``, or ``1`` for things that are counted."""
    text: str
    """What it is."""
    labels: dict[str, str]
    value: float
    """The count, the value, or the sum of all that was observed."""
    count: int = 0
    """Of a histogram: how often something was observed."""
    buckets: tuple[int, ...] = ()
    """Of a histogram: how many were at most each of ``bounds``, beyond the one before; then those above all."""
    bounds: tuple[float, ...] = ()


class Counter:
    """A number that only grows."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0

    def add(self, by: float = 1) -> None:
        """Count."""
        # No call between reading and writing: there the interpreter lets no other thread in.
        self.value += by


class Gauge:
    """A number that goes up and down."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0

    def set(self, value: float) -> None:
        """Let it be this from now on."""
        self.value = value


class Histogram:
    """How long something took, counted in buckets."""

    __slots__ = ("buckets", "sum")

    def __init__(self) -> None:
        self.sum = 0.0
        self.buckets = [0] * (len(SECONDS) + 1)

    def observe(self, value: float) -> None:
        """Count one."""
        place = bisect_left(SECONDS, value)
        self.buckets[place] += 1
        self.sum += value


M = TypeVar("M", Counter, Gauge, Histogram)


class Family(Generic[M]):
    """A metric: one number or histogram for each set of labels. Made by :class:`Metrics`."""

    def __init__(
        self, name: str, kind: Kind, unit: str, text: str, labels: Sequence[str], make: type[M]
    ) -> None:
        self.name, self.unit, self.text = name, unit, text
        self.kind: Kind = kind
        self.labels = tuple(labels)
        self._make = make
        self._members: dict[tuple[str, ...], M] = {}
        self._asked: dict[object, tuple[tuple[str, ...], Callable[[], float]]] = {}

    def of(self, *values: str) -> M:
        """Return what counts under these values of the labels, in their order; to look it up each time is slower.

        Raises ``ConfigurationError`` when there are more or fewer values than labels.
        """
        member = self._members.get(values)
        if member is None:
            self._check(values)
            values = values if len(self._members) < MOST else (OTHER,) * len(values)
            member = self._members.setdefault(values, self._make())
        return member

    def ask(self, read: Callable[[], float], *values: str) -> Callable[[], None]:
        """Ask ``read`` at each snapshot, for what is counted elsewhere anyway; return what ends that.

        Of several under the same labels counters are added up, and of gauges the highest is told. What a counter had come
        to stays when its asking ends. Raises as :meth:`of`.
        """
        self._check(values)
        key = object()
        self._asked[key] = values, read

        def end() -> None:
            if self._asked.pop(key, None) is not None:
                member = self.of(*values) if self.kind == "counter" else None
                if isinstance(member, Counter):
                    member.add(read())

        return end

    def samples(self) -> list[Sample]:
        """Return what there is."""
        told = {values: self._sample(values, member) for values, member in list(self._members.items())}
        for values, read in list(self._asked.values()):
            known, value = told.get(values), read()
            if known is not None:
                value = known.value + value if self.kind == "counter" else max(known.value, value)
            told[values] = self._valued(values, value)
        return list(told.values())

    def _check(self, values: tuple[str, ...]) -> None:
        if len(values) != len(self.labels):
            raise ConfigurationError(
                f"{self.name} was asked for with {len(values)} labels.",
                hint=f"It has {len(self.labels)}: {', '.join(self.labels)}.",
            )

    def _sample(self, values: tuple[str, ...], member: Counter | Gauge | Histogram) -> Sample:
        if isinstance(member, Histogram):
            return self._valued(values, member.sum, tuple(member.buckets))
        return self._valued(values, member.value)

    def _valued(self, values: tuple[str, ...], value: float, buckets: tuple[int, ...] = ()) -> Sample:
        labels = dict(zip(self.labels, values, strict=True))
        bounds = SECONDS if buckets else ()
        return Sample(
            self.name, self.kind, self.unit, self.text, labels, value, sum(buckets), buckets, bounds
        )


class Metrics:
    """All metrics of a process.

    >>> metrics = Metrics()
    >>> opened = metrics.counter("doors.opened", "Doors that were opened", "house").of("north")
    >>> opened.add(2)
    >>> [(sample.name, sample.labels, sample.value) for sample in metrics.snapshot()]
    [('doors.opened', {'house': 'north'}, 2)]
    """

    def __init__(self) -> None:
        self._families: dict[str, Family[Any]] = {}

    def counter(self, name: str, text: str, *labels: str, unit: str = "1") -> Family[Counter]:
        """Declare a number that only grows. Raises ``ConfigurationError`` when there is such a name."""
        return self._declare(Family(name, "counter", unit, text, labels, Counter))

    def gauge(self, name: str, text: str, *labels: str, unit: str = "1") -> Family[Gauge]:
        """Declare a number that goes up and down. Raises as :meth:`counter`."""
        return self._declare(Family(name, "gauge", unit, text, labels, Gauge))

    def histogram(self, name: str, text: str, *labels: str) -> Family[Histogram]:
        """Declare something that takes seconds. Raises as :meth:`counter`."""
        return self._declare(Family(name, "histogram", "s", text, labels, Histogram))

    def families(self) -> list[Family[Any]]:
        """Return what is declared, also what nobody has counted yet."""
        return list(self._families.values())

    def snapshot(self) -> list[Sample]:
        """Return all metrics as they are now, by name; from any thread."""
        return [sample for _, family in sorted(self._families.items()) for sample in family.samples()]

    def _declare(self, family: Family[M]) -> Family[M]:
        if family.name in self._families:
            raise ConfigurationError(
                f"There is a metric {family.name!r} already.", hint="Give it another name."
            )
        self._families[family.name] = family
        return family


METRICS = Metrics()
"""Those of this process. Rooms declare theirs when they are imported."""
