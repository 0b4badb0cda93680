"""Reaping: how the rows of the dead are taken back, and how the rows end that nobody will draft.

Owns ``REAP``, the one statement of the daemons' reaper and of ``draftd reap-stale``. Invariants: nobody is judged who could not
renew, and a row that somebody else has locked is passed over.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from draftd import db
from draftd.queue.history import with_error
from draftd.queue.leases import ALIVE

REAP_BATCH = 500
"""Rows of each kind in one statement of the reaper. A part of the statement and no parameter, as its plan is made only once."""
_BATCH = f"LIMIT {REAP_BATCH} FOR NO KEY UPDATE OF r SKIP LOCKED"
_ALL = ""
"""Of a dry run, which changes nothing and so locks nothing: it works on a server that only reads, and sees locked rows too."""
UNKNOWN_S = 5
"""How long a request may wait for a daemon that knows its agent, in seconds."""

# Nobody is judged who could not renew: for one lease the judge's own session must have been up. It outlives no crash, no
# recovery, no failover and no lost network, while the age of the server's first process says nothing about them, and other
# sessions may be those that nobody is at the other end of any more.
# A server that stood still keeps its sessions: see Watch.
_CONNECTED_FOR = "(SELECT now() - a.backend_start FROM pg_stat_get_activity(pg_backend_pid()) AS a)"


def _lost(taken: str) -> str:
    return f"""
judge AS MATERIALIZED (
    SELECT coalesce(%(now)s::timestamptz, now()) AS now,
           {_CONNECTED_FOR} >= make_interval(secs => %(lease_s)s)
           AND coalesce(now() - %(last_at)s::timestamptz <= make_interval(secs => %(gap_s)s), true)
           AND coalesce(now() - %(steady_since)s::timestamptz >= make_interval(secs => %(lease_s)s), true) AS may_judge
), lost AS MATERIALIZED (
    SELECT r.id FROM draft_requests AS r, judge AS j
     WHERE r.status = 'processing'
       AND least(r.lease_until, r.deadline_at) <= j.now - make_interval(secs => %(older_than_s)s)
       AND j.may_judge
     ORDER BY r.id {taken}
)"""


# For who comes only once: a lease has run out, and nobody may judge it before so many seconds have passed.
JUDGE_IN = f"""
SELECT %(lease_s)s - extract(epoch FROM {_CONNECTED_FOR})::float8 AS wait_s
 WHERE EXISTS (SELECT FROM draft_requests AS r
                WHERE r.status = 'processing'
                  AND least(r.lease_until, r.deadline_at) <= now() - make_interval(secs => %(older_than_s)s))
"""


def _overdue(taken: str) -> str:
    return f"""
overdue_by_own_time AS MATERIALIZED (
    SELECT r.id FROM draft_requests AS r, judge AS j
     WHERE r.status = 'pending' AND r.expires_at IS NOT NULL AND r.expires_at <= j.now
     {taken}
), overdue_by_default AS MATERIALIZED (
    SELECT r.id FROM draft_requests AS r, judge AS j
     WHERE r.status = 'pending' AND r.expires_at IS NULL AND %(default_expiry_s)s > 0
       AND r.available_at <= j.now - make_interval(secs => %(default_expiry_s)s)
     {taken}
), overdue AS (
    SELECT id FROM overdue_by_own_time UNION ALL SELECT id FROM overdue_by_default
)"""


# Unknown means: no daemon of the last day has had a prompt for it, and the request has been due for a while. Asking only
# oneself, or only who runs right now, would fail an agent's requests while its daemons are upgraded or restarted. The
# recursion hops from agent to agent over the claim's index.
def _orphaned(taken: str) -> str:
    return f"""
