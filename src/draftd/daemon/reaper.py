"""The reaper: takes back the rows of dead workers. Every daemon runs one; ``draftd reap-stale`` is a single pass."""

import structlog

from draftd import db
from draftd.daemon.passes import repeat
from draftd.queue.leases import BEATS_PER_LEASE
from draftd.queue.reaping import StallDetector, reap
from draftd.queue.refused_rows import Quarantine, Refusals
from draftd.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)


class Reaper:
    """Reaps at the start, which picks up requests stranded by a crash, and every ``interval_s`` seconds.

    Args:
        link: stays open between passes: its age proves that other workers were able to renew.
        lease_s: how long a lease lasts.
        interval_s: seconds between passes; never more than between two renewals. A stall long enough to expire leases must exceed
            the gap that the stall detector allows, or live workers would lose their rows after it.
        metrics: counts the requests that fail here.
        quarantine: the rows that can neither be taken back nor failed.
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

    async def run(self) -> None:
        """Reap until cancelled, through any number of lost connections."""
        # A pass deals with refusals of single rows. Any other may be the server's fault, and must not stop every daemon.
        await repeat(self._once, link=self._link, interval_s=self._interval_s, refused="reaping refused")

    async def _once(self) -> bool:
        skipped = self._refusals.quarantine.ids()
        reaped = await reap(self._link, lease_s=self._lease_s, stalls=self._stalls, refusals=self._refusals)
        for one in reaped:
            if one.status == "failed":
                self._metrics.request_reaped(code=one.code)
            log.warning("reaped", request_id=one.id, code=one.code, status=one.status, held_by=one.worker_id)
        # A pass that skipped the refused rows proves nothing.
        return bool(reaped or not skipped)
