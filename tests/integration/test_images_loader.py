import asyncio
import gc
import hashlib
import sys
import tracemalloc
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from benchmarks.images.costs import forget_peak

from draftd.errors import ImageBudgetExhausted, ImageFetchFailed, ImageInvalid, Kind, RequestError
from draftd.images import ByteBudget, Fetcher, ImageLoader, Picture, Prepared, Preparer, Reservation
from draftd.images.fetch import data_url_bytes
from draftd.images.loader import PICTURE_BASE64_BYTES
from fix_images import Handler, Server, data_url, drip, encoded, make_decoder, make_picture, make_png, response

MAX_BYTES = 1_000_000
BUDGET_BYTES = 100_000_000
UNAVAILABLE = response(status="503 Service Unavailable")


@pytest.fixture
def budget() -> ByteBudget:
    return ByteBudget(BUDGET_BYTES)


@pytest.fixture
async def loader(budget: ByteBudget) -> AsyncIterator[ImageLoader]:
    running = ImageLoader(
        fetcher=Fetcher(max_bytes=MAX_BYTES, allow_private=["127.0.0.1"]),
        preparer=Preparer(max_pixels=40_000_000),
        budget=budget,
        retry_wait_s=0.01,
    )
    yield running
    await running.aclose()


async def load(loader: ImageLoader, urls: Sequence[str], *, time_s: float = 20) -> list[Picture]:
    async with AsyncExitStack() as reservations:
        return await loader.load(urls, reservations=reservations, time_s=time_s)


async def test_pictures_come_in_the_order_of_their_urls(
    server: Server, loader: ImageLoader, budget: ByteBudget
) -> None:
    slow_may_answer = asyncio.Event()

    async def slow(writer: asyncio.StreamWriter) -> None:
        await slow_may_answer.wait()
        await response(make_png(30, 30))(writer)

    async def fast(writer: asyncio.StreamWriter) -> None:
        await response(make_png(40, 40))(writer)
        slow_may_answer.set()

    urls = [server.on("/slow", slow), server.on("/fast", fast), data_url(make_png(50, 50))]

    pictures = await load(loader, urls)

    assert [(picture.host, picture.width_px) for picture in pictures] == [
        ("127.0.0.1", 30),
        ("127.0.0.1", 40),
        ("", 50),
    ]
    assert pictures[2].sha256 == hashlib.sha256(make_png(50, 50)).hexdigest()
    assert budget._free_bytes == BUDGET_BYTES


