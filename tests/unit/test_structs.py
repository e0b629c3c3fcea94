"""Values that the collector does not look into must not be able to close a circle."""

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any, get_type_hints

import msgspec

import reprise


def structs() -> Iterator[type[msgspec.Struct]]:
    """Yield all structs of the package."""
    for module in pkgutil.walk_packages(reprise.__path__, "reprise."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    pending = [msgspec.Struct]
    while pending:
        for cls in pending.pop().__subclasses__():
            pending.append(cls)
            if cls.__module__.startswith("reprise."):
                yield cls


def may_hold_anything(hint: Any) -> bool:
    """Return whether a value of that type may lead to what holds it: errors (by their traceback), callables, anything."""
    if hint is Any or (getattr(hint, "__module__", "") == "collections.abc" and "Callable" in str(hint)):
        return True
    if isinstance(hint, type) and issubclass(hint, BaseException):
        return True
    return any(may_hold_anything(part) for part in getattr(hint, "__args__", ()) if part is not Ellipsis)


def test_what_the_collector_passes_over_is_plain_data():
    """Else a refused append would keep its error, that the frames it passed, and those the append, for ever."""
    seen = [cls for cls in structs() if not cls.__struct_config__.gc]
    wrong = [
        f"{cls.__module__}.{cls.__qualname__}.{name}: {hint}"
        for cls in seen
        for name, hint in get_type_hints(cls).items()
        if may_hold_anything(hint)
    ]
    assert not wrong, "\n".join(wrong)
    assert len(seen) > 8
