"""From the URL of an image to its bytes.

Owns the HTTP client for images, its redirects and limits, and the decoding of ``data:`` URLs. ``gate`` has the rules about
addresses, ``connection`` the connections; ``prepare`` interprets the bytes.

Invariants: every hop of every fetch passes the gate and connects to the address that was checked, because a connection lives for
one fetch only; no proxy; at most ``max_bytes`` are ever held; a message names the host at most.
"""

import asyncio
import binascii
import functools
import mmap
import os
import re
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field

import httpcore

from draftd.errors import ImageFetchFailed, ImageInvalid, ImageNotServed, ImageTooLarge, RequestError
from draftd.images.connection import CONNECT_S, GatedBackend, Meter, ResponseTooCostly
from draftd.images.formats import ACCEPTED, SNIFFED_BYTES, is_image
from draftd.images.gate import Gate, Resolve
from draftd.images.headers import ImageHeaders
from draftd.images.urls import ImageUrl, join_url

TOTAL_S = 20.0
MAX_REDIRECTS = 3

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_TRANSIENT = frozenset({408, 425, 429})
_GONE = frozenset({403, 404, 410})
"""How object stores respond when a signed URL has expired or its object is gone."""
_HINT = "; has a signed address expired?"
_HEADERS: dict[str, str] = {
    "User-Agent": "draftd",
    "Accept": ", ".join(ACCEPTED.values()),
    "Accept-Encoding": "identity",
}
# Object stores put anything into Content-Encoding (aws-chunked, base64, utf-8, image/png) and send the plain picture. Only these
# values may mean compression, and the first bytes decide.
_COMPRESSIONS = frozenset({"gzip", "x-gzip", "compress", "x-compress", "deflate", "br", "zstd"})
_DATA_URL = re.compile(r"data:image/[\w.+-]+(?:;[\w.+-]+=[\w.+-]+)*;base64,", re.ASCII | re.IGNORECASE)
_MAX_DATA_HEADER_CHARS = 256
# By OpenSSL's X509_V_ERR_ numbers.
_REFUSALS = {
    9: "not yet valid",
    10: "expired",
    18: "self-signed",
    19: "self-signed",
    20: "unknown issuer",
    21: "unknown issuer",
    62: "wrong host",
    64: "wrong host",
}
# Decoding 24 MiB in one go blocks the event loop for 180 ms.
_BASE64_PIECE_CHARS = 1 << 19
_MAX_PADDING_CHARS = 64
"""At the end of a data: URL, line breaks included."""
_SPACES = " \t\r\n"
_SKIPPED = _SPACES.encode()
_TO_BASE64 = bytes.maketrans(b"-_", b"+/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """The bytes behind a URL, whatever they contain."""

    host: str
    """Of the requested URL; empty for ``data:``."""
    data: memoryview = field(repr=False)


@functools.cache
def trusted(_file: str | None = None, _directory: str | None = None) -> ssl.SSLContext:
    """Return the package's certificates and the system's, which include an operator's own authority.

    OpenSSL reads the two variables that are the arguments, and takes 0.1 s of CPU.
    """
    return httpcore.default_ssl_context()


class Fetcher:
    """Fetches images over http and https, and reads ``data:`` URLs.

    Args:
        max_bytes: the largest image, in bytes.
        allow_private: private hosts that may be fetched, as parsed by ``gate.AllowList``.
        headers: what is sent to some hosts.
        resolve: resolves names; the system's resolver if None.
        dialer: connects to numeric addresses; TCP if None.
    """

    def __init__(
        self,
        *,
        max_bytes: int,
        allow_private: Sequence[str],
        headers: ImageHeaders | None = None,
        resolve: Resolve | None = None,
        dialer: httpcore.AsyncNetworkBackend | None = None,
    ) -> None:
        self.max_bytes = max_bytes
        self._gate = Gate(allow_private=allow_private, resolve=resolve)
        self._headers = headers or ImageHeaders()
        self._dialer = dialer or httpcore.AnyIOBackend()
        self._tls = trusted(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))

    async def fetch(self, url: str, *, time_s: float) -> Fetched:
        """Return the bytes behind a URL.

        Args:
            url: ``http:``, ``https:`` or ``data:image/…;base64,…``.
            time_s: time limit in seconds, at most 20.

        Raises:
            ImageBlocked: the URL or an address on the way is not allowed.
            ImageFetchFailed: no response in time, or an error; final for a 4xx that will not change.
            ImageTooLarge: more than ``max_bytes``.
            ImageInvalid: a compressed answer, or a malformed ``data:`` URL.
        """
        if is_data_url(url):
            return Fetched(host="", data=await read_data_url(url, max_bytes=self.max_bytes))
        first = self._gate.check(url)
        try:
            async with asyncio.timeout(min(max(time_s, 0), TOTAL_S)):
                return Fetched(host=first.host, data=await self._follow(first))
        except TimeoutError as error:
            raise ImageFetchFailed(
                f"{first.host} did not send the image in time", details={"host": first.host}
            ) from error
        except RequestError as error:
            raise error.about(host=first.host) from error

    async def aclose(self) -> None:
        """Abandon pending look-ups."""
        self._gate.close()

    async def _follow(self, first: ImageUrl) -> memoryview:
        target, headers = first, self._headers
        # One pool per fetch: no connection outlives its check, and a cancelled fetch leaves no connection behind.
        async with (
            aclosing(GatedBackend(gate=self._gate, dialer=self._dialer)) as backend,
            httpcore.AsyncConnectionPool(ssl_context=self._tls, network_backend=backend) as pool,
        ):
            for _ in range(1 + MAX_REDIRECTS):
                with _translated(target.host):
                    backend.meter.begin()
                    found = await self._get(pool, target, headers.of(target), backend.meter)
                if isinstance(found, memoryview):
                    return found
                if found.authority != first.authority:
                    headers = ImageHeaders()
                target = found
        raise ImageNotServed(f"{first.host} redirected more than {MAX_REDIRECTS} times")

    async def _get(
        self, pool: httpcore.AsyncConnectionPool, target: ImageUrl, headers: Mapping[str, str], meter: Meter
    ) -> ImageUrl | memoryview:
        """Return the body, or the target of a redirect."""
        async with pool.stream(
            "GET",
            httpcore.URL(scheme=target.scheme, host=target.host, port=target.port, target=target.path),
            headers=list({"Host": target.authority, **_HEADERS, **headers}.items()),
            extensions={"timeout": {"connect": CONNECT_S}},
        ) as response:
            if response.status in _REDIRECTS:
                return self._gate.check(_location(response, target))
            _check_status(response.status, target.host)
            meter.begin_body()
            return await self._read(response, target.host, meter)

    async def _read(self, response: httpcore.Response, host: str, meter: Meter) -> memoryview:
        compression = _compression(response)
        length = _header(response, b"content-length")
        if length.isdecimal() and int(length) > self.max_bytes:
            raise ImageTooLarge(
                _too_large_text(self.max_bytes),
                details={"found": int(length), "limit": self.max_bytes},
            )
        with _allocate(self.max_bytes) as body:
            async for piece in response.aiter_stream():
                if body.tell() + len(piece) > self.max_bytes:
                    raise ImageTooLarge(_too_large_text(self.max_bytes), details={"limit": self.max_bytes})
                body.write(piece)
                if compression and body.tell() >= SNIFFED_BYTES:
                    _check_plain(body, compression, host)
                    compression = ""
                if meter.count_body(len(piece)):
                    await asyncio.sleep(0)
            if compression:
                _check_plain(body, compression, host)
            return memoryview(body)[: body.tell()].toreadonly()


def _too_large_text(limit_bytes: int) -> str:
    return f"the image is over {limit_bytes / 2**20:.3g} MiB"


def is_data_url(url: str) -> bool:
    """Whether the URL carries its bytes itself."""
    return url[:5].lower() == "data:"


def data_url_bytes(url: str) -> int:
    """Return how many bytes a ``data:`` URL can hold at most, without decoding it."""
    return (len(url) - url.find(",") - 1) * 3 // 4


async def read_data_url(url: str, *, max_bytes: int) -> memoryview:
    """Decode ``data:image/…;base64,…`` as phones and browsers write it.

    Line breaks and spaces are skipped, padding may be missing, and the alphabet is either of RFC 4648's.

    Raises:
        ImageTooLarge: more than ``max_bytes``; what lies beyond them is not decoded.
        ImageInvalid: not of that form.
    """
    header = _DATA_URL.match(url[:_MAX_DATA_HEADER_CHARS])
    if header is None:
        raise ImageInvalid("a data: URL is not data:image/…;base64,…")
    try:
        with _allocate(data_url_bytes(url)) as body:
            await _decode(url, header.end(), body, max_bytes=max_bytes)
            return memoryview(body)[: body.tell()].toreadonly()
    except ValueError as error:
        raise ImageInvalid("a data: URL is not valid base64") from error


async def _decode(url: str, start: int, body: mmap.mmap, *, max_bytes: int) -> None:
    def write(encoded: bytes) -> None:
        body.write(binascii.a2b_base64(encoded, strict_mode=True))
        # Told from what was decoded: counting the line breaks in a URL of 32 MB blocks the event loop for 70 ms.
        if body.tell() > max_bytes:
            raise ImageTooLarge(_too_large_text(max_bytes), details={"limit": max_bytes})

    tail = url[-_MAX_PADDING_CHARS:]
    end = len(url) - len(tail) + len(tail.rstrip(_SPACES + "="))
    rest = b""
    for at in range(start, end, _BASE64_PIECE_CHARS):
        piece = rest + url[at : min(at + _BASE64_PIECE_CHARS, end)].encode("ascii").translate(_TO_BASE64, _SKIPPED)
        whole = len(piece) // 4 * 4
        rest = piece[whole:]
        if b"=" in piece:
            raise ValueError("padding in the midst")
        write(piece[:whole])
        await asyncio.sleep(0)
    write(rest + b"=" * (-len(rest) % 4))


@contextmanager
def _allocate(n: int) -> Iterator[mmap.mmap]:
    """Allocate ``n`` bytes that are written like a file; unwritten pages take no memory.

    This bounds memory: four bodies of 20 MiB take 80 MiB, but 136 to 161 in growing or joined buffers, which the byte budget
    does not count. The memory lives as long as a view of it. If the block fails, it is freed at once, since the error's traceback
    is part of a reference cycle.

    Raises:
        MemoryError: no memory is left.
    """
    try:
        body = mmap.mmap(-1, max(n, 1), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:  # which callers would take for a network error
        raise MemoryError from error
    try:
        yield body
    except BaseException:
        body.close()
        raise


@contextmanager
def _translated(host: str) -> Iterator[None]:
    try:
        yield
    except ResponseTooCostly as error:
        raise ImageNotServed(f"{host} was given up: {error}") from error
    except httpcore.TimeoutException as error:
        raise ImageFetchFailed(f"{host} did not answer in time") from error
    except httpcore.ProtocolError:
        # Its text quotes the server, which may quote the path.
        raise ImageFetchFailed(f"{host} did not answer in HTTP") from None
    except (httpcore.NetworkError, OSError) as error:
        if (why := refused_certificate(error)) is not None:
            # Retried like any failed connection: another machine may trust it, or an operator may renew it.
            raise ImageFetchFailed(f"the certificate of {host} was refused ({why})") from error
        raise ImageFetchFailed(f"the connection to {host} failed") from error


def refused_certificate(error: BaseException) -> str | None:
    """Return why a server's certificate was rejected, or None if the error has another cause."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLCertVerificationError):
        cause = cause.__cause__ or cause.__context__
    return None if cause is None else _REFUSALS.get(cause.verify_code, "not trusted")


def _check_status(status: int, host: str) -> None:
    if status == 200:  # noqa: PLR2004 - HTTP's OK
        return
    passing = status in _TRANSIENT or status >= 500  # noqa: PLR2004 - likewise
    hint = _HINT if status in _GONE else ""
    failed = ImageFetchFailed if passing else ImageNotServed
    raise failed(f"{host} answered {status}{hint}", details={"status": status})


def _compression(response: httpcore.Response) -> str:
    """Return the compression that the response declares, or an empty text."""
    announced = _header(response, b"content-encoding").lower().split(",")
    return next((one.strip() for one in announced if one.strip() in _COMPRESSIONS), "")


def _check_plain(body: mmap.mmap, compression: str, host: str) -> None:
    """Refuse a body that is really compressed; some object stores label plain pictures as compressed."""
    if not is_image(body[: min(body.tell(), SNIFFED_BYTES)]):
        raise ImageInvalid(f"{host} sent the image compressed ({compression}), which was not asked for")


def _location(response: httpcore.Response, target: ImageUrl) -> str:
    location = _header(response, b"location")
    if not location:
        raise ImageNotServed(f"{target.host} redirected to nowhere")
    return join_url(target, location)


def _header(response: httpcore.Response, name: bytes) -> str:
    """Return a header's value; repeated headers are joined as a list, as HTTP defines."""
    values = [value.decode("utf-8", "replace").strip() for key, value in response.headers if key.lower() == name]
    return ", ".join(values)
