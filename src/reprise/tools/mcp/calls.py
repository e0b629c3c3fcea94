"""Calls of a server's tools, also of one that goes away meanwhile."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from typing import Any

import mcp_types as types
from mcp.client.client import Client
from mcp.shared.exceptions import MCPError
from mcp_types import CONNECTION_CLOSED, INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND, REQUEST_TIMEOUT
from pydantic import ValidationError

from reprise.kernel.errors import ToolError
from reprise.runtime.face import progress as tell
from reprise.tools.context import ToolContext
from reprise.tools.mcp.connection import Connection, Link, describe, innermost
from reprise.tools.mcp.naming import clean

TRIES = 3
"""How often a call is made that may be made again."""


class Calls:
    """Made by a mount. ``ready`` gives a client for a call of a tool, or says why there is none."""

    def __init__(self, name: str, connection: Connection, ready: Callable[[str], Awaitable[Client]]) -> None:
        self._name, self._connection, self._ready = name, connection, ready

    async def call(
        self, tool: str, arguments: dict[str, Any], context: ToolContext, *, repeats: bool
    ) -> types.CallToolResult:
        """Call a tool; again, if the server went away and surely did nothing, or if that does no harm (``repeats``).

        Raises ``ToolError``.
        """
        tries = 0
        while True:
            tries += 1
            try:
                return await self._sent(tool, arguments)
            except Gone as gone:
                if tries == TRIES or (gone.reached and not repeats):
                    raise gone.error from gone
                context.warn(f"{self._name} went away, and the call was made again.")

    async def _sent(self, tool: str, arguments: dict[str, Any]) -> types.CallToolResult:
        client = await self._ready(tool)
        link = self._connection.link
        around = contextvars.copy_context()

        async def told(progress: float, total: float | None, message: str | None) -> None:
            # In the context of the call: progress belongs to the step that waits.
            around.copy().run(tell, progress, total, clean(message or "", 300))

        try:
            return await client.call_tool(tool, arguments, progress_callback=told)
        except MCPError as error:
            if link is None or error.code not in (CONNECTION_CLOSED, INVALID_REQUEST):
                raise _error(tool, error) from error
            raise await self._gone(tool, link, error) from error
        except (ValidationError, RuntimeError, BaseExceptionGroup) as error:
            cause = innermost(error)
            if isinstance(cause, ToolError | asyncio.CancelledError):
                raise cause from error
            what = f"{self._name} answered what is no result: {describe(cause)}"
            raise ToolError("upstream", what) from error

    async def _gone(self, tool: str, link: Link, error: MCPError) -> ToolError | Gone:
        """Return what is to be said of a call to a server that went away."""
        if error.code == INVALID_REQUEST:
            if not link.has_session:
                return _error(tool, error)
            link.wire.end("its session is over")  # the server began anew, and did not do it
            return Gone(_error(tool, error), reached=False)
        if (known := await link.over()) is not None:
            return Gone(known, reached=known.code != "unavailable")
        link.wire.end(describe(error))
        what = f"{self._name} went away during the call{link.because}; nobody knows whether it was done."
        return Gone(ToolError("upstream", what, hint="Look before you call again."), reached=True)


class Gone(Exception):
    """The connection ended before there was an answer."""

    def __init__(self, error: ToolError, *, reached: bool) -> None:
        super().__init__(error.what)
        self.error = error
        self.reached = reached
        """Whether the server may have got the call."""


def _error(tool: str, error: MCPError) -> ToolError:
    codes = {REQUEST_TIMEOUT: "timeout", METHOD_NOT_FOUND: "not_found", INVALID_PARAMS: "invalid_input"}
    return ToolError(codes.get(error.code, "upstream"), f"{clean(tool, 100)}: {describe(error)}")
