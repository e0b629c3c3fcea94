"""Steps that execute in processes. In a module of their own, because a process imports them."""

import asyncio
import ctypes
import logging
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from reprise import Retry, current_step, progress, register_error, spend, step, workflow

TENANT: ContextVar[str] = ContextVar("tenant", default="nobody")


@dataclass
class Order:
    """Something that plain JSON does not give back."""

    number: int
    due: date


@step(executor="process")
def postponed(order: Order, *, days: int = 1) -> Order:
    return Order(order.number, date.fromordinal(order.due.toordinal() + days))


@step(executor="process")
async def pid_of() -> int:
    await asyncio.sleep(0)
    return os.getpid()


@step(executor="process")
def pid_and_wait(path: Path) -> int:
    until_exists(path)
    return os.getpid()


def until_exists(path: Path) -> None:
    """Wait for a file, in the process of a step or in a test's thread."""
    while not path.exists():
        time.sleep(0.002)


def say_pid(path: Path, number: int | None = None) -> None:
    """Write a process id so that nobody reads half of it."""
    half = path.with_suffix(".half")
    half.write_text(str(number or os.getpid()))
    half.rename(path)


@step(executor="process")
def echoed(text: str) -> str:
    return text


@step(executor="process")
def doubled(text: str) -> str:
    return text + text


@step(executor="process")
def anything(value: object) -> object:
    return value


@step(executor="process")
async def about_itself() -> dict[str, str]:
    now = current_step()
    progress(1, 2, "half of it")
    logging.getLogger("shop").info("packing %s", now.name)
    logging.getLogger("shop").debug("not wanted")
    try:
        raise KeyError("lost")
    except KeyError:
        logging.getLogger("shop").exception("and a trace")
    return {
        "run": now.run,
        "key": now.key,
        "attempt": str(now.attempt),
        "idempotency": now.idempotency_key,
        "tenant": TENANT.get(),
    }


@step(executor="process")
def paying() -> None:
    spend(tokens=30, usd=0.5)
    spend(tokens=12)


# ---------------------------------------------------------------- errors


class Unregistered(ValueError):
    """A class of our own."""


@register_error
class Declined(Exception):
    """One that arrives as itself."""


class Response:
    """What an HTTP client hangs on its errors; it cannot cross."""

    def __init__(self, status: int, headers: dict[str, str] | None = None) -> None:
        self.status_code = status
        self.headers = headers or {}


class HttpError(Exception):
    """An error with a response."""

    def __init__(self, response: Response) -> None:
        super().__init__(f"status {response.status_code}")
        self.response = response


def fail(what: str) -> None:
    """Raise what is asked for."""
    if what == "unregistered":
        raise Unregistered("no", 7)
    if what == "declined":
        raise Declined("card")
    if what == "http":
        raise HttpError(Response(404))
    if what == "busy":
        raise HttpError(Response(503, {"Retry-After": "0.001"}))
    if what == "exit":
        sys.exit(3)
    if what == "group":
        raise ExceptionGroup("both", [Declined("a"), KeyError("b")])
    if what == "long":
        raise ValueError("x" * 300_000)
    raise AssertionError(what)


@step(executor="process", retry=Retry(3, backoff=0))
def failing(what: str, path: Path) -> None:
    with path.open("a") as tries:
        tries.write(f"{current_step().attempt}\n")
    fail(what)


# ---------------------------------------------------------------- ends


