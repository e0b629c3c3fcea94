"""Values as JSON by their declared type.

What is written can be read back as what it was, or is refused before anything is written. A value is written by the
type that the code declares (a return annotation, a parameter); where nothing is declared, only values are accepted
that plain JSON gives back equal and of the same type. No pickle: reading never runs code that the data chose.

>>> from datetime import date
>>> codec = Codec()
>>> codec.decode(codec.encode({"due": date(2026, 2, 1)}, dict[str, date]), dict[str, date])
{'due': datetime.date(2026, 2, 1)}
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import PurePath
from typing import Any, TypeVar, cast

import msgspec
from msgspec import inspect as node

from reprise.kernel.errors import CodecError, ConfigurationError
from reprise.kernel.shape import PLAIN, Compiler, Misfit, Shape, check_plain, type_name

Encode = Callable[[Any], bytes]
Decode = Callable[[bytes], Any]
T = TypeVar("T")

_REGISTER = "Return a dataclass or another concrete type, or teach the codec with register(type, to_builtin, from_builtin)."

_OBJECTS = (node.DictType, node.TypedDictType, node.DataclassType, node.StructType)


class Codec:
    """Encode and decode by declared type; what is made for a type is made once and kept.

    Known are the types msgspec knows (dataclasses, Structs, NamedTuple, TypedDict, datetime and its kin, Decimal,
    bytes, UUID, Enum, set, tuple and so on), ``pathlib`` paths, and pydantic models where pydantic is loaded; others
    by :meth:`register`. A datetime keeps its offset, not the name of its zone. The order of a set's items in the
    bytes is arbitrary: compare values by ``Arguments.fingerprint``, not by their bytes.
    """

    def __init__(self) -> None:
        self._custom: dict[type, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {}
        self._encoders: dict[Any, Encode] = {}
        self._decoders: dict[Any, Decode] = {}
        self._write = msgspec.json.Encoder(enc_hook=self._to_builtin).encode
        self._canonical = msgspec.json.Encoder(enc_hook=self._to_builtin, order="deterministic").encode

    def encode(self, value: Any, type: Any = Any) -> bytes:
        """Encode a value by its declared type.

        Raises ``CodecError`` naming the path of what does not fit.
        """
        return self.encoder(type)(value)

    def decode(self, data: bytes, type: Any = Any) -> Any:
        """Decode a value as its declared type.

        Raises ``CodecError`` when the data is something else.
        """
        return self.decoder(type)(data)

    def encoder(self, type: Any) -> Encode:
        """Return the function that encodes values of a type.

        Raises ``CodecError`` for a type that cannot be written whatever the value.
        """
        try:
            return self._encoders[type]
        except (KeyError, TypeError):
            return _made(self._encoders, type, self._make_encoder)

    def decoder(self, type: Any) -> Decode:
        """Return the function that decodes values of a type.

        Raises ``CodecError`` for a type that cannot be read whatever the data.
        """
        try:
            return self._decoders[type]
        except (KeyError, TypeError):
            return _made(self._decoders, type, self._make_decoder)

    def canonical(self, value: Any) -> bytes:
        """Return bytes that are the same for equal plain values in every process: keys and sets are sorted.

        For comparing, not for reading. Raises ``CodecError`` for what has no JSON form.
        """
        try:
            return self._canonical(value)
        except Exception as error:
            raise _unwritable(value, Any, str(error), _REGISTER) from error

    def convert(self, value: Any, type: Any = Any) -> Any:
        """Return a loosely given value, such as text from a command line, as a declared type.

        Numbers, booleans and null may be text; for a container, text is JSON, or items between commas. Raises
        ``CodecError`` when the value cannot be read so.

        >>> codec = Codec()
        >>> codec.convert("3", int), codec.convert("1, 2", list[int]), codec.convert('{"a": "x"}', dict[str, str])
        (3, [1, 2], {'a': 'x'})
        """
        declared = _read_type(type)
        try:
            if isinstance(value, str):
                value = _from_text(value, declared)
            return msgspec.convert(value, type, strict=False, dec_hook=self._from_builtin)
        except Exception as error:
            raise CodecError(f"{value!r} is not {type_name(type)}: {error}.") from error

    def register(
        self, type: type[T], to_builtin: Callable[[T], Any], from_builtin: Callable[[Any], T]
    ) -> None:
        """Teach a class (and its subclasses, which come back as the class).

        ``to_builtin`` gives plain JSON values, ``from_builtin`` takes them. Raises ``ConfigurationError`` for a class
        that is known already.

        >>> codec = Codec()
        >>> codec.register(complex, lambda z: [z.real, z.imag], lambda pair: complex(*pair))
        >>> codec.decode(codec.encode(1 + 2j, complex), complex)
        (1+2j)
        """
        if not isinstance(_read_type(type), node.CustomType) or issubclass(type, PurePath):
            raise ConfigurationError(
                f"{type_name(type)} cannot be registered: the codec knows it already.",
                hint="Wrap it in a class of your own if it must be written differently.",
            )
        self._custom[type] = (to_builtin, from_builtin)
        self._encoders.clear()
        self._decoders.clear()

    # -------------------------------------------------------- making

    def _make_encoder(self, declared: Any) -> Encode:
        compiler = Compiler(self._custom_shape)
        exact, check = compiler.shape(_read_type(declared))
        write = self._write
        verify = self._reader(declared) if compiler.bounded else None

        def encode(value: Any) -> bytes:
            try:
                if type(value) not in exact:
                    check(value)
                data = write(value)
                if verify is not None:
                    verify(data)
            except Misfit as misfit:
                raise _unwritable(
                    value, declared, f"at {misfit.where()}, {misfit.why}", misfit.hint
                ) from None
            except RecursionError:
                raise _unwritable(value, declared, "it contains itself", "") from None
            except Exception as error:
                hint = _REGISTER if isinstance(error, TypeError) else ""
                raise _unwritable(value, declared, str(error) or repr(error), hint) from error
            return data

        return encode

    def _make_decoder(self, declared: Any) -> Decode:
        read = self._reader(declared)

        def decode(data: bytes) -> Any:
            try:
                return read(data)
            except Exception as error:
                raise CodecError(f"Cannot read the data as {type_name(declared)}: {error}.") from error

        return decode

    def _reader(self, declared: Any) -> Decode:
        _read_type(declared)
        return msgspec.json.Decoder(declared, dec_hook=self._from_builtin).decode

    # -------------------------------------------------------- classes that msgspec does not know

    def _custom_shape(self, cls: type[Any]) -> Shape:
        if cls is object:
            return PLAIN
        check = _path_check(cls) if issubclass(cls, PurePath) else self._conversion_check(cls)
        return Shape(frozenset(), check)

    def _conversion_check(self, cls: type[Any]) -> Callable[[Any], None]:
        known = self._registered(cls) is not None
        model = not known and is_pydantic(cls)

        def check(value: Any) -> None:
            if not (known or model):
                raise Misfit(f"{type_name(cls)} has no JSON form", hint=_REGISTER)
            if not isinstance(value, cls) or (model and type(value) is not cls):
                raise Misfit(f"{type_name(type(value))} where {type_name(cls)} is declared")
            plain = self._to_builtin(value)
            check_plain(plain)
            # A model may leave fields out of what it dumps, or not take back what it dumped.
            if model and self._from_builtin(cls, plain) != value:
                raise Misfit(f"{type_name(cls)} does not come back equal from what it dumps")

        return check

    def _registered(self, cls: type[Any]) -> tuple[Callable[[Any], Any], Callable[[Any], Any]] | None:
        return next((self._custom[c] for c in cls.__mro__ if c in self._custom), None)

    def _to_builtin(self, value: Any) -> Any:
        if isinstance(value, PurePath):
            return str(value)
        if conversion := self._registered(value.__class__):
            return conversion[0](value)
        if is_pydantic(value.__class__):
            return value.model_dump(mode="json", by_alias=True, round_trip=True)
        raise TypeError(f"{type_name(type(value))} has no JSON form")

    def _from_builtin(self, cls: type[Any], plain: Any) -> Any:
        if cls is object:
            return plain
        if issubclass(cls, PurePath):
            return cls(plain)
        if conversion := self._registered(cls):
            return conversion[1](plain)
        if is_pydantic(cls):
            return cast("Any", cls).model_validate(plain)
        raise TypeError(f"{type_name(cls)} has no JSON form")


def _made(
    made: dict[Any, Callable[[Any], T]], key: Any, make: Callable[[Any], Callable[[Any], T]]
) -> Callable[[Any], T]:
    new = make(key)
    with suppress(TypeError):  # an annotation with unhashable metadata is made anew each time
        made[key] = new
    return new


def _read_type(declared: Any) -> node.Type:
    try:
        return node.type_info(declared)
    except (TypeError, NameError, AttributeError) as error:
        raise CodecError(
            f"The type {type_name(declared)} cannot be written as JSON: {error}.",
            hint="Use one concrete type; make a union of classes a union of msgspec Structs with tags.",
        ) from error


def _from_text(text: str, declared: node.Type) -> Any:
    kinds = declared.types if isinstance(declared, node.UnionType) else (declared,)
    arrays = any(isinstance(kind, node.CollectionType | node.TupleType) for kind in kinds)
    objects = any(
        isinstance(kind, _OBJECTS) or (isinstance(kind, node.CustomType) and is_pydantic(kind.cls))
        for kind in kinds
    )
    if text.lstrip()[:1] in ("[", "{") and (arrays or objects):
        return msgspec.json.decode(text)
    if arrays and not any(isinstance(kind, node.StrType) for kind in kinds):
        return [part.strip() for part in text.split(",")] if text else []
    return text


def _unwritable(value: Any, declared: Any, why: str, hint: str) -> CodecError:
    wanted = "" if declared is Any else f" as {type_name(declared)}"
    return CodecError(f"Cannot write a value of type {type_name(type(value))}{wanted}: {why}.", hint=hint)


def _path_check(cls: type[Any]) -> Callable[[Any], None]:
    def check(value: Any) -> None:
        if not isinstance(value, cls):
            raise Misfit(f"{type_name(type(value))} where {type_name(cls)} is declared")

    return check


def is_pydantic(cls: type[Any]) -> bool:
    """Tell whether a class is a pydantic model; pydantic is not loaded for that."""
    pydantic: Any = sys.modules.get("pydantic")
    return pydantic is not None and issubclass(cls, pydantic.BaseModel)


def encode_as_it_is(value: Any) -> bytes:
    """Encode a value by the class that it has, where nobody knows what is declared."""
    kind = cast("type[Any]", type(value))
    return standard.encoder(Any if kind is dict or kind is list else kind)(value)


standard = Codec()
"""The codec of this process: what is registered here is known to every workflow and step."""
