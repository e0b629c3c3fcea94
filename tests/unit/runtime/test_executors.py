"""Where steps are called: what is declared, what is refused, executors of one's own, and frames in any pieces."""

import asyncio
import os
import signal
import subprocess
import threading
from collections import Counter
from types import SimpleNamespace

import pytest
from hypothesis import given, strategies as st
from tests.unit.runtime.scenes import opened, until

from reprise import ConfigurationError, Executor, Retry, step, workflow
from reprise.runtime.executors import guard, inside
from reprise.runtime.executors.frames import (
    LENGTH,
    BrokenFrame,
    Frames,
    Load,
    Logged,
    Quit,
    Told,
    frame,
    read_answer,
    read_order,
)
from reprise.runtime.executors.here import Threads
from reprise.runtime.executors.limits import as_bytes
from reprise.runtime.executors.origins import Origin, import_again


def module_level(n: int) -> int:
    return n


async def waits() -> None: ...


class Shop:
    def sell(self) -> None: ...


# ---------------------------------------------------------------- what is declared


def test_defaults_are_a_thread_for_sync_functions_and_the_loop_for_async_ones():
    assert (step(module_level).executor, step(module_level).on_cancel) == ("thread", "abandon")
    assert (step(waits).executor, step(waits).on_cancel) == ("inline", "wait")


def test_what_can_be_stopped_is_waited_for():
    assert step(executor="process")(module_level).on_cancel == "wait"
    assert step(executor="process", on_cancel="abandon")(module_level).on_cancel == "abandon"


def test_options_keep_the_executor_and_its_limits():
    limited = step(executor="process", memory="1.5GiB", cpu=2)(module_level)
    again = limited.options(key="one")
    assert (again.executor, again.memory, again.cpu) == ("process", 3 << 29, 2.0)
    with pytest.raises(ConfigurationError, match="shares the process of its worker"):
        limited.options(executor="thread")
    assert limited.options(executor="thread", memory=None, cpu=None).executor == "thread"


def local_function():
    def inner(n: int) -> int:
        return n

    return inner


@pytest.mark.parametrize(
    ("function", "options", "said"),
    [
        (lambda: 1, {"executor": "process"}, "is a lambda"),
        (local_function(), {"executor": "process"}, "is defined inside of a function"),
        (Shop().sell, {"executor": "process"}, "bound to an object"),
        (Shop(), {"executor": "process"}, "needs a function"),
        (waits, {"executor": "thread"}, "async and wants a thread"),
        (module_level, {"executor": "proces"}, "Did you mean 'process'"),
        (module_level, {"executor": 3}, "Known are inline, thread, process"),
        (module_level, {"memory": "1GB"}, "shares the process of its worker"),
        (module_level, {"executor": "inline", "cpu": 1}, "shares the process of its worker"),
        (module_level, {"executor": "process", "memory": "lots"}, 'such as "512MB"'),
        (module_level, {"executor": "process", "memory": 0}, "memory is 0"),
        (module_level, {"executor": "process", "cpu": 0}, "cpu of module_level is 0"),
        (module_level, {"executor": "process", "cpu": -1}, "cpu is -1"),
        (module_level, {"executr": "process"}, "Did you mean 'executor'"),
    ],
)
def test_what_cannot_be_is_refused_where_it_is_declared(function, options, said):
    with pytest.raises(ConfigurationError, match=said):
        step(**options)(function)


def test_a_method_is_refused_when_it_is_bound():
    class Kitchen:
        @step(executor="thread")
        def cook(self) -> int:
            return 1

    Kitchen.cook.executor = "process"
    with pytest.raises(ConfigurationError, match="bound to an object"):
        Kitchen().cook  # noqa: B018 (looking it up binds it)


@pytest.mark.parametrize("size", ["", "MB", "-1MB", "1 XB", "1e3", True, 0.5, None, "0.1B"])
def test_sizes_that_are_none(size):
    with pytest.raises(ConfigurationError):
        as_bytes(size, "memory")


