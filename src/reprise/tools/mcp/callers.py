"""Who calls a server of ours, and what they know of the protocol."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types import CLIENT_CAPABILITIES_META_KEY, METHOD_NOT_FOUND
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from reprise.tools.mcp.tasks import MISSING_CAPABILITY, TASKS

PRINCIPAL = "reprise.principal"
"""Key of the scope of a request in which the door says who asks."""

Request = ServerRequestContext[Any, Any]


def principal_of(request: Request) -> str:
    """Return who asks, '' = whoever can reach the door."""
    return "" if request.request is None else str(request.request.scope.get(PRINCIPAL, ""))


def is_modern(request: Request) -> bool:
    """Tell whether whoever asks speaks 2026-07-28, which knows no sessions, or what came before it."""
    return request.protocol_version in MODERN_PROTOCOL_VERSIONS


def knows_tasks(request: Request) -> bool:
    """Tell whether whoever asks knows what to do with a task; they say so with each request (2026-07-28)."""
    return is_modern(request) and TASKS in (_capabilities(request).get("extensions") or {})


def elicits(request: Request) -> bool:
    """Tell whether whoever asks can be asked something."""
    if is_modern(request):
        return _capabilities(request).get("elicitation") is not None
    known = request.session.client_capabilities
    return known is not None and known.elicitation is not None


def tasks_are_needed(request: Request) -> MCPError:
    """Return the error that says so."""
    if not is_modern(request):
        return MCPError(METHOD_NOT_FOUND, "It has to be called as a task.")
    wanted: dict[str, Any] = {"requiredCapabilities": {"extensions": {TASKS: {}}}}
    return MCPError(MISSING_CAPABILITY, f"This needs the capability {TASKS}.", wanted)


def _capabilities(request: Request) -> Mapping[str, Any]:
    meta = cast("Mapping[str, Any]", request.meta or {})
    found = meta.get(CLIENT_CAPABILITIES_META_KEY)
    return cast("Mapping[str, Any]", found) if isinstance(found, dict) else {}
