"""The server of ``make trial-mcp``: what Reprise offers, with the tools that the official suite calls.

Tools go through a registry and its policy, runs through a store; what Reprise does not offer by itself (prompts, resources,
completion, logging) is the SDK's, behind the same door.
"""

import asyncio
import base64
import os
import sys
import warnings
from typing import Any

import mcp_types as types
import uvicorn
from mcp.shared.exceptions import MCPDeprecationWarning, MCPError

from reprise import Reprise, ToolError, ToolPolicy, ToolRegistry, ask, workflow
from reprise.app.mcp import mcp_offer
from reprise.kernel.errors import BodyError
from reprise.tools.context import ToolContext
from reprise.tools.mcp.door import Door
from reprise.tools.mcp.results import BLOCKS
from reprise.tools.mcp.serving import REQUEST, InputNeeded
from reprise.tools.tool import tool

warnings.simplefilter("ignore", MCPDeprecationWarning)
PNG = base64.b64encode(
    bytes.fromhex(
        "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
        "1f15c4890000000d49444154789c626001000000050001a5f645400000000049454e44ae426082"
    )
).decode()
WAV = base64.b64encode(
    b"RIFF$\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0@\x1f\0\0@\x1f\0\0\1\0\x08\0data\0\0\0\0"
).decode()
IMAGE = {"type": "image", "data": PNG, "mimeType": "image/png"}
AUDIO = {"type": "audio", "data": WAV, "mimeType": "audio/wav"}


def embedded(uri: str, kind: str, text: str) -> dict[str, Any]:
    return {"type": "resource", "resource": {"uri": uri, "mimeType": kind, "text": text}}


# ---------------------------------------------------------------- tools, by the registry


def blocks(name: str, *content: dict[str, Any]):
    @tool(name=name, description=name, effects="pure", tags=[BLOCKS])
    def made() -> list[dict[str, Any]]:
        return list(content)

    return made


@tool(effects="pure")
def test_simple_text() -> str:
    """Say a text."""
    return "This is a simple text response for testing."


@tool(effects="pure")
def test_error_handling() -> str:
    """Fail."""
    raise RuntimeError("This tool intentionally returns an error for testing")


@tool(effects="pure")
async def test_tool_with_progress() -> str:
    """Tell how far it is."""
    request = REQUEST.get()
    for done in (0, 50, 100):
        await request.session.report_progress(done, 100, f"Completed step {done} of 100")
        await asyncio.sleep(0.05)
    return "done"


@tool(effects="pure")
async def test_tool_with_logging() -> str:
    """Say what it does."""
    request = REQUEST.get()
    for text in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        await request.session.send_log_message("info", text, related_request_id=request.request_id)
        await asyncio.sleep(0.05)
    return "done"


@tool(effects="pure")
async def test_sampling(prompt: str) -> str:
    """Ask the client's model."""
    request = REQUEST.get()
    said = await request.session.create_message(
        [types.SamplingMessage(role="user", content=types.TextContent(text=prompt))],
        max_tokens=100,
        related_request_id=request.request_id,
    )
    return f"LLM response: {said.content.text}"


async def elicited(message: str, schema: dict[str, Any]) -> str:
    request = REQUEST.get()
    said = await request.session.elicit_form(message, schema, related_request_id=request.request_id)
    return f"action={said.action}, content={said.content}"


@tool(effects="pure")
async def test_elicitation(message: str) -> str:
    """Ask a person."""
    fields = {"response": {"type": "string", "description": "User's response"}}
    return await elicited(message, {"type": "object", "properties": fields, "required": ["response"]})


@tool(effects="pure")
async def test_elicitation_sep1034_defaults() -> str:
    """Ask a person, with defaults."""
    fields = {
        "name": {"type": "string", "default": "John Doe"},
        "age": {"type": "integer", "default": 30},
        "score": {"type": "number", "default": 95.5},
        "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
        "verified": {"type": "boolean", "default": True},
    }
    return await elicited("Please review and update the form fields with defaults", {"type": "object", "properties": fields, "required": []})  # fmt: skip


