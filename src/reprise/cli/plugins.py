"""``reprise plugins``: what plugins there are, trusting one, making one."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import typer

from reprise.cli.output import Format, Screen, line, table
from reprise.cli.plugged import manager_of, plugin_folders
from reprise.cli.session import Output, screen_of
from reprise.kernel.errors import ConfigurationError
from reprise.tools.plugins.copying import copy_in, write_files
from reprise.tools.plugins.discovering import read_plugin
from reprise.tools.plugins.manager import PluginManager
from reprise.tools.plugins.manifest import Isolation, canonical, name_fault
from reprise.tools.plugins.trust import TrustStore

Directories = Annotated[
    list[str] | None,
    typer.Option(
        "--dir",
        "-d",
        metavar="DIR",
        help="Folder of plugins, instead of those in reprise.toml.",
        show_default=False,
    ),
]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the plugin, as its plugin.json says.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def list_(context: typer.Context, directories: Directories = None, output: Output = Format.TABLE) -> None:
    """List plugins: their state, what they may do, and the reason where one does not work. None of them is executed.

    reprise plugins list --dir plugins
    """
    screen, folders = screen_of(context), plugin_folders(directories)
    manager = manager_of(folders)
    manager.discover_plugins()
    rows = manager.list_plugins()
    if output is not Format.TABLE:
        screen.data(output, rows)
    elif rows:
        shown = table("plugin", "version", "status", "may", "what it is", fold="what it is")
        for row in rows:
            words = (
                row["name"],
                row["version"],
                row["status"],
                _may(row),
                row["reason"] or row["description"],
            )
            shown.add_row(*(line(word) for word in words))
        screen.table(shown)
    else:
        where = ", ".join(map(str, folders)) or "installed packages (no folder is named)"
        screen.say(f"No plugin in {where}.")
        screen.hint("reprise plugins new NAME makes one.")


def trust(context: typer.Context, name: Name, directories: Directories = None, yes: Yes = False) -> None:
    """Trust a plugin as its files are now: what it may do is shown before. If a file changes, you are asked again.

    reprise plugins trust weather --dir plugins
    """
    screen, manager = screen_of(context), manager_of(plugin_folders(directories))
    manager.discover_plugins()
    row = _row(manager, name)
    if row["status"] == "trusted":
        screen.say(f"{row['name']} {row['version']} is trusted as it is.")
        return
    if row["status"] == "untrusted":
        _introduce(screen, row)
        screen.say(row["reason"].partition(" Look at it, then")[0])
        _ask(screen, f"Trust {row['name']}?", yes)
    manager.trust(name, digest=row["digest"])
    screen.say(f"{row['name']} {row['version']} is trusted.")


def new(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="a-z, 0-9, - and _; also that of the folder.")],
    directory: Annotated[
        Path, typer.Option("--dir", "-d", metavar="DIR", help="Folder of plugins to make it in.")
    ] = Path("plugins"),
    isolation: Annotated[
        str, typer.Option("--isolation", metavar="direct|process", help="Where its tools are called.")
    ] = "direct",
) -> None:
    """Make a plugin that works: plugin.json, a tool, and a test of it.

    reprise plugins new weather
    """
    screen = screen_of(context)
    if fault := name_fault(name):
        raise ConfigurationError(f"{fault}.")
    if isolation not in Isolation.__args__:
        raise ConfigurationError(f"--isolation {isolation!r}", hint="direct or process.")
    place = directory / name
    try:
        place.mkdir(parents=True)
        write_files(place, template(name, isolation))
    except OSError as error:
        raise ConfigurationError(
            f"{error.filename or place} cannot be made ({error.strerror}); nothing was changed.",
            hint="Take another name, or another folder: --dir DIR",
        ) from error
    for path in sorted(template(name, isolation)):
        screen.raw(str(place / path))
    screen.hint(f"Next:  python -m pytest {place}  and then  reprise plugins trust {name} --dir {directory}")


def install(
    context: typer.Context,
    source: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Folder of the plugin, with its plugin.json.")
    ],
    directories: Directories = None,
    yes: Yes = False,
) -> None:
    """Copy a plugin into the (first) folder of plugins and trust it; what it may do is shown before.

    reprise plugins install ~/Downloads/weather --dir plugins
    """
    screen, directory = screen_of(context), _first(plugin_folders(directories))
    manifest, folder = read_plugin(source)
    _introduce(
        screen,
        {
            "name": manifest.name,
            "version": manifest.version,
            "description": manifest.description,
            "permissions": manifest.permissions,
            "isolation": manifest.isolation,
        },
    )
    _ask(screen, f"Copy {manifest.name} to {directory} and trust it?", yes)
    screen.raw(str(copy_in(manifest, folder, directory, TrustStore())))


def remove(
    context: typer.Context,
    name: Name,
    directories: Directories = None,
    delete: Annotated[
        bool, typer.Option("--files", help="Delete its folder, also if install did not make it.")
    ] = False,
    yes: Yes = False,
) -> None:
    """Trust a plugin no more; the copy that install made is deleted, any other folder only with --files.

    reprise plugins remove weather --dir plugins
    """
    screen, manager = screen_of(context), manager_of(plugin_folders(directories))
    manager.discover_plugins()
    row = _row(manager, name)
    place = Path(row["path"])
    if row["kind"] == "package":
        raise ConfigurationError(f"{name} is an installed package.", hint=f"Run: pip uninstall {name}")
    if delete:
        _ask(screen, f"Delete {place}?", yes)
    manager.uninstall(name, files=delete)
    screen.say(f"{name} is not trusted any more{'.' if place.exists() else f', and {place} is deleted.'}")


# ---------------------------------------------------------------- how


def template(name: str, isolation: str) -> dict[str, bytes]:
    """Return the files of a new plugin by their paths."""
    place = files("reprise.cli") / "templates" / "plugin"
    tool = canonical(name)
    found = {
        "plugin.json": "plugin.json",
        "__init__.py": "init.py",
        f"tests/test_{tool}.py": "test_plugin.py",
        "README.md": "README.md",
    }
    return {
        path: (place / kept)
        .read_text("utf-8")
        .replace("PLUGIN_NAME", name)
        .replace("plugin_name", tool)
        .replace('"direct"', f'"{isolation}"')
        .encode()
        for path, kept in found.items()
    }


def _row(manager: PluginManager, name: str) -> dict[str, Any]:
    """Return what is known of a plugin. Raises ``ConfigurationError`` where there is none, or it is not sound."""
    row = next((row for row in manager.list_plugins() if canonical(row["name"]) == canonical(name)), None)
    if row is None or row["status"] == "failed":
        manager.trust(name)  # which says why not
    assert row is not None
    return row


def _introduce(screen: Screen, row: dict[str, Any]) -> None:
    screen.say(f"{row['name']} {row['version']}: {row['description'] or 'it says nothing of itself'}")
    where = "in a process of its own" if row["isolation"] == "process" else "in our process, with your rights"
    screen.say(f"Its tools may: {_may(row)}; they are called {where}.")


def _may(row: dict[str, Any]) -> str:
    return ", ".join(row["permissions"]) or ("" if row.get("kind") == "package" else "nothing")


def _first(folders: Sequence[Path]) -> Path:
    if not folders:
        raise ConfigurationError(
            "No folder of plugins is named.",
            hint='Say --dir DIR, or write into reprise.toml: [plugins] directories = ["plugins"]',
        )
    return folders[0]


def _ask(screen: Screen, question: str, yes: bool) -> None:
    """Go on only if somebody says yes."""
    if yes:
        return
    if not (sys.stdin.isatty() and screen.err.is_terminal):
        raise ConfigurationError("Nobody is there to be asked.", hint="Look at it, then say --yes.")
    if not typer.confirm(question, err=True):
        raise typer.Exit(1)
