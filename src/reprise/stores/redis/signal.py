"""Taps over Redis: a process subscribes once to each name, and tells all who listen to it here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from reprise.stores.listeners import call_back, next_tap
from reprise.stores.redis.wire import Wire

Callback = Callable[[str], None]

_LITERAL = str.maketrans({char: f"\\{char}" for char in "\\*?[]"})


class RedisSignal:
    """Wake others who wait, here and wherever the same server is used. Use it on the loop of the store."""

    def __init__(self, wire: Wire, prefix: str) -> None:
        self._wire, self._prefix = wire, prefix
        self._listening: dict[tuple[str, str], list[Callback]] = {}
        """Who listens, by the verb and the channel or pattern of the subscription."""

    def wake(self, names: Sequence[str]) -> None:
        """Tap everybody who listens to one of these names; never waits, never raises."""
        for name in dict.fromkeys(names):
            self._wire.tell("PUBLISH", self._prefix + name, b"")

    def listen(self, name: str, callback: Callback) -> Callable[[], None]:
        """Call back on the loop with the name at each tap; ``name`` ending in ``*`` listens to all that start so."""
        key = ("SUBSCRIBE", self._prefix + name)
        if name.endswith("*"):
            key = ("PSUBSCRIBE", (self._prefix + name[:-1]).translate(_LITERAL) + "*")
        callbacks = self._listening.setdefault(key, [])
        if not callbacks:
            self._wire.tell(*key)
        callbacks.append(callback)

        def end() -> None:
            with suppress(ValueError):
                callbacks.remove(callback)
            if not callbacks and self._listening.get(key) is callbacks:
                del self._listening[key]
                self._wire.tell(key[0].replace("SUB", "UNSUB"), key[1])

        return end

    async def wait(self, name: str, timeout: float) -> bool:
        """Wait for one tap; False when ``timeout`` seconds passed without one."""
        return await next_tap(self.listen, name, timeout)

    def back(self) -> None:
        """Subscribe on a new connection, and let everybody look: what was tapped meanwhile is lost."""
        for (verb, channel), callbacks in list(self._listening.items()):
            self._wire.tell(verb, channel)
            call_back(callbacks, channel.removeprefix(self._prefix))

    def pushed(self, push: Sequence[Any]) -> None:
        """Take in a tap; one that fits several subscriptions comes for each of them."""
        verb = "SUBSCRIBE" if push[0] == b"message" else "PSUBSCRIBE"
        callbacks = self._listening.get((verb, push[1].decode()), ())
        call_back(callbacks, push[-2].decode().removeprefix(self._prefix))
