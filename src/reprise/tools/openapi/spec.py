"""A specification that was read: a document of OpenAPI 3, whatever it was, and those that it leads to."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote, urlsplit

from reprise.tools.guards.network import Fetched, NetworkAccess
from reprise.tools.openapi.documents import Documents, Json, as_roots, objects, text
from reprise.tools.openapi.reading import MOST_BYTES, Format, SpecInvalid, read_text
from reprise.tools.openapi.upgrading import upgrade

_VERSIONS = ("3.0", "3.1", "3.2")


class OpenAPISpec(Mapping[str, Any]):
    """A specification. It is a mapping of what its document says: ``spec["info"]["title"]``."""

    def __init__(self, document: Json, uri: str = "") -> None:
        given = document.get("swagger", document.get("openapi"))
        self.version = str(given if given is not None else "")
        self.document, self.uri = document, uri
        if self.version.startswith("2."):
            document = upgrade(document)
        elif not self.version.startswith(_VERSIONS):
            what = (
                f"says it is OpenAPI {self.version}" if self.version else "does not say which OpenAPI it is"
            )
            raise SpecInvalid(
                f"The specification {what}.", hint="Swagger 2.0 and OpenAPI 3.0, 3.1 and 3.2 can be read."
            )
        self.documents = Documents(document, uri)
        self.notes: list[str] = []

    @property
    def title(self) -> str:
        """Its title."""
        return text(objects(self.document.get("info")).get("title"))

    def __getitem__(self, key: str) -> Any:
        return self.document[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.document)

    def __len__(self) -> int:
        return len(self.document)

    def __repr__(self) -> str:
        return f"<specification {self.title!r}, {self.version}>"


def load(
    source: str | bytes | Path | Mapping[str, Any],
    format: Format | None,
    *,
    refs: Sequence[str | Path],
    network: NetworkAccess,
) -> OpenAPISpec:
    """Return a specification, given as text, file, URL, or what its document holds.

    Raises ``ConfigurationError`` for what cannot be read, ``ToolError`` for a URL that cannot be fetched.
    """
    uri = ""
    if isinstance(source, Mapping):
        document: Any = dict(source)
    elif isinstance(source, bytes):
        document = read_text(source, format)
    elif isinstance(source, str) and source.startswith(("http://", "https://")):
        answer = fetch(source, network)
        document, uri = read_text(answer.body, format, source), answer.url
    elif isinstance(source, Path) or (
        "\n" not in source and not source.lstrip().startswith("{") and ": " not in source
    ):
        path = Path(source)
        document, uri = read_text(_bytes_of(path), format, str(source)), path.resolve().as_uri()
    else:
        document = read_text(source, format)
    if not isinstance(document, dict):
        raise SpecInvalid("The specification is no object.")
    spec = OpenAPISpec(cast("Json", document), uri)
    spec.notes += spec.documents.gather(as_roots(refs), lambda each: _read(each, network))
    return spec


def _bytes_of(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise SpecInvalid(
            f"{str(path)[:200]} cannot be read: {reason}.", hint="Give a path, a URL, or the text itself."
        ) from None


def _read(uri: str, network: NetworkAccess) -> Any:
    if uri.startswith("file:"):
        return read_text(_bytes_of(Path(unquote(urlsplit(uri).path)).resolve()), source=uri)
    answer = fetch(uri, network)
    if answer.redirects:
        raise SpecInvalid(f"{uri} redirects.")
    return read_text(answer.body, source=uri)


def fetch(url: str, network: NetworkAccess) -> Fetched:
    """Return the answer of a URL, also where an event loop runs already. Raises ``ToolError``."""

    async def get() -> Fetched:
        answer = await network.fetch(
            "GET",
            url,
            headers={"Accept": "application/json, application/yaml, */*;q=0.5"},
            max_bytes=MOST_BYTES,
        )
        if answer.status != 200:
            raise SpecInvalid(f"{url} answered {answer.status}.")
        return answer

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, get()).result()
