"""Reaping: how the rows of the dead are taken back, and how the rows end that nobody will draft.

Owns ``REAP``, the one statement of the daemons' reaper and of ``draftd reap-stale``. Invariants: nobody is judged who could not
renew, a row that somebody else has locked is passed over, and so is one that the server refuses to take back.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import DictRow

from draftd import db
from draftd.db.sqlstate import is_misfit
from draftd.errors import Expired, InternalError, InvalidRequest, WorkerLost
from draftd.queue.history import details_of, with_error
from draftd.queue.isolation import END, Aside, Refusals, Verdict, apart
from draftd.queue.leases import FORGOTTEN, Held
from draftd.queue.moments import LONGEST_S, seconds
from draftd.queue.trials import Before, Trial

REAP_BATCH = 500
"""Rows of each kind in one statement of the reaper. A part of the statement and no parameter, as its plan is made only once."""
_TAKEN = f"LIMIT {REAP_BATCH} FOR NO KEY UPDATE OF r SKIP LOCKED"
_LOOKED_AT = f"LIMIT {REAP_BATCH}"
_ALL = ""
"""Of a dry run, which changes nothing and so locks nothing: it works on a server that only reads, and sees locked rows too."""
LONGEST_ATTEMPT_S = 86_400
"""The longest that an attempt may be set to take, for workers that do not say."""
SLACK_S = 5.0
"""The reaper's time may be a little behind that of a claim."""
UNKNOWN_S = 5
"""How long a request may wait for a daemon that knows its agent, in seconds."""

# Nobody is judged who could not renew: for one lease the judge's own session must have been up. It outlives no crash, no
# recovery, no failover and no lost network, while the age of the server's first process says nothing about them, and other
# sessions may be those that nobody is at the other end of any more.
# A server that stood still keeps its sessions: see Watch.
_CONNECTED_FOR = "(SELECT now() - a.backend_start FROM pg_stat_get_activity(pg_backend_pid()) AS a)"


# A claim's deadline lies one attempt ahead, and its lease no further. Where both lie beyond the longest attempt of any worker, or
# nowhere, nobody set them who works on the row, and nobody would ever take it back.
_ENDS = "coalesce(least(r.lease_until, r.deadline_at), 'infinity')"
_LONGEST = f"""(SELECT coalesce(max({seconds("w.attempt_s", most=LONGEST_ATTEMPT_S)}), {LONGEST_ATTEMPT_S}) + {SLACK_S}
          FROM draft_workers AS w)"""


def _is_lost(now: str, row: str = "r") -> str:
    """Return the condition for a row that nobody holds any more."""
    ends = _ENDS.replace("r.", f"{row}.")
    return f"""({ends} <= {now} - make_interval(secs => %(older_than_s)s)
            OR {ends} > {now} + make_interval(secs => {_LONGEST}))"""


# What is set aside is passed over; those that are only to be looked at are named when a pass was refused.
_WHICH = "r.id <> ALL (%(aside)s::uuid[]) AND (%(only)s::uuid[] IS NULL OR r.id = ANY (%(only)s))"


_JUDGE = f"""
judge AS MATERIALIZED (
    SELECT coalesce(%(now)s::timestamptz, now()) AS now,
           {_CONNECTED_FOR} >= make_interval(secs => %(lease_s)s)
           AND coalesce(now() - %(last_at)s::timestamptz <= make_interval(secs => %(gap_s)s), true)
           AND coalesce(now() - %(steady_since)s::timestamptz >= make_interval(secs => %(lease_s)s), true) AS may_judge
)"""


def _lost(taken: str) -> str:
    return f"""
lost AS MATERIALIZED (
    SELECT r.id FROM draft_requests AS r, judge AS j
     WHERE r.status = 'processing' AND {_is_lost("j.now")}
       AND j.may_judge AND {_WHICH}
     ORDER BY r.id {taken}
)"""


# For who comes only once: a lease has run out, and nobody may judge it before so many seconds have passed.
JUDGE_IN = f"""
SELECT %(lease_s)s - extract(epoch FROM {_CONNECTED_FOR})::float8 AS wait_s
 WHERE EXISTS (SELECT FROM draft_requests AS r
                WHERE r.status = 'processing' AND {_is_lost("now()")})
"""


def _overdue(taken: str) -> str:
    return f"""
overdue AS MATERIALIZED (
    SELECT r.id FROM draft_requests AS r, judge AS j
     WHERE r.status = 'pending' AND r.expires_at IS NOT NULL AND r.expires_at <= j.now
       AND {_WHICH}
     {taken}
)"""


