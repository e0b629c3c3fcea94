"""What tests of APIs need: values that fit a schema, and somebody else's opinion of a request (openapi-core)."""

import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import httpx2
from hypothesis import HealthCheck, Phase, given, settings, strategies
from openapi_core import Config, OpenAPI
from openapi_core.testing import MockRequest

from reprise.tools.guards.network import NetworkAccess
from reprise.tools.openapi.building import Prepared
from reprise.tools.openapi.parser import OpenAPIParser
from reprise.tools.registry import ToolRegistry

SERVER = "https://api.example.com/v1"


# ---------------------------------------------------------------- an API that answers


class Server:
    """Answers requests of tools, and remembers them."""

    def __init__(self, *answers: httpx2.Response | Exception):
        self.answers = list(answers)
        self.requests: list[httpx2.Request] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    @property
    def last(self) -> httpx2.Request:
        """The last request."""
        return self.requests[-1]


def answer(value: Any = None, status: int = 200, **headers: str) -> httpx2.Response:
    """Return an answer that is JSON."""
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return httpx2.Response(status, json=value, headers=named)


def registry_of(
    spec: Any, server: Server, *services: object, prefix: str = "", **options: Any
) -> ToolRegistry:
    """Return a registry with the tools of a specification, whose requests a server answers."""
    registry = ToolRegistry()
    registry.provide(NetworkAccess(transport=httpx2.MockTransport(server), rate=None), *services)
    OpenAPIParser(**options).register_tools_from_spec(spec, registry, tool_prefix=prefix, deprecated=True)
    return registry


def document(paths: Any, version: str = "3.0.3", **more: Any) -> dict[str, Any]:
    """Return a document of OpenAPI."""
    return {
        "openapi": version,
        "info": {"title": "An API", "version": "1"},
        "servers": [{"url": SERVER}],
        "paths": paths,
        **more,
    }


