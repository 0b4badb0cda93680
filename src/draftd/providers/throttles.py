"""Throttles: the share of its concurrency that a daemon uses for a rate-limited model.

Each burst of rate limits (429) halves the fleet's share, in ``draft_throttles``. Every ``RECOVERY_S`` seconds without a burst
double it again; that is computed and needs no write. The heartbeat reports what other daemons changed. Invariant: the rate limits
of one burst halve the share once.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg
import structlog

from draftd import db
from draftd.db.sqlstate import told_to_log
from draftd.db.statements import statements
from draftd.providers.fleet_view import FleetView

log = structlog.get_logger(__name__)

RECOVERY_S = 30.0
"""Providers count per minute: doubling twice a minute returns to a workable share without causing another burst each time. The
statements use the same number."""

_SQL = statements(__name__)
HALVE, LIST_THROTTLES = _SQL["halve"], _SQL["list_throttles"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimit:
    """The effect of a rate limit."""

    bursts: int
    """Consecutive bursts without a success in between; 0 when this rate limit belongs to a burst already counted."""
    another_succeeded: bool
    """Whether the model has answered another request since the call began."""


@dataclass(frozen=True, slots=True)
class _Share:
    share: float
    changed_at: float
    """``time.monotonic()``."""


class Throttles:
    """The throttles, as this process knows them.

    Args:
        link: the connection that throttles are written on.
    """

    def __init__(self, *, link: db.Link) -> None:
        self._link = link
        self._shares: FleetView[_Share] = FleetView()

    def update(self, rows: Sequence[Mapping[str, Any]], *, as_of: float) -> None:
        """Take over what a heartbeat read.

        Args:
            rows: of ``draft_throttles``, with ``age_s``, the seconds since the share changed.
            as_of: the ``time.monotonic()`` at which the heartbeat began; later local changes are kept.
        """
        read = {row["model"]: _Share(float(row["share"]), as_of - float(row["age_s"])) for row in rows}
        self._shares.update(read, as_of=as_of)

    def are_any(self) -> bool:
        """Return whether any throttle is known, including those that have recovered."""
        return bool(self._shares)

    def share(self, model: str) -> float:
        """Return the share of its concurrency that this daemon may use for a model, above 0 and at most 1."""
        throttle = self._shares.get(model)
        if throttle is None:
            return 1.0
        doublings = max(0, min(20, int((time.monotonic() - throttle.changed_at) / RECOVERY_S)))
        return float(min(1.0, throttle.share * 2**doublings))

    async def rate_limited(self, model: str, *, request_id: UUID, began: float) -> RateLimit:
        """Halve the fleet's share for a model, unless the burst of this rate limit has halved it already.

        Args:
            model: the rate-limited model.
            request_id: the request that was refused.
            began: the ``time.monotonic()`` at which its call began.
        """
        try:
            rows = await self._link.run_until_done(
                HALVE, lambda: {"model": model, "request_id": request_id, "elapsed_s": time.monotonic() - began}
            )
        except psycopg.Error as error:
            # A refused throttle must not cost the request its outcome.
            log.error("throttle refused", model=model, sqlstate=error.sqlstate, error=told_to_log(error))  # noqa: TRY400 - not a bug in draftd
            return RateLimit(bursts=0, another_succeeded=False)
        row = rows[0]
        if row["share"] is not None:
            self._shares.set(model, _Share(row["share"], time.monotonic()))
            log.warning("model throttled", model=model, share=row["share"], bursts=row["bursts"])
        return RateLimit(bursts=row["bursts"], another_succeeded=row["another_succeeded"])