def base64_bytes(pictures: Sequence[Picture]) -> int:
    return sum(sum(len(part.data) for part in picture.parts) * 4 // 3 for picture in pictures)


async def test_a_picture_has_room_for_what_it_is_and_then_for_what_it_became(
    server: Server, budget: ByteBudget
) -> None:
    held: list[int] = []

    class WatchingPreparer(Preparer):
        async def prepare(self, data: bytes | memoryview, *, time_s: float, part_pixels: int = sys.maxsize) -> Prepared:
            held.append(BUDGET_BYTES - budget._free_bytes)
            return await super().prepare(data, time_s=time_s, part_pixels=part_pixels)

    loader = ImageLoader(
        fetcher=Fetcher(max_bytes=MAX_BYTES, allow_private=["127.0.0.1"]),
        preparer=WatchingPreparer(max_pixels=40_000_000),
        budget=budget,
    )

    async with AsyncExitStack() as reservations:
        pictures = await loader.load([server.on("/a", response(make_png()))], reservations=reservations, time_s=20)
        assert held == [len(make_png()) + PICTURE_BASE64_BYTES]
        assert BUDGET_BYTES - budget._free_bytes == base64_bytes(pictures)

    assert budget._free_bytes == BUDGET_BYTES
    await loader.aclose()


async def test_parts_that_a_request_cannot_show_have_no_room(loader: ImageLoader, budget: ByteBudget) -> None:
    tall = [data_url(encoded(make_picture(300, 8_000 + more))) for more in range(3)]
    async with AsyncExitStack() as reservations:
        pictures = await loader.load(tall, reservations=reservations, time_s=20)
        assert BUDGET_BYTES - budget._free_bytes == base64_bytes(pictures)


async def test_a_fetch_that_is_tried_again_gives_its_room_to_others_meanwhile(
    server: Server, loader: ImageLoader, budget: ByteBudget
) -> None:
    asked, others_had_room = asyncio.Event(), asyncio.Event()

    async def refuses(writer: asyncio.StreamWriter) -> None:
        asked.set()
        await UNAVAILABLE(writer)

    async def recovered(writer: asyncio.StreamWriter) -> None:
        await others_had_room.wait()
        await response(make_png())(writer)

    loading = asyncio.create_task(load(loader, [server.on("/a", refuses, recovered)]))
    await asked.wait()
    async with budget.reserve(BUDGET_BYTES, time_s=5):
        others_had_room.set()
    assert len(await loading) == 1


async def test_who_holds_room_does_not_wait_long_for_more(
    loader: ImageLoader, budget: ByteBudget, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("draftd.images.loader.RESERVE_WAIT_S", 0.05)
    monkeypatch.setattr("draftd.images.loader.CONCURRENCY", 1)
    picture = data_url(make_png())
    others_bytes = BUDGET_BYTES - data_url_bytes(picture) - PICTURE_BASE64_BYTES
    async with budget.reserve(others_bytes, time_s=1):
        assert len(await load(loader, [picture])) == 1
        waits_s: list[float] = []
        reserve = budget.reserve

        def watched(n: int, *, time_s: float) -> AbstractAsyncContextManager[Reservation]:
            waits_s.append(time_s)
            return reserve(n, time_s=time_s)

        monkeypatch.setattr(budget, "reserve", watched)
        with pytest.raises(ImageBudgetExhausted):
            async with asyncio.timeout(10):
                await load(loader, [picture] * 2)
        assert [wait_s <= 0.05 for wait_s in waits_s] == [False, True], "once for each picture, and no second try"


async def test_no_urls_are_no_pictures(loader: ImageLoader) -> None:
    assert await load(loader, [], time_s=1) == []


async def test_a_passing_failure_is_tried_again(server: Server, loader: ImageLoader) -> None:
    url = server.on("/a", UNAVAILABLE, UNAVAILABLE, response(make_png()))

    assert len(await load(loader, [url])) == 1
    assert len(server.requests) == 3


async def test_after_three_tries_the_attempt_fails(server: Server, loader: ImageLoader) -> None:
    with pytest.raises(ImageFetchFailed, match="503") as caught:
        await load(loader, [server.on("/a", UNAVAILABLE)])

    assert caught.value.kind is Kind.RETRY
    assert len(server.requests) == 3


async def test_a_failure_says_which_picture_it_was_and_what_is_known_of_it(server: Server, loader: ImageLoader) -> None:
    fine = data_url(make_png())
    gone = server.on("/gone", response(b"", status="404 Not Found"))
    broken = server.on("/broken", response(b"<html>"))
    large = data_url(b"\0" * (MAX_BYTES + 3))
    for url, details in (
        (gone, {"picture": 2, "host": "127.0.0.1", "status": 404}),
        (broken, {"picture": 2, "host": "127.0.0.1", "found": "web page"}),
        (large, {"picture": 2, "limit": MAX_BYTES}),
        ("ftp://x/y", {"picture": 2}),
    ):
        with pytest.raises(RequestError) as caught:
            await load(loader, [fine, url])
        assert caught.value.details == details


async def test_a_lasting_failure_is_not_tried_again(server: Server, loader: ImageLoader) -> None:
    with pytest.raises(ImageFetchFailed, match="404") as caught:
        await load(loader, [server.on("/a", response(status="404 Not Found"))])

    assert caught.value.kind is Kind.FINAL
    assert len(server.requests) == 1


async def test_one_failed_picture_ends_the_others_and_returns_their_bytes(
    server: Server, loader: ImageLoader, budget: ByteBudget
) -> None:
    urls = [server.on("/drip", drip), server.on("/html", response(b"<html>"))]

    with pytest.raises(ImageInvalid, match="not an image"):
        await load(loader, urls)

    assert budget._free_bytes == BUDGET_BYTES


async def test_a_fetch_ends_with_the_time_of_the_attempt(server: Server, loader: ImageLoader) -> None:
    with pytest.raises(ImageFetchFailed) as caught:
        await load(loader, [server.on("/a", drip)], time_s=0.3)

    assert caught.value.kind is Kind.RETRY


async def test_the_wait_for_room_ends_with_the_time_of_the_attempt(loader: ImageLoader, budget: ByteBudget) -> None:
    async with budget.reserve(BUDGET_BYTES, time_s=60):
        with pytest.raises(ImageFetchFailed, match="No memory"):
            await load(loader, [data_url(make_png())], time_s=0.05)


async def test_more_requests_than_there_is_room_for_take_turns(server: Server) -> None:
    loader = ImageLoader(
        fetcher=Fetcher(max_bytes=MAX_BYTES, allow_private=["127.0.0.1"]),
        preparer=Preparer(max_pixels=40_000_000),
        budget=ByteBudget(2),
    )
    url = server.on("/a", response(make_png()))

    pictures = await asyncio.gather(*(load(loader, [url]) for _ in range(5)))

    assert [len(some) for some in pictures] == [1] * 5
    await loader.aclose()


async def test_a_request_has_twelve_parts_at_most(loader: ImageLoader) -> None:
    tall = [data_url(encoded(make_picture(300, 8_000 + more))) for more in range(3)]

    pictures = await load(loader, tall)

    assert [picture.record()["parts"] for picture in pictures] == [4, 4, 4]
    assert [picture.truncated for picture in pictures] == [True, True, True]


async def test_many_large_pictures_share_the_pixels_of_a_request(loader: ImageLoader) -> None:
    square = data_url(encoded(make_picture(1_600, 1_600)))

    (alone,) = await load(loader, [square])
    together = await load(loader, [square] * 8)

    assert alone.parts[0].width_px == 1_568
    assert {picture.parts[0].width_px for picture in together} == {1_330}
    assert not any(picture.truncated for picture in together)


LARGE_BYTES = 12 << 20


async def sends_too_much(writer: asyncio.StreamWriter) -> None:
    await sends_large(writer)
    writer.write(bytes(65_536))


async def sends_large(writer: asyncio.StreamWriter) -> None:
    """Send a picture as far as its magic bytes tell, as large as it may be."""
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n\x89PNG\r\n\x1a\n" + bytes(65_536 - 8))
    for _ in range(LARGE_BYTES // 65_536 - 1):
        writer.write(bytes(65_536))
        await writer.drain()


@pytest.fixture
def uncollected() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


async def grown_bytes(loader: ImageLoader, url: str, *, until: asyncio.Event | None = None) -> int:
    """Return what the process keeps of five failures, or of five loads given up at an event; the first pays what lasts."""
    before_bytes = 0
    for number in range(6):
        loading = asyncio.create_task(load(loader, [url], time_s=60))
        if until is None:
            await asyncio.wait([loading])
        else:
            await until.wait()
            until.clear()
        loading.cancel()
        with suppress(RequestError, asyncio.CancelledError):
            await loading
        del loading
        if number == 0:
            before_bytes = forget_peak()
    return forget_peak() - before_bytes


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("handler", [sends_too_much, sends_large])
async def test_a_picture_that_fails_is_gone_without_the_collector(
    server: Server, budget: ByteBudget, handler: Handler
) -> None:
    """Its errors are kept in cycles by the task group, and a full collection of an idle daemon may be hours away."""
    fetcher = Fetcher(max_bytes=LARGE_BYTES, allow_private=["127.0.0.1"])
    loader = ImageLoader(fetcher=fetcher, preparer=Preparer(max_pixels=1_000_000), budget=budget)

    kept_bytes = await grown_bytes(loader, server.on("/a", handler))
    await loader.aclose()

    assert kept_bytes < 3 * LARGE_BYTES


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("while_it_is", ["read", "decoded"])
async def test_a_picture_that_is_given_up_is_gone_without_the_collector(
    server: Server, budget: ByteBudget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, while_it_is: str
) -> None:
    reached, decode = asyncio.Event(), Preparer._decode

    async def sends_most(writer: asyncio.StreamWriter) -> None:
        await sends_large(writer)
        reached.set()
        await asyncio.sleep(600)

    async def decoding(preparer: Preparer, *args: Any, **options: Any) -> Any:
        reached.set()
        return await decode(preparer, *args, **options)

    monkeypatch.setattr(Preparer, "_decode", decoding)
    handler = sends_most if while_it_is == "read" else sends_large
    program = make_decoder(tmp_path, "decoder.render = lambda data, **options: time.sleep(600)")
    fetcher = Fetcher(max_bytes=LARGE_BYTES, allow_private=["127.0.0.1"])
    loader = ImageLoader(fetcher=fetcher, preparer=Preparer(max_pixels=1_000_000, program=program), budget=budget)

    kept_bytes = await grown_bytes(loader, server.on("/a", handler), until=reached)
    await loader.aclose()

    assert kept_bytes < 3 * LARGE_BYTES


@pytest.mark.usefixtures("uncollected")
async def test_a_data_url_that_fails_is_gone_without_the_collector(budget: ByteBudget) -> None:
    fetcher = Fetcher(max_bytes=LARGE_BYTES, allow_private=[])
    loader = ImageLoader(fetcher=fetcher, preparer=Preparer(max_pixels=1_000_000), budget=budget)
    tracemalloc.start()
    for number in range(4):
        with pytest.raises(ImageInvalid):
            await load(loader, [data_url(b"\x89PNG\r\n\x1a\n" + bytes(LARGE_BYTES - number - 8))])
    kept_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    await loader.aclose()

    assert kept_bytes < 2 * LARGE_BYTES, "of the last URL at most"


async def test_a_picture_that_comes_twice_is_shown_once(server: Server, loader: ImageLoader) -> None:
    """Whatever its file is: here a PNG, the same pixels in a WebP, and a PNG with a note."""
    picture, other = make_picture(300, 8_000), make_picture(300, 400)
    urls = [
        server.on("/a", response(encoded(picture))),
        data_url(encoded(other)),
        data_url(encoded(picture, "WEBP", lossless=True), "image/webp"),
        data_url(encoded(other) + b"a note"),
    ]

    pictures = await load(loader, urls)

    assert [picture.repeats for picture in pictures] == [None, None, 0, 1]
    assert [picture.record()["parts"] for picture in pictures] == [6, 1, 0, 0]
    assert len({picture.sha256 for picture in pictures}) == 4


async def test_a_picture_that_comes_twice_has_room_once(loader: ImageLoader, budget: ByteBudget) -> None:
    url = data_url(encoded(make_picture(300, 400)))
    async with AsyncExitStack() as reservations:
        pictures = await loader.load([url] * 3, reservations=reservations, time_s=20)
        assert BUDGET_BYTES - budget._free_bytes == base64_bytes(pictures[:1])
