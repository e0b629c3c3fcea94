"""A connection to a server that is made when it is needed, and again when the server went away."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any, cast

import mcp_types as types
from httpx2 import ConnectError, ConnectTimeout
from mcp.client.client import Client
from mcp.client.session import IncomingMessage
from mcp.client.subscriptions import SubscriptionLost, ToolsListChanged
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolResult
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from reprise.kernel.clock import Clock
from reprise.kernel.errors import ToolError
from reprise.tools.mcp.naming import clean
from reprise.tools.mcp.stdio import Streams, Wire

_LOG = logging.getLogger(__name__)

Open = Callable[[Wire], AbstractAsyncContextManager[Streams]]
"""Opens the streams of messages to a server."""
PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds after which a server that could not be reached is tried again: the first, doubled up to the last."""
_SETTLE = 1.0
"""Seconds in which a server that says again and again that its tools changed is asked once."""


class Connection:
    """Made by a mount. One client at a time; whoever asks while it is being made waits for the same one."""

    def __init__(
        self,
        name: str,
        open: Open,
        *,
        clock: Clock,
        patience: float,
        greet: Callable[[Client], Awaitable[None]],
        options: Mapping[str, Any],
    ) -> None:
        self._name, self._open, self._clock, self._patience = name, open, clock, patience
        self._greet, self._options = greet, options
        self._link: Link | None = None
        self._ending: dict[Link, None] = {}
        """Those before it, whose servers may still be stopping."""
        self._failures, self._not_before = 0, 0.0
        self.made = 0
        """How often it was made."""

    async def client(self) -> Client:
        """Return a client that is connected, and greeted.

        Raises ``ToolError`` with code ``unavailable``: the server cannot be reached, or it was tried a moment ago.
        """
        link = self._link
        if link is None or not link.is_alive:
            link = self._link = self._next()
        return await link.client()

    @property
    def link(self) -> Link | None:
        """What there is of it now."""
        return self._link if self._link is not None and self._link.is_alive else None

    def _next(self) -> Link:
        before = self._link
        self._ending = {
            link: None for link in (*self._ending, before) if link is not None and not link.is_over
        }
        if before is not None and before.failed:
            before.failed = False
            pause = min(PAUSE * 2**self._failures, LONGEST_PAUSE)
            self._failures += 1
            self._not_before = before.ended_at + pause
        if (wait := self._not_before - self._clock.monotonic()) > 0:
            raise ToolError(
                "unavailable",
                f"{self._name} could not be reached a moment ago{before.because if before else ''}.",
                hint=f"Try again in {wait:.1f} s.",
                retry_after=wait,
            )
        self.made += 1
        return Link(self, self._name, self._open, self._patience, self._clock, self._greet, self._options)

    def stands(self) -> None:
        """Note that the server answered."""
        self._failures, self._not_before = 0, 0.0

    async def close(self) -> None:
        """End it; idempotent."""
        links, self._link, self._ending = [*self._ending, self._link], None, {}
        for link in links:
            if link is not None:
                await link.close()


