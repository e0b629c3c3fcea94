"""``reprise pin``, ``unpin``: leave runs to workers of the build that had them."""

from __future__ import annotations

import asyncio

import typer

from reprise.cli.batch import RunIds, Where, Wish, Yes, fulfil
from reprise.cli.config import read_config
from reprise.cli.output import Format
from reprise.cli.session import DryRun, Output, StoreUrl, screen_of
from reprise.runtime.batch import Verb


def pin(
    context: typer.Context,
    ids: RunIds = None,
    query: Where = "",
    dry_run: DryRun = False,
    yes: Yes = False,
    output: Output = Format.TABLE,
    store: StoreUrl = None,
) -> None:
    """Let only workers of the build that had a run last take it, and what it started.

    reprise pin order-7

    reprise pin -q 'workflow:order build:v1' --yes
    """
    wish = _wish(Verb.PIN, ids, query, dry_run, yes, output, store)
    raise typer.Exit(asyncio.run(fulfil(screen_of(context), read_config(store), wish)))


def unpin(
    context: typer.Context,
    ids: RunIds = None,
    query: Where = "",
    dry_run: DryRun = False,
    yes: Yes = False,
    output: Output = Format.TABLE,
    store: StoreUrl = None,
) -> None:
    """Let workers of any build take runs that were pinned.

    reprise unpin order-7
    """
    wish = _wish(Verb.UNPIN, ids, query, dry_run, yes, output, store)
    raise typer.Exit(asyncio.run(fulfil(screen_of(context), read_config(store), wish)))


def _wish(
    verb: Verb,
    ids: list[str] | None,
    query: str,
    dry_run: bool,
    yes: bool,
    output: Format,
    store: str | None,
) -> Wish:
    return Wish(
        verb=verb, ids=tuple(ids or ()), query=query, dry_run=dry_run, yes=yes, output=output, store=store
    )
