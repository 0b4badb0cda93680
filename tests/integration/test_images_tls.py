"""Image servers behind TLS: the certificate counts, and the handshake and its records are bounded like everything else."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from draftd.errors import ImageFetchFailed, Kind
from draftd.images import Fetcher
from draftd.images.headers import ImageHeaders
from fix_images import FakeDns, Handler, redirect, response, serving
from fix_tls import Certificate

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificates")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate(tmp_path_factory.mktemp("tls"), "files.example")


def make_fetcher(
    *, trusted: Certificate | None, monkeypatch: pytest.MonkeyPatch, headers: ImageHeaders | None = None
) -> Fetcher:
    """Return a fetcher for which every name is 127.0.0.1, with an authority of the operator's own."""
    if trusted is not None:
        monkeypatch.setenv("SSL_CERT_FILE", str(trusted.file))
    dns = FakeDns(**{name: [["127.0.0.1"]] for name in ("files.example", "other.example", "127.0.0.1")})
    return Fetcher(max_bytes=100_000, allow_private=["127.0.0.1"], headers=headers, resolve=dns)


@asynccontextmanager
async def serving_tls(certificate: Certificate, handler: Handler) -> AsyncIterator[tuple[int, list[bytes]]]:
    """Serve one answer to every request; yield the port and what came."""
    requests: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            requests.append(await reader.readuntil(b"\r\n\r\n"))
            await handler(writer)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=certificate.context) as running:
        yield running.sockets[0].getsockname()[1], requests


async def test_an_authority_of_the_system_is_trusted(certificate: Certificate, monkeypatch: pytest.MonkeyPatch) -> None:
    fetcher = make_fetcher(trusted=certificate, monkeypatch=monkeypatch)

    async with serving_tls(certificate, response(b"image")) as (port, _):
        assert bytes((await fetcher.fetch(f"https://files.example:{port}/a", time_s=10)).data) == b"image"


@pytest.mark.parametrize(
    ("host", "why"), [("files.example", "self-signed"), ("other.example", "wrong host"), ("127.0.0.1", "wrong host")]
)
async def test_a_path_is_told_to_no_server_without_a_certificate_for_its_name(
    host: str, why: str, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusted = None if host == "files.example" else certificate
    fetcher = make_fetcher(trusted=trusted, monkeypatch=monkeypatch)

    async with serving_tls(certificate, response(b"image")) as (port, requests):
        with pytest.raises(ImageFetchFailed) as caught:
            await fetcher.fetch(f"https://{host}:{port}/secret", time_s=10)

    assert (caught.value.kind, caught.value.message) == (Kind.RETRY, f"the certificate of {host} was refused ({why})")
    assert requests == []


async def test_a_body_in_records_of_one_byte_is_given_up(
    certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def crumbs(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 90000\r\n\r\n")
        for _ in range(9_000):
            writer.write(b"x")
        await writer.drain()

    fetcher = make_fetcher(trusted=certificate, monkeypatch=monkeypatch)

    async with serving_tls(certificate, crumbs) as (port, _):
        with pytest.raises(ImageFetchFailed, match="tiny pieces") as caught:
            await fetcher.fetch(f"https://files.example:{port}/a", time_s=10)

    assert caught.value.kind is Kind.FINAL


async def test_an_operators_header_reaches_the_host_that_it_is_for(
    certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving_tls(certificate, response(b"image")) as (port, requests):
        headers = ImageHeaders.parse(f"files.example:{port}=Authorization: Bearer secret")
        fetcher = make_fetcher(trusted=certificate, monkeypatch=monkeypatch, headers=headers)
        await fetcher.fetch(f"https://files.example:{port}/a", time_s=10)

    assert b"\r\nAuthorization: Bearer secret\r\n" in requests[0]


async def test_an_operators_header_follows_no_redirect_to_another_host_and_does_not_come_back(
    certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        serving() as elsewhere,
        serving_tls(certificate, redirect(f"http://127.0.0.1:{elsewhere.port}/b")) as (port, requests),
    ):
        headers = ImageHeaders.parse(f"files.example:{port}=Authorization: Bearer secret")
        fetcher = make_fetcher(trusted=certificate, monkeypatch=monkeypatch, headers=headers)
        elsewhere.on("/b", redirect(f"https://files.example:{port}/c"))
        with pytest.raises(ImageFetchFailed):
            await fetcher.fetch(f"https://files.example:{port}/a", time_s=10)

    first, *later = [b"secret" in request for request in requests]
    assert (first, any(later), len(later)) == (True, False, 1)
    assert all("secret" not in request for request in elsewhere.requests)
