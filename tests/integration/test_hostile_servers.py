"""Servers that answer to do harm, behind real sockets. What they may cost in bytes is counted in test_images_connection."""

import asyncio
import logging
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpcore
import pytest
import structlog

from draftd.errors import ImageFetchFailed, ImageInvalid, ImageTooLarge, Kind, RequestError
from draftd.images import Fetcher, fetch
from draftd.logs import configure_logging
from fix_images import Handler, Server, encoded, make_picture, redirect, response

MAX_BYTES = 100_000
OK = b"HTTP/1.1 200 OK\r\n"


@pytest.fixture(scope="module")
def fetcher() -> Iterator[Fetcher]:
    """Shared, because reading the certificates takes a fifth of a second."""
    running = Fetcher(max_bytes=MAX_BYTES, allow_private=["127.0.0.1"])
    yield running
    asyncio.run(running.aclose())


async def failure(fetcher: Fetcher, url: str, time_s: float = 10) -> RequestError:
    with pytest.raises(RequestError) as caught:
        await fetcher.fetch(url, time_s=time_s)
    assert "secret" not in caught.value.message
    return caught.value


def raw(answer: bytes) -> Handler:
    """Answer with bytes as they are, and hang up."""

    async def handle(writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()

    return handle


def flood(first: bytes, unit: bytes, hung_up: asyncio.Event, pause_s: float = 0) -> Handler:
    """Send without end until the client hangs up."""

    async def handle(writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(first)
            while True:
                writer.write(unit)
                await writer.drain()
                await asyncio.sleep(pause_s)
        finally:
            hung_up.set()

    return handle


@pytest.mark.parametrize(
    ("first", "unit", "reason"),
    [
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 40, "head"),
        (OK, b"x: y\r\n" * 200, "head"),
        (OK + b"x: ", b"y" * 4_000, "head"),
        (OK + b"transfer-encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 200, "framing"),
        (OK + b"transfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n", b"x: y\r\n" * 200, "framing"),
    ],
    ids=["1xx", "header fields", "a header line", "chunks of a byte", "a trailer"],
)
async def test_an_answer_without_an_end_is_given_up_for_good(
    first: bytes, unit: bytes, reason: str, server: Server, fetcher: Fetcher
) -> None:
    hung_up = asyncio.Event()

    error = await failure(fetcher, server.on("/secret", flood(first, unit, hung_up)))

    assert isinstance(error, ImageFetchFailed)
    assert error.kind is Kind.FINAL
    assert reason in error.message
    await asyncio.wait_for(hung_up.wait(), 20)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\r\n\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"<html>secret</html>\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: secret\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        OK + b"secret without a colon\r\n\r\n",
        OK + b"x: \x00secret\r\n\r\n",
        OK + b"content-length: -1\r\n\r\n",
        OK + b"content-length: 5\r\ncontent-length: 6\r\n\r\nimage",
        OK + b"content-length: " + b"9" * 5_000 + b"\r\n\r\n",
        OK + b"transfer-encoding: gzip, chunked\r\n\r\n",
        OK + b"transfer-encoding: chunked\r\n\r\n-1\r\nx\r\n0\r\n\r\n",
        OK + b"transfer-encoding: chunked\r\n\r\n" + b"f" * 21 + b"\r\nx",
        OK + b"transfer-encoding: chunked\r\n\r\n5\r\nimage-secret\r\n0\r\n\r\n",
        OK + b"transfer-encoding: chunked\r\n\r\n5\r\nimage\r\n",
        OK + b"content-length: 6\r\n\r\nimage",
    ],
)
async def test_what_is_not_http_may_be_tried_again(answer: bytes, server: Server, fetcher: Fetcher) -> None:
    error = await failure(fetcher, server.on("/secret", raw(answer)))

    assert (type(error), error.kind) == (ImageFetchFailed, Kind.RETRY)
    assert error.message == "127.0.0.1 did not answer in HTTP"


