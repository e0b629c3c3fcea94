"""One call of a tool: the arguments are read, the policy is asked, the function called, the result checked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from math import isfinite
from typing import Any, cast

import msgspec

from reprise.kernel.errors import CodecError, MissingExtra, ToolError
from reprise.tools.context import ToolContext
from reprise.tools.tool import Tool

Executor = Callable[..., Any]
"""Called with ``(arguments, context)`` or ``(arguments)``, async or not; stands in for a tool's own function."""
Execute = Callable[[dict[str, Any], ToolContext], Awaitable[Any]]
"""An executor as it is called: one that is not async in a thread."""
_write = msgspec.json.Encoder().encode


class ToolResult(msgspec.Struct, frozen=True):
    """What came of a call."""

    value: Any
    tool: str
    event_id: str
    """Id of the event that observers were told."""
    duration: float
    """Seconds."""
    warnings: tuple[str, ...] = ()
    data: bytes = b""
    """The value as JSON."""


class ToolCalled(msgspec.Struct, frozen=True):
    """The event of a call, as observers are told. Neither arguments nor results are in it: they may be secret."""

    id: str
    tool: str
    caller: str
    run: str
    at: int
    """Microseconds since 1970 when it was called."""
    duration: float
    """Seconds."""
    code: str = ""
    """Code of the error that it ended with, '' = it did what was asked."""
    bytes_in: int = 0
    bytes_out: int = 0
    warnings: tuple[str, ...] = ()


def read(tool: Tool, arguments: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    """Return arguments as the tool's function takes them, and how many bytes they are as JSON.

    Raises ``ToolError`` with code ``invalid_input`` or ``too_large``.
    """
    try:
        data = _write(arguments)
    except (TypeError, ValueError, RecursionError) as error:
        raise ToolError("invalid_input", f"The arguments of {tool.name} are no JSON: {error}.") from None
    if b"null" in data and (where := _no_number(arguments, "$")):
        raise ToolError("invalid_input", f"{tool.name}: NaN and infinity are no JSON.", field=where)
    if len(data) > tool.max_input:
        raise ToolError(
            "too_large",
            f"The arguments of {tool.name} are {len(data):,} bytes; it takes {tool.max_input:,}.",
            hint="Give it less at a time.",
        )
    try:
        return tool.signature.read(data), len(data)
    except ToolError as error:
        raise _of(tool, error) from None


async def execute(
    tool: Tool, executor: Execute | None, arguments: dict[str, Any], context: ToolContext
) -> tuple[Any, bytes]:
    """Call a tool's function, or what stands in for it; return what it returns, and that as JSON.

    Raises ``ToolError``, whatever went wrong.
    """
    limit = asyncio.timeout(tool.timeout)
    try:
        async with limit:
            value = await _call(tool, executor, arguments, context)
        data = _written(tool, value, context, replaced=executor is not None)
    except ToolError as error:
        raise _of(tool, error) from error.__cause__
    except MissingExtra as error:
        raise ToolError("unavailable", f"{tool.name}: {error.what}", hint=error.hint) from error
    except TimeoutError as error:
        if not limit.expired():
            raise ToolError(
                "timeout", f"{tool.name}: {error or 'something it waited for took too long'}."
            ) from error
        raise ToolError(
            "timeout",
            f"{tool.name} took longer than {tool.timeout:g} s.",
            hint="" if tool.is_async else "It goes on in its thread, where nobody can stop it.",
        ) from None
    except Exception as error:
        raise ToolError("upstream", f"{tool.name} failed: {type(error).__name__}: {error}") from error
    if len(data) > tool.max_output:
        raise ToolError(
            "too_large",
            f"{tool.name} returned {len(data):,} bytes; it may return {tool.max_output:,}.",
            hint="Ask for less.",
        )
    return value, data


async def _call(tool: Tool, executor: Execute | None, arguments: dict[str, Any], context: ToolContext) -> Any:
    if executor is not None:
        return await executor(arguments, context)
    if tool.signature.context:
        arguments[tool.signature.context] = context
    if tool.is_async:
        return await tool.function(**arguments)
    if tool.where == "inline":
        return tool.function(**arguments)
    return await asyncio.to_thread(tool.function, **arguments)


def _written(tool: Tool, value: Any, context: ToolContext, *, replaced: bool) -> bytes:
    try:
        return tool.signature.write(value)
    except CodecError as error:
        if not replaced:
            raise ToolError("upstream", f"{tool.name} returned what it does not declare: {error}") from error
        context.warn(f"The executor returned what {tool.name} does not declare: {error.what}")
    try:
        return _write(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise ToolError("upstream", f"The executor of {tool.name} returned no JSON: {error}") from error


def _no_number(value: Any, where: str) -> str:
    """Return where a number stands that JSON does not have, and that is written as null; '' = nowhere."""
    if isinstance(value, float):
        return "" if isfinite(value) else where
    inner: Iterable[tuple[str, Any]] = ()
    if isinstance(value, Mapping):
        inner = ((f"{where}.{key}", each) for key, each in cast("Mapping[Any, Any]", value).items())
    elif isinstance(value, list | tuple):
        inner = ((f"{where}[{at}]", each) for at, each in enumerate(cast("list[Any]", value)))
    return next((found for at, each in inner if (found := _no_number(each, at))), "")


def _of(tool: Tool, error: ToolError) -> ToolError:
    """Return an error that names the tool."""
    if error.what.startswith(tool.name):
        return error
    return ToolError(
        error.code,
        f"{tool.name}: {error.what}",
        hint=error.hint,
        field=error.field,
        retry_after=error.retry_after,
    )
