"""One run, to wait for and to talk to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar, cast, overload

from reprise.kernel.errors import (
    ResultTimeout,
    RunCancelled,
    RunNeedsAttention,
    RunPaused,
    RunStranded,
)
from reprise.kernel.events import (
    Finished,
    Record,
)
from reprise.kernel.failures import decode_error
from reprise.kernel.machine import RunStatus
from reprise.runtime.client import Client
from reprise.runtime.dialogue import PATIENCE, Chunk, OpenQuestion
from reprise.runtime.effect_rows import EffectRow
from reprise.runtime.forking import Fork
from reprise.runtime.moments import RunState

T = TypeVar("T")
U = TypeVar("U")


class RunHandle(Generic[T]):
    """A run, to wait for and to talk to."""

    def __init__(
        self,
        client: Client,
        id: str,
        decode: Callable[[bytes], Any],
        local: Callable[[str], asyncio.Future[Finished | None] | None] | None = None,
    ) -> None:
        self.id = id
        self.begins_with: Fork | None = None
        """Of a fork that was made here, what it begins with and what that means for the outside."""
        self._client = client
        self._decode = decode
        self._local = local

    def __repr__(self) -> str:
        return f"<run {self.id}>"

    async def finished(self, timeout: float | None = None) -> Finished:
        """Wait for the end of the run and return how it ended.

        Raises:
            ResultTimeout: it had not ended in ``timeout`` seconds; it goes on.
        """
        try:
            async with asyncio.timeout(timeout):
                return await self._end()
        except TimeoutError:
            raise ResultTimeout(
                f"Run {self.id} is still going on after {timeout} s.", hint="Wait again."
            ) from None

    async def _end(self) -> Finished:
        future = self._local(self.id) if self._local is not None else None
        finished = await future if future is not None else None
        # It is not in our memory, or left it: another worker may go on with it.
        return finished or await self._client.wait(self.id, settled=True)

    async def result(self, timeout: float | None = None) -> T:
        """Wait for the end of the run and return its result.

        Raises:
            the run's own error when it failed; RunCancelled; RunStranded; RunNeedsAttention;
            ResultTimeout: it had not ended in ``timeout`` seconds; it goes on.
        """
        finished = await (self._end() if timeout is None else self.finished(timeout))
        if finished.status == RunStatus.COMPLETED:
            return cast(T, self._decode(bytes(finished.value)))
        raise outcome_error(self.id, finished)

    async def status(self) -> str:
        """Return the run's state by the index."""
        return (await self._client.row(self.id)).status

    async def signal(self, name: str, value: Any = None, *, id: str = "", type: Any = Any) -> str:
        """Send a signal; return its id."""
        return await self._client.signal(self.id, name, value, id=id, type=type)

    @overload
    async def query(
        self,
        name: str,
        /,
        *args: Any,
        type: type[U],
        kwargs: Mapping[str, Any] | None = None,
        timeout: float = PATIENCE,
    ) -> U: ...
    @overload
    async def query(
        self,
        name: str,
        /,
        *args: Any,
        type: Any = Any,
        kwargs: Mapping[str, Any] | None = None,
        timeout: float = PATIENCE,
    ) -> Any: ...

    async def query(self, name: str, /, *args: Any, type: Any = Any, **options: Any) -> Any:
        """Ask about the run's state; options and errors as of :meth:`Client.query`."""
        return await self._client.query(self.id, name, *args, type=type, **options)

    @overload
    async def update(
        self,
        name: str,
        /,
        *args: Any,
        type: type[U],
        kwargs: Mapping[str, Any] | None = None,
        id: str = "",
        timeout: float | None = None,
    ) -> U: ...
    @overload
    async def update(
        self,
        name: str,
        /,
        *args: Any,
        type: Any = Any,
        kwargs: Mapping[str, Any] | None = None,
        id: str = "",
        timeout: float | None = None,
    ) -> Any: ...

    async def update(self, name: str, /, *args: Any, type: Any = Any, **options: Any) -> Any:
        """Change the run; options and errors as of :meth:`Client.update`."""
        return await self._client.update(self.id, name, *args, type=type, **options)

    async def questions(self) -> list[OpenQuestion]:
        """Return what the run asks people."""
        return await self._client.questions(self.id)

    async def answer(
        self,
        value: Any,
        *,
        question: str = "",
        by: str = "",
        id: str = "",
        timeout: float | None = PATIENCE,
    ) -> None:
        """Answer what the run asks; errors as of :meth:`Client.answer`."""
        await self._client.answer(self.id, value, question=question, by=by, id=id, timeout=timeout)

    @overload
    def stream(
        self, name: str, *, type: type[U], after: int = 0, follow: bool = True
    ) -> AsyncGenerator[Chunk[U]]: ...
    @overload
    def stream(
        self, name: str, *, type: Any = Any, after: int = 0, follow: bool = True
    ) -> AsyncGenerator[Chunk[Any]]: ...

    def stream(
        self, name: str, *, type: Any = Any, after: int = 0, follow: bool = True
    ) -> AsyncGenerator[Chunk[Any]]:
        """Yield the chunks of a stream; errors as of :meth:`Client.stream`."""
        return self._client.stream(self.id, name, type=type, after=after, follow=follow)

    async def cancel(self, reason: str = "", *, force: bool = False) -> None:
        """Ask the run to stop; with ``force`` also to undo what it did."""
        await self._client.cancel(self.id, reason, force=force)

    async def effects(self) -> list[EffectRow]:
        """Return what the run did to the outside, and what it has to undo should it fail."""
        return await self._client.effects(self.id)

    async def pause(self) -> None:
        """Ask the run to rest."""
        await self._client.pause(self.id)

    async def resume(self) -> None:
        """Let the run go on."""
        await self._client.resume(self.id)

    async def retry(self, *, fresh: bool = False) -> RunHandle[T]:
        """Try the run again and return the handle of the one that goes on; see :meth:`Client.retry`."""
        return RunHandle(
            self._client, await self._client.retry(self.id, fresh=fresh), self._decode, self._local
        )

    async def fork(self, **options: Any) -> RunHandle[T]:
        """Start a run that goes on from what this one recorded, and return its handle; options and errors as of
        :meth:`Client.fork`. What it begins with is in ``begins_with``.
        """
        made = await self._client.fork(self.id, **options)
        handle = RunHandle[T](self._client, made.id, self._decode, self._local)
        handle.begins_with = made
        return handle

    async def state(self, at: int | None = None) -> RunState:
        """Return the run's state as of a record of its history; errors as of :meth:`Client.state`."""
        return await self._client.state(self.id, at)

    async def events(self) -> Sequence[Record]:
        """Return the history so far."""
        return [record async for record in self._client.events(self.id)]


def outcome_error(run: str, finished: Finished) -> BaseException:
    """Return the exception that stands for the end of a run that did not complete."""
    text = finished.error.message if finished.error is not None else ""
    if finished.status == RunStatus.FAILED and finished.error is not None:
        error = decode_error(finished.error)
        error.add_note(f"run {run} failed; look at it with: reprise show {run}")
        return error
    if finished.status == RunStatus.CANCELLED:
        return RunCancelled(f"Run {run} was cancelled: {text or 'no reason given'}.")
    if finished.status == RunStatus.NEEDS_ATTENTION:
        return RunNeedsAttention(f"Run {run} waits for a decision: {text}.", hint=f"Look: reprise show {run}")
    if finished.status == RunStatus.PAUSED:
        return RunPaused(f"Run {run} is paused.", hint=f"Let it go on: reprise resume {run}")
    return RunStranded(f"Run {run} cannot be executed here: {text}", hint=f"Look: reprise show {run}")
