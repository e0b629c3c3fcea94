"""Tools of here, offered to programs that speak MCP; and runs, as far as somebody brings them, as tasks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from typing import Annotated, Any, TypeVar

import mcp_types as types
from mcp.server import NotificationOptions, Server
from mcp.server.stdio import stdio_server
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from reprise.kernel.errors import ToolError
from reprise.tools.mcp.callers import Request, is_modern
from reprise.tools.mcp.news import ToolNews
from reprise.tools.mcp.results import failure, output_schema, result_of
from reprise.tools.mcp.runs import Runs
from reprise.tools.mcp.served import ServedRuns
from reprise.tools.mcp.sessions import CAPABILITY, REVISION, SessionTasks
from reprise.tools.mcp.tasks import TASKS, TaskParams, UpdateParams
from reprise.tools.policy import ToolPolicy
from reprise.tools.registry import ToolRegistry
from reprise.tools.scope import ToolScope
from reprise.tools.tool import Tool

P = TypeVar("P")

LEAST = ToolPolicy(allow=["effect:pure", "effect:reads_files"])
"""What others may call where nobody says more: what changes nothing."""
PAGE = 100
"""Tools on a page of the list."""
INITIALIZED = "notifications/initialized"
REQUEST: ContextVar[Request | None] = ContextVar("reprise_mcp_request", default=None)
"""The request in which a tool is called: to ask whoever calls, or to tell them how far it is."""


class InputNeeded(Exception):
    """Raised by a tool that needs more from whoever calls it, who calls again with that (2026-07-28 only).

    What comes then is in ``REQUEST.get().params``: ``inputResponses``, and ``requestState``, which anybody may have made.
    """

    def __init__(self, requests: Mapping[str, Any] | None = None, state: str | None = None) -> None:
        super().__init__("More input is needed.")
        given = {"inputRequests": requests, "requestState": state, "resultType": "input_required"}
        self.result = types.InputRequiredResult.model_validate(
            {name: each for name, each in given.items() if each is not None}
        )


class Offer:
    """What is offered, and how calls of it are answered. ``server`` is the SDK's, for any of its transports."""

    def __init__(
        self, scope: ToolScope | None, runs: Runs | None, *, name: str, version: str, instructions: str
    ) -> None:
        self._scope, self._runs = scope, runs
        self._served = None if runs is None else ServedRuns(runs)
        news = None if scope is None else ToolNews(scope, _described)
        self.server = _Server(
            name,
            version=version,
            instructions=instructions or None,
            on_list_tools=self._list,
            on_call_tool=self._call,
            on_subscriptions_listen=None if news is None else news.listen,
            get_tool_input_schema=self._schema,
        )
        if news is not None:
            self.server.add_notification_handler(INITIALIZED, types.NotificationParams, news.follow)
        if runs is not None and self._served is not None:
            self._add_tasks(self._served, SessionTasks(runs))

    def _add_tasks(self, served: ServedRuns, older: SessionTasks) -> None:
        server = self.server
        server.extensions[TASKS] = {}
        server.middleware.append(older.middleware)
        server.add_request_handler("tasks/get", TaskParams, _either(served.get, older.get))
        server.add_request_handler("tasks/cancel", TaskParams, _either(served.cancel, older.cancel))
        server.add_request_handler("tasks/update", UpdateParams, served.update)
        server.add_request_handler("tasks/result", TaskParams, older.result)

    async def stdio(self) -> None:
        """Serve whoever started this process, until they close their end."""
        async with stdio_server() as (incoming, outgoing):
            await self.server.run(incoming, outgoing, self.server.create_initialization_options())

    # ------------------------------------------------------------ tools

    def _tools(self) -> dict[str, Tool]:
        own = {tool.name: tool for tool in self._scope.list()} if self._scope is not None else {}
        return own if self._runs is None else {**own, **self._runs.tools, RUN_RESULT.name: RUN_RESULT}

    def _schema(self, name: str) -> Mapping[str, Any] | None:
        tool = self._tools().get(name)
        return None if tool is None else tool.parameters

    async def _list(
        self, request: Request, params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        after = params.cursor if params is not None else None
        tools = self._tools()
        if after is not None and after not in tools:
            raise MCPError(INVALID_PARAMS, "There is no such cursor.")
        left = [name for name in sorted(tools) if after is None or name > after]
        return types.ListToolsResult(
            tools=[self._said(tools[name], request) for name in left[:PAGE]],
            next_cursor=left[PAGE - 1] if len(left) > PAGE else None,
        )

    def _said(self, tool: Tool, request: Request) -> types.Tool:
        said = _described(tool)
        if self._runs is not None and tool.name in self._runs.tools and request.protocol_version == REVISION:
            support = "required" if self._runs.must_be_task(tool.name) else "optional"
            said.execution = types.ToolExecution(task_support=support)
        return said

    async def _call(self, request: Request, params: types.CallToolRequestParams) -> Any:
        name, arguments = params.name, params.arguments or {}
        tool = self._tools().get(name)
        if tool is None:
            raise MCPError(INVALID_PARAMS, f"Unknown tool: {name[:100]}")
        token = REQUEST.set(request)
        try:
            if self._served is not None and self._runs is not None and name in self._runs.tools:
                return await self._served.call(request, params)
            if self._served is not None and tool is RUN_RESULT:
                return await self._served.result(request, str(arguments.get("run", "")))
            assert self._scope is not None
            return result_of(tool, await self._scope.call_tool(name, arguments))
        except ToolError as error:
            if isinstance(error.__cause__, MCPError):
                raise error.__cause__ from None  # what a tool says in the protocol's own words
            if isinstance(error.__cause__, InputNeeded):
                return error.__cause__.result
            return failure(error)
        finally:
            REQUEST.reset(token)


class _Server(Server[Any]):
    """Offers what it can do: to tell of changed tools where there is somebody who hears of them, and tasks."""

    def get_capabilities(
        self,
        notification_options: NotificationOptions | None = None,
        experimental_capabilities: dict[str, dict[str, Any]] | None = None,
        extensions: dict[str, dict[str, Any]] | None = None,
        *,
        protocol_version: str | None = None,
    ) -> types.ServerCapabilities:
        """Return what is offered to clients of a revision."""
        known = super().get_capabilities(
            notification_options, experimental_capabilities, extensions, protocol_version=protocol_version
        )
        if known.tools is not None:
            known.tools.list_changed = self.get_notification_handler(INITIALIZED) is not None
        if (
            protocol_version in MODERN_PROTOCOL_VERSIONS
        ):  # what else somebody adds to the server is not told of
            if known.prompts is not None:
                known.prompts.list_changed = False
            if known.resources is not None:
                known.resources.list_changed = known.resources.subscribe = False
        if protocol_version not in MODERN_PROTOCOL_VERSIONS and TASKS in self.extensions:
            known.tasks = CAPABILITY
        return known


def _either(
    modern: Callable[[Request, P], Awaitable[Any]], older: Callable[[Request, P], Awaitable[Any]]
) -> Callable[[Request, P], Awaitable[Any]]:
    """Return what answers a method that two revisions call the same."""

    async def answer(request: Request, params: P) -> Any:
        return await (modern if is_modern(request) else older)(request, params)

    return answer


def _run_result(run: Annotated[str, "Id of the run, as the call said that began it."]) -> Any:
    """Wait for the result of a run that went on when you last heard of it; it may be asked for again and again."""


RUN_RESULT = Tool(_run_result, name="run_result", effects="reads_files", tags=["runs"])


def offer(
    registry: ToolRegistry | ToolScope | None,
    *,
    runs: Runs | None = None,
    policy: ToolPolicy | None = None,
    name: str = "reprise",
    version: str = "",
    instructions: str = "",
) -> Offer:
    """Offer tools, and runs. Of a registry what ``policy`` allows, by default what changes nothing; a scope as it is."""
    if isinstance(registry, ToolRegistry):
        registry = registry.scope(f"mcp:{name}", policy=policy or LEAST)
    return Offer(registry, runs, name=name, version=version, instructions=instructions)


# ---------------------------------------------------------------- as MCP says it


def _described(tool: Tool) -> types.Tool:
    reads = tool.effects in ("pure", "reads_files")
    return types.Tool(
        name=tool.name,
        description=tool.description,
        input_schema=tool.parameters,
        output_schema=output_schema(tool),
        annotations=types.ToolAnnotations(
            read_only_hint=reads,
            destructive_hint=None if reads else tool.effects in ("writes_files", "executes"),
            idempotent_hint=tool.idempotent,
            open_world_hint=tool.effects in ("network", "executes"),
        ),
    )
