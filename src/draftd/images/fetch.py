"""From the URL of an image to its bytes.

Owns the HTTP client for images, its redirects, limits and the reading of ``data:`` URLs; the rules about addresses are
``gate``'s, what the bytes are is ``prepare``'s. Nothing else imports httpcore.

Invariants: every hop of every fetch passes the gate and connects to the address that was judged, because a connection
lives for one fetch only; no proxy; at most ``max_bytes`` are ever held; a message names the host at most.
"""

import asyncio
import binascii
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from urllib.parse import urljoin

import httpcore

from draftd.errors import ImageBlocked, ImageFetchFailed, ImageInvalid, ImageTooLarge, Kind
from draftd.images.gate import Gate, Resolve, Target

CONNECT_S = 5.0
TOTAL_S = 20.0
MAX_REDIRECTS = 3

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PASSING = frozenset({408, 425, 429})
_SOCKET_OPTION = tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]
_HEADERS: dict[bytes | str, bytes | str] = {
    "User-Agent": "draftd",
    "Accept": "image/png, image/jpeg, image/webp, image/gif",
    "Accept-Encoding": "identity",
}
_DATA_URL = re.compile(r"data:image/[\w.+-]+(?:;[\w.+-]+=[\w.+-]+)*;base64,", re.ASCII | re.IGNORECASE)
_MAX_DATA_HEADER_CHARS = 256
# Decoding 24 MiB in one go holds the event loop for 180 ms; a multiple of 4, so that a piece stands for whole bytes.
_BASE64_PIECE_CHARS = 1 << 19


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """The bytes of one image, whatever they are."""

    host: str
    """Of the URL that was asked for; empty for ``data:``."""
    data: bytes | bytearray = field(repr=False)
    """Nobody else holds them. A copy as ``bytes`` would double the memory and hold the event loop for 10 ms at 20 MiB."""


