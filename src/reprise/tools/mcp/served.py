"""Runs as tasks of 2026-07-28 (SEP-2663), for clients that know these, and asked in a call for those who do not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mcp_types as types
import msgspec
from mcp.server.context import HandlerResult
from mcp.shared.exceptions import MCPError
from mcp_types import HEADER_MISMATCH, INVALID_PARAMS, METHOD_NOT_FOUND

from reprise.kernel.errors import ToolError
from reprise.tools.mcp.callers import Request, elicits, is_modern, knows_tasks, principal_of, tasks_are_needed
from reprise.tools.mcp.runs import Runs, RunView, handle, requests, state, under_way
from reprise.tools.mcp.sessions import converse
from reprise.tools.mcp.tasks import TaskParams, UpdateParams

FIRST = 5.0
"""Seconds that a run has to ask what it asks before its call becomes a task."""


class ServedRuns:
    """Calls of workflows, and of the tasks that come of them."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs

    async def call(self, request: Request, params: types.CallToolRequestParams) -> HandlerResult:
        """Start a run: a task for whoever knows those, for others a call that lasts as long as the run."""
        runs, principal, as_task = self._runs, principal_of(request), knows_tasks(request)
        if not as_task and runs.must_be_task(params.name):
            raise tasks_are_needed(request)
        id = params.request_state or await runs.start(params.name, params.arguments or {}, principal)
        if (view := await runs.look(id, principal)) is None:
            raise MCPError(INVALID_PARAMS, "There is no such request state.")
        if params.input_responses and await self._answer(view, params.input_responses):
            return under_way(view)  # who declines is not asked again and again
        if as_task:
            if params.request_state is None and elicits(request) and runs.asks_first(params.name):
                view = await runs.wait(id, principal, request, patience=FIRST)
                if view.questions:
                    return _needed(view)
            return handle(view)
        view = await self._wait(request, view)
        if view.error is not None:
            raise MCPError(view.error.code, view.error.message)
        if view.result is not None:
            return view.result
        return (
            _needed(view) if view.questions and is_modern(request) and elicits(request) else under_way(view)
        )

    async def result(self, request: Request, id: str) -> types.CallToolResult:
        """Wait for the end of a run that went on when its caller last heard of it. Raises ``ToolError``."""
        view = await self._runs.look(id, principal_of(request))
        if view is None:
            raise ToolError("not_found", f"You started no run {id[:100]!r}.", field="$.run")
        view = await self._wait(request, view)
        if view.error is not None:
            raise ToolError("unavailable", view.error.message)
        return view.result or under_way(view)

    async def _wait(self, request: Request, view: RunView) -> RunView:
        """Wait until a run has ended, rests, or asks what cannot be asked while its caller waits."""
        if is_modern(request):
            return await self._runs.wait(view.id, principal_of(request), request)
        return await converse(self._runs, request, view)

    async def _answer(self, view: RunView, responses: Mapping[str, Any]) -> bool:
        """Give a run what somebody answered; return whether they declined something."""
        declined = False
        for question in view.questions:
            if question.key not in responses:
                continue
            answer = question.answer(responses[question.key])
            if answer is msgspec.UNSET:
                declined = True
            else:
                await self._runs.answer(view.id, question.key, answer)
        return declined

    # ------------------------------------------------------------ tasks

    async def get(self, request: Request, params: TaskParams) -> dict[str, Any]:
        """Return a task as it is."""
        return state(await self._view(request, params))

    async def cancel(self, request: Request, params: TaskParams) -> types.EmptyResult:
        """Ask a task to stop."""
        await self._runs.cancel((await self._view(request, params)).id)
        return types.EmptyResult()

    async def update(self, request: Request, params: UpdateParams) -> types.EmptyResult:
        """Give a task what it asked for."""
        await self._answer(await self._view(request, params), params.input_responses)
        return types.EmptyResult()

    async def _view(self, request: Request, params: TaskParams) -> RunView:
        """Return the run that a task is; only to who started it, and who knows tasks."""
        if not is_modern(request):
            raise MCPError(METHOD_NOT_FOUND, "Method not found")
        if not knows_tasks(request):
            raise tasks_are_needed(request)
        if request.request is not None and request.request.headers.get("mcp-name") != params.task_id:
            raise MCPError(HEADER_MISMATCH, "Mcp-Name is not the taskId of the body.")
        view = await self._runs.look(params.task_id, principal_of(request))
        if view is None:
            raise MCPError(INVALID_PARAMS, "Task not found.")
        return view


def _needed(view: RunView) -> types.InputRequiredResult:
    """Return what a run asks, for whoever calls again with the answers."""
    wanted = {"inputRequests": requests(view), "requestState": view.id, "resultType": "input_required"}
    return types.InputRequiredResult.model_validate(wanted)
