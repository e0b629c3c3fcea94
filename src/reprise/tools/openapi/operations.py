"""The operations of a specification: what is called, with which parameters, body, servers and security.

Read once, when tools are made; schemas are left where they are, and translated when somebody wants to see or call one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, cast
from urllib.parse import urljoin, urlsplit

import msgspec

from reprise.tools.openapi.documents import Documents, Json, items, objects, text
from reprise.tools.openapi.reading import SpecInvalid

METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace", "query")
SAFE = frozenset({"get", "head", "options", "trace", "query"})
"""Methods that change nothing at the server."""
IDEMPOTENT = SAFE | {"put", "delete"}
AUTHORIZATION = "authorization"
"""The security scheme of operations that want a header of that name as a parameter, which callers do not set."""
TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_MEDIA = re.compile(r"[\w!#$&^.+*-]+/[\w!#$&^.+*-]+(\s*;[^\r\n]*)?")
_STYLES = {
    "path": ("simple", "label", "matrix"),
    "query": ("form", "spaceDelimited", "pipeDelimited", "deepObject", "tabDelimited"),
    "header": ("simple",),
    "cookie": ("form", "cookie"),
}
_OURS = frozenset(
    "accept content-type authorization cookie host content-length transfer-encoding connection expect upgrade te trailer "
    "keep-alive proxy-authorization proxy-connection".split()
)
"""Headers that no caller sets: they follow from bodies, answers and security, or are how a request is sent."""
_EXPRESSION = re.compile(r"\{([^{}]*)\}")


class Parameter(NamedTuple):
    """One value of a request."""

    name: str
    where: str
    """``path``, ``query``, ``header``, ``cookie`` or ``querystring``, which is the whole query."""
    required: bool
    style: str
    explode: bool
    reserved: bool
    media: str
    """How it is written instead of by a style, '' = by its style."""
    schema: Any
    document: str
    description: str


class Body(NamedTuple):
    """The body of a request."""

    media: str
    required: bool
    schema: Any
    document: str
    encoding: Mapping[str, Any]
    description: str


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One operation, as it stands in the specification."""

    method: str
    """In small letters; of 3.2 also others than the known."""
    path: str
    id: str = ""
    summary: str = ""
    description: str = ""
    tags: tuple[str, ...] = ()
    deprecated: bool = False
    parameters: tuple[Parameter, ...] = ()
    body: Body | None = None
    responses: Mapping[str, Any] = {}
    document: str = ""
    """URI of the document that the responses stand in."""
    security: tuple[tuple[tuple[str, tuple[str, ...]], ...], ...] = ()
    """What is needed: one of these, and all of its (scheme, scopes)."""
    server: str = ""
    """URL that the path is appended to, '' = nobody said."""
    notes: tuple[str, ...] = ()


class Found(NamedTuple):
    """Something under ``paths`` that is an operation, or should be."""

    method: str
    path: str
    operation: Operation | None
    fault: str = ""
    """Why there is none."""


