"""The gauges that need a look at the table; runs only where metrics are served."""

import asyncio

import psycopg

from draftd import db
from draftd.telemetry.metrics import Metrics

INTERVAL_S = 15.0
"""A scrape interval's usual length."""

# The due rows are found over draft_requests_claim_idx. No value of available_at fails it, infinity included.
OLDEST_PENDING = """
SELECT CASE WHEN min(available_at) IS NOT NULL
            THEN least(3153600000, extract(epoch FROM now()) - extract(epoch FROM min(available_at)))::float8 END AS age_s
  FROM draft_requests WHERE status = 'pending' AND available_at <= now()
"""


class Gauges:
    """Keeps the age of the oldest due request up to date.

    Args:
        link: where to look.
        metrics: what to set.
    """

    def __init__(self, *, link: db.Link, metrics: Metrics) -> None:
        self._link = link
        self._metrics = metrics

    async def run(self) -> None:
        """Look every ``INTERVAL_S`` until cancelled."""
        while True:
            try:
                rows = await self._link.run(OLDEST_PENDING)
                self._metrics.oldest_pending(rows[0]["age_s"])
            except (*db.LOST, psycopg.Error) as error:
                await self._link.pause(error)
            await asyncio.sleep(INTERVAL_S)
