"""A workflow that survives kill -9: greet everybody of a list, one after a short wait, and count them."""

import asyncio
import logging

from reprise import Retry, step, workflow

log = logging.getLogger(__name__)


@step(retry=Retry(3))
async def greet(name: str) -> str:
    """Say hello. A step may do anything: call a service, a model, a database. Its result is recorded once."""
    log.info("greeting %s", name)
    return f"Hello, {name}!"


@workflow
async def hello(names: list[str] | None = None, wait: float = 1.0) -> list[str]:
    """Greet the first one, wait (durably: kill it, it goes on), then greet the others at the same time."""
    first, *others = names or ["Ada", "Alan", "Grace"]
    greetings = [await greet(first)]
    await asyncio.sleep(wait)
    greetings += await asyncio.gather(*(greet(name) for name in others))
    return greetings
