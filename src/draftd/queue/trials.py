"""Trials: find out whether the server currently accepts the same change of another row, without changing anything.

A trial executes the refused statement on a row that is not a suspect, and rolls it back. Invariants: a trial waits for no row
lock, holds its own lock for one transaction, and leaves nothing behind in this database. It does fire the app's triggers, and
their effects outside of the transaction remain; so it never writes one request's data to another.
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
"""The time limit of a round of trials: other users of the connection wait."""
PAUSE_S = 1.0
"""The pause after a round in which every row was refused."""
_SQL = statements(__name__)


class Precondition(Enum):
    """The state that a row must have before the change: a statement that finds candidates, and one that prepares a candidate."""

    PENDING = (_SQL["find_pending"], _SQL["make_pending"])
    OVERDUE = (_SQL["find_pending"], _SQL["make_overdue"])
    HELD = (_SQL["find_unfinished"], _SQL["make_held"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """How to try a change on another row."""

    before: Precondition
    change: Callable[[db.Execute, LeaseKey], Awaitable[bool]]
    """Executes the change; returns whether it took effect."""
    lease_s: float = 1.0
    """How long the prepared row's lease lasts, in seconds; negative for an expired one."""
    worker_id: UUID | None = None
    """The worker that must hold the prepared row; None for any."""


class TrialResult(Enum):
    """The result of a round of trials."""

    ACCEPTED = "accepted"
    """The server accepted the change of another row."""
    REFUSED = "refused"
    """The server refused the change of every row that was tried."""
    NO_CANDIDATE = "no_candidate"
    """There was no other row to try."""


@dataclass(slots=True)
class Trials:
    """Tries one kind of change on a limited number of rows at a time; tries a row again only after all others."""

    refused: list[UUID] = field(default_factory=list)
    """The rows that the server refused to change in the last round."""
    _tried: BoundedCounter[UUID] = field(default_factory=BoundedCounter)
    _pauses_until: float = -math.inf

    async def run(self, link: db.Link, trial: Trial, *, but: Collection[UUID]) -> TrialResult:
        """Try other rows until one is accepted.

        Args:
            link: the connection to use.
            trial: the change to try.
            but: rows not to try.

        Raises:
            db.LOST: the connection broke.
        """
        began = time.monotonic()
        if began < self._pauses_until:
            return TrialResult.REFUSED
        self.refused = []
        result = await self._round(link, trial, but, ends_at=began + ROUND_S)
        if result is TrialResult.REFUSED:
            self._pauses_until = time.monotonic() + PAUSE_S
        return result

    async def _round(self, link: db.Link, trial: Trial, but: Collection[UUID], *, ends_at: float) -> TrialResult:
        find, _ = trial.before.value
        try:
            found = await link.run(find, {"but": [*but, *self._tried]})
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
    async def try_change(execute: db.Execute) -> bool:
        _, prepare = trial.before.value
        prepared = await execute(prepare, {"id": row_id, "lease_s": trial.lease_s, "worker_id": trial.worker_id})
        return bool(prepared) and await trial.change(execute, (row_id, prepared[0]["lease_token"]))

    try:
        return await link.run_rolled_back(try_change)
    except psycopg.Error:
        return False
