"""Whether a value fits its declared type, and if not, where.

msgspec writes any value it knows without asking what was declared, so a datetime under ``Any`` would be written as a
string and come back as one, NaN as null, a subclass as its parent. A :class:`Shape` finds that before anything is
written. Shapes are compiled once per type, as closures over msgspec's own reading of the type; the common kinds are
told by a set look-up, so a fitting value costs little beside encoding it.

What fits
    - scalars: exactly the declared type; also an int where a float is declared (when the float is equal), and the
      str or int members of an Enum where str or int is declared. NaN and infinity fit nothing: JSON has no such number.
    - dataclasses, Structs, NamedTuples, enums: exactly the declared class (a subclass would come back as its parent)
    - containers: the declared builtin or what becomes it without loss of meaning (tuple for list, frozenset for set, a
      subclass of dict); they come back as declared
    - nothing declared (``Any``, ``object``): only what plain JSON gives back equal and of the same type
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from math import isfinite
from operator import attrgetter
from typing import Any, NamedTuple, cast
from uuid import UUID

import msgspec
from msgspec import inspect as node

Check = Callable[[Any], None]
"""Raises :class:`Misfit` when a value does not fit."""

_NONE = type(None)
_PLAIN = frozenset({str, int, bool, _NONE})
_STR = frozenset({str})
_NOTHING: frozenset[type] = frozenset()
_CONSTANT = (str, int, float, bytes, _NONE, date, time, timedelta, Decimal, UUID, Enum)
_EMPTY: tuple[object, ...] = ((), frozenset[Any]())
_MOST_SIGNATURES = 256
"""Combinations of the classes of a record's fields that are remembered."""
_DECLARE = "Declare the return type (or the type of the parameter), so that it is read back as what it is."


class Misfit(Exception):
    """Raised when a value does not fit; :attr:`path` is filled in on the way out, innermost part first."""

    def __init__(self, why: str, *, hint: str = "") -> None:
        super().__init__(why)
        self.why = why
        self.hint = hint
        self.path: list[str] = []

    def where(self) -> str:
        """Return the path of the misfit, such as ``$.items[3].when``."""
        return "$" + "".join(reversed(self.path))


class WrongKind(Misfit):
    """Raised when a value is of another kind altogether; in a union another member may fit."""


class Shape(NamedTuple):
    """What fits a type: values whose class is in ``exact`` do, others are asked by ``check``."""

    exact: frozenset[type]
    check: Check


def type_name(kind: Any) -> str:
    """Return how a type is written in messages.

    >>> type_name(int), type_name(list[int]), type_name(date)
    ('int', 'list[int]', 'datetime.date')
    """
    if isinstance(kind, type) and not getattr(kind, "__args__", ()):
        return (
            kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
        )
    return repr(kind).removeprefix("typing.")


def _item(key: object) -> str:
    return f".{key}" if isinstance(key, str) and key.isidentifier() else f"[{key!r}]"


# ---------------------------------------------------------------- nothing declared


def check_plain(value: Any) -> None:
    """Check that plain JSON gives ``value`` back equal and of the same type.

    >>> check_plain({"a": [1, 2.5, None]})
    >>> check_plain({"a": [1, (2, 3)]})
    Traceback (most recent call last):
    reprise.kernel.shape.Misfit: a tuple needs a declared type
    """
    kind = cast("type[Any]", type(value))
    if kind in _PLAIN:
        return
    if kind is float:
        _check_finite(value)
    elif kind is list:
        if not _PLAIN.issuperset(map(type, value)):
            _check_plain_items(enumerate(cast("list[Any]", value)))
    elif kind is dict:
        if not _STR.issuperset(map(type, value)):
            _check_plain_keys(value)
        if not _PLAIN.issuperset(map(type, value.values())):
            _check_plain_items(value.items())
    else:
        article = "an" if kind.__name__[0] in "aeiouAEIOU" else "a"
        raise Misfit(f"{article} {type_name(kind)} needs a declared type", hint=_DECLARE)


