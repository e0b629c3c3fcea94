"""``reprise mcp``: offer tools and workflows to programs that speak the Model Context Protocol."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
import uvicorn

from reprise import __version__
from reprise.app.mcp import mcp_app, mcp_offer
from reprise.app.reprise import Reprise
from reprise.cli.config import Config, read_config
from reprise.cli.drive import logs
from reprise.cli.load import AnyWorkflow, load_all
from reprise.cli.output import Screen
from reprise.cli.run import Agents
from reprise.cli.session import StoreUrl, prepare, screen_of
from reprise.cli.stop import leave, stopping
from reprise.cli.tools import Accept, From, Mcp, Pins, mounted
from reprise.kernel.errors import ConfigurationError
from reprise.kernel.machine import ExitCode
from reprise.tools.mcp.door import LOCAL, is_loopback
from reprise.tools.mcp.serving import LEAST
from reprise.tools.policy import ToolPolicy

TOKEN = "REPRISE_MCP_TOKEN"  # noqa: S105 - its name


Targets = Annotated[
    list[str] | None,
    typer.Argument(metavar="[FILE|MODULE …]", help="Workflows to offer, each as a tool.", show_default=False),
]
Allow = Annotated[
    list[str] | None,
    typer.Option(
        "--allow",
        metavar="RULE",
        help="Which tools: a name (web_*), tag:…, effect:…; may be repeated. Default: effect:pure and effect:reads_files.",
        show_default=False,
    ),
]
Deny = Annotated[
    list[str] | None,
    typer.Option("--deny", metavar="RULE", help="Which not; goes before --allow.", show_default=False),
]
Http = Annotated[bool, typer.Option("--http", help="Serve Streamable HTTP instead of stdin and stdout.")]
Host = Annotated[str, typer.Option("--host", metavar="ADDRESS", help="Where to listen.")]
Port = Annotated[int, typer.Option("--port", metavar="N", help="Where to listen.")]
Names = Annotated[
    list[str] | None,
    typer.Option(
        "--name-of-host",
        metavar="HOST",
        help="What requests may call this server, beside --host.",
        show_default=False,
    ),
]
Origins = Annotated[
    list[str] | None,
    typer.Option(
        "--origin", metavar="URL", help="Pages that may use it; none by default.", show_default=False
    ),
]
Tokens = Annotated[
    Path | None,
    typer.Option(
        "--tokens",
        metavar="FILE",
        help=f"Tokens of those who may come, one a line; or {TOKEN}.",
        show_default=False,
    ),
]
TasksOnly = Annotated[
    list[str] | None,
    typer.Option(
        "--tasks-only", metavar="WORKFLOW", help="Only for clients that know MCP Tasks.", show_default=False
    ),
]
AsksFirst = Annotated[
    list[str] | None,
    typer.Option(
        "--asks-first",
        metavar="WORKFLOW",
        help="Its first question belongs to the call, which becomes a task then.",
        show_default=False,
    ),
]


def mcp(
    context: typer.Context,
    targets: Targets = None,
    files: From = None,
    servers: Mcp = None,
    pins: Pins = None,
    accept: Accept = False,
    allow: Allow = None,
    deny: Deny = None,
    http: Http = False,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    names: Names = None,
    origins: Origins = None,
    tokens: Tokens = None,
    tasks_only: TasksOnly = None,
    asks_first: AsksFirst = None,
    agents: Agents = "",
    store: StoreUrl = None,
) -> None:
    """Offer tools and workflows to programs that speak MCP, such as editors and assistants.

    Such a program starts it: its settings want the command "reprise" with the arguments "mcp", and --from or files of
    workflows. Offered are tools that are pure or only read, unless --allow says more, and the workflows that are named;
    runs are MCP Tasks with the run's own id, so a client may come back for the result after this process was killed.

    reprise tools serve is the same command.

    With --http it listens on 127.0.0.1. Elsewhere callers need a token, and see only their own runs.

      reprise mcp --from mytools.py
      reprise mcp flow.py --allow tag:time
      reprise mcp flow.py --http --port 8000 --tokens tokens.txt --host 0.0.0.0 --name-of-host example.org
    """
    config = read_config(store, {})
    known = _tokens(tokens)
    if http and not known and not is_loopback(host):
        raise ConfigurationError(
            f"Whoever reaches {host} could call these tools.",
            hint=f"Give --tokens FILE (or {TOKEN}), or listen on 127.0.0.1.",
        )
    policy = ToolPolicy(allow=allow or LEAST.allow, deny=deny or ())
    options: dict[str, Any] = {"policy": policy, "version": __version__}
    options |= {"tasks_only": tasks_only or (), "asks_first": asks_first or ()}
    called = [*(LOCAL if is_loopback(host) else ()), host, *(names or ())]
    door: dict[str, Any] = {"hosts": called, "origins": origins or (), "tokens": known}
    workflows = load_all(targets or (), agents)
    screen = screen_of(context)

    async def serve() -> int:
        async with mounted(files, servers, pins, accept=accept) as registry, _app(config, workflows) as app:
            what: Any = app or registry
            options.update({"tools": registry, "workflows": workflows} if app is not None else {})
            if not http:
                await mcp_offer(what, **options).stdio()
                return ExitCode.OK
            return await _listen(screen, mcp_app(what, **door, **options), host, port)

    raise typer.Exit(leave(asyncio.run(serve())))


@asynccontextmanager
async def _app(config: Config, workflows: Sequence[AnyWorkflow]) -> AsyncGenerator[Reprise | None]:
    """Open the store, and do the runs that are started, and those that were left; nothing without workflows."""
    if not workflows:
        yield None
        return
    settings = config.settings.worker
    logs()
    async with Reprise(
        prepare(config, create=True),
        workflows=workflows,
        concurrency=settings.concurrency,
        processes=config.settings.processes,
        grace=settings.grace,
        build=settings.build,
        redact=config.redact,
        max_payload=config.settings.payloads.limit,
        defaults=config.settings.workflows,
    ) as app:
        yield app


async def _listen(screen: Screen, door: Any, host: str, port: int) -> int:
    server = _Server(uvicorn.Config(door, host=host, port=port, log_level="warning", server_header=False))
    with stopping() as asked:
        serving = asyncio.create_task(server.serve())
        stopped = asyncio.create_task(asyncio.wait([asked]))
        screen.say(f"MCP at http://{f'[{host}]' if ':' in host else host}:{port}/mcp")
        await asyncio.wait([serving, stopped], return_when=asyncio.FIRST_COMPLETED)
        server.should_exit = True
        await serving
        stopped.cancel()
    return ExitCode.OK if server.started else ExitCode.FAILED


class _Server(uvicorn.Server):
    """Leaves signals to us."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


def _tokens(file: Path | None) -> list[str]:
    given = os.environ.get(TOKEN, "").split()
    if file is not None:
        try:
            given += file.read_text("utf-8").split()
        except OSError as error:
            raise ConfigurationError(f"{file} cannot be read: {error.strerror}.") from error
        if not given:
            raise ConfigurationError(f"{file} holds no tokens.", hint="One a line.")
    return given
