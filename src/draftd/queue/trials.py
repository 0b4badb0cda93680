"""Trials: find out whether the server accepts a change of another row right now, without changing anything.

A trial executes the refused statement on a row that is under no suspicion, and rolls it back. Invariants: a trial waits for no
row lock, holds its own for one transaction, and leaves nothing behind in this database. It fires the app's triggers, whose
effects elsewhere stay: it carries nothing of one request to another.
"""

import math
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from enum import Enum
from uuid import UUID

import psycopg

from draftd import db
from draftd.db.statements import statements
from draftd.queue.bounded_counter import BoundedCounter
from draftd.queue.leases import LeaseKey

ROUND_S = 0.3
"""The time for one round of trials: whatever shares the connection waits meanwhile."""
REST_S = 1.0
"""The pause after a round that proved nothing."""
_SQL = statements(__name__)


class Precondition(Enum):
    """What a row must be before the change: the statements that find candidates, and that make one of them so."""

    PENDING = (_SQL["find_pending"], _SQL["make_pending"])
    OVERDUE = (_SQL["find_pending"], _SQL["make_overdue"])
    HELD = (_SQL["find_unfinished"], _SQL["make_held"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """How a change is tried on another row."""

    before: Precondition
    change: Callable[[db.Execute, LeaseKey], Awaitable[bool]]
    """Executes the change; returns whether it took effect."""
    lease_s: float = 1.0
    """How long the row's lease lasts before the change, in seconds; negative if it must have run out."""
    worker_id: UUID | None = None
    """The worker that must hold the row, if that matters."""


class TrialResult(Enum):
    """What a round of trials found out."""

    ACCEPTED = "accepted"
    """The server accepts this change of another row."""
    REFUSED = "refused"
    """It refuses this change of every row that was tried."""
    NO_CANDIDATE = "no_candidate"
    """There is no other row to try."""


@dataclass(slots=True)
class Trials:
    """Tries one kind of change on a bounded number of rows at a time; tries none again before all have been tried."""

    refused: list[UUID] = field(default_factory=list)
    """The rows that the server refused to change in the last round."""
    _tried: BoundedCounter[UUID] = field(default_factory=BoundedCounter)
    _rests_until: float = -math.inf

    async def run(self, link: db.Link, trial: Trial, *, but: Collection[UUID]) -> TrialResult:
        """Try other rows until one is accepted.

        Args:
            link: where.
            trial: what is tried.
            but: rows not to try.

        Raises:
            db.LOST: the connection broke.
        """
        began = time.monotonic()
        if began < self._rests_until:
            return TrialResult.REFUSED
        self.refused = []
        finding = await self._round(link, trial, but, ends_at=began + ROUND_S)
        if finding is TrialResult.REFUSED:
            self._rests_until = time.monotonic() + REST_S
        return finding

    async def _round(self, link: db.Link, trial: Trial, but: Collection[UUID], *, ends_at: float) -> TrialResult:
        others, _ = trial.before.value
        try:
            found = await link.run(others, {"but": [*but, *self._tried]})
        except psycopg.Error:
            return TrialResult.REFUSED
        if not found:
            had_others, self._tried = not {*self._tried} <= {*but}, BoundedCounter()
            return TrialResult.REFUSED if had_others else TrialResult.NO_CANDIDATE
        for row in found:
            if await _is_accepted(link, trial, row["id"]):
                return TrialResult.ACCEPTED
            self.refused.append(row["id"])
            self._tried.increment(row["id"])
            if time.monotonic() > ends_at:
                break
        return TrialResult.REFUSED


async def _is_accepted(link: db.Link, trial: Trial, row_id: UUID) -> bool:
    async def play(execute: db.Execute) -> bool:
        _, make = trial.before.value
        made = await execute(make, {"id": row_id, "lease_s": trial.lease_s, "worker_id": trial.worker_id})
        return bool(made) and await trial.change(execute, (row_id, made[0]["lease_token"]))

    try:
        return await link.run_rolled_back(play)
    except psycopg.Error:
        return False
