"""The extension Tasks (SEP-2663), as both sides say it, and the client's part: a task is asked for until it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import mcp_types as types
from mcp.client.context import ClientRequestContext
from mcp.client.extension import ClaimContext, ClientExtension, ResultClaim
from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR
from pydantic import TypeAdapter, ValidationError

from reprise.kernel.errors import ToolError
from reprise.tools.mcp.naming import clean

TASKS = "io.modelcontextprotocol/tasks"
MISSING_CAPABILITY = -32021
Status = Literal["working", "input_required", "completed", "failed", "cancelled"]
SHORTEST, USUAL, LONGEST = 0.05, 1.0, 30.0
"""Seconds between two looks at a task: at least, where the server says nothing, at most."""
_LEAVE = 2.0
"""Seconds for which a call that was cancelled tries to tell the server so."""
_one_request: TypeAdapter[types.InputRequest] = TypeAdapter(types.InputRequest)


class Task(types.Result):
    """What is said of a task at any time."""

    task_id: str
    status: Status
    status_message: str | None = None
    created_at: str
    last_updated_at: str
    ttl_ms: int | None = None
    poll_interval_ms: int | None = None


class CreatedTask(Task):
    """What a call returns that became a task."""

    result_type: Literal["task"] = "task"


class TaskState(Task):
    """A task as it is now."""

    input_requests: dict[str, Any] | None = None
    result: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    result_type: Literal["complete"] = "complete"


class TaskParams(types.RequestParams):
    """Which task is meant."""

    task_id: str


class UpdateParams(TaskParams):
    """What a task asked for."""

    input_responses: dict[str, Any]


class GetTask(types.Request[TaskParams, Literal["tasks/get"]]):
    """Ask for a task."""

    name_param: ClassVar[str | None] = "taskId"
    method: Literal["tasks/get"] = "tasks/get"
    params: TaskParams


class CancelTask(types.Request[TaskParams, Literal["tasks/cancel"]]):
    """Ask a task to stop."""

    name_param: ClassVar[str | None] = "taskId"
    method: Literal["tasks/cancel"] = "tasks/cancel"
    params: TaskParams


class UpdateTask(types.Request[UpdateParams, Literal["tasks/update"]]):
    """Give a task what it asked for."""

    name_param: ClassVar[str | None] = "taskId"
    method: Literal["tasks/update"] = "tasks/update"
    params: UpdateParams


class TaskClient(ClientExtension):
    """Lets servers make tasks of calls; whoever calls waits for the end of the task all the same."""

    identifier = TASKS

    def claims(self) -> Sequence[ResultClaim[Any]]:
        """Return what is done with a result that is a task."""
        return [ResultClaim(result_type="task", model=CreatedTask, resolve=_resolve)]


async def _resolve(created: CreatedTask, context: ClaimContext) -> types.CallToolResult:
    session, params = context.session, TaskParams(task_id=created.task_id)
    state = TaskState.model_validate(created.model_dump(exclude={"result_type", "meta"}))
    answered: set[str] = set()
    try:
        while True:
            if state.status == "completed":
                return types.CallToolResult.model_validate(state.result or {})
            if state.status == "failed":
                raise _failed(state)
            if state.status == "cancelled":
                raise ToolError(
                    "upstream", f"The task was cancelled: {clean(state.status_message or '', 300)}"
                )
            if state.status == "input_required":
                await _answer(state, context, answered)
            await asyncio.sleep(_pause(state))
            state = await session.send_request(GetTask(params=params), TaskState)
    except (asyncio.CancelledError, ToolError, ValidationError):
        await _cancel(context, params)
        raise


async def _answer(state: TaskState, context: ClaimContext, answered: set[str]) -> None:
    """Give what a task asks for, as far as somebody here answers; each request once."""
    new = {key: each for key, each in (state.input_requests or {}).items() if key not in answered}
    responses: dict[str, Any] = {}
    for key, each in new.items():
        request = _one_request.validate_python(each, by_name=False)
        around = ClientRequestContext(session=context.session, request_id=key, meta=None)
        response = await context.session.dispatch_input_request(around, request)
        if isinstance(response, types.ErrorData):
            raise ToolError(
                "unavailable",
                f"The task asks for input, and nobody is here to give it: {clean(response.message, 300)}",
                hint="Mount it with options={'elicitation_callback': …}.",
            )
        responses[key] = response.model_dump(mode="json", by_alias=True, exclude_none=True)
    if responses:
        params = UpdateParams(task_id=state.task_id, input_responses=responses)
        await context.session.send_request(UpdateTask(params=params), types.EmptyResult)
        answered |= set(responses)


async def _cancel(context: ClaimContext, params: TaskParams) -> None:
    try:
        async with asyncio.timeout(_LEAVE):
            await context.session.send_request(CancelTask(params=params), types.EmptyResult)
    except (MCPError, TimeoutError, ValidationError):
        return  # the server's concern now: the task was never more than its word


def _pause(state: Task) -> float:
    given = USUAL if state.poll_interval_ms is None else state.poll_interval_ms / 1000
    return min(max(given, SHORTEST), LONGEST)


def _failed(state: TaskState) -> MCPError:
    error = state.error or {}
    code = error.get("code")
    return MCPError(
        code if isinstance(code, int) else INTERNAL_ERROR, str(error.get("message") or "the task failed")
    )
