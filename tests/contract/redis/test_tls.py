"""``rediss://``: the same over TLS, by a certificate that is checked.

The server of the tests is built without TLS; what speaks it stands before the server, as stunnel or a cloud's proxy does.
"""

import asyncio
import datetime
import ipaddress
import ssl
from contextlib import suppress

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from reprise import StoreUnreachable
from reprise.stores import open_store
from reprise.testing.suites.keeper import soon


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate of loopback that only its own file vouches for, and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "redis of a test")])
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(address, critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, *form) + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


@pytest.fixture
async def port(killable_redis, certificate):
    """A port of loopback that speaks TLS, and what it hears to the server."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)

    async def pass_on(source, target):
        with suppress(OSError):
            while data := await source.read(65536):
                target.write(data)
                await target.drain()
        target.close()

    async def serve(reader, writer):
        there = await asyncio.open_unix_connection(killable_redis.url.removeprefix("unix://"))
        await asyncio.gather(pass_on(reader, there[1]), pass_on(there[0], writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    yield server.sockets[0].getsockname()[1]
    server.close()


async def test_leases_and_taps_over_tls(port, certificate):
    """Waiting and being told of it: commands one way, pushes the other."""
    url = f"rediss://127.0.0.1:{port}/0?prefix=tls&ssl_ca_certs={certificate}"
    one, other = open_store(url), open_store(url)
    await one.start()
    await other.start()
    grant = await one.lease.take("x", "one", 60)
    waits = asyncio.create_task(other.lease.take("x", "other", 60, wait=None))
    tapped = asyncio.create_task(other.signal.wait("news", 60))
    await other.lease.holder("x")  # all that was asked before is done
    await one.lease.drop([grant])
    one.signal.wake(["news"])
    assert (await soon(waits)).token > grant.token
    assert await soon(tapped)
    await one.stop()
    await other.stop()


async def test_a_certificate_that_nobody_vouches_for_is_refused(port):
    with pytest.raises(StoreUnreachable, match=r"(?i)certificate"):
        await open_store(f"rediss://127.0.0.1:{port}/0?patience=0.5").start()
