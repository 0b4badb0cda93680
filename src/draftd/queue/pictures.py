"""Prepared pictures between two attempts: left by one that gives its row back, found by the next, on whatever machine.

Owns the statements on ``draft_pictures``; what stands in ``facts`` and ``data`` is ``kept_pictures``'s. Invariants: pictures are
left by the holder of the claim only, under the lock of its row, so that the end of a request, which deletes them, cannot
overtake them; over ``MOST_BYTES_OF_A_ROW`` or ``MOST_BYTES_OF_ALL`` nothing is kept, and the next attempt fetches.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from psycopg.types.json import Jsonb

from draftd import db
from draftd.db.statements import statements
from draftd.request import Claim

MOST_BYTES_OF_A_ROW = 8 * 1024 * 1024
"""A request shows 14 megapixels at most, which are 2 to 6 MiB of JPEG."""
MOST_BYTES_OF_ALL = 1024 * 1024 * 1024
"""What an outage may add to the database: of 4,000 usual screenshots."""
LEAST_COUNTED_BYTES = 64 * 1024
"""A smaller picture counts as much, so that the sum over all is one of 16,384 rows at most (2 ms)."""

_SQL = statements(__name__)
KEEP_PICTURES, FIND_PICTURES = _SQL["keep_pictures"], _SQL["find_pictures"]


class Kept(Enum):
    """What came of leaving pictures."""

    KEPT = "kept"
    BUSY = "busy"
    """Somebody else has the row locked for the moment."""
    NOT = "not"
    """The row is not held any more, or there are too many of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPicture:
    """A prepared picture as the table holds it."""

    position: int
    """Of its entry in ``image_urls``, from 1."""
    url_sha256: bytes
    facts: Any
    """A JSON object, unless somebody else wrote the row."""
    data: bytes


async def keep_pictures(link: db.Link, claim: Claim, pictures: Sequence[StoredPicture]) -> Kept:
    """Leave pictures for the next attempt at a claimed row; those of the same entries are replaced.

    Raises:
        db.LOST: the connection broke.
        psycopg.Error: the server refused them.
    """
    params = {
        "id": claim.id,
        "lease_token": claim.lease_token,
        "positions": [one.position for one in pictures],
        "url_sha256s": [one.url_sha256 for one in pictures],
        "facts": [Jsonb(one.facts) for one in pictures],
        "data": [one.data for one in pictures],
        "least_bytes": LEAST_COUNTED_BYTES,
        "most_bytes": MOST_BYTES_OF_ALL,
    }
    (row,) = await link.run(KEEP_PICTURES, params)
    if row["is_kept"]:
        return Kept.KEPT
    return Kept.BUSY if row["is_held"] else Kept.NOT


async def find_pictures(link: db.Link, claim: Claim, *, time_s: float) -> list[StoredPicture]:
    """Return what an earlier attempt has left, ``MOST_BYTES_OF_A_ROW`` at most; given up after ``time_s`` seconds.

    Raises:
        TimeoutError: others used the link for as long.
        db.LOST: the connection broke, or nothing came back in time.
        psycopg.Error: the server refused to say.
    """
    params = {"id": claim.id, "most_bytes": MOST_BYTES_OF_A_ROW}
    return [StoredPicture(**row) for row in await link.run_within(FIND_PICTURES, params, time_s=time_s)]