@tool(effects="pure")
async def test_elicitation_sep1330_enums() -> str:
    """Ask a person to choose."""
    plain, titles = ["option1", "option2", "option3"], ["First Option", "Second Option", "Third Option"]
    titled = [{"const": f"value{n}", "title": title} for n, title in enumerate(titles, 1)]
    fields = {
        "untitledSingle": {"type": "string", "enum": plain},
        "titledSingle": {"type": "string", "oneOf": titled},
        "legacyEnum": {
            "type": "string",
            "enum": ["opt1", "opt2", "opt3"],
            "enumNames": ["One", "Two", "Three"],
        },
        "untitledMulti": {"type": "array", "items": {"type": "string", "enum": plain}},
        "titledMulti": {"type": "array", "items": {"anyOf": titled}},
    }
    return await elicited("Please choose", {"type": "object", "properties": fields, "required": []})


@tool(effects="pure")
async def test_missing_capability() -> str:
    """Need sampling."""
    meta = REQUEST.get().meta or {}
    if "sampling" not in (meta.get("io.modelcontextprotocol/clientCapabilities") or {}):
        raise MCPError(-32021, "This needs sampling.", {"requiredCapabilities": {"sampling": {}}})
    return "it is there"


@tool(effects="pure")
def test_logging_tool() -> str:
    """Log nothing that nobody asked for."""
    return "done"


@tool(effects="pure")
def greet(name: str) -> str:
    """Greet somebody."""
    return f"Hello, {name}!"


@tool(effects="executes")
def test_trigger_tool_change(context: ToolContext) -> str:
    """Change what tools there are."""
    registry = context.need(ToolRegistry)
    if test_came_and_went.name in registry:
        registry.unregister_tool(test_came_and_went.name)
        return "gone"
    registry.register_tool(test_came_and_went)
    return "there"


@tool(effects="pure")
def test_came_and_went() -> str:
    """Be there at times."""
    return "there"


# ---------------------------------------------------------------- tools that need more from whoever calls


def asks(message: str = "What is your name?", field: str = "name", kind: str = "string") -> dict[str, Any]:
    schema = {"type": "object", "properties": {field: {"type": kind}}, "required": [field]}
    return {
        "method": "elicitation/create",
        "params": {"mode": "form", "message": message, "requestedSchema": schema},
    }


SAMPLES = {
    "method": "sampling/createMessage",
    "params": {
        "messages": [{"role": "user", "content": {"type": "text", "text": "What is the capital of France?"}}],
        "maxTokens": 100,
    },
}
ROOTS = {"method": "roots/list"}


def given() -> tuple[dict[str, Any], str]:
    """Return what came with this call: answers, and the state that was handed out."""
    params = REQUEST.get().params or {}
    return params.get("inputResponses") or {}, params.get("requestState") or ""


def needs(name: str, state: str = "", **requests: dict[str, Any]):
    @tool(name=f"test_input_required_result_{name}", description=name, effects="pure")
    def made() -> str:
        answers, came = given()
        if not requests.keys() <= answers.keys() or came != state:
            raise InputNeeded(requests, state or None)
        return f"state-ok: {[answers[key] for key in requests]}"

    return made


@tool(effects="pure")
def test_input_required_result_multi_round() -> str:
    """Ask twice."""
    answers, state = given()
    if state == "one" and "step1" in answers:
        raise InputNeeded({"step2": asks("Which colour?", "color")}, "two")
    if state == "two" and "step2" in answers:
        return str(answers["step2"])
    raise InputNeeded({"step1": asks()}, "one")


@tool(effects="pure")
def test_input_required_result_capabilities() -> str:
    """Ask in the ways that the client knows."""
    known = (REQUEST.get().meta or {}).get("io.modelcontextprotocol/clientCapabilities") or {}
    ways = {"elicitation": asks(), "sampling": SAMPLES}
    raise InputNeeded({name: each for name, each in ways.items() if name in known}, "gated")


@tool(effects="pure")
def test_streaming_elicitation() -> str:
    """Ask, in the stream of the answer."""
    if given()[0]:
        return "done"
    raise InputNeeded({"user_name": asks()})