@pytest.mark.parametrize(
    ("answer", "data"),
    [
        (OK + b"content-length: 5\r\n\r\nimage and what comes after", b"image"),
        (b"HTTP/1.0 200 OK\r\n\r\nimage", b"image"),
        (OK + b"transfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n5\r\nimage\r\n0\r\n\r\n", b"image"),
        (OK + b"content-type: text/html\r\nx: y\r\n z\r\n\r\nimage", b"image"),
        (b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" + OK + b"content-length: 5\r\n\r\nimage", b"image"),
        (OK + b"content-length: 0\r\n\r\n", b""),
    ],
)
async def test_a_body_is_as_long_as_its_framing_says(
    answer: bytes, data: bytes, server: Server, fetcher: Fetcher
) -> None:
    assert (await fetcher.fetch(server.on("/a", raw(answer)), time_s=10)).data == data


@pytest.mark.parametrize(
    "encoding",
    ["gzip", "x-gzip", "br", "zstd", "compress", "GZIP", "identity, deflate", "identity\r\ncontent-encoding: gzip"],
)
@pytest.mark.parametrize("body", [b"bomb", b"bomb" * 1_000])
async def test_no_encoding_is_undone(encoding: str, body: bytes, server: Server, fetcher: Fetcher) -> None:
    error = await failure(fetcher, server.on("/secret", response(body, content_encoding=encoding)))

    assert isinstance(error, ImageInvalid)
    assert "compressed" in error.message


async def test_a_compressed_body_is_refused_by_its_first_bytes(server: Server, fetcher: Fetcher) -> None:
    hung_up = asyncio.Event()
    first = OK + b"content-encoding: gzip\r\n\r\n"

    error = await failure(fetcher, server.on("/secret", flood(first, b"x" * 1_000, hung_up)))

    assert isinstance(error, ImageInvalid)
    await asyncio.wait_for(hung_up.wait(), 20)


@pytest.mark.parametrize(
    "encoding",
    [
        "aws-chunked",
        "base64",
        "binary",
        "utf-8",
        "UTF-8",
        "none",
        "identity",
        "image/png",
        "aws-chunked, utf-8",
        "gzip",
        ",",
    ],
)
@pytest.mark.parametrize("size_px", [8, 600])
async def test_a_plain_picture_is_taken_whatever_its_store_says_of_its_encoding(
    encoding: str, size_px: int, server: Server, fetcher: Fetcher
) -> None:
    png = encoded(make_picture(size_px, size_px))

    assert (await fetcher.fetch(server.on("/a", response(png, content_encoding=encoding)), time_s=10)).data == png


async def test_a_size_that_lies_upwards_is_too_large_before_the_body(server: Server, fetcher: Fetcher) -> None:
    url = server.on("/a", raw(OK + b"content-length: 99999999999999999999\r\n\r\n"))

    assert isinstance(await failure(fetcher, url), ImageTooLarge)


async def test_the_body_of_a_redirect_is_not_read(server: Server, fetcher: Fetcher) -> None:
    hung_up = asyncio.Event()
    server.on("/there", response(b"image"))
    url = server.on("/a", flood(b"HTTP/1.1 302 Found\r\nlocation: /there\r\n\r\n", b"x" * 65_536, hung_up))

    assert bytes((await fetcher.fetch(url, time_s=10)).data) == b"image"
    await asyncio.wait_for(hung_up.wait(), 20)


async def test_the_body_of_an_error_is_not_read(server: Server, fetcher: Fetcher) -> None:
    hung_up = asyncio.Event()
    url = server.on("/secret", flood(b"HTTP/1.1 404 Not Found\r\n\r\n", b"x" * 65_536, hung_up))

    assert (await failure(fetcher, url)).message.startswith("127.0.0.1 answered 404")
    await asyncio.wait_for(hung_up.wait(), 20)


async def test_a_redirect_tells_the_next_server_nothing_of_the_one_before(server: Server, fetcher: Fetcher) -> None:
    server.on("/there", response(b"image"))
    url = server.on("/secret?secret", response(status="302 Found", location="/there", set_cookie="secret=1"))

    await fetcher.fetch(url, time_s=10)

    assert server.requests[1].lower().splitlines() == [
        "get /there http/1.1",
        f"host: 127.0.0.1:{server.port}",
        "user-agent: draftd",
        "accept: image/png, image/jpeg, image/webp, image/gif, image/heic, image/avif",
        "accept-encoding: identity",
        "",
    ]


async def test_a_listed_host_has_no_port_zero(fetcher: Fetcher) -> None:
    assert isinstance(await failure(fetcher, "http://127.0.0.1:0/secret"), ImageFetchFailed)


@pytest.mark.parametrize("first", [b"", OK, OK + b"content-length: 90000\r\n\r\n"], ids=["at once", "head", "body"])
async def test_no_server_has_more_than_the_whole_time(
    first: bytes, server: Server, fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "TOTAL_S", 1.0)
    hung_up = asyncio.Event()

    error = await failure(fetcher, server.on("/secret", flood(first, b"x", hung_up, pause_s=0.01)), time_s=1_000)

    assert (type(error), error.kind) == (ImageFetchFailed, Kind.RETRY)
    assert error.message == "127.0.0.1 did not send the image in time"
    await asyncio.wait_for(hung_up.wait(), 20)


async def test_redirects_share_the_whole_time(server: Server, fetcher: Fetcher) -> None:
    async def late(writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.06)
        await redirect("/secret")(writer)

    error = await failure(fetcher, server.on("/secret", late), time_s=0.15)

    assert error.message == "127.0.0.1 did not send the image in time"


async def test_a_name_server_that_is_silent_has_the_time_to_connect(
    fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(host: str, port: int) -> list[str]:
        await asyncio.Event().wait()
        return [host, str(port)]

    monkeypatch.setattr(fetch, "CONNECT_S", 0.05)
    monkeypatch.setattr(fetcher._gate, "_resolve", never)

    error = await failure(fetcher, "http://files.example/secret", time_s=1_000)

    assert (error.kind, error.message) == (Kind.RETRY, "files.example did not answer in time")


class RecordingDialer(httpcore.AnyIOBackend):
    """Connects, and remembers the sockets."""

    def __init__(self) -> None:
        self.sockets: list[Any] = []

    async def connect_tcp(self, *args: Any, **options: Any) -> httpcore.AsyncNetworkStream:
        stream = await super().connect_tcp(*args, **options)
        self.sockets.append(stream.get_extra_info("socket"))
        return stream


@asynccontextmanager
async def listening(first: bytes, reached: asyncio.Event) -> AsyncIterator[int]:
    """Take connections, say the first words of an answer and nothing more."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            await reader.read(1)
            writer.write(first)
            reached.set()
            await reader.read(-1)
        writer.close()

    async with await asyncio.start_server(handle, "127.0.0.1", 0) as running:
        yield running.sockets[0].getsockname()[1]


@pytest.mark.parametrize(
    ("scheme", "first"),
    [("https", b""), ("http", b""), ("http", OK), ("http", OK + b"content-length: 90000\r\n\r\nx")],
    ids=["in the handshake", "before the head", "in the head", "in the body"],
)
async def test_a_cancelled_fetch_leaves_no_socket_and_no_task_behind(
    scheme: str, first: bytes, fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached, dialer = asyncio.Event(), RecordingDialer()
    monkeypatch.setattr(fetcher, "_dialer", dialer)

    async with listening(first, reached) as port:
        fetching = asyncio.create_task(fetcher.fetch(f"{scheme}://127.0.0.1:{port}/a", time_s=10))
        await asyncio.wait_for(reached.wait(), 20)
        own = {asyncio.current_task()}
        fetching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await fetching
        served = {task for task in asyncio.all_tasks() if "handle" in repr(task.get_coro())}
        assert asyncio.all_tasks() - served == own

    assert [socket.fileno() for socket in dialer.sockets] == [-1]


async def test_a_cancelled_look_up_leaves_a_thread_that_no_one_waits_for(
    fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, let_go, real = threading.Event(), threading.Event(), socket.getaddrinfo

    def hang(host: str, *rest: Any, **how: Any) -> list[Any]:
        if host != "files.example":  # asked by a thread of another test
            return [*real(host, *rest, **how)]
        asked.set()
        let_go.wait(60)
        return []

    monkeypatch.setattr("socket.getaddrinfo", hang)
    before = set(threading.enumerate())
    fetching = asyncio.create_task(fetcher.fetch("http://files.example/a", time_s=10))
    assert await asyncio.to_thread(asked.wait, 20)
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching

    (left,) = [thread for thread in set(threading.enumerate()) - before if thread.name == "image-dns"]
    let_go.set()
    await asyncio.to_thread(left.join, 20)

    assert left.daemon
    assert not left.is_alive()


async def test_no_log_names_more_than_the_host_even_when_all_is_logged(
    server: Server, fetcher: Fetcher, capsys: pytest.CaptureFixture[str]
) -> None:
    server.on("/there?secret", raw(OK + b"secret nonsense\r\n\r\n"))
    urls = [
        server.on("/secret?secret", response(b"image")),
        server.on("/secret/1", redirect("/there?secret")),
        server.on("/secret/2", redirect("http://user:secret@inside.example/secret")),
        server.on("/secret/3", raw(OK + b"content-length: 9\r\n\r\nsecret")),
        "http://127.0.0.1:1/secret",
        "http://user:secret@files.example/secret",
    ]
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    configure_logging(level="debug", style="json")
    try:
        for url in urls:
            try:
                await fetcher.fetch(url, time_s=10)
            except RequestError as error:
                structlog.get_logger("draftd.test").warning("failed", error=error, exc_info=True)
    finally:
        root.handlers[:], root.level = before

    lines = capsys.readouterr().err
    assert lines.count('"event"') == len(urls) - 1
    assert "secret" not in lines
