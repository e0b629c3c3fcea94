"""Limits: how many runs may execute at once, and how many may begin in a time.

A :class:`Limit` is declared; a run that starts under it needs a :class:`Slot`, one of the places in a lane. A lane is
all that counts together: a workflow, or the runs of one tenant, or of one key.

>>> limit = Limit(concurrency=2, rate=(100, 60), per="tenant")
>>> [str(slot) for slot in limit.slots("survey", {"tenant": "acme"}, (), {})]
['survey.tenant=acme (2 at once)', 'survey.tenant=acme (100 in 60 s)']
>>> limit.slots("survey", {}, (), {})
()
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import msgspec

from reprise.kernel.clock import MICROSECONDS
from reprise.kernel.errors import ConfigurationError
from reprise.kernel.policy import Duration, seconds

WORKFLOW = "workflow"
"""``per`` each workflow; every other string is the name of a tag."""
EVERYWHERE = "*"
"""What limits of a whole application are called that have no name."""
LONGEST_KEY = 200
"""Characters of a key."""


class Slot(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """One of the places in a lane, as a run needs it."""

    limit: str
    """Name of the limit."""
    key: str
    """Whose runs count together, '' where all do."""
    most: int
    """How many places there are."""
    period: int = 0
    """Microseconds for which a place stays taken, whatever becomes of the run; 0 = as long as the run executes."""

    @property
    def lane(self) -> str:
        """Name of the lane, such as ``survey.tenant=acme``."""
        return f"{self.limit}={self.key}" if self.key else self.limit

    @property
    def lease(self) -> str:
        """Name of the lease of which the place is a part."""
        return f"{'rate' if self.period else 'slot'}/{self.lane}"

    def __str__(self) -> str:
        how = f"in {self.period / MICROSECONDS:g} s" if self.period else "at once"
        return f"{self.lane} ({self.most} {how})"


@dataclass(frozen=True, init=False)
class Limit:
    """How many runs may execute at once (``concurrency``), and how many may begin in a time (``rate``).

    ``rate`` is (number, period): in no window of that length, wherever it begins, more than that number begin; the
    period in seconds or as timedelta.

    ``per`` says what counts together: None = all runs that the limit is put on, ``"workflow"`` = each workflow, another
    string = each value of that tag, a function = each value that it returns for the arguments of the run. A run that
    does not have the tag, or for which the function returns None, is not limited.

    ``name`` makes a limit that several workflows share. One without belongs to the workflow that it is put on.

    Raises ``ConfigurationError`` for numbers that are not positive, and when nothing is limited.

    >>> Limit(rate=(0, 60))
    Traceback (most recent call last):
    reprise.kernel.errors.ConfigurationError: A limit lets 0 runs begin in 60 s. Both must be positive.
    """

    concurrency: int | None
    rate: tuple[int, float] | None
    per: str | Callable[..., Any] | None
    name: str

    def __init__(
        self,
        concurrency: int | None = None,
        *,
        rate: tuple[int, Duration] | None = None,
        per: str | Callable[..., Any] | None = None,
        name: str = "",
    ) -> None:
        if concurrency is None and rate is None:
            raise ConfigurationError(
                "A limit limits nothing.", hint="Give concurrency= or rate=(n, seconds)."
            )
        if concurrency is not None and concurrency < 1:
            raise ConfigurationError(
                f"A limit lets {concurrency} runs execute at once.", hint="It must be at least 1."
            )
        if "=" in name or name == EVERYWHERE:
            raise ConfigurationError(f"A limit cannot be called {name!r}.", hint="Use a plain word.")
        object.__setattr__(self, "concurrency", concurrency)
        object.__setattr__(self, "rate", None if rate is None else _rate(*rate))
        object.__setattr__(self, "per", per)
        object.__setattr__(self, "name", name)

    def called(self, owner: str) -> str:
        """Return the limit's name when it is put on ``owner``: a workflow, or ``*`` for all of an application."""
        if self.name:
            return self.name
        if self.per is None or (self.per == WORKFLOW and owner != EVERYWHERE):
            return owner
        per = self.per if isinstance(self.per, str) else getattr(self.per, "__name__", "key")
        return f"{owner}.{'key' if per == '<lambda>' else per}"

    def slots(
        self,
        workflow: str,
        tags: Mapping[str, Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        *,
        owner: str = "",
    ) -> tuple[Slot, ...]:
        """Return the places that a run of ``workflow`` needs under this limit; () when it is not limited.

        Raises whatever a function ``per`` raises, and ``ConfigurationError`` for a key that is too long.
        """
        name, per = self.called(owner or workflow), self.per
        if per is None or (per == WORKFLOW and name == workflow):
            key = ""
        elif callable(per):
            key = per(*args, **kwargs)
        else:
            key = workflow if per == WORKFLOW else tags.get(per)
        return () if key is None else tuple(self._places(name, _checked(str(key), workflow)))

    def _places(self, name: str, key: str) -> Iterator[Slot]:
        if self.concurrency is not None:
            yield Slot(name, key, self.concurrency)
        if self.rate is not None:
            yield Slot(name, key, self.rate[0], round(self.rate[1] * MICROSECONDS))

    def now(self, slot: Slot) -> Slot | None:
        """Return a place that was needed under this limit with its numbers of today; None when it is no more."""
        places = self._places(slot.limit, slot.key)
        return next((place for place in places if bool(place.period) == bool(slot.period)), None)


def _rate(number: int, period: Duration) -> tuple[int, float]:
    length = seconds(period, "rate")
    if number < 1 or length <= 0:
        raise ConfigurationError(
            f"A limit lets {number} runs begin in {length:g} s.", hint="Both must be positive."
        )
    return number, length


def _checked(key: str, workflow: str) -> str:
    if len(key) > LONGEST_KEY:
        raise ConfigurationError(
            f"The key {key[:40]!r}… of a limit of {workflow} has {len(key)} characters.",
            hint=f"Let per= give at most {LONGEST_KEY}.",
        )
    return key


def parse_limits(given: Limit | Iterable[Limit], owner: str) -> tuple[Limit, ...]:
    """Return the limits put on ``owner`` (a workflow, or ``*``).

    Raises ``ConfigurationError`` for what is no limit, and for two that would be called the same.
    """
    limits = (given,) if isinstance(given, Limit) else tuple(given)
    names: set[str] = set()
    for limit in limits:
        if not isinstance(cast("object", limit), Limit):
            raise ConfigurationError(f"limits= holds {limit!r}.", hint="Give Limit(…), or a list of them.")
        name = limit.called(owner)
        if "=" in name or name in names:
            like = ", like another" if name in names else ""
            raise ConfigurationError(
                f"A limit of {owner!r} would be called {name!r}{like}.",
                hint="Give it a name: Limit(…, name=…).",
            )
        names.add(name)
    return limits