# Unknown means: no daemon of the last day has had a prompt for it, and the request has been due for a while. Asking only
# oneself, or only who runs right now, would fail an agent's requests while its daemons are upgraded or restarted. The
# recursion hops from agent to agent over the claim's index.
def _orphaned(taken: str) -> str:
    return f"""
served AS MATERIALIZED (
    SELECT array_agg(DISTINCT agent) AS agents FROM draft_workers AS w, unnest(w.agents) AS agent
     WHERE agent IS NOT NULL
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
           AND {_WHICH}
         {taken}) AS r
)"""


_LOST_MESSAGE = f"""CASE WHEN {_ENDS} > now() THEN 'neither its lease nor its deadline was one that a worker sets'
         WHEN r.deadline_at <= r.lease_until THEN 'the attempt passed its deadline'
         ELSE 'the worker died or lost its lease' END"""
_UNKNOWN_MESSAGE = "'no daemon has a prompt for the agent ' || quote_literal(left(r.agent, 100))"


# The first loss goes back without delay: most crashes are not the request's fault. A request that kills its worker every time
# waits longer and longer, and ends at the cap.
_TAKE_BACK = f""", reaped AS (
    UPDATE draft_requests AS r SET
        status = CASE WHEN r.attempt >= r.max_attempts THEN 'failed' ELSE 'pending' END,
        available_at = CASE WHEN r.errors @> '[{{"code": "worker_lost"}}]'
                            THEN now() + make_interval(secs => random() * least(300, 2 * 2 ^ greatest(0, least(r.attempt, 10))))
                            ELSE r.available_at END,
        error_code = 'worker_lost',
        error_message = {_LOST_MESSAGE},
        error_details = {details_of(WorkerLost)},
        errors = {with_error(code="'worker_lost'", message=_LOST_MESSAGE, model="r.model")},
        updated_at = now()
      FROM lost WHERE r.id = lost.id AND r.status = 'processing'
    RETURNING r.id, r.status, r.worker_id
)"""
_FAIL = f""", expired AS (
    UPDATE draft_requests AS r SET
        status = 'failed', error_code = 'expired', error_message = 'not drafted before it expired',
        error_details = {details_of(Expired)},
        errors = {with_error(code="'expired'", message="'not drafted before it expired'", model="r.model")}
      FROM overdue WHERE r.id = overdue.id AND r.status = 'pending'
    RETURNING r.id, r.status, NULL::uuid AS worker_id
), refused AS (
    UPDATE draft_requests AS r SET
        status = 'failed', error_code = 'invalid_request', error_message = {_UNKNOWN_MESSAGE},
        error_details = {details_of(InvalidRequest)},
        errors = {with_error(code="'invalid_request'", message=_UNKNOWN_MESSAGE, model="r.model")}
      FROM orphaned WHERE r.id = orphaned.id AND r.status = 'pending'
        AND r.id NOT IN (SELECT id FROM overdue)
    RETURNING r.id, r.status, NULL::uuid AS worker_id
)"""
_FORGET = f""", forgotten AS (
    DELETE FROM draft_workers AS w WHERE {FORGOTTEN}
)"""
_TAKEN_BACK = "SELECT 'worker_lost' AS code, *, now() AS at FROM reaped"
_FAILED = (
    "SELECT 'expired' AS code, *, now() AS at FROM expired UNION ALL SELECT 'invalid_request', *, now() FROM refused"
)
_AT = "SELECT NULL, NULL, NULL, NULL, now()"
REAP = f"""
WITH {_JUDGE}, {_lost(_TAKEN)}, {_overdue(_TAKEN)}, {_orphaned(_TAKEN)}{_TAKE_BACK}{_FAIL}{_FORGET}
{_TAKEN_BACK} UNION ALL {_FAILED} UNION ALL {_AT}
"""
# By what a row was before: a statement that is refused is planned anew each time, and to plan the whole of it takes longer than
# all else that is done about a row.
REAP_THESE = {
    "processing": f"WITH {_JUDGE}, {_lost(_TAKEN)}{_TAKE_BACK} {_TAKEN_BACK}",
    "pending": f"WITH {_JUDGE}, {_overdue(_TAKEN)}, {_orphaned(_TAKEN)}{_FAIL} {_FAILED}",
}
# What a refused pass may have been refused for: nothing is written.
CANDIDATES = f"""
WITH {_JUDGE}, {_lost(_LOOKED_AT)}, {_overdue(_LOOKED_AT)}, {_orphaned(_LOOKED_AT)}
SELECT r.id, r.lease_token, r.was
  FROM (SELECT id FROM lost UNION SELECT id FROM overdue UNION SELECT id FROM orphaned) AS c CROSS JOIN LATERAL (
        SELECT x.id, x.lease_token, x.status AS was FROM draft_requests AS x WHERE x.id = c.id) AS r
"""
END_REAPED = END.format(still=f" AND (x.status = 'pending' OR {_is_lost('now()', 'x')})")

