"""Several independent keepers in the place of one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

from reprise.coordination.asking import Panel
from reprise.coordination.keepers import Keeper, Source
from reprise.coordination.redlock import QuorumLease, Taps
from reprise.kernel.errors import ConfigurationError


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
        self.lease = QuorumLease(self._panel, self.signal, retry_delay)

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
