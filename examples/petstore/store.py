"""A pet store that really serves: HTTP on loopback, pets in memory, and the document that says how to call it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

DOCUMENT = Path(__file__).with_name("openapi.yaml")
KEY = "open sesame"
"""Who shows it may change something."""


class Store:
    """Pets by id."""

    def __init__(self) -> None:
        names = ["Ada", "Bolt", "Cleo", "Dot", "Elmo", "Fay", "Gus"]
        kinds = ["cat", "dog", "fish"]
        self.pets = {id: {"id": id, "name": name, "kind": kinds[id % 3]} for id, name in enumerate(names, 1)}
        self.busy = 1
        """Answers that say to come again before the first that does not."""


class _Answers(BaseHTTPRequestHandler):
    store: Store

    def do_GET(self) -> None:
        """Show the document, pets, or one of them."""
        parts = urlsplit(self.path)
        if parts.path == "/openapi.yaml":
            self._send(200, DOCUMENT.read_bytes(), "application/yaml")
        elif parts.path == "/v1/pets":
            self._list({name: values[0] for name, values in parse_qs(parts.query).items()})
        elif (pet := self.store.pets.get(self._id())) is not None:
            self._say(200, pet)
        else:
            self._say(404, {"detail": f"there is no pet {self._id()}"})

    def do_POST(self) -> None:
        """Add a pet, or a photo of one."""
        data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if not self._is_trusted():
            return
        if self.path == "/v1/pets":
            pet = json.loads(data)
            if any(pet["name"] == known["name"] for known in self.store.pets.values()):
                self._say(
                    422, {"errors": [{"pointer": "/name", "detail": f"{pet['name']} lives here already"}]}
                )
                return
            pet = {"id": max(self.store.pets) + 1, **pet}
            self.store.pets[pet["id"]] = pet
            self._say(201, pet)
        else:
            head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
            parts: dict[Any, Any] = {
                part.get_param("name", header="content-disposition"): part.get_payload(decode=True)
                for part in BytesParser(policy=HTTP).parsebytes(head + data).iter_parts()
            }
            self._say(200, {"bytes": len(parts["photo"]), "caption": parts.get("caption", b"").decode()})

    def do_DELETE(self) -> None:
        """Give a pet away."""
        if self._is_trusted():
            gone = self.store.pets.pop(self._id(), None)
            self._say(204 if gone else 404, None)

    def _list(self, wanted: dict[str, str]) -> None:
        if self.store.busy:
            self.store.busy -= 1
            self._say(429, {"detail": "slowly, please"}, {"Retry-After": "0"})
            return
        pets = [pet for pet in self.store.pets.values() if wanted.get("kind") in (None, pet["kind"])]
        start, limit = int(wanted.get("cursor", 0)), int(wanted.get("limit", 3))
        page: dict[str, Any] = {"items": pets[start : start + limit]}
        if start + limit < len(pets):
            page["next_cursor"] = str(start + limit)
        self._say(200, page)

    def _is_trusted(self) -> bool:
        if self.headers.get("X-Key") == KEY:
            return True
        self._say(401, {"detail": "who are you?"})
        return False

    def _id(self) -> int:
        text = urlsplit(self.path).path.removeprefix("/v1/pets/").partition("/")[0]
        return int(text) if text.isdecimal() else 0

    def _say(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        self._send(status, b"" if value is None else json.dumps(value).encode(), "application/json", headers)

    def _send(self, status: int, data: bytes, media: str, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {
            "Content-Type": media,
            "Content-Length": str(len(data)),
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def serving() -> Iterator[str]:
    """Serve on a free port of loopback; give the URL."""
    answers = type("Answers", (_Answers,), {"store": Store()})
    with ThreadingHTTPServer(("127.0.0.1", 0), answers) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
