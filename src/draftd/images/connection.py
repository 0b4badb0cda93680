"""Connections for fetching images: only to checked addresses, and with limits on what is read.

Owns where httpcore connects to, and what a response may cost to read. ``gate`` decides which addresses are allowed; ``fetch``
interprets responses.

Invariants: every connection goes to an address that the gate returned. Whatever a server sends, response headers are at most
``MAX_HEAD_BYTES``, the framing of a body is a small share of it, and the event loop is not blocked. The meter guards against
hostile servers, which could send 1xx responses forever or block the event loop for 168 ms with one-byte chunks (docs/adr/0006).
"""

import asyncio
import ssl
from collections.abc import Iterable
from typing import Any

import httpcore

from draftd.errors import ImageBlocked
from draftd.images.gate import Gate

CONNECT_S = 5.0
MAX_CONNECT_TRIES = 4
"""How many addresses of a name are tried: a hostile name may have thousands."""

# httpcore limits one event (100 KiB), but not their number: 1xx responses and header fields could go on forever. Node.js, too,
# allows 16 KiB of headers.
MAX_HEAD_BYTES = 16 * 1024
_HEAD_READ_BYTES = 4 * 1024
# Chunk sizes, their extensions and trailers. A chunk of 256 bytes costs 7 more; one of a single byte costs 5 and the time
# of a large one.
MAX_FRAMING_BYTES = 16 * 1024
FRAMING_SHARE = 32
# A TLS record may contain a single byte, and each is a read. A network packet holds 1,200 bytes or more.
MAX_SMALL_READS = 4_096
READ_SHARE_BYTES = 256
# Chunks and records that arrive together are read without yielding to the event loop; 64 take about a millisecond.
_STEPS_PER_TURN = 64

_SOCKET_OPTION = tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]


class ResponseTooCostly(Exception):
    """A response costs more to read than an image justifies."""


class Meter:
    """The cost of one response so far. Counts every read of a connection."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Start counting a new response, beginning with its headers."""
        self._in_head = True
        self._read_bytes = 0
        self._reads = 0
        self._pieces = 0
        self._head_bytes = 0
        self._body_bytes = 0

    def begin_body(self) -> None:
        """Start counting the body; bytes read with the headers do not count as framing."""
        self._in_head = False
        self._head_bytes = self._read_bytes

    def count_body(self, n: int) -> bool:
        """Count a piece of the body, and return whether to yield to the event loop."""
        self._body_bytes += n
        self._pieces += 1
        return self._pieces % _STEPS_PER_TURN == 0

    def next_read_bytes(self) -> int | None:
        """Return the maximum size of the next read; None for no limit.

        Raises:
            ResponseTooCostly: the headers, the framing or the number of reads exceeds its limit.
        """
        if self._reads > MAX_SMALL_READS + self._read_bytes // READ_SHARE_BYTES:
            raise ResponseTooCostly("the response arrives in tiny pieces")
        if self._in_head:
            if self._read_bytes >= MAX_HEAD_BYTES:
                raise ResponseTooCostly(f"the response headers exceed {MAX_HEAD_BYTES} bytes")
            return min(_HEAD_READ_BYTES, MAX_HEAD_BYTES - self._read_bytes)
        # httpcore reads only after consuming all earlier bytes, so whatever was not body was framing.
        framing_bytes = self._read_bytes - self._head_bytes - self._body_bytes
        if framing_bytes > MAX_FRAMING_BYTES + self._body_bytes // FRAMING_SHARE:
            raise ResponseTooCostly("the response is more framing than image")
        return None

    def count_read(self, n: int) -> bool:
        """Count a read, and return whether to yield to the event loop."""
        self._reads += 1
        self._read_bytes += n
        return self._reads % _STEPS_PER_TURN == 0


class MeteredStream(httpcore.AsyncNetworkStream):
    """A connection whose reads are metered."""

    def __init__(self, stream: httpcore.AsyncNetworkStream, meter: Meter) -> None:
        self._stream = stream
        self._meter = meter

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 - httpcore's signature
        """Read at most as much as the meter allows."""
        limit_bytes = self._meter.next_read_bytes()
        data = await self._stream.read(max_bytes if limit_bytes is None else min(max_bytes, limit_bytes), timeout)
        if self._meter.count_read(len(data)):
            await asyncio.sleep(0)
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 - httpcore's signature
        """Send."""
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        """Close the connection."""
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the signature is httpcore's
    ) -> httpcore.AsyncNetworkStream:
        """Continue in TLS, through the same meter."""
        return MeteredStream(await self._stream.start_tls(ssl_context, server_hostname, timeout), self._meter)

    def get_extra_info(self, info: str) -> Any:  # noqa: ARG002 - the signature is httpcore's
        """Return nothing: otherwise httpcore switches to HTTP/2 if the server offers it in the handshake."""
        return None


class GatedBackend(httpcore.AsyncNetworkBackend):
    """Connects only to addresses that the gate returned; made for one fetch.

    Args:
        gate: resolves and checks names.
        dialer: opens the connection to a numeric address.
    """

    def __init__(self, *, gate: Gate, dialer: httpcore.AsyncNetworkBackend) -> None:
        self.meter = Meter()
        self._gate = gate
        self._dialer = dialer
        self._opened: list[httpcore.AsyncNetworkStream] = []

    async def aclose(self) -> None:
        """Close every connection: httpcore leaks one whose TLS handshake is cancelled or times out."""
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
        """Resolve, check, and connect to the first address that answers, all within ``timeout`` seconds."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (CONNECT_S if timeout is None else timeout)
        try:
            async with asyncio.timeout_at(deadline):
                addresses = (await self._gate.addresses(host, port))[:MAX_CONNECT_TRIES]
        except TimeoutError as error:
            raise httpcore.ConnectTimeout from error
        for left in range(len(addresses), 0, -1):
            # An unresponsive address gets only its share of the time, since the next one may respond.
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
                return MeteredStream(stream, self.meter)
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
        """Sleep, for httpcore."""
        await asyncio.sleep(seconds)
