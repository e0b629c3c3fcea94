"""What runs in the process of a step: read an order, do it, answer. Not imported by the worker.

The main thread does the calls. A second one gives signs of life, and ends the process, with whatever it has started, when
the worker is gone.
"""

from __future__ import annotations

import asyncio
import ctypes
import faulthandler
import inspect
import logging
import os
import resource
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager, suppress
from contextvars import ContextVar, copy_context
from math import ceil
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, cast

import msgspec

from reprise.kernel.arguments import Arguments
from reprise.kernel.codec import standard
from reprise.kernel.errors import ConfigurationError, MemoryExceeded, StepFailed
from reprise.kernel.events import ErrorValue, Progress
from reprise.kernel.policy import http_status, retry_after
from reprise.runtime.executors.frames import (
    LENGTH,
    LONGEST,
    Answer,
    Beat,
    Do,
    Frames,
    GivenForUndo,
    Hello,
    Load,
    Logged,
    Order,
    Quit,
    Raised,
    Ready,
    Returned,
    Spent,
    Told,
    Wrote,
    frame,
    read_order,
)
from reprise.runtime.executors.origins import MAIN, Origin, import_again, look_up
from reprise.runtime.host import STEP, Job
from reprise.runtime.intents import GIVEN
from reprise.runtime.payloads import Payloads
from reprise.runtime.step import function_of

LINUX = sys.platform.startswith("linux")
_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15
_STATM = Path("/proc/self/statm")
_RESIDENT, _DATA = 1, 5
"""Fields of ``statm``: pages in memory; pages that RLIMIT_DATA counts, and the stack."""


class Link:
    """Our end of the socket."""

    def __init__(self, end: socket.socket) -> None:
        self.frames = Frames()
        self._end = end
        self._lock = threading.Lock()

    def receive(self) -> Order | None:
        """Wait for an order; None when the worker is gone."""
        head = self._read(LENGTH)
        data = self._read(self.frames.size(head)) if head else b""
        return read_order(data) if data else None

    def _read(self, size: int) -> bytearray:
        data = bytearray(size)
        view, got = memoryview(data), 0
        while got < size:
            more = self._end.recv_into(view[got:])
            if not more:
                return bytearray()
            got += more
        return data

    def send(self, answer: Answer) -> None:
        """Send an answer; from any thread."""
        data = frame(answer)
        with self._lock:
            self._end.sendall(data)

    def is_cut(self, seconds: float) -> bool:
        """Wait so long; True when the worker is gone."""
        poll = select.poll()
        poll.register(self._end, 0)  # only whether the other end was closed
        return bool(poll.poll(seconds * 1000))


class Guest:
    """What a step here knows of its run: it stands where the worker has the job, the execution, its host and its purse."""

    def __init__(self, link: Link, order: Do) -> None:
        self._link = link
        self.execution = self.host = self.purse = self.step = self
        self.id = order.run
        self.work = order.work
        self.key = order.key
        self.name = order.step
        self.attempt = order.attempt
        self.pure = order.pure
        self.intent = order.intent
        self.intends = order.intent is not None
        self.undo = (order.intent.undo or None) if order.intent is not None else None
        self._payloads = Payloads(order.limit)

    def progress(self, run: str, progress: Progress) -> None:
        """Tell the worker how far the step is."""
        self._link.send(Told(progress.done, progress.total, progress.note[:LONGEST]))

    def wrote(self, stream: str, keep: int | None, chunk: bytes) -> None:
        """Hand the worker a chunk; waits while it takes no more."""
        self._payloads.within(chunk, "A chunk of stream {!r}", stream)
        self._link.send(Wrote(stream, keep, msgspec.Raw(chunk)))

    def said(self, key: str, amounts: dict[str, int | float]) -> None:
        """Tell the worker what the step costs."""
        self._link.send(Spent(amounts))

    def keep_undo(self, job: object, call: bytes) -> None:
        """Tell the worker what the step's undo is to be given."""
        self._payloads.within(call, GIVEN, self.name, self.key)
        self._link.send(GivenForUndo(msgspec.Raw(call)))


