"""Runs for clients that speak 2025-11-25: asked in the call, and the tasks of that revision, which asks for them otherwise.

These were an experiment, which 2026-07-28 replaced; the SDK has their types and does not dispatch them. A client makes a task
of a call by ``task`` in it, looks at it by ``tasks/get``, and gets what came of it by ``tasks/result``, which lasts as long
as the run and asks what the run asks. Tasks are not listed: who may see which cannot be told of everybody.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import mcp_types as types
import msgspec
from mcp.server.context import CallNext, HandlerResult
from mcp.shared.exceptions import MCPError
from mcp.shared.message import ServerMessageMetadata
from mcp_types import INVALID_PARAMS, METHOD_NOT_FOUND, REQUEST_TIMEOUT

from reprise.kernel.errors import ToolError
from reprise.tools.mcp.callers import Request, elicits, principal_of
from reprise.tools.mcp.runs import POLL, Asked, Runs, RunView, moment
from reprise.tools.mcp.tasks import TaskParams

REVISION = "2025-11-25"
RELATED = "io.modelcontextprotocol/related-task"
"""Where a message says which task it belongs to."""
CAPABILITY = types.ServerTasksCapability(
    cancel=types.TasksCancelCapability(),
    requests=types.ServerTasksRequestsCapability(
        tools=types.TasksToolsCapability(call=types.TasksCallCapability())
    ),
)


async def converse(runs: Runs, request: Request, view: RunView, *, is_task: bool = False) -> RunView:
    """Wait for the end of a run, and ask its caller meanwhile what it asks, each question once.

    A call returns before that when nobody answered, or nobody can be asked; a task is waited for all the same. Both return
    when the run rests, and when calls wait no longer.
    """
    asked: set[str] = set()
    while True:
        view = await runs.wait(view.id, principal_of(request), request, known=asked if is_task else ())
        new = [question for question in view.questions if question.key not in asked]
        if not new or not (is_task or elicits(request)):
            return view
        asked |= {question.key for question in new}
        if elicits(request):
            for question in new:
                await _ask(runs, request, view, question)


async def _ask(runs: Runs, request: Request, view: RunView, question: Asked) -> None:
    params = types.ElicitRequestFormParams.model_validate(
        {"message": question.message, "requestedSchema": question.form, "_meta": _related(view)}
    )
    with suppress(MCPError):  # who cannot be asked, has not answered
        response = await request.session.send_request(
            types.ElicitRequest(params=params),
            types.ElicitResult,
            metadata=ServerMessageMetadata(related_request_id=request.request_id),
        )
        if (answer := question.answer(response)) is not msgspec.UNSET:
            await runs.answer(view.id, question.key, answer)


class SessionTasks:
    """Calls that became tasks, each the run that was started by it."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs

    async def middleware(self, ctx: Request, call_next: CallNext) -> HandlerResult:
        """Make a task of a call that asks for it; the SDK would take what is returned for no result of a call."""
        request, given = ctx, ctx.params or {}
        if request.method == "initialize":
            return _without_tasks(await call_next(request))
        if request.method != "tools/call" or given.get("task") is None or not self._knows(request):
            return await call_next(request)
        params = types.CallToolRequestParams.model_validate(given, by_name=False)
        if params.name not in self._runs.tools:
            raise MCPError(METHOD_NOT_FOUND, f"No task can be made of a call of {params.name[:100]}.")
        try:
            id = await self._runs.start(params.name, params.arguments or {}, principal_of(request))
        except ToolError as error:
            raise MCPError(INVALID_PARAMS, f"{error.what} {error.hint}".strip()) from error
        return {"task": {**_task(await self._look(request, id)), "status": "working"}}

    async def get(self, request: Request, params: TaskParams) -> dict[str, Any]:
        """Return a task as it is."""
        return _task(await self._look(request, params.task_id))

    async def result(self, request: Request, params: TaskParams) -> dict[str, Any]:
        """Wait for what comes of a task, and ask what it asks."""
        view = await converse(self._runs, request, await self._look(request, params.task_id), is_task=True)
        if view.error is not None:
            raise MCPError(view.error.code, view.error.message)
        if view.result is None:
            what = f"It goes on{f': {view.message}' if view.message else ''}; ask again."
            raise MCPError(REQUEST_TIMEOUT, what)
        result = view.result.model_dump(mode="json", by_alias=True, exclude_none=True)
        return {**result, "_meta": {**result.get("_meta", {}), **_related(view)}}

    async def cancel(self, request: Request, params: TaskParams) -> dict[str, Any]:
        """Stop a task; the answer is sent when it has stopped."""
        view = await self._look(request, params.task_id)
        if _has_ended(view):
            raise MCPError(INVALID_PARAMS, f"The task has ended already: {_status(view)}.")
        await self._runs.cancel(view.id)
        known = {question.key for question in view.questions}
        view = await self._runs.wait(view.id, principal_of(request), request, known=known)
        if view.status == "cancelled":
            return _task(view)
        if _has_ended(view):
            raise MCPError(
                INVALID_PARAMS, f"The task has ended before it could be cancelled: {_status(view)}."
            )
        raise MCPError(REQUEST_TIMEOUT, "The task was asked to stop, and has not yet; look at it again.")

    async def _look(self, request: Request, id: str) -> RunView:
        """Return the run that a task is, only to who started it."""
        if not self._knows(request):
            raise MCPError(METHOD_NOT_FOUND, "Method not found")
        if (view := await self._runs.look(id, principal_of(request))) is None:
            raise MCPError(INVALID_PARAMS, "Task not found.")
        return view

    def _knows(self, request: Request) -> bool:
        return request.protocol_version == REVISION and request.session.client_params is not None


def _without_tasks(greeting: HandlerResult) -> HandlerResult:
    """Return what a handshake answers; without tasks, where it is one of an older revision, which knows none."""
    if not isinstance(greeting, dict) or greeting.get("protocolVersion") == REVISION:
        return greeting
    offered = {name: each for name, each in greeting["capabilities"].items() if name != "tasks"}
    return {**greeting, "capabilities": offered}


def _task(view: RunView) -> dict[str, Any]:
    return {
        "taskId": view.id,
        "status": _status(view),
        "createdAt": moment(view.created_at),
        "lastUpdatedAt": moment(view.updated_at),
        "ttl": None,
        "pollInterval": POLL,
        **({"statusMessage": view.message} if view.message else {}),
    }


def _status(view: RunView) -> str:
    """Return the status: what this revision calls failed is also a result that says so."""
    if view.status == "completed" and view.result is not None and view.result.is_error:
        return "failed"
    return view.status if view.questions or view.status != "input_required" else "working"


def _has_ended(view: RunView) -> bool:
    return view.result is not None or view.error is not None


def _related(view: RunView) -> Mapping[str, Any]:
    return {RELATED: {"taskId": view.id}}
