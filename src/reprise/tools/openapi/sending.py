"""Calling an operation: credentials, rates, retries, pages, and what came of it."""

from __future__ import annotations

import asyncio
from typing import Any

from reprise.kernel.errors import ToolError
from reprise.kernel.policy import seconds
from reprise.tools.context import ToolContext
from reprise.tools.guards.network import Fetched, network
from reprise.tools.openapi.answers import error_of, value_of, wait_of
from reprise.tools.openapi.building import Prepared, with_query
from reprise.tools.openapi.credentials import Applied, Credentials, Target
from reprise.tools.openapi.documents import joined, objects, split
from reprise.tools.openapi.endpoint import CONTEXT, Endpoint
from reprise.tools.openapi.operations import IDEMPOTENT
from reprise.tools.openapi.rows import (
    Next,
    changed,
    counted_page,
    cut,
    next_page,
    query_of,
    rows_of,
    with_rows,
)
from reprise.tools.openapi.security import authorise

_AGAIN = frozenset({502, 503, 504})
"""Answers after which what may be repeated is tried again."""
_PAUSE = 0.5
"""Seconds before the second try, where the server does not say; doubled before each further one."""
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS = 5


class Caller:
    """Calls one operation."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    async def __call__(self, /, **arguments: Any) -> Any:
        """Call the operation. Raises ``ToolError``."""
        context: ToolContext = arguments.pop(CONTEXT)
        call = _Call(self._endpoint, context)
        return await call.execute(arguments)


class _Call:
    """One call, with its retries and pages."""

    def __init__(self, endpoint: Endpoint, context: ToolContext) -> None:
        self._endpoint, self._api, self._context = endpoint, endpoint.api, context
        self._options, self._operation = endpoint.options, endpoint.operation
        self._client: Any = None
        """Its connections are used by all tries and pages."""
        self._is_told = False
        """Whether the server says by itself where the next page is."""
        self._until = context.clock.monotonic() + seconds(self._options.timeout, "timeout")

    async def execute(self, arguments: dict[str, Any]) -> Any:
        endpoint = self._endpoint
        self._admit()
        key = endpoint.key_argument
        if key and key not in arguments and self._context.idempotency_key:
            arguments[key] = self._context.idempotency_key
        request = endpoint.prepare(arguments, self._context)
        async with network(self._context).client(timeout=max(0.001, self._left())) as self._client:
            answer = await self._send(request)
            value = await self._pages(request, arguments, answer, self._value(answer))
        value, note = cut(self._options.selected(value), self._options.max_rows, self._options.max_bytes)
        if note:
            self._context.warn(note)
        if endpoint.unchecked:
            self._context.warn(f"The arguments were not checked: {endpoint.unchecked}.")
        return value

    def _admit(self) -> None:
        endpoint = self._endpoint
        if not endpoint.server:
            raise ToolError(
                "unavailable",
                f"{self._api.title or 'The specification'} does not say at which server {endpoint.name} is.",
                hint='Say it: OpenAPIParser(base_url="https://…").',
            )

    # ------------------------------------------------------------ one request

    async def _send(self, request: Prepared) -> Fetched:
        """Return a successful answer. Raises ``ToolError`` for every other."""
        applied = await self._authorise(request)
        renewed, tries = False, 0
        while True:
            try:
                answer = await self._once(request, applied)
            except ToolError as error:
                if error.code != "upstream" or self._operation.method not in IDEMPOTENT:
                    raise
                if tries >= self._api.retries or not await self._pause(None, tries):
                    raise
                tries += 1
                continue
            if 200 <= answer.status < 300 or answer.status == 304:
                return answer
            if answer.status == 401 and applied.renewable and not renewed:
                renewed = True
                held = self._context.find(Credentials)
                if held is not None:
                    held.forget(applied.names)
                applied = await self._authorise(request)
                continue
            again = answer.status == 429 or (answer.status in _AGAIN and self._operation.method in IDEMPOTENT)
            wait = wait_of(answer, self._context.clock.now())
            if not again or tries >= self._api.retries or not await self._pause(wait, tries):
                raise self._error(answer, applied)
            tries += 1

    async def _authorise(self, request: Prepared) -> Applied:
        own = _origin(request.url) == _origin(self._api.server)
        target = Target(request.url, own, self._context)
        return await authorise(self._operation.security, self._api.schemes, self._api.credentials, target)

    async def _once(self, request: Prepared, applied: Applied) -> Fetched:
        """Send a request, and again where its own server redirects it to itself; never anywhere else."""
        headers = {**request.headers, **applied.headers}
        if cookies := [*request.cookies, *applied.cookies]:
            headers["Cookie"] = "; ".join(cookies)
        ours = {name for name, _ in applied.query}
        url = with_query(
            request.url, [*(each for each in request.query if each[0] not in ours), *applied.query]
        )
        for _ in range(_MOST_REDIRECTS + 1):
            await self._keep_pace()
            answer = await network(self._context).fetch(
                request.method,
                url,
                headers=headers,
                content=request.content,
                timeout=max(0.001, self._left()),
                follow_redirects=False,
                field="",
                client=self._client,
            )
            location = answer.headers.get("location", "")
            if answer.status not in _REDIRECTS or not location:
                return answer
            target = joined(url, location)
            if self._endpoint.writes or _origin(target) != _origin(request.url):
                raise ToolError(
                    "upstream",
                    f"{_origin(url)} redirects {self._endpoint.name} to {target[:200]}.",
                    hint="If that is where it should go: OpenAPIParser(base_url=…).",
                )
            url = target
        raise ToolError("upstream", f"{_origin(url)} redirects more than {_MOST_REDIRECTS} times.")

    async def _keep_pace(self) -> None:
        while wait := self._api.pace.wait(self._context.clock):
            if wait >= self._left():
                raise ToolError(
                    "rate_limited",
                    f"{self._api.title or 'The API'} is called as often as it may be.",
                    hint=f"Try again in {wait:.1f} s.",
                    retry_after=wait,
                )
            await asyncio.sleep(wait)

    async def _pause(self, wanted: float | None, tries: int) -> bool:
        """Wait as long as the server wants, and tell whether there is time for that."""
        wait = _PAUSE * 2**tries * (1 + self._context.randomness(1)[0] / 512) if wanted is None else wanted
        if wait >= self._left():
            return False
        await asyncio.sleep(wait)
        return True

    def _left(self) -> float:
        return self._until - self._context.clock.monotonic()

    # ------------------------------------------------------------ answers

    def _error(self, answer: Fetched, applied: Applied) -> ToolError:
        what = f"{self._operation.method.upper()} {split(answer.url).path}"
        now = self._context.clock.now()
        return error_of(answer, what[:200], applied.names, self._endpoint.names, now)

    def _value(self, answer: Fetched) -> Any:
        value = value_of(answer)
        media = answer.headers.get("content-type", "")
        misfit = self._endpoint.misfit(answer.status, media, value) if value is not None else None
        if misfit is not None:
            self._context.warn(f"The answer is not as specified: {misfit.what}, at {misfit.field}.")
        return value

    async def _pages(self, request: Prepared, arguments: dict[str, Any], answer: Fetched, value: Any) -> Any:
        """Return the answer with the rows of further pages, as many as wanted; say where those are that are left."""
        found = rows_of(value)
        if found is None or self._operation.method != "get":
            return value
        rows, taken = list(found.all), 1
        following = self._next(request, arguments, answer, value)
        while following is not None and taken < self._options.all_pages:
            if self._options.max_rows is not None and len(rows) >= self._options.max_rows:
                break
            request = self._turned(request, following)
            answer = await self._send(request)
            page = rows_of(value_of(answer))
            if page is None or page.all == found.all:
                following = None
                break
            found, taken = page, taken + 1
            rows += page.all
            following = self._next(request, arguments, answer, value_of(answer))
        if following is not None and following != self._counted(request, arguments, value):
            self._context.warn(f"There is a next page: {str(following)[:500]}.")
        path = getattr(rows_of(value), "path", ())
        return with_rows(value, path, rows) if taken > 1 else value

    def _next(self, request: Prepared, arguments: dict[str, Any], answer: Fetched, value: Any) -> Next | None:
        following = next_page(value, answer.headers, answer.url, self._sent(request, arguments))
        if following is None:
            counts = self._options.all_pages > 1 and not self._is_told
            return self._counted(request, arguments, value) if counts else None
        self._is_told = True
        if following.url and _origin(following.url) != _origin(request.url):
            self._context.warn(f"The next page is at another server, and not fetched: {following.url[:200]}.")
            return None
        return following

    def _counted(self, request: Prepared, arguments: dict[str, Any], value: Any) -> Next | None:
        rows = rows_of(value)
        return counted_page(self._sent(request, arguments), 0 if rows is None else len(rows.all))

    def _sent(self, request: Prepared, arguments: dict[str, Any]) -> dict[str, Any]:
        """Return the parameters of the query with what was sent, what is usual, or None."""
        turned = dict(request.query)
        sent: dict[str, Any] = {}
        for each in self._operation.parameters:
            if each.where == "query":
                name = self._endpoint.names.get((each.name, each.where), "")
                given = arguments.get(name, objects(each.schema).get("default"))
                now = turned.get(each.name)
                sent[each.name] = (
                    int(now) if now is not None and now.isdecimal() and len(now) < 19 else (now or given)
                )
        return sent

    def _turned(self, request: Prepared, following: Next) -> Prepared:
        if following.url:
            url, _, _ = following.url.partition("#")[0].partition("?")
            return request._replace(url=url, query=query_of(following.url))
        return request._replace(query=changed(request.query, following.changes))


def _origin(url: str) -> tuple[str, str, int]:
    parts = split(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return parts.scheme, (parts.hostname or "").lower(), port