class GatedBackend(httpcore.AsyncNetworkBackend):
    """Connects only to addresses that the gate returned; made for one fetch.

    Args:
        gate: resolves and judges.
        dialer: opens the connection to a numeric address.
    """

    def __init__(self, *, gate: Gate, dialer: httpcore.AsyncNetworkBackend) -> None:
        self._gate = gate
        self._dialer = dialer
        self._opened: list[httpcore.AsyncNetworkStream] = []

    async def aclose(self) -> None:
        """Close every connection: httpcore forgets one whose TLS handshake is cancelled or times out."""
        for stream in self._opened:
            await stream.aclose()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the signature is httpcore's
        local_address: str | None = None,
        socket_options: Iterable[_SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Resolve, judge, and connect to the first address that answers, all within ``timeout`` seconds."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (CONNECT_S if timeout is None else timeout)
        try:
            async with asyncio.timeout_at(deadline):
                addresses = await self._gate.addresses(host, port)
        except TimeoutError as error:
            raise httpcore.ConnectTimeout from error
        for left in range(len(addresses), 0, -1):
            # A silent address may use up its share of the time only: the next one can still answer.
            share_s = max(deadline - loop.time(), 0) / left
            try:
                stream = await self._dialer.connect_tcp(
                    str(addresses[-left]), port, share_s, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if left == 1:
                    raise
            else:
                self._opened.append(stream)
                return stream
        raise httpcore.ConnectError

    async def connect_unix_socket(
        self,
        path: str,  # noqa: ARG002 - the signature is httpcore's
        timeout: float | None = None,  # noqa: ARG002, ASYNC109 - likewise
        socket_options: Iterable[_SOCKET_OPTION] | None = None,  # noqa: ARG002 - likewise
    ) -> httpcore.AsyncNetworkStream:
        """Refuse: an image never comes from a local socket."""
        raise ImageBlocked

    async def sleep(self, seconds: float) -> None:
        """Wait, as httpcore asks."""
        await asyncio.sleep(seconds)


class Fetcher:
    """Fetches images over http and https, and reads ``data:`` URLs.

    Args:
        max_bytes: the largest image, in bytes.
        allow_private: what may be fetched although it is private, as ``gate.AllowList`` reads it.
        resolve: answers names; the system's resolver if None.
        dialer: connects to numeric addresses; TCP if None.
    """

    def __init__(
        self,
        *,
        max_bytes: int,
        allow_private: Sequence[str],
        resolve: Resolve | None = None,
        dialer: httpcore.AsyncNetworkBackend | None = None,
    ) -> None:
        self.max_bytes = max_bytes
        self._gate = Gate(allow_private=allow_private, resolve=resolve)
        self._dialer = dialer or httpcore.AnyIOBackend()
        # The certificates of the package and those of the system: an operator's own authority is in the latter.
        self._tls = httpcore.default_ssl_context()
        self._tls.load_default_certs()

    async def fetch(self, url: str, *, time_s: float) -> Fetched:
        """Return the bytes behind a URL.

        Args:
            url: ``http:``, ``https:`` or ``data:image/…;base64,…``.
            time_s: seconds left; more than 20 counts as 20.

        Raises:
            ImageBlocked: the URL or an address on the way is not allowed.
            ImageFetchFailed: no answer in time, or not the wanted one; final for a 4xx that will not change.
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
            raise ImageFetchFailed(f"{first.host}: the image was not there in time") from error

    async def aclose(self) -> None:
        """Let go of the resolver's threads."""
        self._gate.close()

    async def _follow(self, first: Target) -> bytearray:
        hop: Target | bytearray = first
        # A pool per fetch: none outlives its judgement, and a cancelled fetch cannot leave a dead connection behind.
        async with (
            aclosing(GatedBackend(gate=self._gate, dialer=self._dialer)) as backend,
            httpcore.AsyncConnectionPool(ssl_context=self._tls, network_backend=backend) as pool,
        ):
            for _ in range(1 + MAX_REDIRECTS):
                if isinstance(hop, bytearray):
                    return hop
                with _translated(hop.host):
                    hop = await self._get(pool, hop)
        if isinstance(hop, bytearray):
            return hop
        raise ImageFetchFailed(f"{first.host}: redirected more than {MAX_REDIRECTS} times", kind=Kind.FINAL)

    async def _get(self, pool: httpcore.AsyncConnectionPool, target: Target) -> Target | bytearray:
        """Return the body, or where a redirect leads."""
        async with pool.stream(
            "GET",
            httpcore.URL(scheme=target.scheme, host=target.host, port=target.port, target=target.path),
            headers={"Host": target.authority, **_HEADERS},
            extensions={"timeout": {"connect": CONNECT_S}},
        ) as response:
            if response.status in _REDIRECTS:
                return self._gate.check(_location(response, target))
            _check_status(response.status, target.host)
            return await self._read(response, target.host)

    async def _read(self, response: httpcore.Response, host: str) -> bytearray:
        if _header(response, b"content-encoding").lower() not in ("", "identity"):
            raise ImageInvalid(f"{host}: the answer is compressed although it was asked not to be")
        length = _header(response, b"content-length")
        if length.isdecimal() and int(length) > self.max_bytes:
            raise ImageTooLarge(f"{host}: the image is over {self.max_bytes} bytes")
        body = bytearray()
        async for chunk in response.aiter_stream():
            body += chunk
            if len(body) > self.max_bytes:
                raise ImageTooLarge(f"{host}: the image is over {self.max_bytes} bytes")
        return body


def is_data_url(url: str) -> bool:
    """Whether the URL carries its bytes itself."""
    return url[:5].lower() == "data:"


def data_url_bytes(url: str) -> int:
    """Return how many bytes a ``data:`` URL can hold at most, without decoding it."""
    return (len(url) - url.find(",") - 1) * 3 // 4


async def read_data_url(url: str, *, max_bytes: int) -> bytearray:
    """Decode ``data:image/…;base64,…`` strictly: no white space, no other alphabet, correct padding.

    Raises:
        ImageTooLarge: more than ``max_bytes``; decided before decoding.
        ImageInvalid: not of that form.
    """
    header = _DATA_URL.match(url[:_MAX_DATA_HEADER_CHARS])
    if header is None:
        raise ImageInvalid("a data: URL is not data:image/…;base64,…")
    if data_url_bytes(url) > max_bytes + 2:
        raise ImageTooLarge(f"an image is over {max_bytes} bytes")
    body = bytearray()
    for start in range(header.end(), len(url), _BASE64_PIECE_CHARS):
        piece = url[start : start + _BASE64_PIECE_CHARS]
        if "=" in piece and start + len(piece) < len(url):
            raise ImageInvalid("a data: URL is not valid base64")
        try:
            body += binascii.a2b_base64(piece, strict_mode=True)
        except ValueError as error:
            raise ImageInvalid("a data: URL is not valid base64") from error
        await asyncio.sleep(0)
    if len(body) > max_bytes:
        raise ImageTooLarge(f"an image is over {max_bytes} bytes")
    return body


@contextmanager
def _translated(host: str) -> Iterator[None]:
    try:
        yield
    except httpcore.TimeoutException as error:
        raise ImageFetchFailed(f"{host}: no connection in time") from error
    except (httpcore.NetworkError, httpcore.ProtocolError, OSError) as error:
        raise ImageFetchFailed(f"{host}: the connection failed ({type(error).__name__})") from error


def _check_status(status: int, host: str) -> None:
    if status == 200:  # noqa: PLR2004 - HTTP's own number
        return
    passing = status in _PASSING or status >= 500  # noqa: PLR2004 - likewise
    raise ImageFetchFailed(f"{host}: answered {status}", kind=Kind.RETRY if passing else Kind.FINAL)


def _location(response: httpcore.Response, target: Target) -> str:
    location = _header(response, b"location")
    if not location:
        raise ImageFetchFailed(f"{target.host}: a redirect that leads nowhere", kind=Kind.FINAL)
    try:
        return urljoin(f"{target.scheme}://{target.authority}{target.path}", location)
    except ValueError as error:
        raise ImageBlocked("a redirect leads to a URL that cannot be read") from error


def _header(response: httpcore.Response, name: bytes) -> str:
    for key, value in response.headers:
        if key.lower() == name:
            return value.decode("utf-8", "replace").strip()
    return ""
