"""Administration: the statements behind the commands. None is performance-critical.

Every function takes an open connection and raises psycopg's errors untranslated; the commands translate them in one place.
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
from draftd.db.statements import statements
from draftd.queue.refused_rows import execute_in_parts
from draftd.status import FINAL_STATUSES, STATUSES

_SQL = statements(__name__)

# All but image_urls: pictures can take 24 MiB.
COLUMNS = """
    id, status, agent, requester_id, context, options, parent_id, priority, available_at, expires_at, idempotency_key,
    max_attempts, metadata, attempt, lease_token, lease_until, deadline_at, worker_id, turn, partial_result, result,
    limited, error_code, error_message, error_details, errors, images, model, prompt_version, input_tokens, output_tokens,
    cost_usd, traceparent, trace_id, created_at, claimed_at, first_option_at, finished_at, updated_at"""

RATE_WINDOW_S = 300

BATCH = 1_000
"""Rows per statement of a bulk change: well within the time limit, and locked only briefly."""


@dataclass(frozen=True, slots=True)
class BulkChange:
    """The two statements of a bulk change: one finds the matching requests without locking, one changes them."""

    find: str
    apply: str


CANCEL = BulkChange(find=_SQL["find_cancellable"], apply=_SQL["cancel"])
RETRY = BulkChange(find=_SQL["find_retryable"], apply=_SQL["retry"])


async def enqueue(connection: db.Connection, request: dict[str, Any]) -> dict[str, Any]:
    """Insert a request, or find the one with its idempotency key; return ``{"id", "status", "created"}``."""
    cursor = await connection.execute("SELECT create_draft_request(%s) AS made", [Jsonb(request)])
    row = await cursor.fetchone()
    assert row is not None  # noqa: S101  # a SELECT of a function returns one row
    made: dict[str, Any] = row["made"]
    return made


async def show(connection: db.Connection, request_id: UUID) -> DictRow | None:
    """Return one request with its history, without its pictures; None if it does not exist."""
    cursor = await connection.execute(f"SELECT {COLUMNS} FROM draft_requests WHERE id = %s", [request_id])
    return await cursor.fetchone()


async def chain(connection: db.Connection, request_id: UUID) -> list[DictRow]:
    """Return the requests that one refines, the first of them first: id, status, context, options, created_at."""
    cursor = await connection.execute(_SQL["chain"].encode(), {"id": request_id})
    return await cursor.fetchall()


async def list_newest(
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
class BulkResult:
    """The result of a bulk change."""

    rows: list[DictRow] = field(default_factory=list)
    """``id`` and current ``status`` of each; a dry run changes neither."""
    refused: dict[UUID, psycopg.Error] = field(default_factory=dict)
    """The requests that the server refused to change, and why."""


async def change(
    connection: db.Connection,
    wanted: BulkChange,
    *,
    request_id: UUID | None = None,
    code: str | None = None,
    requester_id: str | None = None,
    since_s: float | None = None,
    dry_run: bool = False,
) -> BulkResult:
    """Cancel or retry (``CANCEL``, ``RETRY``) one request or all that match; a dry run changes nothing.

    A worker learns at its next renewal that its request was cancelled. A retry starts at attempt 0. A request that the server
    refuses to change does not keep others from being changed.

    Raises:
        psycopg.Error: the server refused to change all of them.
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
    changed = BulkResult()
    while True:
        seen = await _change_batch(connection, wanted, params, changed, dry_run=dry_run)
        if len(seen) < BATCH:
            return changed
        # By id: a retried request may already have failed again, and must not be picked twice.
        params["after"] = max(seen)


async def _change_batch(
    connection: db.Connection, wanted: BulkChange, params: dict[str, Any], changed: BulkResult, *, dry_run: bool
) -> list[UUID]:
    """Change the next batch; return its ids."""

    async def run(statement: str, only: Sequence[UUID] | None = None) -> list[DictRow]:
        return await (await connection.execute(statement.encode(), params | {"only": only})).fetchall()

    began = time.monotonic()
    try:
        rows = await run(wanted.find if dry_run else wanted.apply)
    except psycopg.Error as error:
        if connection.closed or dry_run:
            raise
        refusal = error
    else:
        changed.rows += rows
        return [row["id"] for row in rows]
    ids = [row["id"] for row in await run(wanted.find)]
    parts = await execute_in_parts(ids, lambda some: run(wanted.apply, list(some)), refusal=refusal, began=began)
    changed.rows += [row for _, rows in parts.answered for row in rows]
    changed.refused |= dict([*parts.refused, *parts.untried])
    if not changed.rows:
        raise refusal
    return ids


async def count_without_pictures(connection: db.Connection, ids: Sequence[UUID]) -> int:
    """Return how many of these requests had ``data:`` pictures that were deleted when they ended."""
    cursor = await connection.execute(_SQL["count_without_pictures"].encode(), {"ids": list(ids)})
    row = await cursor.fetchone()
    return row["n"] if row else 0


async def is_unserved(connection: db.Connection, agent: str) -> bool:
    """Return whether no live daemon has a prompt for an agent; False if this role may not read that."""
    try:
        row = await (await connection.execute(_SQL["is_unserved"].encode(), {"agent": agent})).fetchone()
    except InsufficientPrivilege:
        return False
    return bool(row and row["is_unserved"])


async def counts(connection: db.Connection) -> dict[str, Any]:
    """Return ``{"requests": {status: count}, "oldest_pending_s", "lately": {…}}``, with every status.

    ``lately`` counts the requests inserted and, by status, ended in the last ``window_s`` seconds.
    """
    params = {"final": list(FINAL_STATUSES), "window_s": RATE_WINDOW_S}
    row = await (await connection.execute(_SQL["count_requests"].encode(), params)).fetchone()
    assert row is not None  # noqa: S101  # an aggregate returns one row
    ended = {status: row["ended"].get(status, 0) for status in FINAL_STATUSES}
    return {
        "requests": {status: row["requests"].get(status, 0) for status in STATUSES},
        "oldest_pending_s": row["oldest_pending_s"],
        "lately": {"window_s": RATE_WINDOW_S, "inserted": row["inserted"], **ended},
    }


async def workers(connection: db.Connection) -> list[DictRow]:
    """Return the daemons that were not shut down, live ones first, with the age of their last heartbeat."""
    return await (await connection.execute(_SQL["list_workers"].encode())).fetchall()


async def pending(connection: db.Connection) -> list[DictRow]:
    """Return the claimable requests by agent, and what can be done for each agent."""
    return await (await connection.execute(_SQL["count_pending"].encode())).fetchall()


async def limited(connection: db.Connection) -> list[DictRow]:
    """Return the requesters with the most requests that wait because of a limit or a pause, and until when they are blocked."""
    return await (await connection.execute(_SQL["count_limited"].encode())).fetchall()


def is_final(status: str) -> bool:
    """Return whether a request of this status is finished."""
    return status in FINAL_STATUSES


async def time_from_now(connection: db.Connection, seconds: float) -> datetime:
    """Return the database's time ``seconds`` from now."""
    row = await (await connection.execute("SELECT now() + make_interval(secs => %s) AS moment", [seconds])).fetchone()
    assert row is not None  # noqa: S101  # a SELECT without FROM returns one row
    moment: datetime = row["moment"]
    return moment
