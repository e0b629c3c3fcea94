"""``reprise config``: the settings in force."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import typer
from rich.text import Text

from reprise.cli.config import Config, read_config
from reprise.cli.output import Format, line, table
from reprise.cli.session import Output, StoreUrl, screen_of
from reprise.kernel.errors import ConfigurationError, nearest
from reprise.kernel.settings import DEFAULT, Secret, masked


def show(
    context: typer.Context,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME", help="A section, or section.key: only these.", show_default=False),
    ] = None,
    origin: Annotated[
        bool,
        typer.Option("--origin", help="Also where each value comes from: default, file, environment, flag."),
    ] = False,
    output: Output = Format.TABLE,
    store: StoreUrl = None,
) -> None:
    """Show the settings in force here. Flags are stronger than the environment, that than .env, that than files.

    reprise config show --origin

    reprise config show worker store.url -o json
    """
    screen = screen_of(context)
    facts = _wanted(setting_facts(read_config(store, resolve=False)), names or [])
    if output is not Format.TABLE:
        screen.data(output, facts)
        return
    columns = ("setting", "value", "origin") if origin else ("setting", "value")
    made = table(*columns, fold="value")
    for fact in facts:
        is_set = fact["origin"] != DEFAULT
        cells = [Text(fact["setting"]), Text(line(_text(fact["value"])), "bold" if is_set else "dim")]
        made.add_row(*cells, *([Text(line(fact["origin"]), "" if is_set else "dim")] if origin else []))
    screen.table(made)


def setting_facts(config: Config) -> list[dict[str, Any]]:
    """Return every setting with its value, secrets masked, and where it came from."""
    return [
        {
            "setting": path,
            "value": _shown(getattr(getattr(config.settings, section), key)),
            "origin": config.origins[path],
        }
        for path in config.origins
        for section, _, key in [path.partition(".")]
    ]


def _shown(value: Any) -> Any:
    """Return a value without secrets: those that are declared so, and passwords in URLs."""
    if isinstance(value, Secret):
        return str(value)
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, dict):
        return {str(name): _shown(each) for name, each in value.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if isinstance(value, list):
        return [_shown(each) for each in value]  # pyright: ignore[reportUnknownVariableType]
    return value


def _text(value: Any) -> str:
    return value if isinstance(value, str) and value else msgspec.json.encode(value).decode()


def _wanted(facts: list[dict[str, Any]], names: list[str]) -> list[dict[str, Any]]:
    known = [fact["setting"] for fact in facts]
    known += {name.partition(".")[0]: None for name in known}
    for name in names:
        if name not in known:
            near = nearest(name, known)
            hint = f"Did you mean {near!r}?" if near else "reprise config show lists them."
            raise ConfigurationError(f"There is no setting {name!r}.", hint=hint)
    return [
        fact
        for fact in facts
        if not names or fact["setting"] in names or fact["setting"].partition(".")[0] in names
    ]