def _check_plain_keys(value: dict[Any, Any]) -> None:
    for key in value:
        if type(key) is not str:
            raise Misfit(
                f"the key {key!r} is a {type_name(type(key))}, and plain JSON has str keys", hint=_DECLARE
            )


def _check_plain_items(items: Iterable[tuple[object, Any]]) -> None:
    """Check each as ``check_plain`` does; most are no containers, and cost no call."""
    key = None
    try:
        for key, item in items:  # noqa: B007 - of the one that does not fit
            if type(item) not in _PLAIN and not (type(item) is float and isfinite(item)):
                check_plain(item)
    except Misfit as misfit:
        misfit.path.append(_item(key))
        raise


def _check_each(items: Iterable[tuple[object, Any]], check: Check) -> None:
    for key, item in items:
        try:
            check(item)
        except Misfit as misfit:
            misfit.path.append(_item(key))
            raise


PLAIN = Shape(_PLAIN, check_plain)


# ---------------------------------------------------------------- scalars


def _wrong(value: Any, declared: str) -> WrongKind:
    return WrongKind(f"{type_name(type(value))} where {declared} is declared")


def _check_finite(value: float) -> None:
    if not isfinite(value):
        raise Misfit(f"{value} has no JSON form; use None, or Decimal for numbers that may be NaN")


def _check_float(value: Any) -> None:
    if type(value) is int:
        try:
            if float(value) == value:
                return
        except OverflowError:
            pass
        raise Misfit(f"the int {value} has no equal float")
    if type(value) is not float:
        raise _wrong(value, "float")
    _check_finite(value)


def _check_datetime(value: Any) -> None:
    if type(value) is not datetime:
        raise _wrong(value, "datetime.datetime")
    _check_offset(value.utcoffset())


def _check_time(value: Any) -> None:
    if type(value) is not time:
        raise _wrong(value, "datetime.time")
    if value.tzinfo is not None and value.utcoffset() is None:
        raise Misfit("a time of day has no offset in that time zone; use a fixed offset, or a datetime")
    _check_offset(value.utcoffset())


def _check_offset(offset: timedelta | None) -> None:
    if offset is not None and offset % timedelta(minutes=1):
        raise Misfit(f"the UTC offset {offset} is not in whole minutes; use astimezone(UTC)")


def _check_decimal(value: Any) -> None:
    if type(value) is not Decimal:
        raise _wrong(value, "decimal.Decimal")
    if value.is_snan():
        raise Misfit("a signalling NaN cannot be read back")


def _exactly(kind: type) -> Shape:
    def check(value: Any) -> None:
        if type(value) is not kind and not (
            kind in (str, int) and isinstance(value, kind) and isinstance(value, Enum)
        ):
            raise _wrong(value, type_name(kind))

    return Shape(frozenset({kind}), check)


_SCALARS: dict[type[node.Type], Shape] = {
    node.AnyType: PLAIN,
    node.NoneType: _exactly(_NONE),
    node.BoolType: _exactly(bool),
    node.IntType: _exactly(int),
    node.StrType: _exactly(str),
    node.BytesType: _exactly(bytes),
    node.ByteArrayType: _exactly(bytearray),
    node.DateType: _exactly(date),
    node.TimeDeltaType: _exactly(timedelta),
    node.UUIDType: _exactly(UUID),
    node.RawType: _exactly(msgspec.Raw),
    node.FloatType: Shape(_NOTHING, _check_float),
    node.DateTimeType: Shape(_NOTHING, _check_datetime),
    node.TimeType: Shape(_NOTHING, _check_time),
    node.DecimalType: Shape(_NOTHING, _check_decimal),
}


# ---------------------------------------------------------------- compound types


def _literal(values: tuple[Any, ...]) -> Shape:
    known: set[tuple[type, Any]] = {(type(value), value) for value in values}

    def check(value: Any) -> None:
        if type(value) not in _PLAIN or (type(value), value) not in known:
            raise Misfit(f"{value!r} where one of {', '.join(map(repr, values))} is declared")

    return Shape(_NOTHING, check)


