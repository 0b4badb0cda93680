import asyncio
import hashlib
import sys
from collections.abc import AsyncIterator

import pytest

from draftd.errors import ImageFetchFailed, ImageInvalid, Kind
from draftd.images import ByteBudget, Fetcher, ImageLoader, Prepared, Preparer
from fix_images import Server, data_url, drip, encoded, make_picture, make_png, response

MAX_BYTES = 1_000_000
UNAVAILABLE = response(status="503 Service Unavailable")


@pytest.fixture
def budget() -> ByteBudget:
    return ByteBudget(4 * MAX_BYTES)


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

    pictures = await loader.load(urls, time_s=20)

    assert [(picture.host, picture.width_px) for picture in pictures] == [
        ("127.0.0.1", 30),
        ("127.0.0.1", 40),
        ("", 50),
    ]
    assert pictures[2].sha256 == hashlib.sha256(make_png(50, 50)).hexdigest()
    assert budget.free_bytes == 4 * MAX_BYTES


async def test_a_picture_holds_no_more_than_its_own_bytes_while_it_is_read(server: Server, budget: ByteBudget) -> None:
    free_bytes: list[int] = []

    class WatchingPreparer(Preparer):
        async def prepare(self, data: bytes, *, time_s: float, part_pixels: int = sys.maxsize) -> Prepared:
            free_bytes.append(budget.free_bytes)
            return await super().prepare(data, time_s=time_s, part_pixels=part_pixels)

    loader = ImageLoader(
        fetcher=Fetcher(max_bytes=MAX_BYTES, allow_private=["127.0.0.1"]),
        preparer=WatchingPreparer(max_pixels=40_000_000),
        budget=budget,
    )

    await loader.load([server.on("/a", response(make_png()))], time_s=20)

    assert free_bytes == [4 * MAX_BYTES - len(make_png())]
    await loader.aclose()


async def test_no_urls_are_no_pictures(loader: ImageLoader) -> None:
    assert await loader.load([], time_s=1) == []


async def test_a_passing_failure_is_tried_again(server: Server, loader: ImageLoader) -> None:
    url = server.on("/a", UNAVAILABLE, UNAVAILABLE, response(make_png()))

    assert len(await loader.load([url], time_s=20)) == 1
    assert len(server.requests) == 3


async def test_after_three_tries_the_attempt_fails(server: Server, loader: ImageLoader) -> None:
    with pytest.raises(ImageFetchFailed, match="503") as caught:
        await loader.load([server.on("/a", UNAVAILABLE)], time_s=20)

    assert caught.value.kind is Kind.RETRY
    assert len(server.requests) == 3


async def test_a_lasting_failure_is_not_tried_again(server: Server, loader: ImageLoader) -> None:
    with pytest.raises(ImageFetchFailed, match="404") as caught:
        await loader.load([server.on("/a", response(status="404 Not Found"))], time_s=20)

    assert caught.value.kind is Kind.FINAL
    assert len(server.requests) == 1


async def test_one_failed_picture_ends_the_others_and_returns_their_bytes(
    server: Server, loader: ImageLoader, budget: ByteBudget
) -> None:
    urls = [server.on("/drip", drip), server.on("/html", response(b"<html>"))]

    with pytest.raises(ImageInvalid, match="not an image"):
        await loader.load(urls, time_s=20)

    assert budget.free_bytes == 4 * MAX_BYTES


async def test_a_fetch_ends_with_the_time_of_the_attempt(server: Server, loader: ImageLoader) -> None:
    with pytest.raises(ImageFetchFailed) as caught:
        await loader.load([server.on("/a", drip)], time_s=0.3)

    assert caught.value.kind is Kind.RETRY


async def test_the_wait_for_room_ends_with_the_time_of_the_attempt(loader: ImageLoader, budget: ByteBudget) -> None:
    async with budget.reserve(4 * MAX_BYTES, time_s=60):
        with pytest.raises(ImageFetchFailed, match="no room"):
            await loader.load([data_url(make_png())], time_s=0.05)


async def test_more_pictures_than_the_budget_has_room_for_take_turns(server: Server) -> None:
    loader = ImageLoader(
        fetcher=Fetcher(max_bytes=MAX_BYTES, allow_private=["127.0.0.1"]),
        preparer=Preparer(max_pixels=40_000_000),
        budget=ByteBudget(1),
    )

    pictures = await loader.load([server.on("/a", response(make_png()))] * 5, time_s=20)

    assert len(pictures) == 5
    await loader.aclose()


async def test_a_request_has_twelve_parts_at_most(loader: ImageLoader) -> None:
    tall = data_url(encoded(make_picture(300, 8_000)))

    pictures = await loader.load([tall] * 3, time_s=20)

    assert [picture.record()["parts"] for picture in pictures] == [4, 4, 4]
    assert [picture.truncated for picture in pictures] == [True, True, True]


async def test_many_large_pictures_share_the_pixels_of_a_request(loader: ImageLoader) -> None:
    square = data_url(encoded(make_picture(1_600, 1_600)))

    (alone,) = await loader.load([square], time_s=20)
    together = await loader.load([square] * 8, time_s=20)

    assert alone.parts[0].width_px == 1_568
    assert {picture.parts[0].width_px for picture in together} == {1_330}
    assert not any(picture.truncated for picture in together)
