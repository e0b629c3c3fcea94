"""``reprise``: the table of commands, and what becomes of errors.

``reprise --help`` needs names and one line about each, so the table holds those and the place of the code; a command's
module, with all it needs, is imported when the command is called.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple, cast

import typer
from typer.core import TyperCommand, TyperGroup

from reprise import __version__

RUN, LOOK, ACT, HOUSE = "Run", "Look", "Act on a run", "The house"
COMMANDS = "Commands"


class Row(NamedTuple):
    """One command: where its function is, its line in the list, the group it is listed in."""

    place: str
    line: str
    panel: str


class Section(NamedTuple):
    """Commands under one name; a first word that is none of theirs belongs to the ``default`` one."""

    line: str
    panel: str
    rows: dict[str, Row]
    default: str = ""
    help: str = ""


TABLE: dict[str, Row | Section] = {
    "run": Row("reprise.cli.run:run", "Run a workflow of a file, durably.", RUN),
    "resume": Row("reprise.cli.going_on:resume", "Let unfinished runs go on.", RUN),
    "retry": Row("reprise.cli.going_on:retry", "Try runs again that failed or were cancelled.", RUN),
    "fork": Row("reprise.cli.fork:fork", "Let a new run go on from the past of another one.", RUN),
    "checkpoint": Section(
        "Name moments of runs, and go back to them by going on.",
        RUN,
        {
            "list": Row("reprise.cli.checkpoint:list_", "List the checkpoints of a run.", COMMANDS),
            "add": Row("reprise.cli.checkpoint:add", "Name a record of its history.", COMMANDS),
            "rollback": Row(
                "reprise.cli.checkpoint:rollback", "Let a new run go on from a checkpoint.", COMMANDS
            ),
        },
        help="Names for moments of a run. Going back to one is a fork: the first run stays as it is.",
    ),
    "worker": Row("reprise.cli.worker:worker", "Serve workflows: take whatever run is due.", RUN),
    "schedule": Section(
        "Start runs by the calendar; look at that, pause it, make up for the past.",
        RUN,
        {
            "list": Row("reprise.cli.schedule:list_", "List schedules, and when they fire next.", COMMANDS),
            "next": Row("reprise.cli.schedule:next_", "Print the next fire times of one.", COMMANDS),
            "add": Row("reprise.cli.schedule:add", "Add a schedule, or change one.", COMMANDS),
            "pause": Row("reprise.cli.schedule:pause", "Let it fire no more for a while.", COMMANDS),
            "resume": Row("reprise.cli.schedule:resume", "Let it fire again.", COMMANDS),
            "trigger": Row("reprise.cli.schedule:trigger", "Start a run of it now.", COMMANDS),
            "backfill": Row("reprise.cli.schedule:backfill", "Make up for the past.", COMMANDS),
            "remove": Row("reprise.cli.schedule:remove", "Remove it.", COMMANDS),
        },
        help="Start runs by the calendar. Any worker of the store starts what is due, each fire time once.",
    ),
    "queue": Section(
        "Do the tasks of queues; look at them, give dead ones another chance.",
        RUN,
        {
            "worker": Row("reprise.cli.queue:worker", "Do tasks until told to stop.", COMMANDS),
            "stats": Row("reprise.cli.queue:stats", "Count what is in queues.", COMMANDS),
            "peek": Row("reprise.cli.queue:peek", "Show tasks without taking them.", COMMANDS),
            "dead": Row("reprise.cli.queue:dead", "Show tasks that were given up, and why.", COMMANDS),
            "requeue": Row("reprise.cli.queue:requeue", "Give dead tasks all their tries again.", COMMANDS),
            "pause": Row("reprise.cli.queue:pause", "Let nobody take tasks for a while.", COMMANDS),
            "resume": Row("reprise.cli.queue:resume", "Let tasks be taken again.", COMMANDS),
        },
        help="Queues of tasks: work for whoever is free, that is not lost when they die.",
    ),
    "check": Row("reprise.cli.check:check", "Prove before a deploy that runs can go on with it.", RUN),
    "ps": Row("reprise.cli.find:ps", "Find and count runs, newest first; watch them.", LOOK),
    "show": Row("reprise.cli.look:show", "Show one run: state, result, steps, what to do next.", LOOK),
    "events": Section(
        "Print the history of a run; export, import, verify archives.",
        LOOK,
        {
            "show": Row("reprise.cli.look:events", "Print the history of a run.", COMMANDS),
            "export": Row("reprise.cli.archive:export", "Write runs to an archive.", COMMANDS),
            "import": Row("reprise.cli.archive:import_", "Bring the runs of an archive in.", COMMANDS),
            "verify": Row("reprise.cli.archive:verify", "Check an archive to the last bit.", COMMANDS),
        },
        default="show",
        help="""Print the history of a run; move histories to archives and back.

        reprise events ID is short for reprise events show ID.
        """,
    ),
    "replay": Row("reprise.cli.travel:replay", "Replay a run step by step, doing nothing.", LOOK),
    "diff": Row("reprise.cli.travel:diff", "Compare two runs: where they part, what differs.", LOOK),
    "logs": Row("reprise.cli.logs:logs", "Print what runs logged.", LOOK),
    "query": Row("reprise.cli.talk:query", "Ask a run that goes on about its state.", LOOK),
    "stream": Row("reprise.cli.talk:stream", "Print what a run has so far: its streams of output.", LOOK),
    "signal": Row("reprise.cli.act:signal", "Send a signal to a run.", ACT),
    "answer": Row("reprise.cli.talk:answer", "Answer what a run asks a person.", ACT),
    "update": Row("reprise.cli.talk:update", "Change a run that goes on; print what came of it.", ACT),
    "effects": Row(
        "reprise.cli.effects:effects", "Show what a run did outside; say what became of a call.", ACT
    ),
    "budget": Row("reprise.cli.budget:budget", "Show what a run spends; give it more.", ACT),
    "cancel": Row("reprise.cli.act:cancel", "Ask runs to stop.", ACT),
    "migrate": Row("reprise.cli.migrate:migrate", "Let runs go on under other code, from a new state.", ACT),
    "pause": Row("reprise.cli.act:pause", "Let runs rest until they are resumed.", ACT),
    "pin": Row("reprise.cli.pin:pin", "Leave runs to workers of their build.", ACT),
    "unpin": Row("reprise.cli.pin:unpin", "Let workers of any build take pinned runs.", ACT),
    "plan": Section(
        "Run, check and draw plans in files.",
        RUN,
        {
            "run": Row("reprise.cli.plan:run", "Run a plan, durably.", COMMANDS),
            "check": Row("reprise.cli.plan:check", "Check plans; every fault with its place.", COMMANDS),
            "draw": Row("reprise.cli.plan:draw", "Print a plan as a flow chart in Mermaid.", COMMANDS),
        },
        help="Plans in YAML or JSON: run them; what is wrong with them, what they look like.",
    ),
    "locks": Section(
        "List who holds locks; take one away.",
        HOUSE,
        {
            "list": Row("reprise.cli.locks:list_", "List the locks that are held, and by whom.", COMMANDS),
            "break": Row("reprise.cli.locks:break_", "Take locks away from whoever holds them.", COMMANDS),
        },
        help="Locks of a LockManager: who holds them, and for how long.",
    ),
    "leader": Section(
        "List who leads; end a term.",
        HOUSE,
        {
            "list": Row("reprise.cli.leader:list_", "List the elections that have a leader.", COMMANDS),
            "resign": Row("reprise.cli.leader:resign", "Let leaders resign, so that others lead.", COMMANDS),
        },
        help="Elections of a LeaderElection: who leads, and since which term.",
    ),
    "state": Section(
        "Look at shared state, change it, watch it change.",
        HOUSE,
        {
            "list": Row("reprise.cli.state:list_", "List keys and values, or namespaces.", COMMANDS),
            "get": Row("reprise.cli.state:get", "Print the value of a key.", COMMANDS),
            "set": Row("reprise.cli.state:set_", "Let a key hold a value.", COMMANDS),
            "history": Row("reprise.cli.state:history", "Print the newest changes of a key.", COMMANDS),
            "watch": Row("reprise.cli.state:watch", "Print changes as they come.", COMMANDS),
        },
        help="State that processes share (StateSync): values by key, with versions.",
    ),
    "tools": Section(
        "Find tools, see what they take, call one.",
        HOUSE,
        {
            "list": Row("reprise.cli.tools:list_", "List tools, and what effects they have.", COMMANDS),
            "search": Row("reprise.cli.tools:search", "Find tools by what they are for.", COMMANDS),
            "show": Row("reprise.cli.tools:show", "Say what a tool takes and returns.", COMMANDS),
            "call": Row("reprise.cli.tools:call", "Call a tool and print what it returns.", COMMANDS),
            "held": Row(
                "reprise.cli.tools:held",
                "Show what MCP servers say otherwise than before; accept it.",
                COMMANDS,
            ),
            "from-openapi": Row(
                "reprise.cli.openapi:from_openapi", "List the tools of an API, or call one.", COMMANDS
            ),
            "diff": Row("reprise.cli.openapi:diff", "Say what changed of an API.", COMMANDS),
            "serve": Row("reprise.cli.mcp:mcp", "The same as reprise mcp.", COMMANDS),
        },
        help="Tools: those that come with Reprise, your own (--from FILE.py), those of MCP servers (--mcp).",
    ),
    "plugins": Section(
        "Find plugins, trust them, make one.",
        HOUSE,
        {
            "list": Row(
                "reprise.cli.plugins:list_", "List plugins: whether they work, or why not.", COMMANDS
            ),
            "trust": Row("reprise.cli.plugins:trust", "Trust a plugin as its files are now.", COMMANDS),
            "new": Row("reprise.cli.plugins:new", "Make a plugin that works, with a test.", COMMANDS),
            "install": Row("reprise.cli.plugins:install", "Copy a plugin here, and trust it.", COMMANDS),
            "remove": Row("reprise.cli.plugins:remove", "Undo what install and trust did.", COMMANDS),
        },
        help="""Plugins: tools of others, in folders (--dir, or plugins.directories in reprise.toml) and in installed packages.

        A plugin runs with your rights. It is loaded once you trust it as its files are; if they change, you are asked again.
        """,
    ),
    "mcp": Row("reprise.cli.mcp:mcp", "Offer tools and workflows to programs that speak MCP.", HOUSE),
    "init": Row("reprise.cli.init:init", "Make a project that runs, with a test.", HOUSE),
    "prune": Row("reprise.cli.prune:prune", "Delete runs that ended, archived before or not.", HOUSE),
    "db": Section(
        "Migrate, back up, restore, copy a store.",
        HOUSE,
        {
            "status": Row(
                "reprise.cli.database:status", "Say what a store holds, and of what version.", COMMANDS
            ),
            "migrate": Row("reprise.cli.database:migrate", "Bring a store's tables up to date.", COMMANDS),
            "backup": Row("reprise.cli.database:backup", "Copy a store in use to a file.", COMMANDS),
            "restore": Row("reprise.cli.database:restore", "Bring a store back from a backup.", COMMANDS),
            "copy": Row(
                "reprise.cli.database:copy", "Copy a store into another one, also while in use.", COMMANDS
            ),
        },
        help="Look after the store: what it holds, its version, backups, moving to another one.",
    ),
    "config": Section(
        "Show the settings in force, and where each comes from.",
        HOUSE,
        {"show": Row("reprise.cli.settings:show", "Show settings, values, origins.", COMMANDS)},
        help="The settings in force. Secrets are never shown.",
    ),
    "completion": Row("reprise.cli.completion:completion", "Teach a shell to complete.", HOUSE),
    "doctor": Row("reprise.cli.doctor:doctor", "Check installation and store, and say how to repair.", HOUSE),
    "version": Row("reprise.cli.version:version", "Print the version.", HOUSE),
}

CONTEXT: dict[str, Any] = {"help_option_names": ["-h", "--help"]}


class Flags:
    """What holds for every command."""

    debug = False
    no_color = False


class Commands(TyperGroup):
    """The commands of a table: stand-ins to be listed, and the real ones when they are called."""

    def __init__(
        self, *, table: Mapping[str, Row | Section] = TABLE, default: str = "", **attributes: Any
    ) -> None:
        super().__init__(**attributes)
        self._table = table
        self._default = default
        for name, row in table.items():
            self.add_command(TyperCommand(name, help=row.line, rich_help_panel=row.panel))

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Return the command that was named, with its code loaded."""
        if self._default and args[0] not in self._table:
            args = [self._default, *args]
        name, _, rest = super().resolve_command(ctx, args)
        return name, _load(name, self._table[name]) if name is not None else None, rest