@step(executor="process")
def killed(number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(60)


@step(executor="process", idempotent=True, retry=Retry(2, backoff=0))
def killed_at_first() -> int:
    if current_step().attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return current_step().attempt


@step(executor="process", idempotent=True, retry=Retry(100, backoff=0))
def taking_its_time(n: int) -> int:
    time.sleep(0.01)
    return n


@step(executor="process")
def leaving(code: int) -> None:
    os._exit(code)


@step(executor="process", memory="150MB")
def taking(megabytes: int) -> int:
    return len(bytearray(megabytes * 1_000_000)) // 1_000_000


@step(executor="process")
def taking_freely(megabytes: int) -> int:
    return len(bytearray(megabytes * 1_000_000)) // 1_000_000


_kept: list[bytearray] = []


@step(executor="process")
def hoarding(megabytes: int) -> int:
    _kept.append(bytearray(b"x") * (megabytes * 1_000_000))
    return os.getpid()


@step(executor="process", cpu=1, timeout=50)
def burning() -> None:
    while True:
        pass


@step(executor="process")
def stuck(path: Path) -> None:
    say_pid(path)
    re.match(r"(a+)+$", "a" * 64 + "b")  # never lets go of the interpreter


@step(executor="process", timeout=30, retry=Retry(1))
def growing(path: Path) -> None:
    """Do work that can be seen from outside."""
    say_pid(path.with_suffix(".pid"))
    with path.open("a", buffering=1) as file:
        while True:
            file.write("more\n")
            time.sleep(0.001)


@step(timeout=30, retry=Retry(1))
def growing_in_a_thread(path: Path) -> None:
    with path.open("a", buffering=1) as file:
        while not path.with_suffix(".stop").exists():
            file.write("more\n")
            time.sleep(0.001)


@step(executor="process")
def marking(path: Path) -> int:
    """Write who works here, until told that it is enough."""
    with path.open("a", buffering=1) as file:
        while not path.with_suffix(".enough").exists():
            file.write(f"{os.getpid()}\n")
            time.sleep(0.001)
    return os.getpid()


@workflow
async def marked(path: Path) -> int:
    return await marking(path)


@step(executor="process", timeout=1, retry=Retry(2, backoff=0))
def late(path: Path) -> int:
    if current_step().attempt == 2:
        return 2
    growing.function(path)
    return 1


@step(executor="process")
def tidy(path: Path) -> None:
    try:
        say_pid(path.with_suffix(".pid"))
        time.sleep(60)
    finally:
        path.write_text("cleaned up")


@step(executor="process")
async def tidy_async(path: Path) -> None:
    try:
        say_pid(path.with_suffix(".pid"))
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        await asyncio.sleep(0.001)
        path.write_text("cleaned up")  # noqa: ASYNC240
        raise


@step(executor="process")
async def tidy_at_work(path: Path) -> None:
    """Be at work nearly all the time; only where it awaits is it told to stop."""
    try:
        say_pid(path.with_suffix(".pid"))
        while True:
            time.sleep(0.05)  # noqa: ASYNC251
            await asyncio.sleep(0)
    except asyncio.CancelledError:
        path.write_text("cleaned up")  # noqa: ASYNC240
        raise


@step(executor="process")
def what_ends_it() -> tuple[int, str]:
    """Return the signal that the kernel sends when our parent ends, and what the process is called."""
    number = ctypes.c_int()
    ctypes.CDLL(None).prctl(2, ctypes.byref(number))  # PR_GET_PDEATHSIG
    return number.value, Path("/proc/self/comm").read_text().strip()


@step(executor="process")
def obstinate(path: Path) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    say_pid(path.with_suffix(".pid"))
    while True:
        time.sleep(1)


@step(executor="process")
def with_children(folder: Path, escaping: bool = False) -> None:
    """Start a program, and one that leaves our group, then wait for ever."""
    child = subprocess.Popen(["sleep", "300"], close_fds=False)
    say_pid(folder / "child.pid", child.pid)
    if escaping:
        other = subprocess.Popen(["sleep", "300"], start_new_session=True)
        say_pid(folder / "other.pid", other.pid)
    say_pid(folder / "step.pid")
    time.sleep(300)


@step(executor="process")
def babbling() -> None:
    for number in range(3, 64):
        try:
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                socket.socket(fileno=os.dup(number)).sendall(b"\0\0\0\5hello")
        except OSError:
            continue
    time.sleep(60)


@step(executor="process", timeout=0.5)
def brief() -> str:
    return "done"


def plain(n: int) -> int:
    """Stay a function: the step has another name."""
    return n + 1


renamed = step(executor="process", name="other")(plain)


class Kitchen:
    """A name within a name."""

    @staticmethod
    @step(executor="process")
    def cook(n: int) -> int:
        return n * 2

    @step(executor="process")
    def bound(self) -> None: ...
