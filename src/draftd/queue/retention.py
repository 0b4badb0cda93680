"""Retention: deletes old final requests, old feedback and idle turnstiles, in batches.

Owns the statements that delete them. Invariants: only final, unlocked rows are deleted. A row that a pending or running
refinement reads stays until that has ended (a refinement inserted during the delete finds its parent gone). Feedback and
``draft_usage``, the record of costs, outlive their request. An interrupted pass has deleted whole batches; passes may be repeated
and run concurrently. A row that the server refuses to delete stays, and does not keep others from being deleted.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg

from draftd import db
from draftd.db.sqlstate import is_schema_mismatch
from draftd.db.statements import statements
from draftd.queue.refused_rows import Quarantine, execute_in_parts

BATCH = 500
"""Rows per statement: about 15 ms on a warm server, well within the time limit."""
COUNT_BATCH = 20_000
PAUSE_S = 0.05
PAUSE_FACTOR = 3
"""A pause lasts this many times as long as the batch before it, and at least ``PAUSE_S``: however slow the batches are, most of
the server's time is left for claims and settlements."""

MAX_REFUSED = 100
"""A pass ends after this many refused rows: going on would cost the server more than it frees."""

_SQL = statements(__name__)
PRUNE, FIND_PRUNABLE, COUNT_PRUNABLE = _SQL["prune"], _SQL["find_prunable"], _SQL["count_prunable"]
PRUNE_FEEDBACK, PRUNE_TURNSTILES = _SQL["prune_feedback"], _SQL["prune_turnstiles"]


async def prune(
    link: db.Link, *, older_than_s: float, quarantine: Quarantine, now: datetime | None = None
) -> AsyncGenerator[int, None]:
    """Delete final requests that ended long enough ago, the oldest first.

    Args:
        link: the connection to use; nothing urgent may wait for it.
        older_than_s: how long ago a request must have ended, in seconds.
        quarantine: the rows that this process leaves alone.
        now: overrides the database's time, for tests.

    Yields:
        The number of rows deleted, after each batch of up to ``BATCH`` rows.

    Raises:
        db.LOST: the connection broke. The rows yielded are deleted; the current batch may be.
        psycopg.Error: the server refused to delete ``MAX_REFUSED`` rows, or any at all.
    """
    # A batch starts where the last one ended, so that rows it skipped are not read again; with >=, as more rows may have that
    # very time.
    after: datetime | None = None
    refused: dict[UUID, psycopg.Error] = {}
    pruned = 0
    while True:
        params = {"older_than_s": older_than_s, "after": after, "batch": BATCH, "now": now, "only": None}
        began = time.monotonic()
        row = await _prune_batch(link, params | {"skip": [*refused, *quarantine.ids()]}, refused)
        took_s = time.monotonic() - began
        pruned += row["pruned"]
        yield row["pruned"]
        for row_id, error in refused.items():
            quarantine.report(row_id, error, verb="prune", ended=False)
        if len(refused) >= MAX_REFUSED or (refused and not pruned):
            raise next(iter(refused.values()))
        # A whole batch of one moment was not deleted: this role may read the rows but not delete them.
        if row["seen"] < BATCH or (not row["pruned"] and row["reached"] == after):
            return
        after = row["reached"]
        await asyncio.sleep(max(PAUSE_S, PAUSE_FACTOR * took_s))


async def _prune_batch(link: db.Link, params: db.Row, refused: dict[UUID, psycopg.Error]) -> db.Row:
    """Delete one batch and collect refusals; return how many rows it saw and deleted, and how far it got."""
    began = time.monotonic()
    try:
        (row,) = await link.run(PRUNE, params)
    except psycopg.Error as error:
        if is_schema_mismatch(error):
            raise
        refusal = error
    else:
        return row
    found = await link.run(FIND_PRUNABLE, params)

    async def delete(some: Sequence[UUID]) -> int:
        (row,) = await link.run(PRUNE, params | {"only": list(some)})
        count: int = row["pruned"]
        return count

    parts = await execute_in_parts([one["id"] for one in found], delete, refusal=refusal, began=began)
    refused |= dict(parts.refused)
    # No row is to blame: the statement was refused as such, because this role may not delete, say.
    if not found or (parts.untried and not parts.answered):
        raise refusal
    return {
        "seen": len(found),
        "reached": found[-1]["created_at"] if found else None,
        "pruned": sum(count for _, count in parts.answered),
    }


async def prune_feedback(link: db.Link, *, older_than_s: float, now: datetime | None = None) -> int:
    """Delete feedback older than ``older_than_s`` seconds; return the number of rows.

    Raises:
        db.LOST: the connection broke; whole batches are deleted.
        psycopg.Error: the server refused.
    """
    params: db.Row = {"older_than_s": older_than_s, "batch": BATCH, "now": now}
    pruned = 0
    while rows := await link.run(PRUNE_FEEDBACK, params):
        pruned += len(rows)
        await asyncio.sleep(PAUSE_S)
    return pruned


async def prune_turnstiles(link: db.Link) -> None:
    """Delete what counts the inserts of requesters who have nothing unfinished.

    Raises:
        db.LOST: the connection broke; whole batches are deleted.
        psycopg.Error: the server refused.
    """
    pruned = BATCH
    while pruned:
        (row,) = await link.run(PRUNE_TURNSTILES, {"batch": BATCH})
        pruned = row["pruned"]
        await asyncio.sleep(PAUSE_S)


async def count_prunable(link: db.Link, *, older_than_s: float, now: datetime | None = None) -> int:
    """Return how many requests ``prune`` would delete, including locked ones.

    Raises:
        db.LOST: the connection broke.
    """
    params: dict[str, Any] = {
        "older_than_s": older_than_s,
        "after": None,
        "after_id": None,
        "batch": COUNT_BATCH,
        "now": now,
    }
    count = 0
    while rows := await link.run(COUNT_PRUNABLE, params):
        count += rows[0]["seen"]
        params |= {"after": rows[0]["reached"], "after_id": rows[0]["reached_id"]}
    return count