def _load(name: str, row: Row | Section) -> TyperCommand | TyperGroup:
    if isinstance(row, Section):
        # What a default command takes is not known here, so options go on to it.
        settings = CONTEXT | {"ignore_unknown_options": bool(row.default)}
        return Commands(
            name=name,
            table=row.rows,
            default=row.default,
            help=inspect.cleandoc(row.help),
            no_args_is_help=True,
            context_settings=settings,
        )
    module, _, function = row.place.partition(":")
    command = _command(name, getattr(importlib.import_module(module), function))
    for parameter in _command("common", _common).params:
        parameter.expose_value = False
        command.params.append(parameter)
    return command


def _command(name: str, function: Any) -> TyperCommand:
    alone = typer.Typer(add_completion=False)
    alone.command(name, context_settings=CONTEXT)(function)
    command = cast("TyperCommand", typer.main.get_command(alone))
    command.help = reflowed(command.help or "")
    return command


def reflowed(text: str) -> str:
    r"""Return help in which the lines of a paragraph are one, and examples stay lines of their own.

    >>> reflowed("Show a run: state,\nresult.\n\nreprise show @last\nreprise show survey-7")
    'Show a run: state, result.\n\nreprise show @last\nreprise show survey-7'
    """
    lines: list[str] = []
    for each in text.splitlines():
        both = (lines[-1], each) if lines else ()
        if both and all(both) and not any(one.startswith((" ", "reprise ")) for one in both):
            lines[-1] += f" {each}"
        else:
            lines.append(each)
    return "\n".join(lines)


