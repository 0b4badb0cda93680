"""Reaping: takes back the rows of dead workers, and fails requests that expire, that no agent takes or no budget pays.

Owns a pass of the reaper, for the daemons and for ``draftd reap-stale``; ``sql/reaping.sql`` defines which rows it takes.
Invariants: a row is taken only from a worker that could have renewed its lease; locked and refused rows are skipped.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from draftd import db
from draftd.db.sqlstate import is_schema_mismatch
from draftd.db.statements import statements
from draftd.errors import BudgetExceeded, Expired, InternalError, InvalidRequest, WorkerLost, error_details
from draftd.queue.leases import LeaseKey
from draftd.queue.refused_rows import Quarantine, Refusals, Resolution, execute_in_parts
from draftd.queue.trials import Precondition, Trial

_SQL = statements(__name__)
REAP, REAP_THESE, FIND_REAPABLE = _SQL["reap"], _SQL["reap_these"], _SQL["find_reapable"]
END_REAPABLE, MAY_TAKE_IN, FAIL_UNPAYABLE = _SQL["end_reapable"], _SQL["may_take_in"], _SQL["fail_unpayable"]

REAP_BATCH = 500
"""The maximum number of rows of each kind per pass, as in ``REAP``."""
LONG_AGO_S = 36_500 * 86_400

_CODES = (WorkerLost, Expired, InvalidRequest)
_DETAILS = {error.code: error_details(error.code) for error in _CODES}
_TOLD = {error.code: error.user_message for error in _CODES}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reaped:
    """A row that the reaper took."""

    id: UUID
    code: str
    status: str
    """Its new status: ``pending`` or ``failed``."""
    worker_id: UUID | None


@dataclass(slots=True, kw_only=True)
class StallDetector:
    """Detects that the server stalled, by the gaps between a reaper's passes on the database's clock.

    A stalled server (a paused machine, a hung disk) keeps its connections. When it resumes, it may execute the reaper's statement
    before any renewal. So a pass after a gap takes no lost row, and neither does any pass within one lease of it.
    """

    gap_s: float
    """The longest normal time between two passes, in seconds."""
    last_at: datetime | None = None
    steady_since: datetime | None = None
    """The first pass after the last gap; None if there was none."""

    def passed(self, at: datetime) -> None:
        """Record a pass."""
        if self.last_at is not None and (at - self.last_at).total_seconds() > self.gap_s:
            self.steady_since = at
        self.last_at = at


async def may_take_in_s(link: db.Link, *, lease_s: float, older_than_s: float) -> float:
    """Return how many seconds must pass before ``reap`` takes lost rows on this connection; 0 if none is lost."""
    rows = await link.run(MAY_TAKE_IN, {"lease_s": lease_s, "older_than_s": older_than_s})
    return max(0.0, rows[0]["wait_s"]) if rows else 0.0


async def reap(
    link: db.Link,
    *,
    lease_s: float,
    older_than_s: float = 0.0,
    dry_run: bool = False,
    stalls: StallDetector | None = None,
    refusals: Refusals | None = None,
    now: datetime | None = None,
) -> list[Reaped]:
    """Take back the rows of dead workers, and fail expired and orphaned requests: at most ``REAP_BATCH`` rows of each kind.

    Args:
        link: the connection to use; lost rows are taken only after it has been up for one lease.
        lease_s: how long a lease lasts.
        older_than_s: how long ago the lease or the deadline must have passed.
        dry_run: change nothing, and return every row that would be taken, without a limit.
        stalls: the stall detector of a reaper that runs repeatedly.
        refusals: the refusals of earlier passes.
        now: overrides the database's time, for tests.

    Raises:
        db.LOST: the connection broke.
        psycopg.Error: the server refused, possibly through its own fault; nothing was taken.
    """
    refusals = refusals or Refusals(verb="reap", quarantine=Quarantine())
    params: dict[str, Any] = {
        "lease_s": lease_s,
        "older_than_s": older_than_s,
        "gap_s": stalls.gap_s if stalls else 0.0,
        "now": now,
    }
    params |= _changing_params(stalls, refusals)
    if dry_run:
        return _reaped(await link.run(FIND_REAPABLE, params | {"limit": None}))
    params["details"] = Jsonb(_DETAILS)
    params["told"] = Jsonb(_TOLD)
    began = time.monotonic()
    try:
        *rows, last = await link.run(REAP, params)
    except psycopg.Error as error:
        if is_schema_mismatch(error):
            raise
        return await _reap_individually(link, params, stalls, refusals, error, began)
    if stalls:
        stalls.passed(last["at"])
    reaped = _reaped(rows)
    for was, passed in _by_status_before(reaped).items():
        refusals.for_kind(was).accepted(passed)
    return reaped


def _by_status_before(reaped: Sequence[Reaped]) -> dict[str, list[UUID]]:
    ids: dict[str, list[UUID]] = {"processing": [], "pending": []}
    for one in reaped:
        ids["processing" if one.code == "worker_lost" else "pending"].append(one.id)
    return ids


def _reaped(rows: Sequence[DictRow]) -> list[Reaped]:
    return [Reaped(id=row["id"], code=row["code"], status=row["status"], worker_id=row["worker_id"]) for row in rows]


def _changing_params(stalls: StallDetector | None, refusals: Refusals) -> db.Row:
    return {
        "last_at": stalls and stalls.last_at,
        "steady_since": stalls and stalls.steady_since,
        "skip": refusals.quarantine.ids(),
    }


async def _reap_individually(
    link: db.Link, params: db.Row, stalls: StallDetector | None, refusals: Refusals, error: psycopg.Error, began: float
) -> list[Reaped]:
    """Take back by id the rows that the server accepts, and quarantine the rest."""
    reaped: list[Reaped] = []
    resolutions: dict[LeaseKey, Resolution] = {}
    progress = True
    while progress:
        found = await link.run(FIND_REAPABLE, params | {"limit": REAP_BATCH})
        progress = False
        for was in ("processing", "pending"):
            rows = [(row["id"], row["lease_token"]) for row in found if row["was"] == was]
            some, resolved = await _reap_these(link, was, rows, params, refusals, began)
            reaped += some
            resolutions |= resolved
            progress = progress or bool(some)
        # That took time, which the detector would mistake for a stall.
        if stalls:
            (row,) = await link.run("SELECT now() AS at")
            stalls.passed(row["at"])
        params |= _changing_params(stalls, refusals)
        began = time.monotonic()
    if not reaped and Resolution.QUARANTINED not in resolutions.values():
        raise error
    return reaped


async def _reap_these(
    link: db.Link, was: str, rows: list[LeaseKey], params: db.Row, refusals: Refusals, began: float
) -> tuple[list[Reaped], Mapping[LeaseKey, Resolution]]:
    async def reap_them(some: Sequence[LeaseKey]) -> list[DictRow]:
        return await link.run(REAP_THESE, params | {"ids": [row_id for row_id, _ in some]})

    parts = await execute_in_parts(rows, reap_them, began=began)
    reaped = _reaped([row for _, answer in parts.answered for row in answer])
    resolutions = await refusals.for_kind(was).resolve(
        link,
        parts.refused,
        passed=[one.id for one in reaped],
        trial=_trial(was, params),
        end=END_REAPABLE,
        params=params,
    )
    ended = [row_id for (row_id, _), resolution in resolutions.items() if resolution is Resolution.ENDED]
    reaped += [Reaped(id=row_id, code=InternalError.code, status="failed", worker_id=None) for row_id in ended]
    undecided = [held for held, resolution in resolutions.items() if resolution is Resolution.UNDECIDED]
    # If nothing gets through, let other rows go first.
    for row_id, _ in undecided if reaped else [*undecided, *(held for held, _ in parts.untried)]:
        refusals.quarantine.add_briefly(row_id)
    return reaped, resolutions


def _trial(was: str, params: db.Row) -> Trial:
    """Return the trial that reaps another row of this status."""

    async def reap_it(execute: db.Execute, another: LeaseKey) -> bool:
        return bool(await execute(REAP_THESE, params | {"skip": [], "ids": [another[0]]}))

    if was == "pending":
        return Trial(before=Precondition.OVERDUE, change=reap_it)
    return Trial(before=Precondition.HELD, change=reap_it, lease_s=-LONG_AGO_S)


async def fail_unpayable(link: db.Link, agents: list[str]) -> list[UUID]:
    """Fail pending requests that expire before the next day's budget; return their ids.

    Args:
        link: the connection to use.
        agents: those whose requests the fleet's budget does not pay any more.
    """
    params = {
        "agents": agents,
        "message": "the budget for today is used up, and the request expires before the next day",
        "told": BudgetExceeded.user_message,
        "details": Jsonb(error_details(BudgetExceeded.code)),
    }
    return [row["id"] for row in await link.run(FAIL_UNPAYABLE, params)]