class LinkHandler(logging.Handler):
    """Hands log records to the worker, whose loggers see to them."""

    def __init__(self, link: Link) -> None:
        super().__init__()
        self._link = link
        self._formatter = logging.Formatter()

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record."""
        try:
            trace = self._formatter.formatException(record.exc_info) if record.exc_info else ""
            told = Logged(
                record.name,
                record.levelno,
                record.getMessage()[:LONGEST],
                record.pathname,
                record.lineno,
                record.funcName or "",
                record.created,
                (trace or record.exc_text or "")[-LONGEST:],
            )
            self._link.send(told)
        except Exception:
            self.handleError(record)


class Inside:
    """The process of a step."""

    def __init__(self, link: Link, hello: Hello) -> None:
        self._link = link
        self._beat = hello.beat
        self._busy = False
        self._stopping = False
        self._asked: Callable[[], object] | None = None
        """How the running call is asked to stop; None = by an exception in the main thread."""
        self._loaded: dict[Origin, tuple[Callable[..., Any], Arguments]] = {}

    def serve(self) -> None:
        """Do orders until told to quit."""
        signal.signal(signal.SIGTERM, self._terminate)
        threading.Thread(target=self._live, name="reprise-life", daemon=True).start()
        self._link.send(Ready())
        while not self._stopping:
            order = self._link.receive()
            if order is None or isinstance(order, Quit):
                return
            self._busy = True
            try:
                answer = self._load(order) if isinstance(order, Load) else self._do(cast("Do", order))
            finally:
                self._busy = False
            if not self._stopping:
                self._link.send(answer)

    # ---------------------------------------------------------------- orders

    def _load(self, order: Load) -> Answer:
        origin = order.origin
        try:
            found = look_up(origin, import_again(origin))
            if found is None:
                raise AttributeError(f"module {origin.module!r} has no {origin.name!r}")
            function = function_of(found)
            self._loaded[origin] = function, Arguments(function)
        except (Exception, SystemExit) as error:
            return Raised(as_value(error, Payloads()))
        return Ready()

    def _do(self, order: Do) -> Answer:
        self._link.send(Beat())  # from here on it may have happened
        function, arguments = self._loaded[order.origin]
        context = copy_context()
        try:
            context.run(STEP.set, cast("Job", Guest(self._link, order)))
            for variable in order.variables:
                context.run(_set, variable.module, variable.name, bytes(variable.value))
            args, kwargs = arguments.decode(bytes(order.call))
            with limited(order.memory, order.cpu):
                value = context.run(self._call, function, args, kwargs)
                data = standard.encoder(arguments.returns)(value)
            what = "The result of step {} ({})"
            data = Payloads(order.limit).within(data, what, order.step, order.key)
            return Returned(msgspec.Raw(data), held())
        except BaseException as error:
            return self._raised(order, error)

    def _raised(self, order: Do, error: BaseException) -> Raised:
        spoilt = isinstance(error, MemoryError)
        if spoilt and order.memory is not None:
            error.__traceback__ = None  # it holds what took the memory
            error = MemoryExceeded(
                f"Step {order.step} asked for more memory than its {order.memory:,} bytes.",
                hint="Give it more (memory=), or less to do at once.",
            )
        elif isinstance(error, SystemExit):
            error = StepFailed(
                f"Step {order.step} called sys.exit({error.code!r}).", hint="Raise an exception instead."
            )
        elif not isinstance(error, Exception | asyncio.CancelledError):
            error = StepFailed(f"Step {order.step} raised {type(error).__name__}: {error}")
        return Raised(as_value(error, Payloads(order.limit)), held(), spoilt)

    def _call(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        value = function(*args, **kwargs)
        if not inspect.iscoroutine(value):
            return value
        with asyncio.Runner() as runner:
            return runner.run(self._waited(cast("Coroutine[Any, Any, Any]", value)))

    async def _waited(self, calling: Coroutine[Any, Any, Any]) -> Any:
        task = asyncio.current_task()
        assert task is not None
        loop = asyncio.get_running_loop()
        self._asked = lambda: loop.call_soon_threadsafe(task.cancel)
        try:
            return await calling
        finally:
            self._asked = None

    # ---------------------------------------------------------------- life

    def _terminate(self, number: int, at: FrameType | None) -> None:
        """Let the running call clean up; after it we end."""
        self._stopping = True
        if self._asked is None:
            raise SystemExit(128 + number)
        self._asked()

    def _live(self) -> None:
        while not self._link.is_cut(self._beat):
            # Whoever needs all the memory there may be must not silence us.
            with suppress(MemoryError):
                if self._busy:
                    self._link.send(Beat())
        _end_group()


def _end_group() -> NoReturn:
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(1)


def _set(module: str, name: str, value: bytes) -> None:
    variable = vars(sys.modules[module]).get(name) if module in sys.modules else None
    if not isinstance(variable, ContextVar):
        raise ConfigurationError(
            f"The context variable {module}:{name} is not known in the process of the step.",
            hint="Define it in a module that the step's module imports.",
        )
    cast("ContextVar[Any]", variable).set(standard.decode(value))


def as_value(error: BaseException, payloads: Payloads) -> ErrorValue:
    """Return an error as data that the worker judges as it would judge the error itself.

    A status and a wish to wait may be in a response that cannot cross. Classes of the program have its name there.
    """
    value = payloads.failure(error)
    said = {"status_code": http_status(error) or None, "retry_after": retry_after(error)}
    state = {name: item for name, item in said.items() if item is not None} | value.state
    return _as_in_program(msgspec.structs.replace(value, state=state))


def _as_in_program(value: ErrorValue) -> ErrorValue:
    _, mark, name = value.type.partition(f"{MAIN}.")
    within = [_as_in_program(each) for each in value.within]
    return msgspec.structs.replace(value, type=f"__main__.{name}" if mark else value.type, within=within)


# ---------------------------------------------------------------- limits


@contextmanager
def limited(memory: int | None, cpu: float | None) -> Generator[None]:
    """Let what runs meanwhile take so many bytes and seconds of CPU beyond what the process has taken by now."""
    before: dict[int, tuple[int, int]] = {}
    if memory is not None and not LINUX:
        logging.getLogger("reprise").warning("memory= of a step is not kept: only Linux can")
    elif memory is not None:
        _lower(resource.RLIMIT_DATA, _pages(_DATA) + memory, before)
    if cpu is not None:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        _lower(resource.RLIMIT_CPU, ceil(usage.ru_utime + usage.ru_stime + cpu), before)
    try:
        yield
    finally:
        for kind, limits in before.items():
            resource.setrlimit(kind, limits)


def _lower(kind: int, to: int, before: dict[int, tuple[int, int]]) -> None:
    soft, hard = before[kind] = resource.getrlimit(kind)
    bounds = [bound for bound in (soft, hard) if bound != resource.RLIM_INFINITY]
    resource.setrlimit(kind, (min([to, *bounds]), hard))


def held() -> int:
    """Return the bytes of memory that this process has; where that is not told, the most that it ever had."""
    if LINUX:
        return _pages(_RESIDENT)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _pages(field: int) -> int:
    return int(_STATM.read_text().split()[field]) * resource.getpagesize()


# ---------------------------------------------------------------- beginning


def main(descriptor: int, worker: int) -> None:
    """Be the process of a step; ``descriptor`` is our end of a socket, ``worker`` the process id of its owner."""
    if LINUX:
        prctl = ctypes.CDLL(None).prctl
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        prctl(_PR_SET_NAME, b"reprise-step")
    if os.getppid() != worker:
        os._exit(1)  # it died before we said that we wish to die with it
    signal.signal(signal.SIGXCPU, signal.SIG_DFL)  # whatever the worker made of these
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGXCPU})
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    faulthandler.enable()  # so that a crash in C says where, on stderr
    link = Link(socket.socket(fileno=descriptor))
    hello = link.receive()
    if isinstance(hello, Hello):
        sys.argv[:] = hello.argv
        link.frames.most = hello.most
        for name, level in hello.levels.items():
            logging.getLogger(name).setLevel(level)
        logging.getLogger().addHandler(LinkHandler(link))
        Inside(link, hello).serve()
