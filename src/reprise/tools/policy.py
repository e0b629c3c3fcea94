"""Who may call which tools: by name, tag or effect, how often, and what a person has to agree to."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from reprise.kernel.errors import ConfigurationError, ToolError, nearest
from reprise.kernel.policy import seconds
from reprise.tools.tool import EFFECTS, Tool

Rate = tuple[int, float | timedelta]
"""So many calls in so many seconds."""


class ToolRequest(NamedTuple):
    """A call that somebody has to agree to."""

    tool: Tool
    arguments: Mapping[str, Any]
    caller: str
    run: str


Approver = Callable[[ToolRequest], Awaitable[bool]]
"""Asked before a call that needs approval; True lets it happen."""


@dataclass(frozen=True)
class ToolPolicy:
    """What an agent, or a run, may do with tools.

    A rule is a name, in which ``*`` stands for anything, or ``tag:math``, or ``effect:network``. ``deny`` goes before
    ``allow``; what neither names is denied. ``approve`` names what needs somebody's yes each time. ``rate`` says how
    often in a time, ``budget`` how often in all, by rule; what several rules name counts for each of them.

    >>> policy = ToolPolicy(allow=["effect:pure", "web_*"], deny=["web_download"], rate={"web_*": (10, 60)})

    Raises ``ConfigurationError`` for a rule that can never hold, and numbers that are not positive.
    """

    allow: Sequence[str] = ("*",)
    deny: Sequence[str] = ()
    approve: Sequence[str] = ()
    rate: Mapping[str, Rate] = field(default_factory=dict[str, Rate])
    budget: Mapping[str, int] = field(default_factory=dict[str, int])

    def __post_init__(self) -> None:
        """Check the rules."""
        for name in ("allow", "deny", "approve"):
            if isinstance(rules := getattr(self, name), str):
                raise ConfigurationError(f"{name}={rules!r}", hint=f"Give a list: {name}=[{rules!r}].")
        for rule in (*self.allow, *self.deny, *self.approve, *self.rate, *self.budget):
            check_rule(rule)
        for rule, (number, period) in self.rate.items():
            if number < 1 or seconds(period, "rate") <= 0:
                raise ConfigurationError(
                    f"rate={{{rule!r}: ({number}, {period})}}", hint="Both must be positive."
                )
        for rule, number in self.budget.items():
            if number < 0:
                raise ConfigurationError(f"budget={{{rule!r}: {number}}}", hint="It must not be negative.")

    def refusal(self, tool: Tool) -> str:
        """Return why a tool may not be called, '' = it may."""
        for rule in self.deny:
            if matches(rule, tool):
                return f"{rule!r} is denied"
        if any(matches(rule, tool) for rule in self.allow):
            return ""
        return f"only {', '.join(map(repr, self.allow)) or 'nothing'} is allowed"

    def needs_approval(self, tool: Tool) -> bool:
        """Tell whether somebody has to agree to a call."""
        return any(matches(rule, tool) for rule in self.approve)


class Meter:
    """What was used of the rates and budgets of a policy."""

    def __init__(self, policy: ToolPolicy) -> None:
        self._policy = policy
        self._calls: dict[str, deque[float]] = {rule: deque() for rule in policy.rate}
        self._left = dict(policy.budget)

    def check(self, tool: Tool, now: float) -> None:
        """Check that a call may happen; ``now`` in seconds of a clock that never goes back.

        Raises ``ToolError``: ``permission_denied`` when a budget is used up, ``rate_limited`` when there were too many
        in a time.
        """
        for rule, left in self._left.items():
            if left < 1 and matches(rule, tool):
                raise ToolError(
                    "permission_denied",
                    f"{tool.name}: the budget of {self._policy.budget[rule]} calls of {rule!r} is used up.",
                    hint="Give the policy a larger budget.",
                )
        for rule, calls in self._calls.items():
            if not matches(rule, tool):
                continue
            number, period = self._policy.rate[rule]
            length = seconds(period, "rate")
            while calls and calls[0] <= now - length:
                calls.popleft()
            if len(calls) >= number:
                wait = calls[0] + length - now
                raise ToolError(
                    "rate_limited",
                    f"{tool.name}: {number} calls of {rule!r} in {length:g} s were made.",
                    hint=f"Try again in {wait:.1f} s.",
                    retry_after=wait,
                )

    def count(self, tool: Tool, now: float) -> None:
        """Count a call that was checked."""
        for rule, calls in self._calls.items():
            if matches(rule, tool):
                calls.append(now)
        for rule in self._left:
            if matches(rule, tool):
                self._left[rule] -= 1


def matches(rule: str, tool: Tool) -> bool:
    """Tell whether a rule names a tool.

    >>> from reprise.tools.tool import Tool
    >>> matches("web_*", Tool(print, name="web_fetch")), matches("effect:pure", Tool(print, name="web_fetch"))
    (True, False)
    """
    kind, _, value = rule.rpartition(":")
    if kind == "tag":
        return value in tool.tags
    if kind == "effect":
        return tool.effects == value
    return rule == tool.name or ("*" in rule and fnmatchcase(tool.name, rule))


def check_rule(rule: str) -> None:
    """Raise ``ConfigurationError`` for what is no rule, or can never hold."""
    kind, _, value = rule.rpartition(":")
    if kind not in ("", "tag", "effect"):
        raise ConfigurationError(
            f"{rule!r} is no rule.", hint="Write a name, web_*, tag:math or effect:network."
        )
    if kind == "effect" and value not in EFFECTS:
        near = nearest(value, EFFECTS)
        raise ConfigurationError(
            f"{rule!r} names no effect.",
            hint=f"Did you mean {near!r}?" if near else f"Valid: {', '.join(EFFECTS)}.",
        )


EVERYTHING = ToolPolicy()
