"""A plugin in a process of its own: limited, without our environment, killed when a call takes too long, begun again."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import threading
import weakref
from collections.abc import Awaitable, Callable, Mapping
from contextvars import Context, copy_context
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from reprise.kernel.errors import ConfigurationError, ToolError
from reprise.tools.context import ToolContext
from reprise.tools.plugins.bounded import said
from reprise.tools.plugins.child import Child
from reprise.tools.plugins.folder import Folder
from reprise.tools.plugins.manifest import Manifest
from reprise.tools.plugins.orders import (
    Answer,
    Ask,
    Call,
    Cancel,
    Described,
    Failed,
    Fault,
    Load,
    Raised,
    shortened,
)
from reprise.tools.plugins.registering import Offered
from reprise.tools.signature import Schemed
from reprise.tools.tool import Tool

GRACE = 1.0
"""Seconds that an async call may take to end when nobody waits for it any more; then its process is killed."""
MANY = 100
"""Warnings of a call that are passed on."""
CallOurs = Callable[[Tool | None, str, Mapping[str, Any]], Awaitable[Any]]
"""Calls a tool of ours for one of the plugin's."""


class Elsewhere(Schemed):
    """The signature of a tool in another process, which checks arguments and results by their types itself.

    Here its schemas are only shown: patterns in them were written by the plugin, and might take for ever to match.
    """

    def read(self, data: bytes) -> dict[str, Any]:
        """Return the arguments as they are."""
        return msgspec.json.decode(data)

    def write(self, value: Any) -> bytes:
        """Return a result as JSON."""
        return msgspec.json.encode(value)


class _Going(NamedTuple):
    """A call that goes on: for which tool, and where it was made."""

    tool: Tool
    loop: asyncio.AbstractEventLoop
    around: Context


