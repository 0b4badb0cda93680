"""The bookkeeper: charges the calls of dead workers, and fails requests that no budget will pay before they expire.

Every daemon runs one, beside its reaper. Without a budget or a ceiling it sends nothing.
"""

from collections.abc import Callable

import structlog

from draftd import db
from draftd.daemon.passes import repeat
from draftd.errors import BudgetExceeded
from draftd.providers.reservations import Reservations, charge_lost
from draftd.queue.reaping import fail_unpayable
from draftd.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)


class Bookkeeper:
    """Works every ``interval_s`` seconds.

    Args:
        link: stays open between passes: its age proves that other workers were able to send heartbeats.
        reservations: knows whether calls are reserved.
        unpayable_agents: returns the agents whose requests wait for the next day's budget.
        metrics: counts the requests that fail here.
        lease_s: how long a lease lasts.
        interval_s: seconds between passes.
    """

    def __init__(
        self,
        *,
        link: db.Link,
        reservations: Reservations,
        unpayable_agents: Callable[[], list[str]],
        metrics: Metrics,
        lease_s: float,
        interval_s: float,
    ) -> None:
        self._link = link
        self._reservations = reservations
        self._unpayable_agents = unpayable_agents
        self._metrics = metrics
        self._lease_s = lease_s
        self._interval_s = interval_s

    async def run(self) -> None:
        """Work until cancelled, through any number of lost connections."""
        await repeat(self._once, link=self._link, interval_s=self._interval_s, refused="bookkeeping refused")

    async def _once(self) -> None:
        if self._reservations.budgets.have_reservations and (charged := await charge_lost(self._link, self._lease_s)):
            log.warning("calls of dead workers charged", calls=charged)
        agents = self._unpayable_agents()
        if agents or self._reservations.budgets.have_requesters:
            for request_id in await fail_unpayable(self._link, agents):
                self._metrics.request_reaped(code=BudgetExceeded.code)
                log.warning("reaped", request_id=request_id, code=BudgetExceeded.code, status="failed")
