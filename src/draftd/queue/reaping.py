"""Reaping: takes back the rows of dead workers, and ends the rows that nobody will draft.

Owns a pass of the reaper, for the daemons and for ``draftd reap-stale``; ``sql/reaping.sql`` says which rows a pass takes.
Invariants: a row is taken only from a worker that could have renewed its lease; a locked row is passed over, and so is a row
that the server refuses to take back.
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
from draftd.db.sqlstate import is_misfit
from draftd.db.statements import statements
from draftd.errors import Expired, InternalError, InvalidRequest, WorkerLost, error_details
from draftd.queue.isolation import Aside, Refusals, Resolution, apart
from draftd.queue.leases import Held
from draftd.queue.trials import Before, Trial

_SQL = statements(__name__)
REAP, REAP_THESE, FIND_REAPABLE = _SQL["reap"], _SQL["reap_these"], _SQL["find_reapable"]
END_REAPABLE, MAY_TAKE_IN = _SQL["end_reapable"], _SQL["may_take_in"]

REAP_BATCH = 500
"""Rows of each kind that one pass takes, as ``REAP`` has it."""
LONG_AGO_S = 36_500 * 86_400

_DETAILS = {error.code: error_details(error.code) for error in (WorkerLost, Expired, InvalidRequest)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reaped:
    """One row that the reaper took."""

    id: UUID
    code: str
    status: str
    """What it is now: ``pending`` or ``failed``."""
    worker_id: UUID | None


@dataclass(slots=True, kw_only=True)
class Watch:
    """Whether the passes of one reaper follow each other steadily, by the database's clock.

    A server that stood still (a paused machine, a stalled disk) keeps its connections. When it goes on, the reaper's statement
    may be the first that it executes, before any renewal. So a pass that comes long after the last one takes no lost row, and
    neither do the passes of the next lease.
    """

    gap_s: float
    """The longest time between two steady passes, in seconds."""
    last_at: datetime | None = None
    steady_since: datetime | None = None
    """After a gap; None when there was none."""

    def passed(self, at: datetime) -> None:
        """Note that a pass was executed."""
        if self.last_at is not None and (at - self.last_at).total_seconds() > self.gap_s:
            self.steady_since = at
        self.last_at = at


async def may_take_in_s(link: db.Link, *, lease_s: float, older_than_s: float) -> float:
    """Return how many seconds this connection must still stay open before ``reap`` takes lost rows; 0 if none is lost."""
    rows = await link.run(MAY_TAKE_IN, {"lease_s": lease_s, "older_than_s": older_than_s})
    return max(0.0, rows[0]["wait_s"]) if rows else 0.0


async def reap(
    link: db.Link,
    *,
    lease_s: float,
    older_than_s: float = 0.0,
    dry_run: bool = False,
    watch: Watch | None = None,
    refusals: Refusals | None = None,
    now: datetime | None = None,
) -> list[Reaped]:
    """Take back what dead workers held, and end what nobody will draft: at most ``REAP_BATCH`` rows of each kind.

    Args:
        link: where; a lost row is taken only after this connection has been up for one lease.
        lease_s: how long a lease lives.
        older_than_s: how long ago the lease or the deadline must have passed.
        dry_run: return what would be taken, without a limit; change nothing.
        watch: over the passes of a reaper that runs again and again.
        refusals: of the passes before.
        now: the time if not the database's, for tests.

    Raises:
        db.LOST: the connection broke.
        psycopg.Error: the server refused, possibly through its own fault: nothing was taken.
    """
    refusals = refusals or Refusals(verb="reap", aside=Aside())
    params: dict[str, Any] = {
        "lease_s": lease_s,
        "older_than_s": older_than_s,
        "gap_s": watch.gap_s if watch else 0.0,
        "now": now,
    }
    params |= _as_of_now(watch, refusals)
    if dry_run:
        return _reaped(await link.run(FIND_REAPABLE, params | {"most": None}))
    params["details"] = Jsonb(_DETAILS)
    params["told"] = Jsonb({WorkerLost.code: WorkerLost.user_message})
    began = time.monotonic()
    try:
        *rows, last = await link.run(REAP, params)
    except psycopg.Error as error:
        if is_misfit(error):
            raise
        return await _reap_apart(link, params, watch, refusals, error, began)
    if watch:
        watch.passed(last["at"])
    reaped = _reaped(rows)
    for was, passed in _by_status_before(reaped).items():
        refusals.of(was).accepted(passed)
    return reaped


def _by_status_before(reaped: Sequence[Reaped]) -> dict[str, list[UUID]]:
    ids: dict[str, list[UUID]] = {"processing": [], "pending": []}
    for one in reaped:
        ids["processing" if one.code == "worker_lost" else "pending"].append(one.id)
    return ids


def _reaped(rows: Sequence[DictRow]) -> list[Reaped]:
    return [Reaped(id=row["id"], code=row["code"], status=row["status"], worker_id=row["worker_id"]) for row in rows]


def _as_of_now(watch: Watch | None, refusals: Refusals) -> db.Row:
    return {
        "last_at": watch and watch.last_at,
        "steady_since": watch and watch.steady_since,
        "aside": refusals.aside.ids(),
    }


async def _reap_apart(
    link: db.Link, params: db.Row, watch: Watch | None, refusals: Refusals, error: psycopg.Error, began: float
) -> list[Reaped]:
    """Take back by id what the server accepts, and set the rest aside."""
    reaped: list[Reaped] = []
    resolutions: dict[Held, Resolution] = {}
    moves = True
    while moves:
        found = await link.run(FIND_REAPABLE, params | {"most": REAP_BATCH})
        moves = False
        for was in ("processing", "pending"):
            rows = [(row["id"], row["lease_token"]) for row in found if row["was"] == was]
            some, resolved = await _reap_these(link, was, rows, params, refusals, began)
            reaped += some
            resolutions |= resolved
            moves = moves or bool(some)
        # That took time: without this, the watch would take it for a server that stood still.
        if watch:
            (row,) = await link.run("SELECT now() AS at")
            watch.passed(row["at"])
        params |= _as_of_now(watch, refusals)
        began = time.monotonic()
    if not reaped and Resolution.ASIDE not in resolutions.values():
        raise error
    return reaped


async def _reap_these(
    link: db.Link, was: str, rows: list[Held], params: db.Row, refusals: Refusals, began: float
) -> tuple[list[Reaped], Mapping[Held, Resolution]]:
    async def reap_them(some: Sequence[Held]) -> list[DictRow]:
        return await link.run(REAP_THESE, params | {"ids": [row_id for row_id, _ in some]})

    parts = await apart(rows, reap_them, began=began)
    reaped = _reaped([row for _, answer in parts.answered for row in answer])
    resolutions = await refusals.of(was).resolve(
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
    # Where nothing moves, other rows get their turn first.
    for row_id, _ in undecided if reaped else [*undecided, *(held for held, _ in parts.untried)]:
        refusals.aside.put_briefly(row_id)
    return reaped, resolutions


def _trial(was: str, params: db.Row) -> Trial:
    """Return how a row of this status is reaped in a trial."""

    async def reap_it(execute: db.Execute, another: Held) -> bool:
        return bool(await execute(REAP_THESE, params | {"aside": [], "ids": [another[0]]}))

    if was == "pending":
        return Trial(before=Before.OVERDUE, change=reap_it)
    return Trial(before=Before.HELD, change=reap_it, lease_s=-LONG_AGO_S)
