"""Calling code that may never return, or end in any way."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from contextvars import copy_context
from typing import Any, Generic, TypeVar

from reprise.kernel.errors import ConfigurationError, RepriseError

T = TypeVar("T")
LONGEST = 500


class _Ended(Generic[T]):
    """How a call ended."""

    value: T
    failed = ""


def bounded(function: Callable[[], T], seconds: float, what: str) -> T:
    """Return what a function returns that may do anything: raise, leave the interpreter, or never return.

    It is called in a thread. One that takes longer is asked to end by an exception, which ends Python code that loops; what
    waits in C (a sleep, a socket) stays until that returns, in a thread that does not hold up the end of the process.

    Raises ``ConfigurationError``: ours as it is, of any other exception what it says.

    >>> bounded(lambda: 1 + 1, 10, "the sum")
    2
    """
    ended, done, around = _Ended[T](), threading.Event(), copy_context()

    def call() -> None:
        try:
            ended.value = around.run(function)
        except BaseException as error:  # noqa: BLE001 - also SystemExit: whatever a plugin raises is its failure
            ended.failed = said(error)
        done.set()

    thread = threading.Thread(target=call, name="reprise-plugin", daemon=True)
    thread.start()
    if not done.wait(seconds):
        _raise_in(thread)
        raise ConfigurationError(
            f"{what} took longer than {seconds:g} s.", hint="Its thread was asked to end and left behind."
        )
    if ended.failed:
        raise ConfigurationError(f"{what} failed: {ended.failed}")
    return ended.value


def said(error: BaseException) -> str:
    r"""Return what an error says on one line, whatever its class makes of that.

    >>> said(ValueError("two\nlines")), said(SystemExit(3))
    ('ValueError: two lines', 'SystemExit: 3')
    """
    try:
        text = str(error)
    except BaseException as another:  # noqa: BLE001 - a broken __str__ must not hide the error
        text = f"its text fails with {type(another).__name__}"
    text = " ".join("".join(c if c.isprintable() else " " for c in text[: 2 * LONGEST]).split())
    if len(text) > LONGEST:
        text = text[: LONGEST - 1] + "…"
    if isinstance(error, RepriseError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _raise_in(thread: threading.Thread) -> None:
    raiser: Any = ctypes.pythonapi.PyThreadState_SetAsyncExc
    raiser(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(SystemExit))
