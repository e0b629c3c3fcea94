"""A server's tools, mounted in a registry."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from fnmatch import fnmatchcase
from functools import partial
from importlib import metadata
from types import TracebackType
from typing import Any, Self

import mcp_types as types
from httpx2 import Auth
from mcp.client.client import Client
from mcp.shared.exceptions import MCPError
from pydantic import ValidationError

from reprise.kernel.errors import ConfigurationError, ToolError, nearest
from reprise.kernel.policy import seconds
from reprise.kernel.surroundings import SURROUNDINGS
from reprise.stores.cells import Cells
from reprise.tools.context import ToolContext
from reprise.tools.guards.network import NetworkAccess
from reprise.tools.mcp.calls import Calls
from reprise.tools.mcp.connection import Connection, Open, describe
from reprise.tools.mcp.http import http
from reprise.tools.mcp.naming import clean, cleaned, name_of
from reprise.tools.mcp.pins import Held, Pins, Told, pins_in
from reprise.tools.mcp.results import value_of
from reprise.tools.mcp.schemas import CONTEXT, MAX_SCHEMA, Foreign
from reprise.tools.mcp.stdio import stdio
from reprise.tools.mcp.tasks import TaskClient
from reprise.tools.registry import ToolRegistry
from reprise.tools.tool import MAX_OUTPUT, TIMEOUT, Effect, Tool

PATIENCE = 30.0
"""Seconds that a server has to start, and to list its tools."""
MAX_TOOLS = 1_000
MAX_PAGES = 100
"""Pages of a list of tools."""
_HINTS = ("read_only_hint", "destructive_hint", "idempotent_hint", "open_world_hint")


class MCPMount:
    """A server's tools under a prefix, beside all others in a registry.

    ``async with MCPMount("files", command=["uvx", "mcp-server-files", "/data"]) as files: await files.mount(registry)``

    ``prefix``
        What their names begin with: ``files_read``. Also the tag of all of them, beside ``mcp``.
    ``command``, ``env``, ``cwd``
        The server is a process, which gets of our variables only where programs and homes are, and ``env``.
    ``url``, ``headers``, ``auth``, ``access``
        Or it is reached by Streamable HTTP, through the network guard (``access``, by default public addresses only).
        ``auth`` is an ``httpx2.Auth``, such as the SDK's for OAuth.
    ``allow``, ``deny``
        Which of its tools are taken, by the server's names; ``*`` stands for anything. ``deny`` goes first.
    ``effects``
        What calls do. A server's own word for it is not taken: without yours a tool ``executes``, which is the least
        trusted. One for all, or by names: ``{"search_*": "network"}``.
    ``idempotent``
        Names of tools that may be called again when nobody knows whether a call happened.
    ``pins``
        Where accepted tools are kept: a file, the cells of a store (``app.store.cells``), None = this process. What the
        server says when there is nothing is accepted; what is new or different later is held (:attr:`held`).
    ``timeout``, ``max_output``
        Seconds, and bytes of a result, that a call may take. ``patience``: seconds to start and list.
    ``options``
        More for the SDK's ``Client``, such as ``elicitation_callback`` or ``mode``.

    The connection is made with the first call, if pins say what there is, else when mounted; and again when the server
    went away.

    Raises ``ConfigurationError`` for what cannot be.
    """

    def __init__(
        self,
        prefix: str,
        *,
        command: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        url: str = "",
        headers: Mapping[str, str] | None = None,
        auth: Auth | None = None,
        access: NetworkAccess | None = None,
        allow: Sequence[str] = ("*",),
        deny: Sequence[str] = (),
        effects: Effect | Mapping[str, Effect] = "executes",
        idempotent: Sequence[str] = (),
        pins: str | os.PathLike[str] | Pins | Cells | None = None,
        timeout: float | timedelta = TIMEOUT,
        patience: float | timedelta = PATIENCE,
        max_output: int = MAX_OUTPUT,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        if isinstance(command, str) or bool(command) == bool(url):
            raise ConfigurationError(
                f"The mount {prefix!r} needs either command=[…] or url=….",
                hint='MCPMount("files", command=["python", "server.py"]), or url="https://example.com/mcp".',
            )
        self.prefix = prefix
        self._rules = (tuple(allow), tuple(deny))
        self._effects: Mapping[str, Effect] = {"*": effects} if isinstance(effects, str) else effects
        self._idempotent = tuple(idempotent)
        self._pins = pins_in(pins, prefix)
        self._timeout, self._max_output = seconds(timeout, "timeout"), max_output
        self._registry: ToolRegistry | None = None
        self._accepted: dict[str, Told] = {}
        self._listed: dict[str, Told] = {}
        self._held: dict[str, Held] = {}
        self._refused: dict[str, str] = {}
        self._tools: dict[str, Tool] = {}
        self._trusts = False
        """Nothing was ever accepted: what the server says now is."""
        limit = 2 * max_output + MAX_SCHEMA
        if command:
            folder = os.fspath(cwd) if cwd is not None else None
            open: Open = partial(stdio, command, env=env or {}, cwd=folder, limit=limit)
        else:
            open = partial(http, url, headers=headers or {}, auth=auth, access=access, limit=limit)
        self._connection = Connection(
            prefix,
            open,
            clock=SURROUNDINGS.get().clock,
            patience=seconds(patience, "patience"),
            greet=self._look,
            options=_options(options or {}),
        )
        self._calls = Calls(prefix, self._connection, self._ready)
        Tool(_nothing, name=name_of(prefix, "x"), description="x")  # the prefix must do

    # ------------------------------------------------------------ life

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def mount(self, registry: ToolRegistry) -> list[Tool]:
        """Register the tools that are accepted, and return them.

        Raises ``ToolError``: the server cannot be reached (and pins do not say what there is), or its list is no list;
        ``conflict`` when a name is taken.
        """
        self._registry = registry
        self._accepted = dict(await self._pins.load())
        self._trusts = not self._accepted
        if self._trusts:
            await self._client()
        else:
            self._register()
        return self.tools

    async def close(self) -> None:
        """End the connection, and the server's process if it has one; tools stay, and connect again; idempotent."""
        await self._connection.close()

    # ------------------------------------------------------------ what there is

    @property
    def tools(self) -> list[Tool]:
        """The tools that are mounted, by name."""
        return [self._tools[name] for name in sorted(self._tools)]

    @property
    def held(self) -> list[Held]:
        """Tools that are new, or that say something else than what was accepted; they cannot be called."""
        return [self._held[name] for name in sorted(self._held)]

    @property
    def refused(self) -> Mapping[str, str]:
        """Tools that cannot be mounted at all, by the server's names, and why."""
        return dict(self._refused)

    async def refresh(self) -> list[Held]:
        """Ask the server what tools it has now; return those that are held. Raises ``ToolError``."""
        await self._look(await self._client())
        return self.held

    async def accept(self, *names: str) -> list[Tool]:
        """Accept what is said now of held tools (all without names), and return what is mounted then.

        Raises ``ToolError`` with code ``not_found`` for a tool that is not held.
        """
        for name in names:
            if name not in self._held:
                near = nearest(name, self._held)
                raise ToolError(
                    "not_found", f"{name!r} is not held.", hint=f"Did you mean {near!r}?" if near else ""
                )
        for name in names or tuple(self._held):
            self._accepted[name] = self._held.pop(name).now
        await self._pins.save(self._accepted)
        self._register()
        return self.tools

    def statistics(self) -> dict[str, Any]:
        """Return how often the connection was made, and how many tools are mounted, held and refused."""
        link = self._connection.link
        return {
            "connected": link is not None,
            "connections": self._connection.made,
            "pid": link.wire.pid if link is not None else 0,
            "tools": len(self._tools),
            "held": len(self._held),
            "refused": len(self._refused),
        }

    # ------------------------------------------------------------ listing

    async def _client(self) -> Client:
        client = await self._connection.client()
        if (link := self._connection.link) is not None and link.changed.is_set():
            await self._look(client)
        return client

    async def _look(self, client: Client) -> None:
        """List the server's tools, and hold what is not as it was accepted."""
        if (link := self._connection.link) is not None:
            link.changed.clear()
        listed, refused = await self._list(client)
        if self._trusts and listed:
            self._accepted, self._trusts = dict(listed), False
            await self._pins.save(self._accepted)
        self._listed, self._refused = listed, refused
        self._held = {
            name: Held(name, told, self._accepted.get(name))
            for name, told in listed.items()
            if told != self._accepted.get(name)
        }
        self._register()

    async def _list(self, client: Client) -> tuple[dict[str, Told], dict[str, str]]:
        listed: dict[str, Told] = {}
        refused: dict[str, str] = {}
        cursor: str | None = None
        for _ in range(MAX_PAGES):
            try:
                page = await client.list_tools(cursor=cursor, cache_mode="refresh")
            except (MCPError, ValidationError) as error:
                raise ToolError(
                    "upstream", f"{self.prefix} does not list its tools: {describe(error)}."
                ) from error
            for tool in page.tools:
                self._take(tool, listed, refused)
            if len(listed) + len(refused) > MAX_TOOLS:
                raise ToolError("too_large", f"{self.prefix} lists more than {MAX_TOOLS:,} tools.")
            cursor = page.next_cursor
            if not cursor:
                return listed, refused
        raise ToolError("too_large", f"{self.prefix} lists tools on more than {MAX_PAGES} pages.")

    def _take(self, tool: types.Tool, listed: dict[str, Told], refused: dict[str, str]) -> None:
        allow, deny = self._rules
        name = tool.name
        if any(fnmatchcase(name, rule) for rule in deny) or not any(
            fnmatchcase(name, rule) for rule in allow
        ):
            return
        if name in listed or name in refused:
            listed.pop(name, None)
            refused[name] = "it is listed twice"
            return
        told = _told(tool)
        if why := self._unfit(told):
            refused[clean(name, 100)] = why
        else:
            listed[name] = told

    def _unfit(self, told: Told) -> str:
        """Return why a tool cannot be mounted, '' = it can."""
        size = len(str(told.parameters)) + len(str(told.returns)) + len(told.description)
        if size > MAX_SCHEMA:
            return f"what is said of it has {size:,} characters, {MAX_SCHEMA:,} are taken"
        try:
            self._made(told)
        except (ConfigurationError, RecursionError, ValueError) as error:
            return str(error)
        return ""

    # ------------------------------------------------------------ registering

    def _register(self) -> None:
        """Let the registry have what is accepted: as it was accepted, and nothing that the server has no more."""
        registry = self._registry
        if registry is None:
            return
        known = {
            name: told for name, told in self._accepted.items() if not self._listed or name in self._listed
        }
        wanted = {(tool := self._made(told)).name: tool for told in known.values()}
        for name in [name for name in self._tools if name not in wanted]:
            del self._tools[name]
            registry.unregister_tool(name)
        for name, tool in wanted.items():
            before = self._tools.get(name)
            if before is not None and before.describe() == tool.describe():
                continue
            registry.register_tool(tool, replace=before is not None)
            self._tools[name] = tool

    def _made(self, told: Told) -> Tool:
        parameters, returns = cleaned(told.parameters), cleaned(told.returns)
        signature = Foreign(parameters, returns)
        tool = Tool(
            self._caller(told.name, signature),
            name=name_of(self.prefix, told.name),
            description=clean(told.description) or f"The tool {clean(told.name, 100)} of {self.prefix}.",
            parameters=parameters,
            returns=returns,
            effects=_first(self._effects, told.name, "executes"),
            idempotent=any(fnmatchcase(told.name, rule) for rule in self._idempotent),
            tags=("mcp", self.prefix),
            timeout=self._timeout,
            max_output=self._max_output,
        )
        tool.signature = signature
        return tool

    def _caller(self, name: str, signature: Foreign) -> Callable[..., Any]:
        repeats = any(fnmatchcase(name, rule) for rule in self._idempotent)

        async def call(**given: Any) -> Any:
            context: ToolContext = given.pop(CONTEXT)
            result = await self._calls.call(name, given, context, repeats=repeats)
            value = value_of(name, result, structured=bool(signature.returns))
            if signature.returns:
                await asyncio.to_thread(signature.check, value)
            return value

        return call

    async def _ready(self, name: str) -> Client:
        """Return a client for a call of a tool. Raises ``ToolError``: it is held, or gone."""
        client = await self._client()
        if name in self._held:
            raise ToolError(
                "unavailable",
                f"{self.prefix} says something else of {clean(name, 100)} than what was accepted; it is held.",
                hint="Look at what changed, and accept it: mount.held, mount.accept(…); reprise tools held.",
            )
        if name not in self._listed:
            raise ToolError("not_found", f"{self.prefix} has no tool {clean(name, 100)!r} any more.")
        return client


def _told(tool: types.Tool) -> Told:
    hints = tool.annotations.model_dump(exclude_none=True, include=set(_HINTS)) if tool.annotations else {}
    title = tool.title or ""
    description = tool.description or ""
    return Told(
        tool.name,
        f"{title}\n{description}" if title and title not in description else description,
        tool.input_schema,
        tool.output_schema or {},
        hints,
    )


def _first(rules: Mapping[str, Any], name: str, otherwise: Any) -> Any:
    """Return what the first rule says that names something."""
    return next((value for rule, value in rules.items() if fnmatchcase(name, rule)), otherwise)


def _options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the SDK's client is made with."""
    ours = {"client_info": types.Implementation(name="reprise", version=_version())}
    return ours | dict(given) | {"extensions": [TaskClient(), *given.get("extensions", ())]}


def _version() -> str:
    try:
        return metadata.version("reprise-agents")
    except metadata.PackageNotFoundError:
        return "0"


async def _nothing() -> None:
    """Do nothing."""
