"""News that tools have changed, for whoever is connected: many changes at once are one word."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

import mcp_types as types
from mcp.server.subscriptions import ListenHandler, ServerEvent, ToolsListChanged
from mcp_types import SubscriptionFilter, SubscriptionsListenRequestParams, SubscriptionsListenResult

from reprise.tools.mcp.callers import Request
from reprise.tools.scope import ToolScope
from reprise.tools.tool import Tool

TOGETHER = 0.1
"""Seconds within which all changes are told in one message."""
MAX_LISTENERS = 1_000
"""Clients that are told at the same time, of each revision."""

Listener = tuple[asyncio.AbstractEventLoop, Callable[[ServerEvent], None]]


class ToolNews:
    """Hears of changes of a scope as long as somebody listens. A ``SubscriptionBus`` of the SDK's.

    ``described`` says what clients are told of a tool: where that stays as it was, there is no news.
    """

    def __init__(self, scope: ToolScope, described: Callable[[Tool], types.Tool]) -> None:
        self._scope, self._described = scope, described
        self._listeners: dict[object, Listener] = {}
        self._end: Callable[[], None] | None = None
        self._due: set[asyncio.AbstractEventLoop] = set()
        self._followed: set[int] = set()
        self._handler = ListenHandler(self, max_subscriptions=MAX_LISTENERS)

    # ------------------------------------------------------------ who listens

    def subscribe(self, listener: Callable[[ServerEvent], None]) -> Callable[[], None]:
        """Call a function on the running loop when tools have changed; return how to end that."""
        entry = object()
        self._listeners[entry] = (asyncio.get_running_loop(), listener)
        if self._end is None:
            self._end = self._scope.on_change(self._changed)

        def end() -> None:
            self._listeners.pop(entry, None)
            if not self._listeners and self._end is not None:
                self._end()
                self._end = None

        return end

    async def publish(self, event: ServerEvent) -> None:
        """Tell all who listen on the running loop."""
        self._tell(asyncio.get_running_loop(), event)

    def _changed(self, before: Tool | None, after: Tool | None) -> None:
        """Note a change, in whatever thread it was made."""
        if before is not None and after is not None and self._described(before) == self._described(after):
            return
        for loop in {loop for loop, _ in tuple(self._listeners.values())}:
            with suppress(RuntimeError):  # a loop that has ended has nobody left to tell
                loop.call_soon_threadsafe(self._soon, loop)

    def _soon(self, loop: asyncio.AbstractEventLoop) -> None:
        if loop not in self._due:
            self._due.add(loop)
            loop.call_later(TOGETHER, self._tell, loop, ToolsListChanged())

    def _tell(self, loop: asyncio.AbstractEventLoop, event: ServerEvent) -> None:
        self._due.discard(loop)
        for where, listener in tuple(self._listeners.values()):
            if where is loop:
                listener(event)

    # ------------------------------------------------------------ how they are told

    async def follow(self, request: Request, params: types.NotificationParams) -> None:
        """Tell a client of 2025-11-25, from when it is ready until it goes, when this is cancelled.

        One that reads slowly holds up nobody else, and is told once of what came meanwhile.
        """
        # An object of its own for each session, held as long as this lasts, so that its id is nobody else's.
        greeting = request.session.client_params
        if greeting is None or id(greeting) in self._followed or len(self._followed) >= MAX_LISTENERS:
            return
        changed = asyncio.Event()
        end = self.subscribe(lambda _: changed.set())
        self._followed.add(id(greeting))
        try:
            while await changed.wait():
                changed.clear()
                await request.session.send_tool_list_changed()
        finally:
            self._followed.discard(id(greeting))
            end()

    async def listen(
        self, request: Request, params: SubscriptionsListenRequestParams
    ) -> SubscriptionsListenResult:
        """Tell a client of 2026-07-28 as long as it listens; of tools, as there is nothing else to tell."""
        wanted = SubscriptionFilter(tools_list_changed=params.notifications.tools_list_changed)
        return await self._handler(request, params.model_copy(update={"notifications": wanted}))
