"""Runs as MCP says them: what whoever serves them has to be able to do, and their states, questions and ends."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol, cast

import mcp_types as types
import msgspec

from reprise.kernel.clock import to_datetime
from reprise.tools.mcp.callers import Request
from reprise.tools.mcp.tasks import Status
from reprise.tools.tool import Tool

POLL = 1_000
"""Milliseconds after which a client may look at a task again."""
RUN_META = "reprise/run"
"""Where a result says which run it is of."""


class Asked(msgspec.Struct, frozen=True):
    """What a run asks a person."""

    key: str
    text: str
    schema: Mapping[str, Any]

    @property
    def message(self) -> str:
        """What is asked, in words."""
        return self.text or "An answer is needed."

    @property
    def form(self) -> dict[str, Any]:
        """The schema as a form; MCP knows fields of simple types only, so anything else is a field with JSON in it."""
        schema = self.schema
        if self._is_form:
            known = {name: schema[name] for name in ("type", "properties", "required") if name in schema}
            return {"$schema": "https://json-schema.org/draft/2020-12/schema", **known}
        field = (
            dict(schema) if _is_simple(schema) else {"type": "string", "description": "The answer, as JSON."}
        )
        return {"type": "object", "properties": {"answer": field}, "required": ["answer"]}

    def answer(self, response: Any) -> Any:
        """Return what was answered in the form; unset = nothing was: somebody declined, or left."""
        given = (
            response.model_dump(mode="json", by_alias=True) if hasattr(response, "model_dump") else response
        )
        if not isinstance(given, dict) or given.get("action") != "accept":  # pyright: ignore[reportUnknownMemberType]
            return msgspec.UNSET
        content: Any = given.get("content")  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        if self._is_form or not isinstance(content, dict):
            return content  # pyright: ignore[reportUnknownVariableType]
        answer = cast("dict[str, Any]", content).get("answer")
        if _is_simple(self.schema) or not isinstance(answer, str):
            return answer
        try:
            return msgspec.json.decode(answer)
        except msgspec.DecodeError:
            return answer  # which does not fit, and is asked again

    @property
    def _is_form(self) -> bool:
        properties: Mapping[str, Any] = self.schema.get("properties", {})
        return (
            self.schema.get("type") == "object"
            and bool(properties)
            and all(map(_is_simple, properties.values()))
        )


_SIMPLE = ("string", "number", "integer", "boolean")


def _is_simple(schema: Mapping[str, Any]) -> bool:
    return schema.get("type") in _SIMPLE and "$ref" not in schema


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
    rests: bool = False
    """A person has to see to it before it goes on."""


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

    async def wait(
        self,
        id: str,
        principal: str,
        request: Request,
        *,
        known: Collection[str] = (),
        patience: float | None = None,
    ) -> RunView:
        """Wait until a run has ended, rests or asks something that is not ``known``; meanwhile tell how far it is.

        For ``patience`` seconds at most, None = as long as calls wait here.
        """
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

    def asks_first(self, name: str) -> bool:
        """Tell whether a workflow asks whoever calls before it becomes a task."""
        ...


# ---------------------------------------------------------------- as MCP says it


def handle(view: RunView) -> dict[str, Any]:
    """Return a run as a task that was made of a call; what came of it is asked for, even when it is there already."""
    return {
        "resultType": "task",
        "taskId": view.id,
        "status": view.status,
        "createdAt": moment(view.created_at),
        "lastUpdatedAt": moment(view.updated_at),
        "ttlMs": None,
        "pollIntervalMs": POLL,
        **({"statusMessage": view.message} if view.message else {}),
    }


def state(view: RunView) -> dict[str, Any]:
    """Return a run as a task, with what it asks, or what came of it."""
    state = {**handle(view), "resultType": "complete"}
    if view.status == "input_required":
        state["inputRequests"] = requests(view)
    if view.result is not None and view.status == "completed":
        state["result"] = view.result.model_dump(mode="json", by_alias=True, exclude_none=True)
    if view.error is not None:
        state["error"] = view.error.model_dump(mode="json", by_alias=True, exclude_none=True)
    return state


def under_way(view: RunView) -> types.CallToolResult:
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


def requests(view: RunView) -> dict[str, Any]:
    """Return what a run asks, as a client is asked it."""
    return {
        question.key: {
            "method": "elicitation/create",
            "params": {"mode": "form", "message": question.message, "requestedSchema": question.form},
        }
        for question in view.questions
    }


def moment(microseconds: int) -> str:
    """Return a time as MCP writes it."""
    return to_datetime(microseconds).isoformat().replace("+00:00", "Z")
