"""What a tool takes and gives: read from a function's annotations, or handed in as JSON schemas."""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Annotated, Any, Protocol, cast

import msgspec

from reprise.kernel.arguments import Arguments
from reprise.kernel.codec import standard
from reprise.kernel.errors import CodecError, ConfigurationError, ToolError, nearest
from reprise.kernel.schema import misfits, schema_of
from reprise.tools.context import ToolContext

_REFERENCES = "#/$defs/{name}"


class Signature(Protocol):
    """What a tool takes and gives, and whether something is that. Nothing of it is asked before somebody looks or calls."""

    @property
    def context(self) -> str:
        """Name of the parameter that gets the context, '' = none."""
        ...

    @property
    def parameters(self) -> dict[str, Any]:
        """JSON schema of the arguments."""
        ...

    @property
    def returns(self) -> dict[str, Any]:
        """JSON schema of the result."""
        ...

    def read(self, data: bytes) -> dict[str, Any]:
        """Return keyword arguments, given as JSON; raises ``ToolError``."""
        ...

    def write(self, value: Any) -> bytes:
        """Return a result as JSON; raises ``CodecError``."""
        ...


class Typed:
    """The signature of a function. Annotations are read when first needed.

    A parameter is described by ``Annotated[int, "How many."]``, and limited by ``Annotated[int, msgspec.Meta(ge=1)]``. One
    annotated :class:`ToolContext` is no argument.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._arguments = Arguments(function)

    @property
    def context(self) -> str:
        """Name of the parameter that gets the context, '' = none."""
        return self._context

    @cached_property
    def _context(self) -> str:
        types = self._arguments.types
        return next((name for name, kind in types.items() if kind is ToolContext and name != "return"), "")

    @property
    def parameters(self) -> dict[str, Any]:
        """JSON schema of the arguments."""
        return self._parameters

    @cached_property
    def _parameters(self) -> dict[str, Any]:
        refs, found = msgspec.json.schema_components([self._shape], ref_template=_REFERENCES)
        name = refs[0]["$ref"].rpartition("/")[2]
        schema = found.pop(name)
        schema.pop("title", None)
        return {**schema, "$defs": found} if found else schema

    @property
    def returns(self) -> dict[str, Any]:
        """JSON schema of the result."""
        return self._returns

    @cached_property
    def _returns(self) -> dict[str, Any]:
        return schema_of(self._arguments.returns)

    def read(self, data: bytes) -> dict[str, Any]:
        """Return keyword arguments; raises ``ToolError``."""
        decode = self._decode
        try:
            return msgspec.structs.asdict(decode(data))
        except CodecError as error:
            raise self._refused(data, error.__cause__) from None

    def write(self, value: Any) -> bytes:
        """Return a result as JSON by the declared type; raises ``CodecError``."""
        return self._encode(value)

    @cached_property
    def _encode(self) -> Callable[[Any], bytes]:
        return standard.encoder(self._arguments.returns)

    @cached_property
    def _decode(self) -> Callable[[bytes], Any]:
        try:
            return standard.decoder(self._shape)
        except CodecError as error:
            raise ConfigurationError(
                f"The parameters of the tool {self._arguments.name} cannot be read: {error.what}",
                hint=error.hint,
            ) from error

    @cached_property
    def _shape(self) -> type[msgspec.Struct]:
        """A struct whose fields are the parameters."""
        arguments = self._arguments
        if arguments.unresolved:
            names = ", ".join(sorted(arguments.unresolved))
            raise ConfigurationError(
                f"The tool {arguments.name} has annotations that cannot be read: {names}.",
                hint="Define the types at the level of the module, and import them outside of TYPE_CHECKING.",
            )
        of = arguments.parameters
        if of.rest or of.options or of.positional_only:
            raise ConfigurationError(
                f"The tool {arguments.name} takes *args, **kwargs or parameters without a name.",
                hint="A tool is called with arguments by name: name each of them.",
            )
        defaults = _defaults(arguments.function)
        fields = [
            (name, kind) if name in of.required else (name, kind, defaults[name])
            for name in (*of.positional, *of.keyword_only)
            if name != self.context
            for kind in [_described(arguments.types.get(name, Any))]
        ]
        return msgspec.defstruct(
            arguments.function.__name__, fields, kw_only=True, forbid_unknown_fields=True
        )

    def _refused(self, data: bytes, cause: BaseException | None) -> ToolError:
        """Return the error for arguments that cannot be read: what, where, and what was perhaps meant."""
        what, _, where = str(cause).partition(" - at `")
        names: tuple[str, ...] = self._shape.__struct_fields__
        if not where and "unknown field" in what:
            given = cast("dict[str, Any]", msgspec.json.decode(data))
            unknown = next(name for name in given if name not in names)
            near = nearest(unknown, names)
            hint = f"Did you mean {near!r}?" if near else f"It takes {', '.join(names) or 'nothing'}."
            return ToolError(
                "invalid_input", f"There is no argument {unknown!r}.", hint=hint, field=f"$.{unknown}"
            )
        where = where.rstrip("`")
        return ToolError("invalid_input", f"{what}{f', at {where}' if where else ''}.", field=where)


class Schemed:
    """A signature handed in as JSON schemas, such as of a tool that lives on a server."""

    def __init__(self, parameters: Mapping[str, Any], returns: Mapping[str, Any] | None = None) -> None:
        if parameters.get("type", "object") != "object":
            raise ConfigurationError(
                f"A tool takes an object of arguments, not {parameters['type']!r}.",
                hint='Give {"type": "object", "properties": {…}}.',
            )
        self.parameters = {"type": "object", **parameters}
        self.returns = dict(returns or {})
        self.context = ""

    def read(self, data: bytes) -> dict[str, Any]:
        """Return the arguments; raises ``ToolError``."""
        given = msgspec.json.decode(data)
        if faults := misfits(given, self.parameters):
            where, _, what = faults[0].partition(": ")
            raise ToolError("invalid_input", f"{what}, at {where}.", field=where)
        return given

    def write(self, value: Any) -> bytes:
        """Return a result as JSON; raises ``CodecError``."""
        data = standard.encode(value)
        if self.returns and (faults := misfits(msgspec.json.decode(data), self.returns)):
            raise CodecError(f"The result is not what the tool returns: {faults[0]}.")
        return data


def _defaults(function: Callable[..., Any]) -> dict[str, Any]:
    code: Any = getattr(function, "__code__", None)
    given: tuple[Any, ...] = getattr(function, "__defaults__", None) or ()
    names = code.co_varnames[code.co_argcount - len(given) : code.co_argcount]
    return {**dict(zip(names, given, strict=True)), **(getattr(function, "__kwdefaults__", None) or {})}


def _described(kind: Any) -> Any:
    """Return an annotation whose text has become a description."""
    if typing.get_origin(kind) is not Annotated:
        return kind
    inner, *notes = typing.get_args(kind)
    texts = [msgspec.Meta(description=note) for note in notes if isinstance(note, str)]
    for note in (*(note for note in notes if isinstance(note, msgspec.Meta)), *texts):
        inner = Annotated[inner, note]
    return inner
