"""The scorer: sends feedback to Langfuse, as scores of the requests' traces.

Runs only where Langfuse is configured. Clients insert feedback in SQL, so the table is the queue: a row is due at its
``score_at``. Taking it moves that behind the time that sending may take, and sending it clears it. Invariants: no text goes out,
whatever ``DRAFTD_TRACE_CONTENT`` says; a score that is sent twice counts once; with Langfuse away, rows wait for up to
``GIVE_UP_S``, and nothing else waits for them.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import psycopg
import structlog

from draftd import db
from draftd.db.sqlstate import told_to_log
from draftd.queue.feedback import claim_scores, settle_scores
from draftd.telemetry.scores import TIME_S, Score, ScoresNotSentError
from draftd.telemetry.tracing import Tracing

log = structlog.get_logger(__name__)

BATCH = 100
LEASE_S = 2 * TIME_S
INTERVAL_S = 15.0
"""Scores are read in a user interface, minutes later."""
MAX_DELAY_S = 600.0
GIVE_UP_S = 7 * 86_400.0
"""Scores that Langfuse has not taken in a week are dropped: a batch that it refuses would be sent for ever."""
NAMES = ("rating", "outcome", "similarity", "option")
_NAMESPACE = uuid5(NAMESPACE_URL, "draftd:score")


class Scorer:
    """Sends due scores in batches.

    Args:
        link: the connection to use.
        tracing: to Langfuse; must take scores.
    """

    def __init__(self, *, link: db.Link, tracing: Tracing) -> None:
        self._link = link
        self._tracing = tracing
        self._failures = 0

    async def run(self) -> None:
        """Send scores until cancelled, through any outage of Langfuse or the database."""
        while True:
            try:
                sent = await self.send_due()
            except db.LOST as error:
                await self._link.pause(error)
                continue
            except psycopg.Error as error:
                # No right to update, before `draftd grants` is applied again: the daemon still drafts.
                self._failed(told_to_log(error))
                sent = False
            await asyncio.sleep(self._delay_s() if self._failures else 0 if sent else INTERVAL_S)

    async def send_due(self) -> bool:
        """Send one batch; return whether there was one.

        Raises:
            db.LOST, psycopg.Error: the database's; what was taken is due again later.
        """
        rows = await claim_scores(self._link, batch=BATCH, lease_s=LEASE_S)
        if not rows:
            self._failures = 0
            return False
        try:
            rejected = await self._tracing.send_scores([score for row in rows for score in scores_of(row)])
        except ScoresNotSentError as error:
            self._failed(str(error))
            await self._postpone(rows)
            return True
        self._failures = 0
        if rejected is not None:
            log.warning("scores rejected", detail=rejected)
        await settle_scores(self._link, rows)
        return True

    async def _postpone(self, rows: Sequence[db.Row]) -> None:
        """Try again later, but for rows that have waited for too long."""
        now = datetime.now(UTC)
        old = [row for row in rows if (now - row["created_at"]).total_seconds() > GIVE_UP_S]
        if old:
            log.warning("scores given up", rows=len(old))
            await settle_scores(self._link, old)
        if young := [row for row in rows if row not in old]:
            await settle_scores(self._link, young, delay_s=self._delay_s())

    def _failed(self, detail: str) -> None:
        self._failures += 1
        # At the 1st, 2nd, 4th, 8th … failure in a row.
        if self._failures.bit_count() == 1:
            log.warning("scores not sent", detail=detail, times=self._failures, retry_in_s=self._delay_s())

    def _delay_s(self) -> float:
        return min(MAX_DELAY_S, INTERVAL_S * 2.0 ** min(self._failures - 1, 10))


def scores_of(row: Mapping[str, Any]) -> Iterator[Score]:
    """Yield the scores of a row of feedback: those of ``NAMES`` that it has.

    Their ids are those of the request, so that the scores of its newest feedback replace the earlier ones.
    """
    of = row["request_id"] or f"feedback {row['id']}"
    for name in NAMES:
        if (value := row[name]) is not None:
            yield Score(
                id=str(uuid5(_NAMESPACE, f"{row['trace_id']} {of} {name}")),
                trace_id=row["trace_id"],
                name=name,
                value=value if isinstance(value, str) else float(value),
                at=row["created_at"],
            )
