"""A server as a process: messages by lines over its standard input and output.

The SDK's transport reads lines of any length, hands on what the server writes to standard error, and adds our variables to
those of its own. Here a line has a limit, the last of what it said is kept for errors, and the process gets nothing of our
surroundings but where programs and homes are.
"""

from __future__ import annotations

import asyncio
import os
import signal
from asyncio.subprocess import PIPE, Process
from collections import deque
from collections.abc import AsyncGenerator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import mcp_types as types
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.shared.message import SessionMessage

from reprise.kernel.errors import ToolError
from reprise.tools.mcp.naming import clean

PASSED = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TMPDIR",
    "USER",
    "LOGNAME",
    "SYSTEMROOT",
    "USERPROFILE",
)
"""Variables that a server's process gets of ours."""
GRACE = 2.0
"""Seconds that a server has to end by itself, and again to end when it is told to, before it is killed."""
_REAP = 10.0
"""Seconds until the system has told us that what was killed is gone; more only on a machine that stands still."""
_LOOK = 0.01
"""Seconds between two looks whether a process has ended."""
_LAST, _LINE = 20, 1_200
"""Lines of standard error that are kept, and bytes of each that are looked at."""

Streams = tuple[MemoryObjectReceiveStream[SessionMessage | Exception], MemoryObjectSendStream[SessionMessage]]


class Wire:
    """What is known of a connection beside its messages."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self.why = ""
        self.pid = 0
        """Of a server's process, 0 = it is none of ours."""

    def end(self, why: str = "") -> None:
        """Note that no message comes any more; the first reason is kept."""
        self.why = self.why or why
        self.ended.set()


@asynccontextmanager
async def stdio(
    command: Sequence[str], wire: Wire, *, env: Mapping[str, str], cwd: str | None, limit: int
) -> AsyncGenerator[Streams]:
    """Start a server, and give the streams of its messages; when left, it is ended, with all that it started.

    Raises ``ToolError`` with code ``unavailable``: it cannot be started.
    """
    surroundings = {name: os.environ[name] for name in PASSED if name in os.environ} | dict(env)
    try:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=surroundings, cwd=cwd, limit=limit, start_new_session=True
        )  # fmt: skip
    except (OSError, ValueError) as error:
        raise ToolError("unavailable", f"{command[0]} cannot be started: {error}.") from error
    wire.pid = process.pid
    said: deque[str] = deque(maxlen=_LAST)
    incoming, messages = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    outgoing, to_send = anyio.create_memory_object_stream[SessionMessage](0)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_listen, process, said, limit)
            tasks.start_soon(_receive, process, incoming, wire, said, limit)
            tasks.start_soon(_send, process, to_send, wire)
            try:
                yield messages, outgoing
            finally:
                await _whole(_stop(process))
                tasks.cancel_scope.cancel()
    finally:
        wire.end()
        for stream in (incoming, messages, outgoing, to_send):
            stream.close()
        _kill(process, "SIGKILL")  # whatever was cancelled above
        # Pipes that something else holds open would keep it, and nothing public closes it.
        if (transport := getattr(process, "_transport", None)) is not None:
            transport.close()


async def _receive(
    process: Process,
    incoming: MemoryObjectSendStream[SessionMessage | Exception],
    wire: Wire,
    said: Sequence[str],
    limit: int,
) -> None:
    assert process.stdout is not None
    why = "it ended"
    try:
        while True:
            await incoming.send(_message(await process.stdout.readuntil(b"\n")))
    except asyncio.LimitOverrunError:
        why = f"it sent a message of more than {limit:,} bytes"
    except (asyncio.IncompleteReadError, OSError):
        why = f"it ended; the last it said: {said[-1]}" if said else "it ended"
    except (anyio.ClosedResourceError, anyio.BrokenResourceError):
        why = ""
    wire.end(why)
    incoming.close()


async def _send(process: Process, to_send: MemoryObjectReceiveStream[SessionMessage], wire: Wire) -> None:
    assert process.stdin is not None
    try:
        async for message in to_send:
            process.stdin.write(
                message.message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n"
            )
            await process.stdin.drain()
    except (OSError, RuntimeError):
        wire.end("it takes no more messages")


async def _listen(process: Process, said: deque[str], limit: int) -> None:
    """Keep the last lines of standard error; they are for people, so nothing in them steers a terminal."""
    assert process.stderr is not None
    while True:
        try:
            line = await process.stderr.readuntil(b"\n")
        except asyncio.IncompleteReadError as error:
            line = error.partial
            if not line:
                return
        except asyncio.LimitOverrunError as error:
            await process.stderr.readexactly(error.consumed)
            continue
        text = clean(line[:_LINE].decode("utf-8", "replace").strip(), 300)
        if any(map(str.isalnum, text)):
            said.append(text)


def _message(line: bytes) -> SessionMessage | Exception:
    try:
        return SessionMessage(types.jsonrpc_message_adapter.validate_json(line, by_name=False))
    except ValueError as error:
        return error


async def _whole(work: Coroutine[Any, Any, None]) -> None:
    """Do something to its end, also when cancelled meanwhile; that is then raised.

    A shield of anyio keeps out its own scopes, and neither ``Task.cancel`` nor ``asyncio.timeout``.
    """
    task = asyncio.create_task(work)
    cancelled: asyncio.CancelledError | None = None
    with anyio.CancelScope(shield=True):
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as error:
                cancelled = error
    task.result()
    if cancelled is not None:
        raise cancelled


async def _stop(process: Process) -> None:
    """Let a server end by itself, then tell it to, then kill it."""
    if process.stdin is not None:
        process.stdin.close()
    for name, patience in (("", GRACE), ("SIGTERM", GRACE), ("SIGKILL", _REAP)):
        _kill(process, name)
        with anyio.move_on_after(patience):
            # Not process.wait(): that also waits until all was read that it wrote.
            while process.returncode is None:  # noqa: ASYNC110 - nothing else says it
                await anyio.sleep(_LOOK)
            break
    _kill(process, "SIGKILL")  # what it started, and left behind


def _kill(process: Process, name: str) -> None:
    """Send a signal to a server and to all that it started."""
    if not name:
        return
    with suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, getattr(signal, name))
        else:
            process.kill()