NEEDING = [
    needs("elicitation", user_name=asks()),
    needs("sampling", capital_question=SAMPLES),
    needs("list_roots", client_roots=ROOTS),
    needs("request_state", "nonce", confirm=asks("Sure?", "ok", "boolean")),
    needs("multiple_inputs", "many", user_name=asks(), greeting=SAMPLES, client_roots=ROOTS),
    test_input_required_result_multi_round, test_input_required_result_capabilities, test_streaming_elicitation,
]  # fmt: skip

TOOLS = [
    *NEEDING,
    test_simple_text, test_error_handling, test_tool_with_progress, test_tool_with_logging, test_sampling,
    test_elicitation, test_elicitation_sep1034_defaults, test_elicitation_sep1330_enums, test_missing_capability,
    test_logging_tool, greet, test_trigger_tool_change,
    blocks("test_image_content", IMAGE),
    blocks("test_audio_content", AUDIO),
    blocks("test_embedded_resource", embedded("test://embedded-resource", "text/plain", "This is an embedded resource content.")),
    blocks(
        "test_multiple_content_types",
        {"type": "text", "text": "Multiple content types test:"},
        IMAGE,
        embedded("test://mixed-content-resource", "application/json", '{"test":"data","value":123}'),
    ),
]  # fmt: skip


# ---------------------------------------------------------------- runs, as tasks


@workflow
async def slow_compute(seconds: float = 0, label: str = "") -> str:
    await asyncio.sleep(seconds)
    return f"computed {label}"


@workflow
async def failing_job() -> str:
    await asyncio.sleep(1)
    raise ToolError("upstream", "the job failed")


@workflow
async def protocol_error_job() -> str:
    raise BodyError("The job cannot be carried out.")


def form(**fields: str) -> dict[str, Any]:
    return {"type": "object", "properties": {name: {"type": kind} for name, kind in fields.items()}}


@workflow
async def confirm_delete(filename: str = "") -> str:
    said = await ask(form(confirm="boolean"), f"Delete {filename}?")
    return f"deleted {filename}" if said["confirm"] else f"kept {filename}"


@workflow
async def multi_input() -> list[Any]:
    wanted = form(name="string", confirm="boolean")
    return list(await asyncio.gather(ask(wanted, "First?"), ask(wanted, "Second?")))


@workflow
async def test_tool_with_task() -> str:
    said = await ask(form(name="string"), "What is your name?")
    return f"Hello, {said['name']}!"


@workflow
async def test_input_required_result_tampered_state() -> str:
    return str(await ask(form(ok="boolean"), "Sure?"))  # the state is the run's id: another one is nobody's


WORKFLOWS = [
    slow_compute, failing_job, protocol_error_job, confirm_delete, multi_input,
    test_input_required_result_tampered_state, test_tool_with_task,
]  # fmt: skip


# ---------------------------------------------------------------- what is the SDK's alone

PROMPTS = {
    "test_simple_prompt": (),
    "test_prompt_with_arguments": ("arg1", "arg2"),
    "test_prompt_with_embedded_resource": ("resourceUri",),
    "test_prompt_with_image": (),
}
RESOURCES = {
    "test://static-text": "text/plain",
    "test://static-binary": "image/png",
    "test://watched-resource": "text/plain",
}


async def list_prompts(request: Any, params: Any) -> types.ListPromptsResult:
    return types.ListPromptsResult(
        prompts=[
            types.Prompt(
                name=name,
                description=name,
                arguments=[
                    types.PromptArgument(name=each, description=each, required=True) for each in wanted
                ],
            )
            for name, wanted in PROMPTS.items()
        ]
    )


