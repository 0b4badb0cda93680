"""Throttles: how much of its concurrency each daemon uses for a model whose provider says 429.

Each burst of rate limits halves the share of the whole fleet, through ``draft_throttles``. Every ``RECOVERY_S`` seconds without a
burst double it again; that is computed and needs no write. The heartbeat brings what other daemons did. Invariant: the many rate
limits of one burst halve the share once.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg
import structlog

from draftd import db
from draftd.db.statements import statements
from draftd.sanitize import redact

log = structlog.get_logger(__name__)

RECOVERY_S = 30.0
"""Providers count per minute: two doublings a minute find the right share again, without a new burst at each. The statements say
the same."""

_SQL = statements(__name__)
HALVE, LIST_THROTTLES = _SQL["halve"], _SQL["list_throttles"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimit:
    """What a rate limit did."""

    bursts: int
    """How many there have been in a row without a success; 0 when it belongs to one that was counted before."""
    another_succeeded: bool
    """Whether another request to the model was answered since the call began."""


class Throttles:
    """The shares, as this process knows them.

    Args:
        link: for halving.
    """

    def __init__(self, *, link: db.Link) -> None:
        self._link = link
        self._shares: dict[str, tuple[float, float]] = {}
        self._changed_at: dict[str, float] = {}

    def update(self, rows: Sequence[Mapping[str, Any]], *, as_of: float) -> None:
        """Take in what a beat read.

        Args:
            rows: of ``draft_throttles``, with ``age_s`` since the share was changed.
            as_of: when the beat began, a moment of ``time.monotonic``; what changed here later stays as it is.
        """
        read = {row["model"]: (float(row["share"]), as_of - float(row["age_s"])) for row in rows}
        own = {model: share for model, share in self._shares.items() if self._changed_at.get(model, 0.0) > as_of}
        self._shares = read | own

    def are_any(self) -> bool:
        """Return whether the last beat read of any, lapsed ones included."""
        return bool(self._shares)

    def share(self, model: str) -> float:
        """Return the share of its concurrency that this daemon may use for a model, above 0 and at most 1."""
        if model not in self._shares:
            return 1.0
        share, changed_at = self._shares[model]
        doublings = max(0, min(20, int((time.monotonic() - changed_at) / RECOVERY_S)))
        return float(min(1.0, share * 2**doublings))

    async def rate_limited(self, model: str, *, request_id: UUID, began: float) -> RateLimit:
        """Halve the fleet's share for a model, unless the burst that this rate limit belongs to has halved it already.

        Args:
            model: whose provider said 429.
            request_id: the request that was refused.
            began: when its call began, a moment of ``time.monotonic``.
        """
        try:
            rows = await self._link.run_until_done(
                HALVE, lambda: {"model": model, "request_id": request_id, "elapsed_s": time.monotonic() - began}
            )
        except psycopg.Error as error:
            # It must cost no request what came of its attempt.
            log.error("throttle refused", model=model, sqlstate=error.sqlstate, error=redact(str(error)))  # noqa: TRY400 - no defect of draftd
            return RateLimit(bursts=0, another_succeeded=False)
        row = rows[0]
        if row["share"] is not None:
            self._shares[model] = (row["share"], time.monotonic())
            self._changed_at[model] = time.monotonic()
            log.warning("model throttled", model=model, share=row["share"], bursts=row["bursts"])
        return RateLimit(bursts=row["bursts"], another_succeeded=row["another_succeeded"])
