"""As much of HTTP/1.1 as the stand-in needs, on asyncio's streams.

Owns reading a request and the form of responses: bodies by length or chunked, kept-alive connections. No TLS, no
pipelining, no trailers. A request that is not understood ends its connection with a ``BadRequest``.
"""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

_MAX_BODY_BYTES = 64 * 1024 * 1024
_REASONS = {status.value: status.phrase for status in HTTPStatus} | {529: "Overloaded"}


class BadRequest(Exception):
    """The bytes are not a request that the stand-in understands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRequest:
    """One request, read whole."""

    method: str
    path: str
    """Without its query."""
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes
    keep_alive: bool

    def json(self) -> Any:
        """Return the body as JSON.

        Raises:
            ValueError: it is not.
        """
        return json.loads(self.body)


async def read_request(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, ahead: bytes = b""
) -> HttpRequest | None:
    """Read one request.

    Args:
        reader: the connection.
        writer: the same connection, for ``100 Continue``.
        ahead: bytes of this request that were read before.

    Returns:
        The request, or None when the client closed the connection instead.

    Raises:
        BadRequest: it is malformed or too large.
    """
    try:
        head = ahead + await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    except asyncio.LimitOverrunError as error:
        raise BadRequest("the head is too long") from error
    lines = head.decode("latin-1").split("\r\n")
    method, _, rest = lines[0].partition(" ")
    target, _, version = rest.partition(" ")
    if not version.startswith("HTTP/1."):
        raise BadRequest("not an HTTP/1 request line")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:-2])}
    if headers.get("expect", "").lower() == "100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    connection = headers.get("connection", "").lower()
    return HttpRequest(
        method=method,
        path=target.partition("?")[0],
        headers=headers,
        body=await _read_body(reader, headers),
        keep_alive="close" not in connection if version == "HTTP/1.1" else "keep-alive" in connection,
    )


async def _read_body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> bytes:
    try:
        if headers.get("transfer-encoding", "").lower() == "chunked":
            return await _read_chunks(reader)
        length = int(headers.get("content-length", "0"))
        if not 0 <= length <= _MAX_BODY_BYTES:
            raise BadRequest("the body is too large")
        return await reader.readexactly(length)
    except (ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError) as error:
        raise BadRequest("the body is malformed") from error


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    body = bytearray()
    while True:
        size = int((await reader.readuntil(b"\r\n")).split(b";")[0], 16)
        if size < 0 or len(body) + size > _MAX_BODY_BYTES:
            raise BadRequest("the body is too large")
        chunk = await reader.readexactly(size + 2)
        if not size:
            return bytes(body)
        body += chunk[:-2]


def head(status: int, headers: Mapping[str, str]) -> bytes:
    """Return the status line and the headers."""
    lines = [
        f"HTTP/1.1 {status} {_REASONS.get(status, 'Status')}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def chunk(data: bytes) -> bytes:
    """Return one chunk of a chunked body; empty data is its end."""
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """A response that is sent in one piece."""

    status: int = 200
    body: bytes
    content_type: str = "application/json"
    headers: Mapping[str, str]

    @classmethod
    def of(cls, content: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> "Response":
        """Return JSON."""
        return cls(status=status, body=json.dumps(content).encode(), headers=headers or {})

    def encode(self, *, keep_alive: bool) -> bytes:
        """Return the bytes on the wire."""
        headers = {
            "Content-Type": self.content_type,
            "Content-Length": str(len(self.body)),
            "Connection": "keep-alive" if keep_alive else "close",
            **self.headers,
        }
        return head(self.status, headers) + self.body
