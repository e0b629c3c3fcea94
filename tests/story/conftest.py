"""The command line as a user meets it: a folder, a shell, processes."""

import io
import os
import signal
import subprocess
import sys
import threading
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from queue import Empty, Queue

import pytest

from reprise.cli.main import main

FLOW = '''
import asyncio, os, sys, time
from pathlib import Path
from neighbour import SQUARE
from reprise import Retry, progress, step, wait_for_signal, workflow

MARKS = Path("marks")
GATE = Path("gate")

def mark(text):
    with MARKS.open("a") as file:
        file.write(text + "\\n")

@step
async def square(n: int) -> int:
    mark(f"square {n}")
    return SQUARE(n)

@step(timeout=None)
def held(n: int) -> int:
    """Runs until somebody opens the gate."""
    mark(f"held {n}")
    print("held", n, flush=True)
    while not GATE.exists():
        time.sleep(0.01)
    return n

@step(retry=Retry(3))
async def shaky() -> str:
    mark("shaky")
    if MARKS.read_text().count("shaky") < 2:
        raise ConnectionError("no \\x1b]0;title\\x07 answer [bold]")
    progress(1, 2, "half")
    return "ok"

@step
async def broken() -> None:
    raise ValueError("broken \\x1b[2J on [red]purpose[/red]")

@workflow
async def squares(n: int = 3) -> list[int]:
    return list(await asyncio.gather(*(square(i) for i in range(n))))

@workflow
async def stair(n: int = 2) -> int:
    """Squares, then a step that is held, then one more."""
    first = await square(n)
    middle = await held(n)
    return first + middle + await square(100)

@workflow
async def fails() -> None:
    await broken()

@workflow
async def asks(days: int = 1) -> str:
    return await wait_for_signal("name", str, timeout=days * 86400)

@workflow
async def parent(n: int = 2) -> int:
    return sum(await squares(n)) + (0 if await shaky() else 1)
'''


class Started:
    """A process whose lines can be waited for."""

    def __init__(self, process):
        self.process = process
        self.lines = []
        self._queue = Queue()
        self._readers = [
            threading.Thread(target=self._read, args=(s,), daemon=True)
            for s in (process.stdout, process.stderr)
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream):
        for line in stream:
            self._queue.put(line.rstrip("\n"))

    def heard(self, text):
        """Wait until a line was said, be it before others that were waited for."""
        if not any(text in line for line in self.lines):
            self.wait_for(text)

    def wait_for(self, text, seconds=30):
        """Return the next line that contains a text."""
        while True:
            try:
                line = self._queue.get(timeout=seconds)
            except Empty:
                raise AssertionError(f"{text!r} was never said; said was: {self.lines}") from None
            self.lines.append(line)
            if text in line:
                return line

    def signal(self, number):
        self.process.send_signal(number)

    def ended(self, seconds=30):
        """Return the exit code; what was said is in ``lines``."""
        code = self.process.wait(seconds)
        for reader in self._readers:
            reader.join(5)
        while not self._queue.empty():
            self.lines.append(self._queue.get())
        for stream in (self.process.stdout, self.process.stderr):
            stream.close()
        return code


class Shell:
    """A folder with a flow in it, and ``reprise`` in that folder."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.started = []
        (folder / "flow.py").write_text(FLOW)
        (folder / "neighbour.py").write_text("def SQUARE(n): return n * n\n")
        kept = {
            k: v
            for k, v in os.environ.items()
            if not k.startswith("REPRISE_") and k not in ("NO_COLOR", "FORCE_COLOR")
        }
        self.environment = kept | {
            "HOME": str(folder),
            "XDG_CONFIG_HOME": str(folder / "config"),
            "PYTHONWARNINGS": "error",
        }
        self.environment |= {"COLUMNS": "100", "TERM": "xterm-256color"}

    def command(self, *arguments):
        return [sys.executable, "-m", "reprise", *map(str, arguments)]

    def __call__(self, *arguments, stdin="", **environment):
        """Run to the end."""
        return subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            env=self.environment | environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )

    def inside(self, *arguments, **environment):
        """Run to the end in this process: the same, without a second to start; for commands that load no flow."""
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            patch.chdir(self.folder)
            for name in [name for name in os.environ if name.startswith("REPRISE_")]:
                patch.delenv(name)
            for name, value in (self.environment | environment).items():
                patch.setenv(name, value)
            patch.setattr(sys, "argv", ["reprise", *map(str, arguments)])
            with pytest.raises(SystemExit) as exit:
                main()
        return subprocess.CompletedProcess(arguments, exit.value.code or 0, out.getvalue(), err.getvalue())

    def start(self, *arguments):
        """Start and go on."""
        process = subprocess.Popen(
            self.command(*arguments),
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.started.append(Started(process))
        return self.started[-1]

    def marks(self):
        path = self.folder / "marks"
        return path.read_text().splitlines() if path.exists() else []

    def open_gate(self):
        (self.folder / "gate").touch()

    def stop(self):
        """Kill what still runs."""
        for started in self.started:
            if started.process.poll() is None:
                os.killpg(started.process.pid, signal.SIGKILL)
                started.ended()


@pytest.fixture
def shell(tmp_path):
    """A folder to run ``reprise`` in."""
    shell = Shell(tmp_path)
    yield shell
    shell.stop()
