"""A web server on the loopback that says exactly what a test tells it to, byte by byte if need be."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple, Self

Writer = asyncio.StreamWriter


class Asked(NamedTuple):
    """A request as it came."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


Route = bytes | Callable[[Asked], bytes] | Callable[[Asked, Writer], Awaitable[None]]


def page(body: bytes | str = b"", status: int = 200, **headers: str) -> bytes:
    """Return a response; ``content_type`` is the header content-type."""
    body = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status} Told"]
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    lines += [f"{name}: {value}" for name, value in {"content-length": str(len(body)), **given}.items()]
    return "\r\n".join([*lines, "connection: close", "", ""]).encode("latin-1") + body


class Site:
    """Use it in ``async with``. ``asked`` are the requests that came, whatever they were answered."""

    def __init__(
        self, routes: Mapping[str, Route], *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
    ) -> None:
        self.routes, self.asked = dict(routes), list[Asked]()
        self.host, self._tls, self._at_work = host, tls, set[asyncio.Task[None]]()
        self.arrived, self.stopped = asyncio.Event(), asyncio.Event()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, self.host, 0, ssl=self._tls, limit=1 << 20)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.stopped.set()
        for task in list(self._at_work):
            task.cancel()
        await asyncio.gather(*self._at_work, return_exceptions=True)
        await self._server.wait_closed()

    def url(self, path: str = "/", host: str = "") -> str:
        """Return where something is."""
        host = host or (f"[{self.host}]" if ":" in self.host else self.host)
        return f"http{'s' if self._tls else ''}://{host}:{self.port}{path}"

    @property
    def targets(self) -> list[str]:
        """What was asked for."""
        return [each.target for each in self.asked]

    async def _serve(self, reader: asyncio.StreamReader, writer: Writer) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._at_work.add(task)
        try:
            await self._answer(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError, asyncio.CancelledError):
            pass
        finally:
            self._at_work.discard(task)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: Writer) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.rstrip("\r\n").split("\r\n")
        method, target, _ = first.split(" ", 2)
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        asked = Asked(method, target, headers, body)
        self.asked.append(asked)
        self.arrived.set()
        route = self.routes.get(target.partition("?")[0], page("nothing here", 404))
        if isinstance(route, bytes):
            writer.write(route if method != "HEAD" else route.partition(b"\r\n\r\n")[0] + b"\r\n\r\n")
        elif route.__code__.co_argcount - (1 if hasattr(route, "__self__") else 0) == 1:
            writer.write(route(asked))
        else:
            await route(asked, writer)
        await writer.drain()


class Certificates(NamedTuple):
    """TLS contexts of a server and of clients that trust its certificate, or do not."""

    server: ssl.SSLContext
    trusting: ssl.SSLContext
    ends: datetime


def certificates(folder: Path, *names: str, days: int = 30) -> Certificates:
    """Make an authority and a certificate of names and addresses that it vouches for."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    now = datetime.now(UTC).replace(microsecond=0)
    ends = now + timedelta(days=days)

    def made(name: str, key, issuer: str, signer, *, authority: bool):
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=60))
            .not_valid_after(ends)
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        if not authority:
            alternatives = [
                x509.IPAddress(ip_address(each)) if each[0].isdigit() or ":" in each else x509.DNSName(each)
                for each in names
            ]
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        return builder.sign(signer, hashes.SHA256())

    root, own = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca = made("Test authority", root, "Test authority", root, authority=True)
    leaf = made(names[0], own, "Test authority", root, authority=False)
    pem = serialization.Encoding.PEM
    (folder / "ca.pem").write_bytes(ca.public_bytes(pem))
    (folder / "leaf.pem").write_bytes(
        own.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + leaf.public_bytes(pem)
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "leaf.pem")
    return Certificates(server, ssl.create_default_context(cafile=str(folder / "ca.pem")), ends)
