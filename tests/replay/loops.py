"""On which event loop the corpus runs: ``REPRISE_LOOP=uvloop`` takes uvloop, otherwise asyncio's own."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

LOOP = os.environ.get("REPRISE_LOOP", "asyncio")


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """Return what makes the loops of the tests."""
    if LOOP == "uvloop":
        import uvloop

        return uvloop.new_event_loop
    return asyncio.new_event_loop