REAP_DRY = f"""
WITH {_JUDGE}, {_lost(_ALL)}, {_overdue(_ALL)}, {_orphaned(_ALL)}
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
    older_than_s: float = 0.0,
    dry_run: bool = False,
    watch: Watch | None = None,
    refusals: Refusals | None = None,
    now: datetime | None = None,
) -> list[Reaped]:
    """Take back what the dead held, and end what nobody will draft: one statement, at most 500 rows of each kind.

    Args:
        link: where; see ``_lost`` for when anybody may be judged.
        lease_s: how long a lease lives.
        older_than_s: how long ago lease or deadline must have passed.
        dry_run: only say what would be taken, all of it at once.
        watch: over the passes of a judge that comes again and again.
        refusals: of the passes before.
        now: another time than the database's, for tests.

    Raises:
        db.LOST: the connection broke.
        psycopg.Error: the server refused, and it may be its own fault: nothing was taken.
    """
    refusals = refusals or Refusals(verb="reap", aside=Aside())
    params: dict[str, Any] = {
        "lease_s": lease_s,
        "older_than_s": older_than_s,
        "gap_s": watch.gap_s if watch else 0.0,
        "now": now,
        "only": None,
    }
    params |= _as_of_now(watch, refusals)
    began = time.monotonic()
    try:
        rows = await link.run(REAP_DRY if dry_run else REAP, params)
    except psycopg.Error as error:
        if is_misfit(error) or dry_run:
            raise
        return await _reap_apart(link, params, watch, refusals, error, began)
    if watch and rows:
        watch.passed(rows[-1]["at"])
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
    return [
        Reaped(id=row["id"], code=row["code"], status=row["status"], worker_id=row["worker_id"])
        for row in rows
        if row["code"]
    ]


def _as_of_now(watch: Watch | None, refusals: Refusals) -> db.Row:
    return {
        "last_at": watch and watch.last_at,
        "steady_since": watch and watch.steady_since,
        "aside": refusals.aside.ids(),
    }


async def _reap_apart(
    link: db.Link, params: db.Row, watch: Watch | None, refusals: Refusals, error: psycopg.Error, began: float
) -> list[Reaped]:
    """Take back by id what the server lets be taken back, and set the rest aside."""
    reaped: list[Reaped] = []
    verdicts: dict[Held, Verdict] = {}
    moves = True
    while moves:
        found = await link.run(CANDIDATES, params)
        moves = False
        for was in REAP_THESE:
            rows = [(row["id"], row["lease_token"]) for row in found if row["was"] == was]
            some, judged = await _reap_these(link, was, rows, params, refusals, began)
            reaped += some
            verdicts |= judged
            moves = moves or bool(some)
        # That took its time: whoever looks again knows that the server has been answering all along.
        if watch:
            (row,) = await link.run("SELECT now() AS at")
            watch.passed(row["at"])
        params |= _as_of_now(watch, refusals)
        began = time.monotonic()
    if not reaped and Verdict.ASIDE not in verdicts.values():
        raise error
    return reaped


async def _reap_these(
    link: db.Link, was: str, rows: list[Held], params: db.Row, refusals: Refusals, began: float
) -> tuple[list[Reaped], dict[Held, Verdict]]:
    async def reap_them(some: Sequence[Held]) -> list[DictRow]:
        return await link.run(REAP_THESE[was], params | {"only": [row_id for row_id, _ in some]})

    parts = await apart(rows, reap_them, began=began)
    reaped = _reaped([row for _, answer in parts.answered for row in answer])
    verdicts = await refusals.of(was).judge(
        link,
        parts.refused,
        passed=[one.id for one in reaped],
        trial=_trial(was, params),
        end=END_REAPED,
        params=params,
    )
    ended = [row_id for (row_id, _), verdict in verdicts.items() if verdict is Verdict.ENDED]
    reaped += [Reaped(id=row_id, code=InternalError.code, status="failed", worker_id=None) for row_id in ended]
    undecided = [held for held, verdict in verdicts.items() if verdict is Verdict.UNDECIDED]
    # Where nothing moves, other rows get their turn first.
    for row_id, _ in undecided if reaped else [*undecided, *(held for held, _ in parts.untried)]:
        refusals.aside.put_briefly(row_id)
    return reaped, verdicts


def _trial(was: str, params: db.Row) -> Trial:
    """Return how a row that was this before is taken back, or ended, in a trial."""

    async def reap_it(execute: db.Execute, another: Held) -> bool:
        return bool(await execute(REAP_THESE[was], params | {"aside": [], "only": [another[0]]}))

    if was == "pending":
        return Trial(before=Before.OVERDUE, change=reap_it)
    return Trial(before=Before.HELD, change=reap_it, lease_s=-LONGEST_S)
