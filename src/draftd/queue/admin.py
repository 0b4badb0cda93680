"""The desk: what people do with requests. Statements for the commands; nothing here is hot.

Every function takes an open connection and raises psycopg's errors as they are; the commands translate them once.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
from psycopg.errors import InsufficientPrivilege
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from draftd import db
from draftd.queue.isolation import apart
from draftd.queue.leases import ALIVE, LONGEST_BEAT_S
from draftd.queue.moments import seconds, since_s
from draftd.status import FINAL_STATUSES, STATUSES

# Everything but the pictures: a row of 7 MB is no reading.
COLUMNS = """
    id, status, agent, requester_id, context, options, parent_id, priority, available_at, expires_at, idempotency_key,
    max_attempts, metadata, attempt, lease_token, lease_until, deadline_at, worker_id, turn, partial_result, result,
    error_code, error_message, error_details, errors, images, model, prompt_version, input_tokens, output_tokens,
    cost_usd, traceparent, trace_id, created_at, claimed_at, finished_at, updated_at"""

RATE_WINDOW_S = 300

COUNTS = f"""
SELECT coalesce(jsonb_object_agg(status, n), '{{}}') AS requests,
       coalesce(jsonb_object_agg(status, ended_lately) FILTER (WHERE status = ANY (%(final)s)), '{{}}') AS ended,
       coalesce(sum(inserted_lately), 0)::int AS inserted,
       {since_s("min(oldest_pending)")} AS oldest_pending_s
  FROM (SELECT status, count(*) AS n,
               count(*) FILTER (WHERE finished_at > now() - interval '{RATE_WINDOW_S} s') AS ended_lately,
               count(*) FILTER (WHERE created_at > now() - interval '{RATE_WINDOW_S} s') AS inserted_lately,
               min(available_at) FILTER (WHERE status = 'pending' AND available_at <= now()) AS oldest_pending
          FROM draft_requests GROUP BY status) AS by_status
"""

BATCH = 1_000
"""Rows in one statement of a bulk change: far below the statement's time limit, and no long locks."""

WORKERS = f"""
SELECT id, hostname, pid, version, state, in_flight, concurrency, started_at,
       {seconds("beat_s", most=LONGEST_BEAT_S)} AS beat_s,
       {since_s("heartbeat_at")} AS heartbeat_age_s,
       {ALIVE} AS alive
  FROM draft_workers AS w WHERE state <> 'stopped' ORDER BY alive DESC, hostname, started_at
"""

# Row security shows a stranger no worker at all, which says nothing about them.
NOBODY_SERVES = f"""
SELECT NOT row_security_active('draft_workers') AND NOT EXISTS (
    SELECT FROM draft_workers AS w
     WHERE w.state = 'running' AND {ALIVE} AND %s = ANY (w.agents)) AS nobody
"""

WITHOUT_PICTURES = """
SELECT count(*) AS n FROM draft_requests
 WHERE id = ANY (%s) AND EXISTS (SELECT FROM unnest(image_urls) AS u WHERE u LIKE 'sha256:%%')
"""


def _named(which: str, counted_from: str) -> str:
    """Return the statement that names the requests that match, for a dry run: it locks nothing."""
    return f"""
    SELECT r.id, r.status FROM draft_requests AS r
     WHERE r.status IN {which}
       AND (%(id)s::uuid IS NULL OR r.id = %(id)s)
       AND (%(after)s::uuid IS NULL OR r.id > %(after)s)
       AND (%(only)s::uuid[] IS NULL OR r.id = ANY (%(only)s))
       AND (%(code)s::text IS NULL OR r.error_code = %(code)s)
       AND (%(requester_id)s::text IS NULL OR r.requester_id = %(requester_id)s)
       AND (%(since_s)s::float8 IS NULL OR r.{counted_from} >= now() - make_interval(secs => %(since_s)s))
     ORDER BY r.id LIMIT %(batch)s"""


@dataclass(frozen=True, slots=True)
class Change:
    """A bulk change: how the requests that match are named, which locks nothing, and how they are changed."""

    named: str
    applied: str


def _change(named: str, change: str) -> Change:
    applied = f"""
WITH chosen AS MATERIALIZED ({named} FOR NO KEY UPDATE)
UPDATE draft_requests AS r SET {change} FROM chosen WHERE r.id = chosen.id RETURNING r.id, r.status
"""
    return Change(named, applied)


CANCEL = _change(_named("('pending', 'processing')", "created_at"), "status = 'cancelled'")
RETRY = _change(
    _named("('failed', 'cancelled')", "finished_at"),
    """
        status = 'pending', attempt = 0, given_back = 0, available_at = now(), error_code = NULL, error_message = NULL,
        error_details = NULL,
        expires_at = CASE WHEN r.expires_at <= now() THEN NULL ELSE r.expires_at END""",
)


async def enqueue(connection: db.Connection, request: dict[str, Any]) -> dict[str, Any]:
    """Insert a request, or find the earlier one with its idempotency key: ``{"id", "status", "created"}``."""
    cursor = await connection.execute("SELECT create_draft_request(%s) AS made", [Jsonb(request)])
    row = await cursor.fetchone()
    assert row is not None  # noqa: S101  # a SELECT of a function returns one row
    made: dict[str, Any] = row["made"]
    return made


