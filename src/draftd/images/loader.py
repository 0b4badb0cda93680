"""From the ``image_urls`` of a request to the pictures that its prompt shows.

Owns the order of the steps, the retries within an attempt, and what a request may show in total. The collaborators fetch, decode
and keep the byte budget.

Invariants: every picture has room for its bytes, and then for its parts until the model has answered; a request that waits for
more room while holding some gives up soon, so that requests cannot deadlock; the order of the URLs is the order of the pictures.
"""

import asyncio
import hashlib
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any, Protocol

from tenacity import (
    AsyncRetrying,
    retry_if_exception,
    stop_after_attempt,
    stop_before_delay,
    wait_random_exponential,
)

from draftd.errors import ImageFetchFailed, ImageNotServed, NoRoomForImage, RequestError
from draftd.images.budget import ByteBudget, Reservation
from draftd.images.fetch import Fetched, Fetcher, data_url_bytes, is_data_url
from draftd.images.layout import PICTURE_PIXELS, SLICE_PIXELS
from draftd.images.prepare import Part, Prepared, Preparer

MAX_PARTS = 12
REQUEST_PIXELS = MAX_PARTS * SLICE_PIXELS
"""Of all parts of a request: twelve full slices, 14 megapixels. At 750 pixels a token these are 19,000 tokens."""
PICTURE_BASE64_BYTES = PICTURE_PIXELS * 4 // 3
"""Of the parts of one picture as a message carries them, with a byte a pixel at most."""
CONCURRENCY = 4
MAX_TRIES = 3
PATIENCE_S = 20.0
"""How long a request waits for more room while it holds some, so that requests that wait for each other give up in turn; as long
as the slowest fetch may take, after which others' room is free again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One image of a request, ready for the prompt."""

    host: str
    """Where it came from; empty for ``data:``."""
    sha256: str
    """Of the bytes as fetched, in hexadecimal."""
    width_px: int
    height_px: int
    parts: tuple[Part, ...]
    truncated: bool
    """Whether the parts leave something out."""
    tiled: bool = False
    """Whether the first part is the whole, and the others are its tiles, row by row."""
    one_of_several: bool = False
    """Whether its file has further frames or pictures, which were left out."""
    repeats: int | None = None
    """The index of an earlier picture of the request with the same parts, which are shown once; None for a new one."""

    def record(self) -> dict[str, Any]:
        """Return what the row's ``images`` column stores."""
        return {
            "host": self.host,
            "sha256": self.sha256,
            "width": self.width_px,
            "height": self.height_px,
            "parts": len(self.parts) if self.repeats is None else 0,
        }


class EarlierPictures(Protocol):
    """What an attempt knows about its pictures besides their URLs."""

    @property
    def most_bytes_found(self) -> int:
        """How much ``find`` may return."""

    async def find(self) -> Mapping[int, Picture]:
        """Return the pictures already available, by the index of their URL."""

    def add(self, index: int, picture: Picture) -> None:
        """Store a picture as soon as it is ready, whatever happens to the others."""


