"""Budgets: how much a run may spend, in seconds, steps, tokens, money and calls.

A :class:`Budget` is what may be spent, a :class:`Cost` what one call takes of it. Both are values; who may spend what is
kept by ``runtime.budgets``.

>>> budget = Budget(tokens=10_000, usd=0.5)
>>> budget.lacks(Cost(tokens=9_000), Cost(tokens=2_000))
'2,000 tokens, and 1,000 of 10,000 are left'
>>> budget.lacks(Cost(tokens=8_000), Cost(tokens=2_000, calls=7))
''
"""

from __future__ import annotations

from typing import Any, Literal, cast

import msgspec

from reprise.kernel.errors import ConfigurationError, unknown_option

FIELDS = ("seconds", "steps", "tokens", "usd", "calls")
"""What can be spent: seconds of steps that execute, steps (each attempt is one), tokens, US dollars, calls."""
OnExhausted = Literal["stop", "ask", "continue"]
CHOICES = ("stop", "ask", "continue")
SLACK = 1e-9
"""Below this a difference is one of rounding."""


class Cost(msgspec.Struct, frozen=True, omit_defaults=True):
    """An amount of each of what can be spent. Made of what a caller gives by :func:`cost_of`, which checks it.

    >>> Cost(tokens=200) + Cost(tokens=50, usd=0.25)
    Cost(seconds=0.0, steps=0, tokens=250, usd=0.25, calls=0)
    >>> str(Cost(tokens=1200, usd=0.25, steps=1))
    '1 step, 1,200 tokens, 0.25 usd'
    """

    seconds: float = 0.0
    steps: int = 0
    tokens: int = 0
    usd: float = 0.0
    calls: int = 0

    def __add__(self, other: Cost) -> Cost:
        """Return the sum."""
        return Cost(
            self.seconds + other.seconds,
            self.steps + other.steps,
            self.tokens + other.tokens,
            self.usd + other.usd,
            self.calls + other.calls,
        )

    def __sub__(self, other: Cost) -> Cost:
        """Return the difference."""
        return Cost(
            self.seconds - other.seconds,
            self.steps - other.steps,
            self.tokens - other.tokens,
            self.usd - other.usd,
            self.calls - other.calls,
        )

    def __str__(self) -> str:
        said = [_said(name, value) for name in FIELDS if (value := getattr(self, name))]
        return ", ".join(said) or "nothing"


class Budget(msgspec.Struct, frozen=True, omit_defaults=True):
    """What may be spent, None = as much as there is; and what happens when a call would take more than is left.

    ``seconds`` of steps that execute (waiting costs nothing), ``steps`` (each attempt of a step is one), ``tokens``,
    ``usd`` and ``calls`` as steps say that they cost. ``on_exhausted``: "stop" = the call raises ``BudgetExceeded``,
    "ask" = the run waits until somebody gives it more (``reprise budget ID --add``), "continue" = it goes on, with a
    warning in the index.

    Raises ``ConfigurationError`` for what is negative, not a number, or limits nothing.

    >>> Budget(usd=-1)
    Traceback (most recent call last):
    reprise.kernel.errors.ConfigurationError: A budget of -1 usd is not possible. ...
    """

    seconds: float | None = None
    steps: int | None = None
    tokens: int | None = None
    usd: float | None = None
    calls: int | None = None
    on_exhausted: OnExhausted = "stop"

    def __post_init__(self) -> None:
        given = {name: value for name in FIELDS if (value := getattr(self, name)) is not None}
        if not given:
            raise ConfigurationError(
                "A budget limits nothing.", hint=f"Give at least one of {', '.join(FIELDS)}."
            )
        _check(given, "A budget of")
        if cast("object", self.on_exhausted) not in CHOICES:
            raise ConfigurationError(
                f"on_exhausted of a budget is {self.on_exhausted!r}; it may be {', '.join(map(repr, CHOICES))}."
            )

    def lacks(self, taken: Cost, wanted: Cost) -> str:
        """Return what of ``wanted`` is more than is left when ``taken`` is gone, in words; '' when all is there."""
        for name in FIELDS:
            most, cost = getattr(self, name), getattr(wanted, name)
            if most is not None and cost > 0 and getattr(taken, name) + cost > most + SLACK:
                left = max(0, most - getattr(taken, name))
                return f"{_said(name, cost)}, and {_number(left)} of {_number(most)} are left"
        return ""

    def spent_up(self, taken: Cost) -> str:
        """Return what there is nothing left of, '' when there is something of everything.

        A call that says nothing of its cost in tokens takes some all the same.
        """
        for name in FIELDS:
            most = getattr(self, name)
            if most is not None and getattr(taken, name) >= most - SLACK:
                return f"more {name}, and all of {_number(most)} are gone"
        return ""

    def with_more(self, more: Cost) -> Budget:
        """Return the budget with more of what it limits."""
        raised = {
            name: most + getattr(more, name) for name in FIELDS if (most := getattr(self, name)) is not None
        }
        return msgspec.structs.replace(self, **raised)

    def left(self, taken: Cost, shares: int = 1) -> Budget:
        """Return one of ``shares`` equal parts of what is left, rounded down where it must be whole."""
        rest: dict[str, Any] = {}
        for name in FIELDS:
            if (most := getattr(self, name)) is not None:
                left = max(0, most - getattr(taken, name))
                rest[name] = left // shares if isinstance(most, int) else left / shares
        return msgspec.structs.replace(self, **rest)

    def within(self, other: Budget) -> Budget:
        """Return the budget, and where it has no limit that of ``other``."""
        both = {
            name: own if (own := getattr(self, name)) is not None else getattr(other, name) for name in FIELDS
        }
        return msgspec.structs.replace(self, **both)

    def least(self, other: Budget) -> Budget:
        """Return a budget that is kept where both are kept."""
        least: dict[str, Any] = {}
        for name in FIELDS:
            limits = [most for budget in (self, other) if (most := getattr(budget, name)) is not None]
            least[name] = min(limits, default=None)
        return msgspec.structs.replace(self, **least)

    def as_cost(self) -> Cost:
        """Return everything that may be spent, as one cost; 0 where there is no limit."""
        return Cost(**{name: getattr(self, name) or 0 for name in FIELDS})

    def __str__(self) -> str:
        return str(self.as_cost())


def cost_of(values: dict[str, Any], owner: str) -> Cost:
    """Return a cost of what somebody gave by name.

    Raises:
        UnknownOption: a name is misspelt.
        ConfigurationError: an amount is negative, or no number.

    >>> cost_of({"token": 5}, "spend()")
    Traceback (most recent call last):
    reprise.kernel.errors.UnknownOption: spend() has no 'token'. Did you mean 'tokens'?
    """
    for name in values:
        if name not in FIELDS:
            raise unknown_option(name, FIELDS, owner)
    _check(values, "A cost of")
    return Cost(**values)


def _check(values: dict[str, Any], what: str) -> None:
    for name, value in values.items():
        whole = name not in ("seconds", "usd")
        if isinstance(value, bool) or not isinstance(value, int if whole else int | float) or not value >= 0:
            raise ConfigurationError(
                f"{what} {value!r} {name} is not possible.",
                hint=f"Give {'a whole number' if whole else 'a number'}, 0 or more.",
            )


def _said(name: str, value: float) -> str:
    return f"{_number(value)} {name[:-1] if value == 1 and name != 'usd' else name}"


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"
