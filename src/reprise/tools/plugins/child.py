"""Our end of one process of a plugin: begun, spoken to from threads of its own, killed with all it started."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from itertools import count
from pathlib import Path
from queue import SimpleQueue
from signal import SIGKILL, Signals

import msgspec

from reprise.kernel.errors import ToolError
from reprise.runtime.executors.frames import LENGTH, BrokenFrame, Frames
from reprise.runtime.executors.guard import Guard
from reprise.tools.plugins.orders import MOST, Ask, Failed, Load, Order, Raised, Ready, Returned, read_said

Answer = Returned | Raised
_SOURCE = """
import sys
sys.path[:] = sys.argv[1].split("\\n")
from reprise.tools.plugins.inside import main
main()
"""
_KEPT = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ")
"""Variables of the environment that say nothing of us."""


class Child:
    """One process. ``asked`` is told, in a thread, what it wants of us."""

    def __init__(self, load: Load, folder: str, asked: Callable[[Child, Ask], object]) -> None:
        self._name, self._asked = load.name, asked
        self._queue = SimpleQueue[bytes | None]()
        self._waiting: dict[int, Future[Answer]] = {}
        self._numbers = count(1)
        self._lock = threading.Lock()
        self._why = ""
        self.ready: Future[Ready | Failed] = Future()
        self._guard = Guard()
        self._popen = subprocess.Popen(  # noqa: S603 - this very interpreter
            [sys.executable, "-I", "-B", "-c", _SOURCE, "\n".join(_path())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=_stderr(),
            cwd=folder,
            env=_environment(os.environ, folder),
            process_group=0,
            bufsize=0,
        )
        self._guard.tell([self._popen.pid])
        self.send(load)
        for work in (self._write, self._read):
            threading.Thread(target=work, name=f"reprise-plugin-{self._name}", daemon=True).start()

    @property
    def pid(self) -> int:
        """Its process id, which is that of its group."""
        return self._popen.pid

    @property
    def is_there(self) -> bool:
        """Tell whether it can be given orders."""
        return not self._why

    # ---------------------------------------------------------------- speaking

    def send(self, order: Order) -> None:
        """Give an order; never blocks."""
        self._queue.put(msgspec.json.encode(order))

    def ask(self, make: Callable[[int], Order]) -> tuple[int, Future[Answer]]:
        """Give an order that is answered; return its number and the answer to come.

        Raises ``ToolError`` when the process has ended.
        """
        answer: Future[Answer] = Future()
        answer.set_running_or_notify_cancel()  # who waits may go; the answer comes all the same
        with self._lock:
            if self._why:
                raise self._gone()
            id = next(self._numbers)
            self._waiting[id] = answer
        self.send(make(id))
        return id, answer

    def is_waited_for(self, id: int) -> bool:
        """Tell whether an order has yet to be answered."""
        return id in self._waiting

    def kill(self, why: str) -> None:
        """End it at once, with whatever it started."""
        with self._lock:
            self._why = self._why or why
        self._signal()

    # ---------------------------------------------------------------- in threads

    def _write(self) -> None:
        assert self._popen.stdin is not None
        with suppress(OSError, ValueError), self._popen.stdin as pipe:
            while (data := self._queue.get()) is not None:
                left = memoryview(len(data).to_bytes(LENGTH, "big") + data)
                while left:
                    left = left[pipe.write(left) or 0 :]

    def _read(self) -> None:
        assert self._popen.stdout is not None
        frames, pipe = Frames(MOST), self._popen.stdout
        try:
            while data := pipe.read(1 << 20):
                for each in frames.feed(data):
                    self._take(each)
        except (BrokenFrame, msgspec.MsgspecError, OSError, RecursionError):
            self.kill("it wrote into what is ours")
        self._bury()

    def _take(self, data: bytes) -> None:
        said = read_said(data)
        if isinstance(said, Ready | Failed):
            if not self.ready.done():
                self.ready.set_result(said)
        elif isinstance(said, Ask):
            self._asked(self, said)
        elif (answer := self._waiting.pop(said.id, None)) is not None:
            answer.set_result(said)

    def _bury(self) -> None:
        """Find out how it ended, and say so to all who wait."""
        self._signal()  # its id is not free before we have waited for it: this meets what it started, and nobody else
        code = self._popen.wait()
        self._guard.close()
        self._queue.put(None)
        if self._popen.stdout is not None:
            self._popen.stdout.close()
        with self._lock:
            self._why = self._why or _how(code)
            waiting, self._waiting = self._waiting, {}
        if not self.ready.done():
            self.ready.set_result(Failed(f"its process ended: {self._why}"))
        for answer in waiting.values():
            answer.set_exception(self._gone())

    def _signal(self) -> None:
        if self._popen.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._popen.pid, SIGKILL)

    def _gone(self) -> ToolError:
        return ToolError(
            "upstream",
            f"The process of the plugin {self._name} ended: {self._why}.",
            hint="What was called may have happened. The next call begins it again.",
        )


def _how(code: int) -> str:
    return f"killed by {Signals(-code).name}" if code < 0 else f"exit code {code}"


def _path() -> list[str]:
    """Return where modules are found, without what depends on where a process stands."""
    return [each for each in sys.path if Path(each).is_absolute() and "\n" not in each]


def _environment(ours: Mapping[str, str], folder: str) -> dict[str, str]:
    kept = {name: ours[name] for name in _KEPT if name in ours}
    return kept | {"HOME": folder, "TMPDIR": folder}


def _stderr() -> int:
    try:
        os.fstat(2)
    except OSError:
        return subprocess.DEVNULL
    return 2
