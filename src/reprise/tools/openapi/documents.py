"""The documents of a specification, and what ``$ref`` in them leads to.

Inside of a document a reference may lead anywhere. Other documents are read only from roots that were allowed, when the
specification is read, never later.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast
from urllib.parse import SplitResult, unquote, urldefrag, urljoin, urlsplit

from reprise.tools.openapi.reading import SpecInvalid

MOST_DOCUMENTS = 200
"""Documents that one may lead to."""
_CHAIN = 50
"""References that lead to references."""

Json = dict[str, Any]


class Target(NamedTuple):
    """What a reference leads to."""

    node: Any
    document: str
    """URI of the document that it stands in."""
    pointer: str


class Documents:
    """A specification's own document, and those that it leads to, by URI."""

    def __init__(self, root: Json, uri: str = "") -> None:
        self.root, self.uri = root, uri
        self._known: dict[str, Any] = {uri: root}
        self._targets: dict[tuple[str, str], Target] = {}
        self._anchors: dict[str, dict[str, Target]] = {}

    def gather(self, allowed: Sequence[str], read: Callable[[str], Any]) -> list[str]:
        """Read the documents that are referred to and lie under an allowed root; return what could not be read.

        ``read`` returns the document of a URI.
        """
        waiting, faults = [(self.uri, self.root)], list[str]()
        while waiting:
            base, document = waiting.pop()
            for uri in sorted({urldefrag(joined(base, ref))[0] for ref in references(document)}):
                if uri in self._known or not is_under(uri, allowed):
                    continue
                if len(self._known) > MOST_DOCUMENTS:
                    return [*faults, f"More than {MOST_DOCUMENTS} documents are referred to."]
                try:
                    self._known[uri] = read(uri)
                except Exception as error:  # noqa: BLE001 - whatever is wrong with one, the others can be read
                    faults.append(f"{uri} cannot be read: {error}")
                else:
                    waiting.append((uri, self._known[uri]))
        return faults

    def find(self, ref: str, document: str) -> Target:
        """Return what a reference leads to that stands in a document. Raises ``SpecInvalid``."""
        found = self._targets.get((document, ref))
        if found is None:
            found = self._targets[document, ref] = self._find(ref, document)
        return found

    def follow(self, node: Any, document: str) -> Target:
        """Return a node, or what it leads to when it is a reference. Raises ``SpecInvalid``, also for a circle."""
        target, steps = Target(node, document, ""), 0
        while isinstance(target.node, dict) and isinstance(ref := cast("Json", target.node).get("$ref"), str):
            steps += 1
            if steps > _CHAIN:
                raise SpecInvalid(f"{ref} leads in a circle.")
            target = self.find(ref, target.document)
        return target

    def _find(self, ref: str, document: str) -> Target:
        uri, fragment = (document, ref[1:]) if ref.startswith("#") else urldefrag(joined(document, ref))
        if uri not in self._known:
            raise SpecInvalid(
                f"{ref} leads out of the document.", hint="Allow where it lies: OpenAPIParser(refs=[…])."
            )
        whole = self._known[uri]
        if not fragment:
            return Target(whole, uri, "")
        if not fragment.startswith("/"):
            if uri not in self._anchors:
                self._anchors[uri] = dict(_anchors(whole, uri))
            if fragment in self._anchors[uri]:
                return self._anchors[uri][fragment]
            raise SpecInvalid(f"{ref} leads nowhere.")
        node = whole
        for part in unquote(fragment)[1:].split("/"):
            node = _below(node, part.replace("~1", "/").replace("~0", "~"), ref)
        return Target(node, uri, fragment)


def _below(node: Any, part: str, ref: str) -> Any:
    if isinstance(node, dict) and part in node:
        return cast("Json", node)[part]
    if isinstance(node, list) and part.isdecimal() and int(part) < len(cast("list[Any]", node)):
        return cast("list[Any]", node)[int(part)]
    raise SpecInvalid(f"{ref} leads nowhere.")


def walk(document: Any) -> Iterator[tuple[str, Json]]:
    """Yield every object of a document, with its pointer; one that is shared, once."""
    waiting: list[tuple[str, Any]] = [("", document)]
    seen = set[int]()
    while waiting:
        pointer, node = waiting.pop()
        if id(node) in seen:
            continue
        if isinstance(node, dict):
            seen.add(id(cast("Json", node)))
            yield pointer, cast("Json", node)
            waiting += [
                (f"{pointer}/{key.replace('~', '~0').replace('/', '~1')}", value)
                for key, value in cast("Json", node).items()
                if isinstance(value, (dict, list))
            ]
        elif isinstance(node, list):
            seen.add(id(cast("list[Any]", node)))
            waiting += [(f"{pointer}/{at}", value) for at, value in enumerate(cast("list[Any]", node))]


def references(document: Any) -> Iterator[str]:
    """Yield the references of a document that lead out of it."""
    for _, node in walk(document):
        ref = node.get("$ref")
        if isinstance(ref, str) and not ref.startswith("#"):
            yield ref


def _anchors(document: Any, uri: str) -> Iterator[tuple[str, Target]]:
    for pointer, node in walk(document):
        for keyword in ("$anchor", "$dynamicAnchor"):
            if isinstance(name := node.get(keyword), str):
                yield name, Target(node, uri, pointer)


def is_under(uri: str, allowed: Sequence[str]) -> bool:
    """Tell whether a URI lies under one of the roots; a root is a URL, or a folder as ``file://`` URI.

    >>> is_under("https://a.test/s/x.json", ["https://a.test/s/"]), is_under("https://a.test/s/../x", ["https://a.test/s/"])
    (True, False)
    """
    parts = split(uri)
    path = unquote(parts.path)
    if parts.scheme == "file":
        path = str(Path(path).resolve())
    if ".." in re.split(r"[/\\]", path):
        return False
    for root in map(urlsplit, allowed):
        top = unquote(root.path).rstrip("/")
        if parts[:2] == root[:2] and (path == top or path.startswith(top + "/")):
            return True
    return False


def joined(base: str, reference: str) -> str:
    """Return a reference made whole by a URL, '' for what cannot be one."""
    try:
        whole = urljoin(base, reference)
        _ = urlsplit(whole).port
    except ValueError:
        return ""
    return whole


def split(url: str) -> SplitResult:
    """Return the parts of a URL; nothing but empty ones for what cannot be one."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return urlsplit("")
    return parts


def as_roots(roots: Sequence[str | Path]) -> list[str]:
    """Return roots as URIs: folders as ``file://`` URIs, with links followed."""
    return [str(root) if "://" in str(root) else Path(root).resolve().as_uri() for root in roots]


def objects(node: Any) -> Json:
    """Return a node where it is an object, else an empty one."""
    return cast("Json", node) if isinstance(node, dict) else {}


def items(node: Any) -> list[Any]:
    """Return a node where it is a list, else an empty one."""
    return cast("list[Any]", node) if isinstance(node, list) else []


def text(node: Any) -> str:
    """Return a node where it is a text, else an empty one."""
    return node if isinstance(node, str) else ""