def test_the_least_size_is_a_byte():
    assert as_bytes(1, "memory") == as_bytes("1 b", "memory") == 1


@pytest.mark.skipif(os.name != "posix", reason="needs processes of POSIX")
def test_where_memory_cannot_be_limited_it_is_said(monkeypatch, caplog):
    monkeypatch.setattr(inside, "LINUX", False)
    with inside.limited(1 << 30, None):
        assert "memory= of a step is not kept" in caplog.text


def test_a_file_that_is_no_python_is_no_module(tmp_path):
    file = tmp_path / "notes.txt"
    file.touch()
    with pytest.raises(ImportError, match=r"notes\.txt is no Python file"):
        import_again(Origin("notes_of_nobody", str(file), "x"))


def test_settings_of_processes_are_validated_with_the_nearest_name():
    from reprise import Reprise

    with pytest.raises(ConfigurationError, match="Did you mean 'silence'"):
        Reprise("memory://", processes={"silense": 3})
    with pytest.raises(ConfigurationError, match=r"processes\.size is 0"):
        Reprise("memory://", processes=0)


# ---------------------------------------------------------------- inline and unknown


async def test_inline_calls_a_sync_function_on_the_loop():
    @step(executor="inline")
    def where() -> bool:
        return threading.current_thread() is threading.main_thread()

    @workflow
    async def flow() -> list[bool]:
        elsewhere = where.options(executor="thread", key="thread")
        return [await where(), await elsewhere()]

    async with opened() as app:
        assert await app.run(flow) == [True, False]
    assert asyncio.get_running_loop() is not None
    assert await where() is True, "also outside of a run"


async def test_an_executor_that_is_not_configured_says_so():
    @step(executor="ray")
    def far() -> int:
        return 1

    @workflow
    async def flow() -> int:
        return await far()

    async with opened() as app:
        with pytest.raises(ConfigurationError) as caught:
            await app.run(flow)
    assert "wants the executor 'ray', which is not configured here; there are inline, thread, process" in str(
        caught.value
    )


async def test_threads_that_were_closed_take_no_more():
    @step
    def here() -> int:
        return 1

    threads = Threads(1)
    job = SimpleNamespace(step=here, args=(), kwargs={}, context=None)
    assert await threads.execute(job) == 1
    await threads.close()
    with pytest.raises(RuntimeError, match="after shutdown"):
        await threads.execute(job)


@pytest.mark.skipif(os.name != "posix", reason="needs process groups")
def test_a_guard_kills_the_groups_that_it_was_told_of_last_when_its_worker_is_gone():
    first, second = [subprocess.Popen(["sleep", "60"], process_group=0) for _ in range(2)]
    try:
        watching = guard.Guard()
        watching.tell([first.pid, second.pid])
        watching.tell([second.pid])
        shell = watching._shell
        shell.stdin.close()  # as the kernel does for a worker that is gone
        assert shell.wait(20) == 0
        assert second.wait(20) == -signal.SIGKILL
        assert first.poll() is None
    finally:
        for each in (first, second):
            each.kill()
            each.wait()


def test_without_a_shell_there_is_no_guard(monkeypatch):
    monkeypatch.setattr(guard, "_SHELL", "/nowhere/sh")
    none = guard.Guard()
    none.tell([1])
    none.close()
    assert none._shell is None


class Counted:
    """An executor of one's own that does two calls at once."""

    def __init__(self) -> None:
        self.now = 0
        self.counts: Counter[str] = Counter()
        self.gate = asyncio.Event()
        self.closed = False

    @property
    def capacity(self) -> int | None:
        return 2

    async def execute(self, job):
        self.counts["calls"] += 1
        self.now += 1
        self.counts["most"] = max(self.counts["most"], self.now)
        try:
            await self.gate.wait()
            return job.step.function(*job.args, **job.kwargs)
        finally:
            self.now -= 1

    def statistics(self) -> dict[str, int]:
        return {"counted_calls": self.counts["calls"]}

    async def close(self) -> None:
        self.closed = True


