"""Keeping prepared pictures from one attempt to the next, so that no picture is fetched twice.

A signed address may live for seconds and a provider's outage for hours. So an attempt that gives its row back leaves its
pictures in the database, and the next one begins with them. Owns how a picture becomes a row of ``draft_pictures`` and a picture
again; the statements are ``queue.pictures``'s. Invariants: what cannot be kept is fetched again, and nothing worse comes of it;
no attempt waits for longer than ``KEEP_S``, a new connection apart; ``data:`` entries are not kept, as the row itself holds them.
"""

import asyncio
import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Self

import psycopg
import structlog

from draftd import db
from draftd.errors import LeaseLost
from draftd.images import Part, Picture, is_data_url
from draftd.queue.pictures import MOST_BYTES_OF_A_ROW, Kept, StoredPicture, find_pictures, keep_pictures
from draftd.reply.attempt import KEEP_S
from draftd.request import Claim
from draftd.sanitize import redact
from draftd.telemetry.tracing import ShownPicture

log = structlog.get_logger(__name__)

BUSY_INTERVAL_S = 0.1
REST_S = 10.0
"""How long no kept pictures are looked for after the table could not be read: it may stay locked for minutes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Leaf:
    """A picture of an album."""

    url: str
    facts: dict[str, Any]
    parts: Sequence[bytes | ShownPicture]
    """Once a message shows them, they stand in it only."""

    @property
    def size_bytes(self) -> int:
        return sum(part.summary["bytes"] if isinstance(part, ShownPicture) else len(part) for part in self.parts)

    def stored(self, index: int) -> StoredPicture:
        data = b"".join(part.data() if isinstance(part, ShownPicture) else part for part in self.parts)
        return StoredPicture(position=index + 1, url_sha256=_digest(self.url), facts=self.facts, data=data)


class PictureStore:
    """Leaves pictures, and finds them again.

    Args:
        link: the connection that inputs are read on: pictures are megabytes, and no settlement may stand behind them.
    """

    def __init__(self, *, link: db.Link) -> None:
        self._link = link
        self._one_at_a_time = asyncio.Lock()
        self._one_reads = asyncio.Lock()
        self._rests_until = 0.0
        """On the monotonic clock, in seconds."""

    def album(self, claim: Claim) -> "Album":
        """Return the album of one attempt."""
        return Album(store=self, claim=claim)

    async def find(self, claim: Claim) -> list[StoredPicture]:
        """Return what earlier attempts have left; nothing when the server does not say at once.

        One attempt at a time, and none for ``REST_S`` after a failure: inputs are read on the same connection.
        """
        ends_at = time.monotonic() + KEEP_S
        try:
            async with asyncio.timeout(KEEP_S):
                await self._one_reads.acquire()
            try:
                if time.monotonic() < self._rests_until:
                    return []
                return await find_pictures(self._link, claim, time_s=max(0.0, ends_at - time.monotonic()))
            finally:
                self._one_reads.release()
        except TimeoutError:
            # Others read, which says nothing about the table.
            log.info("kept pictures not read", request_id=claim.id, error="not read in time")
        except (*db.LOST, psycopg.Error) as error:
            self._rests_until = time.monotonic() + REST_S
            log.warning("kept pictures unreadable", request_id=claim.id, error=redact(str(error)))
        return []

    async def keep(self, claim: Claim, leaves: Mapping[int, _Leaf]) -> None:
        """Leave pictures, by their index; given up after ``KEEP_S``."""
        task = asyncio.create_task(self._keep(claim, leaves), name=f"keep-{claim.id}")
        try:
            await asyncio.wait({task}, timeout=KEEP_S)
        finally:
            if not task.done():
                task.cancel()
                log.info("pictures not kept", request_id=claim.id, error="not written in time")

    async def _keep(self, claim: Claim, leaves: Mapping[int, _Leaf]) -> None:
        try:
            # One at a time: while they are written they stand in memory once more.
            async with self._one_at_a_time:
                rows = await asyncio.to_thread(lambda: [leaf.stored(index) for index, leaf in leaves.items()])
                while True:
                    kept = await keep_pictures(self._link, claim, rows)
                    if kept is not Kept.BUSY:
                        break
                    await asyncio.sleep(BUSY_INTERVAL_S)
            log.info("pictures kept" if kept is Kept.KEPT else "pictures not kept", request_id=claim.id)
        except (psycopg.Error, *db.LOST) as error:
            log.info("pictures not kept", request_id=claim.id, error=type(error).__name__)


class Album:
    """The pictures of one attempt: what an earlier one left, and what this one has prepared so far.

    A block of ``async with`` is the attempt; at its end the pictures are left for the next one, unless they were discarded.

    Args:
        store: where they are kept between attempts.
        claim: whose attempt it is.
    """

    def __init__(self, *, store: PictureStore, claim: Claim) -> None:
        self._store = store
        self._claim = claim
        self._urls: dict[int, str] = {}
        self._found: dict[int, int] = {}
        self._fresh: dict[int, _Leaf] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, _type: object, error: BaseException | None, _traceback: object) -> None:
        # After a cancellation, too: by a shutdown, say.
        if not isinstance(error, LeaseLost):
            await self.leave()

    def discard(self) -> None:
        """Keep nothing: there is no next attempt."""
        self._fresh.clear()

    def begin(self, urls: Sequence[str]) -> None:
        """Say what the pictures are fetched from: the ``image_urls`` of the request."""
        self._urls = {index: url for index, url in enumerate(urls) if not is_data_url(url)}

    @property
    def most_bytes_found(self) -> int:
        """How much ``find`` may return; 0 for a row that nobody can have left pictures of."""
        return MOST_BYTES_OF_A_ROW if self._urls and self._claim.lease_token > 1 else 0

    async def find(self) -> dict[int, Picture]:
        """Return the pictures that an earlier attempt left of the same URLs, by their index."""
        found: dict[int, Picture] = {}
        for row in await self._store.find(self._claim):
            url = self._urls.get(row.position - 1)
            if url is not None and row.url_sha256 == _digest(url) and (picture := _picture(row)) is not None:
                found[row.position - 1] = picture
                self._found[row.position - 1] = len(row.data)
        return found

    def add(self, index: int, picture: Picture) -> None:
        """Take in a picture that is ready."""
        self._add(index, picture, [part.data for part in picture.parts])

    def show(self, pictures: Sequence[Picture], messages: Sequence[Mapping[str, Any]]) -> None:
        """Let go of the bytes of the pictures: from here on they stand in the message that shows them, and have their room."""
        shown = iter([part for part in messages[-1]["content"] if isinstance(part, ShownPicture)])
        parts: list[list[ShownPicture]] = []
        for index, picture in enumerate(pictures):
            parts.append([next(shown) for _ in picture.parts] if picture.repeats is None else parts[picture.repeats])
            self._add(index, picture, parts[index])

    async def leave(self) -> None:
        """Leave for the next attempt what this one has fetched."""
        size_bytes = sum(self._found.values()) + sum(leaf.size_bytes for leaf in self._fresh.values())
        if self._fresh and size_bytes <= MOST_BYTES_OF_A_ROW:
            await self._store.keep(self._claim, self._fresh)

    def _add(self, index: int, picture: Picture, parts: Sequence[bytes | ShownPicture]) -> None:
        if index in self._urls and index not in self._found:
            self._fresh[index] = _Leaf(url=self._urls[index], facts=_facts(picture), parts=parts)


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
    """Return a picture as it was kept; None when it is not of this version's form."""
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
