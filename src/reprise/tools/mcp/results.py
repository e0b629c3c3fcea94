"""Results of tools: as MCP says them, and as values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import mcp_types as types
import msgspec

from reprise.kernel.errors import ToolError
from reprise.tools.calling import ToolResult
from reprise.tools.mcp.naming import clean
from reprise.tools.tool import Tool

BLOCKS = "mcp-blocks"
"""Tag of tools whose values are blocks of content (texts, images, sound, resources) as MCP writes them."""
CODES = frozenset(
    "invalid_input not_found too_large timeout permission_denied rate_limited unavailable conflict upstream".split()
)
_MOST = 2_000
"""Characters of an error's text."""
_read = msgspec.json.Decoder().decode


# ---------------------------------------------------------------- a server's result, here


def value_of(name: str, result: types.CallToolResult, *, structured: bool) -> Any:
    """Return the value of a result: what is structured, else the text, else the blocks as JSON.

    Raises ``ToolError``: the tool says that it failed, or it does not return what it declares (``structured``).
    """
    if result.is_error:
        raise _error(name, result)
    if result.structured_content is not None:
        return result.structured_content
    if structured:
        raise ToolError("upstream", f"{name} declares what it returns, and returned something else.")
    if len(result.content) == 1 and isinstance(only := result.content[0], types.TextContent):
        return only.text
    return [block.model_dump(mode="json", by_alias=True, exclude_none=True) for block in result.content]


def _error(name: str, result: types.CallToolResult) -> ToolError:
    text = clean(
        "\n".join(block.text for block in result.content if isinstance(block, types.TextContent)), _MOST
    )
    said: Any = result.structured_content
    given: Any = cast("dict[str, Any]", said).get("error") if isinstance(said, dict) else None
    error = cast("dict[str, Any]", given) if isinstance(given, dict) else {}
    code, after = error.get("code"), error.get("retry_after")
    return ToolError(
        code if code in CODES else "upstream",
        f"{name}: {text or 'it failed, and does not say why'}",
        field=str(error.get("field") or "")[:200],
        retry_after=float(after) if isinstance(after, int | float) else None,
    )


# ---------------------------------------------------------------- our result, as MCP says it


def output_schema(tool: Tool) -> dict[str, Any] | None:
    """Return the schema of a tool's result as an object, which MCP wants; what is no object is in ``result``."""
    schema = dict(tool.returns)
    if BLOCKS in tool.tags or not schema:
        return None
    known = schema.pop("$defs", {})
    while "$ref" in schema:
        schema = dict(known[str(schema["$ref"]).rpartition("/")[2]])
    if schema.get("type") != "object":
        schema = {"type": "object", "properties": {"result": schema}, "required": ["result"]}
    return {**schema, "$defs": known} if known else schema


def result_of(tool: Tool, result: ToolResult) -> types.CallToolResult:
    """Return what a call returned as MCP says it: as text for models, and structured."""
    value = _read(result.data)
    if BLOCKS in tool.tags:
        return types.CallToolResult.model_validate({"content": value})
    text = value if isinstance(value, str) else result.data.decode()
    warnings = [types.TextContent(text=f"Note: {each}") for each in result.warnings]
    return types.CallToolResult(
        content=[types.TextContent(text=text), *warnings],
        structured_content=structured_of(tool.returns, value),
    )


def structured_of(returns: Mapping[str, Any], value: Any) -> Any:
    """Return a value as the schema of :func:`output_schema` wants it; nothing where nothing is declared."""
    if not returns:
        return None
    return value if _is_object(returns) else {"result": value}


def _is_object(schema: Mapping[str, Any]) -> bool:
    known = schema.get("$defs", {})
    while "$ref" in schema:
        schema = known[str(schema["$ref"]).rpartition("/")[2]]
    return schema.get("type") == "object"


def failure(error: ToolError) -> types.CallToolResult:
    """Return an error as a result that says so: models are to read it, and do better."""
    said: dict[str, Any] = {
        "code": error.code,
        "message": error.what,
        "hint": error.hint,
        "field": error.field,
    }
    if error.retry_after is not None:
        said["retry_after"] = error.retry_after
    text = f"{error.what} {error.hint}".strip()
    return types.CallToolResult(
        content=[types.TextContent(text=text)],
        structured_content={"error": {name: each for name, each in said.items() if each != ""}},
        is_error=True,
    )


def texts(blocks: Sequence[types.ContentBlock]) -> str:
    """Return the text of blocks of content."""
    return "\n".join(block.text for block in blocks if isinstance(block, types.TextContent))
