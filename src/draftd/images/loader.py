"""From the ``image_urls`` of a request to the pictures that its prompt shows.

Owns the order of the steps, the retries within an attempt and what a request may show in all; fetching, decoding and
the budget of bytes are the collaborators'.

Invariants: every picture holds its bytes under one reservation of its own and waits for no other picture while it does,
so requests cannot block each other for ever; the order of the URLs is the order of the pictures.
"""

import asyncio
import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from tenacity import (
    AsyncRetrying,
    retry_if_exception,
    stop_after_attempt,
    stop_before_delay,
    wait_random_exponential,
)

from draftd.errors import ImageFetchFailed, Kind
from draftd.images.budget import ByteBudget
from draftd.images.fetch import Fetched, Fetcher, data_url_bytes, is_data_url
from draftd.images.prepare import Part, Preparer

MAX_PARTS = 12
REQUEST_PIXELS = MAX_PARTS * 768 * 1536
"""Of all parts of a request: twelve full slices, 14 megapixels. At 750 pixels a token these are 19,000 tokens."""
MAX_BASE64_BYTES = REQUEST_PIXELS * 4 // 3
"""Of all parts of a request as its messages carry them; a part has a byte a pixel at most."""
CONCURRENCY = 4
MAX_TRIES = 3


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
    """Whether something of it is not in the parts."""

    def record(self) -> dict[str, Any]:
        """Return what the row's ``images`` column stores."""
        return {
            "host": self.host,
            "sha256": self.sha256,
            "width": self.width_px,
            "height": self.height_px,
            "parts": len(self.parts),
        }


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
        # Full jitter: rows that failed together on one host do not come back together.
        self._wait = wait_random_exponential(multiplier=retry_wait_s, max=2 * retry_wait_s)

    async def load(self, urls: Sequence[str], *, time_s: float) -> list[Picture]:
        """Fetch and prepare images, a few at a time.

        Args:
            urls: in reading order.
            time_s: seconds left, for everything.

        Returns:
            A picture per URL, in their order, with 12 parts and 14 megapixels at most in all.

        Raises:
            RequestError: the first image that failed; the others are given up.
        """
        deadline_s = time.monotonic() + time_s
        slots = asyncio.Semaphore(CONCURRENCY)

        async def load_one(url: str) -> Picture:
            async with slots:
                return await self._load_one(url, deadline_s, part_pixels=REQUEST_PIXELS // len(urls))

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(load_one(url)) for url in urls]
        except ExceptionGroup as failures:
            first = failures.exceptions[0]
            raise first from first.__cause__
        return share_parts([task.result() for task in tasks])

    async def aclose(self) -> None:
        """Close what fetches and what prepares."""
        await self._fetcher.aclose()
        await self._preparer.aclose()

    async def _load_one(self, url: str, deadline_s: float, *, part_pixels: int) -> Picture:
        size_bytes = data_url_bytes(url) if is_data_url(url) else self._fetcher.max_bytes
        async with self._budget.reserve(size_bytes, time_s=_left_s(deadline_s)) as reservation:
            fetched = await self._fetch(url, deadline_s)
            reservation.shrink(len(fetched.data))
            prepared = await self._preparer.prepare(fetched.data, time_s=_left_s(deadline_s), part_pixels=part_pixels)
            digest = await asyncio.to_thread(hashlib.sha256, fetched.data)
        return Picture(
            host=fetched.host,
            sha256=digest.hexdigest(),
            width_px=prepared.width_px,
            height_px=prepared.height_px,
            parts=prepared.parts,
            truncated=prepared.truncated,
        )

    async def _fetch(self, url: str, deadline_s: float) -> Fetched:
        retrying = AsyncRetrying(
            stop=stop_after_attempt(MAX_TRIES) | stop_before_delay(_left_s(deadline_s)),
            wait=self._wait,
            retry=retry_if_exception(_may_pass),
            reraise=True,
        )
        async for attempt in retrying:
            with attempt:
                return await self._fetcher.fetch(url, time_s=_left_s(deadline_s))
        raise ImageFetchFailed  # not reached: the last try raises its own error


def share_parts(pictures: Sequence[Picture]) -> list[Picture]:
    """Keep 12 parts and 14 megapixels in all, shared evenly: a part of every picture, then a second one, and so on.

    In each round the last picture comes first, and a picture gives up what follows its first part, because the message
    to be answered is usually at the end.
    """
    kept = [picture.parts[-1:] for picture in pictures]
    growing = [index for index, picture in enumerate(pictures) if len(picture.parts) > 1]
    while growing:
        for index in reversed(growing):
            more = _ends(pictures[index].parts, len(kept[index]) + 1)
            if _fits([*kept[:index], more, *kept[index + 1 :]]):
                kept[index] = more
            if kept[index] is not more or len(more) == len(pictures[index].parts):
                growing.remove(index)
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


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, ImageFetchFailed) and error.kind is Kind.RETRY


def _left_s(deadline_s: float) -> float:
    return max(deadline_s - time.monotonic(), 0)