async def get_prompt(request: Any, params: Any) -> Any:
    given = params.arguments or {}
    if params.name == "test_input_required_result_prompt":
        if not params.input_responses:
            return InputNeeded({"user_context": asks("What context?", "context")}).result
        text = {"type": "text", "text": f"With context: {params.input_responses}"}
        return types.GetPromptResult.model_validate({"messages": [{"role": "user", "content": text}]})
    said: dict[str, list[dict[str, Any]]] = {
        "test_simple_prompt": [{"type": "text", "text": "This is a simple prompt for testing."}],
        "test_prompt_with_arguments": [
            {
                "type": "text",
                "text": f"Prompt with arguments: arg1='{given.get('arg1')}', arg2='{given.get('arg2')}'",
            }
        ],
        "test_prompt_with_embedded_resource": [
            embedded(
                given.get("resourceUri", "test://x"), "text/plain", "Embedded resource content for testing."
            ),
            {"type": "text", "text": "Please process the embedded resource above."},
        ],
        "test_prompt_with_image": [IMAGE, {"type": "text", "text": "Please analyze the image above."}],
    }
    if params.name not in said:
        raise MCPError(types.INVALID_PARAMS, "Unknown prompt")
    return types.GetPromptResult.model_validate(
        {"messages": [{"role": "user", "content": content} for content in said[params.name]]}
    )


async def list_resources(request: Any, params: Any) -> types.ListResourcesResult:
    return types.ListResourcesResult(
        resources=[types.Resource(uri=uri, name=uri, mime_type=kind) for uri, kind in RESOURCES.items()]
    )


async def list_templates(request: Any, params: Any) -> types.ListResourceTemplatesResult:
    template = types.ResourceTemplate(
        uri_template="test://template/{id}/data", name="template", mime_type="application/json"
    )
    return types.ListResourceTemplatesResult(resource_templates=[template])


async def read_resource(request: Any, params: Any) -> types.ReadResourceResult:
    uri = str(params.uri)
    if uri == "test://static-binary":
        contents: dict[str, Any] = {"uri": uri, "mimeType": "image/png", "blob": PNG}
    elif uri in RESOURCES:
        contents = {
            "uri": uri,
            "mimeType": "text/plain",
            "text": "This is the content of the static text resource.",
        }
    elif uri.startswith("test://template/"):
        id = uri.split("/")[3]
        text = f'{{"id":"{id}","templateTest":true,"data":"Data for ID: {id}"}}'
        contents = {"uri": uri, "mimeType": "application/json", "text": text}
    else:
        raise MCPError(types.INVALID_PARAMS, f"Resource not found: {uri}", {"uri": uri})
    return types.ReadResourceResult.model_validate({"contents": [contents]})


async def complete(request: Any, params: Any) -> types.CompleteResult:
    return types.CompleteResult(
        completion=types.Completion(values=["paris", "park"], total=2, has_more=False)
    )


async def nothing(request: Any, params: Any) -> types.EmptyResult:
    return types.EmptyResult()


SDK = {
    "prompts/list": (types.PaginatedRequestParams, list_prompts),
    "prompts/get": (types.GetPromptRequestParams, get_prompt),
    "resources/list": (types.PaginatedRequestParams, list_resources),
    "resources/templates/list": (types.PaginatedRequestParams, list_templates),
    "resources/read": (types.ReadResourceRequestParams, read_resource),
    "resources/subscribe": (types.SubscribeRequestParams, nothing),
    "resources/unsubscribe": (types.UnsubscribeRequestParams, nothing),
    "completion/complete": (types.CompleteRequestParams, complete),
    "logging/setLevel": (types.SetLevelRequestParams, nothing),
}


async def main(port: int) -> None:
    async with Reprise("memory://", workflows=WORKFLOWS) as app:
        registry = ToolRegistry(TOOLS)
        registry.provide(registry)
        offered = mcp_offer(
            app,
            workflows=WORKFLOWS,
            tools=registry,
            policy=ToolPolicy(),
            tasks_only=["failing_job"],
            asks_first=["test_tool_with_task"],
            version="1",
        )
        for method, (params, handler) in SDK.items():
            offered.server.add_request_handler(method, params, handler)
        config = uvicorn.Config(Door(offered), port=port, log_level="warning")
        await uvicorn.Server(config).serve()


if __name__ == "__main__":
    sys.stderr.flush()
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    asyncio.run(main(int(sys.argv[1])))
