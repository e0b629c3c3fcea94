"""The workflow, tested in memory: no file, no server."""

import asyncio

from flow import hello
from reprise import Reprise


def test_everybody_is_greeted() -> None:
    async def main() -> list[str]:
        async with Reprise("memory://") as app:
            return await app.run(hello, ["Ada", "Alan"], 0.0)

    assert asyncio.run(main()) == ["Hello, Ada!", "Hello, Alan!"]