def _union(shapes: Sequence[Shape], declared: str) -> Shape:
    def check(value: Any) -> None:
        closest: Misfit = _wrong(value, declared)
        for shape in shapes:
            try:
                return shape.check(value)
            except Misfit as misfit:
                if misfit.path or not isinstance(misfit, WrongKind):
                    closest = misfit
        raise closest

    return Shape(frozenset[type]().union(*(s.exact for s in shapes)), check)


def _items(kinds: tuple[type, ...], declared: str, item: Shape) -> Shape:
    exact, check_item = item

    def check_unless_exact(each: Any) -> None:
        if type(each) not in exact:
            check_item(each)

    def check(value: Any) -> None:
        if not isinstance(value, kinds):
            raise _wrong(value, declared)
        if value and not exact.issuperset(map(type, value)):
            items = cast("Iterable[Any]", value)
            _check_each(enumerate(items), check_unless_exact if exact else check_item)

    return Shape(_NOTHING, check)


def _mapping(key: Shape, item: Shape) -> Shape:
    def check(value: Any) -> None:
        if not isinstance(value, dict):
            raise _wrong(cast("object", value), "dict")
        if not value:
            return
        entries = cast("dict[Any, Any]", value)
        if not key.exact.issuperset(map(type, entries)):
            _check_each(((k, k) for k in entries), key.check)
        if not item.exact.issuperset(map(type, entries.values())):
            _check_each(entries.items(), item.check)

    return Shape(_NOTHING, check)


def _sequence(kind: type, shapes: Sequence[Shape]) -> Shape:
    def check(value: Any) -> None:
        if type(value) is not kind:
            raise _wrong(value, type_name(kind))
        if len(value) != len(shapes):
            raise Misfit(f"{len(value)} items where {len(shapes)} are declared")
        for at, (item, (exact, check_item)) in enumerate(zip(value, shapes, strict=True)):
            if type(item) not in exact:
                _check_each([(at, item)], check_item)

    return Shape(_NOTHING, check)


class _Never:
    """Stands for the default of a field that has none, or one that does not fit."""


def _fits(default: Any, shape: Shape) -> bool:
    """Return whether a default fits, now and for ever: an object that can change has to be asked each time."""
    if not (isinstance(default, _CONSTANT) or any(default is empty for empty in _EMPTY)):
        return False
    try:
        return type(default) in shape.exact or shape.check(default) is None
    except Misfit:
        return False


def _record(kind: type, names: Sequence[str], shapes: Sequence[Shape], defaults: Sequence[Any]) -> Shape:
    fetch = attrgetter(*names) if len(names) > 1 else lambda value: tuple(getattr(value, n) for n in names)  # type: ignore[misc]
    checks = [shape.check for shape in shapes]
    fitting = [
        default if _fits(default, shape) else _Never for default, shape in zip(defaults, shapes, strict=True)
    ]
    asked: dict[tuple[type, ...], list[int]] = {}
    """Which fields have to be asked, by the classes of all: most values of a class have the same."""

    def look(classes: tuple[type, ...]) -> list[int]:
        odd = [
            n
            for n, each in enumerate(classes)
            if each not in shapes[n].exact and each is not msgspec.UnsetType
        ]
        if len(asked) < _MOST_SIGNATURES:
            asked[classes] = odd
        return odd

    def check(value: Any) -> None:
        if type(value) is not kind:
            raise _wrong(value, type_name(kind))
        items = fetch(value)
        classes = tuple(map(type, items))
        odd = asked.get(classes)
        for n in look(classes) if odd is None else odd:
            item = items[n]
            if item is fitting[n]:
                continue
            try:
                checks[n](item)
            except Misfit as misfit:
                misfit.path.append(_item(names[n]))
                raise

    return Shape(_NOTHING, check)


