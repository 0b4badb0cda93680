"""From the ``image_urls`` of a request to the pictures in its prompt.

Owns the order of the steps, the retries within an attempt, and the total size of a request's pictures.

Invariants: memory is reserved for each picture's bytes, and then for its parts until the model has answered; a request that waits
for more memory while holding some gives up soon, so that requests cannot deadlock; pictures are in the order of the URLs.
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

from draftd.errors import ImageBudgetExhausted, ImageFetchFailed, ImageNotServed, RequestError
from draftd.images.budget import ByteBudget, Reservation
from draftd.images.fetch import Fetched, Fetcher, data_url_bytes, is_data_url
from draftd.images.layout import PICTURE_PIXELS, SLICE_PIXELS
from draftd.images.prepare import Part, Prepared, Preparer

MAX_PARTS = 12
REQUEST_PIXELS = MAX_PARTS * SLICE_PIXELS
"""Limit for all parts of a request: twelve full slices, 14 megapixels, or 19,000 tokens at 750 pixels a token."""
PICTURE_BASE64_BYTES = PICTURE_PIXELS * 4 // 3
"""Maximum size of one picture's parts in a message, at one byte a pixel."""
CONCURRENCY = 4
MAX_TRIES = 3
RESERVE_WAIT_S = 20.0
"""How long a request that holds memory waits for more, so that requests that wait for each other give up. It equals the time
limit of a fetch, after which other requests have released their memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture(Prepared):
    """One image of a request, ready for the prompt."""

    host: str
    """The host of its URL; empty for ``data:``."""
    sha256: str
    """SHA-256 of the fetched bytes, in hexadecimal."""
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


class KeptPictures(Protocol):
    """The pictures that an earlier attempt kept, and where this one's are added."""

    @property
    def max_found_bytes(self) -> int:
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
        budget: limits the image bytes that the process holds.
        retry_wait_s: maximum wait before the second try, in seconds; twice that before the third.
    """

    def __init__(self, *, fetcher: Fetcher, preparer: Preparer, budget: ByteBudget, retry_wait_s: float = 0.5) -> None:
        self._fetcher = fetcher
        self._preparer = preparer
        self._budget = budget
        # Full jitter: rows that failed together on one host must not retry together.
        self._wait = wait_random_exponential(multiplier=retry_wait_s, max=2 * retry_wait_s)

    async def load(
        self, urls: Sequence[str], *, kept: KeptPictures | None = None, reservations: AsyncExitStack, time_s: float
    ) -> list[Picture]:
        """Fetch and prepare images, a few at a time.

        Args:
            urls: in reading order.
            kept: pictures that need not be fetched, and where each fetched one is added as soon as it is ready.
            reservations: takes over the memory reservations of the pictures.
            time_s: time limit in seconds.

        Returns:
            A picture per URL, in their order, with 12 parts and 14 megapixels at most in all.

        Raises:
            RequestError: the first image that failed; the others are cancelled.
        """
        load = _Load(
            deadline_s=time.monotonic() + time_s,
            part_pixels=REQUEST_PIXELS // max(len(urls), 1),
            kept=kept,
            reservations=reservations,
        )
        try:
            loaded = await self._load_all(urls, load)
        except BaseException as error:
            _break_cycles(error)
            raise
        pictures = share_parts(mark_repeats([picture for picture, _ in loaded]))
        for picture, (_, reservation) in zip(pictures, loaded, strict=True):
            if reservation is not None:
                reservation.shrink(_base64_bytes(picture.parts) if picture.repeats is None else 0)
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
                    picture, reservation = await self._load_one(url, load)
                except RequestError as error:
                    raise error.of_picture(index + 1, len(urls)) from error
            if load.kept is not None:
                load.kept.add(index, picture)
            return picture, reservation

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(load_one(index, url)) for index, url in enumerate(urls)]
        except ExceptionGroup as failures:
            first = failures.exceptions[0]
            raise first from first.__cause__
        return [task.result() for task in tasks]

    async def _find(self, load: "_Load") -> Mapping[int, Picture]:
        """Return the kept pictures, after reserving memory for them."""
        if load.kept is None or not load.kept.max_found_bytes:
            return {}
        max_bytes = load.kept.max_found_bytes * 4 // 3
        reservation = await load.reservations.enter_async_context(self._budget.reserve(max_bytes, time_s=load.left_s()))
        found = await load.kept.find()
        reservation.shrink(sum(_base64_bytes(picture.parts) for picture in found.values()))
        load.holds_memory = bool(found)
        return found

    async def _load_one(self, url: str, load: "_Load") -> tuple[Picture, Reservation]:
        fetched, reservation = await self._fetch(url, load)
        reservation.shrink(len(fetched.data) + PICTURE_BASE64_BYTES)
        prepared = await self._prepare(fetched, load)
        digest = await asyncio.to_thread(hashlib.sha256, fetched.data)
        reservation.shrink(_base64_bytes(prepared.parts))
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
        return picture, reservation

    async def _prepare(self, fetched: Fetched, load: "_Load") -> Prepared:
        try:
            return await self._preparer.prepare(fetched.data, time_s=load.left_s(), part_pixels=load.part_pixels)
        except RequestError as error:
            raise error.about(host=fetched.host) from error

    async def _fetch(self, url: str, load: "_Load") -> tuple[Fetched, Reservation]:
        """Return the bytes behind a URL, and the reservation for them and their parts."""
        max_bytes = data_url_bytes(url) if is_data_url(url) else self._fetcher.max_bytes
        # At most half of the budget: otherwise a request that holds memory could never get more.
        max_bytes = min(max_bytes + PICTURE_BASE64_BYTES, self._budget.limit_bytes // 2)
        retrying = AsyncRetrying(
            stop=stop_after_attempt(MAX_TRIES) | stop_before_delay(load.left_s()),
            wait=self._wait,
            retry=retry_if_exception(_is_transient),
            reraise=True,
        )
        async for attempt in retrying:
            with attempt:
                # Per try: others may use the memory between two tries.
                async with AsyncExitStack() as stack:
                    reserving = self._budget.reserve(max_bytes, time_s=load.reserve_wait_s())
                    reservation = await stack.enter_async_context(reserving)
                    fetched = await self._fetcher.fetch(url, time_s=load.left_s())
                    load.reservations.push_async_exit(stack.pop_all())
                    load.holds_memory = True
                    return fetched, reservation
        raise ImageFetchFailed  # not reached: the last try raises its own error


@dataclass(slots=True, kw_only=True)
class _Load:
    """The pictures of one request in progress."""

    deadline_s: float
    part_pixels: int
    kept: KeptPictures | None
    reservations: AsyncExitStack
    holds_memory: bool = False

    def left_s(self) -> float:
        """Return how many seconds are left."""
        return max(self.deadline_s - time.monotonic(), 0)

    def reserve_wait_s(self) -> float:
        """Return how long to wait for memory: not long while holding memory that others may be waiting for."""
        return min(self.left_s(), RESERVE_WAIT_S) if self.holds_memory else self.left_s()


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


def _break_cycles(error: BaseException | None) -> None:
    """Clear the frames of an error and its causes, and break the reference cycle of a task group's error.

    This bounds memory: the group is the context of the error that it contains. Such a cycle would keep pictures and URLs until
    the next full garbage collection: 379 MiB after 20 failures of 18 MiB, instead of 25 (docs/adr/0021).
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
        if one.__suppress_context__:  # a traceback does not show it
            one.__context__ = None


def _is_transient(error: BaseException) -> bool:
    # A request that got no memory releases what it holds, and does not wait again.
    return isinstance(error, ImageFetchFailed) and not isinstance(error, ImageNotServed | ImageBudgetExhausted)


def _base64_bytes(parts: Sequence[Part]) -> int:
    return sum(len(part.data) for part in parts) * 4 // 3