class Link:
    """One connection. Its streams live in a task of their own, because they must be left where they were entered."""

    def __init__(
        self,
        owner: Connection,
        name: str,
        open: Open,
        patience: float,
        clock: Clock,
        greet: Callable[[Client], Awaitable[None]],
        options: Mapping[str, Any],
    ) -> None:
        self._owner, self._name, self._open, self._patience = owner, name, open, patience
        self._greet, self._options, self._clock = greet, options, clock
        self._loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[Client] = self._loop.create_future()
        self.wire = Wire()
        self.failed = False
        """It never stood."""
        self.ended_at = 0.0
        self.cause: BaseException | None = None
        """What it ended with."""
        self.has_session = False
        """The server remembers it by an id, and may forget that."""
        self.changed = asyncio.Event()
        """The server says that its tools are not what they were."""
        # A context of its own: it outlives the step that happens to make it.
        self._task = self._loop.create_task(self._hold(), context=contextvars.Context())

    @property
    def is_alive(self) -> bool:
        """Whether it can be used, or soon can."""
        return (
            self._loop is asyncio.get_running_loop()
            and not self.wire.ended.is_set()
            and not self._task.done()
        )

    @property
    def is_over(self) -> bool:
        """Whether nothing is left of it."""
        return self._task.done()

    @property
    def because(self) -> str:
        """Why it ended, to be put behind a sentence."""
        return f": {self.wire.why}" if self.wire.why else ""

    async def client(self) -> Client:
        """Wait until it stands. Raises ``ToolError``."""
        return await asyncio.shield(self._ready)

    async def over(self) -> ToolError | None:
        """Wait for an end that is on its way; return what is to be said of calls under way, None = nobody knows."""
        await asyncio.wait([self._task], timeout=_SETTLE)
        if isinstance(self.cause, ToolError):
            return self.cause
        if isinstance(self.cause, ConnectError | ConnectTimeout):
            return ToolError("unavailable", f"{self._name} cannot be reached{self.because}.")
        return None

    async def close(self) -> None:
        """End it."""
        if self._loop is not asyncio.get_running_loop():
            return
        self.wire.end()
        if not self._ready.done():
            self._task.cancel()
        await asyncio.wait([self._task])

    async def _hold(self) -> None:
        limit = asyncio.timeout(self._patience)
        made = Client(
            self._open(self.wire),
            message_handler=self._heard,
            **self._options,
        )
        try:
            async with limit, made as client:
                # The SDK would check results by the server's own schemas, which may be made to take for ever.
                client.session.validate_tool_result = _unchecked
                await self._greet(client)
                limit.reschedule(None)
                self._owner.stands()
                self._ready.set_result(client)
                self.has_session = (
                    not self.wire.pid and client.protocol_version not in MODERN_PROTOCOL_VERSIONS
                )
                await self._watch(client)
        except BaseException as error:  # noqa: BLE001 - whatever it is, those who wait are told
            self._over(error)
        else:
            self._over(None)

    def _over(self, error: BaseException | None) -> None:
        self.ended_at = self._clock.monotonic()
        self.cause = cause = innermost(error) if error is not None else None
        if isinstance(cause, TimeoutError):
            self.wire.why = ""  # that the server ended was then our doing
        self.wire.end("" if cause is None or isinstance(cause, asyncio.CancelledError) else describe(cause))
        if self._ready.done():
            return
        self.failed = True
        known = cause if isinstance(cause, ToolError) else None
        self._ready.set_exception(
            known or ToolError("unavailable", f"{self._name} cannot be reached{self.because}.")
        )
        self._ready.exception()  # nobody may be waiting any more

    async def _watch(self, client: Client) -> None:
        """Wait for the end; when tools have changed, look at them, once in a while at most."""
        listening = asyncio.create_task(self._listen(client))
        ended = asyncio.create_task(self.wire.ended.wait())
        try:
            while not ended.done():
                changed = asyncio.create_task(self.changed.wait())
                await asyncio.wait([changed, ended], return_when=asyncio.FIRST_COMPLETED)
                changed.cancel()
                if self.changed.is_set() and not ended.done():
                    await self._look_again(client)
        finally:
            listening.cancel()
            ended.cancel()

    async def _look_again(self, client: Client) -> None:
        try:
            async with asyncio.timeout(self._patience):
                await self._greet(client)
        except (ToolError, MCPError, TimeoutError) as error:
            _LOG.warning("The tools of %s cannot be listed: %s", self._name, describe(error))
        with suppress(TimeoutError):
            await asyncio.wait_for(self.wire.ended.wait(), _SETTLE)

    async def _listen(self, client: Client) -> None:
        """Hear of changes by the way of 2026-07-28; before that they come by themselves."""
        tools = (
            client.server_capabilities.tools
        )  # None where nobody asked: with options={"mode": "2026-07-28"}
        if client.protocol_version not in MODERN_PROTOCOL_VERSIONS or (tools and not tools.list_changed):
            return
        with suppress(MCPError, TimeoutError):
            while True:
                with suppress(SubscriptionLost):
                    async with client.listen(tools_list_changed=True) as news:
                        self.changed.set()  # what changed before, since they were listed, was not heard
                        async for event in news:
                            if isinstance(event, ToolsListChanged):
                                self.changed.set()
                        return
                await asyncio.sleep(_SETTLE)

    async def _heard(self, message: IncomingMessage) -> None:
        if isinstance(message, types.ToolListChangedNotification):
            self.changed.set()


async def _unchecked(name: str, result: CallToolResult) -> None:
    """Check nothing: results are checked where tools are called, with a limit."""


def innermost(error: BaseException) -> BaseException:
    """Return what went wrong, of groups of errors the first that says something."""
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        found = sorted(_leaves(group), key=lambda each: not isinstance(each, ToolError))
        return next((each for each in found if not isinstance(each, asyncio.CancelledError)), found[0])
    return error


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for each in group.exceptions:
        if isinstance(each, BaseExceptionGroup):
            yield from _leaves(cast("BaseExceptionGroup[BaseException]", each))
        else:
            yield each


def describe(error: BaseException) -> str:
    """Return what an error says, in one line fit for people."""
    if isinstance(error, ToolError):
        return error.what
    if isinstance(error, TimeoutError):
        return "it does not answer in time"
    text = clean(" ".join(str(error).split()), 300)
    return text if isinstance(error, MCPError) else f"{type(error).__name__}{': ' if text else ''}{text}"