async def show(connection: db.Connection, request_id: UUID) -> DictRow | None:
    """Return one request with its history, without its pictures; None when there is no such row."""
    cursor = await connection.execute(f"SELECT {COLUMNS} FROM draft_requests WHERE id = %s", [request_id])
    return await cursor.fetchone()


async def newest(
    connection: db.Connection, *, statuses: Sequence[str], requester_id: str | None, limit: int
) -> list[DictRow]:
    """Return the newest requests of these statuses (all when empty), newest first, without their pictures."""
    cursor = await connection.execute(
        f"""SELECT {COLUMNS} FROM draft_requests
             WHERE status = ANY (%(statuses)s) AND (%(requester_id)s::text IS NULL OR requester_id = %(requester_id)s)
             ORDER BY created_at DESC, id LIMIT %(limit)s""",
        {"statuses": list(statuses or STATUSES), "requester_id": requester_id, "limit": limit},
    )
    return await cursor.fetchall()


@dataclass(slots=True, kw_only=True)
class Changed:
    """What a bulk change did."""

    rows: list[DictRow] = field(default_factory=list)
    """``id`` and ``status`` of each as it stands now: of a dry run, the status that it still has."""
    refused: dict[UUID, psycopg.Error] = field(default_factory=dict)
    """What the server refused to change, and why."""


async def change(
    connection: db.Connection,
    wanted: Change,
    *,
    request_id: UUID | None = None,
    code: str | None = None,
    requester_id: str | None = None,
    since_s: float | None = None,
    dry_run: bool = False,
) -> Changed:
    """Cancel or retry (``CANCEL``, ``RETRY``) one request or all that match; a dry run only names them.

    A cancelled request's worker learns of it at its next renewal. A retry starts at attempt 0. A request that the server
    refuses to change keeps no other from being changed.

    Raises:
        psycopg.Error: the server refused to change any of them.
    """
    params: dict[str, Any] = {
        "id": request_id,
        "after": None,
        "only": None,
        "code": code,
        "requester_id": requester_id,
        "since_s": since_s,
        "batch": BATCH,
    }
    changed = Changed()
    while True:
        seen = await _change_batch(connection, wanted, params, changed, dry_run=dry_run)
        if len(seen) < BATCH:
            return changed
        # Upwards in the order of ids: a request that was retried may have failed again already, and is not chosen twice.
        params["after"] = max(seen)


async def _change_batch(
    connection: db.Connection, wanted: Change, params: dict[str, Any], changed: Changed, *, dry_run: bool
) -> list[UUID]:
    """Change the next batch; return the ids that it is made of."""

    async def run(statement: str, only: Sequence[UUID] | None = None) -> list[DictRow]:
        return await (await connection.execute(statement.encode(), params | {"only": only})).fetchall()

    began = time.monotonic()
    try:
        rows = await run(wanted.named if dry_run else wanted.applied)
    except psycopg.Error as error:
        if connection.closed or dry_run:
            raise
        refusal = error
    else:
        changed.rows += rows
        return [row["id"] for row in rows]
    ids = [row["id"] for row in await run(wanted.named)]
    parts = await apart(ids, lambda some: run(wanted.applied, list(some)), refusal=refusal, began=began)
    changed.rows += [row for _, rows in parts.answered for row in rows]
    changed.refused |= dict([*parts.refused, *parts.untried])
    if not changed.rows:
        raise refusal
    return ids


async def without_pictures(connection: db.Connection, ids: Sequence[UUID]) -> int:
    """Return how many of these requests have lost pictures that came inside the row."""
    cursor = await connection.execute(WITHOUT_PICTURES, [list(ids)])
    row = await cursor.fetchone()
    return row["n"] if row else 0


async def nobody_serves(connection: db.Connection, agent: str) -> bool:
    """Return whether no living daemon has a prompt for an agent; False when this user may not know."""
    try:
        row = await (await connection.execute(NOBODY_SERVES.encode(), [agent])).fetchone()
    except InsufficientPrivilege:
        return False
    return bool(row and row["nobody"])


async def counts(connection: db.Connection) -> dict[str, Any]:
    """Return ``{"requests": {status: count}, "oldest_pending_s", "lately": {…}}``; every status is there.

    ``lately`` counts what was inserted and what ended, by its status, in the last ``window_s`` seconds.
    """
    row = await (await connection.execute(COUNTS.encode(), {"final": list(FINAL_STATUSES)})).fetchone()
    assert row is not None  # noqa: S101  # an aggregate returns one row
    ended = {status: row["ended"].get(status, 0) for status in FINAL_STATUSES}
    return {
        "requests": {status: row["requests"].get(status, 0) for status in STATUSES},
        "oldest_pending_s": row["oldest_pending_s"],
        "lately": {"window_s": RATE_WINDOW_S, "inserted": row["inserted"], **ended},
    }


async def workers(connection: db.Connection) -> list[DictRow]:
    """Return the daemons that did not stop on purpose, the living first, with the age of their last heartbeat."""
    return await (await connection.execute(WORKERS.encode())).fetchall()


def is_final(status: str) -> bool:
    """Return whether a request of this status changes no more by itself."""
    return status in FINAL_STATUSES


async def time_in(connection: db.Connection, seconds: float) -> datetime:
    """Return the database's time in so many seconds."""
    row = await (await connection.execute("SELECT now() + make_interval(secs => %s) AS moment", [seconds])).fetchone()
    assert row is not None  # noqa: S101  # a SELECT without FROM returns one row
    moment: datetime = row["moment"]
    return moment
