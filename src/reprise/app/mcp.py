"""Workflows of an app as tools of MCP, their runs as its tasks: the same id, the same state, whatever process is asked.

This stands above the tools because it knows workflows and the app; the protocol is in ``tools/mcp``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import mcp_types as types
import msgspec

from reprise.app.reprise import Reprise
from reprise.kernel.errors import (
    BodyError,
    CodecError,
    ConfigurationError,
    RepriseError,
    RunEnded,
    RunError,
    RunNotFound,
    ToolError,
)
from reprise.kernel.events import Finished, Progress as Told, run_stream, talk_stream
from reprise.kernel.machine import FACES, RESTING, RunStatus
from reprise.kernel.surroundings import SURROUNDINGS
from reprise.runtime.handle import outcome_error
from reprise.runtime.workflow import Workflow
from reprise.tools.mcp.callers import Request
from reprise.tools.mcp.door import LOCAL, MAX_BODY, Door
from reprise.tools.mcp.naming import name_of
from reprise.tools.mcp.results import failure, structured_of
from reprise.tools.mcp.runs import RUN_META, Asked, RunView
from reprise.tools.mcp.serving import Offer, offer
from reprise.tools.policy import ToolPolicy
from reprise.tools.registry import ToolRegistry
from reprise.tools.scope import ToolScope
from reprise.tools.tool import Tool
from reprise.workflows.flow import Flow

TAG = "reprise.mcp"
"""Tag of runs that were started over MCP: by whom. Of other runs nobody hears anything there."""
ANYBODY = "anybody"
"""Whoever can reach the door, where it asks for no token."""
WAIT = 300.0
"""Seconds for which a call waits for its run, of callers who know no tasks."""
_LOOK = 1.0
"""Seconds between two words about how far a run is."""


class AppRuns:
    """Workflows that an app offers."""

    def __init__(
        self,
        app: Reprise,
        workflows: Iterable[Workflow[..., Any]],
        *,
        tasks_only: Sequence[str] = (),
        asks_first: Sequence[str] = (),
        wait: float = WAIT,
    ) -> None:
        self._app, self._wait = app, wait
        self._workflows: dict[str, Workflow[..., Any]] = {}
        self._tools: dict[str, Tool] = {}
        for workflow in workflows:
            tool = _as_tool(workflow)
            if tool.name in self._tools:
                raise ConfigurationError(
                    f"Two workflows are called {tool.name!r}.", hint="Name one of them otherwise."
                )
            app.registry.add(workflow)
            self._workflows[tool.name], self._tools[tool.name] = workflow, tool
        for option, names in (("tasks_only", tasks_only), ("asks_first", asks_first)):
            if unknown := set(names) - self._tools.keys():
                raise ConfigurationError(f"{option} names {min(unknown)!r}, which is no workflow here.")
        self._tasks_only, self._asks_first = frozenset(tasks_only), frozenset(asks_first)

    @property
    def tools(self) -> Mapping[str, Tool]:
        """The workflows by the names of their tools."""
        return self._tools

    def must_be_task(self, name: str) -> bool:
        """Tell whether a workflow is only for callers that know tasks."""
        return name in self._tasks_only

    def asks_first(self, name: str) -> bool:
        """Tell whether a workflow asks whoever calls before it becomes a task."""
        return name in self._asks_first

    async def start(self, name: str, arguments: Mapping[str, Any], principal: str) -> str:
        """Start a run, durably, and return its id. Raises ``ToolError``: it does not take these arguments."""
        workflow, tool = self._workflows[name], self._tools[name]
        given = tool.signature.read(msgspec.json.encode(arguments))
        args, kwargs = workflow.called_with(given) if isinstance(workflow, Flow) else ((), given)
        # Whoever knows the id sees the run, so it is not one of those that are counted on.
        id = f"mcp-{SURROUNDINGS.get().randomness(16).hex()}"
        try:
            await self._app.start(workflow, *args, id=id, kwargs=kwargs, tags={TAG: principal or ANYBODY})
        except (CodecError, ConfigurationError) as error:
            raise ToolError("invalid_input", f"{name}: {error.what}", hint=error.hint) from error
        return id

    async def look(self, id: str, principal: str) -> RunView | None:
        """Return a run, None = this caller started none of that id."""
        try:
            row = await self._app.client.row(id)
        except RunNotFound:
            return None
        if row.tags.get(TAG) != (principal or ANYBODY):
            return None
        view = RunView(
            id=id,
            status=FACES[row.status].mcp,  # pyright: ignore[reportArgumentType]
            created_at=row.created_at,
            updated_at=row.updated_at,
            message=await self._message(id, row.status, row.error),
        )
        finished = await self._app.client.finished(id)
        if finished is not None and finished.status != RunStatus.NEEDS_ATTENTION:
            return self._ended(view, row.workflow, finished)
        if row.status not in (RunStatus.RUNNING, RunStatus.WAITING):
            return msgspec.structs.replace(view, rests=row.status in RESTING)
        questions = [Asked(each.key, each.text, each.schema) for each in await self._app.client.questions(id)]
        status = "input_required" if questions else view.status
        return msgspec.structs.replace(view, status=status, questions=questions)

    async def _message(self, id: str, status: str, error: str) -> str:
        if status in (RunStatus.PAUSED, RunStatus.STRANDED, RunStatus.NEEDS_ATTENTION):
            return f"{status.replace('_', ' ')}{f': {error}' if error else ''}; a person has to see to it"
        latest = await self._progress(id)
        if latest is None or (latest.total is None and not latest.note):
            return ""
        of = f" of {latest.total:g}" if latest.total is not None else ""
        return f"{latest.note}{': ' if latest.note else ''}{latest.done:g}{of}"

    async def _progress(self, id: str) -> Told | None:
        records = await self._app.client.progress(id)
        latest = max(records.values(), key=lambda record: record.at, default=None)
        return None if latest is None else msgspec.json.decode(latest.data, type=Told)

    def _ended(self, view: RunView, name: str, finished: Finished) -> RunView:
        tool = next((tool for key, tool in self._tools.items() if self._workflows[key].name == name), None)
        view = msgspec.structs.replace(view, status=FACES[finished.status].mcp, message="")
        if finished.status == RunStatus.COMPLETED:
            value = msgspec.json.decode(finished.value)
            text = value if isinstance(value, str) else bytes(finished.value).decode()
            result = types.CallToolResult(
                content=[types.TextContent(text=text)],
                structured_content=structured_of(tool.returns if tool is not None else {}, value),
            )
            return msgspec.structs.replace(view, result=_of(view.id, result))
        error = outcome_error(view.id, finished)
        what = error.what if isinstance(error, RepriseError) else f"{type(error).__name__}: {error}"
        if isinstance(error, BodyError | CodecError):
            # Not what the workflow says, but that it could not be carried out.
            fault = types.ErrorData(code=types.INTERNAL_ERROR, message=what)
            return msgspec.structs.replace(view, status="failed", error=fault, message=what)
        code = error.code if isinstance(error, ToolError) else "upstream"
        result = failure(ToolError(code, what))
        return msgspec.structs.replace(view, result=_of(view.id, result), message=what)

    async def wait(
        self,
        id: str,
        principal: str,
        request: Request,
        *,
        known: Collection[str] = (),
        patience: float | None = None,
    ) -> RunView:
        """Wait until a run has ended, rests or asks something that is not ``known``; meanwhile tell how far it is."""
        clock, tapped = self._app.clock, asyncio.Event()
        until = clock.monotonic() + (self._wait if patience is None else patience)
        told, rested = -1.0, False
        signal = self._app.store.signal
        ends = [signal.listen(name, lambda _: tapped.set()) for name in (run_stream(id), talk_stream(id))]
        try:
            while True:
                tapped.clear()
                view = await self.look(id, principal)
                assert view is not None
                left = until - clock.monotonic()
                is_over = view.result is not None or view.error is not None or (view.rests and rested)
                if is_over or left <= 0 or any(question.key not in known for question in view.questions):
                    return view
                rested = view.rests  # somebody may have resumed it a moment ago
                latest = await self._progress(id)
                if latest is not None and latest.done > told:
                    told = latest.done
                    await request.session.report_progress(latest.done, latest.total, latest.note or None)
                with suppress(TimeoutError):
                    await asyncio.wait_for(tapped.wait(), min(_LOOK, left))
        finally:
            for end in ends:
                end()

    async def cancel(self, id: str) -> None:
        """Ask a run to stop; nothing if it has ended."""
        try:
            await self._app.client.cancel(id, "asked to by MCP")
        except RunEnded:
            return

    async def answer(self, id: str, key: str, value: Any) -> None:
        """Answer what a run asks; what is not asked any more, or does not fit, is ignored: it is asked again."""
        try:
            await self._app.client.answer(id, value, question=key, by="mcp")
        except RunError:
            return


def mcp_offer(
    what: Reprise | ToolRegistry | ToolScope,
    *,
    workflows: Iterable[Workflow[..., Any]] = (),
    tools: ToolRegistry | ToolScope | None = None,
    policy: ToolPolicy | None = None,
    tasks_only: Sequence[str] = (),
    asks_first: Sequence[str] = (),
    wait: float = WAIT,
    name: str = "reprise",
    version: str = "",
    instructions: str = "",
) -> Offer:
    """Offer tools of a registry or scope, or workflows of an app and ``tools`` beside them, over MCP.

    Of a registry what ``policy`` allows: by default what is pure or only reads. Workflows are offered by naming them.
    ``tasks_only`` are names of those that are refused to callers who know no tasks; else such a call lasts as long as
    its run, ``wait`` seconds at most, and tells the id. ``asks_first`` are those whose first question belongs to the call,
    which becomes a task when it is answered.

    Raises ``ConfigurationError``: two have one name, or workflows without an app.
    """
    app = what if isinstance(what, Reprise) else None
    known = list(workflows)
    if app is None and known:
        raise ConfigurationError("Workflows need an app.", hint="Give a Reprise, and tools= beside it.")
    runs = None
    if app is not None and known:
        runs = AppRuns(app, known, tasks_only=tasks_only, asks_first=asks_first, wait=wait)
    return offer(
        tools if isinstance(what, Reprise) else what,
        runs=runs,
        policy=policy,
        name=name,
        version=version,
        instructions=instructions,
    )


def mcp_app(
    what: Reprise | ToolRegistry | ToolScope,
    *,
    path: str = "/mcp",
    hosts: Sequence[str] = LOCAL,
    origins: Sequence[str] = (),
    tokens: Sequence[str] = (),
    max_body: int = MAX_BODY,
    **options: Any,
) -> Door:
    """Return an ASGI application that serves MCP over Streamable HTTP, for any server, or to be mounted in another one.

    ``options`` are those of :func:`mcp_offer`, the others those of :class:`~reprise.tools.mcp.door.Door`. Mounted in an
    application it is opened in the life of that: ``async with endpoint:``. An app must be open as long as it serves.
    """
    return Door(
        mcp_offer(what, **options), path=path, hosts=hosts, origins=origins, tokens=tokens, max_body=max_body
    )


def _as_tool(workflow: Workflow[..., Any]) -> Tool:
    name = workflow.name if workflow.name.replace("-", "_").isidentifier() else name_of("run", workflow.name)
    description = (workflow.function.__doc__ or "").strip() if not isinstance(workflow, Flow) else ""
    options: dict[str, Any] = {
        "name": name,
        "description": description or f"Run {workflow.name}, durably.",
        "tags": ["workflow"],
    }
    if isinstance(workflow, Flow) and workflow.inputs is not None:
        inputs = dict(workflow.inputs)
        required = [each for each, schema in inputs.items() if "default" not in schema]
        parameters = {"type": "object", "properties": inputs, "required": required}
        return Tool(workflow.function, parameters=parameters, **options)
    return Tool(workflow.function, **options)


def _of(id: str, result: types.CallToolResult) -> types.CallToolResult:
    """Return a result that says of which run it is."""
    return result.model_copy(update={"meta": {RUN_META: id}})