def operation(
    *parameters: dict[str, Any], body: Any = None, answers: Any = None, **more: Any
) -> dict[str, Any]:
    """Return an operation; ``body`` is the schema of its JSON, ``answers`` that of the answer's."""
    made: dict[str, Any] = {
        "parameters": list(parameters),
        "responses": {"200": {"description": "Fine"}},
        **more,
    }
    if body is not None:
        made["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    if answers is not None:
        made["responses"]["200"]["content"] = {"application/json": {"schema": answers}}
    return made


def parameter(name: str, where: str = "query", schema: Any = None, **more: Any) -> dict[str, Any]:
    """Return a parameter."""
    return {
        "name": name,
        "in": where,
        "required": where == "path",
        "schema": schema or {"type": "string"},
        **more,
    }


# ---------------------------------------------------------------- values for schemas


class NoSample(Exception):
    """No value is found that fits."""


def sample(schema: Any, rich: bool = True) -> Any:
    """Return a value that probably fits a schema; ``rich`` = with what is not required."""
    return _Sampler(schema.get("$defs", {}), rich).of(schema, 0)


class _Sampler:
    def __init__(self, defs: dict[str, Any], rich: bool):
        self.defs, self.rich = defs, rich

    def of(self, schema: Any, depth: int) -> Any:
        schema = self.flat(schema, depth)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return next(
                (each for each in schema["enum"] if each not in (None, "", ".", "..")), schema["enum"][0]
            )
        kinds = schema.get("type", _kind(schema))
        kind = kinds if isinstance(kinds, str) else next((each for each in kinds if each != "null"), "null")
        match kind:
            case "object" if {"text", "base64"} <= schema.get("properties", {}).keys():
                return {"text": "abc", "filename": "a.txt"}
            case "object":
                return self.object(schema, depth)
            case "array":
                return self.array(schema, depth)
            case "integer" | "number":
                return _number(schema, whole=kind == "integer")
            case "boolean":
                return True
            case "null":
                return None
            case _:
                return _text(schema)

    def flat(self, schema: Any, depth: int) -> dict[str, Any]:
        """Return a schema with what it refers to and all of which it consists."""
        if depth > 12:
            raise NoSample
        if not isinstance(schema, dict):
            return {}
        merged: dict[str, Any] = {}
        rest = {key: value for key, value in schema.items() if key not in ("$ref", "allOf", "anyOf", "oneOf")}
        parts = [rest, *schema.get("allOf", ())]
        if "$ref" in schema:
            parts.append(self.defs[schema["$ref"].rpartition("/")[2]])
        for choice in ("anyOf", "oneOf"):
            if schema.get(choice):
                parts.append(self.choice(schema[choice], depth + 1))
        for part in parts:
            more = part if part is rest else self.flat(part, depth + 1)
            for key, value in more.items():
                if key == "properties":
                    merged[key] = {**merged.get(key, {}), **value}
                elif key == "required":
                    merged[key] = [*merged.get(key, ()), *value]
                elif key == "enum" and "enum" in merged:
                    merged[key] = [each for each in value if each in merged["enum"]]
                else:
                    merged.setdefault(key, value)
        return merged

    def choice(self, several: list[Any], depth: int) -> Any:
        for each in several:
            try:
                self.of(each, depth)
            except (NoSample, RecursionError):
                continue
            return each
        raise NoSample

    def object(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        required = schema.get("required", ())
        made: dict[str, Any] = {}
        for name, each in schema.get("properties", {}).items():
            if name in required or (self.rich and depth < 4):
                try:
                    made[name] = self.of(each, depth + 1)
                except (NoSample, RecursionError):
                    if name in required:
                        raise
        for name in required:
            if name not in made:
                made[name] = self.of(schema.get("additionalProperties", {}), depth + 1)
        more = schema.get("additionalProperties", True)
        number = 0
        while len(made) < schema.get("minProperties", 0) and more is not False:
            made[f"key{number}"] = self.of(more, depth + 1)
            number += 1
        return made

    def array(self, schema: dict[str, Any], depth: int) -> list[Any]:
        least = max(
            schema.get("minItems", 0), 1 if self.rich and depth < 4 and schema.get("maxItems", 1) else 0
        )
        first = [self.of(each, depth + 1) for each in schema.get("prefixItems", ())]
        rest = [self.of(schema.get("items", {}), depth + 1) for _ in range(least - len(first))]
        if schema.get("uniqueItems") and len(rest) > 1:
            rest = _different(rest, schema.get("items", {}))
        return first + rest


def _kind(schema: dict[str, Any]) -> str:
    if "properties" in schema or "additionalProperties" in schema or "required" in schema:
        return "object"
    if "items" in schema or "prefixItems" in schema:
        return "array"
    return "integer" if "minimum" in schema or "maximum" in schema else "string"


def _different(values: list[Any], schema: Any) -> list[Any]:
    if isinstance(values[0], str) and "enum" not in schema:
        return [f"{each}{at}" for at, each in enumerate(values)]
    if isinstance(values[0], int) and not isinstance(values[0], bool):
        return [each + at for at, each in enumerate(values)]
    return [*schema.get("enum", ())][: len(values)] or values


def _number(schema: dict[str, Any], whole: bool) -> float:
    low, high = schema.get("minimum"), schema.get("maximum")
    step = schema.get("multipleOf", 1)
    if "exclusiveMinimum" in schema:
        low = schema["exclusiveMinimum"] + (step if whole else 0.5)
    if "exclusiveMaximum" in schema:
        high = schema["exclusiveMaximum"] - (step if whole else 0.5)
    value = 7 if low is None and high is None else low if low is not None else high
    if low is not None and high is not None and not whole:
        value = (low + high) / 2
    if "multipleOf" in schema:
        value = -(-value // step) * step
    return int(value) if whole or value == int(value) else value


_FORMATS = {
    "date-time": "2026-11-22T10:00:00Z",
    "date": "2026-11-22",
    "time": "10:00:00Z",
    "uuid": "9b2f1c1e-1c1b-4b1a-8f0e-3f7d6b1c2a10",
    "email": "ada@example.com",
    "uri": "https:example",
    "url": "https:example",
    "byte": "YWRh",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "hostname": "example.com",
}


def _text(schema: dict[str, Any]) -> str:
    if isinstance(next(iter(schema.get("examples", ())), None), str) and "pattern" in schema:
        return schema["examples"][0]
    if pattern := schema.get("pattern"):
        found = _matching(pattern, schema.get("minLength", 0), schema.get("maxLength", 1000))
        if found is not None:
            return found
    usual = _FORMATS.get(schema.get("format", ""), "abc")
    low, high = schema.get("minLength", 0), schema.get("maxLength", 10**6)
    return (
        (usual * (low // len(usual) + 1))[: min(max(low, len(usual)), high)]
        if low > len(usual)
        else usual[:high]
    )


def _matching(pattern: str, low: int, high: int) -> str | None:
    """Return a text that matches a pattern, None where none is found soon."""
    try:
        compiled = re.compile(pattern)
    except re.error:
        return None
    for usual in (
        "abc",
        "ABC",
        "1",
        "12345678",
        "a1",
        "2026-11-22",
        "abcdefgh",
        "0123456789abcdef",
        "abc-def",
        "a.b",
    ):
        if low <= len(usual) <= high and compiled.search(usual):
            return usual
    found: list[str] = []
    plain = strategies.characters(min_codepoint=32, max_codepoint=126)
    fits = strategies.from_regex(compiled, fullmatch=True, alphabet=plain).filter(
        lambda text: low <= len(text) <= high
    )

    @settings(max_examples=5, database=None, deadline=None, phases=[Phase.generate], derandomize=True,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(fits)
    def look(text: str) -> None:
        found.append(text)

    try:
        look()
    except Exception:  # noqa: BLE001 - whatever hypothesis makes of a pattern of others
        return None
    return max(found, key=len) if found else None


# ---------------------------------------------------------------- somebody else's opinion


_OURS = (
    "Missing required header parameter: (?i:authorization|accept|content-type|content-length|host|cookie)$"
)
"""What OpenAPI says is no parameter, whatever stands there."""


class Oracle:
    """What openapi-core says of requests: whether they are what the document describes."""

    def __init__(self, document: dict[str, Any]):
        self._document = document
        self._api = OpenAPI.from_dict(
            document,
            config=Config(spec_validator_cls=None, extra_media_type_deserializers=_vendors(document)),
        )

    def alone(self, path: str) -> "Oracle":
        """Return who knows one path only, without the query and the fragment that some paths have."""
        plain = path.partition("#")[0].partition("?")[0]
        return Oracle({**self._document, "paths": {plain: self._document["paths"][path]}})

    def faults(self, request: Prepared, path: str, **credentials: str) -> list[str]:
        """Return what is wrong with the request of an operation at a path."""
        found = self._faults(request, path, credentials)
        # Several templates may fit a path, and openapi-core takes another than the operation's own.
        return self.alone(path)._faults(request, path, credentials) if found else []

    def _faults(self, request: Prepared, path: str, credentials: dict[str, str]) -> list[str]:
        parts = urlsplit(request.url)
        headers = {name: value for name, value in request.headers.items() if name != "Content-Type"}
        asked = MockRequest(
            f"{parts.scheme}://{parts.netloc}",
            request.method,
            parts.path,
            args=_several(
                parse_qsl(
                    "&".join(f"{name}={value}" for name, value in request.query), keep_blank_values=True
                )
            ),
            view_args=_variables(path, parts.path),
            headers={**headers, **credentials},
            cookies=dict(each.split("=", 1) for each in request.cookies),
            data=request.content or None,
            content_type=request.headers.get("Content-Type", ""),
        )
        return list(self._errors(asked))

    def _errors(self, request: Any) -> Iterator[str]:
        for error in self._api.iter_request_errors(request):
            cause = error.__cause__
            detail = "; ".join(str(each) for each in getattr(cause, "schema_errors", ())) or str(cause or "")
            if re.search(_OURS, str(error)):
                continue
            yield f"{type(error).__name__}: {error} {detail}"[-500:]


def _vendors(document: dict[str, Any]) -> dict[str, Any]:
    """Return how media types are read that openapi-core does not know as JSON."""
    found = set(re.findall(r'"([\w.+-]+/(?:[\w.+-]*\+json|\*)[^"]{0,60})"\s*:', json.dumps(document)))
    return dict.fromkeys(found, lambda data, **_: json.loads(data))


def _variables(template: str, path: str) -> dict[str, str]:
    """Return what stands in a path for the names of a template, decoded."""
    names = re.findall(r"\{([^{}]*)\}", template.partition("#")[0].partition("?")[0])
    plain = re.split(r"\{[^{}]*\}", template.partition("#")[0].partition("?")[0])
    found = re.search(
        "([^/]*)".join(re.escape(quote(each, safe=":/@!$&'()*+,;=-._~%")) for each in plain) + "$", path
    )
    return dict(zip(names, map(unquote, found.groups()), strict=True)) if found else {}


def _several(pairs: list[tuple[str, str]]) -> dict[str, Any]:
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return {name: values if len(values) > 1 else values[0] for name, values in found.items()}
