"""Arguments of a function as data: by the types its parameters declare.

>>> from datetime import date
>>> def remind(who: str, *, on: date = date.max) -> bool: ...
>>> arguments = Arguments(remind)
>>> arguments.encode(("Ada",), {"on": date(2026, 2, 1)})
b'[["Ada"],{"on":"2026-02-01"}]'
>>> arguments.decode(_)
(('Ada',), {'on': datetime.date(2026, 2, 1)})
>>> arguments.bind_mapping({"who": "Ada", "on": "2026-02-01"})
((), {'who': 'Ada', 'on': datetime.date(2026, 2, 1)})
"""

from __future__ import annotations

import typing
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from functools import cached_property
from hashlib import blake2b
from pathlib import PurePath
from types import SimpleNamespace
from typing import Any, TypeVar, cast

import msgspec

from reprise.kernel.codec import Codec, standard
from reprise.kernel.errors import CodecError, ConfigurationError, unknown_option
from reprise.kernel.shape import type_name

_VAR_POSITIONAL, _VAR_KEYWORD = 0x04, 0x08
"""Bits of ``code.co_flags``."""

T = TypeVar("T")

_DEPTH = 5
_read_call = msgspec.json.Decoder(tuple[list[msgspec.Raw], dict[str, msgspec.Raw]]).decode


class Parameters(typing.NamedTuple):
    """Names of a function's parameters; ``rest`` and ``options`` are the names of ``*args`` and ``**kwargs``."""

    positional_only: tuple[str, ...]
    positional: tuple[str, ...]
    """All that can be given by position, those of ``positional_only`` first."""
    keyword_only: tuple[str, ...]
    required: frozenset[str]
    rest: str = ""
    options: str = ""


