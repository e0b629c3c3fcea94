"""What runs in the process of :mod:`reprise.tools.guards.process`: it imports what it is asked for, and forks for each call.

A call that ends badly takes only its fork with it; the next one finds all imported, and nothing left of the last.
"""

from __future__ import annotations

import gc
import os
import resource
import signal
import socket
from importlib import import_module
from typing import Any

import msgspec

from reprise.kernel.errors import MissingExtra, ToolError
from reprise.runtime.executors.inside import limited

LENGTH = 4
"""Bytes in front of a frame: its length, big-endian."""
_FILES = 64


class Order(msgspec.Struct, frozen=True):
    """A function to call, and what it may take."""

    function: str
    arguments: list[Any]
    seconds: float
    memory: int
    most: int
    threads: bool


class Returned(msgspec.Struct, frozen=True, tag=True):
    """What it returned."""

    value: msgspec.Raw


class Refused(msgspec.Struct, frozen=True, tag=True):
    """The ``ToolError`` that it ended with."""

    code: str
    what: str
    hint: str = ""
    field: str = ""


class Died(msgspec.Struct, frozen=True, tag=True):
    """The fork ended before it answered: by a signal (negative) or with an exit code."""

    exit: int


Answer = Returned | Refused | Died


def main(descriptor: int) -> None:
    """Serve orders from a socket until its other end is closed."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for number in (signal.SIGALRM, signal.SIGXCPU):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM, signal.SIGXCPU})
    with socket.socket(fileno=descriptor) as end:
        while data := _received(end):
            _serve(end, msgspec.json.decode(data, type=Order))


def _serve(end: socket.socket, order: Order) -> None:
    try:
        module, _, name = order.function.partition(":")
        function = getattr(import_module(module), name)
    except MissingExtra as error:
        _send(end, Refused("unavailable", error.what, error.hint))
        return
    except Exception as error:  # noqa: BLE001 - whatever a module does when it is imported
        _send(
            end, Refused("upstream", f"{order.function} cannot be imported: {type(error).__name__}: {error}")
        )
        return
    gc.freeze()  # what is here already is looked at by no collection of the fork, and so stays shared
    fork = os.fork()
    if fork == 0:
        try:
            signal.setitimer(signal.ITIMER_REAL, order.seconds)
            answer = _done(function, order)
            signal.setitimer(signal.ITIMER_REAL, 0)  # half an answer would be worse than a late one
            _send(end, answer)
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(fork, 0)
    if (code := os.waitstatus_to_exitcode(status)) != 0:
        _send(end, Died(code))


def _done(function: Any, order: Order) -> Answer:
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_FILES, _FILES))
    if not order.threads:  # they count as processes
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    try:
        with limited(order.memory, order.seconds):
            data = msgspec.json.encode(function(*order.arguments))
    except ToolError as error:
        return Refused(error.code, error.what, error.hint, error.field)
    except MissingExtra as error:
        return Refused("unavailable", error.what, error.hint)
    except MemoryError:
        return Refused("too_large", f"It needs more memory than {order.memory >> 20} MiB.", "Ask for less.")
    except RecursionError:
        return Refused("too_large", "It is nested too deeply.", "Ask for less.")
    except BaseException as error:  # noqa: BLE001 - it ends here, whatever it is
        return Refused("upstream", f"{type(error).__name__}: {error}"[:1_000])
    if len(data) > order.most:
        return Refused(
            "too_large",
            f"The result is {len(data):,} bytes; {order.most:,} may be returned.",
            "Ask for less.",
        )
    return Returned(msgspec.Raw(data))


def _received(end: socket.socket) -> bytes:
    head = _exactly(end, LENGTH)
    return _exactly(end, int.from_bytes(head, "big")) if head else b""


def _exactly(end: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        more = end.recv(min(size - len(data), 1 << 20))
        if not more:
            return b""
        data += more
    return bytes(data)


def _send(end: socket.socket, answer: Answer) -> None:
    data = msgspec.json.encode(answer)
    end.sendall(len(data).to_bytes(LENGTH, "big") + data)
