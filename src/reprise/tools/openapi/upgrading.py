"""Swagger 2.0 as OpenAPI 3.0, as far as calls are concerned.

Schemas stay where and what they are: references to ``#/definitions/…`` go on leading there. What it cannot say is noted
where it stands, and left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from reprise.tools.openapi.documents import Documents, Json, Target, items, objects, text
from reprise.tools.openapi.reading import SpecInvalid

METHODS = ("get", "put", "post", "delete", "options", "head", "patch")
_NOT_SCHEMA = frozenset(
    "name in description required collectionFormat allowEmptyValue x-example x-examples".split()
)
_COLLECTIONS: dict[str, Json] = {
    "csv": {"style": "form", "explode": False},
    "ssv": {"style": "spaceDelimited", "explode": False},
    "tsv": {"style": "tabDelimited", "explode": False},
    "pipes": {"style": "pipeDelimited", "explode": False},
    "multi": {"style": "form", "explode": True},
}
_FLOWS = {"accessCode": "authorizationCode", "application": "clientCredentials"}


def upgrade(document: Json) -> Json:
    """Return a document of Swagger 2.0 as one of OpenAPI 3.0.3; the given one is not changed.

    >>> upgrade({"swagger": "2.0", "host": "a.test", "schemes": ["https"], "basePath": "/v1", "paths": {}})["servers"]
    [{'url': 'https://a.test/v1'}]
    """
    documents = Documents(document)
    changed: Json = {
        key: value
        for key, value in document.items()
        if key
        not in (
            "swagger",
            "host",
            "basePath",
            "schemes",
            "consumes",
            "produces",
            "securityDefinitions",
            "parameters",
        )
    }
    changed["openapi"] = "3.0.3"
    changed["servers"] = _servers(document, items(document.get("schemes")))
    changed["components"] = {
        "schemas": objects(document.get("definitions")),
        "securitySchemes": {
            name: _scheme(objects(scheme))
            for name, scheme in objects(document.get("securityDefinitions")).items()
        },
    }
    changed["paths"] = {
        path: _path(item, document, documents) for path, item in objects(document.get("paths")).items()
    }
    return changed


def _servers(document: Json, schemes: Iterable[Any]) -> list[Json]:
    host, base = text(document.get("host")), text(document.get("basePath"))
    if not host:
        return [{"url": base or "/"}]
    known = [scheme for scheme in schemes if scheme in ("http", "https")] or ["https"]
    return [{"url": f"{scheme}://{host}{base.rstrip('/')}"} for scheme in sorted(set(known), reverse=True)]


def _scheme(scheme: Json) -> Json:
    kept = {key: value for key, value in scheme.items() if key == "description" or key.startswith("x-")}
    match scheme.get("type"):
        case "basic":
            return {"type": "http", "scheme": "basic", **kept}
        case "oauth2":
            flow = text(scheme.get("flow"))
            urls = {key: scheme[key] for key in ("authorizationUrl", "tokenUrl") if key in scheme}
            details = {**urls, "scopes": objects(scheme.get("scopes"))}
            return {"type": "oauth2", "flows": {_FLOWS.get(flow, flow): details}, **kept}
        case _:
            return dict(scheme)


def _path(item: Any, document: Json, documents: Documents) -> Any:
    if not isinstance(item, dict):
        return item
    given = cast("Json", item)
    shared = items(given.get("parameters"))
    changed: Json = {key: value for key, value in given.items() if key not in ("parameters", *METHODS)}
    for method in METHODS:
        if method in given:
            operation = given[method]
            changed[method] = (
                _operation(cast("Json", operation), shared, document, documents)
                if isinstance(operation, dict)
                else operation
            )
    return changed


def _operation(operation: Json, shared: Iterable[Any], document: Json, documents: Documents) -> Json:
    changed = {
        key: value
        for key, value in operation.items()
        if key not in ("parameters", "consumes", "produces", "schemes", "responses")
    }
    own = [_found(each, documents) for each in items(operation.get("parameters"))]
    named = set(map(_key, own))
    above = [_found(each, documents) for each in shared]
    parameters = [each for each in above if _key(each) not in named] + own
    forms = [each for each in map(objects, parameters) if each.get("in") == "formData"]
    bodies = [each for each in map(objects, parameters) if each.get("in") == "body"]
    changed["parameters"] = [
        _parameter(cast("Json", each)) if objects(each).get("in") in ("path", "query", "header") else each
        for each in parameters
        if objects(each).get("in") not in ("formData", "body")
    ]
    consumes = _media(operation, document, "consumes")
    if bodies:
        changed["requestBody"] = _body(bodies[0], consumes)
    elif forms:
        changed["requestBody"] = _form(forms, consumes)
    produces = _media(operation, document, "produces") or ["application/json"]
    changed["responses"] = {
        code: _response(response, produces, documents)
        for code, response in objects(operation.get("responses")).items()
    }
    if schemes := items(operation.get("schemes")):
        changed["servers"] = _servers(document, schemes)
    return changed


def _key(parameter: Any) -> tuple[str, str]:
    given = objects(parameter)
    return text(given.get("name")), text(given.get("in"))


def _found(node: Any, documents: Documents) -> Any:
    """Return a parameter, or what it leads to; where that is nowhere, it stays to be reported."""
    try:
        return documents.follow(node, "").node
    except SpecInvalid:
        return node


def _media(operation: Json, document: Json, key: str) -> list[str]:
    given = operation.get(key, document.get(key))
    return [each for each in items(given) if isinstance(each, str)]


def _schema(parameter: Json) -> Json:
    return {key: value for key, value in parameter.items() if key not in _NOT_SCHEMA}


def _parameter(parameter: Json) -> Json:
    changed: Json = {
        key: parameter[key]
        for key in ("name", "in", "description", "required", "allowEmptyValue")
        if key in parameter
    }
    changed["schema"] = _schema(parameter)
    if parameter.get("type") == "array":
        style = _COLLECTIONS.get(text(parameter.get("collectionFormat")) or "csv", _COLLECTIONS["csv"])
        changed |= style if parameter["in"] == "query" else {"style": "simple", "explode": False}
    return changed


def _body(parameter: Json, consumes: list[str]) -> Json:
    schema = parameter.get("schema", {})
    changed: Json = {"content": {media: {"schema": schema} for media in consumes or ["application/json"]}}
    return changed | {key: parameter[key] for key in ("description", "required") if key in parameter}


def _form(parameters: list[Json], consumes: list[str]) -> Json:
    has_files = any(each.get("type") == "file" for each in parameters)
    forms = [
        each for each in consumes if each in ("multipart/form-data", "application/x-www-form-urlencoded")
    ]
    media = (
        "multipart/form-data"
        if has_files or (forms and forms[0] == "multipart/form-data")
        else ("application/x-www-form-urlencoded")
    )
    properties: Json = {}
    encoding: Json = {}
    for each in parameters:
        name = text(each.get("name"))
        schema = _schema(each)
        if schema.get("type") == "file":
            schema |= {"type": "string", "format": "binary"}
        properties[name] = schema | {key: each[key] for key in ("description",) if key in each}
        if each.get("type") == "array":
            encoding[name] = _COLLECTIONS.get(
                text(each.get("collectionFormat")) or "csv", _COLLECTIONS["csv"]
            )
    required = [text(each.get("name")) for each in parameters if each.get("required") is True]
    schema = {"type": "object", "properties": properties, **({"required": required} if required else {})}
    content: Json = {"schema": schema, **({"encoding": encoding} if encoding else {})}
    return {"content": {media: content}, **({"required": True} if required else {})}


def _response(response: Any, produces: list[str], documents: Documents) -> Any:
    try:
        target: Target = documents.follow(response, "")
    except SpecInvalid:
        return response
    given = objects(target.node)
    if given is not target.node:
        return response
    changed: Json = {"description": text(given.get("description"))}
    if headers := objects(given.get("headers")):
        changed["headers"] = {
            name: {"schema": _schema(cast("Json", each))}
            for name, each in headers.items()
            if isinstance(each, dict)
        }
    if "schema" in given:
        is_file = objects(given["schema"]).get("type") == "file"
        schema = {"type": "string", "format": "binary"} if is_file else given["schema"]
        changed["content"] = {media: {"schema": schema} for media in produces}
    return changed
