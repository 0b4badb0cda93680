import asyncio
import gc
import gzip
from collections.abc import Iterator

import pytest
from benchmarks.images.costs import forget_peak, peak_bytes

from draftd.errors import (
    ImageBlocked,
    ImageFetchFailed,
    ImageInvalid,
    ImageNotServed,
    ImageTooLarge,
    Kind,
    RequestError,
)
from draftd.images import Fetched, Fetcher
from draftd.images.fetch import _allocate
from fix_images import Server, cut_off, data_url, drip, endless, make_png, redirect, response, serving

MAX_BYTES = 100_000
PIECES = 256


@pytest.fixture(scope="module")
def fetcher() -> Iterator[Fetcher]:
    """Shared, because reading the certificates takes a fifth of a second."""
    running = Fetcher(max_bytes=MAX_BYTES, allow_private=["127.0.0.1"])
    yield running
    asyncio.run(running.aclose())


async def failure(fetcher: Fetcher, url: str, time_s: float = 5) -> RequestError:
    with pytest.raises(RequestError) as caught:
        await fetcher.fetch(url, time_s=time_s)
    assert "secret" not in caught.value.message
    return caught.value


async def test_the_bytes_come_as_they_were_sent(server: Server, fetcher: Fetcher) -> None:
    url = server.on("/a.png?size=big", response(make_png(), content_type="text/html"))

    assert await fetcher.fetch(url, time_s=5) == Fetched(host="127.0.0.1", data=memoryview(make_png()))

    head = server.requests[0].lower()
    assert head.startswith("get /a.png?size=big http/1.1\r\n")
    assert f"host: 127.0.0.1:{server.port}\r\n" in head
    assert "accept-encoding: identity\r\n" in head
    assert "cookie" not in head


async def test_an_unlisted_private_server_is_never_reached(server: Server) -> None:
    url = server.on("/a", response(make_png()))
    fetcher = Fetcher(max_bytes=MAX_BYTES, allow_private=["10.0.0.0/8"])

    assert isinstance(await failure(fetcher, url), ImageBlocked)
    assert server.requests == []
    await fetcher.aclose()


@pytest.mark.parametrize("hops", [1, 3])
async def test_a_few_redirects_are_followed(server: Server, fetcher: Fetcher, hops: int) -> None:
    server.on("/0/a", response(b"there"))
    for number in range(1, hops + 1):
        url = server.on(f"/{number}/a", redirect(f"../{number - 1}/a"))

    assert bytes((await fetcher.fetch(url, time_s=5)).data) == b"there"


async def test_a_redirect_loop_is_final(server: Server, fetcher: Fetcher) -> None:
    url = server.on("/secret", redirect("/secret"))

    error = await failure(fetcher, url)

    assert type(error) is ImageNotServed
    assert len(server.requests) == 4


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.2/secret",
        "http://169.254.169.254/secret",
        "//127.0.0.2:9/secret",
        "http://[::1]/secret",
        "http://10.0.0.1:8080/secret",
        "file:///secret",
        "data:image/png;base64,secret",
        "http://user@127.0.0.1/secret",
        "http://[secret",
    ],
)
async def test_a_redirect_passes_the_same_gate(location: str, server: Server, fetcher: Fetcher) -> None:
    assert isinstance(await failure(fetcher, server.on("/a", redirect(location))), ImageBlocked)


async def test_a_redirect_to_nowhere_is_final(server: Server, fetcher: Fetcher) -> None:
    error = await failure(fetcher, server.on("/a", response(status="301 Moved")))

    assert type(error) is ImageNotServed


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("204 No Content", Kind.FINAL),
        ("304 Not Modified", Kind.FINAL),
        ("400 Bad Request", Kind.FINAL),
        ("403 Forbidden", Kind.FINAL),
        ("404 Not Found", Kind.FINAL),
        ("408 Request Timeout", Kind.RETRY),
        ("410 Gone", Kind.FINAL),
        ("425 Too Early", Kind.RETRY),
        ("429 Too Many Requests", Kind.RETRY),
        ("500 Internal Server Error", Kind.RETRY),
        ("503 Service Unavailable", Kind.RETRY),
    ],
)
async def test_a_status_says_whether_to_try_again(server: Server, fetcher: Fetcher, status: str, kind: Kind) -> None:
    error = await failure(fetcher, server.on("/secret", response(status=status)))

    assert (error.code, error.kind) == ("image_fetch_failed", kind)
    assert error.message.startswith(f"127.0.0.1 answered {status[:3]}")
    assert ("signed address" in error.message) is (status[:3] in {"403", "404", "410"})


async def test_a_body_that_never_ends_is_too_large(server: Server, fetcher: Fetcher) -> None:
    assert isinstance(await failure(fetcher, server.on("/a", endless)), ImageTooLarge)


async def test_an_announced_size_is_refused_before_the_body(server: Server, fetcher: Fetcher) -> None:
    url = server.on("/a", response(content_length=str(MAX_BYTES + 1)))

    assert isinstance(await failure(fetcher, url), ImageTooLarge)


async def test_the_limit_itself_is_allowed(server: Server, fetcher: Fetcher) -> None:
    url = server.on("/a", response(b"x" * MAX_BYTES))

    assert len((await fetcher.fetch(url, time_s=5)).data) == MAX_BYTES