async def test_an_executor_of_ones_own_has_its_own_capacity_and_holds_up_nobody_else():
    executor: Executor = Counted()
    tries = []

    @step(executor="counted", retry=Retry(2, backoff=0))
    def counted(n: int) -> int:
        tries.append(n)
        if tries.count(n) == 1:
            raise ConnectionError
        return n

    @step
    async def quick() -> str:
        return "not held up"

    @workflow
    async def flow() -> list:
        slow = [asyncio.ensure_future(counted(n)) for n in range(5)]
        said = await quick()
        executor.gate.set()
        return [said, *await asyncio.gather(*slow)]

    async with opened(executors={"counted": executor}, concurrency=1) as app:
        assert await app.run(flow) == ["not held up", 0, 1, 2, 3, 4]
        counts = app.engine.statistics()
    assert (counts["counted_calls"], counts["steps"], counts["retries"]) == (10, 11, 5)
    assert executor.counts["most"] == 2
    assert executor.closed


async def test_a_call_that_waits_for_room_is_cancelled_without_being_called():
    executor = Counted()

    @step(executor="counted")
    def counted(n: int) -> int:
        return n

    @workflow
    async def flow() -> str:
        async with asyncio.TaskGroup() as group:
            for n in range(4):
                group.create_task(counted(n))
        return "all"

    async with opened(executors={"counted": executor}) as app:
        handle = await app.start(flow)
        await until(lambda: executor.now == 2)
        await handle.cancel()
        assert (await handle.finished(5)).status == "cancelled"
    assert executor.counts["calls"] == 2


# ---------------------------------------------------------------- frames

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
ORIGINS = st.builds(Origin, TEXTS, TEXTS, TEXTS)
ORDERS = st.lists(st.one_of(st.builds(Load, ORIGINS), st.just(Quit())), max_size=8)
ANSWERS = st.lists(
    st.one_of(
        st.builds(
            Told, st.floats(allow_nan=False, allow_infinity=False), st.none() | st.floats(0, 1e300), TEXTS
        ),
        st.builds(
            Logged, TEXTS, st.integers(0, 100), TEXTS, TEXTS, st.integers(0), TEXTS, st.floats(0, 1e12)
        ),
    ),
    max_size=8,
)


def in_pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """Cut bytes at places; a place may come twice, so that a piece is empty."""
    at = sorted(cut % (len(data) + 1) for cut in cuts)
    return [data[start:end] for start, end in zip([0, *at], [*at, len(data)], strict=True)]


@given(orders=ORDERS, answers=ANSWERS, cuts=st.lists(st.integers(0), max_size=12))
def test_messages_arrive_whole_and_in_order_in_whatever_pieces(orders, answers, cuts):
    for messages, read in ((orders, read_order), (answers, read_answer)):
        frames = Frames()
        data = b"".join(map(frame, messages))
        found = [read(each) for piece in in_pieces(data, cuts) for each in frames.feed(piece)]
        assert found == messages


@given(payloads=st.lists(st.binary(max_size=40), max_size=6), extra=st.binary(max_size=LENGTH - 1))
def test_what_is_not_complete_is_kept(payloads, extra):
    data = b"".join(len(each).to_bytes(LENGTH, "big") + each for each in payloads)
    frames = Frames(40)
    assert frames.feed(data + extra) == payloads
    rest = (LENGTH + 3).to_bytes(LENGTH, "big")
    if not extra:
        assert frames.feed(rest + b"x" * LENGTH) == []
        assert frames.feed(b"yyy") == [b"x" * LENGTH + b"yyy"]


@given(most=st.integers(0, 1000), size=st.integers(0, 2000), before=st.integers(0, 3))
def test_a_frame_beyond_the_bound_is_refused_before_it_is_read(most, size, before):
    frames = Frames(most)
    for _ in range(before):
        assert frames.feed((0).to_bytes(LENGTH, "big")) == [b""]
    head = size.to_bytes(LENGTH, "big")
    if size <= most:
        assert frames.feed(head) == ([b""] if size == 0 else [])
    else:
        with pytest.raises(BrokenFrame, match="are the most"):
            frames.feed(head)
