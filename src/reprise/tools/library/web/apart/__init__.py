"""What is done to documents of strangers, in a process that is killed when it takes too long.

Matching a selector may take time that doubles with each level of a page, and parsers written in C cannot be stopped. So the
modules of this folder are imported, and their functions called, by name in a process of its own (:func:`apart`); arguments and
results are JSON. They import their libraries at the top: the process imports them once, and each call finds them there.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar, cast

from reprise.tools.guards.process import PROCESSES, Limits

P = ParamSpec("P")
T = TypeVar("T")

LIMITS = Limits(seconds=20, memory=768 << 20, most=6 << 20)
_UNSEEN = re.compile(
    "[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b\u2028-\u202e\u2060-\u206f\ufeff\U000e0000-\U000e007f]"
)
"""Controls (among them those of terminals), changes of direction, tags: text may be hidden in these, or by them."""


async def apart(function: str, *arguments: Any) -> Any:
    """Call ``module:function`` of this folder in a process of its own. Raises ``ToolError``."""
    return await PROCESSES.call(f"{__name__}.{function}", *arguments, limits=LIMITS)


def visible(function: Callable[P, T]) -> Callable[P, T]:
    """Make a function leave characters out of what it returns that nobody sees, and models may read."""

    @wraps(function)
    def cleaned(*args: P.args, **kwargs: P.kwargs) -> T:
        return _visible(function(*args, **kwargs))

    return cleaned


def _visible(value: Any) -> Any:
    if isinstance(value, str):
        return _UNSEEN.sub("", value)
    if isinstance(value, list):
        return [_visible(each) for each in cast("list[Any]", value)]
    if isinstance(value, dict):
        return {name: _visible(each) for name, each in cast("dict[str, Any]", value).items()}
    return value
