"""From the ``image_urls`` of a request to the pictures that its prompt shows.

Owns the order of the steps, the retries within an attempt and the number of parts; fetching, decoding and the budget of
bytes are the collaborators'.

Invariants: every picture holds its bytes under one reservation of its own and waits for no other picture while it does,
so requests cannot block each other for ever; the order of the URLs is the order of the pictures.
"""

import asyncio
import hashlib
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any

from tenacity import (
    AsyncRetrying,
    retry_if_exception,
    stop_after_attempt,
    stop_before_delay,
    wait_random_exponential,
)

from draftd.errors import ImageFetchFailed, ImageTooLarge, Kind
from draftd.images.budget import ByteBudget
from draftd.images.fetch import Fetched, Fetcher, data_url_bytes, is_data_url
from draftd.images.prepare import Part, Preparer

MAX_PARTS = 12
MAX_PREPARED_BYTES = 20 * 1024 * 1024
"""Of all parts of a request: as base64 27 MiB, near what providers take in one request. Twelve parts of a chat have 1.5 MiB."""
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
            A picture per URL, in their order, with 12 parts at most in all.

        Raises:
            RequestError: the first image that failed; the others are given up.
        """
        deadline_s = time.monotonic() + time_s
        slots = asyncio.Semaphore(CONCURRENCY)

        prepared_bytes = 0

        async def load_one(url: str) -> Picture:
            nonlocal prepared_bytes
            async with slots:
                picture = await self._load_one(url, deadline_s)
            prepared_bytes += sum(len(part.data) for part in picture.parts)
            if prepared_bytes > MAX_PREPARED_BYTES:
                raise ImageTooLarge(f"the prepared images of the request are over {MAX_PREPARED_BYTES} bytes")
            return picture

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

    async def _load_one(self, url: str, deadline_s: float) -> Picture:
        size_bytes = data_url_bytes(url) if is_data_url(url) else self._fetcher.max_bytes
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(_left_s(deadline_s)):
                    reservation = await stack.enter_async_context(self._budget.reserve(size_bytes))
            except TimeoutError as error:
                raise ImageFetchFailed("there was no room for the image in time") from error
            fetched = await self._fetch(url, deadline_s)
            reservation.shrink(len(fetched.data))
            prepared = await self._preparer.prepare(fetched.data, time_s=_left_s(deadline_s))
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
    """Keep 12 parts in all: the first of every picture, and of the rest as many as there is room for, in order."""
    kept: list[Picture] = []
    room = MAX_PARTS
    for number, picture in enumerate(pictures, start=1):
        share = max(room - (len(pictures) - number), 0)
        parts = picture.parts[:share]
        room -= len(parts)
        kept.append(replace(picture, parts=parts, truncated=picture.truncated or len(parts) < len(picture.parts)))
    return kept


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, ImageFetchFailed) and error.kind is Kind.RETRY


def _left_s(deadline_s: float) -> float:
    return max(deadline_s - time.monotonic(), 0)
