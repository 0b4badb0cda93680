"""Small pictures drawn on the spot, a web server that misbehaves as told, and a network that is not there."""

import asyncio
import base64
import io
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any

import httpcore
import pytest
from PIL import Image, ImageDraw

from draftd.images.prepare import DECODER

Handler = Callable[[asyncio.StreamWriter], Awaitable[None]]

DATA = Path(__file__).with_name("data")
RED = (200, 30, 30)
BLUE = (30, 30, 200)
TLS_HANDSHAKE = b"\x16"


def make_picture(width_px: int = 64, height_px: int = 48, mode: str = "RGB") -> Image.Image:
    """Return a picture whose top left quarter is red and whose rest is blue."""
    picture = Image.new("RGB", (width_px, height_px), BLUE)
    ImageDraw.Draw(picture).rectangle((0, 0, width_px // 2 - 1, height_px // 2 - 1), fill=RED)
    return picture.convert(mode)


def encoded(picture: Image.Image, image_format: str = "PNG", **options: Any) -> bytes:
    """Return a picture as a file's bytes."""
    sink = io.BytesIO()
    picture.save(sink, format=image_format, **options)
    return sink.getvalue()


def make_png(width_px: int = 64, height_px: int = 48) -> bytes:
    """Return a small PNG."""
    return encoded(make_picture(width_px, height_px))


def heic(name: str = "plain") -> bytes:
    """Return a HEIC. Pillow cannot write it, so pillow-heif once did, from ``make_picture``.

    ``plain``, ``grey`` and ``clear`` (its lower right quarter is transparent); ``turned`` by an ``irot``, to the
    right; ``tiles`` of 256 pixels that make up 640x480; ``several`` (a green one comes second); ``blank_first`` (white comes
    first); ``hdr``, four bars of 10 bits with PQ: of 0, 20.3, 203 and 1,000 cd/m2.
    """
    return (DATA / "heic" / f"{name}.heic").read_bytes()


def make_noise(width_px: int, height_px: int) -> Image.Image:
    """Return a picture that no format makes small."""
    return Image.effect_noise((width_px, height_px), 60).convert("RGB")


def data_url(data: bytes, media_type: str = "image/png") -> str:
    """Return bytes as a ``data:`` URL."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def make_decoder(folder: Path, changes: str) -> Path:
    """Write a helper program that is the real one after ``changes`` to its module ``decoder``."""
    program = folder / "changed_decoder.py"
    program.write_text(
        "import importlib.util, os, sys, time\n"
        f"spec = importlib.util.spec_from_file_location('decoder', {str(DECODER)!r})\n"
        "decoder = importlib.util.module_from_spec(spec)\n"
        "sys.modules['decoder'] = decoder\n"
        "spec.loader.exec_module(decoder)\n"
        "render = decoder.render\n"
        f"{changes}\n"
        "decoder.main()\n"
    )
    return program


def response(body: bytes = b"", *, status: str = "200 OK", **headers: str) -> Handler:
    """Answer in one go; a header's underscores become hyphens."""
    lines = {"content_length": str(len(body)), **headers}
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in lines.items())

    async def handle(writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body)
        await writer.drain()

    return handle


def redirect(location: str) -> Handler:
    """Send the client elsewhere."""
    return response(status="302 Found", location=location)


async def endless(writer: asyncio.StreamWriter) -> None:
    """Never stop sending, without saying how much will come."""
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        writer.write(b"x" * 65_536)
        await writer.drain()


async def drip(writer: asyncio.StreamWriter) -> None:
    """Send a byte now and then, so that no single read takes long."""
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 90000\r\n\r\n")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.02)


async def cut_off(writer: asyncio.StreamWriter) -> None:
    """Promise more than comes."""
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nonly this")
    await writer.drain()


class Server:
    """A web server on 127.0.0.1; a path that was given several handlers uses the last one for good."""

    def __init__(self) -> None:
        self.port = 0
        self.requests: list[str] = []
        self._routes: dict[str, list[Handler]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    def on(self, path: str, *handlers: Handler) -> str:
        """Say what happens at a path, and return its URL."""
        self._routes[path] = list(handlers)
        return f"http://127.0.0.1:{self.port}{path}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request and hang up."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        with closing(writer), suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            first = await reader.readexactly(1)
            if first == TLS_HANDSHAKE:
                await response(status="400 Bad Request")(writer)
                return
            head = (first + await reader.readuntil(b"\r\n\r\n")).decode()
            self.requests.append(head)
            handlers = self._routes[head.split(" ")[1]]
            await (handlers.pop(0) if len(handlers) > 1 else handlers[0])(writer)

    async def stop(self) -> None:
        """End what still drips."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def serving() -> AsyncIterator[Server]:
    """Run a server for the length of a test."""
    server = Server()
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        await server.stop()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with serving() as running:
        yield running


class FakeDns:
    """Answers names from a table; a name with several answers gives one per look-up, the last for good."""

    def __init__(self, **answers: Sequence[Sequence[str]]) -> None:
        self.asked: list[str] = []
        self._answers = {name.replace("_", "."): [list(answer) for answer in many] for name, many in answers.items()}

    async def __call__(self, host: str, port: int) -> Sequence[str]:  # noqa: ARG002 - the port of getaddrinfo
        """Return the next answer, or what getaddrinfo raises for an unknown name."""
        self.asked.append(host)
        if host not in self._answers:
            raise OSError("unknown name")
        many = self._answers[host]
        return many.pop(0) if len(many) > 1 else many[0]


class FakeStream(httpcore.AsyncNetworkStream):
    """A connection that plays one answer."""

    def __init__(self, answer: bytes, tls_names: list[str | None]) -> None:
        self._answer = answer
        self._tls_names = tls_names

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109, ARG002 - httpcore's
        chunk, self._answer = self._answer[:max_bytes], self._answer[max_bytes:]
        return chunk

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 - httpcore's
        pass

    async def aclose(self) -> None:
        pass

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109, ARG002 - httpcore's signature
    ) -> httpcore.AsyncNetworkStream:
        assert ssl_context.verify_mode is ssl.CERT_REQUIRED
        assert ssl_context.check_hostname
        self._tls_names.append(server_hostname)
        return self

    def get_extra_info(self, info: str) -> Any:  # noqa: ARG002 - httpcore's signature
        return None


class FakeDialer(httpcore.AsyncNetworkBackend):
    """Connects to nothing, and remembers to what; addresses in ``dead`` refuse."""

    def __init__(self, answer: bytes = b"HTTP/1.1 200 OK\r\n\r\nimage", *, dead: Sequence[str] = ()) -> None:
        self.dialled: list[tuple[str, int]] = []
        self.tls_names: list[str | None] = []
        self._answer = answer
        self._dead = dead

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109, ARG002 - httpcore's signature
        local_address: str | None = None,  # noqa: ARG002 - likewise
        socket_options: Iterable[Any] | None = None,  # noqa: ARG002 - likewise
    ) -> httpcore.AsyncNetworkStream:
        self.dialled.append((host, port))
        if host in self._dead:
            raise httpcore.ConnectError
        return FakeStream(self._answer, self.tls_names)
