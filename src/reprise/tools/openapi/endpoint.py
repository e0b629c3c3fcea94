"""One operation as a tool: its schemas, made when they are first needed, and the call of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any

import msgspec

from reprise.kernel.codec import standard
from reprise.kernel.errors import MissingExtra, ToolError
from reprise.tools.context import ToolContext
from reprise.tools.openapi.bodies import kind_of
from reprise.tools.openapi.building import Prepared, prepare
from reprise.tools.openapi.checking import Checker, Misfit
from reprise.tools.openapi.documents import Documents, Json, objects
from reprise.tools.openapi.naming import BODY, arguments_of, digest
from reprise.tools.openapi.operations import SAFE, Operation, is_json
from reprise.tools.openapi.options import OperationOptions, Pace
from reprise.tools.openapi.reading import SpecInvalid
from reprise.tools.openapi.schemas import FILE, Schemas, combined, has_slashes
from reprise.tools.openapi.security import hidden

CONTEXT = "the context"
"""What the context is called among arguments: a name that no argument can have."""
_INVISIBLE = re.compile(
    r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\U000e0000-\U000e007f]"
)
"""Characters that people do not see and models read."""
_DESCRIPTION = 2000
"""Characters of a description that models are given."""


@dataclass
class Api:
    """What the tools of one specification have in common."""

    title: str
    documents: Documents
    sent: Schemas
    received: Schemas
    schemes: Mapping[str, Any]
    server: str
    credentials: Mapping[str, str] = field(default_factory=dict[str, str])
    """Names of the credentials of security schemes."""
    writers: Sequence[str] = ()
    pace: Pace = field(default_factory=lambda: Pace(None))
    retries: int = 2
    slashes: bool = False


class Endpoint:
    """The signature of a tool, and what it is called with."""

    def __init__(self, api: Api, operation: Operation, name: str, options: OperationOptions) -> None:
        self.api, self.operation, self.name, self.options = api, operation, name, options
        self.unchecked = ""
        """Why arguments could not be checked the last time, '' = they could."""

    # ------------------------------------------------------------ what it takes and gives

    @property
    def context(self) -> str:
        """Name of the context among the arguments."""
        return CONTEXT

    @cached_property
    def names(self) -> Mapping[tuple[str, str], str]:
        """Arguments of parameters, by (name, where); what credentials fill in has none."""
        filled = hidden(self.operation.security, self.api.schemes)
        return arguments_of(
            (each.name, each.where)
            for each in self.operation.parameters
            if (each.where, each.name.lower() if each.where == "header" else each.name) not in filled
        )

    @cached_property
    def _schema(self) -> tuple[Json, tuple[str, ...], frozenset[str]]:
        """The schema of the arguments, notes on it, and which parts of the body are files."""
        properties: Json = {}
        required: list[str] = []
        parts: list[Any] = []
        files: frozenset[str] = frozenset()
        for each in self.operation.parameters:
            argument = self.names.get((each.name, each.where))
            if argument is None:
                continue
            schema, made = self.api.sent.translate(each.schema, each.document)
            parts.append(made)
            properties[argument] = _described(schema, each.description)
            if each.required and objects(schema).get("type") == "array" and not each.media:
                # An empty list is not sent at all.
                properties[argument] = {**properties[argument], "minItems": max(1, schema.get("minItems", 1))}
            if each.required:
                required.append(argument)
        if (body := self.operation.body) is not None:
            match kind_of(body.media):
                case "multipart":
                    schema, files, made = self.api.sent.form(body.schema, body.document)
                case "bytes":
                    schema, (_, made) = FILE, self.api.sent.translate({}, "")
                case "text":
                    schema, made = self.api.sent.translate(body.schema, body.document)
                    schema = schema if objects(schema).get("type") == "string" else _written(body.media)
                case _:
                    schema, made = self.api.sent.translate(body.schema, body.document)
            parts.append(made)
            properties[BODY] = _described(schema, body.description)
            if body.required:
                required.append(BODY)
        definitions, notes = self.api.sent.definitions(parts)
        return combined(properties, required, definitions), tuple(notes), files

    @property
    def parameters(self) -> Json:
        """JSON schema of the arguments."""
        return self._schema[0]

    @property
    def notes(self) -> tuple[str, ...]:
        """What of the schemas could not be used."""
        return self._schema[1]

    @property
    def returns(self) -> Json:
        """JSON schema of the result, ``{}`` = anything."""
        return self._returns

    @cached_property
    def _returns(self) -> Json:
        if self.options.select:
            return {}
        codes = sorted(code for code in self.operation.responses if code.upper().startswith("2"))
        for code in (*codes, "default"):
            for media, schema in self._contents(code).items():
                if is_json(media):
                    return schema
        return {}

    def _contents(self, code: str) -> Json:
        """Return the schemas of an answer, by media type."""
        documents = self.api.documents
        node = self.operation.responses.get(code)
        found: Json = {}
        try:
            answer = documents.follow(node, self.operation.document)
            for media, content in objects(objects(answer.node).get("content")).items():
                holder = documents.follow(content, answer.document)
                schema, made = self.api.received.translate(
                    objects(holder.node).get("schema", {}), holder.document
                )
                definitions, _ = self.api.received.definitions([made])
                whole = objects(schema)
                found[media] = {**whole, "$defs": definitions} if definitions else dict(whole)
        except SpecInvalid:
            return found
        return found

    @cached_property
    def accept(self) -> str:
        """What media types an answer may have, JSON first."""
        known: dict[str, None] = {}
        for code, node in self.operation.responses.items():
            if not code.startswith(("4", "5")):
                try:
                    answer = self.api.documents.follow(node, self.operation.document).node
                except SpecInvalid:
                    continue
                known |= dict.fromkeys(objects(objects(answer).get("content")))
        usable = [each for each in known if each.isascii() and each.isprintable() and "," not in each][:8]
        first = [each for each in usable if is_json(each)]
        return (
            ", ".join([*first, *(each for each in usable if each not in first), "*/*;q=0.1"])
            if usable
            else "*/*"
        )

    # ------------------------------------------------------------ as a signature

    @cached_property
    def _checker(self) -> Checker:
        return Checker(self.parameters)

    def read(self, data: bytes) -> dict[str, Any]:
        """Return the arguments; raises ``ToolError`` for what does not fit their schema."""
        given = msgspec.json.decode(data)
        try:
            misfit, self.unchecked = self._checker.check(given)
        except MissingExtra as error:
            raise ToolError("unavailable", error.what, hint=error.hint) from error
        if misfit is not None:
            raise ToolError("invalid_input", f"{misfit.what}.", hint=misfit.hint, field=misfit.field)
        return given

    def write(self, value: Any) -> bytes:
        """Return a result as JSON."""
        return standard.encode(value)

    @cached_property
    def _answers(self) -> dict[tuple[str, str], Checker]:
        return {}

    def misfit(self, status: int, media: str, value: Any) -> Misfit | None:
        """Return what of an answer is not as the specification says, None where it says nothing."""
        codes = {code.upper(): code for code in self.operation.responses}
        code = next(
            (codes[each] for each in (str(status), f"{status // 100}XX", "DEFAULT") if each in codes), None
        )
        if code is None:
            return None
        plain = media.partition(";")[0].strip().lower()
        checker = self._answers.get((code, plain))
        if checker is None:
            contents = {
                each.partition(";")[0].strip().lower(): schema
                for each, schema in self._contents(code).items()
            }
            schema = contents.get(plain, contents.get("*/*", {}))
            checker = self._answers[code, plain] = Checker(schema)
        return checker.check(value)[0]

    # ------------------------------------------------------------ what is known of it

    @property
    def writes(self) -> bool:
        """Whether it may change something at the server."""
        return self.operation.method not in SAFE

    def may_be_called_by(self, caller: str) -> bool:
        """Tell whether somebody may call it; the registry itself, who has no name, may."""
        return not (self.writes and caller) or any(fnmatchcase(caller, each) for each in self.api.writers)

    @cached_property
    def digest(self) -> str:
        """A hash of what models are told of it, and of where it goes."""
        of = [self.description, self.parameters, self.operation.method, self.operation.path, self.server]
        return digest(msgspec.json.encode(of, order="deterministic").decode(), 16)

    @property
    def server(self) -> str:
        """URL that it is called at, '' = nobody said."""
        return self.operation.server

    @property
    def description(self) -> str:
        """What it does, as models are told."""
        about = self.operation
        if self.options.description:
            return self.options.description
        parts = [about.summary.strip(), about.description.strip()]
        text = (
            "\n\n".join(dict.fromkeys(part for part in parts if part))
            or f"{about.method.upper()} {about.path}"
        )
        return _INVISIBLE.sub("", text if len(text) <= _DESCRIPTION else f"{text[: _DESCRIPTION - 1]}…")

    @cached_property
    def _slashed(self) -> frozenset[str]:
        """Parameters of the path that may have slashes."""
        found: set[str] = set()
        for each in self.operation.parameters:
            try:
                schema = self.api.documents.follow(each.schema, each.document).node
            except SpecInvalid:
                continue
            if self.api.slashes or has_slashes(schema):
                found.add(each.name)
        return frozenset(found)

    @cached_property
    def key_argument(self) -> str:
        """The argument that is a key by which the server knows a request again, '' = it takes none."""
        return next(
            (argument for (name, _), argument in self.names.items() if name.lower() == "idempotency-key"), ""
        )

    def prepare(self, arguments: Mapping[str, Any], context: ToolContext) -> Prepared:
        """Return the request for arguments that were read. Raises ``ToolError``."""
        return prepare(
            self.operation,
            self.names,
            arguments,
            server=self.server,
            accept=self.accept,
            files=self._schema[2],
            slashed=self._slashed,
            random=context.randomness,
        )


def _written(media: str) -> Json:
    """Return the schema of a body that the caller writes, whatever the specification says of what it means."""
    return {"type": "string", "description": f"{media.partition(';')[0]}, as it is sent."}


def _described(schema: Any, description: str) -> Any:
    """Return a schema with what a parameter says of itself."""
    if not description:
        return objects(schema)
    given = objects(schema)
    text = description if len(description) <= _DESCRIPTION else f"{description[: _DESCRIPTION - 1]}…"
    return {**given, "description": text}