class Arguments:
    """The parameters of one function, and calls of it as data.

    Annotations are resolved when first needed, because they may name what is defined later in the module. One that
    cannot be resolved (a class local to a function, under ``from __future__ import annotations``) counts as not
    declared. Of a bound method, ``self`` is no parameter; nor are the first ``given`` ones, which no caller passes.
    """

    def __init__(self, function: Callable[..., Any], codec: Codec = standard, *, given: int = 0) -> None:
        self.name: str = getattr(function, "__qualname__", type(function).__qualname__)
        # What a decorator wrapped says more than the decorator's own *args.
        while hasattr(function, "__wrapped__"):
            function = cast("Any", function).__wrapped__
        self.function = function
        self._codec = codec
        self._given = given

    # -------------------------------------------------------- what is declared

    @cached_property
    def parameters(self) -> Parameters:
        """Names of the parameters; of a callable without Python code, ``*args`` and ``**kwargs``."""
        function: Any = getattr(self.function, "__func__", self.function)
        code = getattr(function, "__code__", None)
        if code is None:
            return Parameters((), (), (), frozenset(), "args", "kwargs")
        names, count = code.co_varnames, code.co_argcount
        bound = self._given + (function is not self.function)
        last = count + code.co_kwonlyargcount
        optional = {
            *names[count - len(function.__defaults__ or ()) : count],
            *(function.__kwdefaults__ or ()),
        }
        rest = names[last] if code.co_flags & _VAR_POSITIONAL else ""
        return Parameters(
            names[bound : code.co_posonlyargcount],
            names[bound:count],
            names[count:last],
            frozenset(names[bound:last]) - optional,
            rest,
            names[last + bool(rest)] if code.co_flags & _VAR_KEYWORD else "",
        )

    @cached_property
    def types(self) -> dict[str, Any]:
        """Declared types by parameter, and of ``return``; names without one are absent."""
        function: Any = getattr(self.function, "__func__", self.function)
        try:
            return typing.get_type_hints(function, include_extras=True)
        except Exception:  # noqa: BLE001 - an annotation may be any expression, and may raise anything
            return {
                name: hint
                for name in function.__annotations__
                if (hint := _resolve(function, name)) is not Any
            }

    @cached_property
    def unresolved(self) -> frozenset[str]:
        """Names whose annotation could not be resolved and counts as not declared."""
        annotated: Mapping[str, Any] = getattr(self.function, "__annotations__", {})
        return frozenset(
            name for name in annotated if name not in self.types and annotated[name] not in (Any, "Any")
        )

    @cached_property
    def returns(self) -> Any:
        """Declared return type, ``Any`` where none is; of ``Awaitable[X]`` it is X."""
        declared = self.types.get("return", Any)
        if typing.get_origin(declared) in (Awaitable, Coroutine):
            declared = typing.get_args(declared)[-1]
        return Any if declared in (typing.NoReturn, typing.Never) else declared

    # -------------------------------------------------------- a call as bytes

    def encode(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
        """Return ``[[…],{…}]``, each argument by its parameter's type.

        Raises ``TypeError`` when the function cannot be called so, and ``CodecError`` naming the parameter whose value
        cannot be written.
        """
        self.check_call(args, kwargs)
        given = self._each(self._codec.encoder, self._positions(len(args)), args)
        if not kwargs:
            return b"[[%b],{}]" % b",".join(given)
        named = zip(kwargs, self._each(self._codec.encoder, kwargs, kwargs.values()), strict=True)
        pairs = [b"%b:%b" % (msgspec.json.encode(name), value) for name, value in named]
        return b"[[%b],{%b}]" % (b",".join(given), b",".join(pairs))

    def decode(self, data: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return positional and keyword arguments. Raises ``CodecError`` naming the parameter that does not fit."""
        try:
            args, kwargs = _read_call(data)
        except msgspec.MsgspecError as error:
            raise CodecError(f"The arguments of {self.name} are not a recorded call: {error}.") from error
        given = tuple(self._each(self._codec.decoder, self._positions(len(args)), args))
        if not kwargs:
            return given, {}
        named = self._each(self._codec.decoder, kwargs, kwargs.values())
        return given, dict(zip(kwargs, named, strict=True))

    def changed(self, data: bytes, values: Mapping[str, Any]) -> bytes:
        """Return a call as bytes with other values for some of its parameters. Raises as :meth:`encode` and :meth:`decode`.

        >>> def greet(name: str, word: str = "Hello") -> None: ...
        >>> Arguments(greet).changed(b'[["Ada"],{}]', {"word": "Bye"}), Arguments(greet).changed(b'[["Ada"],{}]', {"name": "Bo"})
        (b'[["Ada"],{"word":"Bye"}]', b'[["Bo"],{}]')
        """
        args, kwargs = self.decode(data)
        left, positional = dict(values), self.parameters.positional
        given = [left.pop(name, value) for name, value in zip(positional, args, strict=False)]
        return self.encode((*given, *args[len(positional) :]), {**kwargs, **left})

    def _positions(self, count: int) -> Sequence[str]:
        """Return the names of the parameters that take so many positional arguments."""
        positional = self.parameters.positional
        return positional[:count] + (self.parameters.rest,) * (count - len(positional))

    def _type(self, name: str) -> Any:
        if name in self._declared:
            return self._declared[name]
        return self.types.get(name if name == self.parameters.rest else self.parameters.options, Any)

    @cached_property
    def _declared(self) -> dict[str, Any]:
        """Types of the parameters that have a name of their own."""
        named = (*self.parameters.positional, *self.parameters.keyword_only)
        return {name: self.types.get(name, Any) for name in named}

    def _each(
        self, codec: Callable[[Any], Callable[[Any], T]], names: Iterable[str], values: Iterable[Any]
    ) -> list[T]:
        """Return values encoded or decoded as the parameters of these names declare."""
        name, done, declared = "", list[T](), self._declared
        try:
            for name, value in zip(names, values, strict=True):
                kind = declared[name] if name in declared else self._type(name)
                done.append(codec(kind)(value))
        except CodecError as error:
            raise self._explained(error, name) from error
        return done

    def _explained(self, error: CodecError, name: str) -> CodecError:
        what = f"Parameter {name!r} of {self.name}: {error.what}"
        if name in self.unresolved:
            return CodecError(
                what, hint="Its annotation cannot be resolved; define the class at module level."
            )
        return CodecError(what, hint=error.hint)

    def check_call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Raise ``TypeError`` when the function cannot be called with these."""
        if not kwargs and len(args) in self._by_count:
            return
        _, positional, keyword_only, required, rest, options = self.parameters
        if len(args) > len(positional) and not rest:
            raise TypeError(
                f"{self.name}() takes {len(positional)} positional arguments but {len(args)} were given"
            )
        taken = positional[: len(args)]
        by_name = {*positional[len(self.parameters.positional_only) :], *keyword_only}
        for name in kwargs:
            if name in taken and name in by_name:
                raise TypeError(f"{self.name}() got multiple values for argument {name!r}")
            if name not in by_name and not options:
                raise TypeError(f"{self.name}() got an unexpected keyword argument {name!r}")
        if missing := required.difference(taken, kwargs.keys() & by_name):
            raise TypeError(f"{self.name}() misses {', '.join(map(repr, sorted(missing)))}")

    @cached_property
    def _by_count(self) -> range:
        """With how many arguments the function can be called when all are given by position."""
        positional, required = self.parameters.positional, self.parameters.required
        least = len(required) if required.issubset(positional) else len(positional) + 1
        return range(least, len(positional) + 1)

    # -------------------------------------------------------- a call from the command line

    def bind_mapping(self, values: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the call for values by name, such as a command line gives.

        Text is read as the declared type wants it: "3" as an int, "true" as a bool, a path, a date; for a list a JSON
        array, a list of texts, or items between commas; for a dict or a dataclass a JSON object. Raises
        ``UnknownOption`` naming the nearest parameter, and ``ConfigurationError`` for one missing or of a wrong type.
        """
        positional_only, positional, keyword_only, required, rest, options = self.parameters
        known = (*positional, *keyword_only, *([rest] if rest else []))
        for name in values:
            if name not in known and not options:
                raise unknown_option(name, known, f"{self.name}()")
        if missing := sorted(required - values.keys()):
            raise ConfigurationError(
                f"{self.name}() needs {', '.join(missing)}.", hint=f"Give {missing[0]}=… with the input."
            )
        read = {name: self.read(name, value) for name, value in values.items()}
        gap = next((at for at, name in enumerate(positional_only) if name not in read), len(positional_only))
        args = [read.pop(name) for name in positional_only[:gap]]
        if rest in read:
            # Whatever stands before *args can then only be given by position.
            args += [read.pop(name) for name in positional[gap:]]
            args += read.pop(rest)
        return tuple(args), read

    def read(self, name: str, value: Any) -> Any:
        """Return one loosely given argument as its declared type; raises ``ConfigurationError`` as :meth:`bind_mapping`."""
        declared = self._type(name)
        if name == self.parameters.rest:
            declared = list[declared]
        try:
            return self._codec.convert(value, declared)
        except CodecError as error:
            raise ConfigurationError(
                f"Parameter {name!r} of {self.name}(): {error.what}", hint=error.hint
            ) from error

    # -------------------------------------------------------- a call as a number

    def fingerprint(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int:
        """Return 63 bits that stand for a name and arguments, the same in every process; never 0, never fails.

        Arguments of a step are compared, not stored, so a value of a class that JSON does not know (a client, ``self``)
        contributes the full name of its class and nothing else. Sets and keys are sorted. No address and no ``repr``
        enters. Whether an argument was given by position or by name makes no difference.

        >>> def save(n, path): ...
        >>> of = Arguments(save).fingerprint
        >>> of("save", (1, "x"), {}) == of("save", (1,), {"path": "x"}) == of("save", (), {"path": "x", "n": 1})
        True
        """
        if kwargs:
            args, kwargs = self._by_position(args, kwargs)
        return fingerprint(name, args, kwargs)

    def canonical(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
        """Return bytes that are the same for equal calls in every process, and differ for others.

        Unlike :meth:`fingerprint` it takes only what can be written by its declared type; raises what :meth:`encode`
        does.

        >>> def save(n, path): ...
        >>> Arguments(save).canonical((1,), {"path": {"b", "a"}})
        Traceback (most recent call last):
        reprise.kernel.errors.CodecError: Parameter 'path' of save: Cannot write a value of type set...
        >>> Arguments(save).canonical((1,), {"path": "x"})
        b'[[1,"x"],{}]'
        """
        self.encode(args, kwargs)
        return self._codec.canonical(self._by_position(args, kwargs))

    def _by_position(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        """Return a call with all that can be given by position given so."""
        positional, rest = self.parameters.positional, dict(kwargs)
        while len(args) < len(positional) and positional[len(args)] in rest:
            args = (*args, rest.pop(positional[len(args)]))
        return args, rest


def fingerprint(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int:
    """Return 63 bits that stand for a name and arguments; see :meth:`Arguments.fingerprint`.

    >>> fingerprint("fetch", ("a", {3, 1, 2}), {}) == fingerprint("fetch", ("a", {1, 2, 3}), {})
    True
    >>> fingerprint("fetch", ("a",), {}) == fingerprint("fetch", ("b",), {})
    False
    """
    try:
        data = _canonical((name, args, kwargs))
    except Exception:  # noqa: BLE001 - whatever one argument raises, the others still count
        parts = [*args, *(part for key in sorted(kwargs) for part in (key, kwargs[key]))]
        data = b"\0".join([name.encode("utf-8", "backslashreplace"), *map(_lenient, parts)])
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "big") >> 1 or 1


def _lenient(value: Any, depth: int = 0) -> bytes:
    try:
        return _canonical(value)
    except Exception:  # noqa: BLE001 - as above
        # Down to a fixed depth, so that a value that contains itself ends at the same place in every process.
        below = depth + 1
        if depth < _DEPTH and isinstance(value, dict):
            pairs = cast("dict[Any, Any]", value).items()
            return b"{%b}" % b",".join(
                sorted(_lenient(k, below) + b":" + _lenient(v, below) for k, v in pairs)
            )
        if depth < _DEPTH and isinstance(value, set | frozenset):
            return b"(%b)" % b",".join(sorted(_lenient(item, below) for item in cast("set[Any]", value)))
        if depth < _DEPTH and isinstance(value, list | tuple):
            return b"[%b]" % b",".join(_lenient(item, below) for item in cast("list[Any]", value))
        return type_name(cast("type[Any]", type(value))).encode("utf-8", "backslashreplace")


def _by_class(value: Any) -> str:
    return str(value) if isinstance(value, PurePath) else type_name(type(value))


_canonical = msgspec.json.Encoder(enc_hook=_by_class, order="deterministic").encode


def _resolve(function: Any, name: str) -> Any:
    alone = SimpleNamespace(__annotations__={name: function.__annotations__[name]})
    try:
        return typing.get_type_hints(alone, function.__globals__, include_extras=True)[name]
    except Exception:  # noqa: BLE001 - an annotation may be any expression
        return Any