def _debug(context: typer.Context, value: bool) -> None:
    context.find_root().obj.debug |= value


def _no_color(context: typer.Context, value: bool) -> None:
    context.find_root().obj.no_color |= value


def _version(value: bool) -> None:
    if value:
        print(__version__)  # noqa: T201 (the shortest way)
        raise typer.Exit


def _common(
    no_color: Annotated[
        bool, typer.Option("--no-color", callback=_no_color, help="Print without colours.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", callback=_debug, help="Show tracebacks.")] = False,
) -> None:
    """Take the options that every command has."""


app = typer.Typer(cls=Commands, context_settings=CONTEXT, add_completion=False)  # completing.py does that


@app.callback(invoke_without_command=True)
def reprise(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Durable multi-agent workflows: runs that survive crashes.

    The four to begin with:

      reprise init shop
      reprise run flow.py -i name=value
      reprise ps
      reprise show @last
    """
    if context.invoked_subcommand is None:
        print(context.get_help())  # noqa: T201


def options_of(names: Sequence[str]) -> list[str]:
    """Return the options of the command of these names, for completion; of a section, those of its default."""
    row: Row | Section | None = None
    rows: Mapping[str, Row | Section] = TABLE
    for name in names:
        row = rows.get(name) or row
        rows = row.rows if isinstance(row, Section) else {}
    if isinstance(row, Section):
        row = row.rows.get(row.default)
    command = _load(names[0], row) if row is not None else None
    return sorted({one for each in command.params for one in each.opts if one[0] == "-"}) if command else []


def main() -> None:
    """Run the command line; exit with the code of ``kernel.machine.ExitCode``."""
    flags = Flags()
    try:
        typer.main.get_command(app).main(prog_name="reprise", obj=flags)
    except Exception as error:  # noqa: BLE001 (here every error becomes a line and a code)
        # Only now: a command that went well, and --help, need none of what errors are made of.
        exits = importlib.import_module("reprise.cli.exits")
        sys.exit(exits.report(error, debug=flags.debug, color=not flags.no_color))
