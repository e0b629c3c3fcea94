"""Schemas that a stranger wrote: checked with so much work and no more.

A schema can be made so that checking it never ends: patterns that backtrack, references that branch without end. So patterns
are left to whoever wrote them, references lead nowhere outside of the schema, and the steps of one check are counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from functools import cached_property
from typing import Any, cast

import msgspec
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError
from jsonschema.validators import extend  # pyright: ignore[reportUnknownVariableType]
from referencing import Registry
from referencing.exceptions import Unresolvable

from reprise.kernel.codec import standard
from reprise.kernel.errors import ToolError
from reprise.tools.guards.schemas import (
    bounded,
    comparing,
    keywords_of,
    unchecked,
    validator_of,
    without_dialects,
)
from reprise.tools.signature import Schemed

MAX_STEPS = 200_000
"""Keywords that are looked at in one check; a reference counts as ten. About a second at most."""
MAX_SCHEMA = 256 << 10
"""Bytes of a schema."""
CONTEXT = "\0context"
"""Name of the argument in which a function gets its context; no argument of a server can be called so."""
_LEFT: ContextVar[list[int]] = ContextVar("reprise_mcp_steps")
_UNCHECKED = ("pattern", "patternProperties", "format", "$dynamicRef")

_extend = cast("Callable[[Any, Any], Any]", extend)
_NOTHING_ELSE: Any = cast("Any", Registry)()
"""Schemas that references may lead to beside the one they stand in."""

_Keyword = Callable[[Any, Any, Any, Any], Iterator[ValidationError] | None]


class _Endless(Exception):
    """The steps are used up."""


class Foreign(Schemed):
    """A signature of JSON schemas in draft 2020-12 that somebody else wrote."""

    def __init__(self, parameters: Mapping[str, Any], returns: Mapping[str, Any] | None = None) -> None:
        super().__init__(parameters, returns)
        self.context = CONTEXT

    def read(self, data: bytes) -> dict[str, Any]:
        """Return the arguments; raises ``ToolError``."""
        given = msgspec.json.decode(data, type=dict[str, Any])
        if fault := _fault(self._parameters, given):
            where, what = fault
            raise ToolError("invalid_input", f"{what}, at {where}.", field=where)
        return given

    def write(self, value: Any) -> bytes:
        """Return a result as JSON; that it fits was checked (:meth:`check`)."""
        return standard.encode(value)

    def check(self, value: Any) -> None:
        """Raise ``ToolError`` for a result that is not what the server declares; for a thread, as it may take a second."""
        if self.returns and (fault := _fault(self._returns, value)):
            where, what = fault
            raise ToolError(
                "upstream", f"The result is not what the server says it returns: {what}, at {where}."
            )

    @cached_property
    def _parameters(self) -> Any:
        return _validator(self.parameters)

    @cached_property
    def _returns(self) -> Any:
        return _validator(self.returns)


def _spend(cost: int) -> None:
    left = _LEFT.get()
    left[0] -= cost
    if left[0] < 0:
        raise _Endless


def _closed(keyword: _Keyword) -> _Keyword:
    """Return what forbids other properties, but not where patterns would say which others there may be."""

    def check(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError] | None:
        return None if "patternProperties" in schema else keyword(validator, value, instance, schema)

    return check


def _bounded(*, leaves_over: bool) -> Any:
    known = Draft202012Validator.VALIDATORS | comparing(ValidationError, _spend)
    known["additionalProperties"] = _closed(known["additionalProperties"])
    left_out = _UNCHECKED if leaves_over else (*_UNCHECKED, "unevaluatedProperties", "unevaluatedItems")
    return _extend(Draft202012Validator, bounded(known | dict.fromkeys(left_out, unchecked), _spend))


_Bounded = _bounded(leaves_over=True)
_Open = _bounded(leaves_over=False)
"""Without what is left over by patterns, which the library would match itself."""


def _validator(schema: Mapping[str, Any]) -> Any:
    try:
        plain = without_dialects(schema)
        kind = _Open if "patternProperties" in keywords_of(plain) else _Bounded
        return validator_of(kind, plain, _NOTHING_ELSE)
    except (RecursionError, Unresolvable, TypeError, ValueError, KeyError, AttributeError) as error:
        raise ToolError("upstream", f"The schema of the server's tool is broken: {error}") from error


def _fault(validator: Any, value: Any) -> tuple[str, str] | None:
    """Return where a value does not fit, and how; None = it fits, or the schema cannot be followed."""
    _LEFT.set([MAX_STEPS])
    try:
        found: ValidationError | None = next(validator.iter_errors(value), None)
    except (_Endless, RecursionError):
        raise ToolError("upstream", "The schema of the server's tool takes too long to check.") from None
    except (Unresolvable, SchemaError, TypeError, ValueError, KeyError, AttributeError) as error:
        raise ToolError("upstream", f"The schema of the server's tool is broken: {error}") from error
    return None if found is None else (found.json_path, found.message[:500])
