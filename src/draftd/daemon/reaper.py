"""The reaper: takes back what dead workers held. One loop in every daemon, beside the cron command."""

import asyncio

import psycopg
import structlog

from draftd import db
from draftd.queue.leases import BEATS_PER_LEASE
from draftd.queue.reaping import StallDetector, reap
from draftd.queue.refused_rows import Quarantine, Refusals
from draftd.sanitize import redact
from draftd.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)


class Reaper:
    """Reaps every ``interval_s`` seconds, and once at the start: requests stranded by a crash are picked up then.

    Args:
        link: stays open between passes: how long it has been up is the proof that others could renew.
        lease_s: how long a lease lives.
        interval_s: seconds between passes; no more than between two renewals. A standstill that uses up what was left of
            the leases must be longer than the gap that the stalls allows for, or living workers would lose their rows after it.
        metrics: where what it ends is counted.
        quarantine: where rows are set aside that can neither be taken back nor ended.
    """

    def __init__(
        self,
        *,
        link: db.Link,
        lease_s: float,
        interval_s: float,
        metrics: Metrics,
        quarantine: Quarantine,
    ) -> None:
        self._link = link
        self._metrics = metrics
        self._refusals = Refusals(verb="reap", quarantine=quarantine)
        self._lease_s = lease_s
        self._interval_s = min(interval_s, lease_s / BEATS_PER_LEASE)
        self._stalls = StallDetector(gap_s=self._interval_s + lease_s / BEATS_PER_LEASE)
        self._refused = 0

    async def run(self) -> None:
        """Reap until cancelled, through any number of lost connections."""
        while True:
            try:
                await self._once()
            except db.LOST as error:
                await self._link.pause(error)
            except psycopg.Error as error:
                # What is refused for one row is the row's matter; this may be the server's, and every daemon would end for it.
                self._tell(error)
            await asyncio.sleep(self._interval_s)

    def _tell(self, refusal: psycopg.Error) -> None:
        self._refused += 1
        # Of many in a row some are enough: a lone row that is refused would fill the log.
        if self._refused.bit_count() == 1:
            log.error("reaping refused", sqlstate=refusal.sqlstate, error=redact(str(refusal)), times=self._refused)

    async def _once(self) -> None:
        passed_over = self._refusals.quarantine.ids()
        reaped = await reap(self._link, lease_s=self._lease_s, stalls=self._stalls, refusals=self._refusals)
        # A pass that left out what was refused says nothing.
        if reaped or not passed_over:
            self._refused = 0
        for one in reaped:
            if one.status == "failed":
                self._metrics.request_reaped(code=one.code)
            log.warning("reaped", request_id=one.id, code=one.code, status=one.status, held_by=one.worker_id)