served AS MATERIALIZED (
    SELECT array_agg(DISTINCT agent) AS agents FROM draft_workers AS w, unnest(w.agents) AS agent
), asked AS MATERIALIZED (
    WITH RECURSIVE hop(agent) AS (
        (SELECT r.agent FROM draft_requests AS r WHERE r.status = 'pending' ORDER BY r.agent LIMIT 1)
        UNION ALL
        SELECT (SELECT r.agent FROM draft_requests AS r WHERE r.status = 'pending' AND r.agent > hop.agent
                 ORDER BY r.agent LIMIT 1)
          FROM hop WHERE hop.agent IS NOT NULL
    )
    SELECT hop.agent FROM hop, served WHERE hop.agent <> ALL (served.agents)
), orphaned AS MATERIALIZED (
    SELECT r.id FROM asked CROSS JOIN judge AS j CROSS JOIN LATERAL (
        SELECT r.id FROM draft_requests AS r
         WHERE r.status = 'pending' AND r.agent = asked.agent AND r.available_at <= j.now - interval '{UNKNOWN_S} s'
         {taken}) AS r
)"""


_LOST_MESSAGE = """CASE WHEN r.deadline_at <= r.lease_until THEN 'the attempt passed its deadline'
         ELSE 'the worker died or lost its lease' END"""
_UNKNOWN_MESSAGE = "'no daemon has a prompt for the agent ' || quote_literal(left(r.agent, 100))"

# The first loss goes back without delay: most crashes are not the request's fault. A request that kills its worker every time
# waits longer and longer, and ends at the cap.
REAP = f"""
WITH {_lost(_BATCH)}, {_overdue(_BATCH)}, {_orphaned(_BATCH)}, reaped AS (
    UPDATE draft_requests AS r SET
        status = CASE WHEN r.attempt >= r.max_attempts THEN 'failed' ELSE 'pending' END,
        available_at = CASE WHEN r.errors @> '[{{"code": "worker_lost"}}]'
                            THEN now() + make_interval(secs => random() * least(300, 2 * 2 ^ least(r.attempt, 10)))
                            ELSE r.available_at END,
        error_code = 'worker_lost',
        error_message = {_LOST_MESSAGE},
        errors = {with_error(code="'worker_lost'", message=_LOST_MESSAGE, model="r.model")},
        updated_at = now()
      FROM lost WHERE r.id = lost.id AND r.status = 'processing'
    RETURNING r.id, r.status, r.worker_id
), expired AS (
    UPDATE draft_requests AS r SET
        status = 'failed', error_code = 'expired', error_message = 'not drafted before it expired',
        errors = {with_error(code="'expired'", message="'not drafted before it expired'", model="r.model")}
      FROM overdue WHERE r.id = overdue.id AND r.status = 'pending'
    RETURNING r.id, r.status, NULL::uuid
), refused AS (
    UPDATE draft_requests AS r SET
        status = 'failed', error_code = 'invalid_request', error_message = {_UNKNOWN_MESSAGE},
        errors = {with_error(code="'invalid_request'", message=_UNKNOWN_MESSAGE, model="r.model")}
      FROM orphaned WHERE r.id = orphaned.id AND r.status = 'pending'
        AND r.id NOT IN (SELECT id FROM overdue)
    RETURNING r.id, r.status, NULL::uuid
), forgotten AS (
    DELETE FROM draft_workers AS w WHERE w.heartbeat_at < now() - interval '1 day' AND NOT {ALIVE}
)
SELECT 'worker_lost' AS code, *, now() AS at FROM reaped UNION ALL SELECT 'expired', *, now() FROM expired
UNION ALL SELECT 'invalid_request', *, now() FROM refused UNION ALL SELECT NULL, NULL, NULL, NULL, now()
"""

REAP_DRY = f"""
WITH {_lost(_ALL)}, {_overdue(_ALL)}, {_orphaned(_ALL)}
SELECT 'worker_lost' AS code, r.id, CASE WHEN r.attempt >= r.max_attempts THEN 'failed' ELSE 'pending' END AS status, r.worker_id,
       now() AS at
  FROM lost JOIN draft_requests AS r ON r.id = lost.id
UNION ALL SELECT 'expired', overdue.id, 'failed', NULL, now() FROM overdue
UNION ALL SELECT 'invalid_request', orphaned.id, 'failed', NULL, now()
  FROM orphaned WHERE orphaned.id NOT IN (SELECT id FROM overdue)
"""


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
    """Whether the passes of one judge follow each other steadily, by the database's clock.

    A server that stood still (a paused machine, a stalled disk) keeps its connections, and when it goes on the judge's statement
    may be the first that it carries out, before anybody's renewal. So a pass that comes long after the last one judges
    nobody, and neither does the next lease's worth of them.
    """

    gap_s: float
    """From here on two passes are not steady any more."""
    last_at: datetime | None = None
    steady_since: datetime | None = None
    """After a gap; None when there was none."""

    def passed(self, at: datetime) -> None:
        """Note that a pass was carried out."""
        if self.last_at is not None and (at - self.last_at).total_seconds() > self.gap_s:
            self.steady_since = at
        self.last_at = at


async def judge_in_s(link: db.Link, *, lease_s: float, older_than_s: float) -> float:
    """Return after how many seconds of this connection ``reap`` may judge a lease that has run out; 0 when now, or none has."""
    rows = await link.run(JUDGE_IN, {"lease_s": lease_s, "older_than_s": older_than_s})
    return max(0.0, rows[0]["wait_s"]) if rows else 0.0


async def reap(
    link: db.Link,
    *,
    lease_s: float,
    default_expiry_s: float,
    older_than_s: float = 0.0,
    dry_run: bool = False,
    watch: Watch | None = None,
    now: datetime | None = None,
) -> list[Reaped]:
    """Take back what the dead held, and end what nobody will draft: one statement, at most 500 rows of each kind.

    Args:
        link: where; see ``_lost`` for when anybody may be judged.
        lease_s: how long a lease lives.
        default_expiry_s: when a request without ``expires_at`` expires, counted from ``available_at``; 0 = never.
        older_than_s: how long ago lease or deadline must have passed.
        dry_run: only say what would be taken, all of it at once.
        watch: over the passes of a judge that comes again and again.
        now: another time than the database's, for tests.
    """
    params: dict[str, Any] = {
        "lease_s": lease_s,
        "default_expiry_s": default_expiry_s,
        "older_than_s": older_than_s,
        "last_at": watch and watch.last_at,
        "gap_s": watch.gap_s if watch else 0.0,
        "steady_since": watch and watch.steady_since,
        "now": now,
    }
    rows = await link.run(REAP_DRY if dry_run else REAP, params)
    if watch and rows:
        watch.passed(rows[-1]["at"])
    return [
        Reaped(id=row["id"], code=row["code"], status=row["status"], worker_id=row["worker_id"])
        for row in rows
        if row["code"]
    ]
