"""Where a function comes from, so that another interpreter finds the same one.

By module and name. The program that was started (``__main__``) is found by its file: it is imported under another name,
so that what stands under ``if __name__ == "__main__":`` does not run again.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from functools import reduce
from importlib import import_module
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from types import ModuleType
from typing import Any

import msgspec

from reprise.kernel.errors import ConfigurationError

MAIN = "__mp_main__"
"""The name that the program has in a process; that of ``multiprocessing``, for which some programs look."""

_importing: list[str] = []


class Origin(msgspec.Struct, frozen=True):
    """Module, file ('' = none is known) and name of a function; ``package`` is that of a program begun with ``-m``."""

    module: str
    file: str
    name: str
    package: str = ""


def check_importable(function: Callable[..., Any], step: str) -> None:
    """Raise ``ConfigurationError`` for a function that another interpreter cannot find, as far as it can be told."""
    name: str = getattr(function, "__qualname__", "")
    if getattr(function, "__self__", None) is not None and not isinstance(function.__self__, ModuleType):  # type: ignore[attr-defined]
        why = "is bound to an object, which stays here"
    elif not name:
        why = "has no name"
    elif "<lambda>" in name:
        why = "is a lambda"
    elif "<locals>" in name:
        why = "is defined inside of a function"
    else:
        return
    raise ConfigurationError(
        f"Step {step} cannot execute in a process: {name or repr(function)} {why}, so a process cannot import it.",
        hint="Define it with def at the top level of a module, and hand it what it needs as arguments.",
    )


def origin_of(function: Callable[..., Any], step: str) -> Origin:
    """Return where a function comes from.

    Raises:
        ConfigurationError: it belongs to a program without a file, such as a prompt.
    """
    module = sys.modules.get(function.__module__)
    file = getattr(module, "__file__", None) or ""
    if function.__module__ != "__main__":
        return Origin(function.__module__, file, function.__qualname__)
    if not file:
        raise ConfigurationError(
            f"Step {step} cannot execute in a process: its program has no file (a prompt, -c, or a notebook).",
            hint="Put the step into a module and import it.",
        )
    spec = getattr(module, "__spec__", None)
    return Origin("__main__", file, function.__qualname__, spec.parent or "" if spec is not None else "")


def look_up(origin: Origin, module: ModuleType | None) -> Any:
    """Return what a module has under the name of an origin, None where there is nothing."""
    with suppress(AttributeError):
        return reduce(getattr, origin.name.split("."), module)
    return None


def import_again(origin: Origin) -> ModuleType:
    """Import the module of an origin in this interpreter; raises whatever the import raises.

    A module that is found elsewhere, or not at all, is made from the file that it has where the origin was taken.
    """
    known = sys.modules.get(origin.module)
    if origin.module == "__main__":
        return known if known is not None and known.__name__.endswith(MAIN) else _import_program(origin)
    if known is not None:
        return known
    _importing.append(origin.module)
    try:
        if not origin.file or _file_of(origin.module) == origin.file:
            return import_module(origin.module)
        return _from_file(origin.module, origin.file, (origin.module,))
    finally:
        _importing.pop()


def _import_program(origin: Origin) -> ModuleType:
    name = f"{origin.package}.{MAIN}" if origin.package else MAIN
    _importing.append("__main__")
    try:
        return _from_file(name, origin.file, (name, MAIN, "__main__"))
    finally:
        _importing.pop()


def _file_of(module: str) -> str | None:
    with suppress(ImportError, ValueError):
        spec = find_spec(module)
        return spec.origin if spec is not None else None
    return None


def _from_file(name: str, file: str, names: tuple[str, ...]) -> ModuleType:
    spec = spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is no Python file")
    module = module_from_spec(spec)
    before = {each: sys.modules.get(each) for each in names}
    sys.modules.update(dict.fromkeys(names, module))
    try:
        spec.loader.exec_module(module)
    except BaseException:
        for each, was in before.items():
            sys.modules.pop(each)
            if was is not None:
                sys.modules[each] = was
        raise
    return module


def check_not_importing() -> None:
    """Raise ``ConfigurationError`` in a process that is importing the program: it must not run the program again."""
    if _importing:
        raise ConfigurationError(
            f"Importing {_importing[0]} in a process of a step opens Reprise: the program would run again.",
            hint='Put what the program does under: if __name__ == "__main__":',
        )
