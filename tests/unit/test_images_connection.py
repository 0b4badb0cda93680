"""What an answer may cost to read, with a network that is not there and counts every byte that it was asked for."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from itertools import chain, repeat
from types import SimpleNamespace
from typing import Any

import httpcore
import pytest

from draftd.errors import ImageFetchFailed, ImageTooLarge, Kind, RequestError
from draftd.images import Fetcher, connection
from draftd.images.connection import MAX_CONNECT_TRIES, MAX_FRAMING_BYTES, MAX_HEAD_BYTES, MAX_SMALL_READS
from fix_images import FakeDialer, FakeDns, FakeStream

URL = "http://files.example/secret?secret"
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"
READ_BYTES = 64 * 1024
MAX_BYTES = 3 << 20


class Flood(FakeStream):
    """A connection that is always ready with more; counts what it gave."""

    def __init__(self, pieces: Iterable[bytes], *, read_bytes: int = READ_BYTES, alpn: str | None = None) -> None:
        super().__init__(b"", [])
        self.given_bytes = 0
        self.reads = 0
        self._pieces = iter(pieces)
        self._rest = b""
        self._read_bytes = read_bytes
        self._alpn = alpn

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109, ARG002 - httpcore's
        wanted_bytes = min(max_bytes, self._read_bytes)
        parts, size_bytes = [self._rest], len(self._rest)
        while size_bytes < wanted_bytes and (piece := next(self._pieces, b"")):
            parts.append(piece)
            size_bytes += len(piece)
        whole = b"".join(parts)
        self._rest = whole[wanted_bytes:]
        self.reads += 1
        self.given_bytes += len(whole[:wanted_bytes])
        return whole[:wanted_bytes]

    def get_extra_info(self, info: str) -> Any:
        return SimpleNamespace(selected_alpn_protocol=lambda: self._alpn) if info == "ssl_object" else None


class FloodDialer(FakeDialer):
    """Connects to one flood after the other."""

    def __init__(self, *floods: Flood) -> None:
        super().__init__()
        self._floods = iter(floods)

    async def connect_tcp(self, *args: Any, **options: Any) -> httpcore.AsyncNetworkStream:
        await super().connect_tcp(*args, **options)
        return next(self._floods)


@pytest.fixture
async def fetcher() -> AsyncIterator[Fetcher]:
    made = Fetcher(max_bytes=MAX_BYTES, allow_private=[], resolve=FakeDns(files_example=[["8.8.8.8"]]))
    yield made
    await made.aclose()


async def outcome(fetcher: Fetcher, *floods: Flood) -> bytes | RequestError:
    fetcher._dialer = FloodDialer(*floods)
    try:
        return bytes((await fetcher.fetch(URL, time_s=20)).data)
    except RequestError as error:
        return error


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param(repeat(b"x"), id="a status line without an end", marks=pytest.mark.long),
        pytest.param(repeat(b"HTTP/1.1 100 Continue\r\n\r\n"), id="1xx answers without end"),
        pytest.param(repeat(b"HTTP/1.1 103 Early Hints\r\nlink: </a>; rel=preload\r\n\r\n"), id="early hints"),
        pytest.param(chain([OK], repeat(b"a:\r\n")), id="header fields without end"),
        pytest.param(chain([OK, b"a: "], repeat(b"x" * 1000)), id="a header line without an end"),
        pytest.param(chain([OK, b"a: b\r\n"], repeat(b" x\r\n")), id="a folded header line without an end"),
        pytest.param(chain([OK], repeat(b"a:\r\n", 8_000), [b"\r\nimage"]), id="8,000 header fields"),
        pytest.param(chain([b"HTTP/1.1 302 Found\r\n"], repeat(b"location: /\r\n")), id="a redirect without an end"),
    ],
)
async def test_a_head_is_read_up_to_its_limit(fetcher: Fetcher, pieces: Iterable[bytes]) -> None:
    flood = Flood(pieces)

    error = await outcome(fetcher, flood)

    assert isinstance(error, ImageFetchFailed)
    assert error.kind is Kind.FINAL
    assert error.message == f"files.example was given up: the response headers exceed {MAX_HEAD_BYTES} bytes"
    assert flood.given_bytes == MAX_HEAD_BYTES


async def test_every_hop_may_have_a_head_of_its_own(fetcher: Fetcher) -> None:
    fields = b"a: %b\r\n" % (b"x" * 9_000)
    moved = b"HTTP/1.1 302 Found\r\nlocation: /there\r\n" + fields + b"\r\n"

    assert await outcome(fetcher, Flood([moved]), Flood([OK, fields, b"\r\nimage"])) == b"image"


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param(chain([CHUNKED], repeat(b"1\r\nx\r\n")), id="chunks of one byte", marks=pytest.mark.long),
        pytest.param(chain([CHUNKED], repeat(b"1;" + b"e" * 90_000 + b"\r\nx\r\n")), id="chunk extensions"),
        pytest.param(chain([CHUNKED, b"1;"], repeat(b"x" * 1000)), id="a chunk extension without an end"),
        pytest.param(chain([CHUNKED, b"1\r\nx\r\n0\r\n"], repeat(b"a:\r\n")), id="a trailer without an end"),
        pytest.param(
            chain([CHUNKED, b"1\r\nx\r\n0\r\na: "], repeat(b"x" * 1000)), id="a trailer's line without an end"
        ),
    ],
)
async def test_framing_is_read_up_to_its_limit(fetcher: Fetcher, pieces: Iterable[bytes]) -> None:
    flood = Flood(pieces)

    error = await outcome(fetcher, flood)

    assert isinstance(error, ImageFetchFailed)
    assert error.kind is Kind.FINAL
    assert error.message == "files.example was given up: the response is more framing than image"
    assert flood.given_bytes <= MAX_HEAD_BYTES + MAX_FRAMING_BYTES + READ_BYTES


async def test_chunks_of_an_ordinary_size_cost_little(fetcher: Fetcher) -> None:
    chunk = b"100\r\n" + b"x" * 256 + b"\r\n"

    assert await outcome(fetcher, Flood([CHUNKED, *repeat(chunk, 4_000), b"0\r\n\r\n"])) == b"x" * 256 * 4_000


async def test_a_large_head_leaves_room_for_framing(fetcher: Fetcher) -> None:
    head = OK + b"a: " + b"x" * 14_000 + b"\r\ntransfer-encoding: chunked\r\n\r\n"

    flood = Flood([head, b"5;", b"e" * 5_000, b"\r\nimage\r\n0\r\n\r\n"], read_bytes=1_000)

    assert await outcome(fetcher, flood) == b"image"


async def test_a_body_in_crumbs_is_given_up(fetcher: Fetcher) -> None:
    flood = Flood(chain([OK, b"content-length: 900000\r\n\r\n"], repeat(b"x")), read_bytes=1)

    error = await outcome(fetcher, flood)

    assert isinstance(error, ImageFetchFailed)
    assert (error.kind, error.message) == (
        Kind.FINAL,
        "files.example was given up: the response arrives in tiny pieces",
    )
    assert flood.reads <= 1.1 * MAX_SMALL_READS


async def test_reads_of_the_size_of_a_packet_are_no_crumbs(fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "MAX_SMALL_READS", 40)
    body = b"x" * 100_000
    flood = Flood([OK, b"\r\n", body], read_bytes=536)

    assert await outcome(fetcher, flood) == body
    assert flood.reads > 4 * 40


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param(chain([OK, b"\r\n"], repeat(b"x" * READ_BYTES)), id="until it hangs up"),
        pytest.param(chain([CHUNKED], repeat(b"10000\r\n" + b"x" * 65_536 + b"\r\n")), id="in chunks"),
        pytest.param(chain([CHUNKED, b"fffffffffffffff\r\n"], repeat(b"x" * READ_BYTES)), id="in one chunk"),
    ],
)
async def test_a_body_is_read_up_to_the_limit(fetcher: Fetcher, pieces: Iterable[bytes]) -> None:
    flood = Flood(pieces)

    assert isinstance(await outcome(fetcher, flood), ImageTooLarge)
    assert flood.given_bytes <= MAX_BYTES + 3 * READ_BYTES


@pytest.mark.parametrize(
    "flood",
    [
        Flood(repeat(b"x"), read_bytes=1),
        pytest.param(
            Flood(chain([OK, b"content-length: 900000\r\n\r\n"], repeat(b"x")), read_bytes=1), marks=pytest.mark.long
        ),
        pytest.param(Flood(chain([CHUNKED], repeat(b"1\r\nx\r\n"))), marks=pytest.mark.long),
    ],
    ids=["a head in crumbs", "a body in crumbs", "chunks"],
)
async def test_the_event_loop_gets_its_turn_while_bytes_are_always_there(fetcher: Fetcher, flood: Flood) -> None:
    turns = 0

    def turn() -> None:
        nonlocal turns
        turns += 1
        asyncio.get_running_loop().call_soon(turn)

    turn()
    assert isinstance(await outcome(fetcher, flood), ImageFetchFailed)

    assert turns > 50


async def test_no_server_talks_the_client_into_another_protocol(fetcher: Fetcher) -> None:
    assert await outcome(fetcher, Flood([OK, b"\r\nimage"], alpn="h2")) == b"image"


async def test_few_of_many_addresses_are_tried(fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch) -> None:
    addresses = [f"8.8.4.{number}" for number in range(20)]
    monkeypatch.setattr(fetcher._gate, "_resolve", FakeDns(files_example=[addresses]))
    fetcher._dialer = dialer = FakeDialer(dead=addresses)

    with pytest.raises(ImageFetchFailed):
        await fetcher.fetch(URL, time_s=5)

    assert [address for address, _ in dialer.dialled] == addresses[:MAX_CONNECT_TRIES]


async def test_nothing_runs_on_after_an_answer_that_was_given_up(fetcher: Fetcher) -> None:
    before = asyncio.all_tasks()

    assert isinstance(await outcome(fetcher, Flood(chain([CHUNKED, b"1;"], repeat(b"x" * 1000)))), ImageFetchFailed)
    # Generators that are given up are closed in a turn of their own.
    for _ in range(3):
        await asyncio.sleep(0)

    assert asyncio.all_tasks() == before
