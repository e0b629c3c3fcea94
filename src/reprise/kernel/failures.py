"""Exceptions as data, and back: what is caught before a restart is caught after it.

>>> decode_error(encode_error(KeyError("a")))
KeyError('a')
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterator
from importlib import import_module
from math import isfinite
from types import MemberDescriptorType
from typing import Any, TypeVar, cast

import msgspec

from reprise.kernel.errors import RepriseError, StepFailed
from reprise.kernel.events import ErrorValue
from reprise.kernel.shape import Misfit, check_plain, type_name

E = TypeVar("E", bound=BaseException)

_FRAMES = 3
_RECORDED = "__reprise_recorded__"
"""Where a decoded exception keeps the value it came from, so that it is encoded to the same again."""

_classes: dict[str, type[BaseException]] = {
    name: cls
    for name, cls in vars(builtins).items()
    if isinstance(cls, type) and issubclass(cls, BaseException) and cls.__name__ == name
}

_STANDARD = {
    "asyncio.exceptions": (
        "BrokenBarrierError",
        "IncompleteReadError",
        "InvalidStateError",
        "LimitOverrunError",
    ),
    "asyncio.queues": ("QueueEmpty", "QueueFull"),
    "binascii": ("Error",),
    "csv": ("Error",),
    "decimal": ("DivisionByZero", "InvalidOperation"),
    "http.client": ("BadStatusLine", "HTTPException", "IncompleteRead", "RemoteDisconnected"),
    "json.decoder": ("JSONDecodeError",),
    "socket": ("gaierror", "herror"),
    "sqlite3": ("DatabaseError", "IntegrityError", "OperationalError", "ProgrammingError"),
    "ssl": ("SSLCertVerificationError", "SSLError"),
    "subprocess": ("CalledProcessError", "TimeoutExpired"),
    "tarfile": ("ReadError", "TarError"),
    "tomllib": ("TOMLDecodeError",),
    "urllib.error": ("HTTPError", "URLError"),
    "xml.etree.ElementTree": ("ParseError",),
    "zipfile": ("BadZipFile",),
}
"""Exceptions of the standard library that arrive as themselves. A module is loaded when one of its errors is read; only
these are: data must not choose what is imported."""


def register_error(cls: type[E]) -> type[E]:
    """Make an exception class known, so that it arrives as itself and ``except`` finds it, also after a restart.

    Use it as a decorator where the class is defined. Built-in exceptions, the common ones of the standard library and
    all subclasses of ``RepriseError`` are known without it.
    """
    _classes[_error_name(cls)] = cls
    return cls


def encode_error(error: BaseException) -> ErrorValue:
    """Return an exception as data; never fails.

    Kept are the class's name, the message, ``args`` (JSON scalars as they are, others by ``repr``), attributes that
    are plain JSON, notes, the members of a group in their order, and the last three frames for people.
    """
    notes = [_text(note) for note in getattr(error, "__notes__", ())]
    recorded = vars(error).get(_RECORDED)
    if isinstance(recorded, ErrorValue):
        return msgspec.structs.replace(recorded, notes=notes)
    name, trace = _error_name(type(error)), _tail(error)
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        within = [encode_error(member) for member in group.exceptions]
        return ErrorValue(name, _text(group.message), notes=notes, within=within, traceback=trace)
    args = [_scalar(arg) for arg in error.args]
    state = {attribute: value for attribute, value in _attributes(error) if _is_plain(value)}
    return ErrorValue(name, _text(error), args, state, notes, traceback=trace)


Find = Callable[[str], type[BaseException] | None]
"""Returns the exception class of that full name, None when there is none."""


def decode_error(value: ErrorValue, find: Find | None = None) -> BaseException:
    """Return the exception that a value stands for, without running its constructor.

    A class that is not known here, nor to ``find``, arrives as ``StepFailed``, which encodes back to the same value.
    """
    cls = _error_class(value.type) or (find(value.type) if find is not None else None)
    if cls is None:
        error: BaseException = StepFailed(
            f"A step raised {value.type}: {value.message}",
            hint="Register that class with register_error to receive it as itself.",
        )
        vars(error).update(type=value.type, message=value.message)
    elif issubclass(cls, BaseExceptionGroup):
        error = _revive_group(cast("type[Any]", cls), value, find)
    else:
        error = _revive(cls, value)
    for note in value.notes:
        error.add_note(note)
    vars(error)[_RECORDED] = value
    return error


def _error_name(cls: type[BaseException]) -> str:
    if cls.__module__ == "builtins":
        return cls.__name__
    if issubclass(cls, RepriseError) and cls.__module__.startswith("reprise."):
        return f"reprise.{cls.__name__}"
    return f"{cls.__module__}.{cls.__qualname__}"


def with_texts(value: ErrorValue, change: Callable[[str], str]) -> ErrorValue:
    """Return an encoded exception with every text in it changed; its class and its numbers stay.

    >>> with_texts(encode_error(KeyError("ada", 7)), str.upper).args
    ['ADA', 7]
    """
    return ErrorValue(
        value.type,
        change(value.message),
        [_changed(item, change) for item in value.args],
        {name: _changed(item, change) for name, item in value.state.items()},
        [change(note) for note in value.notes],
        [with_texts(member, change) for member in value.within],
        change(value.traceback),
    )


def _changed(item: Any, change: Callable[[str], str]) -> Any:
    if isinstance(item, str):
        return change(item)
    if isinstance(item, list):
        return [_changed(each, change) for each in cast("list[Any]", item)]
    if isinstance(item, dict):
        return {name: _changed(each, change) for name, each in cast("dict[str, Any]", item).items()}
    return item


def _error_class(name: str) -> type[BaseException] | None:
    if name not in _classes:
        for cls in _descendants(RepriseError):
            _classes.setdefault(_error_name(cls), cls)
    if name not in _classes:
        module, _, attribute = name.rpartition(".")
        if attribute in _STANDARD.get(module, ()):
            _classes[name] = getattr(import_module(module), attribute)
    return _classes.get(name)


def _descendants(cls: type[RepriseError]) -> Iterator[type[RepriseError]]:
    yield cls
    for child in cls.__subclasses__():
        yield from _descendants(child)


def _revive(cls: type[BaseException], value: ErrorValue) -> BaseException:
    # The constructor may want other arguments than it left in ``args``; that of the built-in ancestor takes any.
    make: Any = next(c for c in cls.__mro__ if c.__module__ == "builtins").__new__
    try:
        error: BaseException = make(cls, *value.args)
    except (TypeError, ValueError):
        error = make(cls)
    error.args = tuple(value.args)
    if isinstance(error, UnicodeDecodeError):
        error.object = b""  # without it the interpreter prints nothing at all
    elif isinstance(error, UnicodeEncodeError | UnicodeTranslateError):
        error.object = ""
    for name, item in value.state.items():
        try:
            setattr(error, name, item)
        except (AttributeError, TypeError):
            vars(error)[name] = item
    return error


def _revive_group(cls: type[Any], value: ErrorValue, find: Find | None) -> BaseException:
    members = [decode_error(member, find) for member in value.within]
    make: Any = BaseExceptionGroup.__new__
    for kind in (cls, BaseExceptionGroup):
        try:
            return make(kind, value.message, members)
        except (TypeError, ValueError):
            continue  # a group of Exceptions must not hold a BaseException
    return StepFailed(value.message)


def _attributes(error: BaseException) -> Iterator[tuple[str, Any]]:
    for cls in type(error).__mro__:
        if cls is not BaseException:
            # Slots: those of a class, and those in which the interpreter keeps errno, filename, lineno and so on.
            for name in (n for n, d in vars(cls).items() if type(d) is MemberDescriptorType):
                if (value := getattr(error, name, None)) is not None:
                    yield name, value
    for name, value in vars(error).items():
        if not name.startswith("__"):
            yield name, value


def _is_plain(value: Any) -> bool:
    try:
        check_plain(value)
        msgspec.json.encode(value)
    except (Misfit, ValueError, RecursionError):
        return False
    return True


def _scalar(value: Any) -> Any:
    if value is None or type(value) in (bool, int) or (type(value) is float and isfinite(value)):
        return value
    return _text(value) if isinstance(value, str) else _text(value, repr)


def _text(value: Any, spell: Callable[[Any], str] = str) -> str:
    try:
        text = spell(value)
    except Exception as error:  # noqa: BLE001 - whatever a broken __str__ raises must not hide the error
        text = f"<{type_name(type(value))} whose text fails with {type(error).__name__}>"
    return text.encode("utf-8", "backslashreplace").decode()


def _tail(error: BaseException) -> str:
    frames: list[str] = []
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        frames.append(f"{code.co_filename}:{trace.tb_lineno} in {code.co_qualname}")
        trace = trace.tb_next
    return _text("\n".join(frames[-_FRAMES:]))


def brief(error: ErrorValue) -> str:
    """Return an error as one phrase: class and message."""
    name = error.type.rpartition(".")[2]
    return f"{name}: {error.message}" if error.message else name
