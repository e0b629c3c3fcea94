"""In a fresh process: open the store and compare every value with what the steps made. Prints how many there were."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from bench.engines.reprise_jobs import url
from bench.engines.work import made_in
from reprise import Kind, Reprise


async def compare(store: str, folder: Path) -> int:
    """Return how many values were compared.

    Raises:
        ValueError: a value is missing, doubled, at another place, or another one.
    """
    compared = 0
    async with Reprise(url(store, folder), worker=False) as app:
        for run, made in made_in(folder).items():
            completed = [r for r in await app.handle(run).events() if r.kind == Kind.STEP_COMPLETED]
            completed.sort(key=lambda record: (len(record.key), record.key))  # in the order of the calls
            found = dict(enumerate(json.loads(record.data) for record in completed))
            if found != made:
                raise ValueError(
                    f"{run}: {len(found)} values are in the store, {len(made)} were made, or they differ"
                )
            compared += len(found)
    return compared


if __name__ == "__main__":
    print(asyncio.run(compare(sys.argv[1], Path(sys.argv[2]))))
