"""Keeps prepared pictures from one attempt to the next, so that no picture is fetched twice.

A signed URL may expire within seconds, and an outage may last for hours. An attempt that gives its row back therefore stores its
pictures in the database, and the next one begins with them. Owns how a picture is converted to a row of ``draft_pictures`` and
back; ``queue.pictures`` owns the statements. Invariants: if keeping fails, the picture is fetched again, and nothing else
happens; no attempt waits longer than ``KEEP_PICTURES_S``, apart from a new connection; ``data:`` URLs are not kept, since the
request's row contains them.
"""

import asyncio
import hashlib
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Self

import psycopg
import structlog

from draftd import db
from draftd.db.sqlstate import told_to_log
from draftd.errors import LeaseLost
from draftd.images import Part, Picture, is_data_url
from draftd.queue.pictures import MAX_ROW_BYTES, Kept, StoredPicture, find_pictures, keep_pictures
from draftd.reply.attempt import KEEP_PICTURES_S
from draftd.reply.prompts import PicturePart
from draftd.request import Claim

log = structlog.get_logger(__name__)

BUSY_INTERVAL_S = 0.1
READ_COOLDOWN_S = 10.0
"""How long no kept pictures are read after the table was unreadable: it may stay locked for minutes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _FetchedPicture:
    """A picture that this attempt fetched."""

    url: str
    facts: dict[str, Any]
    parts: Sequence[bytes | PicturePart]
    """The JPEGs; once the messages contain them, only there."""

    @property
    def size_bytes(self) -> int:
        return sum(part.size_bytes if isinstance(part, PicturePart) else len(part) for part in self.parts)

    def stored(self, index: int) -> StoredPicture:
        data = b"".join(part.data() if isinstance(part, PicturePart) else part for part in self.parts)
        return StoredPicture(position=index + 1, url_sha256=_digest(self.url), facts=self.facts, data=data)


class PictureStore:
    """Stores pictures in ``draft_pictures`` and reads them back.

    Args:
        link: the connection that inputs are read on: pictures are megabytes, which must not delay settlements.
    """

    def __init__(self, *, link: db.Link) -> None:
        self._link = link
        self._write_lock = asyncio.Lock()
        self._read_lock = asyncio.Lock()
        self._cooldown_until = 0.0
        """``time.monotonic()``."""

    def for_attempt(self, claim: Claim) -> "AttemptPictures":
        """Return the pictures of one attempt."""
        return AttemptPictures(store=self, claim=claim)

    async def find(self, claim: Claim) -> list[StoredPicture]:
        """Return the pictures that earlier attempts kept, or none if the server does not answer in time.

        Only one attempt reads at a time, and none for ``READ_COOLDOWN_S`` after a failure, since inputs share the connection.
        """
        ends_at = time.monotonic() + KEEP_PICTURES_S
        try:
            async with asyncio.timeout(KEEP_PICTURES_S):
                await self._read_lock.acquire()
            try:
                if time.monotonic() < self._cooldown_until:
                    return []
                return await find_pictures(self._link, claim, time_s=max(0.0, ends_at - time.monotonic()))
            finally:
                self._read_lock.release()
        except TimeoutError:
            # Other attempts were reading, so there is no reason for a cooldown.
            log.info("kept pictures not read", request_id=claim.id, error="not read in time")
        except (*db.LOST, psycopg.Error) as error:
            self._cooldown_until = time.monotonic() + READ_COOLDOWN_S
            log.warning("kept pictures unreadable", request_id=claim.id, error=told_to_log(error))
        return []

    async def keep(self, claim: Claim, pictures: Mapping[int, _FetchedPicture]) -> None:
        """Store pictures, given by index; give up after ``KEEP_PICTURES_S``."""
        task = asyncio.create_task(self._keep(claim, pictures), name=f"keep-{claim.id}")
        try:
            await asyncio.wait({task}, timeout=KEEP_PICTURES_S)
        finally:
            if not task.done():
                task.cancel()
                log.info("pictures not kept", request_id=claim.id, error="not written in time")

    async def _keep(self, claim: Claim, pictures: Mapping[int, _FetchedPicture]) -> None:
        try:
            # One attempt at a time, since writing needs a second copy in memory.
            async with self._write_lock:
                rows = await asyncio.to_thread(lambda: [one.stored(index) for index, one in pictures.items()])
                while True:
                    kept = await keep_pictures(self._link, claim, rows)
                    if kept is not Kept.BUSY:
                        break
                    await asyncio.sleep(BUSY_INTERVAL_S)
            log.info("pictures kept" if kept is Kept.KEPT else "pictures not kept", request_id=claim.id)
        except (psycopg.Error, *db.LOST) as error:
            log.info("pictures not kept", request_id=claim.id, error=type(error).__name__)


class AttemptPictures:
    """The pictures of one attempt: those that an earlier attempt kept, and those that this one has fetched.

    An async context manager around the attempt. On exit it keeps the fetched pictures for the next attempt, unless they were
    discarded, and releases the memory that is reserved for all of them.

    Args:
        store: keeps pictures between attempts.
        claim: the attempt's claim.
    """

    def __init__(self, *, store: PictureStore, claim: Claim) -> None:
        self.reservations = AsyncExitStack()
        """Memory reservations, released on exit. Until then the messages contain the pictures."""
        self._store = store
        self._claim = claim
        self._urls: dict[int, str] = {}
        self._found_bytes: dict[int, int] = {}
        self._fetched: dict[int, _FetchedPicture] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, _type: object, error: BaseException | None, _traceback: object) -> None:
        try:
            # Also when the attempt is cancelled, such as by a shutdown.
            if not isinstance(error, LeaseLost):
                await self.keep()
        finally:
            await self.reservations.aclose()

    def discard(self) -> None:
        """Keep nothing: there is no next attempt."""
        self._fetched.clear()

    def set_urls(self, urls: Sequence[str]) -> None:
        """Set the request's ``image_urls``."""
        self._urls = {index: url for index, url in enumerate(urls) if not is_data_url(url)}

    @property
    def max_found_bytes(self) -> int:
        """How much ``find`` may return; 0 if no earlier attempt can have kept pictures."""
        return MAX_ROW_BYTES if self._urls and self._claim.lease_token > 1 else 0

    async def find(self) -> dict[int, Picture]:
        """Return the pictures that an earlier attempt kept for the same URLs, by index."""
        found: dict[int, Picture] = {}
        for row in await self._store.find(self._claim):
            url = self._urls.get(row.position - 1)
            if url is not None and row.url_sha256 == _digest(url) and (picture := _picture(row)) is not None:
                found[row.position - 1] = picture
                self._found_bytes[row.position - 1] = len(row.data)
        return found

    def add(self, index: int, picture: Picture) -> None:
        """Add a picture that was fetched and prepared."""
        self._add(index, picture, [part.data for part in picture.parts])

    def move_to_messages(self, pictures: Sequence[Picture], messages: Sequence[Mapping[str, Any]]) -> None:
        """Drop the pictures' bytes, which the messages contain now, and refer to those."""
        shown = iter([part for part in messages[-1]["content"] if isinstance(part, PicturePart)])
        parts: list[list[PicturePart]] = []
        for index, picture in enumerate(pictures):
            parts.append([next(shown) for _ in picture.parts] if picture.repeats is None else parts[picture.repeats])
            self._add(index, picture, parts[index])

    async def keep(self) -> None:
        """Keep the fetched pictures for the next attempt, unless they are too large."""
        size_bytes = sum(self._found_bytes.values()) + sum(one.size_bytes for one in self._fetched.values())
        if self._fetched and size_bytes <= MAX_ROW_BYTES:
            await self._store.keep(self._claim, self._fetched)

    def _add(self, index: int, picture: Picture, parts: Sequence[bytes | PicturePart]) -> None:
        if index in self._urls and index not in self._found_bytes:
            self._fetched[index] = _FetchedPicture(url=self._urls[index], facts=_facts(picture), parts=parts)


def _digest(url: str) -> bytes:
    return hashlib.sha256(url.encode()).digest()


def _facts(picture: Picture) -> dict[str, Any]:
    return {
        "host": picture.host,
        "sha256": picture.sha256,
        "width_px": picture.width_px,
        "height_px": picture.height_px,
        "truncated": picture.truncated,
        "tiled": picture.tiled,
        "one_of_several": picture.one_of_several,
        "parts": [[len(part.data), part.width_px, part.height_px] for part in picture.parts],
    }


def _picture(row: StoredPicture) -> Picture | None:
    """Return a kept picture, or None if it was stored in another version's format."""
    try:
        facts = dict(row.facts)
        sizes = facts.pop("parts")
        ends = list(accumulate(length for length, _, _ in sizes))
        if not ends or ends[-1] != len(row.data):
            return None
        parts = tuple(
            Part(data=row.data[end - length : end], width_px=width_px, height_px=height_px)
            for end, (length, width_px, height_px) in zip(ends, sizes, strict=True)
        )
        return Picture(parts=parts, **facts)
    except (KeyError, TypeError, ValueError):
        return None
