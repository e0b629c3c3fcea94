"""Functions that are called where a bench wants them to be: a process imports this module, and should import little."""

from __future__ import annotations

from reprise import step


def same(value: str) -> str:
    """Give back what was given."""
    return value


inline_sync = step(executor="inline")(same)
thread = step(executor="thread")(same)
process = step(executor="process")(same)
limited = step(executor="process", memory="1GB", cpu=60)(same)


@step
async def inline_async(value: str) -> str:
    """Give back what was given."""
    return value
