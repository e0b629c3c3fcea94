"""Specifications of APIs become tools."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from reprise.kernel.errors import ConfigurationError, ToolError
from reprise.tools.guards.network import NetworkAccess
from reprise.tools.openapi.bodies import kind_of
from reprise.tools.openapi.documents import objects
from reprise.tools.openapi.endpoint import Api, Endpoint
from reprise.tools.openapi.naming import check_prefix, names_of
from reprise.tools.openapi.operations import AUTHORIZATION, IDEMPOTENT, Found, Reader, whole_url
from reprise.tools.openapi.options import Filter, OperationOptions, Pace, options_for
from reprise.tools.openapi.reading import Format, SpecInvalid, uncollected
from reprise.tools.openapi.report import OpenAPIReport, OperationReport
from reprise.tools.openapi.schemas import Schemas
from reprise.tools.openapi.security import is_known
from reprise.tools.openapi.sending import Caller
from reprise.tools.openapi.spec import OpenAPISpec, load
from reprise.tools.registry import ToolRegistry
from reprise.tools.tool import MAX_INPUT, Tool

Source = str | bytes | Path | Mapping[str, Any]
"""A specification: its text, a path, a URL, or what its document holds."""
MAX_FILES = 32 << 20
"""Bytes of arguments of an operation that takes files."""
READS, WRITES = "reads", "writes"
"""Tags of tools: what they may do at the server."""


class OpenAPITool(Tool):
    """A tool that calls an operation of an API."""

    def __init__(self, endpoint: Endpoint) -> None:
        body = endpoint.operation.body
        super().__init__(
            Caller(endpoint).__call__,
            name=endpoint.name,
            description=endpoint.description,
            signature=endpoint,
            effects="network",
            idempotent=endpoint.operation.method in IDEMPOTENT,
            tags=("openapi", WRITES if endpoint.writes else READS, *endpoint.operation.tags),
            timeout=endpoint.options.timeout,
            max_input=MAX_FILES
            if body is not None and kind_of(body.media) in ("multipart", "bytes")
            else MAX_INPUT,
            extra="openapi",
        )
        self.endpoint = endpoint

    def refusal(self, caller: str) -> ToolError | None:
        """Return the error of somebody who may only read."""
        endpoint = self.endpoint
        if endpoint.may_be_called_by(caller):
            return None
        return ToolError(
            "permission_denied",
            f"{self.name}: {caller} may only read, and this is a {endpoint.operation.method.upper()}.",
            hint=f"Let it write: OpenAPIParser(writers=[{caller!r}]).",
        )

    @property
    def digest(self) -> str:
        """A hash of what models are told of it, and of where it goes: changes when that does."""
        return self.endpoint.digest


class OpenAPIParser:
    r"""Makes tools of the operations of an API, which really call it.

    ``base_url``
        The server, if not the one that the specification names. Without one a relative server is at the URL that the
        specification was loaded from; the environment may say it, too: ``REPRISE_MYAPI_BASE_URL`` for ``myapi_``.
    ``variables``
        Values of variables in servers' URLs.
    ``credentials``
        Names of credentials by security scheme; see :class:`Credentials`.
    ``writers``
        Names of those who may call what changes something at the server, ``*`` for anything. Scopes of agents may only
        read unless they are named here; the registry itself may do both.
    ``options``
        What is made of answers, by name of a tool, in which ``*`` stands for anything.
    ``rate``, ``retries``
        Calls in so many seconds, all tools of one specification together; how often what failed is tried again, where
        that does no harm.
    ``refs``
        Folders and URLs under which other documents may lie that ``$ref`` leads to. Nothing else is read.
    ``slashes``
        Let slashes into parameters of paths, encoded: for servers that are known to keep ``%2F`` in its segment.
    ``network``
        How specifications are fetched. Calls go the way that was provided to the registry.
    ``pins``
        What was agreed to: digests of tools by name (:meth:`pins`). What has another digest is held.

    >>> parser = OpenAPIParser(base_url="https://a.test")
    >>> spec = parser.parse_spec("openapi: 3.0.0\npaths: {/users: {get: {operationId: list_users}}}")
    >>> parser.extract_tools(spec, tool_prefix="my_")
    [<tool my_list_users, network>]

    Raises ``ConfigurationError`` for options that cannot be.
    """

    def __init__(
        self,
        *,
        base_url: str = "",
        variables: Mapping[str, str] | None = None,
        credentials: Mapping[str, str] | None = None,
        writers: Sequence[str] = (),
        options: Mapping[str, OperationOptions] | None = None,
        rate: tuple[int, float | timedelta] | None = None,
        retries: int = 2,
        refs: Sequence[str | Path] = (),
        slashes: bool = False,
        network: NetworkAccess | None = None,
        pins: Mapping[str, str] | None = None,
    ) -> None:
        notes: list[str] = []
        if base_url and not whole_url(base_url, "", notes):
            raise ConfigurationError(
                f"base_url={base_url!r}", hint=" ".join(notes) or "Write https://example.org/v1."
            )
        for name, value in (("writers", writers), ("refs", refs)):
            if isinstance(value, str):
                raise ConfigurationError(f"{name}={value!r}", hint=f"Give a list: {name}=[{value!r}].")
        if retries < 0:
            raise ConfigurationError(f"retries={retries}", hint="It must not be negative.")
        Pace(rate)
        self._base_url, self._variables = base_url, variables or {}
        self._credentials, self._writers = credentials or {}, tuple(writers)
        self._options, self._rate, self._retries = options or {}, rate, retries
        self._refs, self._slashes = refs, slashes
        self._network = network or NetworkAccess()
        self._pins = pins
        self.report = OpenAPIReport()
        """What became of the specification that was read last."""

    def parse_spec(self, source: Source, format: Format | None = None) -> OpenAPISpec:
        """Return a specification, given as text, path or URL: Swagger 2.0, OpenAPI 3.0, 3.1 or 3.2.

        Without a format it is told from the text. Raises ``ConfigurationError`` for what cannot be read, ``ToolError`` for
        a URL that cannot be fetched.
        """
        with uncollected():
            return load(source, format, refs=self._refs, network=self._network)

    def extract_tools(
        self,
        spec: OpenAPISpec | Source,
        tool_prefix: str = "",
        *,
        tags: Sequence[str] = (),
        paths: Sequence[str] = (),
        methods: Sequence[str] = (),
        deprecated: bool = False,
    ) -> list[OpenAPITool]:
        """Return a tool for each operation that can be called; :attr:`report` says what became of the others.

        ``tags``, ``paths`` (``/users*``) and ``methods`` choose among them; those that are ``deprecated`` are left out. Names
        begin with ``tool_prefix``, and depend on nothing but the operation. Raises as :meth:`parse_spec`.
        """
        prefix = check_prefix(tool_prefix)
        read = spec if isinstance(spec, OpenAPISpec) else self.parse_spec(spec)
        wanted = Filter(tags, paths, methods, deprecated)
        with uncollected():
            return self._extract(read, prefix, wanted)

    def register_tools_from_spec(
        self,
        spec: OpenAPISpec | Source,
        registry: ToolRegistry,
        format: Format | None = None,
        tool_prefix: str = "",
        *,
        tags: Sequence[str] = (),
        paths: Sequence[str] = (),
        methods: Sequence[str] = (),
        deprecated: bool = False,
        replace: bool = False,
        accept: Iterable[str] = (),
    ) -> int:
        """Make the operations of a specification known to a registry, and return how many are.

        ``replace`` reads an API anew: operations of which models would be told something else than before stay what they
        were, and :attr:`report` has them as held, until ``accept`` names them. Nothing is registered when a name is taken:
        ``ToolError`` with code ``conflict``. Raises as :meth:`parse_spec`, too.
        """
        read = spec if isinstance(spec, OpenAPISpec) else self.parse_spec(spec, format)
        tools = self.extract_tools(
            read, tool_prefix, tags=tags, paths=paths, methods=methods, deprecated=deprecated
        )
        accepted, held = set(accept), dict[str, str]()
        for tool in tools:
            if tool.name not in registry:
                continue
            known = registry[tool.name]
            if not replace or not isinstance(known, OpenAPITool):
                raise ToolError(
                    "conflict",
                    f"Another tool is called {tool.name!r}.",
                    hint="Give tool_prefix=, or say replace=True to read the same API anew.",
                )
            if known.digest != tool.digest and tool.name not in accepted:
                held[tool.name] = f"What is said of it has changed: accept=[{tool.name!r}] to take that."
        for tool in tools:
            if tool.name not in held:
                registry.register_tool(tool, replace=replace)
        if held:
            self.report = _with_held(self.report, held)
        return len(tools)

    @staticmethod
    def pins(tools: Iterable[Tool]) -> dict[str, str]:
        """Return the digests of tools by name, to be kept and given as ``pins`` the next time."""
        return {tool.name: tool.digest for tool in tools if isinstance(tool, OpenAPITool)}

    # ------------------------------------------------------------ inside

    def _extract(self, read: OpenAPISpec, prefix: str, wanted: Filter) -> list[OpenAPITool]:
        reader = Reader(read.documents, base=read.uri, variables=self._variables, fixed=self._server(prefix))
        found = list(reader.operations())
        api = self._api(read, reader, prefix)
        operations = [each.operation for each in found if each.operation is not None]
        names = iter(names_of([(each.id, each.method, each.path) for each in operations], prefix))
        tools: list[OpenAPITool] = []
        reports: list[OperationReport] = []
        for each in found:
            tool, report = self._tool(each, api, "" if each.operation is None else next(names), wanted)
            reports.append(report)
            tools += [tool] if tool is not None else []
        self.report = OpenAPIReport(
            title=read.title,
            version=read.version,
            operations=tuple(reports),
            servers=tuple(sorted({tool.endpoint.server for tool in tools} - {""})),
            notes=(*read.notes, *reader.notes, *_notes_of(api, tools), *_left_out(read)),
        )
        return tools

    def _server(self, prefix: str) -> str:
        name = f"REPRISE_{prefix.upper().replace('-', '_') or 'OPENAPI_'}BASE_URL"
        given = self._base_url or os.environ.get(name, "")
        if given and not whole_url(given, "", []):
            raise ConfigurationError(f"{name}={given!r}", hint="Write https://example.org/v1.")
        return given

    def _api(self, spec: OpenAPISpec, reader: Reader, prefix: str) -> Api:
        siblings = spec.version.startswith(("3.1", "3.2"))
        schemes: dict[str, Any] = {AUTHORIZATION: {"type": "apiKey", "in": "header", "name": "Authorization"}}
        for name, scheme in objects(
            objects(spec.documents.root.get("components")).get("securitySchemes")
        ).items():
            try:
                schemes[name] = spec.documents.follow(scheme, spec.uri).node
            except SpecInvalid as error:
                reader.notes.append(f"The security scheme {name}: {error}")
        return Api(
            title=spec.title,
            documents=spec.documents,
            sent=Schemas(spec.documents, sent=True, siblings=siblings),
            received=Schemas(spec.documents, sent=False, siblings=siblings),
            schemes=schemes,
            server=reader.server,
            credentials={name: self._credentials.get(name, prefix + name) for name in schemes},
            writers=self._writers,
            pace=Pace(self._rate),
            retries=self._retries,
            slashes=self._slashes,
        )

    def _tool(
        self, found: Found, api: Api, name: str, wanted: Filter
    ) -> tuple[OpenAPITool | None, OperationReport]:
        operation = found.operation
        if operation is None:
            return None, OperationReport(
                method=found.method, path=found.path, outcome="failed", notes=(found.fault,)
            )
        method, path = operation.method, operation.path
        if why := wanted.refusal(method, path, operation.tags, deprecated=operation.deprecated):
            return None, OperationReport(method=method, path=path, outcome="skipped", name=name, notes=(why,))
        tool = OpenAPITool(Endpoint(api, operation, name, options_for(name, self._options)))
        if self._pins is not None and self._pins.get(name) != tool.digest:
            why = "It is new." if name not in self._pins else "What is said of it has changed."
            return None, OperationReport(method=method, path=path, outcome="held", name=name, notes=(why,))
        return tool, OperationReport(
            method=method, path=path, outcome="tool", name=name, notes=operation.notes
        )


def _with_held(report: OpenAPIReport, held: Mapping[str, str]) -> OpenAPIReport:
    changed = tuple(
        OperationReport(
            method=each.method,
            path=each.path,
            outcome="held",
            name=each.name,
            notes=(held[each.name], *each.notes),
        )
        if each.name in held
        else each
        for each in report.operations
    )
    return OpenAPIReport(
        title=report.title,
        version=report.version,
        operations=changed,
        servers=report.servers,
        notes=report.notes,
    )


def _notes_of(api: Api, tools: Iterable[OpenAPITool]) -> list[str]:
    """Return what whoever registers an API should know: servers, and security that needs a way out."""
    notes: list[str] = []
    others = sorted({tool.endpoint.server for tool in tools} - {api.server, ""})
    if not api.server:
        notes.append('No server is known; calls are unavailable: OpenAPIParser(base_url="https://…").')
    if others:
        notes.append(f"Some operations go to other servers: {', '.join(others[:10])}.")
    used = {scheme for tool in tools for way in tool.endpoint.operation.security for scheme, _ in way}
    for name in sorted(used):
        scheme = objects(api.schemes.get(name))
        if scheme.get("type") != "mutualTLS" and not is_known(scheme):
            notes.append(
                f"The security scheme {name} is {scheme.get('scheme') or scheme.get('type') or 'unknown'}, which is not known: give the tools an executor of your own."
            )
    return notes


def _left_out(spec: OpenAPISpec) -> list[str]:
    hooks = len(objects(spec.document.get("webhooks")))
    return [f"{hooks} webhooks are not operations that are called."] if hooks else []
