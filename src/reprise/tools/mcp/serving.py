"""Tools of here, offered to programs that speak MCP; and runs, as far as somebody brings them, as tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import Annotated, Any, Protocol, cast

import mcp_types as types
import msgspec
from mcp.server import Server
from mcp.server.context import HandlerResult, ServerRequestContext
from mcp.server.stdio import stdio_server
from mcp.shared.exceptions import MCPError
from mcp_types import CLIENT_CAPABILITIES_META_KEY, HEADER_MISMATCH, INVALID_PARAMS, METHOD_NOT_FOUND
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from reprise.kernel.clock import to_datetime
from reprise.kernel.errors import ToolError
from reprise.tools.mcp.results import failure, output_schema, result_of
from reprise.tools.mcp.tasks import MISSING_CAPABILITY, TASKS, Status, TaskParams, UpdateParams
from reprise.tools.policy import ToolPolicy
from reprise.tools.registry import ToolRegistry
from reprise.tools.scope import ToolScope
from reprise.tools.tool import Tool

LEAST = ToolPolicy(allow=["effect:pure", "effect:reads_files"])
"""What others may call where nobody says more: what changes nothing."""
PAGE = 100
"""Tools on a page of the list."""
POLL = 1_000
"""Milliseconds after which a client may look at a task again."""
PRINCIPAL = "reprise.principal"
"""Key of the scope of a request in which the door says who asks."""
RUN_META = "reprise/run"
"""Where a result says which run it is of."""

Request = ServerRequestContext[Any, Any]
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


class Asked(msgspec.Struct, frozen=True):
    """What a run asks a person."""

    key: str
    text: str
    schema: Mapping[str, Any]


class RunView(msgspec.Struct, frozen=True, kw_only=True):
    """A run, as whoever started it sees it."""

    id: str
    status: Status
    created_at: int
    updated_at: int
    """Microseconds since 1970."""
    message: str = ""
    result: types.CallToolResult | None = None
    """Of one that ended."""
    error: types.ErrorData | None = None
    """Of one that the server could not carry out."""
    questions: Sequence[Asked] = ()


class Runs(Protocol):
    """Workflows that are offered as tools, and the runs of each caller."""

    @property
    def tools(self) -> Mapping[str, Tool]:
        """The workflows by the names of their tools."""
        ...

    async def start(self, name: str, arguments: Mapping[str, Any], principal: str) -> str:
        """Start a run, durably, and return its id. Raises ``ToolError``: it does not take these arguments."""
        ...

    async def look(self, id: str, principal: str) -> RunView | None:
        """Return a run, None = this caller started none of that id."""
        ...

    async def wait(self, id: str, principal: str, request: Request) -> RunView:
        """Wait until a run has ended or asks something, for a while; meanwhile tell how far it is."""
        ...

    async def cancel(self, id: str) -> None:
        """Ask a run to stop; nothing if it has ended."""
        ...

    async def answer(self, id: str, key: str, value: Any) -> None:
        """Answer what a run asks; what is not asked any more is ignored."""
        ...

    def must_be_task(self, name: str) -> bool:
        """Tell whether a workflow is only for callers that know tasks."""
        ...


class Offer:
    """What is offered, and how calls of it are answered. ``server`` is the SDK's, for any of its transports."""

    def __init__(
        self, scope: ToolScope | None, runs: Runs | None, *, name: str, version: str, instructions: str
    ) -> None:
        self._scope, self._runs = scope, runs
        self.server: Server[Any] = Server(
            name,
            version=version,
            instructions=instructions or None,
            on_list_tools=self._list,
            on_call_tool=self._call,
            get_tool_input_schema=self._schema,
        )
        if runs is not None:
            self.server.extensions[TASKS] = {}
            self.server.add_request_handler("tasks/get", TaskParams, self._get)
            self.server.add_request_handler("tasks/cancel", TaskParams, self._cancel)
            self.server.add_request_handler("tasks/update", UpdateParams, self._update)

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
            tools=[_described(tools[name]) for name in left[:PAGE]],
            next_cursor=left[PAGE - 1] if len(left) > PAGE else None,
        )

    async def _call(self, request: Request, params: types.CallToolRequestParams) -> Any:
        name, arguments = params.name, params.arguments or {}
        tool = self._tools().get(name)
        if tool is None:
            raise MCPError(INVALID_PARAMS, f"Unknown tool: {name[:100]}")
        token = REQUEST.set(request)
        try:
            if self._runs is not None and name in self._runs.tools:
                return await self._run(self._runs, request, params)
            if self._runs is not None and tool is RUN_RESULT:
                return await self._result(self._runs, request, str(arguments.get("run", "")))
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

    # ------------------------------------------------------------ runs

    async def _run(self, runs: Runs, request: Request, params: types.CallToolRequestParams) -> HandlerResult:
        """Start a run: a task for whoever knows those, for others a call that lasts as long as the run."""
        principal, as_task = principal_of(request), knows_tasks(request)
        if not as_task and runs.must_be_task(params.name):
            raise _tasks_are_needed()
        id = params.request_state or await runs.start(params.name, params.arguments or {}, principal)
        if (view := await runs.look(id, principal)) is None:
            raise MCPError(INVALID_PARAMS, "There is no such request state.")
        if as_task:
            return _handle(view)
        asked = {question.key for question in view.questions}
        for key, response in (params.input_responses or {}).items():
            if key in asked:
                await runs.answer(id, key, _answered(_plain(response)))
        view = await runs.wait(id, principal, request)
        if view.error is not None:
            raise MCPError(view.error.code, view.error.message)
        if view.result is not None:
            return view.result
        if view.questions and request.protocol_version in MODERN_PROTOCOL_VERSIONS and _elicits(request):
            wanted = {"inputRequests": _requests(view), "requestState": id, "resultType": "input_required"}
            return types.InputRequiredResult.model_validate(wanted)
        return _under_way(view)

    async def _result(self, runs: Runs, request: Request, id: str) -> types.CallToolResult:
        principal = principal_of(request)
        if await runs.look(id, principal) is None:
            raise ToolError("not_found", f"You started no run {id[:100]!r}.", field="$.run")
        view = await runs.wait(id, principal, request)
        if view.error is not None:
            raise ToolError("unavailable", view.error.message)
        return view.result or _under_way(view)

    async def _get(self, request: Request, params: TaskParams) -> dict[str, Any]:
        _, view = await self._of(request, params)
        return _state(view)

    async def _cancel(self, request: Request, params: TaskParams) -> types.EmptyResult:
        runs, view = await self._of(request, params)
        await runs.cancel(view.id)
        return types.EmptyResult()

    async def _update(self, request: Request, params: UpdateParams) -> types.EmptyResult:
        runs, view = await self._of(request, params)
        asked = {question.key for question in view.questions}
        for key, response in params.input_responses.items():
            if key in asked and (answer := _plain(response)).get("action") == "accept":
                await runs.answer(view.id, key, _answered(answer))
        return types.EmptyResult()

    async def _of(self, request: Request, params: TaskParams) -> tuple[Runs, RunView]:
        """Return the run that a task is; only to who started it, and who knows tasks."""
        if request.protocol_version not in MODERN_PROTOCOL_VERSIONS or self._runs is None:
            raise MCPError(METHOD_NOT_FOUND, "Method not found")
        if not knows_tasks(request):
            raise _tasks_are_needed()
        if request.request is not None and request.request.headers.get("mcp-name") != params.task_id:
            raise MCPError(HEADER_MISMATCH, "Mcp-Name is not the taskId of the body.")
        view = await self._runs.look(params.task_id, principal_of(request))
        if view is None:
            raise MCPError(INVALID_PARAMS, "Task not found.")
        return self._runs, view


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


