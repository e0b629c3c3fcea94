"""Middleware: what surrounds every attempt of a step. Composed once, when the engine starts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec


class Call(msgspec.Struct, frozen=True):
    """One attempt of a step, as middleware sees it."""

    name: str
    run: str
    key: str
    attempt: int
    job: Any
    """The runtime's own; not for middleware."""

    @property
    def generation(self) -> int:
        """Which generation of the run calls; only in one is ``key`` unique."""
        return self.job.execution.generation

    @property
    def args(self) -> tuple[Any, ...]:
        """Positional arguments of the call."""
        return self.job.args

    @property
    def kwargs(self) -> dict[str, Any]:
        """Keyword arguments of the call."""
        return self.job.kwargs


Next = Callable[[Call], Awaitable[Any]]
Middleware = Callable[[Call, Next], Awaitable[Any]]
"""``async def middleware(call, next): … return await next(call)``; what it returns is recorded."""


def compose(middleware: Sequence[Middleware], innermost: Next) -> Next:
    """Put middleware around ``innermost``, the first outermost.

    >>> import asyncio
    >>> async def shout(call, next): return (await next(call)).upper()
    >>> async def hello(call): return "hello " + call.name
    >>> asyncio.run(compose([shout], hello)(Call("you", "r", ":1", 1, None)))
    'HELLO YOU'
    """
    call = innermost
    for layer in reversed(middleware):
        call = _around(layer, call)
    return call


def _around(layer: Middleware, inner: Next) -> Next:
    async def call(call: Call) -> Any:
        return await layer(call, inner)

    return call
