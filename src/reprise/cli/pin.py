"""``reprise pin``, ``unpin``: leave runs to workers of the build that had them."""

from __future__ import annotations

import typer

from reprise.cli.batch import RunIds, Where, Yes, leave, wished
from reprise.cli.output import Format
from reprise.cli.session import DryRun, Output, StoreUrl
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
    leave(context, wished(Verb.PIN, ids, query, dry_run=dry_run, yes=yes, output=output, store=store))


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
    leave(context, wished(Verb.UNPIN, ids, query, dry_run=dry_run, yes=yes, output=output, store=store))