def principal_of(request: Request) -> str:
    """Return who asks, '' = whoever can reach the door."""
    return "" if request.request is None else str(request.request.scope.get(PRINCIPAL, ""))


def knows_tasks(request: Request) -> bool:
    """Tell whether whoever asks knows what to do with a task; they say so with each request."""
    if request.protocol_version not in MODERN_PROTOCOL_VERSIONS:
        return False
    return TASKS in (_capabilities(request).get("extensions") or {})


def _elicits(request: Request) -> bool:
    return _capabilities(request).get("elicitation") is not None


def _capabilities(request: Request) -> Mapping[str, Any]:
    meta = cast("Mapping[str, Any]", request.meta or {})
    found = meta.get(CLIENT_CAPABILITIES_META_KEY)
    return cast("Mapping[str, Any]", found) if isinstance(found, dict) else {}


def _tasks_are_needed() -> MCPError:
    wanted: dict[str, Any] = {"requiredCapabilities": {"extensions": {TASKS: {}}}}
    return MCPError(MISSING_CAPABILITY, f"This needs the capability {TASKS}.", wanted)


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


def _handle(view: RunView) -> dict[str, Any]:
    """Return a run as a task that was made of a call; what came of it is asked for, even when it is there already."""
    return {
        "resultType": "task",
        "taskId": view.id,
        "status": view.status,
        "createdAt": _moment(view.created_at),
        "lastUpdatedAt": _moment(view.updated_at),
        "ttlMs": None,
        "pollIntervalMs": POLL,
        **({"statusMessage": view.message} if view.message else {}),
    }