class Reader:
    """Reads the operations of a document of OpenAPI 3."""

    def __init__(
        self,
        documents: Documents,
        *,
        base: str = "",
        variables: Mapping[str, str] | None = None,
        fixed: str = "",
    ) -> None:
        self._documents, self._root = documents, documents.root
        self._base, self._variables, self._fixed = (
            base if base.startswith("http") else "",
            variables or {},
            fixed,
        )
        self._shared: dict[int, tuple[Any, Parameter | str]] = {}
        self._security = self._requirements(self._root.get("security"))
        self.notes: list[str] = []
        self.server = self._server(self._root.get("servers"), self.notes)

    def operations(self) -> Iterator[Found]:
        """Yield what stands under ``paths``, one after the other; what cannot be used, with the reason."""
        for path, item in objects(self._root.get("paths")).items():
            if path.startswith("x-"):
                continue
            try:
                target = self._documents.follow(item, self._documents.uri)
            except SpecInvalid as error:
                yield Found("*", path, None, str(error))
                continue
            given = objects(target.node)
            if given is not target.node:
                yield Found("*", path, None, "What stands there is no object.")
                continue
            if isinstance(item, dict) and len(cast("Json", item)) > 1 and "$ref" in item:
                given = {
                    **given,
                    **{key: value for key, value in cast("Json", item).items() if key != "$ref"},
                }
            more = objects(given.get("additionalOperations"))
            for method in (*(name for name in METHODS if name in given), *more):
                operation = more[method] if method in more and method not in given else given[method]
                yield self._read(method, path, operation, given, target.document)

    def _read(self, method: str, path: str, operation: Any, item: Json, document: str) -> Found:
        if not isinstance(operation, dict):
            return Found(method, path, None, "What stands there is no object.")
        if not TOKEN.fullmatch(method) or method.lower() == "connect":
            return Found(method, path, None, f"{method!r} is no method that can be called.")
        try:
            made = self._operation(method.lower(), path, cast("Json", operation), item, document)
        except SpecInvalid as error:
            return Found(method, path, None, str(error))
        return Found(method, path, made)

    def _operation(self, method: str, path: str, given: Json, item: Json, document: str) -> Operation:
        notes: list[str] = []
        check_path(path)
        parameters = self._parameters(path, given, item, document, notes)
        names = {each.name for each in parameters if each.where == "path"}
        wanted = set(_EXPRESSION.findall(path.partition("#")[0]))
        if missing := sorted(wanted - names):
            notes.append(f"{', '.join(missing)} of the path is no parameter; taken for a text.")
            parameters += [
                Parameter(name, "path", True, "simple", False, False, "", {"type": "string"}, document, "")
                for name in missing
            ]
        if unused := sorted(names - wanted):
            notes.append(f"The path has no {', '.join(unused)}; left out.")
            parameters = [each for each in parameters if each.where != "path" or each.name in wanted]
        security = self._security if given.get("security") is None else self._requirements(given["security"])
        servers = given.get("servers", item.get("servers"))
        return Operation(
            method=method,
            path=path,
            id=text(given.get("operationId")),
            summary=text(given.get("summary")) or text(item.get("summary")),
            description=text(given.get("description")) or text(item.get("description")),
            tags=tuple(dict.fromkeys(each for each in items(given.get("tags")) if isinstance(each, str))),
            deprecated=given.get("deprecated") is True,
            parameters=tuple(parameters),
            body=self._body(given.get("requestBody"), document, notes),
            responses=objects(given.get("responses")),
            document=document,
            security=security or self._by_header(given, item, document),
            server=self.server if not items(servers) else self._server(servers, notes),
            notes=tuple(notes),
        )

    # ------------------------------------------------------------ parameters

    def _parameters(
        self, path: str, given: Json, item: Json, document: str, notes: list[str]
    ) -> list[Parameter]:
        found: dict[tuple[str, str], Parameter] = {}
        for each in (*items(item.get("parameters")), *items(given.get("parameters"))):
            parameter = self._parameter(each, document)
            if isinstance(parameter, str):
                if _is_needed(each):
                    raise SpecInvalid(parameter)
                notes.append(f"{parameter} Left out.")
            else:
                found[parameter.name, parameter.where] = parameter
        return list(found.values())

    def _parameter(self, node: Any, document: str) -> Parameter | str:
        """Return a parameter, or why it cannot be used; shared ones are read once."""
        known = self._shared.get(id(node))
        if known is None:
            known = self._shared[id(node)] = (node, self._read_parameter(node, document))
        return known[1]

    def _read_parameter(self, node: Any, document: str) -> Parameter | str:
        target = self._documents.follow(node, document)
        given = objects(target.node)
        name, where = text(given.get("name")), text(given.get("in"))
        if not name or where not in (*_STYLES, "querystring"):
            return f"A parameter has name {name!r:.60} in {where!r:.60}."
        if where == "header" and name.lower() in _OURS:
            return f"The header {name} follows from what is sent."
        if where == "header" and not TOKEN.fullmatch(name):
            return f"{name!r:.60} cannot be a header."
        if where == "cookie" and not TOKEN.fullmatch(name):
            return f"{name!r:.60} cannot be the name of a cookie."
        content = objects(given.get("content"))
        media, schema, uri = next(iter(content), ""), given.get("schema"), target.document
        if media:
            holder = self._documents.follow(content[media], uri)
            schema, uri = objects(holder.node).get("schema"), holder.document
        elif schema is None and "type" in given:  # of Swagger 2.0, in another document
            schema = {
                key: value
                for key, value in given.items()
                if key not in ("name", "in", "required", "description")
            }
        style = text(given.get("style"))
        usual = "simple" if where in ("path", "header") else "form"
        style = style if style in _STYLES.get(where, ()) else usual
        explode = given.get("explode")
        return Parameter(
            name,
            where,
            given.get("required") is True or where == "path",
            style,
            explode if isinstance(explode, bool) else style in ("form", "deepObject", "cookie"),
            given.get("allowReserved") is True,
            media,
            {} if schema is None else schema,
            uri,
            text(given.get("description")),
        )

    # ------------------------------------------------------------ bodies, security, servers

    def _body(self, node: Any, document: str, notes: list[str]) -> Body | None:
        if node is None:
            return None
        target = self._documents.follow(node, document)
        given = objects(target.node)
        content = objects(given.get("content"))
        known = [media for media in content if _MEDIA.fullmatch(media)]
        if not known:
            notes.append("Nothing says of what media type the body is; taken for JSON.")
        media = min(known, key=_preference) if known else "application/json"
        holder = self._documents.follow(
            content[media] if known else next(iter(content.values()), None), target.document
        )
        about = objects(holder.node)
        schema = about.get("schema", about.get("itemSchema", {}))
        return Body(
            media,
            given.get("required") is True,
            schema,
            holder.document,
            objects(about.get("encoding")),
            text(given.get("description")),
        )

    def _by_header(
        self, given: Json, item: Json, document: str
    ) -> tuple[tuple[tuple[str, tuple[str, ...]], ...], ...]:
        """Return the security of an operation that says it wants a header and nothing else."""
        for each in (*items(given.get("parameters")), *items(item.get("parameters"))):
            about = objects(self._documents.follow(each, document).node)
            if about.get("in") == "header" and text(about.get("name")).lower() == "authorization":
                needed = (((AUTHORIZATION, ()),),)
                return needed if about.get("required") is True else (*needed, ())
        return ()

    def _requirements(self, node: Any) -> tuple[tuple[tuple[str, tuple[str, ...]], ...], ...]:
        return tuple(
            tuple(
                (scheme, tuple(each for each in items(scopes) if isinstance(each, str)))
                for scheme, scopes in objects(choice).items()
            )
            for choice in items(node)
        )

    def _server(self, servers: Any, notes: list[str]) -> str:
        """Return the URL of the first server, made whole by the URL that the specification was loaded from.

        One that somebody fixed stands for all; only where it has no path, a relative server gives it one.
        """
        first = objects(next(iter(items(servers)), None))
        url = text(first.get("url")) or "/"
        for name, variable in objects(first.get("variables")).items():
            about = objects(variable)
            value = self._variables.get(name, about.get("default"))
            allowed = items(about.get("enum"))
            if name in self._variables and allowed and value not in allowed:
                raise SpecInvalid(
                    f"{name}={value!r} is no value of the server's variable.",
                    hint=f"Valid: {', '.join(map(str, allowed))}.",
                )
            if value is not None:
                url = url.replace(f"{{{name}}}", str(value))
        if self._fixed and (
            urlsplit(self._fixed).path.strip("/") or not url.startswith("/") or url.startswith("//")
        ):
            return self._fixed.rstrip("/")
        if left := _EXPRESSION.findall(url):
            notes.append(f"The server {url} has no value for {', '.join(left)}: OpenAPIParser(variables=…).")
            return ""
        return whole_url(url, self._fixed or self._base, notes)


