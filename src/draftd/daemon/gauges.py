"""The gauges read from the table; runs only if metrics are served."""

from draftd import db
from draftd.daemon.passes import repeat
from draftd.telemetry.metrics import Metrics

INTERVAL_S = 15.0
"""The usual scrape interval."""

# Counts through the partial indexes. What waits for a model on hold, or that is paused, is held.
PENDING = """
WITH by_agent AS MATERIALIZED (
    SELECT agent, count(*) FILTER (WHERE available_at <= now()) AS due, count(*) FILTER (WHERE available_at > now()) AS later
      FROM draft_requests WHERE status = 'pending' AND NOT limited GROUP BY agent
), stuck AS MATERIALIZED (
    SELECT agent FROM draft_agent_states() WHERE state IN ('held', 'probe', 'paused')
)
SELECT coalesce(sum(due) FILTER (WHERE agent NOT IN (SELECT agent FROM stuck)), 0)::int AS due,
       coalesce(sum(due) FILTER (WHERE agent IN (SELECT agent FROM stuck)), 0)::int AS held,
       coalesce(sum(later), 0)::int AS later,
       (SELECT count(*) FROM draft_requests WHERE status = 'pending' AND limited)::int AS limited
  FROM by_agent
"""

# Finds the due rows through draft_requests_claim_idx. No value of available_at makes it fail, not even infinity.
OLDEST_PENDING = """
SELECT CASE WHEN min(available_at) IS NOT NULL
            THEN least(3153600000, extract(epoch FROM now()) - extract(epoch FROM min(available_at)))::float8 END AS age_s
  FROM draft_requests WHERE status = 'pending' AND NOT limited AND available_at <= now()
"""


class Gauges:
    """Keeps the numbers of pending requests, and the age of the oldest due one, up to date.

    Args:
        link: the connection to read on.
        metrics: the gauges to set.
    """

    def __init__(self, *, link: db.Link, metrics: Metrics) -> None:
        self._link = link
        self._metrics = metrics

    async def run(self) -> None:
        """Update the gauges every ``INTERVAL_S`` until cancelled."""
        await repeat(self._once, link=self._link, interval_s=INTERVAL_S)

    async def _once(self) -> None:
        (oldest,) = await self._link.run(OLDEST_PENDING)
        self._metrics.oldest_pending(oldest["age_s"])
        (counts,) = await self._link.run(PENDING)
        self._metrics.pending(counts)
