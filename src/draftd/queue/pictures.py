"""Prepared pictures between two attempts: kept by one that gives its row back, found by the next, on any machine.

Owns the statements on ``draft_pictures``; ``reply.kept_pictures`` owns what ``facts`` and ``data`` contain. Invariants: only the
holder of the claim keeps pictures, under its row's lock, so that they cannot be written after the end of the request has deleted
them. Beyond ``MAX_ROW_BYTES`` or ``MAX_TOTAL_BYTES`` nothing is kept, and the next attempt fetches again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from psycopg.types.json import Jsonb

from draftd import db
from draftd.db.statements import statements
from draftd.request import Claim

MAX_ROW_BYTES = 8 * 1024 * 1024
"""A request contains at most 14 megapixels, which are 2 to 6 MiB of JPEG."""
MAX_TOTAL_BYTES = 1024 * 1024 * 1024
"""How much an outage may add to the database: the pictures of 4,000 typical screenshots."""
MIN_COUNTED_BYTES = 64 * 1024
"""A smaller picture counts as this much, so that at most 16,384 rows are summed up (2 ms)."""

_SQL = statements(__name__)
KEEP_PICTURES, FIND_PICTURES = _SQL["keep_pictures"], _SQL["find_pictures"]


class Kept(Enum):
    """Whether pictures were kept."""

    KEPT = "kept"
    BUSY = "busy"
    """Another session has locked the row."""
    REJECTED = "rejected"
    """The claim no longer holds the row, or too much is kept already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPicture:
    """A prepared picture as stored in the table."""

    position: int
    """The position of its entry in ``image_urls``, from 1."""
    url_sha256: bytes
    facts: Any
    """A JSON object, unless draftd did not write the row."""
    data: bytes


async def keep_pictures(link: db.Link, claim: Claim, pictures: Sequence[StoredPicture]) -> Kept:
    """Keep pictures for the next attempt at a claimed row, replacing those kept for the same entries.

    Raises:
        db.LOST: the connection broke.
        psycopg.Error: the server refused.
    """
    params = {
        "id": claim.id,
        "lease_token": claim.lease_token,
        "positions": [one.position for one in pictures],
        "url_sha256s": [one.url_sha256 for one in pictures],
        "facts": [Jsonb(one.facts) for one in pictures],
        "data": [one.data for one in pictures],
        "min_bytes": MIN_COUNTED_BYTES,
        "max_bytes": MAX_TOTAL_BYTES,
    }
    (row,) = await link.run(KEEP_PICTURES, params)
    if row["is_kept"]:
        return Kept.KEPT
    return Kept.BUSY if row["is_held"] else Kept.REJECTED


async def find_pictures(link: db.Link, claim: Claim, *, time_s: float) -> list[StoredPicture]:
    """Return the pictures that an earlier attempt kept, up to ``MAX_ROW_BYTES``; give up after ``time_s`` seconds.

    Raises:
        TimeoutError: others used the link all that time.
        db.LOST: the connection broke, or nothing came back in time.
        psycopg.Error: the server refused.
    """
    params = {"id": claim.id, "max_bytes": MAX_ROW_BYTES}
    return [StoredPicture(**row) for row in await link.run_within(FIND_PICTURES, params, time_s=time_s)]
