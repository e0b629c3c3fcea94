"""The body of the runs of chains: a value passes along the links, each of which may fail, be asked again, or lead elsewhere."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from reprise.kernel.errors import ResultRefused
from reprise.kernel.failures import brief, encode_error
from reprise.runtime.retrying import do_again
from reprise.workflows.calls import (
    REFUSED,
    Around,
    Refused,
    agent_step,
    check_functions,
    function_at,
    meant,
    note_step,
)
from reprise.workflows.flow import Flow, defaults_here, flow_here

OnError = Literal["stop", "skip", "default", "goto"]
"""``stop``: the chain fails; ``skip``: it goes on as if the link were not there; ``default``: as if the agent had
returned ``default``; ``goto``: it goes on at another link, with what this one was given."""

FURTHER = re.compile(r"(?P<link>.+)\.(?P<number>\d+)")
"""Key of a further call of a link."""


class Link(msgspec.Struct, frozen=True, omit_defaults=True):
    """One link of a chain, as data."""

    name: str
    agent_type: str
    on_error: OnError = "stop"
    default: Any = None
    goto: str = ""
    jumps: int = 3
    """How often a failure of the link leads elsewhere before it stops the chain."""
    tries: int = 3
    """How often in all the agent is asked while its answers are refused."""
    max_retries: int | None = None
    """None = as the settings say with which the run starts."""
    timeout: float | UnsetType | None = UNSET
    """None = no limit; not given = as those settings say."""


class ChainWork(msgspec.Struct, frozen=True):
    """Input of the run of a chain."""

    input: Any
    links: list[Link]
    context: Any
    needs: list[str]
    """Places of the definition where there are functions."""


def type_of(flow: Flow, link: Link) -> Any:
    """Return the type that a link declares for what its agent returns, None = it declares none."""
    return function_at(flow, f"{link.name}.returns")


async def follow(work: ChainWork) -> Any:
    """Pass a value along the links of a chain, and return what the last one came to."""
    flow = flow_here()
    check_functions(flow, work.needs)
    walk = _Walk(flow, work)
    at = {link.name: n for n, link in enumerate(work.links)}
    n = 0
    while n < len(work.links):
        other = await walk.take(work.links[n])
        n = at[other] if other else n + 1
    return walk.kept


class _Walk:
    """The way of a value along a chain: what it is now, and what is known of the links so far."""

    def __init__(self, flow: Flow, work: ChainWork) -> None:
        self._flow = flow
        self._defaults = defaults_here()
        self.kept = work.input
        """The value as the history has it."""
        self._value = flow.held(work.input)
        self._shared = {**flow.held(work.context), "inputs": {"initial_input": self._value}}
        self._results: dict[str, Any] = {}
        self._errors: dict[str, str] = {}
        self._calls = Counter[str]()
        self._jumps = Counter[str]()

    async def take(self, link: Link) -> str:
        """Let a link do its part; return the name of the link to go on with, '' = the next one."""
        before = self._calls[link.name]
        try:
            result = await self._result(link)
        except Exception as error:
            if not self._goes_on(link):
                error.add_note(f"in link {link.name!r} of chain {self._flow.name!r}")
                keys = [_key(link, number + 1) for number in range(before, self._calls[link.name])]
                do_again(error, keys, [*keys, *(key + REFUSED for key in keys)])
                raise
            self._errors[link.name] = brief(encode_error(error))
            if link.on_error == "goto":
                self._jumps[link.name] += 1
                return link.goto
            if link.on_error == "skip":
                return ""
            result = link.default
        else:
            self._errors.pop(link.name, None)
        self.kept = result
        self._value = self._results[link.name] = meant(self._flow, result, type_of(self._flow, link))
        return ""

    def _goes_on(self, link: Link) -> bool:
        return link.on_error != "stop" and not (
            link.on_error == "goto" and self._jumps[link.name] >= link.jumps
        )

    async def _result(self, link: Link) -> Any:
        """Return what a link comes to, asking again while it is refused.

        Raises:
            ResultRefused: it was refused every time. And whatever transform, agent or repair raise.
        """
        task = await self._first_task(link)
        refusal: dict[str, Any] = {}
        for tried in range(1, link.tries + 1):
            key = self._next_key(link)
            context = {**self._shared, "results": dict(self._results), "errors": dict(self._errors)}
            context |= {"step": link.name, **refusal}
            what = f"What link {link.name!r} of chain {self._flow.name!r} returned"
            returns = type_of(self._flow, link)
            step = agent_step(key, link.max_retries, link.timeout, self._defaults)
            result = await step(link.agent_type, task, Around(what, context, returns))
            value = meant(self._flow, result, returns)
            reason = self._refusal(link, value)
            if not reason:
                return result
            await note_step(key)(Refused("validate", reason))
            refusal = {"refused": {"result": value, "reason": reason, "times": tried}}
            if tried < link.tries:
                task = self._repaired(link, task, value, reason)
        raise ResultRefused(
            f"What link {link.name!r} of chain {self._flow.name!r} returned was refused {link.tries} times, at last: "
            f"{refusal['refused']['reason']}",
            hint="Look at what it was asked; or give it more tries=, or say on_error=.",
        )

    def _next_key(self, link: Link) -> str:
        self._calls[link.name] += 1
        return _key(link, self._calls[link.name])

    async def _first_task(self, link: Link) -> Any:
        transform = function_at(self._flow, f"{link.name}.transform")
        if transform is None:
            return self._value
        try:
            return transform(self._value)
        except Exception as error:
            await note_step(self._next_key(link))(Refused("transform", brief(encode_error(error))))
            raise

    def _refusal(self, link: Link, value: Any) -> str:
        """Return why an answer is refused, '' = it is not."""
        validate = function_at(self._flow, f"{link.name}.validate")
        if validate is None:
            return ""
        try:
            said = validate(value)
        except Exception as error:  # noqa: BLE001 - an assertion or a missing key is how validators speak
            return brief(encode_error(error))
        if isinstance(said, str):
            return said
        return "" if said is None or said else "It is not what was asked for."

    def _repaired(self, link: Link, task: Any, value: Any, reason: str) -> Any:
        repair = function_at(self._flow, f"{link.name}.repair")
        if repair is not None:
            return repair(task, value, reason)
        return f"{task}\n\nYour last answer was refused: {reason}" if isinstance(task, str) else task


def _key(link: Link, number: int) -> str:
    return link.name if number == 1 else f"{link.name}.{number}"
