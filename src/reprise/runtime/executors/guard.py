"""A guard that outlives the worker by a moment: it kills the processes of steps, and whatever they started.

A worker that is killed cannot clean up. On Linux the kernel ends its processes with it, but not what those have started,
and elsewhere a process that is stopped, or in code that never lets go of the interpreter, would stay. The guard is a few
lines of shell that read which process groups there are, and kill them when the pipe from the worker ends.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from contextlib import suppress

_SHELL = "/bin/sh"
_SCRIPT = 'while read -r line; do groups=$line; done; for group in $groups; do kill -9 "-$group"; done'


class Guard:
    """The guard of one worker; without a shell there is none."""

    def __init__(self) -> None:
        self._shell: subprocess.Popen[bytes] | None = None
        with suppress(OSError):
            self._shell = subprocess.Popen(  # noqa: S603 - our own words, nobody else's
                [_SHELL, "-c", _SCRIPT],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                process_group=0,  # a Ctrl-C that is meant for the worker must not end it
                bufsize=0,
            )
            assert self._shell.stdin is not None
            os.set_blocking(self._shell.stdin.fileno(), False)  # who stops the guard must not stop us

    def tell(self, groups: Iterable[int]) -> None:
        """Say which process groups there are now."""
        if self._shell is not None and self._shell.stdin is not None:
            with suppress(OSError):
                self._shell.stdin.write(f"{' '.join(map(str, groups))}\n".encode())

    def close(self) -> None:
        """Let the guard end; nobody is there to be killed any more."""
        self.tell([])
        if self._shell is not None and self._shell.stdin is not None:
            with suppress(OSError):
                self._shell.stdin.close()
            self._shell.wait()
            self._shell = None
