"""Where a face is executed: the app that is given or open around it, one over a store, or one in memory."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from contextvars import ContextVar
from typing import Any, Protocol

from reprise.kernel.errors import ConfigurationError
from reprise.runtime.client import Client
from reprise.runtime.engine import Engine
from reprise.runtime.handle import RunHandle
from reprise.runtime.registry import Registry
from reprise.runtime.workflow import Workflow
from reprise.stores.store import Store


class House(Protocol):
    """What a face needs of an app; ``Reprise`` is one."""

    registry: Registry
    client: Client
    store: Store

    @property
    def engine(self) -> Engine:
        """What executes its runs."""
        ...

    @property
    def agents(self) -> Mapping[str, Any]:
        """Agents by name."""
        ...

    async def start(self, workflow: Workflow[..., Any], /, *args: Any, **options: Any) -> RunHandle[Any]:
        """Start a run; see ``Reprise.start``."""
        ...

    async def resume(self, id: str, workflow: Workflow[..., Any] | None = None) -> RunHandle[Any]:
        """Let a run go on that rests; see ``Reprise.resume``."""
        ...


Opener = Callable[..., AbstractAsyncContextManager[House]]

OPEN: ContextVar[House | None] = ContextVar("reprise_open", default=None)
"""The app that is open around whoever asks."""
_openers: list[Opener] = []


def opens(opener: Opener) -> None:
    """Say how an app is opened over a store; the room of apps does, which knows this one."""
    _openers[:] = [opener]


@asynccontextmanager
async def house(app: House | None = None, store: str | Store | None = None) -> AsyncGenerator[House]:
    """Give the app that was given, one over ``store``, the one open around the caller, or one in memory of its own.

    Raises:
        ConfigurationError: both an app and a store were given.
    """
    if app is not None and store is not None:
        raise ConfigurationError(
            "Both app= and store= were given.", hint="The app has a store: leave store= out."
        )
    around = app if app is not None else OPEN.get() if store is None else None
    if around is not None:
        yield around
        return
    if not _openers:
        raise ConfigurationError(
            "Nobody said how an app is opened.",
            hint="Import faces from reprise: from reprise import AgentChain",
        )
    async with _openers[0](store or "memory://", capture_logs=False, tune_gc=False) as opened:
        yield opened