class ImageLoader:
    """Fetches and prepares the images of a request.

    Args:
        fetcher: from URL to bytes.
        preparer: from bytes to parts.
        budget: how many bytes of images the process may hold.
        retry_wait_s: the longest wait before the second try, in seconds; twice that before the third.
    """

    def __init__(self, *, fetcher: Fetcher, preparer: Preparer, budget: ByteBudget, retry_wait_s: float = 0.5) -> None:
        self._fetcher = fetcher
        self._preparer = preparer
        self._budget = budget
        # Full jitter: rows that failed together on one host must not retry together.
        self._wait = wait_random_exponential(multiplier=retry_wait_s, max=2 * retry_wait_s)

    async def load(
        self, urls: Sequence[str], *, album: EarlierPictures | None = None, rooms: AsyncExitStack, time_s: float
    ) -> list[Picture]:
        """Fetch and prepare images, a few at a time.

        Args:
            urls: in reading order.
            album: which of them need not be fetched, and where each goes as soon as it is ready.
            rooms: where what they become has its room, for as long as it is open.
            time_s: seconds left, for everything.

        Returns:
            A picture per URL, in their order, with 12 parts and 14 megapixels at most in all.

        Raises:
            RequestError: the first image that failed; the others are given up.
        """
        load = _Load(
            deadline_s=time.monotonic() + time_s,
            part_pixels=REQUEST_PIXELS // max(len(urls), 1),
            album=album,
            rooms=rooms,
        )
        try:
            loaded = await self._load_all(urls, load)
        except BaseException as error:
            _forget(error)
            raise
        pictures = share_parts(mark_repeats([picture for picture, _ in loaded]))
        for picture, (_, room) in zip(pictures, loaded, strict=True):
            if room is not None:
                room.shrink(_base64_bytes(picture.parts) if picture.repeats is None else 0)
        return pictures

    async def aclose(self) -> None:
        """Close the fetcher and the preparer."""
        await self._fetcher.aclose()
        await self._preparer.aclose()

    async def _load_all(self, urls: Sequence[str], load: "_Load") -> list[tuple[Picture, Reservation | None]]:
        slots = asyncio.Semaphore(CONCURRENCY)
        found = await self._find(load)

        async def load_one(index: int, url: str) -> tuple[Picture, Reservation | None]:
            if index in found:
                return found[index], None
            async with slots:
                try:
                    picture, room = await self._load_one(url, load)
                except RequestError as error:
                    raise error.of_picture(index + 1, len(urls)) from error
            if load.album is not None:
                load.album.add(index, picture)
            return picture, room

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(load_one(index, url)) for index, url in enumerate(urls)]
        except ExceptionGroup as failures:
            first = failures.exceptions[0]
            raise first from first.__cause__
        return [task.result() for task in tasks]

    async def _find(self, load: "_Load") -> Mapping[int, Picture]:
        """Return the pictures that need not be fetched; they take up room like the others."""
        if load.album is None or not load.album.most_bytes_found:
            return {}
        most_bytes = load.album.most_bytes_found * 4 // 3
        room = await load.rooms.enter_async_context(self._budget.reserve(most_bytes, time_s=load.left_s()))
        found = await load.album.find()
        room.shrink(sum(_base64_bytes(picture.parts) for picture in found.values()))
        load.holds_room = bool(found)
        return found

    async def _load_one(self, url: str, load: "_Load") -> tuple[Picture, Reservation]:
        fetched, room = await self._fetch(url, load)
        room.shrink(len(fetched.data) + PICTURE_BASE64_BYTES)
        prepared = await self._prepare(fetched, load)
        digest = await asyncio.to_thread(hashlib.sha256, fetched.data)
        room.shrink(_base64_bytes(prepared.parts))
        picture = Picture(
            host=fetched.host,
            sha256=digest.hexdigest(),
            width_px=prepared.width_px,
            height_px=prepared.height_px,
            parts=prepared.parts,
            truncated=prepared.truncated,
            tiled=prepared.tiled,
            one_of_several=prepared.one_of_several,
        )
        return picture, room

    async def _prepare(self, fetched: Fetched, load: "_Load") -> Prepared:
        try:
            return await self._preparer.prepare(fetched.data, time_s=load.left_s(), part_pixels=load.part_pixels)
        except RequestError as error:
            raise error.about(host=fetched.host) from error

    async def _fetch(self, url: str, load: "_Load") -> tuple[Fetched, Reservation]:
        """Return the bytes behind a URL, and the room that they and their parts have until the load ends."""
        most_bytes = data_url_bytes(url) if is_data_url(url) else self._fetcher.max_bytes
        # At most half of all room: a request that holds some could never get more.
        most_bytes = min(most_bytes + PICTURE_BASE64_BYTES, self._budget.limit_bytes // 2)
        retrying = AsyncRetrying(
            stop=stop_after_attempt(MAX_TRIES) | stop_before_delay(load.left_s()),
            wait=self._wait,
            retry=retry_if_exception(_may_pass),
            reraise=True,
        )
        async for attempt in retrying:
            with attempt:
                # Per try: between two tries, others may use the room.
                async with AsyncExitStack() as stack:
                    reserved = self._budget.reserve(most_bytes, time_s=load.patience_s())
                    room = await stack.enter_async_context(reserved)
                    fetched = await self._fetcher.fetch(url, time_s=load.left_s())
                    load.rooms.push_async_exit(stack.pop_all())
                    load.holds_room = True
                    return fetched, room
        raise ImageFetchFailed  # not reached: the last try raises its own error


@dataclass(slots=True, kw_only=True)
class _Load:
    """The pictures of one request in progress."""

    deadline_s: float
    part_pixels: int
    album: EarlierPictures | None
    rooms: AsyncExitStack
    holds_room: bool = False

    def left_s(self) -> float:
        """Return how many seconds are left."""
        return max(self.deadline_s - time.monotonic(), 0)

    def patience_s(self) -> float:
        """Return how long to wait for room: not long while holding room that others may be waiting for."""
        return min(self.left_s(), PATIENCE_S) if self.holds_room else self.left_s()


def mark_repeats(pictures: Sequence[Picture]) -> list[Picture]:
    """Mark each picture that looks exactly like an earlier one: two uploads of one screenshot, whatever their files say."""
    first: dict[bytes, int] = {}
    marked = []
    for index, picture in enumerate(pictures):
        digest = hashlib.sha256()
        for part in picture.parts:
            digest.update(hashlib.sha256(part.data).digest())
        earlier = first.setdefault(digest.digest(), index)
        marked.append(picture if earlier == index else replace(picture, repeats=earlier))
    return marked


def share_parts(pictures: Sequence[Picture]) -> list[Picture]:
    """Keep 12 parts and 14 megapixels in all, shared evenly: a part of every picture, then a second one, and so on.

    In each round the last picture comes first, and a picture gives up what follows its first part, because the message
    to be answered is usually at the end. A picture that repeats an earlier one has the parts that are kept of that.
    """
    kept: list[tuple[Part, ...]] = [
        () if picture.repeats is not None else picture.parts[:1] if picture.tiled else picture.parts[-1:]
        for picture in pictures
    ]
    growing = [index for index, picture in enumerate(pictures) if picture.repeats is None and len(picture.parts) > 1]
    while growing:
        for index in reversed(growing):
            more = _ends(pictures[index].parts, len(kept[index]) + 1)
            if _fits([*kept[:index], more, *kept[index + 1 :]]):
                kept[index] = more
            if kept[index] is not more or len(more) == len(pictures[index].parts):
                growing.remove(index)
    kept = [
        parts if picture.repeats is None else kept[picture.repeats]
        for picture, parts in zip(pictures, kept, strict=True)
    ]
    return [
        replace(picture, parts=parts, truncated=picture.truncated or len(parts) < len(picture.parts))
        for picture, parts in zip(pictures, kept, strict=True)
    ]


def _ends(parts: tuple[Part, ...], count: int) -> tuple[Part, ...]:
    """Return the first part and the last ones, ``count`` in all."""
    return parts if count >= len(parts) else (parts[0], *parts[len(parts) - count + 1 :])


def _fits(kept: Sequence[tuple[Part, ...]]) -> bool:
    parts = [part for some in kept for part in some]
    return len(parts) <= MAX_PARTS and sum(part.width_px * part.height_px for part in parts) <= REQUEST_PIXELS


def _forget(error: BaseException | None) -> None:
    """Clear what the frames of an error hold, and those of the errors behind it, and take it out of its cycle.

    A guarantee of memory: an error of a task group has the group as its context, which has the error. In such a cycle pictures
    and URLs would stay until the next full collection: 379 MiB after 20 failures of 18 MiB, instead of 25 (docs/adr/0021).
    """
    behind = [error]
    seen: set[BaseException] = set()
    while behind:
        one = behind.pop()
        if one is None or one in seen:
            continue
        seen.add(one)
        traceback.clear_frames(one.__traceback__)
        behind += [one.__cause__, one.__context__, *(one.exceptions if isinstance(one, BaseExceptionGroup) else ())]
        if one.__suppress_context__:  # nothing would use it
            one.__context__ = None


def _may_pass(error: BaseException) -> bool:
    # A request that found no room returns what it holds, and does not wait again.
    return isinstance(error, ImageFetchFailed) and not isinstance(error, ImageNotServed | NoRoomForImage)


def _base64_bytes(parts: Sequence[Part]) -> int:
    return sum(len(part.data) for part in parts) * 4 // 3
