"""Who listens in this process: what keepers whose taps come from other processes share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

EVERYTHING = "*"
"""Sent instead of names when there are too many: everybody looks."""


class Listeners:
    """Listeners of this process by name and by prefix, called on the loop."""

    def __init__(self) -> None:
        self._exact: dict[str, list[Callable[[str], None]]] = {}
        self._prefix: dict[str, list[Callable[[str], None]]] = {}

    def add(self, name: str, callback: Callable[[str], None]) -> Callable[[], None]:
        """Add a listener; return the function that removes it."""
        table, key = (self._prefix, name[:-1]) if name.endswith("*") else (self._exact, name)
        table.setdefault(key, []).append(callback)

        def end() -> None:
            callbacks = table.get(key, [])
            with suppress(ValueError):
                callbacks.remove(callback)
            if not callbacks:
                table.pop(key, None)

        return end

    def tap(self, names: Iterable[str]) -> None:
        """Call everybody who listens to one of the names; EVERYTHING calls all with what they listen to."""
        for name in names:
            if name == EVERYTHING:
                for key, callbacks in [*self._exact.items(), *self._prefix.items()]:
                    call_back(callbacks, key)
                continue
            call_back(self._exact.get(name, ()), name)
            for prefix, callbacks in list(self._prefix.items()):
                if name.startswith(prefix):
                    call_back(callbacks, name)

    async def wait(self, name: str, timeout: float) -> bool:
        """Wait for one tap; False when ``timeout`` seconds passed without one."""
        return await next_tap(self.add, name, timeout)


async def next_tap(
    listen: Callable[[str, Callable[[str], None]], Callable[[], None]], name: str, timeout: float
) -> bool:
    """Wait for one tap of those whom ``listen`` calls back; False when ``timeout`` seconds passed without one."""
    tapped = asyncio.Event()
    end = listen(name, lambda _: tapped.set())
    try:
        async with asyncio.timeout(timeout):
            await tapped.wait()
    except TimeoutError:
        return False
    finally:
        end()
    return True


def call_back(callbacks: Sequence[Callable[[str], None]], name: str) -> None:
    """Call listeners; the error of one is shown to the loop and disturbs nobody else."""
    for callback in tuple(callbacks):
        try:
            callback(name)
        except Exception as error:  # noqa: BLE001 - a listener's error is its owner's, not the others'
            context = {"message": f"A listener to {name} failed.", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)
