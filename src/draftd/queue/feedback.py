"""Feedback: records it, and hands out what is due as scores.

Owns the statements on ``draft_feedback`` but for its retention. The table's triggers decide what a row becomes: they fill in
what was rated, and refuse an option that the request does not have. Invariant: no connection is held while scores are sent.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.rows import DictRow

from draftd import db
from draftd.db.statements import statements

LENGTHS = ("short", "medium", "detailed")
OUTCOMES = ("sent", "edited", "rejected")
MAX_SENT_CHARS = 8_000
"""As the database checks."""

_SQL = statements(__name__)


async def record(
    connection: db.Connection,
    request_id: UUID,
    *,
    option: str | None,
    outcome: str | None,
    sent_text: str | None,
    rating: int | None,
) -> DictRow:
    """Insert a row of feedback; return it with what the database has made of it, without its texts.

    Args:
        connection: to the database.
        request_id: of the request that is rated.
        option: which draft, one of ``LENGTHS``.
        outcome: one of ``OUTCOMES``; with None it follows from the texts, if both are known.
        sent_text: what was really sent, at most ``MAX_SENT_CHARS`` characters.
        rating: -1 or 1.

    Raises:
        psycopg.IntegrityError: there is no such request, or it has no such option.
    """
    given = {
        "request_id": request_id,
        "option": option,
        "outcome": outcome,
        "sent_text": sent_text,
        "rating": rating,
    }
    row = await (await connection.execute(_SQL["insert_feedback"].encode(), given)).fetchone()
    assert row is not None  # noqa: S101  # an INSERT … RETURNING without a conflict returns its row
    return row


async def claim_scores(link: db.Link, *, batch: int, lease_s: float) -> list[db.Row]:
    """Take up to ``batch`` rows of feedback whose scores are due; they are due again in ``lease_s`` seconds.

    Raises:
        db.LOST: the connection broke; what was taken is due again later.
        psycopg.Error: the server refused.
    """
    return await link.run(_SQL["claim_scores"], {"batch": batch, "lease_s": lease_s})


async def settle_scores(link: db.Link, rows: Sequence[db.Row], *, delay_s: float | None = None) -> None:
    """Note that the scores of some rows were sent, or with ``delay_s`` when they are due again.

    Raises:
        db.LOST, psycopg.Error: as in ``claim_scores``; they are due again later, and sending them twice changes nothing.
    """
    until: list[datetime] = [row["score_at"] for row in rows]
    params: dict[str, Any] = {"ids": [row["id"] for row in rows], "until": until, "delay_s": delay_s}
    await link.run(_SQL["settle_scores"], params)
