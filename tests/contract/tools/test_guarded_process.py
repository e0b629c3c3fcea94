"""Functions in processes of their own: what takes too much is stopped, and nothing of it stays."""

import asyncio
import os
import sys
import time
from typing import Any

import pytest

from reprise import ToolError
from reprise.tools.guards.process import Limits, Processes

EVAL = "builtins:eval"
LINUX = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux limits memory, and lists descriptors in /proc"
)
SHORT = Limits(seconds=0.3, memory=64 << 20, most=10_000)


@pytest.fixture(scope="module")
def processes():
    pool = Processes(2)
    yield pool
    pool.close()


def call(pool: Processes, function: str, *arguments: Any, limits: Limits | None = None) -> Any:
    return asyncio.run(pool.call(function, *arguments, limits=limits))


def refusal(pool: Processes, function: str, *arguments: Any, limits: Limits | None = None) -> ToolError:
    with pytest.raises(ToolError) as caught:
        call(pool, function, *arguments, limits=limits)
    return caught.value


def is_gone(pid: int) -> bool:
    """Wait until a process is gone; its end is on its way."""
    for _ in range(2_000):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.005)
    return False


def test_it_returns_what_the_function_returns(processes):
    assert call(processes, "math:hypot", 3, 4) == 5
    assert call(processes, "json:loads", '{"a": [1, null, "ü"]}') == {"a": [1, None, "ü"]}


def test_the_process_is_kept_and_forks_for_each_call(processes):
    parents = {call(processes, "os:getppid") for _ in range(3)}
    assert len(parents) == 1
    assert parents != {os.getpid()}
    assert len({call(processes, "os:getpid") for _ in range(3)}) == 3


def test_nothing_of_a_call_is_left_for_the_next(processes):
    call(processes, EVAL, "__import__('sys').modules.__setitem__('left', 1)")
    assert call(processes, EVAL, "'left' in __import__('sys').modules") is False


@pytest.mark.parametrize(
    ("expression", "code", "says"),
    [
        ("sum(1 for _ in iter(int, 1))", "timeout", "0.3 s"),
        ("9**9**9", "timeout", "0.3 s"),  # in C, where no exception could reach it
        ("__import__('time').sleep(60)", "timeout", "0.3 s"),
        pytest.param("'a' * 10**9", "too_large", "64 MiB", marks=LINUX),
        pytest.param("len([0] * 10**9)", "too_large", "64 MiB", marks=LINUX),
        ("'a' * 10**5", "too_large", "10,000"),
        ("(lambda f: f(f))(lambda f: f(f))", "too_large", "nested"),
        ("1 / 0", "upstream", "ZeroDivisionError"),
        ("object()", "upstream", "TypeError"),
        ("exit(3)", "upstream", "SystemExit"),
        ("__import__('os')._exit(3)", "upstream", "exit code 3"),
        ("__import__('os').abort()", "upstream", "SIGABRT"),
        ("__import__('os').kill(__import__('os').getpid(), 9)", "upstream", "SIGKILL"),
        ("__import__('ctypes').string_at(0)", "upstream", "SIGSEGV"),
        (
            "__import__('tempfile').TemporaryFile()",
            "upstream",
            "No usable temporary directory",
        ),  # it may write no file
        ("[open('/dev/null') for _ in range(99)]", "upstream", "Too many open files"),
        (
            "__import__('os').write(int(__import__('sys').argv[1]), b'nonsense' * 9)",
            "upstream",
            "before it answered",
        ),
    ],
)
def test_what_goes_wrong_is_an_error(processes, expression, code, says):
    error = refusal(processes, EVAL, expression, limits=SHORT)
    assert (error.code, says in str(error)) == (code, True), error
    assert call(processes, "math:sqrt", 4) == 2  # and the next call finds all well


@pytest.mark.parametrize("expression", ["9**9**9", "__import__('time').sleep(60)"])
def test_what_is_late_ends_alone(processes, expression):
    """Its process, which has all imported, is there for the next."""
    before = call(processes, "os:getppid")
    assert refusal(processes, EVAL, expression, limits=SHORT).code == "timeout"
    assert call(processes, "os:getppid") == before