def _state(view: RunView) -> dict[str, Any]:
    """Return a run as a task, with what it asks, or what came of it."""
    state = {**_handle(view), "resultType": "complete"}
    if view.status == "input_required":
        state["inputRequests"] = _requests(view)
    if view.result is not None and view.status == "completed":
        state["result"] = view.result.model_dump(mode="json", by_alias=True, exclude_none=True)
    if view.error is not None:
        state["error"] = view.error.model_dump(mode="json", by_alias=True, exclude_none=True)
    return state


def _under_way(view: RunView) -> types.CallToolResult:
    """Return what is said to a caller who knows no tasks of a run that goes on."""
    what = f"Run {view.id} goes on{f': {view.message}' if view.message else ''}. Ask for it with run_result."
    asked = [f"It asks: {question.text}" for question in view.questions]
    return types.CallToolResult.model_validate(
        {
            "content": [{"type": "text", "text": text} for text in (what, *asked)],
            "isError": True,
            "_meta": {RUN_META: view.id},
        }
    )


def _requests(view: RunView) -> dict[str, Any]:
    """Return what a run asks as forms; MCP knows fields of simple types only."""
    return {
        question.key: {
            "method": "elicitation/create",
            "params": {
                "mode": "form",
                "message": question.text or "An answer is needed.",
                "requestedSchema": _form(question.schema),
            },
        }
        for question in view.questions
    }


_SIMPLE = ("string", "number", "integer", "boolean")


def _form(schema: Mapping[str, Any]) -> dict[str, Any]:
    properties: Mapping[str, Any] = schema.get("properties", {})
    if schema.get("type") == "object" and properties and all(map(_is_simple, properties.values())):
        known = {name: schema[name] for name in ("type", "properties", "required") if name in schema}
        return {"$schema": "https://json-schema.org/draft/2020-12/schema", **known}
    field = dict(schema) if _is_simple(schema) else {"type": "string", "description": "The answer, as JSON."}
    return {"type": "object", "properties": {"answer": field}, "required": ["answer"]}


def _is_simple(schema: Mapping[str, Any]) -> bool:
    return schema.get("type") in _SIMPLE and "$ref" not in schema


def _plain(response: Any) -> dict[str, Any]:
    given = response.model_dump(mode="json", by_alias=True) if hasattr(response, "model_dump") else response
    return cast("dict[str, Any]", given) if isinstance(given, dict) else {}


def _answered(response: Mapping[str, Any]) -> Any:
    """Return what was answered: a field alone is the answer itself."""
    content = response.get("content")
    if isinstance(content, dict) and set(cast("dict[str, Any]", content)) == {"answer"}:
        return cast("dict[str, Any]", content)["answer"]
    return cast("Any", content)


def _moment(microseconds: int) -> str:
    return to_datetime(microseconds).isoformat().replace("+00:00", "Z")