class PluginProcess:
    """The process of one plugin, and its successors. ``call_ours`` calls our tools for it."""

    def __init__(
        self,
        manifest: Manifest,
        folder: Folder,
        where: Path,
        call_ours: CallOurs,
        *,
        memory: int,
        patience: float,
    ) -> None:
        self._load = Load(
            manifest.name, manifest.entry, str(where), dict(folder.files), manifest.permissions, memory
        )
        self._call_ours, self._patience = call_ours, patience
        self._child: Child | None = None
        self._beginning = threading.Lock()
        self._going: dict[tuple[int, int], _Going] = {}
        self._folder = tempfile.mkdtemp(prefix="reprise-plugin-")
        self._closing = weakref.finalize(self, _close, children := list[Child](), self._folder)
        self._children = children

    @property
    def pid(self) -> int:
        """Id of the process that there is, 0 = none."""
        return self._child.pid if self._child is not None and self._child.is_there else 0

    def begin(self) -> list[Offered]:
        """Begin the process and return the plugin's tools.

        Raises ``ConfigurationError`` when it cannot be loaded, or not within its time.
        """
        _, tools = self._begin()
        return [self._offered(each) for each in tools]

    def rest(self) -> None:
        """End it until the next call."""
        for child in self._children:
            child.kill("nothing was to be done")

    def close(self) -> None:
        """End it for good."""
        self._closing()

    # ---------------------------------------------------------------- calling

    def _offered(self, of: Described) -> Offered:
        tool = Tool(
            _nobody,
            name=of.name,
            description=of.description,
            effects=of.effects,
            idempotent=of.idempotent,
            tags=of.tags,
            timeout=of.timeout,
            max_input=of.max_input,
            max_output=of.max_output,
        )
        tool.signature = Elsewhere(of.parameters, of.returns)

        async def call(arguments: dict[str, Any], context: ToolContext) -> Any:
            return await self._call(tool, of.is_async, arguments, context)

        return Offered(tool, call)

    async def _call(self, tool: Tool, is_async: bool, arguments: dict[str, Any], context: ToolContext) -> Any:
        child = self._child
        if child is None or not child.is_there:
            child, _ = await asyncio.to_thread(self._begin_for_call)
        keys = context.caller, context.run, _key_of(context)
        id, answer = child.ask(lambda number: Call(number, tool.name, arguments, *keys))
        self._going[child.pid, id] = _Going(tool, asyncio.get_running_loop(), copy_context())
        try:
            said_ = await asyncio.wrap_future(answer)
        except asyncio.CancelledError:
            self._give_up(child, id, tool.name, is_async)
            raise
        finally:
            self._going.pop((child.pid, id), None)
        for warning in said_.warnings[:MANY]:
            context.warn(shortened(warning))
        if isinstance(said_, Raised):
            raise said_.fault.error()
        return said_.value

    def _give_up(self, child: Child, id: int, name: str, is_async: bool) -> None:
        """End a call that nobody waits for: with its process, unless it can end by itself and does."""
        why = f"{name} took too long, or was given up"
        if not is_async:
            child.kill(why)
            return
        child.send(Cancel(id))
        timer = threading.Timer(GRACE, lambda: child.kill(why) if child.is_waited_for(id) else None)
        timer.daemon = True
        timer.start()

    # ---------------------------------------------------------------- beginning

    def _begin_for_call(self) -> tuple[Child, list[Described]]:
        try:
            return self._begin()
        except ConfigurationError as error:
            raise ToolError("unavailable", error.what, hint=error.hint) from error

    def _begin(self) -> tuple[Child, list[Described]]:
        with self._beginning:
            if self._child is not None and self._child.is_there:
                return self._child, []
            if not self._closing.alive:
                raise ConfigurationError(f"The plugin {self._load.name} is not active any more.")
            # Threads of the process must not keep this one from being forgotten, and the process with it.
            asked = weakref.WeakMethod(self._asked)
            child = Child(self._load, self._folder, lambda by, ask: (to := asked()) and to(by, ask))
            self._children[:] = [child]
            try:
                said_ = child.ready.result(self._patience)
            except TimeoutError:
                child.kill("its import took too long")
                raise ConfigurationError(
                    f"Importing it took longer than {self._patience:g} s.", hint="Its process was killed."
                ) from None
            if isinstance(said_, Failed):
                child.kill("it could not be imported")
                raise ConfigurationError(f"Importing it failed: {said_.why}")
            self._child = child
            return child, said_.tools

    # ---------------------------------------------------------------- what it asks of us

    def _asked(self, child: Child, ask: Ask) -> None:
        """Call a tool of ours where the plugin's own call was made; in the thread that listens."""
        going = self._going.get((child.pid, ask.within))
        if going is None:
            fault = Fault("permission_denied", "Tools are called while a tool of the plugin is called.")
            child.send(Answer(ask.id, fault=fault))
            return

        async def answer() -> None:
            try:
                value = await self._call_ours(going.tool, ask.tool, ask.arguments)
                made = Answer(ask.id, value)
            except ToolError as error:
                made = Answer(ask.id, fault=Fault.of(error))
            except Exception as error:  # noqa: BLE001 - whatever it is, the plugin is told
                made = Answer(ask.id, fault=Fault("upstream", said(error)))
            child.send(made)

        def begin() -> None:
            task = going.loop.create_task(answer(), context=going.around)
            _TASKS.add(task)
            task.add_done_callback(_TASKS.discard)

        try:
            going.loop.call_soon_threadsafe(begin)
        except RuntimeError:  # the loop was closed meanwhile
            child.send(Answer(ask.id, fault=Fault("upstream", "Nobody waits for it any more.")))


_TASKS: set[asyncio.Task[None]] = set()
"""Calls for plugins; a loop keeps no task alive by itself."""


def _key_of(context: ToolContext) -> str:
    try:
        return context.idempotency_key
    except ConfigurationError:  # a pure step has none
        return ""


async def _nobody(**arguments: Any) -> Any:
    """Do nothing: an executor stands in."""


def _close(children: list[Child], folder: str) -> None:
    for child in children:
        child.kill("told")
    shutil.rmtree(folder, ignore_errors=True)
