"""Several independent keepers in the place of one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, cast

from reprise.coordination.asking import Panel
from reprise.coordination.keepers import Keeper, Source
from reprise.coordination.redlock import QuorumLease
from reprise.kernel.errors import ConfigurationError


class Taps:
    """The taps of several keepers: given to all, heard from any."""

    def __init__(self, keepers: Sequence[Keeper]) -> None:
        self._keepers = keepers

    def wake(self, names: Sequence[str]) -> None:
        """Tap everybody who listens to one of these names; never waits, never raises."""
        for keeper in self._keepers:
            if keeper.is_open:
                keeper.store.signal.wake(names)

    def listen(self, name: str, callback: Callable[[str], None]) -> Callable[[], None]:
        """Call back at each tap, also where several keepers bring the same one; return what ends it."""
        ends = [keeper.store.signal.listen(name, callback) for keeper in self._keepers if keeper.is_open]

        def end() -> None:
            for each in ends:
                each()

        return end

    async def wait(self, name: str, timeout: float) -> bool:
        """Wait for one tap; False when ``timeout`` seconds passed without one."""
        tapped = asyncio.Event()
        unlisten = self.listen(name, lambda _: tapped.set())
        try:
            async with asyncio.timeout(timeout):
                return await tapped.wait()
        except TimeoutError:
            return False
        finally:
            unlisten()


class Masters:
    """Several keepers that vote, in the place of one."""

    def __init__(self, sources: Sequence[Source], retry_delay: float, node_timeout: float) -> None:
        if len(sources) < 2:
            raise ConfigurationError(
                f"{len(sources)} keepers cannot vote.",
                hint="Give one keeper as itself, or three or five in a list.",
            )
        self._keepers = [Keeper(source) for source in sources]
        self.signal = Taps(self._keepers)
        self._panel = Panel(self._keepers, node_timeout)
        self.lease = QuorumLease(self._panel, retry_delay)

    async def start(self) -> Masters:
        """Open them; idempotent. Those of a minority may be away, they are tried again whenever they are asked.

        Raises:
            StoreUnreachable: a majority is away.
        """
        await self._panel.reach()
        return self

    async def stop(self) -> None:
        """Close them; idempotent, safe before start."""
        await self.lease.settle()
        await self._panel.settle()
        await asyncio.gather(*(keeper.stop() for keeper in self._keepers))


def keeping(source: Source, retry_delay: float, node_timeout: float) -> Keeper | Masters:
    """Return what keeps the leases of a source; a list or tuple of sources votes."""
    if isinstance(source, list | tuple):
        return Masters(cast("Sequence[Source]", source), retry_delay, node_timeout)
    return Keeper(cast("Any", source))