def _typed_dict(kind: type, fields: dict[str, Shape], required: frozenset[str]) -> Shape:
    def check(value: Any) -> None:
        if not isinstance(value, dict):
            raise _wrong(cast("object", value), type_name(kind))
        entries = cast("dict[Any, Any]", value)
        if missing := required - entries.keys():
            raise Misfit(f"{type_name(kind)} without {', '.join(sorted(missing))}")
        for name, item in entries.items():
            if name not in fields:
                raise Misfit(f"{type_name(kind)} has no key {name!r}")
            if type(item) not in fields[name].exact:
                _check_each([(name, item)], fields[name].check)

    return Shape(_NOTHING, check)


# ---------------------------------------------------------------- compiling


class Compiler:
    """Compile one type; ``custom`` gives the shape of classes that msgspec does not know.

    :attr:`bounded` is true afterwards when the type has bounds that only reading checks (``Meta(gt=0)``).
    """

    def __init__(self, custom: Callable[[type], Shape]) -> None:
        self.bounded = False
        self._custom = custom
        self._classes: dict[int, Shape] = {}

    def shape(self, declared: node.Type) -> Shape:
        """Return the shape of a type as msgspec reads it."""
        if any(getattr(declared, bound, None) is not None for bound in _BOUNDS):
            self.bounded = True
        if scalar := _SCALARS.get(type(declared)):
            return scalar
        match declared:
            case node.Metadata():
                return self.shape(declared.type)
            case node.CustomType():
                return self._custom(declared.cls)
            case node.EnumType():
                return _exactly(declared.cls)
            case node.LiteralType():
                return _literal(declared.values)
            case node.UnionType():
                return _union(
                    [self.shape(t) for t in declared.types], " | ".join(map(_spell, declared.types))
                )
            case node.DataclassType() | node.StructType() | node.NamedTupleType() | node.TypedDictType():
                return self._class(declared)
            case _:
                return self._container(declared)

    def _container(self, declared: node.Type) -> Shape:
        match declared:
            case node.ListType():
                return _items((list, tuple), "list", self.shape(declared.item_type))
            case node.SetType() | node.FrozenSetType():
                return _items((set, frozenset), "set", self.shape(declared.item_type))
            case node.VarTupleType():
                return _items((tuple,), "tuple", self.shape(declared.item_type))
            case node.TupleType():
                return _sequence(tuple, [self.shape(t) for t in declared.item_types])
            case node.DictType():
                return _mapping(self.shape(declared.key_type), self.shape(declared.value_type))
            case _:
                raise TypeError(f"{type(declared).__name__} is not supported")

    def _class(
        self, declared: node.DataclassType | node.StructType | node.NamedTupleType | node.TypedDictType
    ) -> Shape:
        # A class may contain itself: whoever asks again while it is compiled gets a shape that looks it up when used.
        known = self._classes.get(id(declared))
        if known is not None:
            return known

        def check(value: Any) -> None:
            self._classes[id(declared)].check(value)

        self._classes[id(declared)] = Shape(_NOTHING, check)
        kind = getattr(declared.cls, "__origin__", declared.cls)
        shapes = {field.name: self.shape(field.type) for field in declared.fields}
        if isinstance(declared, node.TypedDictType):
            made = _typed_dict(kind, shapes, frozenset(f.name for f in declared.fields if f.required))
        elif isinstance(declared, node.NamedTupleType):
            made = _sequence(kind, list(shapes.values()))
        else:
            defaults = [getattr(field, "default", msgspec.NODEFAULT) for field in declared.fields]
            made = _record(kind, list(shapes), list(shapes.values()), defaults)
        self._classes[id(declared)] = made
        return made


_BOUNDS = ("gt", "ge", "lt", "le", "multiple_of", "pattern", "min_length", "max_length", "tz")


def _spell(declared: node.Type) -> str:
    if isinstance(declared, node.NoneType):
        return "None"
    cls = getattr(declared, "cls", None)
    return type_name(cls) if cls is not None else type(declared).__name__.removesuffix("Type").lower()
