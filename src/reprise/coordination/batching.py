"""Small things that many do at once go to the keeper together; and who waits for taps."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar, cast

from reprise.stores.signal import Signal

I = TypeVar("I")  # noqa: E741
A = TypeVar("A")

MOST = 500
"""Items that are sent at once."""
HALVED = 16
"""Items that go in two halves, from so many on."""
LOOK_AGAIN = 5.0
"""Seconds after which whoever waits for a tap looks without one: a tap may be lost, a keeper away."""


class Batch(Generic[I, A]):
    """Gather the items of concurrent callers, send them together, give each caller its answer.

    What comes in one turn of the loop, and while batches are on their way, goes together. So many callers who simply await
    are as fast as one who sends a list, and one who is alone waits for nobody. Many who come at once go in two halves: while
    the keeper is at one, the callers of the other go on.
    """

    def __init__(self, send: Callable[[Sequence[I]], Awaitable[Sequence[A]]]) -> None:
        self._send = send
        self._waiting: list[I] = []
        self._answers: list[asyncio.Future[A]] = []
        """Of those who wait, in their order."""
        self._sending: dict[asyncio.Task[None], None] = {}
        """What sends one batch after the other; two of them at most."""
        self._away = 0
        """Batches on their way."""

    def put(self, item: I) -> asyncio.Future[A]:
        """Hand over an item; return the future of its answer. Giving up waiting does not take it back."""
        answer: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        self._waiting.append(item)
        self._answers.append(answer)
        others = len(self._sending)
        if not others or (others == 1 and self._away and len(self._waiting) >= HALVED // 2):
            self._begin()
        return answer

    async def close(self) -> None:
        """Wait until all that was handed over is answered."""
        while self._sending:
            await asyncio.wait(self._sending)

    def _begin(self) -> None:
        task = asyncio.create_task(self._flush())
        self._sending[task] = None
        task.add_done_callback(lambda task: self._sending.pop(task, None))

    async def _flush(self) -> None:
        if self._away:
            await asyncio.sleep(0)  # the other half leaves before it
        try:
            while self._waiting:
                count = len(self._waiting)
                if count >= HALVED and not self._away:
                    count = (count + 1) // 2
                    if len(self._sending) == 1:
                        self._begin()
                count = min(count, MOST)
                batch, self._waiting = self._waiting[:count], self._waiting[count:]
                answers, self._answers = self._answers[:count], self._answers[count:]
                self._away += 1
                try:
                    await self._answer(batch, answers)
                finally:
                    self._away -= 1
        finally:
            # Now, not when the task is over: who comes in between would wait for nobody.
            self._sending.pop(cast("asyncio.Task[None]", asyncio.current_task()), None)

    async def _answer(self, batch: Sequence[I], waiters: Sequence[asyncio.Future[A]]) -> None:
        try:
            answers = await self._send(batch)
        except Exception as error:  # noqa: BLE001  every caller is told
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_exception(error)
            return
        for waiter, answer in zip(waiters, answers, strict=True):
            if not waiter.done():
                waiter.set_result(answer)


class Bell:
    """The taps of one name, counted, so that none is missed between a look and a wait."""

    def __init__(self, signal: Signal, name: str) -> None:
        self.rings = 0
        self._waiting: dict[asyncio.Future[None], None] = {}
        """In the order in which they came: a set goes by addresses, which no seed of a simulation decides."""
        self._callbacks: list[Callable[[], None]] = []
        self._end = signal.listen(name, self.ring)

    def also(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back at each ring; return what ends that."""
        self._callbacks.append(callback)
        return lambda: self._callbacks.remove(callback)

    async def wait(self, heard: int, timeout: float) -> None:
        """Wait until it has rung more often than ``heard``, at most ``timeout`` seconds."""
        if self.rings != heard:
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[waiter] = None
        try:
            await asyncio.wait([waiter], timeout=timeout)
        finally:
            del self._waiting[waiter]

    def close(self) -> None:
        """Listen no more."""
        self._end()

    def ring(self, _name: str = "") -> None:
        """Wake those who wait."""
        self.rings += 1
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)
        for callback in tuple(self._callbacks):
            callback()