async def test_a_body_that_drips_ends_with_the_clock(server: Server, fetcher: Fetcher) -> None:
    error = await failure(fetcher, server.on("/secret", drip), time_s=0.2)

    assert (type(error), error.kind) == (ImageFetchFailed, Kind.RETRY)
    assert error.message == "127.0.0.1 did not send the image in time"


async def test_no_time_left_is_no_fetch(server: Server, fetcher: Fetcher) -> None:
    url = server.on("/a", response(make_png()))

    assert isinstance(await failure(fetcher, url, time_s=-1), ImageFetchFailed)
    assert server.requests == []


async def test_a_compressed_answer_is_invalid(server: Server, fetcher: Fetcher) -> None:
    url = server.on("/a", response(gzip.compress(make_png()), content_encoding="gzip"))

    assert isinstance(await failure(fetcher, url), ImageInvalid)


async def test_a_broken_answer_may_be_tried_again(server: Server, fetcher: Fetcher) -> None:
    async def nonsense(writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.9\r\n\r\n")

    for handler in (cut_off, nonsense):
        error = await failure(fetcher, server.on("/secret", handler))
        assert (type(error), error.kind) == (ImageFetchFailed, Kind.RETRY)


async def test_a_refused_connection_may_be_tried_again(fetcher: Fetcher) -> None:
    async with serving() as gone:
        url = gone.on("/secret", response())

    error = await failure(fetcher, url)

    assert (type(error), error.kind) == (ImageFetchFailed, Kind.RETRY)


async def test_a_plain_server_behind_https_may_be_tried_again(server: Server, fetcher: Fetcher) -> None:
    error = await failure(fetcher, f"https://127.0.0.1:{server.port}/secret")

    assert (type(error), error.kind) == (ImageFetchFailed, Kind.RETRY)


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_server_that_says_nothing_leaves_no_connection_behind(scheme: str, fetcher: Fetcher) -> None:
    hung_up = asyncio.Event()

    async def listen_only(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)
        hung_up.set()
        writer.close()

    async with await asyncio.start_server(listen_only, "127.0.0.1", 0) as silent:
        port = silent.sockets[0].getsockname()[1]
        assert isinstance(await failure(fetcher, f"{scheme}://127.0.0.1:{port}/secret", time_s=1), ImageFetchFailed)
        await asyncio.wait_for(hung_up.wait(), 20)


async def test_no_proxy_is_taken_from_the_environment(
    server: Server, fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")

    assert bytes((await fetcher.fetch(server.on("/a", response(b"direct")), time_s=5)).data) == b"direct"


async def test_a_cancelled_fetch_hangs_up(server: Server, fetcher: Fetcher) -> None:
    began, hung_up = asyncio.Event(), asyncio.Event()

    async def watch(writer: asyncio.StreamWriter) -> None:
        began.set()
        try:
            await endless_until_gone(writer)
        finally:
            hung_up.set()

    async def endless_until_gone(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 90000\r\n\r\n")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.005)

    fetch = asyncio.create_task(fetcher.fetch(server.on("/a", watch), time_s=5))
    await began.wait()
    fetch.cancel()

    await asyncio.wait_for(hung_up.wait(), 20)
    assert fetch.cancelled()


async def in_pieces(writer: asyncio.StreamWriter) -> None:
    """Send a body that the server itself holds one piece of."""
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    for _ in range(PIECES):
        writer.write(bytes(65_536))
        await writer.drain()


async def test_a_body_is_held_once(server: Server) -> None:
    fetcher = Fetcher(max_bytes=PIECES * 65_536, allow_private=["127.0.0.1"])
    urls = [server.on("/a", in_pieces), data_url(bytes(PIECES * 65_536))]
    await fetcher.fetch(server.on("/first", response(b"what is imported by the first fetch")), time_s=5)

    for url in urls:
        gc.collect()
        before_bytes = forget_peak()
        fetched = await fetcher.fetch(url, time_s=20)
        grown_bytes = peak_bytes() - before_bytes
        assert len(fetched.data) == PIECES * 65_536
        assert 0.8 * len(fetched.data) < grown_bytes < 1.5 * len(fetched.data)


async def test_what_is_not_sent_takes_no_memory(server: Server) -> None:
    fetcher = Fetcher(max_bytes=PIECES * 65_536, allow_private=["127.0.0.1"])
    await fetcher.fetch(server.on("/first", response(b"what is imported by the first fetch")), time_s=5)

    gc.collect()
    before_bytes = forget_peak()
    fetched = await fetcher.fetch(server.on("/a", response(b"small")), time_s=20)

    assert bytes(fetched.data) == b"small"
    assert peak_bytes() - before_bytes < 0.5 * PIECES * 65_536


def test_the_room_for_a_body_need_not_grow() -> None:
    """A block that grows is moved now and then, which at 20 MiB holds the event loop for 10 ms."""
    with _allocate(20 << 20) as body:
        assert len(body) == 20 << 20


def test_a_system_without_room_is_not_taken_for_the_network() -> None:
    with pytest.raises(MemoryError), _allocate(1 << 62):
        pass