def whole_url(url: str, base: str, notes: list[str]) -> str:
    """Return a server's URL, '' where it cannot be one; a relative one is made whole by ``base``."""
    whole = urljoin(base, url) if base else f"https:{url}" if url.startswith("//") else url
    try:
        parts = urlsplit(whole)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host, parts = None, urlsplit("")
    if not parts.scheme and not parts.netloc:
        return ""
    if (
        parts.scheme not in ("http", "https")
        or not host
        or parts.username is not None
        or re.search(r"[\s\\]", whole)
    ):
        notes.append(f"{whole!r:.100} cannot be a server.")
        return ""
    return whole.partition("#")[0].rstrip("/")


def check_path(path: str) -> None:
    """Raise ``SpecInvalid`` for a path that leads out of where its server says."""
    plain = _EXPRESSION.sub("x", path).partition("?")[0].partition("#")[0]
    decoded = re.sub(r"%2e", ".", plain, flags=re.IGNORECASE)
    if ".." in re.split(r"/|\\|%2f|%5c", decoded, flags=re.IGNORECASE) or re.search(
        r"[\x00-\x1f\x7f]", plain
    ):
        raise SpecInvalid(f"{path!r:.100} leads out of its server, or is no path.")


def _is_needed(node: Any) -> bool:
    given = objects(node)
    name = text(given.get("name"))
    return given.get("required") is True and bool(name) and name.lower() not in _OURS


def is_json(media: str) -> bool:
    """Tell whether a media type is written as JSON.

    >>> is_json("application/problem+json; charset=utf-8"), is_json("text/plain")
    (True, False)
    """
    plain = media.partition(";")[0].strip().lower()
    return plain in ("application/json", "*/*", "application/*", "text/json") or plain.endswith("+json")


def _preference(media: str) -> tuple[int, str]:
    """Return how willingly a body is written as a media type, the best first."""
    plain = media.partition(";")[0].strip().lower()
    if plain == "application/json":
        return 0, media
    if is_json(media):
        return (1 if "*" not in plain else 5), media
    if plain == "multipart/form-data":
        return 2, media
    if plain == "application/x-www-form-urlencoded":
        return 3, media
    return (4 if plain.startswith("text/") else 6), media
