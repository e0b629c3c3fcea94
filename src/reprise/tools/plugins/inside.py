"""What runs in the process of a plugin: load it, call its tools. Not imported by us.

Orders come by the first pipe and answers go by the second one; what the plugin prints goes to the standard error.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import resource
import signal
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from contextvars import ContextVar
from copy import copy
from itertools import count
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from reprise.kernel.clock import SystemClock
from reprise.kernel.errors import ToolError
from reprise.runtime.executors.frames import LENGTH
from reprise.tools import calling
from reprise.tools.context import ToolContext
from reprise.tools.plugins.bounded import said
from reprise.tools.plugins.folder import Folder
from reprise.tools.plugins.importing import Importer
from reprise.tools.plugins.orders import (
    Answer,
    Ask,
    Call,
    Cancel,
    Described,
    Failed,
    Fault,
    Load,
    Order,
    Raised,
    Ready,
    Returned,
    Said,
    read_order,
)
from reprise.tools.plugins.registering import Offered, PluginRegistry, collect
from reprise.tools.tool import Tool

_WITHIN = ContextVar("reprise_plugin_call", default=0)
"""Number of the call that is executed."""
_PR_SET_NO_NEW_PRIVS = 38
_LONG = 10.0**9


class Pipes:
    """Our ends of both pipes."""

    def __init__(self, orders: int, answers: int) -> None:
        self._orders, self._answers = orders, answers
        self._lock = threading.Lock()

    def receive(self) -> Order | None:
        """Wait for an order; None when nobody gives any more."""
        head = self._read(LENGTH)
        data = self._read(int.from_bytes(head, "big")) if head else b""
        return read_order(data) if data else None

    def _read(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            more = os.read(self._orders, min(size - len(data), 1 << 20))
            if not more:
                return b""
            data += more
        return bytes(data)

    def send(self, said: Said) -> None:
        """Send an answer; from any thread."""
        data = msgspec.json.encode(said)
        left = memoryview(len(data).to_bytes(LENGTH, "big") + data)
        with self._lock:
            while left:
                left = left[os.write(self._answers, left) :]


class GuestContext(ToolContext):
    """What a tool has around it here: the run and its key are those of the call."""

    __slots__ = ("_key", "_run")

    def __init__(self, call: Call) -> None:
        super().__init__(call.tool, SystemClock(), os.urandom, caller=call.caller)
        self._run, self._key = call.run, call.key

    @property
    def run(self) -> str:
        """Id of the run in whose step it is called."""
        return self._run

    @property
    def idempotency_key(self) -> str:
        """A key for the receiver."""
        return self._key


class Inside:
    """A loaded plugin, and the calls that go on."""

    def __init__(self, pipes: Pipes, load: Load) -> None:
        self._pipes = pipes
        self._calls: dict[int, asyncio.Task[None]] = {}
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._numbers = count(1)
        importer = Importer(load.name, Folder(load.files), Path(load.where))
        registry = PluginRegistry(load.name, load.permissions, self._ask)
        collect(importer.load(load.entry), importer.package, registry)
        self.tools = [each.tool for each in registry.offered]
        self._offered = {each.tool.name: _patient(each) for each in registry.offered}

    async def serve(self) -> None:
        """Do what is ordered, until this process ends."""
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._listen, args=[loop], name="reprise-orders", daemon=True).start()
        await loop.create_future()

    def _listen(self, loop: asyncio.AbstractEventLoop) -> NoReturn:
        with suppress(msgspec.MsgspecError, OSError, RuntimeError):
            while (order := self._pipes.receive()) is not None:
                loop.call_soon_threadsafe(self._take, order)
        _end_group()

    def _take(self, order: Order) -> None:
        if isinstance(order, Call):
            self._calls[order.id] = asyncio.ensure_future(self._do(order))
        elif isinstance(order, Cancel):
            if (task := self._calls.get(order.id)) is not None:
                task.cancel()
        elif isinstance(order, Answer) and (asked := self._asked.pop(order.id, None)) and not asked.done():
            if order.fault is None:
                asked.set_result(order.value)
            else:
                asked.set_exception(order.fault.error())

    async def _do(self, call: Call) -> None:
        context = GuestContext(call)
        _WITHIN.set(call.id)
        said_: Said
        try:
            tool, executor = self._offered[call.tool]
            given, _ = calling.read(tool, call.arguments)
            _, data = await calling.execute(tool, executor, given, context)
            said_ = Returned(call.id, msgspec.Raw(data), context.warnings)
        except ToolError as error:
            said_ = Raised(call.id, Fault.of(error), context.warnings)
        except BaseException as error:  # noqa: BLE001 - also SystemExit, and being told to stop
            fault = Fault("upstream", f"{call.tool} failed: {said(error)}")
            said_ = Raised(call.id, fault, context.warnings)
        finally:
            self._calls.pop(call.id, None)
        self._pipes.send(said_)

    async def _ask(self, name: str, arguments: Mapping[str, Any]) -> Any:
        """Let the other side call one of its tools."""
        id, within = next(self._numbers), _WITHIN.get()
        asked = self._asked[id] = asyncio.get_running_loop().create_future()
        self._pipes.send(Ask(id, within, name, dict(arguments)))
        return await asked


def _patient(offered: Offered) -> Offered:
    """Return a tool without its timeout: that is kept on the other side, which ends us where we cannot."""
    tool = copy(offered.tool)
    tool.timeout = _LONG
    return Offered(tool, offered.executor)


def described(tool: Tool) -> Described:
    """Return a tool as it is known from outside."""
    return Described(
        tool.name,
        tool.description,
        tool.parameters,
        tool.returns,
        tool.effects,
        tool.idempotent,
        list(tool.tags),
        tool.timeout,
        tool.max_input,
        tool.max_output,
        tool.is_async,
    )


def limit(load: Load) -> None:
    """Take from this process what the plugin has not asked for, as far as a process can."""
    limits = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: 256,
        resource.RLIMIT_DATA: load.memory,
    }
    if not {"writes_files", "executes"} & set(load.permissions):
        limits[resource.RLIMIT_FSIZE] = 0
    for kind, most in limits.items():
        hard = resource.getrlimit(kind)[1]
        least = most if hard == resource.RLIM_INFINITY else min(most, hard)
        with suppress(ValueError, OSError):  # macOS does not keep all of them
            resource.setrlimit(kind, (least, least))
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def _end_group() -> NoReturn:
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(1)


def main() -> None:
    """Be the process of a plugin."""
    pipes = Pipes(os.dup(0), os.dup(1))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    load = pipes.receive()
    if not isinstance(load, Load):
        return
    limit(load)
    try:
        inside = Inside(pipes, load)
        pipes.send(Ready([described(tool) for tool in inside.tools]))
    except BaseException as error:  # noqa: BLE001 - whatever importing it raises is said on the other side
        pipes.send(Failed(said(error)))
        return
    asyncio.run(inside.serve())