def test_who_does_not_stop_by_itself_is_killed_with_what_it_started(processes):
    """It ignores the signal that is to end it, so the whole group is killed from here."""
    expression = (
        "(lambda os, signal: (signal.signal(14, signal.SIG_IGN), os.setpgid, os.fork(), __import__('time').sleep(99)))"
        "(__import__('os'), __import__('signal'))"
    )
    before = call(processes, "os:getppid")
    assert refusal(processes, EVAL, expression, limits=SHORT).code == "timeout"
    assert is_gone(before)
    assert call(processes, "os:getppid") != before


async def test_it_is_killed_when_who_waits_is_cancelled():
    pool = Processes(1)
    server = await pool.call("os:getppid")
    waiting = asyncio.create_task(pool.call("time:sleep", 60, limits=Limits(seconds=50)))
    while pool._idle:  # noqa: ASYNC110 - until the call, in its thread, has the process
        await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await asyncio.to_thread(is_gone, server)
    assert await pool.call("os:getppid") != server
    pool.close()


async def test_who_waits_for_a_process_may_leave():
    pool = Processes(1)
    first = asyncio.create_task(pool.call("time:sleep", 0.3))
    await asyncio.sleep(0)
    second = asyncio.create_task(pool.call("time:sleep", 60, limits=Limits(seconds=50)))
    await asyncio.sleep(0)
    second.cancel()
    await first
    assert await pool.call("math:sqrt", 9) == 3
    pool.close()


async def test_as_many_calls_as_there_may_be_are_done_at_once():
    pool = Processes(2)
    assert await asyncio.gather(*(pool.call("math:sqrt", n * n) for n in range(6))) == [0, 1, 2, 3, 4, 5]
    assert 1 <= len(pool._idle) <= 2
    servers = [server._popen.pid for server in pool._idle]
    pool.close()
    assert all(map(is_gone, servers))


def test_it_has_none_of_our_environment(processes, monkeypatch):
    monkeypatch.setenv("REPRISE_SECRET", "canary")
    pool = Processes(1)
    found = call(pool, EVAL, "dict(__import__('os').environ)")
    pool.close()
    assert "canary" not in str(found)
    assert set(found) <= {"PATH", "LC_ALL", "PYTHONHASHSEED", "OPENBLAS_NUM_THREADS", "LC_CTYPE"}


@LINUX
def test_it_has_none_of_our_files(processes):
    with open(os.devnull, "rb"):
        found = call(
            processes, EVAL, "[__import__('os').readlink('/proc/self/fd/%d' % n) for n in (0, 1, 2)]"
        )
        count = call(processes, EVAL, "len(__import__('os').listdir('/proc/self/fd'))")
    assert found == [os.devnull] * 3
    assert count <= 6


def test_what_is_not_there_is_said(processes):
    assert "ModuleNotFoundError" in str(refusal(processes, "no_such_module:f"))
    assert "AttributeError" in str(refusal(processes, "math:no_such_function"))


def test_errors_of_tools_arrive_as_themselves(processes):
    error = refusal(processes, "reprise.tools.guards.arithmetic:evaluate", "1/0", None)
    assert error.code == "upstream"  # None is no algebra
    error = refusal(processes, "reprise.tools.library.mathematics.symbolic:solve", ["x +"], [], "real")
    assert (error.code, error.field) == ("invalid_input", "$.equation")


def test_a_fork_of_ours_begins_anew():
    pool = Processes(1)
    call(pool, "math:sqrt", 1)
    theirs = pool._idle[0]
    pool.forget()
    assert pool._idle == []
    os.kill(theirs._popen.pid, 9)  # it was not ended: it may serve the process that had it
    os.waitpid(theirs._popen.pid, 0)


def test_without_process_groups_it_is_unavailable(processes, monkeypatch):
    monkeypatch.delattr(os, "killpg")
    assert refusal(processes, "math:sqrt", 1).code == "unavailable"
