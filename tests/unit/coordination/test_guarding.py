"""Ending a body from outside, and telling that from what others do to its task."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from reprise.coordination.guarding import Guard


async def _guarded(guards: list[Guard], body: Callable[[], Awaitable[None]]) -> str:
    """Run a body under a guard; return whether what came out is the guard's doing."""
    guard = Guard()
    guards.append(guard)
    try:
        await body()
    except BaseException as error:
        if guard.leave(error):
            return "ours"
        raise
    return f"returned, fired {guard.fired}, ours {guard.leave(None)}"


async def _started(body: Callable[[], Awaitable[None]]) -> tuple[asyncio.Task[str], Guard]:
    guards: list[Guard] = []
    task = asyncio.create_task(_guarded(guards, body))
    await asyncio.sleep(0)
    return task, guards[0]


async def _for_ever() -> None:
    await asyncio.Event().wait()


async def test_it_cancels_where_the_body_waits():
    task, guard = await _started(_for_ever)
    guard.end()
    guard.end()
    assert await task == "ours"
    assert task.cancelling() == 0


@pytest.mark.parametrize("first", ["ours", "theirs"])
async def test_a_cancellation_by_others_goes_on(first: str):
    task, guard = await _started(_for_ever)
    for cancel in (guard.end, task.cancel) if first == "ours" else (task.cancel, guard.end):
        cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_one_that_came_before_is_not_taken_for_ours():
    async def body() -> None:
        with suppress(asyncio.CancelledError):
            await _for_ever()
        assert await _guarded(guards, _for_ever) == "ours"

    guards: list[Guard] = []
    task, _ = await _started(body)
    task.cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    guards[0].end()
    assert (await task)[:8] == "returned"
    assert task.cancelling() == 1


async def test_a_body_that_swallows_it_is_seen():
    async def body() -> None:
        with suppress(asyncio.CancelledError):
            await _for_ever()

    task, guard = await _started(body)
    guard.end()
    assert await task == "returned, fired True, ours False"
    assert task.cancelling() == 0


async def test_a_body_that_ends_itself_ends_where_it_waits_next_and_not_outside():
    guards: list[Guard] = []

    async def waits() -> None:
        guards[-1].end()
        await asyncio.sleep(10)

    async def returns() -> None:
        guards[-1].end()

    assert await _guarded(guards, waits) == "ours"
    assert await _guarded(guards, returns) == "returned, fired True, ours False"
    await asyncio.sleep(0)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_errors_of_the_body_come_out_as_they_are():
    async def body() -> None:
        try:
            await _for_ever()
        finally:
            raise ValueError("mine")

    task, guard = await _started(body)
    guard.end()
    with pytest.raises(ValueError, match="mine"):
        await task
